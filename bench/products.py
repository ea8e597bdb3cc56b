"""What is measured: a program that takes OTLP, running with a configuration that sends rows to a store."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from bench import forget
from bench.cases import NOUNS, Case
from bench.load import ROOT
from bench.stores import POLL_S, STANDS_STILL_S, Embedded, Parquet, QuestDB, Server, Store, wait_rows
from tests.daemon_process import READY_LINE, Daemon, free_port
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.questdb import QuestDBServer

# Closing files is part of the figure, and a round should not wait for it as long as an archive may.
PARQUET_ROLL = {"max_age": "5s"}


class Unavailable(Exception):
    """The product can not run this case; the text says why."""


class Stores(ExitStack):
    """The real servers of a run, started when first needed."""

    def __init__(self) -> None:
        super().__init__()
        self._clickhouse: dict[str, ClickHouseServer] = {}
        self._questdb: dict[str, QuestDBServer] = {}

    def clickhouse(self, product: str) -> ClickHouseServer:
        """A server of the product's own: what one has it do must not be counted as another's."""
        if product not in self._clickhouse:
            self._clickhouse[product] = ClickHouseServer.start()
            self.callback(self._clickhouse[product].stop)
        return self._clickhouse[product]

    def questdb(self, product: str) -> QuestDBServer:
        """The same of QuestDB."""
        if product not in self._questdb:
            self._questdb[product] = QuestDBServer.start()
            self.callback(self._questdb[product].stop)
        return self._questdb[product]


class Running(ABC):
    """A started product: where it listens, and what it and its store say of the rows."""

    pid: int
    http: str
    grpc: str
    store: Store
    ready_after_s: float

    @abstractmethod
    def accepted(self, case: Case) -> int | None:
        """Rows taken since the start by its own counters; None where it has none."""

    @abstractmethod
    def settle(self, case: Case, rows: int) -> None:
        """Returns once so many rows, counted from the start, are where they end; or never will be."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it, rows under way stored first. Raises AssertionError when it does not end."""

    def close(self) -> None:
        """Ends it in any case."""
        with suppress(AssertionError):
            self.stop()

    def address(self, case: Case) -> str:
        return self.grpc if case.protocol == "grpc" else self.http


class Product(ABC):
    """Something that can be started for a case."""

    name: str

    @abstractmethod
    def start(self, case: Case, stores: Stores, folder: Path) -> Running:
        """Raises Unavailable."""

    @abstractmethod
    def start_sidecar(self, folder: Path) -> Running:
        """The smallest useful configuration: OTLP, a memory limit, a batch, nothing stored."""


class Colonnade(Product):
    """The daemon of this repository.

    Args:
        unify: keys of that processor.
        store_url: where its ClickHouse is, if not where the server itself listens.
        tenant_header: header that names the tenant; empty = one tenant.
    """

    name = "colonnade"

    def __init__(
        self, unify: dict[str, Any] | None = None, store_url: str | None = None, tenant_header: str = ""
    ) -> None:
        self._unify = unify
        self._store_url = store_url
        self._tenant = {"header": tenant_header}

    def start(self, case: Case, stores: Stores, folder: Path) -> Running:
        processors = {
            "memory_limiter": {"check_interval": "1s", "limit_percentage": 80, "spike_limit_percentage": 20},
            "unify": self._unify,
            "batch": None,
        }
        extensions: dict[str, Any] = {}
        exporters, store = self._exporters(case, stores, folder, extensions)
        if case.durable:
            extensions["file_storage"] = {"directory": str(folder / "log"), "create_directory": True}
            for exporter in exporters.values():
                exporter["sending_queue"] = {"storage": "file_storage"}
        if case.store == "forget":
            # It changes rows, and so they would have to be decoded.
            del processors["unify"]
            forget.install(folder / "path")
        config = _config(processors, exporters, extensions)
        config["receivers"]["otlp"]["tenant"] = self._tenant
        return self._run(config, folder, store)

    def start_sidecar(self, folder: Path) -> Running:
        processors = {"memory_limiter": {"check_interval": "1s", "limit_mib": 512}, "batch": None}
        return self._run(_config(processors, {"nop": None}, {}), folder, Store())

    def _run(self, config: dict[str, Any], folder: Path, store: Store) -> Running:
        try:
            path = os.pathsep.join([str(ROOT), str(folder / "path"), os.environ.get("PYTHONPATH", "")])
            daemon = Daemon.start(config, folder, {"PYTHONPATH": path})
        except AssertionError as error:
            raise Unavailable(str(error)) from None
        if READY_LINE not in daemon.output():
            daemon.kill()
            raise Unavailable(daemon.output())
        return RunningColonnade(daemon, store)

    def _exporters(
        self, case: Case, stores: Stores, folder: Path, extensions: dict[str, Any]
    ) -> tuple[dict[str, Any], Store]:
        match case.store:
            case "nop" | "forget":
                return {case.store: None}, Store()
            case "clickhouse":
                store = Server(stores.clickhouse(self.name), "bench", ["events"])
                endpoint = self._store_url or f"http://127.0.0.1:{store.http_port}"
                return {"clickhouse": {"endpoint": endpoint, "database": store.database}}, store
            case "embedded":
                port = free_port()
                extensions["clickhouse_query"] = {"endpoint": f"127.0.0.1:{port}"}
                return {"clickhouse": {"endpoint": f"embedded:{folder / 'clickhouse'}"}}, Embedded(port)
            case "questdb":
                tables = QuestDB(stores.questdb(self.name))
                return {"questdb": {"endpoint": tables.url, "events_table": {"name": "events"}}}, tables
            case "parquet":
                archive = folder / "archive"
                return {"parquet": {"path": str(archive), "roll": PARQUET_ROLL}}, Parquet(archive)


class RunningColonnade(Running):
    def __init__(self, daemon: Daemon, store: Store) -> None:
        self._daemon = daemon
        self.store = store
        self.pid = daemon.process.pid
        self.http, self.grpc = daemon.http_endpoint, daemon.grpc_endpoint
        self.ready_after_s = daemon.ready_after_s

    def accepted(self, case: Case) -> int:
        return int(self._daemon.metric(f"receiver_accepted_{NOUNS[case.signal]}"))

    def settle(self, case: Case, rows: int) -> None:
        if isinstance(self.store, Server):
            wait_rows(self.store, rows)
            return
        last, changed = -1.0, time.monotonic()
        while time.monotonic() - changed < STANDS_STILL_S:
            waiting = sum(value for name, _, value in self._daemon.samples() if name == "pipeline_in_log_items")
            if not waiting:
                return
            if waiting != last:
                last, changed = waiting, time.monotonic()
            time.sleep(POLL_S)

    def stop(self) -> None:
        self._daemon.drain()


def _config(processors: dict[str, Any], exporters: dict[str, Any], extensions: dict[str, Any]) -> dict[str, Any]:
    """OTLP on free ports to the exporters, own telemetry at its defaults but on a free port."""
    protocols = {name: {"endpoint": f"127.0.0.1:{free_port()}"} for name in ("grpc", "http")}
    prometheus = {"host": "127.0.0.1", "port": free_port()}
    pipeline = {"receivers": ["otlp"], "processors": [*processors], "exporters": [*exporters]}
    return {
        "receivers": {"otlp": {"protocols": protocols}},
        "processors": processors,
        "exporters": exporters,
        "extensions": extensions,
        "service": {
            "extensions": [*extensions],
            "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": prometheus}}}]}},
            "pipelines": dict.fromkeys(("traces", "metrics", "logs"), pipeline),
        },
    }
