"""What a real server refuses, how it is classified, and that nothing is lost or doubled on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from colonnade.exporters.clickhouse import ClickHouseExporter
from colonnade.exporters.clickhouse.errors import CLASSES, Action, StoreError
from colonnade.exporters.clickhouse.exporter import MIN_SPLIT_ROWS
from colonnade.pipeline.errors import Permanent, Retryable
from tests.clickhouse.kit import exporter_of, running, slice_of
from tests.clickhouse.rows import batch
from tests.pipeline.kit import FakeHost
from tests.servers.clickhouse import ClickHouseServer

FEW = ["timestamp", "day", "correlation_id", "ns", "service_name", "duration_ms"]


def same_day(rows: int, seed: int = 0) -> Any:
    return batch(rows, seed, FEW, day=[20_700] * rows)


def test_every_code_is_in_one_class() -> None:
    codes = [code for codes in CLASSES.values() for code in codes]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("code", "text", "action"),
    [
        (252, "Too many parts (300) in table", Action.BACK_PRESSURE),
        (252, "Too many partitions for single INSERT block (more than 100)", Action.SHRINK),
        (241, "Memory limit exceeded", Action.SHRINK),
        (242, "Table is in readonly mode", Action.RETRY),
        (0, "connection refused", Action.RETRY),
        (424242, "something new", Action.RETRY),
        (53, "Type mismatch", Action.DATA),
        (516, "Authentication failed", Action.AUTH),
        (60, "Table does not exist", Action.SCHEMA),
    ],
)
def test_codes_are_classified(code: int, text: str, action: Action) -> None:
    assert StoreError(code, text).action is action


def test_errors_about_data_do_not_quote_rows() -> None:
    error = StoreError(27, "Code: 27. DB::Exception: Cannot parse input: expected x before: 'secret row'")
    assert "secret" not in error.describe()
    assert StoreError(60, "Code: 60. DB::Exception: Table a.b does not exist").describe() == (
        "code 60: Table a.b does not exist"
    )


async def test_a_dropped_table_is_made_again(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    async with running({"endpoint": clickhouse_server.url, "database": clickhouse_database}) as exporter:
        await exporter.export(slice_of(same_day(5)))
        clickhouse_server.query(f"DROP TABLE {clickhouse_database}.events SYNC")
        await exporter.export(slice_of(same_day(6, 5), start=5))
        assert clickhouse_server.rows(f"SELECT count() FROM {clickhouse_database}.events") == [[6]]


async def test_a_table_of_the_operators_own_is_taken_as_it_is(
    clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    clickhouse_server.query(f"CREATE DATABASE {clickhouse_database}")
    clickhouse_server.query(
        f"CREATE TABLE {clickhouse_database}.mine (timestamp DateTime64(3), service_name String, "
        "correlation_id UInt64, duration_ms Float32 DEFAULT -1, extra String DEFAULT 'x', "
        "twice Float32 ALIAS duration_ms * 2) "
        "ENGINE = MergeTree ORDER BY timestamp SETTINGS non_replicated_deduplication_window = 100"
    )
    config = {
        "endpoint": clickhouse_server.url,
        "database": clickhouse_database,
        "table": "mine",
        "create_schema": False,
    }
    async with running(config) as exporter:
        for _ in range(2):
            await exporter.export(slice_of(same_day(10)))
    rows = clickhouse_server.rows(
        f"SELECT correlation_id, service_name, duration_ms, extra, toUnixTimestamp64Milli(timestamp) "
        f"FROM {clickhouse_database}.mine ORDER BY correlation_id LIMIT 5"
    )
    assert [row[0] for row in rows] == [0, 1, 2, 3, 4]
    assert (rows[0][2], rows[4][3]) == (0, "x")
    assert rows[1][4] % 1000 == 456
    assert clickhouse_server.rows(f"SELECT count() FROM {clickhouse_database}.mine") == [[10]]


async def test_a_table_that_remembers_no_inserts_is_warned_about(
    clickhouse_server: ClickHouseServer, clickhouse_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    clickhouse_server.query(f"CREATE DATABASE {clickhouse_database}")
    table = f"{clickhouse_database}.events (timestamp DateTime64(9)) ENGINE = MergeTree ORDER BY timestamp"
    clickhouse_server.query(f"CREATE TABLE {table}")
    async with running({"endpoint": clickhouse_server.url, "database": clickhouse_database}) as exporter:
        assert len((await exporter._ready()).columns) == 171
    assert "remembers no inserts" in caplog.text
    caplog.clear()
    clickhouse_server.query(f"DROP TABLE {clickhouse_database}.events SYNC")
    async with running({"endpoint": clickhouse_server.url, "database": clickhouse_database}) as exporter:
        await exporter._ready()
    assert not caplog.records


async def test_the_expiry_follows_the_configuration(
    clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    shown = f"SELECT create_table_query FROM system.tables WHERE database = '{clickhouse_database}' AND name = 'events'"
    config = {"endpoint": clickhouse_server.url, "database": clickhouse_database}
    for ttl, expected in [("0", None), ("1h", 3600), ("2h", 7200), ("2h", 7200), ("0", None)]:
        async with running({**config, "ttl": ttl}) as exporter:
            await exporter._ready()
        text = clickhouse_server.rows(shown)[0][0]
        assert (f"toIntervalSecond({expected})" in text) if expected else (" TTL " not in text)


async def test_a_distributed_table_answers_after_its_shards_have_the_rows(
    clickhouse_server: ClickHouseServer, clickhouse_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running({"endpoint": clickhouse_server.url, "database": clickhouse_database}) as exporter:
        await exporter._ready()
        exporter._table = exporter._table._replace(engine="Distributed")  # type: ignore[union-attr]
        given: list[dict[str, str]] = []
        monkeypatch.setattr(exporter._store, "insert", lambda *arguments: given.append(arguments[-1]))
        await exporter.export(slice_of(same_day(3)))
        assert given[0]["distributed_foreground_insert"] == "1"


async def test_without_create_schema_a_missing_table_is_waited_for(
    clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    config = {"endpoint": clickhouse_server.url, "database": clickhouse_database, "create_schema": False}
    async with running(config) as exporter:
        with pytest.raises(Retryable, match="does not exist"):
            await exporter.export(slice_of(same_day(5)))
        async with running({**config, "create_schema": True}) as other:
            await other._ready()
        await exporter.export(slice_of(same_day(5)))


async def test_rows_that_break_a_constraint_are_refused_for_good(
    clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    async with running({"endpoint": clickhouse_server.url, "database": clickhouse_database}) as exporter:
        await exporter._ready()
        clickhouse_server.query(
            f"ALTER TABLE {clickhouse_database}.events ADD CONSTRAINT c CHECK service_name != 'bad'"
        )
        bad = batch(3, 0, FEW, day=[20_700] * 3, service_name=["good", "bad", "good"])
        with pytest.raises(Permanent) as caught:
            await exporter.export(slice_of(bad))
        assert caught.value.code == "clickhouse_469"
        assert clickhouse_server.rows(f"SELECT count() FROM {clickhouse_database}.events") == [[0]]


async def test_too_little_memory_sends_halves_and_a_repeat_sends_the_rest_of_them(
    clickhouse_server: ClickHouseServer, clickhouse_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"endpoint": clickhouse_server.url, "database": clickhouse_database}
    rows = 8 * MIN_SPLIT_ROWS
    part = slice_of(batch(rows // 2, 0, FEW), batch(rows - rows // 2, rows // 2, FEW))
    async with running(config) as exporter:
        await exporter._ready()
        tokens = refuse_large_blocks(exporter, monkeypatch, rows // 6, fail_once_after=3)
        with pytest.raises(Retryable):
            await exporter.export(part)
        first, tokens[:] = list(tokens), []
        await exporter.export(part)
        assert len(first) == 3
        assert not set(first) & set(tokens), "what is stored is not sent again"
        found = clickhouse_server.rows(
            f"SELECT count(), uniqExact(correlation_id), max(correlation_id) FROM {clickhouse_database}.events"
        )
        assert found == [[rows, rows, f"{rows - 1:08d}"]]


def refuse_large_blocks(
    exporter: ClickHouseExporter, monkeypatch: pytest.MonkeyPatch, max_rows: int, fail_once_after: int
) -> list[str]:
    """Lets the store refuse blocks of more rows as a server short of memory would, and break off once."""
    store: Any = exporter._store
    insert, tokens = store.insert, []
    failed: list[bool] = []

    def refusing(table: str, block: bytes, compression: str, settings: dict[str, str]) -> None:
        rows, position, shift = 0, 1, 0
        while block[0] < 0x80:
            byte = block[position]
            rows |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                break
        if rows > max_rows:
            raise StoreError(241, "Code: 241. DB::Exception: Memory limit exceeded")
        if len(tokens) == fail_once_after and not failed:
            failed.append(True)
            raise StoreError(0, "connection reset")
        insert(table, block, compression, settings)
        tokens.append(settings["insert_deduplication_token"])

    monkeypatch.setattr(store, "insert", refusing)
    return tokens


async def test_too_many_parts_are_waited_for(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    config = {
        "endpoint": clickhouse_server.url,
        "database": clickhouse_database,
        "table_settings": {
            "parts_to_throw_insert": 2,
            "parts_to_delay_insert": 0,
            "max_bytes_to_merge_at_max_space_in_pool": 1,
        },
    }
    async with running(config) as exporter:

        async def fill() -> None:
            for start in range(0, 50, 5):
                await exporter.export(slice_of(same_day(5, start), start=start))

        with pytest.raises(Retryable) as caught:
            await fill()
        assert (caught.value.code, caught.value.delay_s) == ("clickhouse_252", 10)


async def test_too_many_partitions_of_the_operators_own_are_met_by_halves(
    clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    clickhouse_server.query(f"CREATE DATABASE {clickhouse_database}")
    clickhouse_server.query(
        f"CREATE TABLE {clickhouse_database}.mine (timestamp DateTime64(9), correlation_id String) ENGINE = MergeTree "
        "PARTITION BY intDiv(toUInt64(correlation_id), 16) ORDER BY timestamp "
        "SETTINGS non_replicated_deduplication_window = 1000"
    )
    config = {"endpoint": clickhouse_server.url, "database": clickhouse_database, "create_schema": False}
    async with running({**config, "table": "mine"}) as exporter:
        for _ in range(2):
            await exporter.export(slice_of(same_day(2048)))
    found = clickhouse_server.rows(f"SELECT count(), uniqExact(correlation_id) FROM {clickhouse_database}.mine")
    assert found == [[2048, 2048]]


async def test_a_column_that_can_not_be_cast_parks_the_rows(
    clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    clickhouse_server.query(f"CREATE DATABASE {clickhouse_database}")
    clickhouse_server.query(
        f"CREATE TABLE {clickhouse_database}.mine (timestamp DateTime64(9), service_name UInt8) ENGINE = MergeTree "
        "ORDER BY timestamp SETTINGS non_replicated_deduplication_window = 1000"
    )
    config = {"endpoint": clickhouse_server.url, "database": clickhouse_database, "create_schema": False}
    async with running({**config, "table": "mine"}) as exporter:
        with pytest.raises(Permanent) as caught:
            await exporter.export(slice_of(same_day(5)))
        assert caught.value.code == "clickhouse_6"
        assert "service_name " not in caught.value.message


async def test_memory_that_a_server_really_lacks_is_met_by_halves(
    clickhouse_server: ClickHouseServer, clickhouse_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = {
        "endpoint": clickhouse_server.url,
        "database": clickhouse_database,
        "connection_params": {"max_memory_usage": 40_000_000},
    }
    rows = 60_000
    text = ["x" * 500] * rows
    async with running(config) as exporter:
        big = batch(rows, 0, [*FEW, "log_message"], day=[20_700] * rows, log_message=text)
        await exporter.export(slice_of(big))
        found = clickhouse_server.rows(f"SELECT count(), uniqExact(correlation_id) FROM {clickhouse_database}.events")
        assert found == [[rows, rows]]
    assert "sending halves: code 241" in caplog.text


async def test_a_password_that_is_wrong_pauses_and_keeps_the_rows(clickhouse_server: ClickHouseServer) -> None:
    async with running({"endpoint": clickhouse_server.url, "username": "nobody", "password": "x"}) as exporter:
        with pytest.raises(Retryable) as caught:
            await exporter.export(slice_of(same_day(5)))
        assert caught.value.delay_s == 60
        assert "check username" in caught.value.message


async def test_a_server_that_is_down_at_start_is_waited_for() -> None:
    exporter = exporter_of({"endpoint": "http://127.0.0.1:1", "database": "d"})
    host = FakeHost("clickhouse")
    await exporter.start(host)
    try:
        with pytest.raises(Retryable) as caught:
            await exporter.export(slice_of(same_day(5)))
        assert caught.value.code == "clickhouse_unreachable"
    finally:
        await exporter.shutdown()


async def test_the_next_server_is_tried(clickhouse_server: ClickHouseServer, clickhouse_database: str) -> None:
    endpoint = f"http://127.0.0.1:1,127.0.0.1:{clickhouse_server.port}"
    async with running({"endpoint": endpoint, "database": clickhouse_database}) as exporter:
        await exporter.export(slice_of(same_day(5)))
        assert clickhouse_server.rows(f"SELECT count() FROM {clickhouse_database}.events") == [[5]]


async def test_a_server_killed_in_between_gets_the_rows_once(tmp_path: Any) -> None:
    data = ["--data", str(tmp_path)]
    server = await asyncio.to_thread(ClickHouseServer.start, *data)
    port = str(server.port)
    try:
        async with running({"endpoint": server.url, "database": "d", "timeout": "5s"}) as exporter:
            part, next_part = slice_of(same_day(50)), slice_of(same_day(50, 50), start=50)
            await exporter.export(part)
            await asyncio.to_thread(server.kill)
            with pytest.raises(Retryable) as caught:
                await exporter.export(next_part)
            assert caught.value.code == "clickhouse_unreachable"
            server = await asyncio.to_thread(ClickHouseServer.start, *data, "--http-port", port)
            # What was acknowledged is there, and its name still stands for it.
            await exporter.export(part)
            await exporter.export(next_part)
            assert server.rows("SELECT count(), uniqExact(correlation_id) FROM d.events") == [[100, 100]]
    finally:
        await asyncio.to_thread(server.stop)
