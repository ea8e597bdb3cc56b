"""Daemons that the tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers.clickhouse import ClickHouseServer
from tests.wire.stores import Stores


@pytest.fixture(scope="session")
def stores(clickhouse_server: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """A daemon with both kinds of store; tests tell their rows apart by `service.name`."""
    database = f"wire_{os.getpid()}"
    stores = Stores.start(clickhouse_server, database, tmp_path_factory.mktemp("wire"))
    yield stores
    assert stores.daemon.drain() == 0, stores.daemon.output()
    clickhouse_server.query(f"DROP DATABASE IF EXISTS {database} SYNC")
