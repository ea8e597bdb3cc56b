"""A real QuestDB as a fixture: one per test session, each test with tables of its own."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.launched import CACHE, Launched

APPLIED_WITHIN_S = 60.0
POLL_S = 0.02


class QuestDBServer(Launched):
    """A running server."""

    script = "questdb_server.py"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.info['http_port']}"

    def query(self, sql: str) -> list[list[Any]]:
        """The answer's rows; the server's error as AssertionError."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/exec?{urllib.parse.urlencode({'query': sql})}", timeout=60
            ) as reply:
                return json.loads(reply.read(), strict=False).get("dataset", [])
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def rows(self, table: str, columns: str = "*", rest: str = "") -> list[list[Any]]:
        """Rows of a table, once everything that was written to it shows."""
        self.applied(table)
        return self.query(f'SELECT {columns} FROM "{table}" {rest}')

    def applied(self, table: str) -> None:
        """Waits until what was answered shows; there is no event to wait for."""
        sql = f"SELECT writerTxn = sequencerTxn, suspended FROM wal_tables() WHERE name = '{table}'"
        deadline = time.monotonic() + APPLIED_WITHIN_S
        while (found := self.query(sql)) != [[True, False]]:
            assert time.monotonic() < deadline, f"{table}: {found}"
            time.sleep(POLL_S)


def require_questdb() -> None:
    """Without Java, or without Maven and its jar in the cache, there is no server; CI must have one."""
    there = shutil.which("java") and (shutil.which("mvn") or list(CACHE.glob("questdb/*.jar")))
    if not there and not os.environ.get("CI"):
        pytest.skip("a real QuestDB needs Java 17, and Maven once, to fetch its jar")


@pytest.fixture(scope="session")
def questdb_server() -> Iterator[QuestDBServer]:
    """A QuestDB on loopback, data in a temporary folder."""
    require_questdb()
    server = QuestDBServer.start()
    yield server
    server.stop()


@pytest.fixture
def questdb_prefix(questdb_server: QuestDBServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A beginning of table names that is the test's own; such tables are dropped afterwards."""
    prefix = f"t{os.getpid()}_{abs(hash(request.node.nodeid))}_"
    yield prefix
    for (table,) in questdb_server.query(f"SELECT table_name FROM tables() WHERE table_name LIKE '{prefix}%'"):
        questdb_server.query(f'DROP TABLE "{table}"')
