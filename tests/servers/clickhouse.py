"""A real ClickHouse server as a fixture: one per test session, each test in a database of its own."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("clickhouse_server.py")
CACHE = Path("~/.cache/colonnade-test-servers").expanduser()


@dataclass
class ClickHouseServer:
    """A running server. Its process ends when `stop` is called, or with the test run."""

    process: subprocess.Popen[str]
    info: dict[str, Any]

    @classmethod
    def start(cls, *arguments: str) -> ClickHouseServer:
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
            raise RuntimeError(f"ClickHouse did not start: {process.stderr.read()[-2000:]}")
        return cls(process, json.loads(line))

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

    def kill(self) -> None:
        """Ends the engine as a crash would."""
        if self.process.poll() is None:
            # The launcher's child is the engine; it dies with the launcher, a moment later.
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
