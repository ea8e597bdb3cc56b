"""Rows in flight come out of an archive as they went in, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from colonnade import native
from colonnade.native import Batch
from colonnade.unified_schema import columns
from colonnade.unified_schema.parquet import PARTITION_COLUMNS, file_schema
from tests.clickhouse.rows import COLUMNS, array, batch, ns
from tests.decode.test_decode import SPAN, START, traces
from tests.parquet.kit import (
    clickhouse_columns,
    duckdb_columns,
    expected,
    files,
    pyarrow_columns,
    read,
    running,
    slice_of,
    spooled,
)
from tests.servers.clickhouse import ClickHouseServer

# Few rows a group, so that a small test has many.
SMALL = {"row_group": {"max_rows": 16}}


def every(rows: int, seed: int = 0) -> Batch:
    """Every column; three days, three event types."""
    return batch(rows, seed, event_type=expected("event_type", rows, seed))


@pytest.mark.parametrize("reader", ["pyarrow", "duckdb", "clickhouse"])
async def test_every_column_comes_back_as_it_was(reader: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as exporter:
        await exporter.write(slice_of(every(100), every(60, 100)))
        await exporter.write(slice_of(every(40, 160), start=160))
        await exporter.publish("log", 0, 200)
    match reader:
        case "pyarrow":
            found = pyarrow_columns(tmp_path)
        case "duckdb":
            found = duckdb_columns(tmp_path)
        case _:
            server: ClickHouseServer = request.getfixturevalue("clickhouse_server")
            found = clickhouse_columns(tmp_path, server.rows)
    assert len(files(tmp_path)) == 9
    for name in COLUMNS:
        wanted = [f"{i:08d}" for i in range(200)] if name == "correlation_id" else expected(name, 200)
        assert found[name] == wanted, name


async def test_an_archive_of_all_signals_is_one_table_for_every_reader_without_options(
    clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    day = [20_000] * 5
    names = ["id", "event_name", "ns", "correlation_id", "timestamp", "day"]
    async with running(tmp_path) as exporter:
        for number, (kind, column) in enumerate([("log", "log_message"), ("metric", "metric_value"), ("trace", "url")]):
            rows = batch(5, 5 * number, [*names, "event_type", column], event_type=[kind] * 5, day=day)
            await exporter.export(slice_of(rows, start=5 * number))
    archive = f"{tmp_path}/**/*.parquet"
    wanted = {"log": (5, 0), "metric": (0, 4), "trace": (0, 0)}
    shown = "SELECT event_type, count(log_message), count(metric_value) FROM"
    rows = duckdb.sql(f"{shown} read_parquet('{archive}', hive_partitioning = true) GROUP BY ALL").fetchall()
    assert {kind: tuple(counts) for kind, *counts in rows} == wanted
    rows = clickhouse_server.rows(f"{shown} file('{archive}') GROUP BY ALL", use_hive_partitioning="1")
    assert {kind: tuple(counts) for kind, *counts in rows} == wanted
    table = ds.dataset(tmp_path, partitioning="hive").to_table()
    assert sorted(table.column_names) == sorted(COLUMNS)
    assert table["metric_value"].null_count == 11


def test_the_file_has_the_tables_columns_in_its_order_but_those_of_the_folders() -> None:
    assert len(columns()) == 172
    assert file_schema().names == [c.name for c in columns() if c.name not in PARTITION_COLUMNS]
    for column in columns():
        if column.name not in PARTITION_COLUMNS:
            field = file_schema().field(column.name)
            assert field.metadata == {b"PARQUET:field_id": str(column.position).encode()}
            assert field.nullable == (column.nullable and not column.type.startswith("map"))


async def test_columns_have_their_logical_types_true_ranges_and_settings(tmp_path: Path) -> None:
    async with running(tmp_path) as exporter:
        await exporter.export(slice_of(every(300)))
    one = files(tmp_path)[0]
    file = pq.ParquetFile(tmp_path / one)
    kinds = {column.name: str(column.logical_type) for column in map(file.schema.column, range(len(file.schema)))}
    assert kinds["id"] == "UUID"
    assert "isAdjustedToUTC=true, timeUnit=nanoseconds" in kinds["timestamp"]
    assert kinds["service_name"] == kinds["data"] == "String"
    assert (kinds["bot_score"], kinds["geo_asn"]) == (
        "Int(bitWidth=8, isSigned=false)",
        "Int(bitWidth=32, isSigned=false)",
    )
    group = file.metadata.row_group(0)
    chunks = {chunk.path_in_schema: chunk for chunk in map(group.column, range(group.num_columns))}
    rows = file.read()
    for name in ("timestamp", "service_name", "duration_ms", "http_status", "bot_score", "ingested_at"):
        present = [value for value in rows[name].to_pylist() if value is not None]
        ranges = chunks[name].statistics
        assert ranges.null_count == rows[name].null_count
        if name == "timestamp":
            # Python's times end at microseconds.
            assert (ranges.min_raw, ranges.max_raw) == (
                min(rows[name].cast(pa.int64()).to_pylist()),
                max(rows[name].cast(pa.int64()).to_pylist()),
            )
        elif name != "ingested_at":
            assert (ranges.min, ranges.max) == (min(present), max(present))
    assert not chunks["trace_id"].is_stats_set
    assert chunks["trace_id"].bloom_filter_offset
    assert chunks["timestamp"].has_column_index
    assert chunks["timestamp"].has_offset_index
    assert {chunk.compression for chunk in chunks.values()} == {"ZSTD"}
    assert "DELTA_BINARY_PACKED" in chunks["timestamp"].encodings
    assert "DELTA_LENGTH_BYTE_ARRAY" in chunks["trace_id"].encodings
    assert chunks["service_name"].has_dictionary_page
    assert not chunks["http_url"].has_dictionary_page
    pq.read_table(tmp_path / one, page_checksum_verification=True)


@pytest.mark.parametrize(
    ("config", "codec"),
    [({"compression": "none"}, "UNCOMPRESSED"), ({"compression": "gzip", "compression_level": 9}, "GZIP")],
)
async def test_the_codec_is_the_configured_one(config: dict[str, Any], codec: str, tmp_path: Path) -> None:
    async with running(tmp_path, **config) as exporter:
        await exporter.export(slice_of(batch(5, event_type=["log"] * 5, day=[1] * 5)))
    [one] = files(tmp_path)
    assert pq.ParquetFile(tmp_path / one).metadata.row_group(0).column(0).compression == codec


async def test_rows_of_one_service_stand_together(tmp_path: Path) -> None:
    services = [["b", "a", "", "b"][i % 4] for i in range(40)]
    async with running(tmp_path) as exporter:
        rows = batch(40, service_name=services, event_type=["log"] * 40, day=[20_000] * 40)
        await exporter.export(slice_of(rows))
    [one] = files(tmp_path)
    found = pq.read_table(tmp_path / one, columns=["service_name", "correlation_id"])
    wanted = sorted(range(40), key=lambda i: services[i])
    assert [int(n) for n in found["correlation_id"].to_pylist()] == wanted
    assert found["service_name"].to_pylist() == [services[i] or None for i in wanted]


async def test_decoded_rows_that_nobody_completed_go_to_the_day_of_their_time(tmp_path: Path) -> None:
    rows, _ = native.decode("traces", [traces(SPAN)])
    async with running(tmp_path) as exporter:
        await exporter.export(slice_of(rows))
    day = date.fromordinal(date(1970, 1, 1).toordinal() + START // 86_400_000_000_000)
    [one] = files(tmp_path)
    assert one.startswith(f"day={day}/event_type=trace/")
    table = pq.read_table(tmp_path / one)
    assert table["event_name"].to_pylist() == ["GET /cart/{id}"]
    assert (table["ns"].to_pylist(), table["schema_version"].to_pylist()) == ([""], [0])


async def test_rows_that_came_differently_stand_in_one_file(tmp_path: Path) -> None:
    undecided, _ = native.decode("traces", [traces(SPAN)], keep_payload=True)
    day = START // 86_400_000_000_000
    names = ["event_type", "event_name", "correlation_id", "timestamp", "day"]
    known = pa.record_batch(batch(2, 0, names, event_type=["trace"] * 2, event_name=["a", "b"], day=[day] * 2))
    async with running(tmp_path) as exporter:
        await exporter.write(slice_of(undecided, Batch.from_arrow(known, "events", completed=True)))
        await exporter.write(slice_of(undecided, start=3))
        await exporter.publish("log", 0, 4)
    [one] = files(tmp_path)
    found = pq.read_table(tmp_path / one)["event_name"].to_pylist()
    assert sorted(found) == ["GET /cart/{id}", "GET /cart/{id}", "a", "b"]


async def test_a_type_that_no_path_can_hold_is_escaped(tmp_path: Path) -> None:
    types = ["a/../b", "", "50%", "ünï"]
    async with running(tmp_path) as exporter:
        await exporter.export(slice_of(batch(4, event_type=types, day=[20_000] * 4)))
    assert all(one.startswith("day=2024-10-04/event_type=") for one in files(tmp_path))
    assert read(tmp_path)["event_type"].to_pylist() == [kind or None for kind in types]
    assert len(duckdb_columns(tmp_path)["event_type"]) == 4


def extended(rows: int, seed: int, **more: pa.Array) -> Batch:
    """Rows with columns that the table does not have."""
    names = ["event_type", "correlation_id", "timestamp", "day", "ns"]
    known = pa.record_batch(batch(rows, seed, names, event_type=["log"] * rows, day=[20_000] * rows))
    data = pa.record_batch({**dict(zip(known.schema.names, known.columns, strict=True)), **more})
    return Batch.from_arrow(data, "logs", completed=True)


async def test_columns_outside_of_the_table_are_kept_also_when_they_show_up_late(tmp_path: Path) -> None:
    async with running(tmp_path, row_group={"max_rows": 10}) as exporter:
        for start, more in [
            (0, {}),
            (10, {"client_ip": pa.array([f"10.0.0.{i}" for i in range(10)])}),
            (20, {"span_kind": pa.array(["server"] * 10).dictionary_encode()}),
            (30, {}),
        ]:
            await exporter.write(slice_of(extended(10, start, **more), start=start))
        await exporter.publish("log", 0, 40)
        await exporter.export(slice_of(extended(10, 40), start=40))
    first, second = (pq.read_table(tmp_path / one, partitioning=None) for one in files(tmp_path))
    rows = first.sort_by("correlation_id")
    assert [int(n) for n in rows["correlation_id"].to_pylist()] == list(range(40))
    assert rows["client_ip"].to_pylist() == [None] * 10 + [f"10.0.0.{i}" for i in range(10)] + [None] * 20
    assert rows["span_kind"].to_pylist() == [None] * 20 + ["server"] * 10 + [None] * 10
    assert spooled(tmp_path) == []
    assert second.schema == first.schema, "files that begin later have the columns from the start"


async def test_a_column_that_shows_up_after_row_groups_were_written_is_kept(tmp_path: Path) -> None:
    few = ["event_type", "correlation_id", "timestamp", "day", "ns", "service_name"]
    fixed: dict[str, list[Any]] = {"event_type": ["log"] * 10, "day": [20_000] * 10}
    async with running(tmp_path, row_group={"max_rows": 10}) as exporter:
        for seed, names in enumerate([few, [*few, "host_name", "trace_id", "labels"], few, None]):
            await exporter.write(slice_of(batch(10, seed * 10, names, **fixed), start=seed * 10))
        await exporter.publish("log", 0, 40)
    [one] = files(tmp_path)
    assert pq.ParquetFile(tmp_path / one).num_row_groups == 4
    rows = read(tmp_path)
    for name in ("host_name", "trace_id"):
        late = [*expected(name, 40)[10:20], *expected(name, 40)[30:]]
        assert rows[name].to_pylist() == [None] * 10 + late[:10] + [None] * 10 + late[10:]
    assert rows["labels"].null_count == 0


@pytest.mark.parametrize("time", [0, ns(0), 9_223_372_036_000_000_000])
async def test_times_from_1970_to_2262_come_back(
    time: int, clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    data = pa.record_batch(
        {
            "event_type": array("event_type", ["log"]),
            "correlation_id": array("correlation_id", ["00000000"]),
            "timestamp": array("timestamp", [time]),
            "day": array("day", [20_000]),
        }
    )
    async with running(tmp_path) as exporter:
        await exporter.export(slice_of(Batch.from_arrow(data, "logs", completed=True)))
    readers: list[Callable[[], dict[str, list[Any]]]] = [
        lambda: pyarrow_columns(tmp_path),
        lambda: clickhouse_columns(tmp_path, clickhouse_server.rows),
    ]
    for reader in readers:
        assert reader()["timestamp"] == [time]
    assert duckdb.sql(f"SELECT epoch_ns(timestamp) FROM '{tmp_path}/**/*.parquet'").fetchall() == [(time,)]
