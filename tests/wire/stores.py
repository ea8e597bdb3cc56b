"""One daemon that writes to the embedded engine and to a real ClickHouse server, and what both then hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemon_process import Config, Daemon, free_port, otlp_config
from tests.servers.clickhouse import ClickHouseServer

Row = dict[str, Any]

# Rows are stored as they come, so that a test need not wait for a slice to fill.
EAGER: Config = {"sending_queue": {"batch": {"flush_timeout": "10ms", "min_size": 1}}}
# What an absent value reads as.
EMPTY = ("", None, {}, [], "1970-01-01 00:00:00.000000000")
# Numbers that are not nullable, so that absent is zero.
ZERO_IS_ABSENT = ("geo_asn", "bot_score", "log_level_num")
# Of a request, not of what was sent in it.
ARRIVAL = ("id", "ingested_at", "batch_id")


def stores_config(server: ClickHouseServer, database: str, **more: Any) -> Config:
    """OTLP into both stores; `more` as `otlp_config`."""
    exporters = {
        "clickhouse/embedded": {"endpoint": "embedded:./store", **EAGER},
        "clickhouse/server": {"endpoint": server.url, "database": database, **EAGER},
    }
    query = {"clickhouse_query": {"endpoint": f"127.0.0.1:{free_port()}"}}
    return otlp_config(exporters, processors={"unify": None}, extensions=query, **more)


@dataclass
class Stores:
    """The daemon, and its two stores."""

    daemon: Daemon
    server: ClickHouseServer
    database: str

    @classmethod
    def start(cls, server: ClickHouseServer, database: str, folder: Path) -> Stores:
        stores = cls(Daemon.start(stores_config(server, database), folder), server, database)
        made = f"SELECT count() FROM system.tables WHERE database = '{database}' AND name = 'events'"
        stores._await(lambda: server.rows(made) == [[1]], "the server's table")
        return stores

    @property
    def query_endpoint(self) -> str:
        """`host:port` where the embedded store is read."""
        return self.daemon.config["extensions"]["clickhouse_query"]["endpoint"]

    def query(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`colonnade query`, as a user calls it: in the folder of the daemon's configuration."""
        command = [sys.executable, "-m", "colonnade", "query", *arguments]
        return subprocess.run(command, cwd=self.daemon.folder, capture_output=True, text=True, timeout=60)

    def embedded(self, sql: str) -> list[Row]:
        """The embedded store's answer, through the extension."""
        path = "/?default_format=JSONEachRow&output_format_json_quote_64bit_integers=0"
        answer = self.daemon.request("POST", path, sql.encode(), endpoint=self.query_endpoint)
        assert answer.status == 200, answer.body.decode()
        return [json.loads(line) for line in answer.body.splitlines()]

    def remote(self, sql: str) -> list[Row]:
        """The server's answer."""
        text = self.server.query(
            f"{sql} FORMAT JSONEachRow", database=self.database, output_format_json_quote_64bit_integers="0"
        )
        return [json.loads(line) for line in text.splitlines()]

    def rows(self, where: str, number: int, order: str = "timestamp, event_name, id") -> list[Row]:
        """The rows for which `where` holds, once both stores have `number` of them: the same in both."""
        self.await_rows(where, number)
        sql = f"SELECT * FROM events WHERE {where} ORDER BY {order}"
        embedded, remote = self.embedded(sql), self.remote(sql)
        assert embedded == remote
        return embedded

    def await_rows(self, where: str, number: int) -> None:
        """Until both stores have exactly so many rows."""
        count = f"SELECT count() AS n FROM events WHERE {where}"
        for read in (self.embedded, self.remote):
            self._await(lambda read=read: read(count)[0]["n"] == number, f"{number} rows where {where}")

    def _await(self, holds: Callable[[], bool], what: str) -> None:
        self.daemon.wait_until(holds, what=what)


def filled(row: Row, *without: str) -> Row:
    """The columns that hold something, but for those of arrival and `without`; JSON columns as objects."""
    left_out = {*ARRIVAL, *without, *(name for name in ZERO_IS_ABSENT if not row[name])}
    found = {name: value for name, value in row.items() if value not in EMPTY and name not in left_out}
    for name in ("data", "context", "metric_buckets", "metric_quantiles", "properties", "traits"):
        if name in found:
            found[name] = json.loads(found[name])
    return found


def time_text(time_ns: int) -> str:
    """How ClickHouse prints a time."""
    from datetime import UTC, datetime

    seconds, nanoseconds = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{nanoseconds:09d}"
