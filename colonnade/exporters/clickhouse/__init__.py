"""Stores rows in ClickHouse: in servers over HTTP, or in an engine inside this process.

    exporters:
      clickhouse:
        endpoint: http://127.0.0.1:8123
        database: telemetry
        ttl: 720h
      clickhouse/laptop:
        endpoint: embedded:./data

Every signal goes to one table, `events` (key `table`): the 172 unified columns. Database, table, missing columns and
views are made at start; the views have the names and shapes of the Collector's tables, for readers that expect them.
Columns that rows have besides (`unify: extension_columns`, a processor of your own) are added when they come.

A slice of the log (about 100,000 rows or 5 s; 1 s with an embedded store) becomes one Native block per day, sorted by
the table's key, and one insert each, named by `insert_deduplication_token` after the slice's place in the log: sending
it again changes nothing (the server remembers 10,000 names a table). A store that is down, busy or read-only is waited
for while the log holds; one that is behind is left alone for a while; an insert that is too large for its memory goes
in halves; rows or statements that it can not take end in the dead-letter folder. `exporters/clickhouse/errors.py` has
the table. On overload the log fills, and the receivers answer with a delay.

An embedded store is one per process, holds its folder alone, and outlives a reload. Query it through the extension
`clickhouse_query` while the daemon runs. Every insert is on disk before it counts as stored.

Differences from the Collector's component: `tcp://` and `clickhouse://` endpoints are tried on the HTTP port, with a
warning; the per-signal table names are views of the one table; `async_insert` is always off; `timeout` is 30s;
`ttl` counts from a row's arrival; `database` of an embedded store is `colonnade`; `json: true`, `compress: br` and PEM
texts in `tls` are refused with what to write instead; repeats do not double rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from colonnade.exporters.clickhouse.config import ClickHouseConfig
from colonnade.exporters.clickhouse.exporter import ClickHouseExporter
from colonnade.pipeline.component import ComponentId, Factory, signals

__all__ = ["ClickHouseConfig", "ClickHouseExporter", "check", "embedded", "factory"]


def check(configs: Mapping[Any, ClickHouseConfig]) -> list[str]:
    """What is wrong between the sections of one file: one process has one embedded store."""
    paths: dict[str, list[str]] = {}
    for id, config in configs.items():
        if config.embedded is not None:
            paths.setdefault(os.path.abspath(config.embedded), []).append(str(id))
    if len(paths) < 2:
        return []
    told = "; ".join(f"{', '.join(ids)} at {path}" for path, ids in paths.items())
    return [f"one process has one embedded store, but the file names {len(paths)}: {told}"]


def embedded(configs: Mapping[Any, ClickHouseConfig]) -> bool:
    """Whether any of the sections has an embedded store: the daemon then serves queries by itself."""
    return any(config.embedded is not None for config in configs.values())


def _create(id: ComponentId, config: ClickHouseConfig) -> ClickHouseExporter:
    return ClickHouseExporter(id, config)


factory = Factory(
    type="clickhouse",
    kind="exporter",
    config=ClickHouseConfig,
    create=_create,
    signals=signals("traces", "metrics", "logs", "events"),
)
