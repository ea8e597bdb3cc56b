"""A real ClickHouse server as a fixture: one per test session, each test in a database of its own."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.launched import CACHE, Launched


class ClickHouseServer(Launched):
    """A running server."""

    script = "clickhouse_server.py"

    @property
    def port(self) -> int:
        return self.info["http_port"]

    @property
    def tcp_port(self) -> int:
        return self.info["tcp_port"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def query(self, sql: str, **params: str) -> bytes:
        """The answer; HTTPError as AssertionError with the server's text."""
        request = urllib.request.Request(f"{self.url}/?{urllib.parse.urlencode(params)}", sql.encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def rows(self, sql: str, **params: str) -> list[list[Any]]:
        """The answer's rows."""
        answer = self.query(f"{sql} FORMAT JSONCompactEachRow", output_format_json_quote_64bit_integers="0", **params)
        return [json.loads(line) for line in answer.splitlines()]


def _require() -> None:
    """Without npm and without its package in the cache there is no server; CI must have one."""
    if shutil.which("npm") is None and not list(CACHE.glob("chdb/*/libchdb.so")) and not os.environ.get("CI"):
        pytest.skip("a real ClickHouse server needs npm once, to fetch its package")


@pytest.fixture(scope="session")
def clickhouse_server() -> Iterator[ClickHouseServer]:
    """A ClickHouse server on loopback, data in a temporary folder."""
    _require()
    server = ClickHouseServer.start()
    yield server
    server.stop()


@pytest.fixture
def clickhouse_database(clickhouse_server: ClickHouseServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database name of the test's own; dropped afterwards."""
    name = f"test_{os.getpid()}_{abs(hash(request.node.nodeid))}"
    yield name
    clickhouse_server.query(f"DROP DATABASE IF EXISTS {name} SYNC")
