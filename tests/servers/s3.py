"""A real S3-compatible server as a fixture: one per test session, each test in a bucket of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.launched import CACHE, Launched


class S3Server(Launched):
    """A running server."""

    script = "s3_server.py"

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
