"""Prints what events and remote write cost: the daemon's CPU per event, to `nop`, through `unify`.

    python -m bench.sources                      all cases
    python -m bench.sources remote_write segment those whose names begin so

Every request has ids of its own, so that nothing is left out as a repeat. What clients cost is not counted. A figure is
the median of the rounds, and stands only where the daemon counted every event that it answered.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import snappy
import yaml

from bench.process import cpu_s
from colonnade.unified_schema.mappings.reading import FOLDER
from tests.daemon_process import Daemon, free_port
from tests.remote_write.kit import Series
from tests.remote_write.kit import request as written

ROUNDS = 3
ROUND_S = 4.0
CONNECTIONS = 8
SAMPLES = 2000
BATCH = 100
# Stands in a body where every request has a number of its own.
NUMBER = "00000000"
TYPES = {1: "application/x-protobuf", 2: "application/x-protobuf;proto=io.prometheus.write.v2.Request"}


class Case(NamedTuple):
    """Requests to one receiver. `goal`: rows per CPU-second at least, or microseconds of CPU per request at most."""

    name: str
    receiver: str
    section: dict[str, Any]
    path: str
    headers: dict[str, str]
    body: Callable[[], bytes]
    rows: int
    rows_per_cpu_s: float | None = None
    us_per_request: float | None = None

    @property
    def signal(self) -> str:
        return "metrics" if self.receiver == "prometheus_remote_write" else "events"

    def numbered(self, body: bytes, own: str) -> bytes:
        """A request of its own. Samples that come again are taken again."""
        return body.replace(NUMBER.encode(), own.encode()) if self.signal == "events" else body


def track(number: int) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": f"m-{NUMBER}-{number}",
        "anonymousId": f"a-{number % 17}",
        "userId": f"u-{number % 23}",
        "event": "Product Viewed",
        "timestamp": "2026-11-25T05:06:07.123Z",
        "properties": {"product_id": f"p-{number}", "price": 49.5, "currency": "EUR", "list": ["a", "b"]},
        "context": {
            "library": {"name": "analytics.js", "version": "5.0.0"},
            "ip": "203.0.113.9",
            "locale": "en-GB",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/138.0.0.0 Safari/537.36",
            "page": {"url": "https://shop.example/p?utm_source=mail", "path": "/p", "title": "P", "referrer": ""},
        },
    }


def page_view(number: int) -> dict[str, Any]:
    return {
        "eventId": f"0190a1b2-0000-4000-8{number:03d}-0000{NUMBER}",
        "eventType": "page_view",
        "timestamp": 1_795_600_000_000,
        "tenantId": "pk-1",
        "sessionId": f"s-{number}",
        "userId": None,
        "pageUrl": "https://shop.example/a?utm_source=mail",
        "referrer": None,
        "deviceInfo": {"deviceType": "mobile", "os": "Android", "browser": "Chrome"},
        "properties": {"title": "A"},
    }


def samples(version: int) -> bytes:
    series = [
        Series(
            {
                "__name__": f"http_requests_{number % 100}_total",
                "code": str(number % 7),
                "handler": f"/api/v1/{number}",
                "instance": f"web-{number % 20}:9090",
                "job": "shop/web",
            },
            [(float(number), 1_795_600_000_000)],
        )
        for number in range(SAMPLES)
    ]
    return snappy.compress(written(version, series).SerializeToString())


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _write(version: int) -> Case:
    headers = {"content-type": TYPES[version], "content-encoding": "snappy"}
    return Case(
        name=f"remote_write.{version}.0",
        receiver="prometheus_remote_write",
        section={},
        path="/api/v1/write",
        headers=headers,
        body=lambda: samples(version),
        rows=SAMPLES,
        rows_per_cpu_s=1_500_000,
    )


def _segment(rows: int, goal: float | None) -> Case:
    return Case(
        name=f"segment.{rows}",
        receiver="segment",
        section={},
        path="/v1/batch",
        headers={"content-type": "application/json"},
        body=lambda: _json({"batch": [track(n) for n in range(rows)], "sentAt": "2026-11-25T05:06:08.123Z"}),
        rows=rows,
        rows_per_cpu_s=goal,
    )


def _beacon(rows: int) -> Case:
    return Case(
        name=f"beacon.{rows}",
        receiver="beacon",
        section={},
        path="/batch",
        headers={"content-type": "text/plain"},
        body=lambda: _json({"events": [page_view(n) for n in range(rows)]}),
        rows=rows,
    )


def _mapped(name: str, mapping: str) -> Case:
    return Case(
        name=f"events.{name}",
        receiver="events",
        section={"path": "/hook", "mapping": mapping},
        path="/hook",
        headers={"content-type": "application/json"},
        body=lambda: _json([track(n) for n in range(BATCH)]),
        rows=BATCH,
    )


CASES = (
    _write(1),
    _write(2),
    _segment(BATCH, 150_000),
    _segment(1, None),
    _beacon(BATCH),
    _beacon(1),
    _mapped("ours", "segment.track"),
    _mapped("own", "own.yaml"),
)


def main(arguments: Sequence[str]) -> int:
    cases = [case for case in CASES if not arguments or case.name.startswith(tuple(arguments))]
    if not cases:
        print(f"no case is named so: {', '.join(case.name for case in CASES)}", file=sys.stderr)
        return 2
    print(f"{'case':<20}{'rows/CPU-s':>14}{'us/request':>14}{'rows/s':>14}")
    for case in cases:
        print(render(case, measure(case)), flush=True)
    return 0


class Figure(NamedTuple):
    """Medians of the rounds."""

    rows_per_cpu_s: float
    us_per_request: float
    rows_per_s: float


def render(case: Case, figure: Figure) -> str:
    goal = case.rows_per_cpu_s
    missed = " !" if goal and figure.rows_per_cpu_s < goal else ""
    told = f"  (>= {goal:,.0f} rows/CPU-s{missed})" if goal else ""
    cells = (figure.rows_per_cpu_s, figure.us_per_request, figure.rows_per_s)
    return f"{case.name:<20}{cells[0]:>14,.0f}{cells[1]:>14,.1f}{cells[2]:>14,.0f}{told}"


def measure(case: Case) -> Figure:
    folder = Path(tempfile.mkdtemp())
    try:
        # A user's file that is ours under another name.
        shutil.copy(FOLDER / "segment.track.yaml", folder / "own.yaml")
        shutil.copy(FOLDER / "_segment.yaml", folder / "_segment.yaml")
        port = free_port()
        daemon = Daemon.start(configuration(case, port), folder)
        try:
            rounds = [one_round(case, daemon, port, number) for number in range(ROUNDS + 1)][1:]
        finally:
            daemon.kill()
    finally:
        shutil.rmtree(folder)
    return Figure(*(median(figures) for figures in zip(*rounds, strict=True)))


def configuration(case: Case, port: int) -> dict[str, Any]:
    prometheus = {"host": "127.0.0.1", "port": free_port()}
    section = {"endpoint": f"127.0.0.1:{port}", **case.section}
    pipeline = {"receivers": [case.receiver], "processors": ["unify"], "exporters": ["nop"]}
    document = {
        "receivers": {case.receiver: section},
        "processors": {"unify": None},
        "exporters": {"nop": None},
        "service": {
            "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": prometheus}}}]}},
            "pipelines": {case.signal: pipeline},
        },
    }
    return yaml.safe_load(yaml.safe_dump(document))


def one_round(case: Case, daemon: Daemon, port: int, number: int) -> Figure:
    """Raises AssertionError where an answer is no success, or events are not counted."""
    body, sent = case.body(), [0] * CONNECTIONS
    counted, spent_s, began_s = daemon.metric("pipeline_stored_items"), cpu_s(daemon.process.pid), time.monotonic()

    def client(which: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.monotonic() < began_s + ROUND_S:
            own = f"{number:02d}{which:01d}{sent[which]:05d}"
            connection.request("POST", case.path, case.numbered(body, own), case.headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (200, 202, 204), said
            sent[which] += 1

    threads = [threading.Thread(target=client, args=(which,)) for which in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began_s
    spent_s = cpu_s(daemon.process.pid) - spent_s
    requests = sum(sent)
    rows = requests * case.rows
    daemon.wait_until(lambda: daemon.metric("pipeline_stored_items") >= counted + rows, what="everything is counted")
    assert daemon.metric("pipeline_stored_items") == counted + rows
    return Figure(rows / spent_s, spent_s / requests * 1e6, rows / took_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
