"""What holds for every event of every source."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colonnade import native
from colonnade.unified_schema import mappings
from colonnade.unified_schema.mappings import inverse
from tests.mapping import strategies
from tests.mapping.kit import NS, RECEIVED_NS, format_of, raw_rows, run, with_ids

EVERY_MAPPING = pytest.mark.parametrize("name", mappings.names())
# Of events that are large: what is slow here is drawing them.
DRAWN = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def text_of(event: Any) -> str:
    """JSON text; lone surrogates as escapes."""
    try:
        text = json.dumps(event, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(event)
    return text


def plain(value: Any) -> Any:
    """A value that is equal to another only where both are the same JSON, up to the print form of numbers."""
    match value:
        case bool() | None | str():
            return (type(value).__name__, value)
        case dict():
            return {key: plain(inner) for key, inner in value.items()}
        case list():
            return [plain(inner) for inner in value]
        case _:
            return Decimal(repr(value))


def rows_of(name: str, body: str) -> tuple[list[dict[str, Any]], list[Any]]:
    batch, *_, rejected = format_of(name).map(body.encode(), tenant=NS, received_ns=RECEIVED_NS, mapping=0)
    return raw_rows(batch), rejected


@EVERY_MAPPING
@DRAWN
@given(data=st.data())
def test_every_event_comes_back_from_its_rows(name: str, data: st.DataObject) -> None:
    mapping = mappings.builtin(name)
    event = data.draw(strategies.events(mapping))
    rows = with_ids(run(name, text_of(event), mapping=0))
    assert inverse.choose(rows[0], [mappings.builtin(other) for other in mappings.names()]) is mapping
    assert plain(inverse.restore(mapping, rows)) == plain(event)


@EVERY_MAPPING
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_event_becomes_the_same_rows_again_and_two_in_a_request_become_twice_as_many(
    name: str, data: st.DataObject
) -> None:
    text = text_of(data.draw(strategies.events(mappings.builtin(name))))
    once, _ = rows_of(name, text)
    assert rows_of(name, text)[0] == once
    twice, rejected = rows_of(name, f"[{text},{text}]")
    assert not rejected
    ids = [row.pop("$uid", None) or (row.pop("$digest", None), row.pop("$occurrence", None)) for row in twice]
    assert len(twice) == 2 * len(once)
    half = len(once)
    assert twice[:half] == twice[half:]
    assert len(ids) == len(twice)


@EVERY_MAPPING
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(event=strategies.VALUES)
def test_any_value_at_all_gets_rows_or_a_verdict(name: str, event: Any) -> None:
    body = text_of(event).encode()
    if not isinstance(event, (dict, list)):
        assert verdict(body, name) == "bad_envelope"
        return
    batch, accepted, *_, rejected = format_of(name).map(body, tenant=NS, received_ns=RECEIVED_NS)
    assert accepted + len(rejected) == (len(event) if isinstance(event, list) else 1)
    assert all(code in CODES for _, _, code, _, _ in rejected)
    assert len(raw_rows(batch)) >= accepted


CODES = {
    "bad_type", "bad_uuid", "bad_enum", "bad_timestamp", "missing_field", "unknown_event", "too_large", "too_deep",
    "too_many_members", "too_many_events",
}  # fmt: skip


_BOT = {"verifiedBot": False, "score": 0}
ZEROS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "web_vitals",
        {"metric": {"name": "CLS", "value": 0, "delta": 0.0}},
        {"vital_value": 0.0, "vital_delta": 0.0},
    ),
    (
        "api.request",
        {"method": "GET", "status": 0, "duration": 0, "responseSize": 0},
        {"http_status": 0, "duration_ms": 0.0, "http_response_size": 0},
    ),
    (
        "rrweb",
        {"event": {"type": 3, "data": {"source": 0}, "timestamp": 0}, "context": {"sessionId": "s", "sequence": 0}},
        {"replay_sequence": 0, "timestamp": 0, "replay_source": "Mutation"},
    ),
    (
        "browser.snippet",
        {"name": "/a.js", "initiatorType": "script", "startTime": 0, "duration": 0, "transferSize": 0},
        {"snippet_start_time": 0.0, "duration_ms": 0.0, "snippet_transfer_size": 0},
    ),
    (
        "workers.tail",
        {"scriptName": "w", "cpuTime": 0, "wallTime": 0, "event": {"request": {"cf": {"botManagement": _BOT}}}},
        {"cpu_time_ms": 0.0, "bot_verified": False, "bot_score": 0},
    ),
]


@pytest.mark.parametrize(("name", "event", "columns"), ZEROS, ids=[name for name, _, _ in ZEROS])
def test_zero_and_false_are_values(name: str, event: dict[str, Any], columns: dict[str, Any]) -> None:
    (row,) = run(name, event, mapping=0)
    for column, value in columns.items():
        assert row[column] == value
        assert type(row[column]) is type(value)


# --- what is no JSON

TRACK: dict[str, Any] = {
    "type": "track",
    "event": "é😀",
    "userId": "u\n",
    "context": {"page": {"url": "/a"}, "n": [1, -2.5e3, True, None, {}]},
    "properties": {"a": "\u2028", "b": []},
}


def is_json(body: bytes) -> bool:
    """The verdict of another parser."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(body.decode().removeprefix("\ufeff"), parse_constant=refuse)
    except ValueError:
        return False
    return True


