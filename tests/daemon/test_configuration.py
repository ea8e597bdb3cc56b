"""Configuration against the tables of `cases/*.yaml`, and properties of loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from colonnade.daemon.configuration import ConfigError, load
from colonnade.daemon.configuration.tree import plain
from tests.daemon.kit import components

CASES = Path(__file__).parent / "cases"
FRAME = """
receivers: {feed: }
exporters: {store: }
service: {pipelines: {traces: {receivers: [feed], exporters: [store]}}}
"""


def cases(name: str) -> list[Any]:
    rows = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    assert rows
    return [pytest.param(row, id=row["name"]) for row in rows]


def read(*texts: str, sets: tuple[str, ...] = (), env: dict[str, str] | None = None) -> Any:
    return load([f"yaml:{text}" for text in texts], sets, env=env or {}, components=components())


@pytest.mark.parametrize("case", cases("values"))
def test_value_reaches_the_field_as_meant(case: dict[str, Any]) -> None:
    settings = f"receivers:\n  feed:\n    {case['field']}: {case['value']}\n"
    if "error" in case:
        with pytest.raises(ConfigError) as error:
            read(FRAME, settings, env=case.get("env"))
        assert case["error"] in str(error.value)
        return
    configuration = read(FRAME, settings, env=case.get("env"))
    feed = next(c for (kind, _), c in configuration.components.items() if kind == "receiver")
    value = getattr(feed.settings, case["field"])
    value = value.reveal() if hasattr(value, "reveal") else list(value) if isinstance(value, tuple) else value
    assert value == case["gives"]
    warnings = [str(warning) for warning in configuration.warnings]
    assert bool(warnings) == ("warning" in case)
    assert case.get("warning", "") in "".join(warnings)


@pytest.mark.parametrize("case", cases("errors"))
def test_error_says_where_and_what(case: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(case["file"])
    with pytest.raises(ConfigError) as error:
        load([str(file)], case.get("set", []), env=case.get("env", {}), components=components())
    told = [str(problem).replace(f"{tmp_path}/", "") for problem in error.value.problems]
    assert told == case["errors"]


@pytest.mark.parametrize("case", cases("merges"))
def test_documents_merge(case: dict[str, Any]) -> None:
    from colonnade.daemon.configuration.sources import documents
    from colonnade.daemon.configuration.tree import Findings

    findings = Findings()
    root, _ = documents([f"yaml:{text}" for text in case["files"]], case.get("set", []), findings, {})
    assert not findings.problems
    assert plain(root) == case["gives"]


def test_every_error_is_told_at_once_and_no_secret_with_it() -> None:
    with pytest.raises(ConfigError) as error:
        read(
            FRAME,
            "receivers: {feed: {token: hunter2hunter2, port: x, headers: secret-in-wrong-place, mode: {a: b}}}",
            "exporters: {store: {nope: 1}, sotre: }",
        )
    text = str(error.value)
    assert len(error.value.problems) == 5
    assert "hunter2" not in text
    assert "secret-in-wrong-place" not in text


def test_file_expansion_inlines_configuration_and_secrets(tmp_path: Path) -> None:
    (tmp_path / "feed.yaml").write_text("port: ${env:PORT}\nmode: $$x\n")
    (tmp_path / "token").write_text("pa$$word${x}\n")
    configuration = read(
        FRAME,
        f"receivers: {{feed: '${{file:{tmp_path}/feed.yaml}}'}}",
        f"receivers: {{feed/two: {{token: '${{file:{tmp_path}/token}}'}}}}",
        env={"PORT": "77"},
    )
    one, two = (c.settings for (kind, _), c in configuration.components.items() if kind == "receiver")
    assert (one.port, one.mode) == (77, "$x")
    assert two.token.reveal() == "pa$$word${x}"


def test_unify_is_added_where_an_exporter_wants_completed_rows() -> None:
    configuration = read(
        FRAME, "exporters: {wide: }", "service: {pipelines: {logs: {receivers: [feed], exporters: [wide]}}}"
    )
    assert [str(id) for id in configuration.pipelines["logs"].processors] == ["unify"]
    assert configuration.pipelines["traces"].processors == ()
    assert configuration.added == ["service::pipelines::logs: processor unify added at the end of its processors"]


def test_older_spelling_is_taken_with_a_warning() -> None:
    configuration = read("receivers: {feed: }\nexporters: {shop/a: }", FRAME.replace("[store]", "[shop/a]"))
    assert str(configuration.pipelines["traces"].exporters[0]) == "store/a"
    assert "older name, write 'store'" in str(configuration.warnings[0])


def test_unused_components_are_checked_but_not_part_of_the_graph(tmp_path: Path) -> None:
    from colonnade.daemon.graph import create
    from tests.daemon.kit import services

    configuration = read(FRAME, "exporters: {store/unused: }")
    assert ("exporter", ("store", "unused")) in configuration.components
    assert [str(key[1]) for key in create(configuration, services(tmp_path))] == ["store", "feed"]
