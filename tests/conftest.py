"""Fixtures that every folder of tests may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon_process import Daemon
from tests.h2_request import h2_request
from tests.servers.clickhouse import clickhouse_database, clickhouse_server
from tests.servers.questdb import questdb_prefix, questdb_server
from tests.servers.s3 import bucket, s3_server

__all__ = [
    "bucket",
    "clickhouse_database",
    "clickhouse_server",
    "h2_request",
    "questdb_prefix",
    "questdb_server",
    "s3_server",
    "start_daemon",
]


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons in processes of their own (`tests.daemon_process`); what still runs at the end is killed."""
    started: list[Daemon] = []

    def start(config: object, **options: object) -> Daemon:
        folder = tmp_path / f"daemon{len(started)}"
        daemon = Daemon.start(config, options.pop("folder", folder), **options)  # type: ignore[arg-type]
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.kill()
