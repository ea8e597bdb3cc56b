"""Views of the wide table with the names and shapes of the Collector's tables, for readers that expect those.

Grafana's ClickHouse data source, HyperDX and hand-made dashboards find `otel_traces`, `otel_logs` and the five
`otel_metrics_*` with the columns that the Collector's exporter makes. ClickHouse computes only the columns that a query
names, so a view costs its reader nothing that is not asked for. Attributes that live in columns of their own are shown
under their current names; an attribute that a column was only derived from is shown as it was sent.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from colonnade.unified_schema.clickhouse import TableOptions, literal, quoted

MAP = "Map(LowCardinality(String), String)"

_RESOURCE_KEYS = (
    "browser.",
    "device.",
    "os.",
    "app.",
    "host.",
    "cloud.",
    "container.",
    "k8s.",
    "service.",
    "deployment.",
)
# Columns whose text is not the attribute's own: derived, normalised, or one of several that share the key.
_NOT_ATTRIBUTES = frozenset(
    {
        *("id", "event_name", "correlation_id", "outcome", "outcome_reason", "status_code", "error_message"),
        *("error_stack", "device_type", "rpc_service", "rpc_method", "rpc_status", "log_logger"),
        *("http_host", "http_path", "http_query"),
    }
)
_SPAN_KINDS = {kind: kind.capitalize() for kind in ("internal", "server", "client", "producer", "consumer")}


@cache
def _attributes() -> tuple[dict[str, str], dict[str, str]]:
    """Attribute to column: those of resources, those of records."""
    resource: dict[str, str] = {}
    record: dict[str, str] = {}
    with (Path(__file__).parent / "unified_schema.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            key = row["otel_attributes"].rpartition("|")[2]
            if not key or key.startswith("otlp:") or row["name"] in _NOT_ATTRIBUTES:
                continue
            side = resource if row["group"] == "ServiceInfra" or key.startswith(_RESOURCE_KEYS) else record
            side[key] = row["name"]
    return resource, record


def _map(attributes: dict[str, str], *more: str) -> str:
    """The columns that are not empty as a map, and what other maps say."""
    pairs = ", ".join(f"{literal(key)}, ifNull(toString({column}), '')" for key, column in attributes.items())
    own = f"mapFilter((k, v) -> v != '', map({pairs}))"
    for other in more:
        own = f"mapUpdate({own}, {other})"
    return f"CAST({own}, '{MAP}')"


def _user(column: str) -> str:
    """A stored map without our own keys."""
    return f"CAST(mapFilter((k, v) -> NOT startsWith(k, '$') OR startsWith(k, '$$'), {column}), 'Map(String, String)')"


def _from_json(text: str, *path: str) -> str:
    keys = "".join(f", {literal(key)}" for key in path)
    return f"JSONExtract({text}{keys}, 'Map(String, String)')"


def _array(column: str, key: str, element: str) -> str:
    """One expression per element `e` (JSON text) of an array in a JSON column."""
    return f"arrayMap(e -> {element}, JSONExtractArrayRaw({column}, {literal(key)}))"


_TIME = "fromUnixTimestamp64Nano(JSONExtractInt(e, 'time_ns'), 'UTC')"
_ELEMENT_ATTRIBUTES = f"CAST({_from_json('e', 'attributes')}, '{MAP}')"


def _text(key: str) -> str:
    return f"attributes[{literal(key)}]"


def _resource() -> list[tuple[str, str]]:
    resource, _ = _attributes()
    environment = "if(labels['$env'] = '', map(), map('deployment.environment.name', labels['$env']))"
    return [
        ("ResourceAttributes", _map(resource, environment, _from_json("context", "resource"))),
        ("ResourceSchemaUrl", "JSONExtractString(context, 'resource_schema_url')"),
        ("ScopeName", "toString(log_logger)"),
        ("ScopeVersion", "JSONExtractString(context, 'scope', 'version')"),
        ("ScopeAttributes", f"CAST({_from_json('context', 'scope', 'attributes')}, '{MAP}')"),
        ("ScopeSchemaUrl", "JSONExtractString(context, 'scope', 'schema_url')"),
        ("ServiceName", "service_name"),
    ]


def _traces() -> list[tuple[str, str]]:
    links = {
        name: _array("data", "links", f"JSONExtractString(e, {literal(key)})") for name, key in _LINK_TEXTS.items()
    }
    return [
        ("Timestamp", "if(toUnixTimestamp64Nano(started_at) = 0, timestamp, started_at)"),
        ("TraceId", "trace_id"),
        ("SpanId", "span_id"),
        ("ParentSpanId", "parent_id"),
        ("TraceState", _text("$otlp.trace_state")),
        ("SpanName", "event_name"),
        (
            "SpanKind",
            f"transform(labels['$span_kind'], [{', '.join(map(literal, _SPAN_KINDS))}], "
            f"[{', '.join(map(literal, _SPAN_KINDS.values()))}], 'Unspecified')",
        ),
        *_resource(),
        ("SpanAttributes", _map(_attributes()[1], _user("attributes"))),
        ("Duration", "toUInt64(greatest(0, toUnixTimestamp64Nano(ended_at) - toUnixTimestamp64Nano(started_at)))"),
        ("StatusCode", "multiIf(outcome = '', 'Unset', outcome = 'success', 'Ok', 'Error')"),
        (
            "StatusMessage",
            f"if({_text('$otlp.status_message')} != '', {_text('$otlp.status_message')}, "
            "if(outcome IN ('', 'success'), '', error_message))",
        ),
        ("Events.Timestamp", _array("data", "events", _TIME)),
        ("Events.Name", _array("data", "events", "toLowCardinality(JSONExtractString(e, 'name'))")),
        ("Events.Attributes", _array("data", "events", _ELEMENT_ATTRIBUTES)),
        *links.items(),
        ("Links.Attributes", _array("data", "links", _ELEMENT_ATTRIBUTES)),
    ]


_LINK_TEXTS = {"Links.TraceId": "trace_id", "Links.SpanId": "span_id", "Links.TraceState": "trace_state"}


def _logs() -> list[tuple[str, str]]:
    return [
        ("Timestamp", "timestamp"),
        ("TimestampTime", "toDateTime(timestamp)"),
        ("TraceId", "trace_id"),
        ("SpanId", "span_id"),
        ("TraceFlags", f"toUInt8OrZero({_text('$otlp.flags')})"),
        ("SeverityText", f"if({_text('$otlp.severity_text')} != '', {_text('$otlp.severity_text')}, upper(log_level))"),
        ("SeverityNumber", "log_level_num"),
        *_resource(),
        ("Body", "log_message"),
        ("LogAttributes", _map(_attributes()[1], _user("attributes"))),
        ("EventName", "if(event_name = 'otel.log', '', event_name)"),
    ]


def _metrics(*own: tuple[str, str]) -> list[tuple[str, str]]:
    return [
        *_resource(),
        ("ScopeDroppedAttrCount", "JSONExtractUInt(context, 'scope', 'dropped')::UInt32"),
        ("MetricName", "metric_name"),
        ("MetricDescription", _text("$otlp.description")),
        ("MetricUnit", "metric_unit"),
        ("Attributes", f"CAST({_user('labels')}, '{MAP}')"),
        ("StartTimeUnix", "started_at"),
        ("TimeUnix", "timestamp"),
        *own,
        ("Flags", f"toUInt32OrZero({_text('$otlp.flags')})"),
        ("Exemplars.FilteredAttributes", _array("data", "exemplars", _ELEMENT_ATTRIBUTES)),
        ("Exemplars.TimeUnix", _array("data", "exemplars", _TIME)),
        ("Exemplars.Value", _array("data", "exemplars", "JSONExtractFloat(e, 'value')")),
        ("Exemplars.SpanId", _array("data", "exemplars", "JSONExtractString(e, 'span_id')")),
        ("Exemplars.TraceId", _array("data", "exemplars", "JSONExtractString(e, 'trace_id')")),
    ]


def _buckets(type: str, *path: str) -> str:
    return f"JSONExtract(metric_buckets, {', '.join(map(literal, path))}, {literal(type)})"


_VALUE = ("Value", "ifNull(metric_value, 0)")
_TEMPORALITY = (
    "AggregationTemporality",
    "transform(labels['$temporality'], ['delta', 'cumulative'], [1, 2], 0)::Int32",
)
_COUNT = ("Count", "toUInt64(ifNull(metric_count, 0))")
_SUM = ("Sum", "ifNull(metric_sum, 0)")
_RANGE = (("Min", "ifNull(metric_min, 0)"), ("Max", "ifNull(metric_max, 0)"))

_EXPONENTIAL = (
    ("Scale", _buckets("Int32", "scale")),
    ("ZeroCount", _buckets("UInt64", "zero_count")),
    ("PositiveOffset", _buckets("Int32", "positive", "offset")),
    ("PositiveBucketCounts", _buckets("Array(UInt64)", "positive", "counts")),
    ("NegativeOffset", _buckets("Int32", "negative", "offset")),
    ("NegativeBucketCounts", _buckets("Array(UInt64)", "negative", "counts")),
)
_QUANTILES = "JSONExtractArrayRaw(metric_quantiles)"


def _kinds() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Kind of view to its rows and its columns."""
    return {
        "traces": ("event_type = 'trace'", _traces()),
        "logs": ("event_type = 'log'", _logs()),
        "gauge": ("event_type = 'metric' AND metric_type = 'gauge'", _metrics(_VALUE)),
        "sum": (
            "event_type = 'metric' AND metric_type IN ('counter', 'updown_counter')",
            _metrics(_VALUE, _TEMPORALITY, ("IsMonotonic", "toBool(CAST(metric_type, 'String') = 'counter')")),
        ),
        "histogram": (
            "event_type = 'metric' AND metric_type = 'histogram'",
            _metrics(
                *(_COUNT, _SUM, ("BucketCounts", _buckets("Array(UInt64)", "counts"))),
                *(("ExplicitBounds", _buckets("Array(Float64)", "bounds")), *_RANGE, _TEMPORALITY),
            ),
        ),
        "exponential_histogram": (
            "event_type = 'metric' AND metric_type = 'exponential_histogram'",
            _metrics(_COUNT, _SUM, *_EXPONENTIAL, *_RANGE, _TEMPORALITY),
        ),
        "summary": (
            "event_type = 'metric' AND metric_type = 'summary'",
            _metrics(
                _COUNT,
                _SUM,
                ("ValueAtQuantiles.Quantile", f"arrayMap(e -> JSONExtractFloat(e, 'quantile'), {_QUANTILES})"),
                ("ValueAtQuantiles.Value", f"arrayMap(e -> JSONExtractFloat(e, 'value'), {_QUANTILES})"),
            ),
        ),
    }


def create_views(options: TableOptions, views: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of name and statement for the wanted views (kind to name; an empty name: none)."""
    found: list[tuple[str, str]] = []
    for kind, (rows, columns) in _kinds().items():
        name = views.get(kind, "")
        if not name:
            continue
        shown = ",\n    ".join(f"{expression} AS {quoted(column)}" for column, expression in columns)
        found.append((name, f"{_create(options, name)}SELECT\n    {shown}\nFROM {options.name()}\nWHERE {rows}"))
        if kind == "traces":
            found.append((f"{name}_trace_id_ts", _trace_times(options, name)))
    return found


def _create(options: TableOptions, name: str) -> str:
    return f"CREATE OR REPLACE VIEW {options.name(name)}{options.on_cluster} AS\n"


def _trace_times(options: TableOptions, traces: str) -> str:
    """When each trace began and ended: readers narrow their search for a trace's spans by it."""
    times = "trace_id AS TraceId, min(timestamp) AS Start, max(timestamp) AS End"
    rows = "event_type = 'trace' AND trace_id != '' GROUP BY trace_id"
    return f"{_create(options, f'{traces}_trace_id_ts')}SELECT {times} FROM {options.name()} WHERE {rows}"
