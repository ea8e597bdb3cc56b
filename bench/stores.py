"""Where rows end: how many are there, and what the store itself has cost."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from bench.process import cpu_s
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.questdb import QuestDBServer

POLL_S = 0.5
# A store that takes nothing more for so long will not.
STANDS_STILL_S = 15.0
MERGES_END_WITHIN_S = 60.0
MERGES_QUIET_S = 1.0


class Store:
    """Rows of one product in one store; this one keeps none."""

    def rows(self) -> int | None:
        """Rows stored since the beginning; None where they can not be counted while the product runs."""
        return None

    def clear(self) -> None:
        """Forgets the rows, where that makes the next round equal to the first."""

    def cpu_s(self) -> float | None:
        """CPU-seconds of the store's own process; None where it has none."""
        return None

    def quiet(self) -> None:
        """Returns when the store has nothing left to do."""

    def close(self) -> None:
        """Removes what was stored."""


class Server(Store):
    """Tables of one database of a ClickHouse server, which serves nothing else meanwhile."""

    def __init__(self, server: ClickHouseServer, database: str, tables: Sequence[str]) -> None:
        self._server = server
        self.database = database
        self._tables = ", ".join(f"'{table}'" for table in tables)
        self._cleared = 0
        self._server.query(f"DROP DATABASE IF EXISTS {database} SYNC")
        self._server.query(f"CREATE DATABASE {database}")

    @property
    def http_port(self) -> int:
        return self._server.port

    @property
    def tcp_port(self) -> int:
        return self._server.tcp_port

    def query(self, sql: str) -> bytes:
        """Runs a statement in this database."""
        return self._server.query(sql, database=self.database)

    def rows(self) -> int:
        return self._cleared + self._present()

    def _present(self) -> int:
        where = f"database = '{self.database}' AND name IN ({self._tables})"
        return self._server.rows(f"SELECT toUInt64(sum(ifNull(total_rows, 0))) FROM system.tables WHERE {where}")[0][0]

    def clear(self) -> None:
        self._cleared += self._present()
        where = f"database = '{self.database}' AND engine LIKE '%MergeTree'"
        for (table,) in self._server.rows(f"SELECT name FROM system.tables WHERE {where}"):
            self._server.query(f"TRUNCATE TABLE {self.database}.`{table}` SYNC")

    def cpu_s(self) -> float:
        return cpu_s(self._server.info["pid"])

    def quiet(self) -> None:
        """Waits for merges to end, those that follow one another too."""
        deadline = time.monotonic() + MERGES_END_WITHIN_S
        quiet_since = time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - quiet_since < MERGES_QUIET_S:
            if self._server.rows("SELECT count() FROM system.merges")[0][0]:
                quiet_since = time.monotonic()
            time.sleep(POLL_S)

    def close(self) -> None:
        self._server.query(f"DROP DATABASE IF EXISTS {self.database} SYNC")


class Embedded(Store):
    """The engine inside the daemon, asked through its query extension."""

    def __init__(self, query_port: int) -> None:
        self._url = f"http://127.0.0.1:{query_port}/?" + urllib.parse.urlencode(
            {"query": "SELECT count() AS rows FROM events FORMAT JSONEachRow"}
        )

    def rows(self) -> int:
        with urllib.request.urlopen(self._url, timeout=60) as reply:
            return int(json.loads(reply.read())["rows"])


class QuestDB(Store):
    """Tables of a QuestDB that serves nothing else meanwhile."""

    def __init__(self, server: QuestDBServer) -> None:
        self._server = server
        self.close()

    @property
    def url(self) -> str:
        return self._server.url

    def rows(self) -> int:
        return sum(self._server.rows(table, "count()")[0][0] for table in self._tables())

    def cpu_s(self) -> float:
        return cpu_s(self._server.info["pid"])

    def quiet(self) -> None:
        """Waits until what was written shows."""
        for table in self._tables():
            self._server.applied(table)

    def close(self) -> None:
        for table in self._tables():
            self._server.query(f'DROP TABLE "{table}"')

    def _tables(self) -> list[str]:
        return [name for (name,) in self._server.query("SELECT table_name FROM tables() WHERE walEnabled")]


class Parquet(Store):
    """Files of an archive folder. Those that are open when the product ends are published by its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def rows_at_end(self) -> int:
        return sum(pq.read_metadata(file).num_rows for file in self._folder.rglob("*.parquet"))


def wait_rows(store: Server, wanted: int) -> None:
    """Returns once so many rows are stored, or none has come for a while."""
    last, changed = -1, time.monotonic()
    while last < wanted and time.monotonic() - changed < STANDS_STILL_S:
        if (now := store.rows()) != last:
            last, changed = now, time.monotonic()
        else:
            time.sleep(POLL_S)
