"""The embedded store read over HTTP while an exporter writes to it, with ClickHouse's own client among others."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import clickhouse_connect
import pytest

from colonnade.extensions.clickhouse_query import ClickHouseQuery, ClickHouseQueryConfig, factory
from colonnade.extensions.clickhouse_query.hello import HELLO
from colonnade.pipeline.component import ComponentId
from colonnade.pipeline.errors import ColonnadeError
from tests.clickhouse.kit import running, slice_of
from tests.clickhouse.rows import batch
from tests.pipeline.kit import FakeHost

GO_CLIENT = Path(__file__).with_name("go_client")
MUST_NOT_EXIST = Path("/tmp/colonnade-must-not-exist")
FEW = ["timestamp", "day", "correlation_id", "ns", "service_name", "duration_ms"]


async def start(**config: Any) -> ClickHouseQuery:
    model = ClickHouseQueryConfig.model_validate({"endpoint": "127.0.0.1:0", **config})
    made = factory.create(ComponentId("clickhouse_query"), model)
    assert isinstance(made, ClickHouseQuery)
    await made.start(FakeHost("clickhouse_query", kind="extension"))
    return made


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ClickHouseQuery]:
    async with running({"endpoint": f"embedded:{tmp_path}/store"}) as exporter:
        await exporter.export(slice_of(batch(100, 0, FEW)))
        extension = await start(max_execution_time="20s", password="")
        yield extension
        await extension.shutdown()


async def ask(server: ClickHouseQuery, sql: str | bytes = b"", **options: Any) -> tuple[int, dict[str, str], str]:
    method = options.pop("method", "POST")
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{server.port}/", data=sql, **options) as reply,
    ):
        return reply.status, dict(reply.headers), await reply.text()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def test_a_statement_comes_in_the_body_or_in_the_query(server: ClickHouseQuery) -> None:
    assert (await ask(server, "SELECT count() FROM events"))[2] == "100\n"
    assert (await ask(server, params={"query": "SELECT 1"}, method="GET"))[2] == "1\n"
    assert (await ask(server, "count() FROM events", params={"query": "SELECT "}))[2] == "100\n"
    assert (await ask(server, params={"query": "SELECT {n:UInt8} + 1, {s:String}", "param_n": "2", "param_s": "it's"}))[
        2
    ] == "3\tit\\'s\n"


async def test_formats_come_from_the_statement_the_parameter_or_the_header(server: ClickHouseQuery) -> None:
    status, headers, text = await ask(server, "SELECT 1 AS one FORMAT JSON")
    assert (status, headers["X-ClickHouse-Format"], json.loads(text)["data"]) == (200, "JSON", [{"one": 1}])
    assert headers["Content-Type"].startswith("application/json")
    assert (await ask(server, "SELECT 1, 'a'", params={"default_format": "CSV"}))[2] == '1,"a"\n'
    assert (await ask(server, "SELECT 1, 'a'", headers={"X-ClickHouse-Format": "CSV"}))[2] == '1,"a"\n'


async def test_errors_carry_the_code_of_clickhouse(server: ClickHouseQuery) -> None:
    for sql, code, status in [
        ("SELECT * FROM nowhere", "60", 404),
        ("SELEC 1", "62", 400),
        ("SELECT nothing FROM events", "47", 404),
        ("SELECT throwIf(1)", "395", 500),
        ("SELECT number FROM numbers(2000000)", "396", 500),
    ]:
        found, headers, text = await ask(server, sql)
        assert (headers.get("X-ClickHouse-Exception-Code"), found) == (code, status), text
        assert text.startswith(f"Code: {code}. DB::Exception: ")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT file('/etc/passwd')",
        "SELECT `file`('/etc/passwd')",
        "SELECT \"FILE\"('/etc/passwd')",
        "SELECT /* ' */ file('/etc/passwd') /* ' */",
        "SELECT 1 AS x, $$'$$, file('/etc/passwd'), $$'$$",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM s3('http://127.0.0.1:1/x.csv')",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "SELECT * FROM executable('ls', 'TSV', 's String')",
        "SELECT * FROM Python(x)",
        "SELECT * FROM iceberg('http://127.0.0.1:1/')",
        "SELECT * FROM cluster('default', system.one)",
        "SELECT * FROM sqlite('/tmp/x', 't')",
        "WITH a AS (SELECT * FROM mysql('a', 'b', 'c', 'd', 'e')) SELECT * FROM a",
        "SELECT 1 INTO OUTFILE '/tmp/colonnade-must-not-exist'",
        "SELECT 1 INTO /**/ OUTFILE '/tmp/colonnade-must-not-exist'",
        "EXPLAIN SELECT file('/etc/passwd')",
        "SELECT * FROM default.`/etc/passwd`",
        "SELECT * FROM '/etc/passwd'",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE events",
        "DROP TABLE events",
        "INSERT INTO events (id) SELECT generateUUIDv4()",
        "INSERT INTO FUNCTION file('/tmp/colonnade-must-not-exist', 'CSV') SELECT 1",
        "TRUNCATE TABLE events",
        "ALTER TABLE events DELETE WHERE 1",
        "CREATE TABLE t (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE t (a Int8)",
        "SYSTEM SHUTDOWN",
        "SYSTEM FLUSH LOGS",
        "KILL QUERY WHERE 1",
        "SET readonly = 0",
        "USE system",
        "BACKUP TABLE events TO File('/tmp/colonnade-must-not-exist')",
        "ATTACH TABLE x FROM '/tmp' (a Int8) ENGINE = File(CSV)",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
    ],
)
async def test_readers_can_not_write_and_can_not_reach_outside(server: ClickHouseQuery, sql: str) -> None:
    status, headers, text = await ask(server, sql)
    assert status >= 400, text
    assert int(headers["X-ClickHouse-Exception-Code"]) > 0
    assert "root:" not in text
    assert not MUST_NOT_EXIST.exists()  # noqa: ASYNC240
    assert (await ask(server, "SELECT count() FROM events"))[2] == "100\n"


async def test_words_that_only_look_dangerous_pass(server: ClickHouseQuery) -> None:
    assert (await ask(server, "SELECT 'file(' AS file, 'INTO OUTFILE' AS url"))[2] == "file(\tINTO OUTFILE\n"
    assert (await ask(server, "SELECT count() FROM (SELECT service_name AS file FROM events) -- INTO OUTFILE"))[
        0
    ] == 200
    assert (await ask(server, "SHOW TABLES LIKE 'events'"))[2] == "events\n"
    assert (await ask(server, "EXISTS TABLE events"))[2] == "1\n"
    assert (await ask(server, "DESCRIBE TABLE events"))[0] == 200
    assert (await ask(server, "EXPLAIN SELECT 1"))[0] == 200
    assert (await ask(server, "SELECT format('{}-{}', 'a', 'b'), * FROM numbers(1)"))[2] == "a-b\t0\n"


async def test_only_listed_settings_may_be_given(server: ClickHouseQuery) -> None:
    given = {"output_format_json_quote_64bit_integers": "0", "default_format": "JSONCompact"}
    assert "100" in (await ask(server, "SELECT count() FROM events", params=given))[2]
    status, headers, _ = await ask(server, "SELECT 1", params={"allow_experimental_codecs": "1"})
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (403, "164")
    for value in ("5", "0", "99999999999"):
        sql = "SELECT value FROM system.settings WHERE name = 'max_result_rows'"
        shown = (await ask(server, sql, params={"max_result_rows": value}))[2]
        assert shown == ("5\n" if value == "5" else "1000000\n")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8123", "127.0.0.1.evil.example", "", "localhost.evil"])
async def test_other_names_in_the_host_header_are_refused(server: ClickHouseQuery, host: str) -> None:
    assert (await ask(server, "SELECT 1", headers={"Host": host}))[0] == 421
    for path in ("/", "/ping"):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{server.port}{path}", headers={"Host": host}) as reply,
        ):
            assert reply.status == 421


async def test_localhost_and_addresses_are_served_and_no_origin_is_let_in(server: ClickHouseQuery) -> None:
    for host in ("localhost", "LOCALHOST:8123", "127.0.0.1", "[::1]:8123", "10.1.2.3:80"):
        status, headers, text = await ask(server, "SELECT 1", headers={"Host": host, "Origin": "http://evil.example"})
        assert (status, text) == (200, "1\n")
        assert not [name for name in headers if name.lower().startswith("access-control")]
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}/ping") as reply,
    ):
        assert await reply.text() == "Ok.\n"


async def test_answers_and_statements_may_be_packed(server: ClickHouseQuery) -> None:
    status, headers, text = await ask(
        server,
        gzip.compress(b"SELECT number FROM numbers(1000)"),
        headers={"Content-Encoding": "gzip", "Accept-Encoding": "gzip"},
        params={"enable_http_compression": "1"},
    )
    assert (status, headers.get("Content-Encoding")) == (200, "gzip")
    assert text.endswith("999\n")
    bomb = gzip.compress(b" " * (8 << 20))
    assert (await ask(server, bomb, headers={"Content-Encoding": "gzip"}))[0] == 400
    assert (await ask(server, b"x" * (2 << 20)))[0] == 413


async def test_a_password_is_asked_for_where_one_is_configured(server: ClickHouseQuery) -> None:
    guarded = await start(password="secret", username="reader")
    try:
        assert (await ask(guarded, "SELECT 1"))[0] == 401
        assert (await ask(guarded, "SELECT 1", headers=basic("reader", "wrong")))[0] == 401
        assert (await ask(guarded, "SELECT 1", headers=basic("reader", "secret")))[2] == "1\n"
        headers = {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "secret"}
        assert (await ask(guarded, "SELECT 1", headers=headers))[2] == "1\n"
        assert (await ask(guarded, "SELECT 1", params={"user": "reader", "password": "secret"}))[2] == "1\n"
    finally:
        await guarded.shutdown()


async def test_a_client_that_leaves_cancels_its_statement(server: ClickHouseQuery) -> None:
    endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
    task = asyncio.create_task(ask(server, endless))
    running_sql = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%processes%'"
    while (await ask(server, running_sql))[2] != "1\n":
        pass
    task.cancel()
    while (await ask(server, running_sql))[2] != "0\n":
        pass


async def test_statements_beyond_the_bound_are_refused(server: ClickHouseQuery) -> None:
    narrow = await start(max_concurrent_queries=1)
    endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 2"
    task = asyncio.create_task(ask(narrow, endless))
    running_sql = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%processes%'"
    try:
        while (await ask(server, running_sql))[2] != "1\n":
            pass
        status, headers, _ = await ask(narrow, "SELECT 1")
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (503, "202")
    finally:
        task.cancel()
        await narrow.shutdown()


async def test_clickhouse_connect_reads_the_store(server: ClickHouseQuery) -> None:
    def read() -> tuple[Any, ...]:
        client = clickhouse_connect.get_client(host="127.0.0.1", port=server.port)
        try:
            rows = client.query("SELECT count(), uniq(day), max(service_name) FROM events").result_rows
            arrow = client.query_arrow("SELECT correlation_id, timestamp FROM events ORDER BY 1 LIMIT 3")
            command = client.command("SELECT currentDatabase()")
            params = client.query("SELECT {a:String}, {n:UInt32} + 1", parameters={"a": "it's", "n": 41}).result_rows
            return rows, arrow.num_rows, command, params
        finally:
            client.close()

    rows, arrow_rows, database, params = await asyncio.to_thread(read)
    assert rows[0][:2] == (100, 3)
    assert arrow_rows == 3
    assert database == "colonnade"
    assert list(params) == [("it's", 42)]


async def test_the_go_clients_first_question_is_answered_in_its_revision(server: ClickHouseQuery) -> None:
    fields = {"default_format": "Native", "client_protocol_version": "54460"}
    url = f"http://127.0.0.1:{server.port}/"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, params=fields, data=HELLO) as reply:
            block = await reply.read()
        async with session.post(url, params=fields, data="SELECT toUInt8(7) AS a") as reply:
            assert await reply.read() == b"\x01\x01\x01a\x05UInt8\x07"
    assert block.startswith(b"\x01\x00\x02\xff\xff\xff\xff\x00\x04\x01\x0ddisplayName()\x06String\x00\x09colonnade")
    assert b"\x0arevision()\x06UInt32\x00\x00\x00\x00\x00" in block


@pytest.mark.peer
@pytest.mark.timeout(600)
async def test_the_go_client_reads_the_store(server: ClickHouseQuery, tmp_path: Path) -> None:
    """Grafana's ClickHouse data source is this client; built here, because it comes as source only."""
    if shutil.which("go") is None:
        pytest.skip("needs Go to build the client")
    program = tmp_path / "client"
    build = await asyncio.create_subprocess_exec("go", "build", "-o", str(program), ".", cwd=GO_CLIENT)
    assert await build.wait() == 0
    for compression in ("none", "gzip"):
        client = await asyncio.create_subprocess_exec(
            str(program), f"127.0.0.1:{server.port}", compression, stdout=asyncio.subprocess.PIPE
        )
        answer, _ = await client.communicate()
        assert json.loads(answer) == {"rows": 100, "nulls": 20, "code": 60}


async def test_a_port_that_is_taken_is_an_error_unless_it_is_not_required(server: ClickHouseQuery) -> None:
    endpoint = f"127.0.0.1:{server.port}"
    with pytest.raises(ColonnadeError, match="can not listen"):
        await start(endpoint=endpoint)
    extension = await start(endpoint=endpoint, required=False)
    assert extension.port == 0
    await extension.shutdown()


async def test_without_a_store_readers_are_told_so() -> None:
    extension = await start()
    try:
        status, headers, text = await ask(extension, "SELECT 1")
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (503, "210")
        assert "no embedded store is open" in text
    finally:
        await extension.shutdown()


async def test_stop_is_safe_before_start_and_twice(unused_port: int) -> None:
    extension = factory.create(
        ComponentId("clickhouse_query"), ClickHouseQueryConfig(endpoint=f"127.0.0.1:{unused_port}")
    )
    await extension.shutdown()
    await extension.start(FakeHost("clickhouse_query", kind="extension"))
    await extension.shutdown()
    await extension.shutdown()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
