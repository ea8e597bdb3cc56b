"""OTLP requests made from the official descriptors, so that no field can be forgotten.

The generator walks the descriptors and asks a `Source` for every choice. One source is hypothesis (it shrinks what
fails), the other a seeded random generator (a hundred times faster, for long runs).
"""

from __future__ import annotations

import csv
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

T = TypeVar("T")

REQUESTS: dict[str, type[Message]] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}

# Fields that requests of these three signals must not use, with the protocol's own words.
NOT_FOR_THESE_SIGNALS = {
    "opentelemetry.proto.common.v1.KeyValue.key_strindex": "This MUST ONLY be used by the profiling signal",
    "opentelemetry.proto.common.v1.AnyValue.string_value_strindex": "This MUST ONLY be used by the profiling signal",
}

ID_BYTES = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
MAX_DEPTH = 4


def semantic_keys() -> list[str]:
    """Every attribute key that feeds a column, old and current names."""
    table = Path(__file__).parents[2] / "colonnade" / "unified_schema" / "unified_schema.csv"
    with table.open(newline="", encoding="utf-8") as lines:
        names = [name for row in csv.DictReader(lines) for name in row["otel_attributes"].split("|")]
    keys = sorted({name for name in names if name and not name.startswith("otlp:")})
    assert len(keys) > 100
    return [
        *keys,
        "deployment.environment",
        "deployment.environment.name",
        "network.protocol.name",
        "exception.escaped",
    ]


KEYS = semantic_keys()
ODD_KEYS = [
    "",
    "$",
    "$$",
    "$otlp.types",
    "$otlp.status",
    "$span_kind",
    "$env",
    "$temporality",
    "$b64",
    "$f",
    "a,b=c%",
    "é",
    "k",
]
TEXTS = [
    "",
    "x",
    "GET",
    "get",
    "POST",
    "_OTHER",
    "a,b=%",
    "é😀",
    "\x00",
    'line\nbreak\t"quoted"\\',
    "$",
    "$$",
    "0",
    "true",
    "NaN",
]
SEMANTIC_TEXTS = [
    "200", "404", "503", "1.1", "2", "2.0", "HTTP/2", "http", "Grpc", "grpc", "mysql", "MySQL", "aws", "AWS",
    "publish", "receive", "process", "select", "SELECT", "https://user:pw@Shop.example:8443/cart/9?x=1#top",
    "/cart?x=1", "/", "?", "shop.example", "OK", "DEADLINE_EXCEEDED", "deadline_exceeded", "pkg.Service/Method",
    "/pkg.Service/Method", "a/b/c", "Method", "123", "-1", "007", "1e3", " 5", "0af7651916cd43dd8448eb211c80319c",
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "OTHER", "error", "Warning", "WARN", "warn",
    "Information", "fatal", "panic", "TRACE", "success", "client_error", "en\x00d",
]  # fmt: skip
INTS = [
    0,
    1,
    2,
    3,
    4,
    8,
    14,
    16,
    17,
    99,
    100,
    200,
    204,
    301,
    400,
    404,
    408,
    429,
    499,
    500,
    503,
    504,
    599,
    600,
    65535,
    65536,
    1000,
    2**31 - 1,
]
DOUBLES = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    200.0,
    0.1,
    1e300,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
    2.0**53,
    1e16,
    123456789.123,
    1e21,
]
TIMES = [
    0,
    1,
    1_772_600_767_123_456_789,
    1_772_600_767_164_956_789,
    2**63 - 1,
    2**63,
    2**64 - 1,
    1_772_600_767_000_000_000,
]


class Source(Protocol):
    """Where choices come from."""

    def below(self, count: int) -> int: ...
    def text(self) -> str: ...
    def binary(self, most: int) -> bytes: ...


class FromHypothesis:
    """Choices that hypothesis makes and shrinks; the first of every list is the simplest."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw

    def below(self, count: int) -> int:
        return self.draw(st.integers(0, count - 1))

    def text(self) -> str:
        return self.draw(st.text(max_size=12))

    def binary(self, most: int) -> bytes:
        return self.draw(st.binary(max_size=most))


class FromSeed:
    """Choices of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def below(self, count: int) -> int:
        return self.random.randrange(count)

    def text(self) -> str:
        alphabet = 'abc "\\%,=$\n\x00\x7fé€😀/?:.-'
        return "".join(self.random.choice(alphabet) for _ in range(self.random.randrange(8)))

    def binary(self, most: int) -> bytes:
        return self.random.randbytes(self.random.randrange(most + 1))


