"""Servers that are down, refuse, or hold other tables than ours; rows that they do not take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from colonnade.exporters.questdb.errors import StoreError
from colonnade.pipeline.errors import Permanent, Retryable
from colonnade.pipeline.log import Append, MemoryLog
from colonnade.pipeline.sender import Sender, slice_limits
from tests.clickhouse.rows import batch
from tests.daemon_process import free_port
from tests.pipeline.kit import FAST_RETRY, FakeHost, until
from tests.questdb_exporter.kit import config_of, exporter_of, rows_of, running, slice_of
from tests.questdb_exporter.test_round_trip import gauges
from tests.servers.questdb import QuestDBServer, require_questdb

REFUSED = "failed to parse line protocol:errors encountered on line(s):\nerror in line 1: "


@pytest.mark.parametrize("status", [0, 401, 403, 404, 405, 429, 500, 502, 503, 504, 507, 302, 599])
def test_what_may_pass_is_retried(status: int) -> None:
    outcome = StoreError(status, "why").outcome()
    assert isinstance(outcome, Retryable)
    assert outcome.code == (f"questdb_{status}" if status else "questdb_unreachable")
    assert "why" in outcome.message


@pytest.mark.parametrize("status", [400, 413, 422])
def test_rows_at_fault_are_refused_for_good(status: int) -> None:
    outcome = StoreError(status, "why").outcome()
    assert isinstance(outcome, Permanent)
    assert outcome.splits


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("table: t, column: v; cast error from STRING", "table: t, column: v; cast error from STRING"),
        ("table: t, timestamp: -5; designated", "table: t, timestamp: [not shown]; designated"),
        ("Field: s; value: se;cret\n2", "Field: s; value: [not shown]"),
    ],
)
def test_errors_do_not_quote_rows(said: str, told: str) -> None:
    assert StoreError(400, REFUSED + said).describe() == f"answered 400: error in line 1: {told}"


async def test_a_server_that_is_down_at_start_is_waited_for(tmp_path: Path) -> None:
    require_questdb()
    port = free_port()
    async with running(config_of(f"http://127.0.0.1:{port}", "")) as exporter:
        host: Any = exporter._host
        await until(lambda: host.statuses)
        assert host.statuses[0].state == "recoverable_error"
        assert f"does not answer at http://127.0.0.1:{port}" in host.statuses[0].message
        with pytest.raises(Retryable, match="does not answer"):
            await exporter.export(slice_of(rows_of(gauges(1))))
        server = await asyncio.to_thread(QuestDBServer.start, "--http-port", str(port))
        try:
            await until(lambda: host.statuses[-1].state == "ok")
            await exporter.export(slice_of(rows_of(gauges(1))))
            assert server.rows("gauge", "count()") == [[1]]
        finally:
            await asyncio.to_thread(server.stop)


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[QuestDBServer]:
    """A server that asks who comes."""
    require_questdb()
    server = QuestDBServer.start("--set", "http.user=me", "--set", "http.password=secret-word")
    yield server
    server.stop()


@pytest.mark.parametrize("given", [{}, {"username": "me", "password": "wrong-word"}, {"token": "wrong-word"}])
async def test_wrong_credentials_pause_and_keep_the_rows(given: dict[str, str], guarded_server: QuestDBServer) -> None:
    async with running(config_of(guarded_server.url, "", **given)) as exporter:
        with pytest.raises(Retryable) as refused:
            await exporter.export(slice_of(rows_of(gauges(1))))
    assert refused.value.code in ("questdb_401", "questdb_403")
    assert "check username, password or token" in refused.value.message
    assert "word" not in refused.value.message.replace("password", "")
    assert refused.value.delay_s == 60


async def test_right_credentials_are_taken(guarded_server: QuestDBServer) -> None:
    async with running(config_of(guarded_server.url, "", username="me", password="secret-word")) as exporter:
        await exporter.export(slice_of(rows_of(gauges(1))))
        assert await exporter._running().execute("SELECT count() FROM gauge") is not None


async def test_only_bad_rows_are_parked(questdb_server: QuestDBServer, questdb_prefix: str, tmp_path: Path) -> None:
    request = gauges(200)
    points = request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points
    for bad in (17, 18, 140):
        points[bad].time_unix_nano = 9_220_000_000_000_000_000  # The year 2262, which QuestDB does not have.
    rows = rows_of(request)
    async with running(config_of(questdb_server.url, questdb_prefix, retry_on_failure=FAST_RETRY)) as exporter:
        host = FakeHost("questdb", tmp_path)
        log = MemoryLog("metrics", "metrics")
        sender = Sender(log, exporter, host, slice_limits(exporter, []))
        sender.start()
        log.append(log.reserve(Append(b"i" * 16, [rows], rows.rows, rows.nbytes)))
        assert await sender.drain(30) == 0
    found = questdb_server.rows(f"{questdb_prefix}gauge", "metric_value")
    assert sorted(row[0] for row in found) == [n + 0.5 for n in range(200) if n not in (17, 18, 140)]
    assert host.counts["exporter_dead_letter_rows"] == 3
    assert host.counts["exporter_sent_metric_points"] == 197


async def test_a_dropped_table_is_made_again_with_its_key(questdb_server: QuestDBServer, questdb_prefix: str) -> None:
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        await exporter.export(slice_of(rows_of(gauges(3))))
        questdb_server.applied(f"{questdb_prefix}gauge")
        questdb_server.query(f'DROP TABLE "{questdb_prefix}gauge"')
        for _ in range(2):
            await exporter.export(slice_of(rows_of(gauges(3)), start=3))
        assert questdb_server.rows(f"{questdb_prefix}gauge", "count()") == [[3]]


async def test_missing_columns_are_added_and_others_left(questdb_server: QuestDBServer, questdb_prefix: str) -> None:
    table = f"{questdb_prefix}gauge"
    questdb_server.query(
        f'CREATE TABLE "{table}" (timestamp TIMESTAMP_NS, series LONG, metric_name VARCHAR, own INT) '
        "TIMESTAMP(timestamp) PARTITION BY DAY WAL"
    )
    async with running(config_of(questdb_server.url, questdb_prefix, ttl="48h")) as exporter:
        for _ in range(2):
            await exporter.export(slice_of(rows_of(gauges(2))))
        host: Any = exporter._host
        assert host.gauges["exporter_exactly_once"] == 1
    found = questdb_server.rows(table, "metric_name, own, metric_value, labels")
    assert [row[:3] for row in found] == [["temperature", None, 0.5], ["temperature", None, 1.5]]
    assert json.loads(found[0][3]) == {"room": "room 0"}
    (told,) = questdb_server.query(f"SELECT dedup, ttlValue, ttlUnit FROM tables() WHERE table_name = '{table}'")
    assert told == [True, 2, "DAY"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("timestamp TIMESTAMP_NS, series LONG, metric_value VARCHAR", "metric_value.* must be DOUBLE, not VARCHAR"),
        ("timestamp TIMESTAMP_NS, series INT", "column 'series'.* must be LONG, not INT"),
        ("timestamp TIMESTAMP, series LONG", "designated timestamp timestamp TIMESTAMP_NS, not timestamp TIMESTAMP"),
        ("timestamp TIMESTAMP_NS, labels SYMBOL", "column 'labels'.* must be VARCHAR or STRING, not SYMBOL"),
    ],
)
async def test_other_types_are_told_and_rows_wait(
    columns: str, words: str, questdb_server: QuestDBServer, questdb_prefix: str
) -> None:
    questdb_server.query(f'CREATE TABLE "{questdb_prefix}gauge" ({columns}) TIMESTAMP(timestamp) PARTITION BY DAY WAL')
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        with pytest.raises(Retryable, match=words) as refused:
            await exporter.export(slice_of(rows_of(gauges(1))))
    assert refused.value.code == "schema_clash"


async def test_a_key_by_which_rows_would_replace_others_is_told(
    questdb_server: QuestDBServer, questdb_prefix: str
) -> None:
    questdb_server.query(
        f'CREATE TABLE "{questdb_prefix}gauge" (timestamp TIMESTAMP_NS, series LONG) TIMESTAMP(timestamp) '
        "PARTITION BY DAY WAL DEDUP UPSERT KEYS(timestamp, series)"
    )
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        with pytest.raises(Retryable, match="upsert keys series, timestamp, so that rows would replace others"):
            await exporter.export(slice_of(rows_of(gauges(1))))


async def test_without_create_schema_tables_are_taken_as_they_are(
    questdb_server: QuestDBServer, questdb_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(questdb_server.url, questdb_prefix, create_schema=False)
    async with running(config) as exporter:
        with pytest.raises(Retryable, match=r"there is no table .*: make it, or write create_schema: true"):
            await exporter.export(slice_of(rows_of(gauges(1))))
        for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
            questdb_server.query(
                f'CREATE TABLE "{questdb_prefix}{kind}" (timestamp TIMESTAMP_NS, metric_name SYMBOL, '
                "metric_value DOUBLE) TIMESTAMP(timestamp) PARTITION BY DAY WAL"
            )
        await exporter.export(slice_of(rows_of(gauges(2))))
        host: Any = exporter._host
        assert host.gauges["exporter_exactly_once"] == 0
    found = questdb_server.rows(f"{questdb_prefix}gauge")
    assert [row[1:] for row in found] == [["temperature", 0.5], ["temperature", 1.5]]
    assert "columns, whose values are not stored" in caplog.text
    assert "rows are stored at least once" in caplog.text


async def test_rows_without_a_table_are_refused(questdb_server: QuestDBServer, questdb_prefix: str) -> None:
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        with pytest.raises(Permanent, match="no table for rows of this kind") as refused:
            await exporter.export(slice_of(batch(3)))
    assert refused.value.code == "encode_no_table"


def test_rows_are_numbered_by_their_place_in_the_log_and_partitions_apart() -> None:
    queue = {"batch": {"partition": {"metadata_keys": ["X-Team"]}}}
    exporter = exporter_of(config_of("http://127.0.0.1:1", "", sending_queue=queue))

    def first(team: str, **of: Any) -> int:
        batch: Any = SimpleNamespace(runs=[(1, "", [("x-team", team)])])
        return exporter._first(replace(slice_of(start=5), batches=[batch], **of))

    assert first("a") == first("a")
    assert (first("a", offset=3) - first("a")) % 2**64 == 3
    assert (first("a", start=9) - first("a")) % 2**64 == 4
    assert len({first("a"), first("b"), first("a", log_id="other")}) == 3
