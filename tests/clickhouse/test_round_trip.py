"""Rows in flight come out of a server, and of the embedded engine, as they went in."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from colonnade.exporters.clickhouse import ClickHouseExporter
from colonnade.native import Batch
from colonnade.pipeline.errors import Permanent
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


EXTENSIONS: dict[str, pa.Array] = {
    "span_kind": pa.array(["server", None, "client"]).dictionary_encode().fill_null(""),
    "tier": pa.array(["gold", "", "free"]),
    "seats": pa.array([5, None, 0], pa.int32()),
    "discount": pa.array([0.5, None, 0.0]),
    "trial": pa.array([True, None, False]),
    "renewed": pa.array([1_790_000_000_123_456_789, None, 0], pa.timestamp("ns", "UTC")),
    "closes": pa.array([date(2026, 11, 25), None, date(1970, 1, 1)]),
}


def extended(columns: dict[str, pa.Array]) -> Batch:
    table = pa.record_batch(batch(3, 0, ["timestamp", "day", "correlation_id"]))
    for name, array in columns.items():
        table = table.append_column(name, array)
    return Batch.from_arrow(table, "traces", completed=True)


async def test_columns_that_the_schema_lacks_are_added_to_the_table(config: dict[str, Any]) -> None:
    async with running(config) as exporter:
        await exporter.export(slice_of(batch(3, 3), log="before"))
        await exporter.export(slice_of(batch(3, 6), extended(EXTENSIONS), log="with"))
        shown = ", ".join(EXTENSIONS).replace("renewed", "toUnixTimestamp64Nano(renewed)")
        rows = answer(exporter, f"SELECT {shown} FROM {exporter._options.name()} ORDER BY correlation_id")
    assert rows == [
        ["server", "gold", 5, 0.5, True, 1_790_000_000_123_456_789, "2026-11-25"],
        ["", "", None, None, None, None, None],
        ["client", "free", 0, 0.0, False, 0, "1970-01-01"],
        *[["", "", None, None, None, None, None]] * 6,
    ]


async def test_columns_are_named_when_no_table_may_be_changed(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(config) as exporter:
        await exporter._ready()
    async with running(config | {"create_schema": False}) as exporter:
        for log in "ab":
            await exporter.export(slice_of(extended(EXTENSIONS), log=log))
        assert answer(exporter, f"SELECT count() FROM {exporter._options.name()}") == [[6]]
    told = [line for line in caplog.messages if "whose values are not stored" in line]
    assert len(told) == 1
    assert [name for name in EXTENSIONS if name not in told[0]] == []


async def test_a_column_of_a_type_that_the_table_can_not_have_is_refused(config: dict[str, Any]) -> None:
    async with running(config) as exporter:
        with pytest.raises(Permanent, match=r"'tags' is list<item: string>, which is not sent to ClickHouse"):
            await exporter.export(slice_of(extended({"tags": pa.array([["a"], [], ["b"]])})))
