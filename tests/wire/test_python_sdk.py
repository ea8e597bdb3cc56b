"""The real OpenTelemetry SDK for Python to the daemon, and what both stores then hold, column by column."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest
import requests
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GRPCSpans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPSpans
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.version import __version__ as SDK_VERSION

from tests.daemon_process import Daemon, otlp_config
from tests.listener.test_tls import HERE as CERTIFICATES
from tests.wire.python_sdk import MS, REMOTE, Remembers, Transport, send_logs, send_metrics, send_spans
from tests.wire.stores import Row, Stores, filled, time_text

TRANSPORTS = [
    Transport(protocol, compression)
    for protocol, compression in [
        ("grpc", "none"),
        ("grpc", "gzip"),
        ("http", "none"),
        ("http", "gzip"),
        ("http", "deflate"),
    ]
]
every_transport = pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda t: f"{t.protocol}-{t.compression}")


def service(transport: Transport, signal: str) -> str:
    return f"{signal}-{transport.protocol}-{transport.compression}"


def common(name: str, time_ns: int, scope: Row | None) -> Row:
    """What every row of the SDK's resource has."""
    return {
        "ns": "default",
        "service_name": name,
        "service_version": "2.4.1",
        "service_instance": "i-1",
        "service_namespace": "shop",
        "host_name": "node-7",
        "timestamp": time_text(time_ns),
        "day": time_text(time_ns)[:10],
        "hour": int(time_text(time_ns)[11:13]),
        "visibility": "user",
        "schema_version": 1,
        "context": {
            "resource": {
                "telemetry.sdk.language": "python",
                "telemetry.sdk.name": "opentelemetry",
                "telemetry.sdk.version": SDK_VERSION,
                "team": "payments",
                "replicas": 3,
            },
            **({"scope": scope} if scope else {}),
        },
    }


@every_transport
def test_spans(stores: Stores, transport: Transport) -> None:
    name, now_ns = service(transport, "traces"), time.time_ns()
    server, client = send_spans(transport.exporters(stores.daemon)[0], name, now_ns)
    assert server.context is not None
    assert client.context is not None
    rows = stores.rows(f"service_name = '{name}'", 2)
    scope = {"version": "1.0", "attributes": {"lib": "x"}, "schema_url": "https://schema"}
    span = {
        "event_type": "trace",
        "event_source": "otel.span",
        "trace_id": f"{REMOTE.trace_id:032x}",
        "log_logger": "acme.http",
    }
    link = {
        "trace_id": f"{REMOTE.trace_id:032x}",
        "span_id": f"{REMOTE.span_id:016x}",
        "attributes": {"why": "retry"},
        "flags": 768,
    }
    assert filled(rows[0]) == common(name, now_ns, scope) | span | {
        "event_name": "GET /cart/{id}",
        "span_id": f"{server.context.span_id:016x}",
        "parent_id": f"{REMOTE.span_id:016x}",
        "actor_id": "u-9",
        "started_at": time_text(now_ns),
        "ended_at": time_text(now_ns + 5 * MS + 500_000),
        "duration_ms": 5.5,
        "outcome": "error",
        "outcome_reason": "upstream timeout",
        "status_code": 503,
        "error_message": "upstream timeout",
        "http_method": "GET",
        "http_url": "https://Shop.example/cart/9?x=1",
        "http_host": "shop.example",
        "http_path": "/cart/9",
        "http_query": "x=1",
        "http_status": 503,
        "data": {
            "events": [{"time_ns": now_ns + MS, "name": "cache.miss", "attributes": {"key": "cart/9"}}],
            "links": [link],
        },
        "attributes": {
            "cart.items": "3",
            "cart.total": "12.5",
            "cart.gift": "true",
            "cart.tags": '["a","b"]',
            "cart.note": "ä\n",
            "$otlp.status_message": "upstream timeout",
            "$otlp.trace_state": "a=1",
            "$otlp.flags": "768",
            "$otlp.types": "cart.items=3,cart.total=4,cart.gift=2,cart.tags=5,$otlp.flags=3",
        },
        "labels": {"$span_kind": "server", "$env": "prod"},
    }
    assert filled(rows[1]) == common(name, now_ns + 2 * MS, scope) | span | {
        "event_name": "SELECT",
        "span_id": f"{client.context.span_id:016x}",
        "parent_id": f"{server.context.span_id:016x}",
        "started_at": time_text(now_ns + 2 * MS),
        "ended_at": time_text(now_ns + 3 * MS),
        "duration_ms": 1,
        "db_system": "postgresql",
        "db_operation": "SELECT",
        "attributes": {
            "db.system.name": "PostgreSQL",
            "db.operation.name": "select",
            "$otlp.trace_state": "a=1",
            "$otlp.flags": "256",
            "$otlp.types": "$otlp.flags=3",
        },
        "labels": {"$span_kind": "client", "$env": "prod"},
    }


