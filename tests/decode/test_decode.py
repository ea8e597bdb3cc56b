"""Decoding against the official protobuf package."""

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from colonnade import native
from colonnade.unified_schema import arrow_schema

START = 1772600767123456789


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


RESOURCE = {
    "attributes": [
        text("service.name", "checkout"),
        text("service.namespace", "shop"),
        text("deployment.environment.name", "prod"),
    ]
}


def traces(*spans: dict[str, Any], resource: dict[str, Any] = RESOURCE) -> bytes:
    scope = {"scope": {"name": "acme.http", "version": "1.0"}, "spans": list(spans)}
    request = {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
    return ParseDict(request, ExportTraceServiceRequest()).SerializeToString()


def logs(*records: dict[str, Any]) -> bytes:
    request = {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"logRecords": list(records)}]}]}
    return ParseDict(request, ExportLogsServiceRequest()).SerializeToString()


def metrics(*list_: dict[str, Any]) -> bytes:
    request = {"resourceMetrics": [{"resource": RESOURCE, "scopeMetrics": [{"metrics": list(list_)}]}]}
    return ParseDict(request, ExportMetricsServiceRequest()).SerializeToString()


def table(signal: str, *payloads: bytes, whole: bool = False) -> pa.RecordBatch:
    batch, refused = native.decode(signal, list(payloads), whole=whole)
    assert refused == []
    data = pa.record_batch(batch)
    data.validate(full=True)
    known = [field for field in data.schema if not field.name.startswith("$")]
    assert known == [arrow_schema().field(field.name) for field in known]
    return data


def cell(data: pa.RecordBatch, column: str, row: int = 0) -> Any:
    value = data.column(column)[row]
    if pa.types.is_timestamp(value.type):
        return value.value
    if pa.types.is_map(value.type):
        return {k: v["text"] if isinstance(v, dict) else v for k, v in value.as_py()}
    return value.as_py()


SPAN: dict[str, Any] = {
    "name": "GET /cart/{id}",
    "kind": 2,
    "startTimeUnixNano": START,
    "endTimeUnixNano": START + 41_500_000,
    "attributes": [
        text("http.request.method", "GET"),
        text("url.full", "https://shop.example/cart/9?x=1"),
        {"key": "http.status_code", "value": {"intValue": 503}},
        text("user.id", "u-9"),
    ],
    "events": [
        {
            "timeUnixNano": START,
            "name": "exception",
            "attributes": [text("exception.type", "TimeoutError"), text("exception.message", "no answer")],
        }
    ],
    "status": {"code": 2, "message": "upstream timeout"},
}


@pytest.mark.parametrize("whole", [False, True])
def test_the_worked_span(whole: bool) -> None:
    data = table("traces", traces(SPAN), whole=whole)
    expected = {
        "event_type": "trace",
        "event_source": "otel.span",
        "event_name": "GET /cart/{id}",
        "actor_id": "u-9",
        "timestamp": START,
        "duration_ms": 41.5,
        "outcome": "error",
        "outcome_reason": "upstream timeout",
        "status_code": 503,
        "http_status": 503,
        "error_type": "TimeoutError",
        "error_message": "no answer",
        "service_name": "checkout",
        "log_logger": "acme.http",
        "labels": {"$span_kind": "server", "$env": "prod"},
    }
    assert {name: cell(data, name) for name in expected} == expected
    kept = set(cell(data, "attributes")) - {"$otlp.status_message"}
    assert kept == ({a["key"] for a in SPAN["attributes"]} if whole else {"http.status_code"})
    context = json.loads(cell(data, "context"))
    assert ("resource" in context) is whole


def test_a_log_without_time_takes_the_observed_one() -> None:
    body = {"kvlistValue": {"values": [{"key": "left", "value": {"intValue": 3}}]}}
    record = {"observedTimeUnixNano": START, "severityNumber": 14, "severityText": "Warning", "body": body}
    data = table("logs", logs(record))
    assert (cell(data, "timestamp"), cell(data, "log_level"), cell(data, "log_message")) == (
        START,
        "warn",
        '{"left":3}',
    )
    assert cell(data, "attributes") == {"$otlp.time_ns": "0", "$otlp.severity_text": "Warning"}


