"""The demo's visitors, taken by a real daemon: every source is stored, and nothing of it is refused."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
import urllib.request
from typing import Any

import pytest
import yaml

from colonnade.daemon import demo_events
from tests.daemon_process import Daemon, free_port
from tests.docs.kit import TOP
from tests.events.kit import own_metrics

KEYS: dict[str, dict[str, Any]] = {
    name: section
    for name, section in yaml.safe_load((TOP / "pipeline.yaml").read_text())["receivers"].items()
    if name != "otlp"
}


@pytest.fixture
def shop(start_daemon: Any) -> tuple[Daemon, dict[str, str], int]:
    """A daemon with the shipped file's receivers on free ports, where each listens, and where queries are taken."""
    ports, query_port = {name: free_port() for name in KEYS}, free_port()
    receivers = {name: section | {"endpoint": f"127.0.0.1:{ports[name]}"} for name, section in KEYS.items()}
    store = {"endpoint": "embedded:./data", "sending_queue": {"batch": {"flush_timeout": "100ms"}}}
    pipeline = {"processors": ["unify", "enrich"], "exporters": ["clickhouse"]}
    daemon = start_daemon(
        {
            "receivers": receivers,
            "processors": {"unify": None, "enrich": None},
            "exporters": {"clickhouse": store},
            "extensions": {"clickhouse_query": {"endpoint": f"127.0.0.1:{query_port}"}},
            "service": {
                "telemetry": own_metrics(),
                "extensions": ["clickhouse_query"],
                "pipelines": {
                    "metrics": {**pipeline, "receivers": ["prometheus_remote_write"]},
                    "events": {**pipeline, "receivers": [n for n in receivers if n != "prometheus_remote_write"]},
                },
            },
        }
    )
    return daemon, {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}, query_port


def test_every_source_of_the_shipped_file_is_stored(shop: tuple[Daemon, dict[str, str], int]) -> None:
    daemon, endpoints, query_port = shop
    lines = [*demo_events.tell(endpoints, seed=1, visits=12, now_s=time.time())]
    told = {source: int(rows) for rows, source in re.findall(r"sent +(\d+) \w+ \((\w+)\)", "\n".join(lines))}
    assert told.keys() == KEYS.keys()
    assert min(told.values()) > 0
    daemon.wait_until(lambda: not daemon.metric("exporter_lag_rows"), what="everything is stored")
    sql = "SELECT splitByChar('.', event_source)[1], count() FROM events GROUP BY 1"
    found = demo_rows(query_port, sql)
    families = {
        "segment": ["segment"],
        "beacon": ["trackflow", "web_vitals", "browser", "rrweb"],
        "events": ["thedata"],
        "prometheus_remote_write": ["prometheus"],
    }
    stored = {name: sum(found.get(family, 0) for family in names) for name, names in families.items()}
    assert stored == told, found
    assert sum(found.values()) == sum(told.values())
    agents = demo_rows(query_port, "SELECT client_name, count() FROM events WHERE event_type = 'track' GROUP BY 1")
    assert "Chrome" in agents


def demo_rows(port: int, sql: str) -> dict[str, int]:
    url = f"http://127.0.0.1:{port}/?query={urllib.parse.quote(sql + ' FORMAT JSONCompactEachRow')}"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return {name: int(count) for name, count in map(json.loads, answer.read().splitlines())}


def test_sources_that_nobody_takes_are_left_out() -> None:
    endpoints = {"segment": f"http://127.0.0.1:{free_port()}"}
    (line,) = demo_events.tell(endpoints, seed=1, visits=3, now_s=time.time())
    assert line == f"left out segment: nobody takes it at {endpoints['segment']}"


def test_the_same_seed_makes_the_same_visitors() -> None:
    first, second = (
        [visitor._replace(anonymous="", session="") for visitor in demo_events.visitors(4, 20, 1e9)] for _ in range(2)
    )
    assert first == second
