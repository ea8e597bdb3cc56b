"""Senders of other languages: the OpenTelemetry SDK for Node, and the Collector project's load generator (Go)."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.servers.programs import TELEMETRYGEN, go_program, node_folder
from tests.wire.stores import Stores, filled, time_text

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

MS = 1_000_000
HERE = Path(__file__).parent
NODE_METRICS = {
    "orders.placed": {"metric_type": "counter", "metric_unit": "{order}", "metric_value": 42},
    "carts.open": {"metric_type": "updown_counter", "metric_value": -2},
    "temperature": {"metric_type": "gauge", "metric_value": -3.5},
    "wait": {
        "metric_type": "histogram",
        "metric_count": 3,
        "metric_sum": 1.25,
        "metric_buckets": {"bounds": [0.1, 0.5], "counts": [1, 1, 1]},
    },
    "payload.size": {"metric_type": "exponential_histogram", "metric_count": 4, "metric_sum": 125},
}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", "http/json"])
def test_node_sdk(stores: Stores, protocol: str) -> None:
    folder, service, now_ms = node_folder(HERE / "node_sdk"), f"node-{protocol}", time.time_ns() // MS
    endpoint = stores.daemon.grpc_endpoint if protocol == "grpc" else stores.daemon.http_endpoint
    ended = subprocess.run(
        [shutil.which("node") or "node", "send.mjs", protocol, endpoint, service, str(now_ms)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    ids = json.loads(ended.stdout)
    rows = stores.rows(f"service_name = '{service}'", 2 + len(NODE_METRICS))
    (span,) = (filled(row, "context") for row in rows if row["event_type"] == "trace")
    assert span == {
        "event_type": "trace",
        "event_source": "otel.span",
        "event_name": "POST /order",
        **ids,
        "ns": "default",
        "timestamp": time_text(now_ms * MS),
        "started_at": time_text(now_ms * MS),
        "ended_at": time_text((now_ms + 2) * MS),
        "duration_ms": 2,
        "outcome": "error",
        "outcome_reason": "declined",
        "error_message": "declined",
        "http_method": "POST",
        "service_name": service,
        "service_version": "1.0",
        "log_logger": "acme.node",
        "data": {"events": [{"time_ns": (now_ms + 1) * MS, "name": "paid", "attributes": {"method": "card"}}]},
        "attributes": {
            "cart.items": "3",
            "cart.total": "12.5",
            "cart.gift": "true",
            "tags": '["a","b"]',
            "$otlp.status_message": "declined",
            "$otlp.flags": span["attributes"]["$otlp.flags"],
            "$otlp.types": "cart.items=3,cart.total=4,cart.gift=2,tags=5,$otlp.flags=3",
        },
        "labels": {"$span_kind": "producer"},
        "day": time_text(now_ms * MS)[:10],
        "hour": int(time_text(now_ms * MS)[11:13]),
        "visibility": "user",
        "schema_version": 1,
        "msg_operation": "send",
    }
    (log,) = (row for row in rows if row["event_type"] == "log")
    assert (log["log_level"], log["log_level_num"], log["trace_id"]) == ("error", 17, ids["trace_id"])
    assert json.loads(log["data"]) == {"body": {"reason": "declined", "code": 7}}
    metrics = {row["metric_name"]: filled(row) for row in rows if row["event_type"] == "metric"}
    for name, expected in NODE_METRICS.items():
        assert {column: metrics[name].get(column) for column in expected} == expected
    assert sum(metrics["payload.size"]["metric_buckets"]["positive"]["counts"]) == 3


def generate(stores: Stores, protocol: str, *arguments: str) -> None:
    """Runs telemetrygen."""
    endpoint = stores.daemon.grpc_endpoint if protocol == "grpc" else stores.daemon.http_endpoint
    to = ["--otlp-insecure", "--otlp-endpoint", endpoint, "--rate", "0", "--workers", "1"]
    to += ["--otlp-http"] if protocol == "http" else []
    subprocess.run(
        [str(go_program(TELEMETRYGEN)), *arguments, *to], check=True, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_telemetrygen_traces(stores: Stores, protocol: str) -> None:
    service = f"telemetrygen-traces-{protocol}"
    generate(
        stores,
        protocol,
        "traces",
        "--traces",
        "50",
        "--child-spans",
        "2",
        "--status-code",
        "Error",
        "--service",
        service,
    )
    rows = stores.rows(f"service_name = '{service}'", 150)
    assert len({row["trace_id"] for row in rows}) == 50
    assert sum(row["parent_id"] == "" for row in rows) == 50
    assert {row["outcome"] for row in rows} == {"error"}
    assert {row["event_name"] for row in rows} == {"lets-go", "okey-dokey-0", "okey-dokey-1"}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("kind", ["Gauge", "Sum", "Histogram", "ExponentialHistogram"])
def test_telemetrygen_metrics(stores: Stores, protocol: str, kind: str) -> None:
    service = f"telemetrygen-{kind}-{protocol}"
    generate(stores, protocol, "metrics", "--metrics", "20", "--metric-type", kind, "--service", service)
    rows = stores.rows(f"service_name = '{service}'", 20)
    expected = {
        "Gauge": "gauge",
        "Sum": "counter",
        "Histogram": "histogram",
        "ExponentialHistogram": "exponential_histogram",
    }
    assert {row["metric_type"] for row in rows} == {expected[kind]}
    if "Histogram" in kind:
        assert all(row["metric_count"] > 0 and row["metric_buckets"] for row in rows)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_telemetrygen_logs(stores: Stores, protocol: str) -> None:
    service = f"telemetrygen-logs-{protocol}"
    generate(
        stores,
        protocol,
        "logs",
        "--logs",
        "50",
        "--body",
        "hello",
        "--severity-text",
        "Warn",
        "--severity-number",
        "13",
        "--service",
        service,
    )
    rows = stores.rows(f"service_name = '{service}'", 50)
    assert {(row["log_message"], row["log_level"], row["log_level_num"]) for row in rows} == {("hello", "warn", 13)}