def test_a_counter_and_a_histogram() -> None:
    point = {
        "startTimeUnixNano": START - 60_000_000_000,
        "timeUnixNano": START,
        "asInt": 42,
        "attributes": [text("region", "eu"), {"key": "vip", "value": {"boolValue": True}}],
    }
    counter = {"name": "orders", "sum": {"isMonotonic": True, "aggregationTemporality": 2, "dataPoints": [point]}}
    buckets = {"timeUnixNano": START, "count": 6, "sum": 1.5, "explicitBounds": [0.1, 0.5], "bucketCounts": [3, 2, 1]}
    histogram = {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [buckets]}}
    data = table("metrics", metrics(counter, histogram))
    assert (cell(data, "metric_type"), cell(data, "metric_value"), cell(data, "duration_ms")) == (
        "counter",
        42.0,
        60000.0,
    )
    labels = {"region": "eu", "vip": "true", "$otlp.types": "vip=2", "$temporality": "cumulative", "$env": "prod"}
    assert cell(data, "labels") == labels
    assert (cell(data, "metric_count", 1), cell(data, "metric_value", 1)) == (6, None)
    assert json.loads(cell(data, "metric_buckets", 1)) == {"bounds": [0.1, 0.5], "counts": [3, 2, 1]}


def test_a_refused_payload_leaves_nothing() -> None:
    good, bad = traces(SPAN), traces(SPAN).replace(b"checkout", b"check\xffut")
    batch, refused = native.decode("traces", [good, bad, good])
    path = "resource_spans[0].resource.attributes[0].value.string_value"
    assert [(index, where) for index, _, _, where in refused] == [(1, path)]
    assert refused[0][2] == bad.index(b"\xff")
    assert pa.record_batch(batch).equals(table("traces", good, good))
    assert [rows for rows, _, _ in batch.runs] == [1, 1]


def test_own_attributes_beside_the_resources_keep_both() -> None:
    data = table("traces", traces({"attributes": [text("service.name", "other")]}, {}))
    assert (cell(data, "service_name"), cell(data, "service_name", 1)) == ("other", "checkout")
    assert json.loads(cell(data, "context"))["resource"]["service.name"] == "checkout"
    assert "resource" not in json.loads(cell(data, "context", 1))


def test_extreme_numbers_are_noted() -> None:
    most = 2**64 - 1
    data = table("traces", traces({"startTimeUnixNano": most, "endTimeUnixNano": most}))
    assert {"$otlp.start_time_ns", "$otlp.end_time_ns"} <= set(cell(data, "attributes"))
    point = {"count": most, "sum": "NaN", "timeUnixNano": most}
    data = table("metrics", metrics({"name": "h", "histogram": {"dataPoints": [point]}}))
    assert cell(data, "attributes")["$otlp.count"] == str(most)


def test_copies_without_end_are_refused() -> None:
    points = [{}] * 100_000
    with pytest.raises(native.NativeError, match="repeat"):
        native.validate("metrics", metrics({"name": "m", "description": "d" * 10_000, "gauge": {"dataPoints": points}}))


@pytest.mark.parametrize("seed", range(4))
def test_verdicts_are_those_of_the_official_parser(seed: int) -> None:
    chance = random.Random(seed)
    whole = traces(SPAN)
    differing: list[bytes] = []
    for _ in range(1500):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        payload = bytes(body[: chance.choice([len(body), chance.randrange(len(body))])])
        try:
            ExportTraceServiceRequest.FromString(payload)
            official = True
        except DecodeError:
            official = False
        batch, refused = native.decode("traces", [payload])
        pa.record_batch(batch).validate(full=True)
        if official == bool(refused):
            differing.append(payload)
    assert differing == []
