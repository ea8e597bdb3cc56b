"""Verbosity `detailed`: every field of every record, as the Collector's debug exporter writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from colonnade.exporters.debug.otlp import Message
from colonnade.exporters.debug.values import bound, fixed, growth, identifier, timestamp, typed

_SPAN_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
_STATUS_CODES = ("Unset", "Ok", "Error")
_TEMPORALITIES = ("Unspecified", "Delta", "Cumulative")
_LEVELS = ("Trace", "Debug", "Info", "Warn", "Error", "Fatal")
_SEVERITIES = ("Unspecified", *(f"{level}{n}" for level in _LEVELS for n in ("", 2, 3, 4)))
_METRIC_TYPES = {
    "gauge": "Gauge",
    "sum": "Sum",
    "histogram": "Histogram",
    "exponential_histogram": "ExponentialHistogram",
    "summary": "Summary",
}


def traces(resources: Iterable[Message]) -> Iterator[str]:
    """Lines of ResourceSpans."""
    for number, resource in enumerate(resources):
        yield f"ResourceSpans #{number}"
        yield from _resource(resource)
        for inner, scope in enumerate(resource["scope_spans"]):
            yield f"ScopeSpans #{inner}"
            yield from _scope("ScopeSpans", scope)
            for at, span in enumerate(scope["spans"]):
                yield f"Span #{at}"
                yield from _span(span)


def logs(resources: Iterable[Message]) -> Iterator[str]:
    """Lines of ResourceLogs."""
    for number, resource in enumerate(resources):
        yield f"ResourceLog #{number}"
        yield from _resource(resource)
        for inner, scope in enumerate(resource["scope_logs"]):
            yield f"ScopeLogs #{inner}"
            yield from _scope("ScopeLogs", scope)
            for at, record in enumerate(scope["log_records"]):
                yield f"LogRecord #{at}"
                yield from _log_record(record)


def metrics(resources: Iterable[Message]) -> Iterator[str]:
    """Lines of ResourceMetrics."""
    for number, resource in enumerate(resources):
        yield f"ResourceMetrics #{number}"
        yield from _resource(resource)
        for inner, scope in enumerate(resource["scope_metrics"]):
            yield f"ScopeMetrics #{inner}"
            yield from _scope("ScopeMetrics", scope)
            for at, metric in enumerate(scope["metrics"]):
                yield f"Metric #{at}"
                yield from _metric(metric)


def _resource(resource: Message) -> Iterator[str]:
    yield f"Resource SchemaURL: {resource['schema_url']}"
    yield from _attributes("Resource attributes", resource["resource"]["attributes"])
    references = resource["resource"]["entity_refs"]
    if references:
        yield "Resource entity refs:"
    for number, reference in enumerate(references):
        yield f"     -> Entity ref #{number}:"
        yield f"          -> Type: {reference['type']}"
        if reference["schema_url"]:
            yield f"          -> Schema URL: {reference['schema_url']}"
        for title, keys in (("ID keys", reference["id_keys"]), ("Description keys", reference["description_keys"])):
            if keys:
                yield f"          -> {title}:"
            yield from (f"               -> {key}" for key in keys)


def _scope(kind: str, scope: Message) -> Iterator[str]:
    yield f"{kind} SchemaURL: {scope['schema_url']}"
    yield f"InstrumentationScope {scope['scope']['name']} {scope['scope']['version']}"
    yield from _attributes("InstrumentationScope attributes", scope["scope"]["attributes"])


def _span(span: Message) -> Iterator[str]:
    yield _field("Trace ID", identifier(span["trace_id"]))
    yield _field("Parent ID", identifier(span["parent_span_id"]))
    yield _field("ID", identifier(span["span_id"]))
    yield _field("Name", span["name"])
    yield _field("Kind", _word(_SPAN_KINDS, span["kind"]))
    if span["trace_state"]:
        yield _field("TraceState", span["trace_state"])
    yield _field("Start time", timestamp(span["start_time"]))
    yield _field("End time", timestamp(span["end_time"]))
    yield _field("Status code", _word(_STATUS_CODES, span["status"]["code"]))
    yield _field("Status message", span["status"]["message"])
    yield _field("DroppedAttributesCount", span["dropped_attributes"])
    yield _field("DroppedEventsCount", span["dropped_events"])
    yield _field("DroppedLinksCount", span["dropped_links"])
    yield from _attributes("Attributes", span["attributes"])
    yield from _list("Events", "SpanEvent", span["events"], _event)
    yield from _list("Links", "SpanLink", span["links"], _link)


def _event(event: Message) -> Iterator[str]:
    yield f"     -> Name: {event['name']}"
    yield f"     -> Timestamp: {timestamp(event['time'])}"
    yield f"     -> DroppedAttributesCount: {event['dropped_attributes']}"
    yield from _attributes("     -> Attributes:", event["attributes"])


def _link(link: Message) -> Iterator[str]:
    yield f"     -> Trace ID: {identifier(link['trace_id'])}"
    yield f"     -> ID: {identifier(link['span_id'])}"
    yield f"     -> TraceState: {link['trace_state']}"
    yield f"     -> DroppedAttributesCount: {link['dropped_attributes']}"
    yield from _attributes("     -> Attributes:", link["attributes"])


def _log_record(record: Message) -> Iterator[str]:
    number = record["severity_number"]
    yield f"ObservedTimestamp: {timestamp(record['observed_time'])}"
    yield f"Timestamp: {timestamp(record['time'])}"
    yield f"SeverityText: {record['severity_text']}"
    yield f"SeverityNumber: {_word(_SEVERITIES, number)}({number})"
    if record["event_name"]:
        yield f"EventName: {record['event_name']}"
    yield f"Body: {typed(record['body'])}"
    yield from _attributes("Attributes", record["attributes"])
    yield f"Trace ID: {identifier(record['trace_id'])}"
    yield f"Span ID: {identifier(record['span_id'])}"
    yield f"Flags: {record['flags']}"


def _metric(metric: Message) -> Iterator[str]:
    kind = next((kind for kind in _METRIC_TYPES if kind in metric), "")
    yield "Descriptor:"
    yield f"     -> Name: {metric['name']}"
    yield f"     -> Description: {metric['description']}"
    yield f"     -> Unit: {metric['unit']}"
    yield f"     -> DataType: {_METRIC_TYPES.get(kind, 'Empty')}"
    yield from _attributes("     -> Metadata", metric["metadata"])
    data = metric.get(kind, {})
    if kind == "sum":
        yield f"     -> IsMonotonic: {'true' if data['is_monotonic'] else 'false'}"
    if kind in ("sum", "histogram", "exponential_histogram"):
        yield f"     -> AggregationTemporality: {_word(_TEMPORALITIES, data['temporality'])}"
    name, told = {
        "histogram": ("HistogramDataPoints", _histogram),
        "exponential_histogram": ("ExponentialHistogramDataPoints", _exponential_histogram),
        "summary": ("SummaryDataPoints", _summary),
    }.get(kind, ("NumberDataPoints", _number))
    for number, point in enumerate(data.get("points", [])):
        yield f"{name} #{number}"
        yield from _attributes("Data point attributes", point["attributes"])
        yield f"StartTimestamp: {timestamp(point['start_time'])}"
        yield f"Timestamp: {timestamp(point['time'])}"
        yield from told(point)
        yield from _list("Exemplars", "Exemplar", point.get("exemplars", []), _exemplar)


def _number(point: Message) -> Iterator[str]:
    if "as_int" in point:
        yield f"Value: {point['as_int']}"
    elif "as_double" in point:
        yield f"Value: {fixed(point['as_double'])}"


def _totals(point: Message) -> Iterator[str]:
    yield f"Count: {point['count']}"
    for name in ("sum", "min", "max"):
        if name in point:
            yield f"{name.title()}: {fixed(point[name])}"


def _histogram(point: Message) -> Iterator[str]:
    yield from _totals(point)
    yield from (f"ExplicitBounds #{at}: {fixed(bound)}" for at, bound in enumerate(point["explicit_bounds"]))
    yield from (f"Buckets #{at}, Count: {count}" for at, count in enumerate(point["bucket_counts"]))


def _exponential_histogram(point: Message) -> Iterator[str]:
    yield from _totals(point)
    factor = growth(point["scale"])
    below: list[int] = point["negative"]["bucket_counts"]
    for at, count in reversed(list(enumerate(below))):
        index = point["negative"]["offset"] + at
        yield f"Bucket [{fixed(-bound(index + 1, factor))}, {fixed(-bound(index, factor))}), Count: {count}"
    if point["zero_count"]:
        yield f"Bucket [0, 0], Count: {point['zero_count']}"
    for at, count in enumerate(point["positive"]["bucket_counts"]):
        index = point["positive"]["offset"] + at
        yield f"Bucket ({fixed(bound(index, factor))}, {fixed(bound(index + 1, factor))}], Count: {count}"


def _summary(point: Message) -> Iterator[str]:
    yield f"Count: {point['count']}"
    yield f"Sum: {fixed(point['sum'])}"
    for at, quantile in enumerate(point["quantiles"]):
        told = f"Quantile {fixed(quantile['quantile'])}, Value {fixed(quantile['value'])}"
        yield f"QuantileValue #{at}: {told}"


def _exemplar(exemplar: Message) -> Iterator[str]:
    yield f"     -> Trace ID: {identifier(exemplar['trace_id'])}"
    yield f"     -> Span ID: {identifier(exemplar['span_id'])}"
    yield f"     -> Timestamp: {timestamp(exemplar['time'])}"
    yield from (f"     -> {line}" for line in _number(exemplar))
    yield from _attributes("     -> FilteredAttributes", exemplar["attributes"])


def _list(title: str, name: str, items: list[Message], told: Any) -> Iterator[str]:
    if items:
        yield f"{title}:"
    for number, item in enumerate(items):
        yield f"{name} #{number}"
        yield from told(item)


def _attributes(title: str, attributes: list[Message]) -> Iterator[str]:
    """A list below its title; titles that are items themselves indent it further."""
    indent = title.split("->")[0] if "->" in title else ""
    if attributes:
        yield f"{title}:"
    yield from (f"{indent}     -> {attribute['key']}: {typed(attribute['value'])}" for attribute in attributes)


def _field(name: str, value: object) -> str:
    return f"    {name:<15}: {value}"


def _word(words: tuple[str, ...], number: int) -> str:
    """The word of a number; empty where it has none."""
    return words[number] if 0 <= number < len(words) else ""
