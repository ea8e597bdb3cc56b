"""Rows through every registered component while what comes after it fails: each one comes out or is counted.

The component stands in the daemon's own graph, with the configuration of its documentation; around it a receiver that
hands on what the test gives it, an exporter that fails as told, and for components that send to a server, a server
that does.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import struct
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from colonnade.daemon.balance import accounts
from colonnade.daemon.graph import Engine, StartFailed
from colonnade.daemon.health import Health
from colonnade.daemon.host import ComponentHost, Services
from colonnade.daemon.telemetry import Metrics
from colonnade.native import Listener
from colonnade.pipeline.component import NOUNS, BatchContext, ComponentId, Entry, Exporter, Processor, Signal
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable
from colonnade.pipeline.fanout import new_append_id
from tests.contract.kit import (
    NOW_NS,
    Catch,
    Document,
    Feed,
    Sample,
    at_home,
    factory_of,
    file_of,
    names,
    reaches_out,
    read,
    request,
    rows,
    samples,
)

APPENDS = 3
DRAIN_S, HURRIED_S = 10.0, 0.2


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- what comes after, and how it fails


async def fails_for_good(attempt: int) -> None:
    raise Permanent("test_permanent", "the store will never take this")


async def fails_at_first(attempt: int) -> None:
    if attempt <= APPENDS:
        raise Retryable("test_retryable", "the store is busy")


async def is_slow(attempt: int) -> None:
    await asyncio.sleep(0.01)


async def never_answers(attempt: int) -> None:
    await asyncio.Event().wait()


async def breaks(attempt: int) -> None:
    raise ZeroDivisionError


NEXT = {
    "permanent": fails_for_good,
    "retryable": fails_at_first,
    "slow": is_slow,
    "cancelled": never_answers,
    "broken": breaks,
}


@contextmanager
def server_that(fails: str) -> Iterator[str]:
    """`host:port` of a server that resets, is silent, or answers every request with an HTTP status."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        if fails == "refuses":
            address = listening.getsockname()
            listening.close()
            yield f"127.0.0.1:{address[1]}"
            return
        open_connections: list[socket.socket] = []
        thread = threading.Thread(target=_serve, args=(listening, fails, open_connections))
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in open_connections:
                connection.close()


