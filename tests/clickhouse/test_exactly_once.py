"""A repeat doubles nothing: after a lost answer, after a crash, in halves, and when the server has forgotten names."""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path
from typing import Any

import pytest

from colonnade.exporters.clickhouse import ClickHouseExporter
from colonnade.exporters.clickhouse.errors import StoreError
from colonnade.pipeline.component import Slice
from colonnade.pipeline.errors import Permanent, Retryable
from colonnade.pipeline.halving import rows_of
from tests.clickhouse.kit import running, slice_of
from tests.clickhouse.rows import batch
from tests.servers.clickhouse import ClickHouseServer

FEW = ["id", "timestamp", "day", "correlation_id", "ns", "service_name", "duration_ms", "batch_id"]
FORGETFUL = {"non_replicated_deduplication_window": "3"}


@pytest.fixture(params=["server", "embedded"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "embedded":
        return {"endpoint": f"embedded:{tmp_path}/store", "table_settings": FORGETFUL}
    server: ClickHouseServer = request.getfixturevalue("clickhouse_server")
    database = request.getfixturevalue("clickhouse_database")
    return {"endpoint": server.url, "database": database, "table_settings": FORGETFUL}


def part_of(rows: int, seed: int = 0, days: int = 1, **given: list[Any]) -> Slice:
    """Rows of one append, spread over days."""
    given = {
        "day": [20_700 + i % days for i in range(rows)],
        "batch_id": [uuid.UUID(int=(0x0198 << 112) + seed // 1000).bytes] * rows,
    } | given
    return slice_of(batch(rows, seed, FEW, **given), start=seed)


def after_crash(part: Slice) -> Slice:
    """The slice as another process gets it back."""
    again = slice_of(*part.batches, start=part.start)
    again.in_doubt = True
    return again


def stored(exporter: ClickHouseExporter) -> tuple[int, int]:
    """Rows, and distinct rows."""
    ((rows, distinct),) = exporter._store.execute(  # type: ignore[union-attr]
        f"SELECT count(), uniqExact(correlation_id) FROM {exporter._options.name()}"
    )
    return int(rows), int(distinct)


others = itertools.count(1_000_000, 1000)


async def forget(exporter: ClickHouseExporter) -> None:
    """Other writers push every name out of the server's window, with 50 rows."""
    for _ in range(5):
        await exporter.export(part_of(10, next(others)))


async def test_a_slice_in_doubt_that_is_stored_is_left_alone_also_when_its_name_is_forgotten(config) -> None:
    async with running(config) as exporter:
        part = part_of(500, days=3)
        await exporter.export(part)
        await forget(exporter)
        await exporter.export(after_crash(part))
        assert stored(exporter) == (550, 550)


async def test_a_slice_in_doubt_that_is_not_stored_is_stored(config) -> None:
    async with running(config) as exporter:
        await forget(exporter)
        await exporter.export(after_crash(part_of(500, days=3)))
        assert stored(exporter) == (550, 550)


async def test_of_a_slice_in_doubt_the_days_that_are_missing_are_stored(config, monkeypatch) -> None:
    async with running(config) as exporter:
        part = part_of(400, days=4)
        await exporter._ready()
        store: Any = exporter._store
        insert, done = store.insert, []

        def dies_half_way(*arguments: Any) -> None:
            if len(done) == 2:
                raise StoreError(0, "connection reset")
            done.append(insert(*arguments))

        monkeypatch.setattr(store, "insert", dies_half_way)
        with pytest.raises(Retryable):
            await exporter.export(part)
        monkeypatch.setattr(store, "insert", insert)
        await forget(exporter)
        await exporter.export(after_crash(part))
        assert stored(exporter) == (450, 450)


async def test_an_answer_that_is_lost_doubles_nothing(config, monkeypatch) -> None:
    async with running(config) as exporter:
        part = part_of(500, days=3)
        await exporter._ready()
        store: Any = exporter._store
        insert = store.insert

        def answers_nothing(*arguments: Any) -> None:
            insert(*arguments)
            raise StoreError(0, "connection reset")

        for _ in range(3):
            monkeypatch.setattr(store, "insert", answers_nothing)
            with pytest.raises(Retryable):
                await exporter.export(part)
            monkeypatch.setattr(store, "insert", insert)
            await forget(exporter)
        await exporter.export(part)
        assert stored(exporter) == (650, 650)


async def test_rows_that_are_alike_are_all_stored_and_not_doubled(config) -> None:
    alike = [uuid.UUID(int=7).bytes] * 20
    async with running(config) as exporter:
        part = part_of(20, id=alike, correlation_id=[f"{i:08d}" for i in range(20)])
        await exporter.export(after_crash(part))
        await forget(exporter)
        await exporter.export(after_crash(part))
        assert stored(exporter) == (70, 70)


async def test_halves_of_a_refused_slice_leave_alone_what_is_stored_of_it(config) -> None:
    async with running(config) as exporter:
        await exporter._ready()
        exporter._store.execute(  # type: ignore[union-attr]
            f"ALTER TABLE {exporter._options.name()} ADD CONSTRAINT c CHECK service_name != 'bad'"
        )
        names = ["bad" if i == 77 else "good" for i in range(100)]
        part = part_of(100, days=2, service_name=names)
        with pytest.raises(Permanent):
            await exporter.export(part)
        refused: list[Slice] = []
        tries = 0
        waiting = [rows_of(part, 0, 50), rows_of(part, 50, 100)]
        while waiting:
            piece, tries = waiting.pop(), tries + 1
            try:
                await exporter.export(piece)
            except Permanent:
                middle = piece.rows // 2
                if not middle:
                    refused.append(piece)
                else:
                    waiting += [rows_of(piece, 0, middle), rows_of(piece, middle, piece.rows)]
            await forget(exporter)
        assert [(piece.offset, piece.rows) for piece in refused] == [(77, 1)]
        assert stored(exporter) == (99 + 50 * tries, 99 + 50 * tries)


async def test_a_table_that_stores_only_some_partitions_gets_the_rest(clickhouse_server, clickhouse_database) -> None:
    server: ClickHouseServer = clickhouse_server
    server.query(f"CREATE DATABASE {clickhouse_database}")
    server.query(
        f"CREATE TABLE {clickhouse_database}.mine"
        " (id UUID, batch_id UUID, timestamp DateTime64(3), correlation_id String)"
        " ENGINE = MergeTree PARTITION BY intDiv(toUInt64(correlation_id), 100) ORDER BY timestamp"
    )
    config = {"endpoint": server.url, "database": clickhouse_database, "table": "mine", "create_schema": False}
    async with running(config) as exporter:
        part = part_of(500)
        await exporter.export(part)
        server.query(f"ALTER TABLE {clickhouse_database}.mine DROP PARTITION 2")
        server.query(f"ALTER TABLE {clickhouse_database}.mine DROP PARTITION 4")
        assert stored(exporter) == (300, 300)
        await exporter.export(after_crash(part))
        assert stored(exporter) == (500, 500)
        await exporter.export(after_crash(part))
        assert stored(exporter) == (500, 500)


async def test_it_says_what_it_promises_of_the_table_as_it_is(clickhouse_server, clickhouse_database, caplog) -> None:
    server: ClickHouseServer = clickhouse_server
    caplog.set_level("INFO")
    async with running({"endpoint": server.url, "database": clickhouse_database}) as exporter:
        await exporter._ready()
        assert "rows are stored exactly once: the table remembers 10000 inserts" in caplog.text
        assert exporter._host.gauges["exporter_exactly_once"] == 1  # type: ignore[attr-defined]
    columns = "timestamp DateTime64(9), id UUID, batch_id UUID"
    for table, definition, words in [
        ("plain", f"({columns}) ENGINE = MergeTree ORDER BY timestamp", "remembers no inserts"),
        ("null", f"({columns}) ENGINE = Null", r"(Null) remembers no inserts"),
        (
            "mine",
            "(timestamp DateTime64(9)) ENGINE = MergeTree ORDER BY timestamp "
            "SETTINGS non_replicated_deduplication_window = 7",
            "lacks the columns id and batch_id",
        ),
    ]:
        caplog.clear()
        server.query(f"CREATE TABLE {clickhouse_database}.{table} {definition}")
        config = {"endpoint": server.url, "database": clickhouse_database, "table": table, "create_schema": False}
        async with running(config) as exporter:
            await exporter._ready()
            assert "rows are stored at least once" in caplog.text
            assert words in caplog.text
            assert exporter._host.gauges["exporter_exactly_once"] == 0  # type: ignore[attr-defined]
