"""A real S3-compatible server as a fixture: one per test session, each test in a bucket of its own."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("s3_server.py")
CACHE = Path("~/.cache/colonnade-test-servers").expanduser()


@dataclass
class S3Server:
    """A running server. Its process ends when `stop` is called, or with the test run."""

    process: subprocess.Popen[str]
    info: dict[str, Any]

    @classmethod
    def start(cls, *arguments: str) -> S3Server:
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
            raise RuntimeError(f"the S3 server did not start: {process.stderr.read()[-2000:]}")
        return cls(process, json.loads(line))

    def section(self, path: str) -> dict[str, Any]:
        """Keys of an exporter that writes to `BUCKET/PREFIX` of it."""
        return {
            "path": f"s3://{path}",
            "endpoint": self.info["endpoint"],
            "region": self.info["region"],
            "access_key_id": self.info["access_key"],
            "secret_access_key": self.info["secret_key"],
        }

    def folder(self, path: str) -> Path:
        """Where the server keeps the objects of `BUCKET/PREFIX`, as files."""
        return Path(self.info["data"]) / "buckets" / path

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self.process.poll() is None:
            # The launcher's child is the server; it dies with the launcher, a moment later.
            server = os.pidfd_open(self.info["pid"])
            try:
                self.process.kill()
                self.process.wait()
                ended = select.poll()
                ended.register(server, select.POLLIN)
                ended.poll()
            finally:
                os.close(server)

    def stop(self) -> None:
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


def require_s3() -> None:
    """Without a JDK, or Maven for the first use, there is no server."""
    if shutil.which("java") is None or (shutil.which("mvn") is None and not list(CACHE.glob("s3proxy/classes-*"))):
        pytest.skip("a real S3 server needs a JDK, and Maven once")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server on loopback, data in a temporary folder."""
    require_s3()
    server = S3Server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: S3Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A bucket of the test's own; removed afterwards."""
    name = f"test-{os.getpid()}-{abs(hash(request.node.nodeid))}"
    s3_server.folder(name).mkdir()
    yield name
    shutil.rmtree(s3_server.folder(name))