def _serve(listening: socket.socket, fails: str, kept: list[socket.socket]) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        if fails == "is silent":
            kept.append(connection)
            continue
        with connection:
            if fails == "resets":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                continue
            connection.settimeout(1)
            try:
                connection.recv(1 << 20)
                connection.sendall(f"HTTP/1.1 {fails}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            except OSError:
                continue


SERVERS = ["refuses", "resets", "is silent", "400 Bad Request", "503 Service Unavailable", "200 OK"]


# --- the graph around a component


class Stand:
    """A running graph; `counted` sums its own metrics."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def component(self, id: str) -> Any:
        assert self.engine.graph is not None
        return next(m.component for (_, name, _), m in self.engine.graph.members.items() if str(name) == id)

    def counted(self, name: str) -> int:
        return int(sum(self.engine.services.metrics.read(name).values()))

    async def feed(self, signals: Sequence[Signal], times: int = APPENDS) -> int:
        """Hands rows in; gives how many were taken. Only what a sender is told may be raised."""
        feed: Feed = self.component("feed")
        taken = 0
        for signal in [*signals] * times:
            with suppress(ColonnadeError):
                async with asyncio.timeout(DRAIN_S):
                    await feed.consume[signal]([rows(signal)])
                taken += rows(signal).rows
        return taken

    def sent(self) -> int:
        """Rows that exporters say they stored."""
        return sum(self.counted(f"exporter_sent_{noun}") for noun in NOUNS.values())

    async def settle(self) -> None:
        """Until every row is stored or given up."""
        async with asyncio.timeout(DRAIN_S):
            while self.counted("pipeline_in_log_items"):  # noqa: ASYNC110  a gauge has no event
                await asyncio.sleep(0.01)

    async def drain(self, deadline_s: float) -> None:
        """The daemon's shutdown: afterwards everything is stored or counted."""
        await self.engine.shutdown(deadline_s)
        for account in accounts(self.engine.services.metrics):
            assert account.missing == 0, account


@asynccontextmanager
async def running(document: Document) -> AsyncIterator[Stand]:
    services = Services(Metrics("detailed"), Health(lambda _: None), Listener(), data=Path("data"))
    engine = Engine(services)
    try:
        await engine.apply(read(document))
        yield Stand(engine)
    finally:
        await engine.shutdown(HURRIED_S)
        services.listener.close(0)
        # A thread that waits for a silent server ends with the server.
        services.executor.shutdown(wait=False)


def file_with(sample: Sample, settings: Document | None = None, **catch: Any) -> Document:
    return file_of(sample.factory, {sample.key: sample.settings if settings is None else settings}, catch or None)


# --- processors


@pytest.mark.parametrize("name", names("processor"))
@pytest.mark.parametrize("fails", NEXT)
async def test_a_processor_loses_nothing_whatever_comes_after_it(name: str, fails: str) -> None:
    for sample in samples(factory_of(name)):
        async with running(file_with(sample)) as stand:
            catch: Catch = stand.component("catch")
            catch.plan = NEXT[fails]
            taken = await stand.feed(sample.signals)
            if fails == "cancelled":
                await stand.drain(HURRIED_S)
            else:
                await stand.settle()
                await stand.drain(DRAIN_S)
            assert stand.counted("pipeline_accepted_items") == taken
            assert stand.counted("pipeline_stored_items") == stand.sent() == catch.rows
            parked = stand.counted("exporter_dead_letter_rows") + stand.counted("exporter_dead_letter_lost_rows")
            assert parked == stand.counted("pipeline_failed_items")
            assert (parked > 0) == (fails in ("permanent", "cancelled", "broken"))


@pytest.mark.parametrize("name", names("processor"))
async def test_a_processor_before_a_full_log_refuses_and_counts_nothing_as_taken(name: str) -> None:
    for sample in samples(factory_of(name)):
        signals = sample.signals[:1]
        async with running(file_with(sample, sending_queue={"queue_size": 1, "num_consumers": 1})) as stand:
            stand.component("catch").plan = never_answers
            taken = await stand.feed(signals, 5)
            assert 0 < taken < 5 * rows(signals[0]).rows
            await stand.drain(HURRIED_S)
            assert stand.counted("pipeline_accepted_items") == taken


@pytest.mark.parametrize("name", names("processor"))
async def test_a_processor_leaves_what_it_was_given_as_it_was(name: str) -> None:
    """Batches are shared between pipelines; and what says that it changes nothing must not."""
    for sample in samples(factory_of(name)):
        for signal in sample.signals:
            async with running(file_with(sample)) as stand:
                processor: Processor = stand.component(sample.key)
                before, given = pa.record_batch(rows(signal)).to_pylist(), rows(signal)
                host = ComponentHost("processor", processor.id, stand.engine.services, signal)
                result = processor.process(given, BatchContext(signal, NOW_NS, new_append_id(NOW_NS), host))
                assert pa.record_batch(given).to_pylist() == before
                if not processor.changes:
                    assert result is not None
                    assert pa.record_batch(result).equals(pa.record_batch(given))


# --- exporters


@pytest.mark.parametrize("name", names("exporter"))
@pytest.mark.parametrize("server", ["none", *SERVERS])
async def test_an_exporter_stores_or_counts_every_row(name: str, server: str) -> None:
    for sample in samples(factory_of(name)):
        if reaches_out(sample) != (server != "none"):
            continue
        with server_that("refuses" if server == "none" else server) as address:
            settings = at_home(sample.factory.config, sample.settings, address)
            async with running(file_with(sample, settings)) as stand:
                taken = await stand.feed(sample.signals)
                assert taken == APPENDS * sum(rows(signal).rows for signal in sample.signals)
                await stand.drain(HURRIED_S if server != "none" else DRAIN_S)
                failed = stand.counted("pipeline_failed_items")
                assert stand.sent() + failed == taken
                if server == "none":
                    assert failed == 0


@pytest.mark.parametrize("name", names("exporter"))
async def test_an_exporter_that_is_stopped_at_once_loses_nothing(name: str) -> None:
    for sample in samples(factory_of(name)):
        async with running(file_with(sample)) as stand:
            taken = await stand.feed(sample.signals)
            await stand.drain(0)
            assert stand.sent() + stand.counted("pipeline_failed_items") == taken


@pytest.mark.parametrize("name", names("exporter"))
def test_an_exporter_takes_the_keys_of_every_exporter(name: str) -> None:
    for sample in samples(factory_of(name)):
        common = {"sending_queue": {"queue_size": 7, "num_consumers": 3}, "retry_on_failure": {"enabled": False}}
        configuration = read(file_with(sample, sample.settings | common))
        config = configuration.get("exporter", ComponentId.parse(sample.key))
        exporter = config.factory.create(config.id, config.settings)
        assert isinstance(exporter, Exporter)
        assert (exporter.queue.queue_size, exporter.queue.num_consumers) == (7, 3)
        assert not exporter.retry.enabled


# --- receivers


@pytest.mark.parametrize("name", names("receiver"))
@pytest.mark.parametrize("fails", NEXT)
async def test_a_receiver_answers_and_counts_whatever_comes_after_it(name: str, fails: str) -> None:
    for sample in samples(factory_of(name)):
        async with running(file_with(sample, sending_queue={"queue_size": 2, "num_consumers": 1})) as stand:
            stand.component("catch").plan = NEXT[fails]
            taken = 0
            for entry in _entries(stand, sample):
                for route in entry.routes:
                    for _ in range(APPENDS):
                        send = _send_event if route.kind == "python" else _send
                        taken += await asyncio.to_thread(send, stand, entry, route.method, route.path)
            await stand.drain(HURRIED_S if fails == "cancelled" else DRAIN_S)
            assert stand.counted("pipeline_accepted_items") == taken
            accepted = sum(stand.counted(f"receiver_accepted_{noun}") for noun in NOUNS.values())
            assert accepted == taken


def _entries(stand: Stand, sample: Sample) -> list[Entry]:
    assert stand.engine.graph is not None
    return [o.entry for o in stand.engine.graph.openings if str(o.receiver) == sample.key]


def _send(stand: Stand, entry: Entry, method: str, path: str) -> int:
    """Sends a request to a route; how many rows were taken. Every request is answered."""
    address = stand.engine.doors.addresses[entry.server.address]
    if entry.transport == "grpc":
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary(path).future(request(entry.signal), timeout=DRAIN_S)
            assert call.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE), call.details()
            return rows(entry.signal).rows if call.code() is grpc.StatusCode.OK else 0
    connection = http.client.HTTPConnection(address, timeout=DRAIN_S)
    try:
        connection.request(method, path, request(entry.signal), {"Content-Type": "application/x-protobuf"})
        status = connection.getresponse().status
    finally:
        connection.close()
    assert status < 500 or status == 503, status
    return rows(entry.signal).rows if status == 200 else 0


