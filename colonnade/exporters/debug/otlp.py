"""OTLP requests as plain dictionaries, for printing: a protobuf reader that knows OTLP's messages.

Every field that has a default is there; those that may be absent (`oneof`, `optional`) only where they were sent.
Unknown fields are passed over. What is read was decoded, validated or encoded by the native part before, so nothing
here guards against hostile bytes. Specification: opentelemetry-proto 1.8, protobuf wire format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

Message = dict[str, Any]

# Field number to name and kind; `*` repeated, `?` absent when not sent. A kind that is no scalar is a message.
_FIELDS: dict[str, str] = {
    "TracesRequest": "1 resource_spans ResourceSpans*",
    "ResourceSpans": "1 resource Resource, 2 scope_spans ScopeSpans*, 3 schema_url text",
    "ScopeSpans": "1 scope Scope, 2 spans Span*, 3 schema_url text",
    "Span": "1 trace_id bytes, 2 span_id bytes, 3 trace_state text, 4 parent_span_id bytes, 5 name text, 6 kind enum,"
    "7 start_time fixed64, 8 end_time fixed64, 9 attributes KeyValue*, 10 dropped_attributes uint, 11 events Event*,"
    "12 dropped_events uint, 13 links Link*, 14 dropped_links uint, 15 status Status",
    "Event": "1 time fixed64, 2 name text, 3 attributes KeyValue*, 4 dropped_attributes uint",
    "Link": "1 trace_id bytes, 2 span_id bytes, 3 trace_state text, 4 attributes KeyValue*, 5 dropped_attributes uint",
    "Status": "2 message text, 3 code enum",
    "LogsRequest": "1 resource_logs ResourceLogs*",
    "ResourceLogs": "1 resource Resource, 2 scope_logs ScopeLogs*, 3 schema_url text",
    "ScopeLogs": "1 scope Scope, 2 log_records LogRecord*, 3 schema_url text",
    "LogRecord": "1 time fixed64, 2 severity_number enum, 3 severity_text text, 5 body AnyValue,"
    "6 attributes KeyValue*, 8 flags fixed32, 9 trace_id bytes, 10 span_id bytes, 11 observed_time fixed64,"
    "12 event_name text",
    "MetricsRequest": "1 resource_metrics ResourceMetrics*",
    "ResourceMetrics": "1 resource Resource, 2 scope_metrics ScopeMetrics*, 3 schema_url text",
    "ScopeMetrics": "1 scope Scope, 2 metrics Metric*, 3 schema_url text",
    "Metric": "1 name text, 2 description text, 3 unit text, 5 gauge Points?, 7 sum Points?, 9 histogram Histogram?,"
    "10 exponential_histogram ExponentialHistogram?, 11 summary Summary?, 12 metadata KeyValue*",
    "Points": "1 points NumberPoint*, 2 temporality enum, 3 is_monotonic bool",
    "Histogram": "1 points HistogramPoint*, 2 temporality enum",
    "ExponentialHistogram": "1 points ExponentialHistogramPoint*, 2 temporality enum",
    "Summary": "1 points SummaryPoint*",
    "NumberPoint": "2 start_time fixed64, 3 time fixed64, 4 as_double double?, 5 exemplars Exemplar*,"
    "6 as_int sfixed64?, 7 attributes KeyValue*",
    "HistogramPoint": "2 start_time fixed64, 3 time fixed64, 4 count fixed64, 5 sum double?, 6 bucket_counts fixed64*,"
    "7 explicit_bounds double*, 8 exemplars Exemplar*, 9 attributes KeyValue*, 11 min double?, 12 max double?",
    "ExponentialHistogramPoint": "1 attributes KeyValue*, 2 start_time fixed64, 3 time fixed64, 4 count fixed64,"
    "5 sum double?, 6 scale sint, 7 zero_count fixed64, 8 positive Buckets, 9 negative Buckets, 11 exemplars Exemplar*,"
    "12 min double?, 13 max double?",
    "Buckets": "1 offset sint, 2 bucket_counts uint*",
    "SummaryPoint": "2 start_time fixed64, 3 time fixed64, 4 count fixed64, 5 sum double, 6 quantiles Quantile*,"
    "7 attributes KeyValue*",
    "Quantile": "1 quantile double, 2 value double",
    "Exemplar": "2 time fixed64, 3 as_double double?, 4 span_id bytes, 5 trace_id bytes, 6 as_int sfixed64?,"
    "7 attributes KeyValue*",
    "Resource": "1 attributes KeyValue*, 3 entity_refs EntityRef*",
    "EntityRef": "1 schema_url text, 2 type text, 3 id_keys text*, 4 description_keys text*",
    "Scope": "1 name text, 2 version text, 3 attributes KeyValue*",
    "KeyValue": "1 key text, 2 value AnyValue",
    "AnyValue": "1 string text?, 2 bool bool?, 3 int int?, 4 double double?, 5 array Array?, 6 map Map?,7 bytes bytes?",
    "Array": "1 values AnyValue*",
    "Map": "1 values KeyValue*",
}
# Of these only the last that was sent counts.
_ONEOFS: dict[str, frozenset[str]] = {
    "AnyValue": frozenset({"string", "bool", "int", "double", "array", "map", "bytes"}),
    "NumberPoint": frozenset({"as_double", "as_int"}),
    "Exemplar": frozenset({"as_double", "as_int"}),
    "Metric": frozenset({"gauge", "sum", "histogram", "exponential_histogram", "summary"}),
}


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _unpacked(format: str) -> Callable[[bytes], Any]:
    return lambda data: struct.unpack(format, data)[0]


# Kind to its default and to how its value is made: of a number where it is a varint, else of bytes.
_VARINTS: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "uint": (0, int),
    "enum": (0, lambda number: _signed(number)),
    "int": (0, _signed),
    "sint": (0, lambda number: (number >> 1) ^ -(number & 1)),
    "bool": (False, bool),
}
_BYTES: dict[str, tuple[Any, Callable[[bytes], Any], int]] = {
    "text": ("", lambda data: data.decode(), 0),
    "bytes": (b"", bytes, 0),
    "fixed32": (0, _unpacked("<I"), 4),
    "fixed64": (0, _unpacked("<Q"), 8),
    "sfixed64": (0, _unpacked("<q"), 8),
    "double": (0.0, _unpacked("<d"), 8),
}


class _Field:
    """One field of a message."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.repeated = kind.endswith("*")
        self.optional = kind.endswith("?")
        self.kind = kind.rstrip("*?")

    def default(self) -> Any:
        if self.repeated:
            return []
        if self.kind in _VARINTS:
            return _VARINTS[self.kind][0]
        return _BYTES[self.kind][0] if self.kind in _BYTES else parse(self.kind, b"")

    def values(self, value: int | bytes) -> Iterator[Any]:
        """The field's values in one piece of the wire: several where numbers are packed."""
        if self.kind in _VARINTS:
            make = _VARINTS[self.kind][1]
            yield from map(make, [value] if isinstance(value, int) else _varints(value))
        elif isinstance(value, int):
            return
        elif self.kind in _BYTES:
            _, make, width = _BYTES[self.kind]
            width = width or max(len(value), 1)
            yield from (make(value[at : at + width]) for at in range(0, max(len(value), 1), width))
        else:
            yield parse(self.kind, value)


