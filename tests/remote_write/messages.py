"""The messages of remote write 1.0 and 2.0 for the official protobuf package, from tables of their fields."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_FIELD = descriptor_pb2.FieldDescriptorProto
# Name: (number, type; `*` repeated, `?` in a oneof or else told apart from absent).
Fields = dict[str, tuple[int, str]]

_SAMPLE: Fields = {"value": (1, "double"), "timestamp": (2, "int64")}
_SPAN: Fields = {"offset": (1, "sint32"), "length": (2, "uint32")}
_HISTOGRAM: Fields = {
    "count_int": (1, "?uint64"),
    "count_float": (2, "?double"),
    "sum": (3, "double"),
    "schema": (4, "sint32"),
    "zero_threshold": (5, "double"),
    "zero_count_int": (6, "?uint64"),
    "zero_count_float": (7, "?double"),
    "negative_spans": (8, "*BucketSpan"),
    "negative_deltas": (9, "*sint64"),
    "negative_counts": (10, "*double"),
    "positive_spans": (11, "*BucketSpan"),
    "positive_deltas": (12, "*sint64"),
    "positive_counts": (13, "*double"),
    "reset_hint": (14, "int32"),
    "timestamp": (15, "int64"),
    "custom_values": (16, "*double"),
}
_START: Fields = {"start_timestamp": (17, "int64")}
_ONE: dict[str, Fields] = {
    "WriteRequest": {"timeseries": (1, "*TimeSeries"), "metadata": (3, "*MetricMetadata")},
    "MetricMetadata": {
        "type": (1, "int32"),
        "metric_family_name": (2, "string"),
        "help": (4, "string"),
        "unit": (5, "string"),
    },
    "TimeSeries": {
        "labels": (1, "*Label"),
        "samples": (2, "*Sample"),
        "exemplars": (3, "*Exemplar"),
        "histograms": (4, "*Histogram"),
    },
    "Label": {"name": (1, "string"), "value": (2, "string")},
    "Sample": _SAMPLE,
    "Exemplar": {"labels": (1, "*Label"), "value": (2, "double"), "timestamp": (3, "int64")},
    "Histogram": _HISTOGRAM,
    "BucketSpan": _SPAN,
}
_TWO: dict[str, Fields] = {
    "Request": {"symbols": (4, "*string"), "timeseries": (5, "*TimeSeries")},
    "TimeSeries": {
        "labels_refs": (1, "*uint32"),
        "samples": (2, "*Sample"),
        "histograms": (3, "*Histogram"),
        "exemplars": (4, "*Exemplar"),
        "metadata": (5, "Metadata"),
        "created_timestamp": (6, "int64"),
    },
    "Metadata": {"type": (1, "int32"), "help_ref": (3, "uint32"), "unit_ref": (4, "uint32")},
    "Exemplar": {"labels_refs": (1, "*uint32"), "value": (2, "double"), "timestamp": (3, "int64")},
    "Sample": {**_SAMPLE, "start_timestamp": (3, "int64")},
    "Histogram": {**_HISTOGRAM, **_START},
    "BucketSpan": _SPAN,
}
_ONEOFS = {
    "count_int": "count",
    "count_float": "count",
    "zero_count_int": "zero_count",
    "zero_count_float": "zero_count",
}


def _messages(package: str, table: dict[str, Fields]) -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in table.items():
        message = file.message_type.add(name=name)
        oneofs = list(dict.fromkeys(_ONEOFS[field] for field in fields if field in _ONEOFS))
        for oneof in oneofs:
            message.oneof_decl.add(name=oneof)
        for field, (number, kind) in fields.items():
            label = _FIELD.LABEL_REPEATED if kind.startswith("*") else _FIELD.LABEL_OPTIONAL
            made = message.field.add(name=field, number=number, label=label)
            kind = kind.lstrip("*?")
            if kind in table:
                made.type, made.type_name = _FIELD.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                made.type = _FIELD.Type.Value(f"TYPE_{kind.upper()}")
            if field in _ONEOFS:
                made.oneof_index = oneofs.index(_ONEOFS[field])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in table}


ONE: dict[str, Any] = _messages("colonnade.tests.one", _ONE)
TWO: dict[str, Any] = _messages("colonnade.tests.two", _TWO)
REQUESTS: dict[int, Any] = {1: ONE["WriteRequest"], 2: TWO["Request"]}
