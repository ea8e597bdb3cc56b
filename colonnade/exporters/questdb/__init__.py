"""Stores metrics in QuestDB, in narrow tables per kind of point, and other rows in a wide table where one is named.

    exporters:
      questdb:
        endpoint: http://127.0.0.1:9000
      questdb/all:
        endpoint: https://questdb.example:9000
        username: admin
        password: quest
        symbols: [service_name, service_instance, ns, http.request.method]
        events_table: {name: events, columns: [event_type, event_name, service_name, trace_id, log_message]}
        ttl: 720h

Points go to `otel_metrics_gauge`, `_sum`, `_histogram`, `_exponential_histogram` and `_summary` (`metrics_tables`),
with nanosecond time, a symbol for every column or attribute that `symbols` names, their attributes as JSON in
`labels`, and the rest of what their resource says as JSON in `resource`. Buckets and quantiles are arrays of doubles.
Traces, logs and events need `events_table`: a pipeline of those without it is an error of the configuration.

Tables are made over `/exec` at start, and completed: missing columns are added, other types are an error that says what
to do. Their key (`DEDUP UPSERT KEYS`) is time, series and occurrence: `series` is a hash of what a point's source says
but its times and values, `occurrence` the row's place in the log. So a slice of the log that is sent again changes
nothing, and two points of one series and time stay two. A table without that key gets rows at least once, and the
exporter says so.

Rows go as line protocol (version 2) over HTTP, about 20,000 rows or 1 s at once. The lines are made in the native
part: the official client takes rows one by one or pandas, not Arrow, and no bytes of others. By way of pandas it
takes three times the CPU per row, and has no nulls of integers (`bench/questdb_client.py` compares them). An answer
204 means stored. 400, 413 and 422 mean that rows are at fault: a refused slice goes in halves until the bad rows are
alone, and those end in the dead-letter folder. Anything else (no answer, 401, 403, 5xx) is waited for while the log
holds. On overload the log fills, and the receivers answer with a delay. QuestDB answers before it has forced rows to
disk, unless its `cairo.commit.mode` is `sync`.

QuestDB takes times from 1970 to 2261, has no NaN, no infinity and no smallest long: they read as null, and
`attributes` tells them (`$metric_value`).

Specification: QuestDB 9.1 or later, ILP over HTTP. The Collector has no component of that name.
"""

from __future__ import annotations

from colonnade.exporters.questdb.config import QuestDBConfig
from colonnade.exporters.questdb.exporter import QuestDBExporter
from colonnade.pipeline.component import ComponentId, Factory, Signal, signals

__all__ = ["QuestDBConfig", "QuestDBExporter", "factory"]


def _create(id: ComponentId, config: QuestDBConfig) -> QuestDBExporter:
    return QuestDBExporter(id, config)


def _lacks(config: QuestDBConfig, signal: Signal) -> str:
    if signal == "metrics" or config.events_table.name:
        return ""
    return "it has tables for metrics alone: write events_table: {name: events} to store other rows in a wide one"


factory = Factory(
    type="questdb",
    kind="exporter",
    config=QuestDBConfig,
    create=_create,
    signals=signals("traces", "metrics", "logs", "events"),
    lacks=_lacks,
)