def _fields(text: str) -> dict[int, _Field]:
    split = (field.split() for field in text.split(","))
    return {int(number): _Field(name, kind) for number, name, kind in split}


_MESSAGES = {name: _fields(text) for name, text in _FIELDS.items()}


def parse(kind: str, data: bytes) -> Message:
    """The message of this kind in `data`."""
    fields, oneof = _MESSAGES[kind], _ONEOFS.get(kind, frozenset())
    message: Message = {}
    pieces: dict[str, bytes] = {}
    for number, value in wire(data):
        field = fields.get(number)
        if field is None:
            continue
        if field.name in oneof:
            for other in oneof - {field.name}:
                message.pop(other, None)
                pieces.pop(other, None)
        if field.repeated:
            message.setdefault(field.name, []).extend(field.values(value))
        elif field.kind in _MESSAGES and isinstance(value, bytes):
            # A message that comes in pieces is the pieces one after another.
            pieces[field.name] = value = pieces.get(field.name, b"") + value
            message[field.name] = parse(field.kind, value)
        else:
            for one in field.values(value):
                message[field.name] = one
    for field in fields.values():
        if field.name not in message and not field.optional:
            message[field.name] = field.default()
    return message


def wire(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a message: numbers of varints, bytes of everything else."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
                continue
            case 1:
                length = 8
            case 5:
                length = 4
            case _:
                length, at = _varint(data, at)
        yield tag >> 3, data[at : at + length]
        at += length


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
        shift += 7