@every_transport
def test_metrics_of_all_kinds(stores: Stores, transport: Transport) -> None:
    name = service(transport, "metrics")
    sent = points(send_metrics(transport.exporters(stores.daemon)[1], name))
    rows = {row["metric_name"]: filled(row) for row in stores.rows(f"service_name = '{name}'", len(sent))}
    assert rows.keys() == sent.keys() == EXPECTED_METRICS.keys()
    for metric, expected in EXPECTED_METRICS.items():
        point = sent[metric]
        exemplars = [{"time_ns": e.time_unix_nano, "value": e.value} for e in point.exemplars]
        start: Row = {}
        if point.start_time_unix_nano:
            took_ms = (point.time_unix_nano - point.start_time_unix_nano) / MS
            start = {"started_at": time_text(point.start_time_unix_nano), "duration_ms": took_ms}
        assert rows[metric] == common(name, point.time_unix_nano, {"version": "3"}) | start | {
            "event_type": "metric",
            "event_source": "otel.metric",
            "event_name": metric,
            "metric_name": metric,
            "log_logger": "acme.shop",
            "data": {"exemplars": exemplars},
            **expected,
            "labels": {"$env": "prod", **expected.get("labels", {})},
        }


EXPECTED_METRICS: dict[str, Row] = {
    "orders.placed": {
        "metric_type": "counter",
        "metric_unit": "{order}",
        "metric_value": 42,
        "labels": {"region": "eu", "vip": "true", "$otlp.types": "vip=2", "$temporality": "delta"},
        "attributes": {"$otlp.description": "orders accepted", "$otlp.as_int": "42"},
    },
    "carts.open": {
        "metric_type": "updown_counter",
        "metric_value": -2,
        "labels": {"$temporality": "cumulative"},
        "attributes": {"$otlp.as_int": "-2"},
    },
    "wait": {
        "metric_type": "histogram",
        "metric_unit": "s",
        "metric_count": 3,
        "metric_sum": 1.25,
        "metric_min": 0.05,
        "metric_max": 0.9,
        "metric_buckets": {"bounds": [0.1, 0.5], "counts": [1, 1, 1]},
        "labels": {"queue": "a", "$temporality": "cumulative"},
    },
    "payload.size": {
        "metric_type": "exponential_histogram",
        "metric_unit": "By",
        "metric_count": 4,
        "metric_sum": 125,
        "metric_min": 0,
        "metric_max": 90,
        # Base 2: 5, 30 and 90 lie in (4, 8], (16, 32] and (64, 128].
        "metric_buckets": {
            "scale": 0,
            "zero_count": 1,
            "zero_threshold": 0,
            "positive": {"offset": 2, "counts": [1, 0, 1, 0, 1, 0, 0, 0]},
            "negative": {"offset": 0, "counts": [0]},
        },
        "labels": {"$temporality": "cumulative"},
    },
    "temperature": {"metric_type": "gauge", "metric_value": -3.5, "labels": {"room": "1", "$otlp.types": "room=3"}},
}


