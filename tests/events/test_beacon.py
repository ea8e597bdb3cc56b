"""The receiver `beacon`: what browsers send, in the forms in which they send it."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.events.kit import EventDaemon, gzipped

SECTION = {"keys": [{"key": "pk-1", "ns": "shop"}, {"key": "pk-2", "ns": "crm"}]}
ORIGIN = {"origin": "https://shop.example"}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventDaemon]:
    made = EventDaemon("beacon", SECTION, tmp_path_factory.mktemp("beacon"))
    yield made
    assert made.daemon.drain() == 0, made.daemon.output()


def view(session: str, tenant: str = "pk-1", **more: Any) -> dict[str, Any]:
    return {
        "eventId": str(uuid.uuid4()),
        "eventType": "page_view",
        "timestamp": 1_772_600_767_123,
        "tenantId": tenant,
        "sessionId": session,
        "userId": None,
        "pageUrl": "https://shop.example/a?utm_source=mail",
        "referrer": None,
        "deviceInfo": {"deviceType": "mobile", "os": "Android", "browser": "Chrome"},
        "properties": {"title": "A"},
    } | more


def radix(session: str, project: str = "crm", **more: Any) -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()),
        "event_name": "page_view",
        "project_id": project,
        "timestamp": "2026-03-04T05:06:07.123Z",
        "user": {"session_id": session},
    } | more


def session() -> str:
    return f"session {uuid.uuid4()}"


def stored(events: EventDaemon, id: str, columns: str = "ns, event_type, event_source") -> list[list[Any]]:
    return events.rows(columns, f"session_id = '{id}'")


def test_trackflow_events_come_with_their_key_inside(events: EventDaemon) -> None:
    id = session()
    error = {"eventType": "error", "properties": {"message": "m", "stack": "TypeError: m"}}
    click = {"eventType": "click", "properties": {"tag": "BUTTON", "id": "buy"}}
    reply = events.send("/batch", {"events": [view(id), view(id, **error), view(id, **click)]}, **ORIGIN)
    assert (reply.status, reply.json["accepted"], reply.json["rejected"]) == (202, 3, 0)
    assert reply.headers["access-control-allow-origin"] == "https://shop.example"
    assert stored(events, id) == [
        ["shop", "log", "trackflow.error"],
        ["shop", "page", "trackflow.page_view"],
        ["shop", "track", "trackflow.click"],
    ]


def test_an_event_of_another_tenant_is_rejected_alone(events: EventDaemon) -> None:
    id = session()
    reply = events.send("/batch", {"events": [view(id), view(id, "pk-2")]})
    assert (reply.status, reply.json["accepted"], reply.json["rejected"]) == (202, 1, 1)
    assert reply.json["errors"][0]["code"] == "unknown_project"
    assert stored(events, id, "ns") == [["shop"]]


@pytest.mark.parametrize(
    ("form", "headers", "query"),
    [
        ("plain", {"content_type": "text/plain;charset=UTF-8"}, ""),
        ("plain", {"content_type": "application/json"}, ""),
        ("plain", {"content_type": ""}, ""),
        ("form", {"content_type": "application/x-www-form-urlencoded"}, ""),
        ("form base64", {"content_type": "application/x-www-form-urlencoded"}, ""),
        ("gzip", {"content_type": "text/plain"}, "?compression=gzip"),
        ("gzip", {"content_type": "text/plain"}, ""),
        ("gzip", {"content_encoding": "gzip"}, ""),
    ],
)
def test_bodies_are_read_whatever_they_are_called(
    events: EventDaemon, form: str, headers: dict[str, str], query: str
) -> None:
    id = session()
    event = {"events": [view(id, properties={"title": "a+b & ü"})]}
    text = json.dumps(event)
    body: dict[str, Any] = {
        "plain": text,
        "form": f"data={quote_plus(text)}",
        "form base64": f"data={quote_plus(base64.b64encode(text.encode()).decode())}",
        "gzip": gzipped(event),
    }
    reply = events.send(f"/batch{query}", body[form], **headers)
    assert (reply.status, reply.json.get("accepted")) == (202, 1), reply.body
    assert stored(events, id, "page_title, campaign_source") == [["a+b & ü", "mail"]]


def test_collect_takes_lists_of_the_keys_project(events: EventDaemon) -> None:
    id = session()
    body = [radix(id), radix(id, "shop"), radix(id) | {"event_id": "no uuid"}]
    reply = events.send("/collect", body, x_api_key="pk-2")
    assert (reply.status, reply.json["accepted"]) == (202, 1)
    assert [error["code"] for error in reply.json["errors"]] == ["unknown_project", "bad_uuid"]
    assert stored(events, id) == [["crm", "page", "radix.event"]]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/collect", [radix("s")], {}, 401, "bad_key"),
        ("/collect", [radix("s")], {"x_api_key": "nobody"}, 401, "bad_key"),
        ("/batch", {"events": [view("s", "nobody")]}, {}, 401, "bad_key"),
        ("/collect", [radix("s", "shop")], {"x_api_key": "pk-2"}, 422, "unknown_project"),
        ("/collect", [radix("s", properties={"a": "x" * (100 << 10)})], {"x_api_key": "pk-2"}, 422, "too_large"),
        ("/collect", "{", {"x_api_key": "pk-2"}, 400, "malformed"),
        ("/collect", "data=%%%", {"x_api_key": "pk-2"}, 400, "malformed"),
        ("/collect", gzipped("x" * (5 << 20)), {"x_api_key": "pk-2"}, 413, "body_too_large"),
    ],
)
def test_what_is_not_taken(
    events: EventDaemon, path: str, body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    reply = events.send(path, body, **headers)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.json["success"] is False


def test_web_vitals_come_as_the_library_has_them(events: EventDaemon) -> None:
    id = f"v5-{uuid.uuid4()}"
    metric = {"name": "LCP", "value": 1234.5, "delta": 1234.5, "rating": "good", "id": id, "navigationType": "navigate"}
    reply = events.send("/vitals?key=pk-1", metric, referer="https://shop.example/p", **ORIGIN)
    assert reply.status == 202, reply.body
    found = events.rows("vital_name, vital_value, http_url, ns", f"attributes['browser.web_vital.id'] = '{id}'")
    assert found == [["LCP", 1234.5, "https://shop.example/p", "shop"]]
    session_id = session()
    wrapped = {"metric": metric | {"name": "CLS", "value": 0.1}, "context": {"sessionId": session_id}}
    assert events.send("/vitals?key=pk-1", [wrapped]).status == 202
    assert stored(events, session_id, "vital_name, vital_value") == [["CLS", 0.1]]


def test_replay_chunks_number_their_events(events: EventDaemon) -> None:
    id = session()
    recorded = [
        {
            "type": 4,
            "data": {"href": "https://shop.example/", "width": 800, "height": 600},
            "timestamp": 1_772_600_767_000,
        },
        {"type": 2, "data": {"node": {"text": "x" * 200_000}}, "timestamp": 1_772_600_767_100},
        {"type": 3, "data": {"source": 3, "id": 1, "x": 0, "y": 640}, "timestamp": 1_772_600_767_200},
    ]
    body = {"context": {"sessionId": id, "sequence": 5, "pageUrl": "https://shop.example/"}, "events": recorded}
    reply = events.send("/replay?key=pk-1", gzipped(body), **ORIGIN)
    assert (reply.status, reply.json["accepted"]) == (202, 3), reply.body
    assert stored(events, id, "replay_sequence, replay_type, replay_source") == [
        [5, "Meta", ""],
        [6, "FullSnapshot", ""],
        [7, "IncrementalSnapshot", "Scroll"],
    ]
    again = events.send("/replay?key=pk-1", gzipped(body))
    assert again.json["duplicates"] == 3


def test_one_path_takes_everything(events: EventDaemon) -> None:
    id = session()
    timing = {
        "name": "https://cdn.example/a.js",
        "initiatorType": "script",
        "startTime": 1,
        "duration": 5,
        "sessionId": id,
    }
    assert events.send("/timing?key=pk-1", [timing]).status == 202
    assert events.send("/beacon?key=pk-1", [view(id), {**timing, "startTime": 2}]).status == 202
    assert sorted(source for _, _, source in stored(events, id)) == [
        "browser.snippet",
        "browser.snippet",
        "trackflow.page_view",
    ]


@pytest.mark.parametrize("action", ["drop", "anonymise", "flag"])
def test_signals_of_the_browser_are_honoured(tmp_path: Path, action: str) -> None:
    events = EventDaemon("beacon", {"honor": ["dnt", "gpc"], "honor_action": action}, tmp_path)
    try:
        ids = [session() for _ in range(3)]
        for id, headers in zip(ids, ({}, {"dnt": "1"}, {"sec_gpc": "1"}), strict=True):
            assert events.send("/batch", {"events": [view(id, userId="u-1")]}, **headers).status == 202
        assert stored(events, ids[0], "actor_id, labels['$privacy']") == [["u-1", ""]]
        if action == "flag":
            assert [stored(events, id, "labels['$privacy']") for id in ids[1:]] == [[["dnt"]], [["gpc"]]]
        elif action == "anonymise":
            assert events.rows("actor_id, session_id", "labels['$privacy'] = 'anonymised'") == [["", ""]] * 2
        else:
            assert events.count() == 1
            assert events.daemon.metric("receiver_rejected_events", code="privacy") == 2
    finally:
        assert events.daemon.drain() == 0


def test_proxies_that_are_trusted_say_where_a_browser_is(tmp_path: Path) -> None:
    events = EventDaemon("beacon", {"trusted_proxies": ["127.0.0.1", "10.0.0.1"]}, tmp_path)
    try:
        id = session()
        headers = {"x_forwarded_for": "203.0.113.7, 198.51.100.1, 10.0.0.1", **ORIGIN}
        assert events.send("/batch", {"events": [view(id)]}, **headers).status == 202
        ((context,),) = stored(events, id, "context")
        assert "198.51.100.1" in context
    finally:
        assert events.daemon.drain() == 0
