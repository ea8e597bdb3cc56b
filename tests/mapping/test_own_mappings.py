"""A user's own mapping: what is wrong with it, where, all at once; and what an input becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from colonnade.daemon.command import main
from colonnade.unified_schema import mappings
from colonnade.unified_schema.mappings import MappingError
from colonnade.unified_schema.mappings.reading import FOLDER

ORDER = """\
source: acme.order
id: [order_id]
require: [order_id]
fields:
  order_id: {to: resource_id, required: true}
  at: {to: timestamp, time: iso}
  customer: actor_id
  total: {to: data.total, is: number}
  lines: data.lines
columns:
  event_type: {value: track}
  event_name: {value: order}
"""

WRONG = """\
source: acme order
titel: Orders
fields:
  order_id: {to: resorce_id, requird: true}
  at: timestamp
  customer: {to: actor_id, is: txt}
  buyer: actor_id
  shop: actor_id
columns:
  event_nam: {value: order}
  actor_type: {iff: {present: customer}}
  resource_name: custommer.name
require: [order_idd]
"""
SAID = [
    "order.yaml:1:1: source is lower-case words with dots between, such as acme.order, not 'acme order'",
    "order.yaml:2:1: a mapping has no key 'titel' (did you mean 'title'?)",
    "order.yaml:4:30: field order_id has no key 'requird' (did you mean 'required'?)",
    "order.yaml:5:3: field at lives in the time column timestamp: say how it is written, time: iso",
    "order.yaml:6:28: is: one of any, text, uuid, number, integer, boolean, object, list, not 'txt'",
    "order.yaml:8:3: actor_id is the home of two fields: one of them needs src",
    "order.yaml:10:3: no column 'event_nam' (did you mean 'event_name'?)",
    "order.yaml:11:16: an expression begins with one of value, first, join, minus, rating, between, if, of, not 'iff'",
    "order.yaml:12:3: custommer.name is read but has no home",
    "order.yaml:13:11: order_idd is read but has no home (did you mean 'order_id'?)",
]


def written(folder: Path, text: str) -> Path:
    file = folder / "order.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_everything_that_is_wrong_is_said_at_once_each_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(MappingError) as caught:
        mappings.load(written(tmp_path, WRONG))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(SAID)
    for line, start in zip(lines, SAID, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "order.yaml:1:1: the file is empty"),
        ("source: [a", "order.yaml:1:11: not valid YAML"),
        ("source: a.b\nsource: a.c\n", "order.yaml:2:1: the key 'source' comes twice"),
        ("- a\n", "order.yaml:1:1: expected a mapping file"),
        ("source: a.b\nfields: [x]\n", "order.yaml:2:1: expected fields, got a list"),
        ("extends: segment.trak\n", "order.yaml:1:1: nothing to extend: no mapping 'segment.trak' (did you mean"),
    ],
)
def test_a_file_that_is_none_says_so(tmp_path: Path, text: str, start: str) -> None:
    with pytest.raises(MappingError) as caught:
        mappings.load(written(tmp_path, text))
    assert str(caught.value).startswith(start)


Mapped = Callable[..., tuple[int, str]]


@pytest.fixture
def mapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Mapped:
    def run(events: object, mapping: str, *options: str) -> tuple[int, str]:
        file = tmp_path / "input.json"
        file.write_text(events if isinstance(events, str) else json.dumps(events, separators=(",", ":")))
        status = main(["map", str(file), "--mapping", mapping, *options])
        return status, "".join(capsys.readouterr())

    return run


def test_map_shows_what_an_input_becomes_column_by_column(tmp_path: Path, mapped: Mapped) -> None:
    order = {"order_id": "o-1", "at": "2026-03-04T05:06:07Z", "customer": "c", "total": 12.5, "new": True}
    status, text = mapped(order, str(written(tmp_path, ORDER)))
    assert status == 0
    shown = {line.split(None, 1)[0]: line.split(None, 1)[1] for line in text.splitlines()[1:] if line.startswith("  ")}
    assert shown == {
        "event_type": "track",
        "event_name": "order",
        "event_source": "acme.order",
        "timestamp": "2026-03-04T05:06:07Z",
        "actor_id": "c",
        "resource_id": "o-1",
        "data": '{"total":12.5}',
        "context": '{"$src":{"extra":{"new":true}}}',
    }


def test_map_says_why_an_event_is_refused_and_shows_the_others(tmp_path: Path, mapped: Mapped) -> None:
    status, text = mapped([{"order_id": "o"}, {"at": "today"}], str(written(tmp_path, ORDER)))
    assert status == 1
    assert "event 1: refused: missing_field: order_id is required" in text
    assert "acme.order" in text


def test_map_takes_a_mapping_of_ours_and_lines_and_prints_json(mapped: Mapped) -> None:
    lines = "\n".join(json.dumps({"type": "track", "userId": "u", "event": name}) for name in ("a", "b"))
    status, text = mapped(lines, "segment.track", "--format", "json")
    assert status == 0
    assert [json.loads(line)["event_name"] for line in text.splitlines()] == ["a", "b"]


def test_map_tells_what_is_wrong_with_a_mapping_or_an_input(tmp_path: Path, mapped: Mapped) -> None:
    status, text = mapped({}, str(written(tmp_path, WRONG)))
    assert status == 1
    assert all(start in text for start in SAID)
    status, text = mapped('{"a":', "segment.track")
    assert status == 1
    assert "malformed" in text
    status, text = mapped({}, "segment.trak")
    assert status == 1
    assert "did you mean 'segment.track'" in text


def test_a_file_of_ones_own_is_compiled_to_what_ours_of_the_same_shape_is(tmp_path: Path) -> None:
    for name in ("segment.track", "_segment"):
        (tmp_path / f"{name}.yaml").write_text((FOLDER / f"{name}.yaml").read_text("utf-8"), "utf-8")
    own = mappings.load(tmp_path / "segment.track.yaml")
    assert mappings.format_plan([own]) == mappings.format_plan([mappings.builtin("segment.track")])
