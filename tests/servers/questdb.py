"""A real QuestDB as a fixture: one per test session, each test with tables of its own."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("questdb_server.py")
CACHE = Path("~/.cache/colonnade-test-servers").expanduser()
APPLIED_WITHIN_S = 60.0
POLL_S = 0.02


@dataclass
class QuestDBServer:
    """A running server. Its process ends when `stop` is called, or with the test run."""

    process: subprocess.Popen[str]
    info: dict[str, Any]

    @classmethod
    def start(cls, *arguments: str) -> QuestDBServer:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"QuestDB did not start: {process.stderr.read()[-2000:]}")
        return cls(process, json.loads(line))

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

    def kill(self) -> None:
        """Ends the server as a crash would."""
        if self.process.poll() is None:
            # The launcher's child is the server; it dies with the launcher, a moment later.
            engine = os.pidfd_open(self.info["pid"])
            try:
                self.process.kill()
                self.process.wait()
                ended = select.poll()
                ended.register(engine, select.POLLIN)
                ended.poll()
            finally:
                os.close(engine)

    def stop(self) -> None:
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


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
