"""A parquet exporter as a pipeline would run it, and what readers say of its archive."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from colonnade.exporters.parquet import ParquetConfig, ParquetExporter, factory
from colonnade.native import Batch
from colonnade.pipeline.component import ComponentId, Slice
from colonnade.pipeline.log import Append, MemoryLog
from colonnade.pipeline.sender import slice_limits
from colonnade.pipeline.stream import StreamSender
from colonnade.unified_schema import columns
from tests.clickhouse.rows import COLUMNS, values
from tests.pipeline.kit import FakeHost

NULLABLE = {c.name: c.nullable and not c.type.startswith("map") for c in columns()}
DAYS = ds.partitioning(pa.schema([("day", pa.date32()), ("event_type", pa.string())]), flavor="hive")
TYPES = ("trace", "log", "metric")
DRAIN_S = 30


def exporter_of(path: Path, id: str = "parquet", **config: Any) -> ParquetExporter:
    made = factory.create(ComponentId.parse(id), ParquetConfig.model_validate({"path": str(path), **config}))
    assert isinstance(made, ParquetExporter)
    return made


@asynccontextmanager
async def running(path: Path, id: str = "parquet", **config: Any) -> AsyncIterator[ParquetExporter]:
    exporter = exporter_of(path, id, **config)
    await exporter.start(FakeHost(id))
    try:
        yield exporter
    finally:
        await exporter.shutdown()


def slice_of(*batches: Batch, log: str = "log", start: int = 0) -> Slice:
    rows = sum(batch.rows for batch in batches)
    return Slice(log, "traces", "traces", start, start + rows, list(batches), rows, sum(b.nbytes for b in batches))


class Rig:
    """A log in memory, with a sender to a running exporter; the clock stands until it is moved."""

    def __init__(self, exporter: ParquetExporter, folder: Path) -> None:
        self.now_s = 1000.0
        self.exporter = exporter
        self.host = FakeHost(str(exporter.id), folder)
        self.log = MemoryLog("traces", "traces", self.clock)
        self.sender = StreamSender(self.log, exporter, self.host, slice_limits(exporter, []), clock=self.clock)
        self.sender.start()

    def clock(self) -> float:
        return self.now_s

    def append(self, *batches: Batch) -> None:
        rows, nbytes = sum(b.rows for b in batches), sum(b.nbytes for b in batches)
        self.log.append(self.log.reserve(Append(b"i" * 16, list(batches), rows, nbytes)))

    async def drain(self) -> None:
        assert await self.sender.drain(DRAIN_S) == 0


def files(path: Path) -> list[str]:
    """Published files, below the archive."""
    return sorted(str(found.relative_to(path)) for found in path.glob("day=*/**/*.parquet"))


def spooled(path: Path) -> list[Path]:
    return sorted(path.glob(".unpublished/*/*.tmp"))


def read(path: Path) -> pa.Table:
    """Every row, by number, as pyarrow reads it."""
    return ds.dataset(path, partitioning=DAYS).to_table().sort_by("correlation_id")


def numbers(path: Path) -> list[int]:
    """The numbers of all rows, ascending; empty for an archive without files."""
    return [int(n) for n in read(path)["correlation_id"].to_pylist()] if files(path) else []


def expected(name: str, rows: int, seed: int = 0, types: tuple[str, ...] = TYPES) -> list[Any]:
    """What the archive should say of `tests.clickhouse.rows.values`: UUIDs, times in nanoseconds, maps as dict."""
    if name == "event_type":
        return [types[(seed + i) % len(types)] for i in range(rows)]
    held = values(name, rows, seed)
    match COLUMNS[name]:
        case "uuid":
            return [uuid.UUID(bytes=value) for value in held]
        case "map<string,any>":
            return [_typed(value) for value in held]
        case "map<string,string>":
            return [dict(value) for value in held]
        case "string" | "lc_string" | "json" | "bytes":
            return [(value or None) if NULLABLE[name] else value for value in held]
        case "date32":
            return held
        case _:
            return held if NULLABLE[name] else [value or 0 for value in held]


def _typed(entries: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    found = {key: value["text"] for key, value in entries}
    types = ",".join(f"{key}={value['kind']}" for key, value in entries if value["kind"] != 1)
    return found | ({"$otlp.types": types} if types else {})


def pyarrow_columns(path: Path) -> dict[str, list[Any]]:
    def column(name: str, data: Any) -> list[Any]:
        match COLUMNS[name]:
            case "timestamp_ns":
                return data.cast(pa.int64()).to_pylist()
            case "date32":
                return data.cast(pa.int32()).to_pylist()
            case kind if kind.startswith("map"):
                return [dict(value) for value in data.to_pylist()]
            case "uuid":
                return [value and uuid.UUID(bytes=value) for value in data.cast(pa.binary(16)).to_pylist()]
            case _:
                return data.to_pylist()

    rows = read(path)
    return {name: column(name, rows[name].combine_chunks()) for name in COLUMNS}


def duckdb_columns(path: Path) -> dict[str, list[Any]]:
    shown = {"timestamp_ns": "epoch_ns({})", "date32": "datediff('day', DATE '1970-01-01', {})"}
    wanted = ", ".join(shown.get(kind, "{}").format(name) for name, kind in COLUMNS.items())
    archive = f"read_parquet('{path}/**/*.parquet', hive_partitioning = true)"
    rows = duckdb.sql(f"SELECT {wanted} FROM {archive} ORDER BY correlation_id").fetchall()
    return dict(zip(COLUMNS, (list(column) for column in zip(*rows, strict=True)), strict=True))


def clickhouse_columns(path: Path, query: Callable[..., list[list[Any]]]) -> dict[str, list[Any]]:
    shown = {
        "timestamp_ns": "toUnixTimestamp64Nano({})",
        "date32": "toInt32({})",
        "bytes": "hex({})",
    }
    wanted = ", ".join(shown.get(kind, "{}").format(name) for name, kind in COLUMNS.items())
    sql = f"SELECT {wanted} FROM file('{path}/**/*.parquet') ORDER BY correlation_id"
    rows = query(sql, use_hive_partitioning="1")
    found = dict(zip(COLUMNS, (list(column) for column in zip(*rows, strict=True)), strict=True))
    for name, kind in COLUMNS.items():
        if kind == "uuid":
            found[name] = [value and uuid.UUID(value) for value in found[name]]
        if kind == "bytes":
            found[name] = [None if value is None else bytes.fromhex(value) for value in found[name]]
    return found
