"""Rows that somebody changed, or that never were OTLP, and what the encoder makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from colonnade.native import Batch, NativeError, concat, decode, encode_otlp, store_attributes

START = 1_772_600_767_123_456_789
SHAPES: dict[str, tuple[type[Message], str, str, str]] = {
    "traces": (ExportTraceServiceRequest, "resourceSpans", "scopeSpans", "spans"),
    "logs": (ExportLogsServiceRequest, "resourceLogs", "scopeLogs", "logRecords"),
    "metrics": (ExportMetricsServiceRequest, "resourceMetrics", "scopeMetrics", "metrics"),
}


def pairs(**attributes: str) -> list[dict[str, Any]]:
    return [{"key": key.replace("_", "."), "value": {"stringValue": text}} for key, text in attributes.items()]


def rows(signal: str, *records: dict[str, Any], resource: list[dict[str, Any]] | None = None) -> pa.RecordBatch:
    """The rows of one request, as a store takes them."""
    kind, resources, scopes, name = SHAPES[signal]
    group = {"resource": {"attributes": resource or []}, scopes: [{"scope": {"name": "s"}, name: list(records)}]}
    body = ParseDict({resources: [group]}, kind()).SerializeToString()
    batch, refused = decode(signal, [body])
    assert refused == []
    return pa.record_batch(store_attributes(batch))


def encoded(signal: str, *data: pa.RecordBatch) -> list[dict[str, Any]]:
    """The resource groups of the only request, all rows in one batch."""
    [body] = encode_otlp(signal, [concat([Batch.from_arrow(part, signal) for part in data])])
    kind, resources, *_ = SHAPES[signal]
    return MessageToDict(kind.FromString(body))[resources]


def changed(data: pa.RecordBatch, **cells: list[Any]) -> pa.RecordBatch:
    """The rows with other columns."""
    columns = {name: data.column(name) for name in data.schema.names}
    return pa.record_batch({**columns, **{name: pa.array(values) for name, values in cells.items()}})


def with_attributes(data: pa.RecordBatch, *maps: list[tuple[str, str]]) -> pa.RecordBatch:
    return changed(data, attributes=pa.array(maps, pa.map_(pa.utf8(), pa.utf8())))


def test_a_column_that_was_filled_later_is_an_attribute_of_its_current_name() -> None:
    data = changed(rows("traces", {"name": "x"}), geo_country=["NL"], http_status=[404], vital_value=[0.0])
    [[span]] = [scope["spans"] for group in encoded("traces", data) for scope in group["scopeSpans"]]
    assert span["attributes"] == [
        {"key": "http.response.status_code", "value": {"intValue": "404"}},
        {"key": "geo.country.iso_code", "value": {"stringValue": "NL"}},
        {"key": "browser.web_vital.value", "value": {"doubleValue": 0.0}},
    ]


def test_a_resource_column_that_was_changed_changes_the_resource() -> None:
    data = rows("logs", {"severityText": "a"}, {"severityText": "b"}, resource=pairs(service_name="shop", k="v"))
    groups = encoded("logs", changed(data, service_name=["shop", "store"]))
    resources = [group["resource"]["attributes"] for group in groups]
    assert resources == [pairs(k="v", service_name="shop"), pairs(k="v", service_name="store")]


def test_an_attribute_added_to_a_point_stands_beside_its_labels() -> None:
    point = {"asInt": 1, "attributes": pairs(region="eu")}
    data = rows("metrics", {"name": "m", "gauge": {"dataPoints": [point]}})
    data = with_attributes(data, [("$otlp.as_int", "1"), ("tier", "gold"), ("region", "us")])
    [metric] = encoded("metrics", data)[0]["scopeMetrics"][0]["metrics"]
    assert metric["gauge"]["dataPoints"][0]["attributes"] == pairs(region="eu", tier="gold")


def test_a_text_that_is_not_of_its_kind_is_sent_as_text() -> None:
    told = ("$otlp.types", "a=3,b=2,c=4,d=5,e=6,f=7,g=0,h=9")
    cells = [(key, "odd") for key in "abcdefgh"]
    data = with_attributes(rows("traces", {"name": "x"}), [*cells, told])
    [span] = encoded("traces", data)[0]["scopeSpans"][0]["spans"]
    assert span["attributes"] == pairs(**dict(cells))


def test_keys_of_ours_are_no_attributes_and_those_of_users_are() -> None:
    data = with_attributes(rows("logs", {}), [("$otlp.new", "1"), ("$$own", "2"), ("$", "3")])
    [record] = encoded("logs", data)[0]["scopeLogs"][0]["logRecords"]
    assert record["attributes"] == [{"key": "$own", "value": {"stringValue": "2"}}]


def test_rows_of_one_resource_come_together_wherever_they_lie() -> None:
    own = {"name": "own", "attributes": pairs(service_name="other")}
    data = rows("traces", {"name": "a"}, own, {"name": "b"}, resource=pairs(service_name="shop", host_name="n"))
    # The second row has all of its resource in `context`, the others the residue.
    assert len(set(data.column("context").to_pylist())) == 2
    [group] = encoded("traces", data)
    assert [span["name"] for span in group["scopeSpans"][0]["spans"]] == ["a", "own", "b"]


def test_an_own_attribute_and_a_resource_of_the_same_name_are_two_owners() -> None:
    data = rows("traces", {"name": "a"}, resource=pairs(service_name="shop"))
    own = rows("traces", {"name": "b", "attributes": pairs(service_name="shop")})
    # Both rows have the same columns, but in one of them the record's attribute feeds `service_name`.
    assert data.column("service_name").to_pylist() == own.column("service_name").to_pylist()
    for first, second in [(data, own), (own, data)]:
        groups = encoded("traces", first, second)
        found = {g["scopeSpans"][0]["spans"][0]["name"]: g.get("resource", {}).get("attributes", []) for g in groups}
        assert found == {"a": pairs(service_name="shop"), "b": []}


def test_one_metric_of_two_resources_is_two_metrics() -> None:
    point = {"timeUnixNano": str(START), "asDouble": 1.0}
    metric = {"name": "m", "gauge": {"dataPoints": [point, point]}}
    data = rows("metrics", metric, metric, resource=pairs(service_name="a"))
    groups = encoded("metrics", changed(data, service_name=["a", "b", "b", "a"]))
    counts = [[len(m["gauge"]["dataPoints"]) for m in g["scopeMetrics"][0]["metrics"]] for g in groups]
    assert counts == [[2], [2]]


def test_rows_without_the_columns_of_maps_and_sources_are_read() -> None:
    data = pa.record_batch({"event_name": ["a"], "started_at": pa.array([START], pa.timestamp("ns", "UTC"))})
    [group] = encoded("traces", data)
    assert group["scopeSpans"][0]["spans"] == [{"name": "a", "startTimeUnixNano": str(START)}]


@pytest.mark.parametrize("signal", SHAPES)
def test_rows_of_another_source_are_refused_by_name(signal: str) -> None:
    data = pa.record_batch({"event_source": ["", "otel", "segment.track"], "metric_type": ["gauge"] * 3})
    with pytest.raises(
        NativeError, match=r'row 2, column "event_source": rows of "segment.track" are no OTLP'
    ) as caught:
        encode_otlp(signal, [Batch.from_arrow(data, signal)])
    assert (caught.value.code, caught.value.offset, caught.value.path) == ("unexpected_source", 2, "event_source")


def test_events_have_no_otlp_form() -> None:
    data = pa.record_batch({"event_source": ["otel.span"]})
    with pytest.raises(NativeError, match="events have no OTLP form"):
        encode_otlp("events", [Batch.from_arrow(data, "events")])
    with pytest.raises(ValueError, match="unknown signal"):
        encode_otlp("profiles", [])


MALFORMED: dict[str, tuple[str, dict[str, list[Any]]]] = {
    "context": ("traces", {"context": ['{"resource":']}),
    "context of another form": ("traces", {"context": ["[]"]}),
    "trace_id": ("traces", {"trace_id": ["0af7-651"]}),
    "span_id": ("logs", {"span_id": ["abc"]}),
    "data": ("traces", {"data": ['{"events":[{"time_ns":-1}]}']}),
    "data of a link": ("traces", {"data": ['{"links":[{"trace_id":"xy"}]}']}),
    "data of a body": ("logs", {"data": ['{"body":{"$b64":"?"}}']}),
    "data of a special double": ("logs", {"data": ['{"body":{"a":1,"$f":"NaN"}}']}),
    "metric_type": ("metrics", {"metric_type": ["meter"]}),
    "metric_buckets": ("metrics", {"metric_type": ["histogram"], "metric_buckets": ['{"counts":[1.5]}']}),
    "metric_quantiles": ("metrics", {"metric_type": ["summary"], "metric_quantiles": ["[1]"]}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_cell_that_can_not_be_read_back_is_named(name: str) -> None:
    signal, cells = MALFORMED[name]
    empty = {column: [""] for column in cells} | ({"metric_type": ["gauge"]} if signal == "metrics" else {})
    first, second = pa.record_batch(empty), pa.record_batch(cells)
    with pytest.raises(NativeError) as caught:
        encode_otlp(signal, [Batch.from_arrow(first, signal), Batch.from_arrow(second, signal)])
    assert (caught.value.code, caught.value.offset, caught.value.path) == ("malformed", 1, name.split()[0])


UNFIT: dict[str, Callable[[], pa.Array]] = {
    "trace_id": lambda: pa.array([1]),
    "started_at": lambda: pa.array(["1970-01-01"]),
    "geo_latitude": lambda: pa.array([1]),
    "attributes": lambda: pa.array(["{}"]),
    "labels": lambda: pa.array([[1]]),
}


@pytest.mark.parametrize("column", UNFIT)
def test_a_column_of_a_type_that_can_not_be_is_named(column: str) -> None:
    data = pa.record_batch({column: UNFIT[column]()})
    with pytest.raises(NativeError) as caught:
        encode_otlp("traces", [Batch.from_arrow(data, "traces")])
    assert (caught.value.code, caught.value.offset, caught.value.path) == ("unexpected_type", None, column)


def test_bytes_that_are_no_text_are_refused() -> None:
    data = pa.record_batch({"event_name": pa.array([b"\xff"])})
    with pytest.raises(NativeError) as caught:
        encode_otlp("traces", [Batch.from_arrow(data, "traces")])
    assert (caught.value.code, caught.value.path) == ("malformed", "event_name")
