"""The receiver `segment`: routes, keys, limits and answers, with the libraries that people use."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rudderstack.analytics as rudder
from segment.analytics.client import Client

from tests.daemon_process import Daemon, free_port
from tests.events.kit import EventDaemon, Reply, gzipped, own_metrics

KEY = "wk-1"
SECTION = {
    "write_keys": [
        {"key": KEY, "ns": "shop"},
        {"key": "wk-2", "ns": "other"},
        {"key": "off", "enabled": False},
        {"key": "slow", "rate_limit": {"requests_per_second": 0.01, "burst": 2}},
        {"key": "fair", "user_rate_limit": {"requests_per_second": 0.01, "burst": 2}},
    ]
}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventDaemon]:
    made = EventDaemon("segment", SECTION, tmp_path_factory.mktemp("segment"))
    yield made
    assert made.daemon.drain() == 0, made.daemon.output()


def track(event: str, **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "userId": "u", "messageId": str(uuid.uuid4())} | more


def named() -> str:
    return f"event {uuid.uuid4()}"


def counted(reply: Reply) -> tuple[int, int, int]:
    assert reply.json["success"] is True
    return reply.status, reply.json["accepted"], reply.json["rejected"]


@pytest.mark.parametrize("gzip", [False, True])
def test_the_python_library_sends_every_call(events: EventDaemon, gzip: bool) -> None:
    user, errors = f"user {uuid.uuid4()}", []
    client = Client(KEY, host=events.url, gzip=gzip, on_error=lambda error, _: errors.append(error))
    client.track(user, "Bought", {"price": 12.5})
    client.identify(user, {"email": "a@example.com"})
    client.page(user, "docs", "Home", {"url": "https://shop.example/?utm_source=mail"})
    client.screen(user, "app", "Start")
    client.group(user, "g-1", {"seats": 5})
    client.alias("before", user)
    client.flush()
    client.join()
    assert errors == []
    found = events.rows("event_type, event_name, ns, campaign_source", f"actor_id = '{user}'")
    assert found == [
        ["page", "app.screen_view", "shop", ""],
        ["page", "docs.page_view", "shop", "mail"],
        *[["track", name, "shop", ""] for name in ("Bought", "alias", "group", "identify")],
    ]


def test_the_rudderstack_library_sends(events: EventDaemon) -> None:
    user, errors = f"user {uuid.uuid4()}", []
    client = rudder.Client(KEY, host=events.url, on_error=lambda error, _: errors.append(error))
    client.track(user, "Bought", {"price": 1})
    client.flush()
    client.join()
    assert errors == []
    assert events.rows("event_name, properties", f"actor_id = '{user}'") == [["Bought", '{"price": 1}']]


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/track", "/v1/t", "/track", "/t"),
        *("/v1/batch", "/v1/import", "/v1/b", "/batch", "/v1/batch/b", "/beacon/v1/batch"),
    ],
)
def test_every_path_takes_events(events: EventDaemon, path: str) -> None:
    name = named()
    body = {"batch": [track(name)]} if "b" in path.rpartition("/")[2] or "import" in path else track(name)
    assert counted(events.send(path, body, KEY)) == (200, 1, 0)
    assert events.count(f"event_name = '{name}'") == 1


@pytest.mark.parametrize(
    ("path", "letter", "kind"),
    [
        ("identify", "i", "track"),
        ("page", "p", "page"),
        ("screen", "s", "page"),
        ("group", "g", "track"),
        ("alias", "a", "track"),
    ],
)
def test_the_path_says_what_a_call_is(events: EventDaemon, path: str, letter: str, kind: str) -> None:
    user = f"user {uuid.uuid4()}"
    for at in (path, letter):
        body = {"userId": user, "name": "n", "groupId": "g", "previousId": "p", "messageId": str(uuid.uuid4())}
        assert counted(events.send(f"/v1/{at}", body, KEY)) == (200, 1, 0)
    assert events.rows("event_type", f"actor_id = '{user}'") == [[kind], [kind]]


def test_keys_come_in_every_form(events: EventDaemon) -> None:
    name = named()
    body = {"batch": [track(name)]}
    assert events.send("/v1/batch", body, KEY).status == 200
    for header in ("Basic d2stMQ==", "basic d2stMTo="):
        assert events.send("/v1/batch", {"batch": [track(name)]}, authorization=header).status == 200
    assert events.send("/v1/batch", {"batch": [track(name)], "writeKey": KEY}).status == 200
    assert events.send("/v1/t", track(name) | {"writeKey": KEY}, authorization="Bearer token").status == 200
    assert events.send(f"/beacon/v1/batch?writeKey={KEY}", {"batch": [track(name)]}).status == 200
    assert events.send("/v1/batch", {"batch": [track(name)]}, x_write_key=KEY).status == 200
    assert events.count(f"event_name = '{name}' AND ns = 'shop'") == 7


def test_a_restart_knows_what_came_before_it(tmp_path: Path) -> None:
    event = track("again")
    for duplicates in (0, 1):
        daemon = EventDaemon("segment", SECTION, tmp_path)
        answer = daemon.send("/v1/track", event, KEY)
        assert (answer.status, answer.json.get("duplicates", 0)) == (200, duplicates), answer.body
        assert daemon.count("event_name = 'again'") == 1
        assert daemon.daemon.drain() == 0
    (tmp_path / "data" / "dedup" / "receiver_segment" / "keys").write_bytes(b"torn")
    daemon = EventDaemon("segment", SECTION, tmp_path)
    assert not daemon.send("/v1/track", event, KEY).json.get("duplicates")
    daemon.daemon.kill()


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [("", 401, "invalid_key"), ("nobody's", 401, "invalid_key"), ("off", 403, "key_disabled")],
)
def test_keys_that_let_nobody_in(events: EventDaemon, key: str, status: int, code: str) -> None:
    refused = events.send("/v1/track", track("x"), key)
    assert (refused.status, refused.json["code"], refused.json["success"]) == (status, code, False)
    assert refused.json["message"]
    assert "nobody's" not in refused.json["message"]


def test_a_key_that_sends_too_much_is_told_when_to_come_again(events: EventDaemon) -> None:
    answers = [events.send("/v1/track", track("x"), "slow") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].json["code"] == "rate_limited"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 100
    assert events.send("/v1/track", track("x"), KEY).status == 200


def test_a_user_that_sends_too_much_is_told_when_to_come_again_and_nobody_else(events: EventDaemon) -> None:
    anonymous = {"userId": None, "anonymousId": "u"}
    for more in ({"userId": "u"}, {"userId": "u"}, {"userId": "v"}, {"userId": "v"}, anonymous | {"anonymousId": "w"}):
        assert events.send("/v1/track", track("x", **more), "fair").status == 200, more
    refused = events.send("/v1/track", track("x", **anonymous), "fair")
    assert (refused.status, refused.json["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 100
    both = {"batch": [track("both", userId="w"), track("both", userId="u")]}
    assert events.send("/v1/batch", both, "fair").status == 429
    assert events.count("event_name = 'both'") == 0
    # Who came with them has lost nothing.
    assert events.send("/v1/track", track("x", userId="w"), "fair").status == 200
    assert events.send("/v1/track", track("x", userId="w"), "fair").status == 429


@pytest.mark.parametrize(
    ("event", "code", "path"),
    [
        ({"type": "track", "userId": "u"}, "missing_field", "event"),
        ({"type": "track", "event": "e"}, "missing_field", "userId or anonymousId"),
        ({"type": "nothing", "userId": "u"}, "unknown_event", ""),
        ({"type": "track", "event": "e", "userId": "u", "timestamp": "yesterday"}, "bad_timestamp", "timestamp"),
        ({"type": "track", "event": "e", "userId": "u", "properties": {"a": "x" * (32 << 10)}}, "too_large", ""),
        (
            {"type": "track", "event": "e", "userId": "u", "properties": {str(n): 1 for n in range(10_001)}},
            "too_large",
            "",
        ),
        (["no", "event"], "bad_type", ""),
    ],
)
def test_a_bad_event_is_told_and_the_good_ones_are_stored(
    events: EventDaemon, event: Any, code: str, path: str
) -> None:
    name = named()
    before = events.daemon.metric("receiver_rejected_events", code=code)
    reply = events.send("/v1/batch", {"batch": [track(name), event, track(name)]}, KEY)
    assert counted(reply) == (200, 2, 1)
    (told,) = reply.json["errors"]
    assert (told["index"], told["code"], told["path"]) == (1, code, path)
    assert told["message"]
    assert events.count(f"event_name = '{name}'") == 2
    assert events.daemon.metric("receiver_rejected_events", code=code) == before + 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed"),
        (b'{"batch": [', "malformed"),
        (b"nonsense", "malformed"),
        (b'{"batch": 5}', "bad_envelope"),
        (b"\x1f\x8bnothing", "bad_compression"),
        (gzipped({"batch": [track("x")]})[:-9], "bad_compression"),
        (gzipped("x" * 5_000_000), "body_too_large"),
        (
            json.dumps({"batch": [track("x", properties={"a": "x" * 30_000}) for _ in range(17)]}).encode(),
            "body_too_large",
        ),
    ],
)
def test_bodies_that_hold_no_events(events: EventDaemon, body: bytes, code: str) -> None:
    refused = events.send("/v1/batch", body, KEY)
    assert (refused.status, refused.json["code"]) == (400, code)
    assert refused.json["success"] is False
    assert events.send("/v1/track", track("x"), KEY).status == 200


def test_sizes_hold_to_the_byte(events: EventDaemon) -> None:
    plain = json.dumps(track("x", properties={"a": ""}))
    fits = plain.replace('"a": ""', f'"a": "{"x" * ((32 << 10) - len(plain))}"')
    assert counted(events.send("/v1/track", fits, KEY)) == (200, 1, 0)
    assert events.send("/v1/track", fits + " ", KEY).status == 400
    batch = json.dumps({"batch": [track("x")], "pad": ""})
    fits = batch.replace('"pad": ""', f'"pad": "{"x" * ((500 << 10) - len(batch))}"')
    assert counted(events.send("/v1/batch", fits, KEY)) == (200, 1, 0)
    assert events.send("/v1/batch", fits + " ", KEY).status == 400


def test_events_beyond_the_bound_are_rejected_one_by_one(events: EventDaemon) -> None:
    name = named()
    batch = [{"type": "track", "event": name, "userId": "u", "messageId": f"{name} {n}"} for n in range(2_501)]
    reply = events.send("/v1/batch", {"batch": batch}, KEY)
    assert counted(reply) == (200, 2_500, 1)
    assert reply.json["errors"][0]["code"] == "too_many_events"
    assert events.count(f"event_name = '{name}'") == 2_500


def test_an_event_that_comes_again_is_stored_once(events: EventDaemon) -> None:
    name = named()
    event = track(name)
    assert counted(events.send("/v1/track", event, KEY)) == (200, 1, 0)
    again = events.send("/v1/batch", {"batch": [event, event, track(name)]}, KEY)
    assert counted(again) == (200, 3, 0)
    assert again.json["duplicates"] == 2
    # Another source's event may have the same id.
    assert counted(events.send("/v1/track", event, "wk-2")) == (200, 1, 0)
    assert events.rows("ns, count()", f"event_name = '{name}' GROUP BY ns") == [["other", 1], ["shop", 2]]


def test_clocks_are_corrected(events: EventDaemon) -> None:
    name, hour = named(), 3600
    wrong = time.time() - 5 * hour

    def at(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))

    body = {"batch": [track(name, timestamp=at(wrong - 60))], "sentAt": at(wrong)}
    assert events.send("/v1/batch", body, KEY).status == 200
    ((age,),) = events.rows("dateDiff('second', timestamp, now64())", f"event_name = '{name}'")
    assert 55 <= age <= 90


def test_pages_of_other_origins_may_send(events: EventDaemon) -> None:
    asked = events.send(
        "/v1/t",
        method="OPTIONS",
        origin="https://shop.example",
        access_control_request_method="POST",
        access_control_request_headers="authorization,x-retry-count",
    )
    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == "https://shop.example"
    assert asked.headers["access-control-allow-headers"] == "authorization,x-retry-count"
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert int(asked.headers["access-control-max-age"]) >= 7200
    name = named()
    sent = events.send("/v1/t", track(name), KEY, origin="https://shop.example", user_agent="Browser/1")
    assert sent.headers["access-control-allow-origin"] == "https://shop.example"
    assert sent.headers["access-control-allow-credentials"] == "true"
    ((context, agent),) = events.rows("context, http_user_agent", f"event_name = '{name}'")
    assert json.loads(context)["ip"] == "127.0.0.1"
    assert agent == "Browser/1"
    # A server's address says nothing of a user.
    events.send("/v1/t", track(name + " server"), KEY)
    assert events.count(f"event_name = '{name} server' AND context NOT LIKE '%127.0.0.1%'") == 1


def test_analytics_js_gets_its_settings(events: EventDaemon) -> None:
    for path in ("/v1/projects/wk-1/settings", "/projects/wk-1/settings", "/v1/projects/projects/wk-1/settings"):
        reply = events.send(path, method="GET")
        assert reply.status == 200
        assert reply.json["integrations"]["Segment.io"]["apiKey"] == KEY
        assert reply.json["plan"]["track"]["__default"]["enabled"] is True
        assert "public" in reply.headers["cache-control"]
    assert events.send("/v1/projects/nobody/settings", method="GET").status == 401
    assert events.send("/v1/projects/wk-1/other", method="GET").status == 404


def test_pixels_and_odd_paths(events: EventDaemon) -> None:
    name = named().replace(" ", "%20")
    reply = events.send(
        f"/pixel/v1/track?writeKey=wk-1&event={name}&anonymousId=a&properties=%7B%22a%22%3A1%7D", method="GET"
    )
    assert (reply.status, reply.headers["content-type"], reply.body[:3]) == (200, "image/gif", b"GIF")
    assert events.rows("anonymous_id, properties", f"event_name = '{name.replace('%20', ' ')}'") == [["a", '{"a": 1}']]
    assert events.send("/v1/m", '{"series": []}').status == 200
    assert b"Disallow: /" in events.send("/robots.txt", method="GET").body
    assert events.send("/v1/nothing", {}).status == 404
    assert events.send("/v1/track", method="GET").status == 405


def test_keys_of_a_file_are_waited_for_and_read_again(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    section = {"keys_file": {"file": str(keys), "reload_interval": "50ms"}}
    events = EventDaemon("segment", section, tmp_path)
    try:
        refused = events.send("/v1/track", track("x"), "a")
        assert (refused.status, refused.json["code"], refused.headers["retry-after"]) == (503, "keys_not_loaded", "1")
        keys.write_text("- {key: a, ns: one}\n")
        events.daemon.wait_until(lambda: events.send("/v1/track", track("x"), "a").status == 200)
        keys.write_text("- {key: b, ns: two}\n")
        events.daemon.wait_until(lambda: events.send("/v1/track", track("x"), "b").status == 200)
        assert events.send("/v1/track", track("x"), "a").status == 401
        keys.write_text("- {kee: c}\n")
        events.daemon.wait_until(lambda: "the old ones stay" in events.daemon.output())
        assert events.send("/v1/track", track("x"), "b").status == 200
    finally:
        assert events.daemon.drain() == 0


def test_a_full_log_tells_when_to_come_again(tmp_path: Path) -> None:
    port = free_port()
    queue = {"sizer": "bytes", "queue_size": "200KiB"}
    daemon = Daemon.start(
        {
            "receivers": {"segment": {"endpoint": f"127.0.0.1:{port}"}},
            "exporters": {"clickhouse": {"endpoint": f"http://127.0.0.1:{free_port()}", "sending_queue": queue}},
            "service": {
                "telemetry": own_metrics(),
                "pipelines": {"events": {"receivers": ["segment"], "exporters": ["clickhouse"]}},
            },
        },
        tmp_path,
    )
    events = EventDaemon.__new__(EventDaemon)
    events.url, events.daemon = f"http://127.0.0.1:{port}", daemon
    answers = [events.send("/v1/track", track("x", properties={"a": "x" * 20_000})) for _ in range(20)]
    assert answers[0].status == 200
    refused = answers[-1]
    assert (refused.status, refused.json["success"]) == (429, False)
    assert int(refused.headers["retry-after"]) >= 1
    assert daemon.metric("receiver_refused_events") > 0
    daemon.kill()
