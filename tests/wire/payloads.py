"""Request bodies by name: good ones, and those that a hostile or broken client sends."""

from __future__ import annotations

import gzip
from functools import cache
from typing import Any

import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MIB = 1 << 20
REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
ROOTS = {"traces": "resource_spans", "metrics": "resource_metrics", "logs": "resource_logs"}
SCOPES = {"traces": "scope_spans", "metrics": "scope_metrics", "logs": "scope_logs"}
RECORDS = {"traces": "spans", "metrics": "metrics", "logs": "log_records"}


def request(signal: str, service: str = "") -> tuple[Any, Any]:
    """An empty request of a service, and the list where its records go."""
    message = REQUESTS[signal]()
    resource = getattr(message, ROOTS[signal]).add()
    if service:
        resource.resource.attributes.add(key="service.name").value.string_value = service
    return message, getattr(getattr(resource, SCOPES[signal]).add(), RECORDS[signal])


def spans(number: int, service: str = "", name: str = "s") -> bytes:
    """A request of that many small spans."""
    message, records = request("traces", service)
    for index in range(1, number + 1):
        records.add(
            name=name,
            trace_id=b"\1" * 16,
            span_id=index.to_bytes(8, "big"),
            start_time_unix_nano=1,
            end_time_unix_nano=2,
        )
    return message.SerializeToString()


def varint(number: int) -> bytes:
    """Protobuf's form of a length."""
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def nested(levels: int) -> bytes:
    """A span whose attribute is an array in an array, `levels` deep."""
    value = field(1, b"x")
    for _ in range(levels):
        value = field(5, field(1, value))
    span = field(1, b"\1" * 16) + field(2, b"\2" * 8) + field(5, b"s") + field(9, field(1, b"k") + field(2, value))
    return field(1, field(2, field(2, span)))


def _json_span(text: str) -> bytes:
    return f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{text}}}]}}]}}]}}'.encode()


@cache
def payload(name: str) -> bytes:
    """The body of that name."""
    good = spans(1)
    packed = gzip.compress(good)
    match name:
        case "nothing":
            return b""
        case "good":
            return good
        case "good_json":
            return _json_span('"name":"s"')
        case "good_zstd":
            return zstandard.compress(good)
        case "good_gzip_cut":
            return packed[:-6]
        case "good_gzip_wrong_sum":
            return packed[:-8] + b"\0\0\0\0" + packed[-4:]
        case "truncated":
            return good[:-3]
        case "truncated_json":
            return b'{"resourceSpans":[{"scopeSpans":[{"span'
        case "larger_than_http":
            return b"\n" * (20 * MIB + 1)
        case "larger_than_grpc":
            return b"\n" * (4 * MIB + 1)
        case "bomb":
            return gzip.compress(bytes(100 * MIB), 1)
        case "bomb_in_bomb":
            return gzip.compress(payload("bomb"))
        case "deep":
            return nested(10_000)
        case "deep_json":
            deep = 5000
            inner = '{"arrayValue":{"values":[' * deep + "]}}" * deep
            return f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{inner}}}]}}]}}]}}'.encode()
        case "brackets":
            return b'{"resourceSpans":' + b"[" * 100_000
        case "not_utf8":
            return good.replace(field(5, b"s"), field(5, b"\xff"))
        case "not_utf8_json":
            return _json_span('"name":"?"').replace(b"?", b"\xff")
        case "bad_id_json":
            return _json_span('"traceId":"zz"')
        case "beyond_64_bits_json":
            return _json_span(f'"startTimeUnixNano":"{2**64}"')
    raise KeyError(name)