class Maker:
    """Requests out of a source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.keys: list[str] = []

    def chance(self, one_in: int) -> bool:
        return self.source.below(one_in) == one_in - 1

    def choice(self, items: Sequence[T]) -> T:
        return items[self.source.below(len(items))]

    def request(self, signal: str) -> Message:
        return self.message(REQUESTS[signal].DESCRIPTOR, 0)

    def message(self, descriptor: Descriptor, depth: int) -> Message:
        message = GetMessageClass(descriptor)()
        if descriptor.full_name == "opentelemetry.proto.common.v1.KeyValue":
            self.key_value(message, depth)
            return message
        chosen = {
            oneof.full_name: self.choice([*oneof.fields, None]) for oneof in descriptor.oneofs if len(oneof.fields) > 1
        }
        for field in descriptor.fields:
            if field.full_name in NOT_FOR_THESE_SIGNALS:
                continue
            if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
                picked = chosen[field.containing_oneof.full_name]
                if picked is None or picked.full_name != field.full_name:
                    continue
            elif field.name not in STRUCTURE and self.source.below(3) == 0:
                continue
            self.fill(message, field, depth)
        return message

    def fill(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.is_repeated:
            target = getattr(message, field.name)
            for _ in range(self.count(field, depth)):
                if field.message_type is not None:
                    target.append(self.message(field.message_type, depth + self.deeper(field)))
                else:
                    target.append(self.scalar(field))
        elif field.message_type is not None:
            if depth + self.deeper(field) <= MAX_DEPTH:
                getattr(message, field.name).CopyFrom(self.message(field.message_type, depth + self.deeper(field)))
            else:
                getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, self.scalar(field))

    def deeper(self, field: FieldDescriptor) -> int:
        """Only values within values can nest without end."""
        return int(field.message_type.full_name in NESTING)

    def count(self, field: FieldDescriptor, depth: int) -> int:
        if field.message_type is not None and depth >= MAX_DEPTH and self.deeper(field):
            return 0
        if field.message_type is not None and field.message_type.name == "KeyValue":
            return self.choice([0, 1, 2, 3, 5])
        return self.choice([1, 1, 0, 2, 2, 3])

    def key_value(self, message: Any, depth: int) -> None:
        kind = self.source.below(10)
        if kind < 4 and self.keys:
            message.key = self.choice(self.keys)  # Again: duplicates, the same key on resource and record.
        elif kind < 8:
            message.key = self.choice(KEYS)
        else:
            message.key = self.choice(ODD_KEYS)
        # The newest few, so that resources and records near each other share keys.
        self.keys = [*self.keys[-7:], message.key]
        if self.chance(20):
            return  # No value at all.
        kind = self.source.below(12)
        if kind < 6:
            message.value.string_value = self.choice(SEMANTIC_TEXTS)
        elif kind < 9:
            message.value.int_value = self.choice(INTS)
        else:
            value = self.message(message.DESCRIPTOR.fields_by_name["value"].message_type, depth + 1)
            message.value.CopyFrom(value)

    def scalar(self, field: FieldDescriptor) -> Any:
        kind = field.type
        if kind == FieldDescriptor.TYPE_STRING:
            return self.text()
        if kind == FieldDescriptor.TYPE_BYTES:
            return self.identity(field.name)
        if kind == FieldDescriptor.TYPE_BOOL:
            return not self.chance(4)
        if kind == FieldDescriptor.TYPE_DOUBLE:
            return self.double()
        if kind == FieldDescriptor.TYPE_ENUM:
            return self.choice([*field.enum_type.values_by_number, 0, -1, 25, 99, 2**31 - 1])
        least, most = RANGES[kind]
        if field.name.endswith("time_unix_nano"):
            return self.choice(TIMES)
        return self.choice([*INTS, least, most, self.choice(INTS) - 2 if least < 0 else 5, most - 1])

    def identity(self, name: str) -> bytes:
        """Trace and span ids, mostly of the right length; other bytes of any."""
        size = ID_BYTES.get(name)
        kind = self.source.below(8)
        if size is None or kind == 7:
            return self.source.binary(20)
        if kind == 6:
            return bytes(size)
        return bytes([kind + 1]) * size

    def text(self) -> str:
        kind = self.source.below(4)
        if kind == 3:
            return self.source.text()
        return self.choice(TEXTS if kind == 2 else SEMANTIC_TEXTS)

    def double(self) -> float:
        if self.chance(4):
            return struct.unpack("<d", self.source.binary(8).ljust(8, b"\x40"))[0]
        return self.choice(DOUBLES)


# What leads to records; a request that mostly lacks it says mostly nothing.
STRUCTURE = {
    *("resource_spans", "scope_spans", "spans"),
    *("resource_logs", "scope_logs", "log_records"),
    *("resource_metrics", "scope_metrics", "metrics", "data_points"),
}
NESTING = {
    "opentelemetry.proto.common.v1.AnyValue",
    "opentelemetry.proto.common.v1.ArrayValue",
    "opentelemetry.proto.common.v1.KeyValueList",
}
RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


@st.composite
def requests(draw: Callable[[st.SearchStrategy[Any]], Any], signal: str) -> Message:
    """Requests of a signal, as hypothesis likes them."""
    return Maker(FromHypothesis(draw)).request(signal)


def seeded(signal: str, seed: int) -> Message:
    """The request of a signal that belongs to a seed."""
    return Maker(FromSeed(seed)).request(signal)


def seeded_list(signal: str, seed: int, count: int) -> list[Message]:
    """Requests that have keys in common."""
    maker = Maker(FromSeed(seed))
    return [maker.request(signal) for _ in range(count)]
