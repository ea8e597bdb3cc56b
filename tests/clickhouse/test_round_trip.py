"""Rows in flight come out of a server, and of the embedded engine, as they went in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colonnade.exporters.clickhouse import ClickHouseExporter
from tests.clickhouse.kit import running, slice_of
from tests.clickhouse.rows import COLUMNS, batch, select, stored
from tests.servers.clickhouse import ClickHouseServer

JSON = " FORMAT JSONCompactEachRow SETTINGS output_format_json_quote_64bit_integers = 0"


def answer(exporter: ClickHouseExporter, sql: str) -> list[list[Any]]:
    """The rows of a query, through the exporter's own store."""
    store: Any = exporter._store
    if hasattr(store, "_engine"):
        text = store._engine.query(sql + JSON)
    else:
        text = store._try(lambda client: client.raw_query(sql + JSON))
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(params=["server", "embedded"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "embedded":
        return {"endpoint": f"embedded:{tmp_path}/store"}
    server: ClickHouseServer = request.getfixturevalue("clickhouse_server")
    return {"endpoint": server.url, "database": request.getfixturevalue("clickhouse_database")}


async def test_every_column_comes_back_as_it_was(config: dict[str, Any]) -> None:
    async with running(config) as exporter:
        await exporter.export(slice_of(batch(30), batch(20, 30)))
        rows = answer(exporter, select(exporter._options.name()))
        columns = list(zip(*rows, strict=True))
        for number, name in enumerate(COLUMNS):
            if name == "correlation_id":
                continue
            same = "timestamp" if name == "timestamp_ns" else name
            assert list(columns[number]) == stored(same, 50), name


async def test_batches_with_different_columns_make_one_block(config: dict[str, Any]) -> None:
    few = ["timestamp", "day", "correlation_id", "ns", "service_name", "duration_ms", "labels"]
    async with running(config) as exporter:
        await exporter.export(slice_of(batch(5, 0, few), batch(5, 5, [*few[:4], "trace_id", "attributes"])))
        name = exporter._options.name()
        rows = answer(
            exporter, f"SELECT trace_id, service_name, duration_ms, labels FROM {name} ORDER BY correlation_id"
        )
        assert [row[0] for row in rows] == [""] * 5 + stored("trace_id", 5, 5)
        assert [row[1] for row in rows] == stored("service_name", 5) + [""] * 5
        assert [row[2] for row in rows] == stored("duration_ms", 5) + [None] * 5
        assert [row[3] for row in rows] == stored("labels", 5) + [{}] * 5


async def test_many_distinct_low_cardinality_values_widen_the_index(config: dict[str, Any]) -> None:
    rows = 70_000
    names = [f"service {i}" for i in range(rows)]
    columns = ["timestamp", "day", "service_name", "correlation_id"]
    async with running(config) as exporter:
        await exporter.export(slice_of(batch(rows, 0, columns, service_name=names, day=[20_000] * rows)))
        name = exporter._options.name()
        found = answer(
            exporter,
            f"SELECT count(), countIf(service_name != 'service ' || toUInt64(correlation_id)::String) FROM {name}",
        )
        assert found == [[rows, 0]]


async def test_sending_a_slice_again_changes_nothing(config: dict[str, Any]) -> None:
    part = slice_of(batch(40), log="a", start=100)
    async with running(config) as exporter:
        for _ in range(3):
            await exporter.export(part)
        await exporter.export(slice_of(batch(40), log="b", start=100))
        name = exporter._options.name()
        assert answer(exporter, f"SELECT count(), uniqExact(day) FROM {name}") == [[80, 3]]


async def test_all_172_columns_can_be_asked_for(config: dict[str, Any]) -> None:
    async with running(config) as exporter:
        await exporter._ready()
        where = f"database = '{exporter._options.database}' AND table = 'events'"
        names = answer(exporter, f"SELECT name FROM system.columns WHERE {where} ORDER BY position")
        assert [row[0] for row in names] == list(COLUMNS)
        assert len(names) == 172
