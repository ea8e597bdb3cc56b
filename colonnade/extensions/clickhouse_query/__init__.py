"""Answers ClickHouse's HTTP query form from the embedded store of this process.

    extensions:
      clickhouse_query:
        endpoint: localhost:8123

`colonnade query`, Grafana's ClickHouse data source, clickhouse-connect and curl read an embedded store through it while
the daemon runs. The daemon starts it by itself where an exporter has an embedded store and the file does not name it; a
port that is taken is then a warning.

Readers only read: statements run with `readonly = 1`, and functions that reach outside of the store (`file`, `url`,
`s3`, `remote`, `executable` and the like), `INTO OUTFILE` and several statements in one are refused. Each statement has
limits of memory, time and rows; beyond `max_concurrent_queries` readers get code 202, and pipelines keep their threads.
A client that leaves cancels its statement. The Host header must name this endpoint, localhost or a bare address
(`allowed_hosts` adds names), so that no page in a browser can reach it under a name of its own; no CORS header is sent.

The Collector has no such component. Left out of ClickHouse's interface: sessions, `compress=1`, external tables. In
Grafana's data source choose the protocol HTTP.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from pydantic import Field

from colonnade.extensions.clickhouse_query.runner import Limits, Runner
from colonnade.extensions.clickhouse_query.server import QueryServer
from colonnade.pipeline.component import ComponentId, Extension, Factory, Host
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import ByteSize, Duration, Secret, Settings

__all__ = ["ClickHouseQuery", "ClickHouseQueryConfig", "factory"]

MIB = 1 << 20
SHUTDOWN_TIMEOUT_S = 5.0


class ClickHouseQueryConfig(Settings):
    """Keys of the extension."""

    endpoint: str = Field(default="localhost:8123", pattern=r":\d+$", description="Where readers connect.")
    username: str = Field(default="default", description="User name that goes with the password.")
    password: Secret = Field(
        default=Secret(""), description="Readers must give it; empty: anybody who can connect reads."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Names in the Host header that are served besides the endpoint's and localhost."
    )
    max_memory_usage: ByteSize = Field(default=1024 * MIB, gt=0, description="Memory of one statement.")
    max_execution_time: Duration = Field(default=60.0, gt=0, description="Time of one statement.")
    max_result_rows: int = Field(default=1_000_000, gt=0, description="Rows of one answer.")
    max_result_bytes: ByteSize = Field(default=256 * MIB, gt=0, description="Bytes of one answer.")
    max_concurrent_queries: int = Field(default=4, gt=0, le=64, description="Statements at a time.")
    required: bool = Field(default=True, description="Off: a port that is taken is a warning, not an error.")

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.endpoint.rpartition(":")
        return host.strip("[]"), int(port)


class ClickHouseQuery(Extension):
    """See the module's text."""

    def __init__(self, id: ComponentId, config: ClickHouseQueryConfig) -> None:
        super().__init__(id)
        self.config = config
        self._runner: Runner | None = None
        self._web: web.AppRunner | None = None

    async def start(self, host: Host) -> None:
        config = self.config
        name, port = config.address
        limits = Limits(
            memory_bytes=config.max_memory_usage,
            time_s=config.max_execution_time,
            rows=config.max_result_rows,
            result_bytes=config.max_result_bytes,
            concurrent=config.max_concurrent_queries,
        )
        runner = Runner(limits)
        server = QueryServer(config, runner, name)
        # A client that goes away cancels its handler, and with it the statement.
        self._web = web.AppRunner(
            server.application,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        )
        self._runner = runner
        await self._web.setup()
        site = web.TCPSite(self._web, name or None, port)
        try:
            await site.start()
        except OSError as error:
            await self.shutdown()
            text = f"extension {self.id} can not listen on {config.endpoint}: {error.strerror or error}"
            if config.required:
                raise ColonnadeError("address_in_use", text) from None
            host.logger.warning("%s; the embedded store can not be queried from outside", text)

    @property
    def port(self) -> int:
        """The port that was bound; 0 when none is."""
        addresses = self._web.addresses if self._web else []
        return addresses[0][1] if addresses else 0

    @property
    def serves(self) -> list[str]:
        host, _, _ = self.config.endpoint.rpartition(":")
        return [f"queries on http://{host}:{self.port}"] if self.port else []

    async def shutdown(self) -> None:
        served, self._web = self._web, None
        if served is not None:
            await served.cleanup()
        runner, self._runner = self._runner, None
        if runner is not None:
            await asyncio.get_running_loop().run_in_executor(None, runner.close)


def _create(id: ComponentId, config: ClickHouseQueryConfig) -> ClickHouseQuery:
    return ClickHouseQuery(id, config)


factory = Factory(type="clickhouse_query", kind="extension", config=ClickHouseQueryConfig, create=_create)