def _send_event(stand: Stand, entry: Entry, method: str, path: str) -> int:
    """The same with an event, and the key of the documentation; the answer says how many were taken."""
    event = {"event": "Bought", "userId": "u-1", "messageId": str(uuid.uuid4())}
    key = dict.fromkeys(("X-Write-Key", "X-API-Key"), _documented_key(stand))
    connection = http.client.HTTPConnection(stand.engine.doors.addresses[entry.server.address], timeout=DRAIN_S)
    try:
        connection.request(method, path.replace("*", "any"), json.dumps(event), key)
        reply = connection.getresponse()
        status, body = reply.status, reply.read()
    finally:
        connection.close()
    assert status < 500 or status == 503, status
    told = json.loads(body) if body.startswith(b"{") else {}
    return told.get("accepted", 0) - told.get("duplicates", 0)


def _documented_key(stand: Stand) -> str:
    assert stand.engine.graph is not None
    receivers: list[Any] = [m.component for key, m in stand.engine.graph.members.items() if key[0] == "receiver"]
    keys = [key for receiver in receivers if hasattr(receiver, "keys") for key in receiver.keys._keys]
    return keys[0] if keys else ""


# --- connectors


@pytest.mark.parametrize("name", names("connector"))
@pytest.mark.parametrize("fails", NEXT)
async def test_a_connector_loses_nothing_between_two_pipelines(name: str, fails: str) -> None:
    for sample in samples(factory_of(name)):
        async with running(file_with(sample)) as stand:
            stand.component("catch").plan = NEXT[fails]
            await stand.feed(sample.signals)
            await stand.drain(HURRIED_S if fails == "cancelled" else DRAIN_S)


def test_a_file_with_a_port_that_is_taken_is_refused_with_the_port(tmp_path: Path) -> None:
    """What the battery relies on: a component that can not start says why."""

    async def start() -> None:
        sample = samples(factory_of("receiver.otlp"))[0]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            settings = at_home(sample.factory.config, sample.settings, f"127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(StartFailed, match=str(taken.getsockname()[1])):
                async with running(file_with(sample, settings)):
                    pass

    asyncio.run(start())