def verdict(body: bytes, name: str = "segment.track") -> str:
    try:
        format_of(name).map(body, tenant=NS, received_ns=RECEIVED_NS)
    except native.NativeError as error:
        return error.code if (error.offset or 0) <= len(body) else "an offset beyond the end"
    return "json"


@pytest.mark.parametrize("ascii", [True, False])
def test_a_body_that_breaks_at_any_byte_is_malformed_and_no_other_is(ascii: bool) -> None:
    body = json.dumps(TRACK, ensure_ascii=ascii).encode()
    assert verdict(body) == "json"
    for at in range(len(body)):
        assert verdict(body[:at]) == "malformed"
        for byte in b'"\\{}[],:0-e. tn\x00\x1f\x7f\x80\xff\n':
            broken = body[:at] + bytes([byte]) + body[at + 1 :]
            longer = body[:at] + bytes([byte]) + body[at:]
            for changed in (broken, longer):
                assert (verdict(changed) == "malformed") is not is_json(changed), changed


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_bytes_are_malformed_where_another_parser_says_so(body: bytes) -> None:
    assert (verdict(body) == "malformed") is not is_json(body)


@pytest.mark.parametrize("body", [b"", b" ", b"\xef\xbb\xbf", b"NaN", b"1 2", b"{},", b"[1,]", b'{"a":1,}', b"'a'"])
def test_what_looks_like_json_is_malformed_too(body: bytes) -> None:
    assert verdict(body) == "malformed"


# --- what is JSON and unlikely


def track(members: str) -> str:
    return f'{{"type":"track","event":"e","userId":"u",{members}}}'


UNLIKELY = {
    "lone surrogates": r'"event":"\ud800","properties":{"\udc00":"\ud83d","a":"\ude00\ud83d"}',
    "a pair in two halves": r'"properties":{"a":"\ud83d\ude00","b":"\ud83dx\ude00"}',
    "keys that come twice": '"event":"f","event":"g","context":{"a":1,"a":2},"x":1,"x":{"y":2}',
    "an object and then none": '"context":{"page":{"url":"/a"}},"context":5',
    "keys that are the same once unescaped": r'"\u0065vent":"h","properties":{"\u0061":1,"a":2}',
    "numbers at their ends": '"properties":{"a":1e308,"b":-0,"c":9223372036854775808,"d":5e-324,"e":0.1e1}',
    "times before all others": '"timestamp":"1970-01-01T00:00:00Z"',
    "as deep as may be": f'"properties":{"[" * 62}{"]" * 62}',
    "as many members as may be": '"properties":{' + ",".join(f'"k{i}":{i}' for i in range(5_000)) + "}",
}


@pytest.mark.parametrize("members", UNLIKELY.values(), ids=UNLIKELY)
def test_what_is_unlikely_comes_back(members: str) -> None:
    text = track(members)
    rows = with_ids(run("segment.track", text))
    assert plain(inverse.restore(mappings.builtin("segment.track"), rows)) == plain(json.loads(text))


REFUSED = {
    "too deep": (track(f'"properties":{"[" * 70}{"]" * 70}'), "too_deep"),
    "a million deep": (track(f'"properties":{"[" * 40_000}{"]" * 40_000}'), "too_deep"),
    "too many members": (
        track('"properties":{' + ",".join(f'"{i}":0' for i in range(10_001)) + "}"),
        "too_many_members",
    ),
    "too large": (track(f'"properties":{{"a":"{"x" * 110_000}"}}'), "too_large"),
    "no object": ("5", "bad_type"),
    "a time that is none": (track('"timestamp":"yesterday"'), "bad_timestamp"),
    "a time that ends the calendar": (track('"timestamp":"9999-12-31T23:59:59Z"'), "bad_timestamp"),
    "a number that is no time": (track('"timestamp":1e300'), "bad_timestamp"),
    "no user": ('{"type":"track","event":"e"}', "missing_field"),
    "no name": ('{"type":"track","userId":"u","event":""}', "missing_field"),
    "another type": ('{"type":"tracks","userId":"u"}', "unknown_event"),
}


@pytest.mark.parametrize(("text", "code"), REFUSED.values(), ids=REFUSED)
def test_a_refused_event_costs_its_neighbours_nothing(text: str, code: str) -> None:
    good = json.dumps(TRACK)
    batch, accepted, *_, rejected = format_of("segment.track").map(
        f"[{good},{text},{good}]".encode(), tenant=NS, received_ns=RECEIVED_NS
    )
    assert (accepted, len(raw_rows(batch))) == (2, 2)
    assert [(index, found) for index, _, found, _, _ in rejected] == [(1, code)]


def test_a_future_clock_is_marked() -> None:
    (row,) = run("segment.track", track('"timestamp":"2200-01-01T00:00:00Z"'))
    assert json.loads(row["context"])["$src"]["clock"] == "future"


def test_numbers_that_a_column_can_not_hold_are_kept_beside_it() -> None:
    (row,) = run("api.request", '{"method":"GET","url":"/","status":70000,"requestSize":1e400,"duration":1e400}')
    assert not {"http_status", "http_request_size", "duration_ms"} & row.keys()
    restored = inverse.restore(mappings.builtin("api.request"), with_ids([row]))
    assert restored["status"] == 70000
    assert math.isinf(restored["duration"])