def points(data: MetricsData) -> dict[str, Any]:
    """The one point of each metric, by name."""
    return {
        metric.name: metric.data.data_points[0]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@every_transport
def test_log_records(stores: Stores, transport: Transport) -> None:
    name, now_ns = service(transport, "logs"), time.time_ns()
    send_logs(transport.exporters(stores.daemon)[2], name, now_ns)
    rows = stores.rows(f"service_name = '{name}'", 3)
    log = {"event_type": "log", "event_source": "otel.log", "log_logger": "stock", "labels": {"$env": "prod"}}
    assert filled(rows[0]) == common(name, now_ns, None) | log | {
        "event_name": "stock.low",
        "trace_id": f"{REMOTE.trace_id:032x}",
        "span_id": f"{REMOTE.span_id:016x}",
        "outcome": "error",
        "error_type": "StockError",
        "error_message": "none left",
        "log_level": "warn",
        "log_level_num": 14,
        "log_message": "low stock",
        "attributes": {
            "sku": "x1",
            "left": "3",
            "exception.type": "StockError",
            "exception.message": "none left",
            "$otlp.observed_time_ns": str(now_ns + MS),
            "$otlp.severity_text": "Warning",
            "$otlp.flags": "1",
            "$otlp.types": "left=3,$otlp.observed_time_ns=3,$otlp.flags=3",
        },
    }
    assert filled(rows[1], "attributes") == common(name, now_ns + 1, None) | log | {
        "event_name": "otel.log",
        "log_level": "info",
        "log_level_num": 9,
        "log_message": '{"left":3,"of":[1.5,null,true]}',
        "data": {"body": {"left": 3, "of": [1.5, None, True]}},
    }
    assert filled(rows[2], "attributes") == common(name, now_ns + 2, None) | log | {
        "event_name": "otel.log",
        "log_message": "7",
        "data": {"body": 7},
    }


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_only_clients_with_a_certificate_are_let_in_where_the_receiver_asks_for_one(
    start_daemon: Any, protocol: str
) -> None:
    tls = {
        "cert_file": str(CERTIFICATES / "server.pem"),
        "key_file": str(CERTIFICATES / "server.key"),
        "client_ca_file": str(CERTIFICATES / "ca.pem"),
    }
    daemon: Daemon = start_daemon(otlp_config({"nop": None}, http={"tls": tls}, grpc={"tls": tls}, signals=("traces",)))
    assert export_over_tls(daemon, protocol, "client") is SpanExportResult.SUCCESS
    assert daemon.metric("receiver_accepted_spans", transport=protocol) == 1
    assert export_over_tls(daemon, protocol, None) is SpanExportResult.FAILURE
    assert daemon.metric("receiver_accepted_spans") == 1


def export_over_tls(daemon: Daemon, protocol: str, certificate: str | None) -> SpanExportResult:
    """One span, with or without a client's certificate."""
    pem = {part: CERTIFICATES / f"{certificate}.{part}" for part in ("pem", "key")} if certificate else {}
    if protocol == "grpc":
        read = {part: path.read_bytes() for part, path in pem.items()}
        credentials = grpc.ssl_channel_credentials(
            (CERTIFICATES / "ca.pem").read_bytes(), read.get("key"), read.get("pem")
        )
        exporter: Any = GRPCSpans(endpoint=f"https://{daemon.grpc_endpoint}", credentials=credentials, timeout=2)
    else:
        session = requests.Session()
        session.trust_env = False  # a machine's own list of authorities would replace the one given here
        exporter = HTTPSpans(
            f"https://{daemon.http_endpoint}/v1/traces",
            certificate_file=str(CERTIFICATES / "ca.pem"),
            client_certificate_file=str(pem["pem"]) if pem else None,
            client_key_file=str(pem["key"]) if pem else None,
            timeout=2,
            session=session,
        )
    remembers = Remembers(exporter)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(remembers))
    provider.get_tracer("t").start_span("s").end()
    provider.shutdown()
    return remembers.results[0]


def test_query_command_prints_what_the_daemon_stored(stores: Stores) -> None:
    name = "query-command"
    send_spans(TRANSPORTS[0].exporters(stores.daemon)[0], name, time.time_ns())
    stores.rows(f"service_name = '{name}'", 2)
    answer = stores.query(
        f"SELECT event_name, duration_ms FROM events WHERE service_name = '{name}' ORDER BY 1 FORMAT CSV"
    )
    assert (answer.returncode, answer.stdout) == (0, '"GET /cart/{id}",5.5\n"SELECT",1\n'), answer.stderr
    table = stores.query(
        f"SELECT event_type, service_name, count() FROM events WHERE service_name = '{name}' GROUP BY ALL"
    )
    assert [cell.strip() for cell in table.stdout.splitlines()[3].strip("│").split("│")] == ["trace", name, "2"]
