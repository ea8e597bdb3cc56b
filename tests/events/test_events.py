"""The receiver `events`: sources by field and by path, tokens, answers, and a mapping of one's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from colonnade.receivers.events import SOURCES, Config
from tests.events.kit import EventDaemon, Reply, gzipped
from tests.mapping.kit import read

SECTION = {
    "tokens": [
        {"key": "t-1", "ns": "shop"},
        {"key": "t-log", "ns": "logs", "scopes": ["thedata.log"]},
        {"key": "slow", "rate_limit": {"requests_per_second": 0.01, "burst": 1}},
    ]
}
_ID, _TIME = "0190a1b2-0000-4000-8000-000000000001", "2026-03-04T05:06:07.123Z"
EXAMPLES: dict[str, Any] = {
    "thedata.log": {
        "log_id": _ID,
        "timestamp": _TIME,
        "service": "pay",
        "level": "warn",
        "message": "slow",
        "logger_name": "l",
        "context": {"request_id": "r-1"},
        "metadata": {},
    },
    "thedata.trace": {
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "service": "pay",
        "operation": "charge",
        "start_time": _TIME,
        "end_time": _TIME,
        "duration_ms": 0,
        "status": "success",
        "attributes": {},
        "resource": {"service_name": "pay", "service_version": "1", "host_name": "h"},
    },
    "thedata.performance": {
        "event_id": _ID,
        "timestamp": _TIME,
        "platform": "web",
        "event_type": "performance",
        "category": "load",
        "measurements": [{"name": "ttfb", "value": 1, "unit": "ms"}],
        "context": {"session_id": "s"},
    },
    "thedata.video": {
        "event_id": _ID,
        "timestamp": _TIME,
        "platform": "web",
        "event_type": "video",
        "video_id": "v",
        "player_type": "p",
        "event_name": "start",
        "measurements": {},
        "quality_metrics": {"video_quality_score": 1, "buffering_ratio": 0, "startup_time_score": 1},
        "context": {"cdn_provider": "c", "player_version": "1"},
    },
    "thedata.app_metric": {
        "metric_id": _ID,
        "timestamp": _TIME,
        "service": "pay",
        "environment": "prod",
        "metric_type": "gauge",
        "name": "queue",
        "value": 0,
        "labels": {},
        "host_info": {"hostname": "h", "ip": "10.0.0.1", "region": "eu"},
    },
}
EXAMPLES |= {
    case["mapping"]: case["input"]
    for case in yaml.safe_load(read("worked_examples.yaml"))
    if case["mapping"] in SOURCES
}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventDaemon]:
    made = EventDaemon("events", SECTION, tmp_path_factory.mktemp("events"))
    yield made
    assert made.daemon.drain() == 0, made.daemon.output()


def send(events: EventDaemon, path: str, body: Any, token: str = "t-1", **headers: str) -> Reply:
    return events.send(f"/api/v1/events{path}", body, authorization=f"Bearer {token}", **headers)


def log(**more: Any) -> dict[str, Any]:
    return EXAMPLES["thedata.log"] | {"log_id": str(uuid.uuid4())} | more


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_field_or_the_path_tells_the_source(events: EventDaemon, name: str) -> None:
    source = "cdc" if name == "cdc.debezium" else name
    before = events.count(f"event_source = '{source}'")
    first = send(events, "", EXAMPLES[name])
    assert (first.status, first.json["rejected"]) == (202, 0), first.body
    second = send(events, f"/{name}", EXAMPLES[name])
    assert (second.status, second.json["rejected"]) == (202, 0), second.body
    assert events.count(f"event_source = '{source}'") > before


def test_every_source_has_an_example() -> None:
    assert set(SOURCES) - {"cdc.debezium"} <= EXAMPLES.keys()


def test_a_bad_event_of_a_batch_costs_the_others_nothing(events: EventDaemon) -> None:
    message = str(uuid.uuid4())
    good = [log(message=message), log(message=message)]
    reply = send(events, "/batch", {"events": [good[0], {"log_id": "x"}, {"a": 1}, 5, good[1]]})
    assert (reply.status, reply.json["accepted"], reply.json["rejected"]) == (202, 2, 3)
    assert [(error["index"], error["code"]) for error in reply.json["errors"]] == [
        (1, "bad_uuid"),
        (2, "unknown_event"),
        (3, "bad_type"),
    ]
    assert events.rows("ns, event_source", f"log_message = '{message}'") == [["shop", "thedata.log"]] * 2


def test_an_event_that_comes_again_is_accepted_and_stored_once(events: EventDaemon) -> None:
    event = log(message=str(uuid.uuid4()))
    assert send(events, "", event).json["accepted"] == 1
    assert send(events, "", gzipped(event), content_encoding="gzip").json == {
        "success": True,
        "accepted": 1,
        "rejected": 0,
        "duplicates": 1,
    }
    assert events.count(f"log_message = '{event['message']}'") == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("", '{"a":', 400, "malformed"),
        ("", "5", 400, "bad_envelope"),
        ("", "x" * (5 << 20), 413, None),
        ("/thedata.log", {}, 422, "missing_field"),
        ("/unknown", {}, 404, None),
    ],
)
def test_what_is_not_taken_has_a_status_and_a_code(
    events: EventDaemon, path: str, body: Any, status: int, code: str | None
) -> None:
    reply = send(events, path, body)
    assert reply.status == status
    assert code is None or reply.json["code"] == code


def test_tokens_are_asked_for_and_have_scopes_and_rates(events: EventDaemon) -> None:
    anonymous = events.send("/api/v1/events", log())
    assert (anonymous.status, anonymous.headers["www-authenticate"]) == (401, "Bearer")
    assert send(events, "", log(), "unknown").status == 401
    assert events.send("/api/v1/events", log(), x_api_key="t-1").status == 202
    forbidden = send(events, "/cdc", EXAMPLES["cdc"], "t-log")
    assert (forbidden.status, forbidden.json["code"]) == (403, "missing_scope")
    assert send(events, "", log(), "t-log").status == 202
    other = send(events, "", EXAMPLES["do.action"], "t-log")
    assert (other.status, other.json["errors"][0]["code"]) == (422, "unknown_event")
    assert send(events, "", log(), "slow").status == 202
    limited = send(events, "", log(), "slow")
    assert limited.status == 429
    assert int(limited.headers["retry-after"]) >= 1


def test_a_mapping_of_ones_own_has_a_path_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "source: acme.order\nid: [number]\nrequire: [number]\nfields: {number: resource_id, total: data.total}\n"
    )
    made = EventDaemon("events/mine", {"path": "/hook", "mapping": str(file)}, tmp_path)
    reply = made.send("/hook", [{"number": "o-1", "total": 12.5}, {"total": 1}])
    assert (reply.status, reply.json["accepted"], reply.json["errors"][0]["code"]) == (202, 1, "missing_field")
    assert made.send("/api/v1/events", {"number": "o-2"}).status == 404
    assert made.rows("event_source, resource_id") == [["acme.order", "o-1"]]
    assert made.daemon.drain() == 0, made.daemon.output()


def test_a_wrong_mapping_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("source: acme.order\nfields: {number: resorce_id}\n")
    with pytest.raises(ValueError, match=r"mine.yaml:2:10: no column 'resorce_id' \(did you mean 'resource_id'\?\)"):
        Config(mapping=str(file))
    with pytest.raises(ValueError, match="no mapping"):
        Config(mapping="segment.trak")
