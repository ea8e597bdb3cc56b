"""Readers of the Collector's tables find them: names, columns, and what the rows say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clickhouse.kit import running, slice_of
from tests.clickhouse.rows import BASE_NS, batch
from tests.servers.clickhouse import ClickHouseServer

CONTEXT = json.dumps(
    {
        "resource": {"team": "payments", "replicas": 3, "tags": ["a", "b"]},
        "resource_schema_url": "https://schema",
        "scope": {"version": "1.2", "attributes": {"lib": "x"}},
    }
)
COMMON: dict[str, list[Any]] = {
    "timestamp": [BASE_NS + 5],
    "started_at": [BASE_NS],
    "ended_at": [BASE_NS + 1_500_000],
    "day": [20_717],
    "service_name": ["cart"],
    "host_name": ["node1"],
    "log_logger": ["scope.name"],
    "context": [CONTEXT],
    "trace_id": ["0af7651916cd43dd8448eb211c80319c"],
    "span_id": ["b7ad6b7169203331"],
}
RESOURCE = {"service.name": "cart", "host.name": "node1", "team": "payments", "replicas": "3", "tags": '["a","b"]'}


async def shown(server: ClickHouseServer, database: str, view: str, rows: dict[str, list[Any]]) -> dict[str, Any]:
    """The one row of a view, after storing one row."""
    given = COMMON | rows
    async with running({"endpoint": server.url, "database": database}) as exporter:
        await exporter.export(slice_of(batch(1, 0, list(given), **given)))
    answer = server.query(
        f"SELECT * FROM {database}.{view} FORMAT JSONEachRow", output_format_json_quote_64bit_integers="0"
    )
    assert answer, "the view shows no row"
    return json.loads(answer)


async def test_spans(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    event = {"time_ns": BASE_NS + 7, "name": "exception", "attributes": {"n": 1, "s": "x"}}
    link = {"trace_id": "aa", "span_id": "bb", "attributes": {"k": "v"}}
    row = await shown(
        clickhouse_server,
        clickhouse_database,
        "otel_traces",
        {
            "event_type": ["trace"],
            "event_name": ["GET /cart"],
            "outcome": ["error"],
            "error_message": ["boom"],
            "http_method": ["GET"],
            "http_status": [500],
            "labels": [[("$span_kind", "server"), ("$env", "prod")]],
            "attributes": [
                [("cart.size", {"kind": 3, "text": "4"}), ("$otlp.trace_state", {"kind": 1, "text": "a=b"})]
            ],
            "data": [json.dumps({"events": [event], "links": [link]})],
        },
    )
    assert row["Timestamp"].startswith("2026-")
    assert (row["SpanName"], row["SpanKind"], row["Duration"]) == ("GET /cart", "Server", 1_500_000)
    assert (row["StatusCode"], row["StatusMessage"], row["TraceState"]) == ("Error", "boom", "a=b")
    assert row["ResourceAttributes"] == RESOURCE | {"deployment.environment.name": "prod"}
    assert row["SpanAttributes"] == {
        "http.request.method": "GET",
        "http.response.status_code": "500",
        "cart.size": "4",
    }
    assert (row["ScopeName"], row["ScopeVersion"]) == ("scope.name", "1.2")
    assert (row["Events.Name"], row["Events.Attributes"]) == (["exception"], [{"n": "1", "s": "x"}])
    assert (row["Links.TraceId"], row["Links.Attributes"]) == (["aa"], [{"k": "v"}])
    times = clickhouse_server.rows(f"SELECT TraceId FROM {clickhouse_database}.otel_traces_trace_id_ts")
    assert times == [[COMMON["trace_id"][0]]]


async def test_logs(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    row = await shown(
        clickhouse_server,
        clickhouse_database,
        "otel_logs",
        {
            "event_type": ["log"],
            "event_name": ["otel.log"],
            "log_level": ["warn"],
            "log_level_num": [13],
            "log_message": ["low stock"],
            "attributes": [[("sku", {"kind": 1, "text": "x1"}), ("$otlp.flags", {"kind": 3, "text": "1"})]],
        },
    )
    assert (row["Body"], row["SeverityText"], row["SeverityNumber"], row["TraceFlags"]) == ("low stock", "WARN", 13, 1)
    assert (row["LogAttributes"], row["EventName"]) == ({"sku": "x1"}, "")
    assert (row["ResourceAttributes"], row["ScopeAttributes"]) == (RESOURCE, {"lib": "x"})


METRICS: dict[str, tuple[dict[str, list[Any]], dict[str, Any]]] = {
    "gauge": ({"metric_type": ["gauge"], "metric_value": [1.5]}, {"Value": 1.5}),
    "sum": (
        {"metric_type": ["counter"], "metric_value": [7.0], "labels": [[("$temporality", "delta"), ("sku", "x")]]},
        {"Value": 7, "AggregationTemporality": 1, "IsMonotonic": True, "Attributes": {"sku": "x"}},
    ),
    "histogram": (
        {
            "metric_type": ["histogram"],
            "metric_count": [6],
            "metric_sum": [1.5],
            "metric_buckets": ['{"bounds":[0.5,1.0],"counts":[1,2,3]}'],
            "labels": [[("$temporality", "cumulative")]],
        },
        {"Count": 6, "Sum": 1.5, "BucketCounts": [1, 2, 3], "ExplicitBounds": [0.5, 1], "AggregationTemporality": 2},
    ),
    "exp_histogram": (
        {
            "metric_type": ["exponential_histogram"],
            "metric_count": [6],
            "metric_buckets": [
                '{"scale":2,"zero_count":1,"positive":{"offset":-3,"counts":[1,2]},"negative":{"offset":0,"counts":[]}}'
            ],
        },
        {"Scale": 2, "ZeroCount": 1, "PositiveOffset": -3, "PositiveBucketCounts": [1, 2], "NegativeBucketCounts": []},
    ),
    "summary": (
        {"metric_type": ["summary"], "metric_count": [2], "metric_quantiles": ['[{"quantile":0.5,"value":3.5}]']},
        {"Count": 2, "ValueAtQuantiles.Quantile": [0.5], "ValueAtQuantiles.Value": [3.5]},
    ),
}


@pytest.mark.parametrize("kind", METRICS)
async def test_metrics(clickhouse_server: ClickHouseServer, clickhouse_database: str, kind: str) -> None:
    given, expected = METRICS[kind]
    exemplar = {"time_ns": BASE_NS, "value": 2.5, "trace_id": "aa", "span_id": "bb", "attributes": {"k": "v"}}
    named = {"event_type": ["metric"], "metric_name": ["orders"], "data": [json.dumps({"exemplars": [exemplar]})]}
    row = await shown(clickhouse_server, clickhouse_database, f"otel_metrics_{kind}", named | given)
    assert {name: row[name] for name in expected} == expected
    assert (row["MetricName"], row["ServiceName"], row["Exemplars.Value"]) == ("orders", "cart", [2.5])


async def test_a_table_of_that_name_is_left_alone(
    clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    clickhouse_server.query(f"CREATE DATABASE {clickhouse_database}")
    clickhouse_server.query(f"CREATE TABLE {clickhouse_database}.otel_logs (a Int8) ENGINE = MergeTree ORDER BY a")
    async with running({"endpoint": clickhouse_server.url, "database": clickhouse_database}) as exporter:
        await exporter._ready()
    found = clickhouse_server.rows(
        f"SELECT name, engine FROM system.tables WHERE database = '{clickhouse_database}' ORDER BY name"
    )
    assert [name for name, engine in found if engine == "View"] == [
        *("otel_metrics_exp_histogram", "otel_metrics_gauge", "otel_metrics_histogram", "otel_metrics_sum"),
        *("otel_metrics_summary", "otel_traces", "otel_traces_trace_id_ts"),
    ]
    assert ["otel_logs", "MergeTree"] in found
