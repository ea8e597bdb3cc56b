"""`colonnade query`: where it asks, and what it prints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from colonnade.daemon.query import find_target, query_command
from colonnade.extensions.clickhouse_query import ClickHouseQuery, ClickHouseQueryConfig, factory
from colonnade.pipeline.component import ComponentId
from tests.clickhouse.kit import running, slice_of
from tests.clickhouse.rows import batch
from tests.pipeline.kit import FakeHost
from tests.servers.clickhouse import ClickHouseServer

FEW = ["timestamp", "day", "correlation_id", "ns", "event_type", "service_name", "duration_ms"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a query server in front of an embedded store with five rows."""
    async with running({"endpoint": "embedded:store", "database": "shop"}) as exporter:
        rows = batch(5, 0, FEW, service_name=["cart"] * 5, event_type=["trace"] * 5)
        await exporter.export(slice_of(rows))
        config = ClickHouseQueryConfig(endpoint="127.0.0.1:0")
        server = factory.create(ComponentId("clickhouse_query"), config)
        assert isinstance(server, ClickHouseQuery)
        await server.start(FakeHost("clickhouse_query", kind="extension"))
        yield f"127.0.0.1:{server.port}"
        await server.shutdown()


async def invoke(*arguments: str, input: str | None = None) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, query_command, list(arguments), input=input)


def write_config(exporter: dict[str, object], extension: str | None = None) -> None:
    config: dict[str, object] = {"exporters": {"nop": None, "clickhouse": exporter}}
    config["service"] = {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["nop", "clickhouse"]}}}
    if extension:
        config["extensions"] = {"clickhouse_query": {"endpoint": extension}}
    Path("pipeline.yaml").write_text(json.dumps(config), encoding="utf-8")


async def test_without_a_format_a_table_for_people_is_printed(store: str) -> None:
    write_config({"endpoint": "embedded:store", "database": "shop"}, store)
    result = await invoke("SELECT event_type, service_name, count() AS n, NULL AS x FROM events GROUP BY ALL")
    assert result.exit_code == 0, result.output
    assert "event_type" in result.stdout
    assert [cell.strip() for cell in result.stdout.splitlines()[3].strip("│").split("│")] == [
        "trace",
        "cart",
        "5",
        "ᴺᵁᴸᴸ",
    ]
    assert "1 row in " in result.stderr


async def test_a_format_clause_is_honoured_byte_by_byte(store: str) -> None:
    result = await invoke("SELECT 1 AS a, 'x\ny' AS b FORMAT JSONEachRow", "--endpoint", store)
    assert (result.exit_code, result.stdout_bytes) == (0, b'{"a":1,"b":"x\\ny"}\n')
    result = await invoke("SELECT number FROM numbers(3) FORMAT TSV", "--endpoint", f"http://{store}")
    assert result.stdout == "0\n1\n2\n"


async def test_the_statement_may_come_from_standard_input(store: str) -> None:
    result = await invoke("-", "--endpoint", store, "--database", "shop", input="SELECT count() FROM events FORMAT CSV")
    assert result.stdout == "5\n"
    result = await invoke("SELECT {n:UInt8} + 1 FORMAT CSV", "--endpoint", store, "--param", "n=4")
    assert result.stdout == "5\n"


async def test_what_goes_wrong_is_told_on_stderr(store: str) -> None:
    result = await invoke("SELECT nothing FROM shop.events", "--endpoint", store)
    assert result.exit_code == 1
    assert "UNKNOWN_IDENTIFIER" in result.stderr
    assert result.stdout == ""
    result = await invoke("SELECT 1", "--endpoint", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "no answer from http://127.0.0.1:1" in result.stderr
    assert (await invoke("SELECT 1", "--endpoint", "ftp://x")).exit_code == 2
    assert (await invoke("  ", "--endpoint", store)).exit_code == 2


def test_the_default_is_asked_where_no_configuration_is() -> None:
    assert find_target(None, ()).urls == ("http://localhost:8123",)


def test_the_exporter_that_a_pipeline_uses_is_asked() -> None:
    write_config({"endpoint": "tcp://db:9000/telemetry", "username": "me", "password": "pw"})
    target = find_target(None, ())
    assert target.urls == ("http://db:8123",)
    assert (target.database, target.username, target.password) == ("telemetry", "me", "pw")
    target = find_target("other:1", ())
    assert (target.urls, target.database) == (("http://other:1",), "telemetry")


def test_an_embedded_store_is_asked_through_the_extension() -> None:
    write_config({"endpoint": "embedded:x"})
    assert find_target(None, ()).urls == ("http://localhost:8123",)
    assert find_target(None, ()).database == "colonnade"
    write_config({"endpoint": "embedded:x"}, "0.0.0.0:9999")
    assert find_target(None, ("pipeline.yaml",)).urls == ("http://localhost:9999",)


async def test_a_server_is_asked_with_the_exporters_database(
    clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    config = {"endpoint": clickhouse_server.url, "database": clickhouse_database}
    async with running(config) as exporter:
        await exporter.export(slice_of(batch(7, 0, FEW)))
        write_config(config)
        result = await invoke("SELECT count() AS n FROM events")
        assert result.exit_code == 0, result.output
        assert "7" in result.stdout
