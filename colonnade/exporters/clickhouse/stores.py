"""The two ways to reach a store: a server over HTTP, and the engine in this process. Both block; call them off-loop."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from colonnade.exporters.clickhouse.config import ClickHouseConfig
from colonnade.exporters.clickhouse.endpoint import Server
from colonnade.exporters.clickhouse.errors import StoreError
from colonnade.pipeline.embedded_engine import Engine, EngineError
from colonnade.unified_schema.clickhouse import literal

T = TypeVar("T")
Rows = list[list[str]]


class Store(Protocol):
    """What the exporter needs of a store. Every method raises StoreError."""

    def execute(self, sql: str) -> Rows:
        """Runs one statement; its answer as rows of text."""
        ...

    def fetch(self, sql: str) -> bytes:
        """Runs one SELECT; its answer as an Arrow stream."""
        ...

    def insert(self, table: str, block: memoryview, compression: str, settings: dict[str, str]) -> None:
        """Stores one Native block, or nothing."""
        ...

    def close(self) -> None: ...


class EmbeddedStore:
    """The engine in this process."""

    def __init__(self, engine: Engine, settings: dict[str, str]) -> None:
        self._engine = engine
        self._settings = settings

    def execute(self, sql: str) -> Rows:
        try:
            return parse_tsv(self._engine.query(sql, "TabSeparated").decode())
        except EngineError as error:
            raise StoreError(error.code, str(error)) from None

    def fetch(self, sql: str) -> bytes:
        try:
            return self._engine.query(sql, "ArrowStream")
        except EngineError as error:
            raise StoreError(error.code, str(error)) from None

    def insert(self, table: str, block: memoryview, compression: str, settings: dict[str, str]) -> None:
        given = ", ".join(f"{name} = {literal(value)}" for name, value in (self._settings | settings).items())
        try:
            self._engine.insert(table, given, block)
        except EngineError as error:
            raise StoreError(error.code, str(error)) from None

    def close(self) -> None:
        """The engine belongs to the process; whoever acquired it releases it."""


class ServerStore:
    """Servers by clickhouse-connect, one client each, made when it is first needed."""

    def __init__(self, config: ClickHouseConfig) -> None:
        self._config = config
        self._servers = config.servers()
        if config.connection_open_strategy == "random":
            random.shuffle(self._servers)
        self._clients: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._first = 0

    def execute(self, sql: str) -> Rows:
        def use(client: Any) -> Rows:
            return parse_tsv(client.raw_query(sql, fmt="TabSeparated").decode())

        return self._try(use)

    def fetch(self, sql: str) -> bytes:
        def use(client: Any) -> bytes:
            return client.raw_query(sql, fmt="ArrowStream")

        return self._try(use)

    def insert(self, table: str, block: memoryview, compression: str, settings: dict[str, str]) -> None:
        # Without this an error that comes late follows a status of 200.
        given = settings | {"wait_end_of_query": "1"}

        def use(client: Any) -> None:
            client.raw_insert(table, insert_block=block, settings=given, fmt="Native", compression=compression or None)

        self._try(use)

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            with suppress(Exception):
                client.close()

    def _try(self, use: Callable[[Any], T]) -> T:
        """Uses the first server that can be reached; an answer, also a refusal, is final."""
        error: StoreError | None = None
        for number in self._order():
            try:
                return use(self._client(number))
            except StoreError as failed:
                error = failed
            except Exception as failed:
                error = store_error(failed, self._servers[number].url)
            if error.code:
                raise error
            self._first = (number + 1) % len(self._servers)
        assert error is not None  # there is at least one server
        raise error

    def _order(self) -> list[int]:
        count = len(self._servers)
        first = self._first
        if self._config.connection_open_strategy == "round_robin":
            self._first = (first + 1) % count
        return [(first + step) % count for step in range(count)]

    def _client(self, number: int) -> Any:
        with self._lock:
            client = self._clients.get(number)
        if client is None:
            client = connect(self._servers[number], self._config)
            with self._lock:
                client = self._clients.setdefault(number, client)
        return client


def connect(server: Server, config: ClickHouseConfig) -> Any:
    """A client of clickhouse-connect; raises what it raises, and StoreError where the package is missing."""
    try:
        import clickhouse_connect  # a heavy extra, loaded only where it is used
        from clickhouse_connect import common
    except ImportError as error:
        raise StoreError(
            0,
            f"a ClickHouse server needs the package clickhouse-connect ({error}): pip install 'colonnade[clickhouse]'",
        ) from None
    # It logs every failed attempt by itself, and so does the sender.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    # Sessions would serialise inserts, and a setting that this server does not know must not stop them.
    common.set_setting("invalid_setting_action", "send")
    tls = config.tls
    return clickhouse_connect.get_client(  # pyright: ignore[reportUnknownMemberType]
        host=server.host,
        port=server.port,
        interface="https" if server.secure else "http",
        username=server.username or config.username,
        password=server.password or config.password.reveal(),
        database="",
        compress=False,
        query_retries=0,
        connect_timeout=min(10, max(1, round(config.timeout))),
        send_receive_timeout=max(1, round(config.timeout)),
        client_name="colonnade",
        verify=not tls.insecure_skip_verify,
        ca_cert=tls.ca_file or None,
        client_cert=tls.cert_file or None,
        client_cert_key=tls.key_file or None,
        server_host_name=tls.server_name_override or None,
        settings=dict(server.params) | config.connection_params,
        autogenerate_session_id=False,
        show_clickhouse_errors=True,
        proxy_path=server.path,
    )


def store_error(error: Exception, url: str) -> StoreError:
    """What a client raised, as one class; of a server that was not reached, what the system says of it."""
    code = getattr(error, "code", None) or 0
    name = getattr(error, "name", None) or ""
    text = str(error).strip() or type(error).__name__
    if not code and (fault := _system_fault(error)):
        text = f"does not answer at {url}: {fault}"
    return StoreError(int(code), text, str(name))


def _system_fault(error: BaseException | None) -> str:
    """The operating system's words under what libraries made of them; empty where it said nothing."""
    while error is not None:
        if isinstance(error, OSError) and not error.__cause__ and not error.__context__:
            return error.strerror or str(error)
        error = error.__cause__ or error.__context__
    return ""


_UNESCAPED = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}


def parse_tsv(text: str) -> Rows:
    """Rows of the format TabSeparated."""
    return [[_unescape(cell) for cell in line.split("\t")] for line in text.split("\n") if line]


def _unescape(cell: str) -> str:
    if "\\" not in cell:
        return cell
    parts = iter(cell.split("\\"))
    out = [next(parts)]
    for part in parts:
        if part:
            out.append(_UNESCAPED.get(part[0], part[0]) + part[1:])
        else:
            # Two in a row: an escaped backslash, and what follows stands for itself.
            out.append("\\" + next(parts, ""))
    return "".join(out)
