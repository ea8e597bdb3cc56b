"""Clients that dawdle, vanish or crowd, through a running daemon: bounded, counted, and harmless to the others."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from tests.daemon_process import Daemon, otlp_config
from tests.wire.payloads import METHODS, payload, spans

HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
IMPATIENT = {"read_header_timeout": "500ms", "read_timeout": "700ms", "idle_timeout": "3s"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """OTLP into nop, with short patience over HTTP."""
    config = otlp_config({"nop": None}, http=IMPATIENT, signals=("traces",))
    daemon = Daemon.start(config, tmp_path_factory.mktemp("clients"))
    yield daemon
    assert daemon.drain() == 0, daemon.output()


def connect(daemon: Daemon) -> socket.socket:
    host, _, port = daemon.http_endpoint.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def moves(daemon: Daemon, name: str, by: float, **labels: str) -> Callable[[], None]:
    """Waits, when called, until the counter has moved by exactly so much since now."""
    before = daemon.metric(name, **labels)

    def check() -> None:
        daemon.wait_until(lambda: daemon.metric(name, **labels) >= before + by, what=f"{name}{labels} + {by}")
        assert daemon.metric(name, **labels) == before + by

    return check


def serves(daemon: Daemon) -> bool:
    return daemon.post("traces", payload("good")).status == 200


def test_heads_that_never_end_are_cut_off(daemon: Daemon) -> None:
    counted = moves(daemon, "listener_closed_connections", 50, reason="header_timeout")
    with ExitStack() as opened:
        slow = [opened.enter_context(connect(daemon)) for _ in range(50)]
        for connection in slow:
            connection.sendall(HEAD)
        assert serves(daemon)
        assert {read_all(connection) for connection in slow} == {b""}
    counted()
    assert serves(daemon)


def test_bodies_that_drip_are_refused(daemon: Daemon) -> None:
    counted = moves(daemon, "listener_refusals", 20, reason="body_timeout")
    with ExitStack() as opened:
        slow = [opened.enter_context(connect(daemon)) for _ in range(20)]
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\nabc")
        assert serves(daemon)
        for connection in slow:
            answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"the body is too slow" in answer
    counted()
    daemon.wait_until(lambda: daemon.metric("listener_queue_bytes") == 0)
    assert serves(daemon)


def test_1_000_idle_connections_cost_little_and_end_in_time(daemon: Daemon) -> None:
    counted = moves(daemon, "listener_closed_connections", 1_000, reason="idle")
    before = daemon.rss_bytes()
    with ExitStack() as opened:
        idle = [opened.enter_context(connect(daemon)) for _ in range(1_000)]
        for connection in idle:
            connection.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        for connection in idle:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert daemon.metric("listener_connections") >= 1_000
        assert daemon.rss_bytes() - before < 64 << 20
        assert serves(daemon)
        assert read_all(idle[-1]) == b""
        counted()
    daemon.wait_until(lambda: daemon.metric("listener_connections") <= 1)


def test_a_reset_in_mid_body_gives_its_room_back(daemon: Daemon) -> None:
    counted = moves(daemon, "listener_resets", 10)
    rows = daemon.metric("receiver_accepted_spans")
    for _ in range(10):
        with connect(daemon) as connection:
            connection.sendall(HEAD + b"Content-Length: 500000\r\n\r\n" + payload("good"))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    counted()
    daemon.wait_until(lambda: daemon.metric("listener_queue_bytes") == 0)
    assert daemon.metric("receiver_accepted_spans") == rows
    assert serves(daemon)


def test_a_grpc_client_that_gives_up_in_mid_message_is_counted(daemon: Daemon) -> None:
    counted = moves(daemon, "listener_resets", 1)
    with connect_h2(daemon) as connection:
        connection.sendall(frame(0, 0, 1, b"\0" + (500_000).to_bytes(4, "big") + payload("good")))
        connection.sendall(frame(3, 0, 1, (8).to_bytes(4, "big")))  # RST_STREAM, CANCEL
        counted()
    assert serves(daemon)


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def connect_h2(daemon: Daemon) -> socket.socket:
    """A connection that has begun a gRPC request as stream 1."""
    host, _, port = daemon.grpc_endpoint.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    fields = {":method": "POST", ":scheme": "http", ":path": METHODS["traces"], ":authority": "x"}
    fields |= {"content-type": "application/grpc", "te": "trailers"}
    # Literal fields without indexing; a length fits into seven bits.
    block = b"".join(b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in fields.items())
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, block))
    return connection


def test_one_bad_payload_among_many_is_refused_alone(daemon: Daemon) -> None:
    bodies = [payload(name) for name in ("truncated", "not_utf8", "deep")]
    good = spans(3)
    rows = daemon.metric("receiver_accepted_spans")
    groups = daemon.metric("receiver_group_size_count", transport="grpc")
    with grpc.insecure_channel(daemon.grpc_endpoint) as channel:
        call = channel.unary_unary(METHODS["traces"])
        call(good, timeout=10)
        sent: list[tuple[bool, Any]] = []
        for number in range(300):
            bad = number % 30 == 7
            sent.append((bad, call.future(bodies[number % 3] if bad else good, timeout=30)))
        codes = {(bad, future.code()) for bad, future in sent}
    assert codes == {(False, grpc.StatusCode.OK), (True, grpc.StatusCode.INVALID_ARGUMENT)}
    daemon.wait_metric("receiver_accepted_spans", rows + 3 * 291)
    assert daemon.metric("receiver_accepted_spans") == rows + 3 * 291
    # They did come many at a time.
    assert daemon.metric("receiver_group_size_count", transport="grpc") - groups < 250


def test_a_large_body_that_is_refused_at_its_head_is_answered(daemon: Daemon) -> None:
    """Clients that send everything before they read see the answer, and not a broken connection."""
    for size in (21 << 20, 40 << 20):
        answer = daemon.request("POST", "/v1/traces", bytes(size), {"Content-Type": "application/x-protobuf"})
        assert answer.status == 400
    answer = daemon.request("POST", "/nowhere", bytes(10 << 20))
    assert answer.status == 404
    assert serves(daemon)


def test_a_refused_client_that_sends_on_and_on_is_cut_off(daemon: Daemon) -> None:
    with connect(daemon) as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            connection.sendall(bytes(1 << 20))
    assert serves(daemon)


def test_a_noisy_tenant_is_refused_while_others_are_served(start_daemon: Callable[..., Daemon]) -> None:
    config = otlp_config({"nop": None}, signals=("traces",))
    config["receivers"]["otlp"]["tenant"] = {"header": "x-scope-orgid"}
    daemon = start_daemon(config)
    size = 16 << 20
    head = HEAD + b"X-Scope-OrgID: %s\r\nContent-Length: %d\r\n\r\n"
    with connect(daemon) as first, connect(daemon) as second, connect(daemon) as other:
        for connection, tenant in ((first, b"noisy"), (second, b"noisy"), (other, b"quiet")):
            connection.sendall(head % (tenant, size))
        daemon.wait_metric("listener_queue_bytes", 3 * size)
        refused = daemon.post("traces", payload("good"), X_Scope_OrgID="noisy")
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert daemon.metric("listener_refusals", reason="tenant_over_share") == 1
        assert daemon.post("traces", payload("good"), X_Scope_OrgID="quiet").status == 200
        with grpc.insecure_channel(daemon.grpc_endpoint) as channel:
            call = channel.unary_unary(METHODS["traces"])
            done: Any = call.future(payload("good"), timeout=10, metadata=[("x-scope-orgid", "noisy")])
            assert done.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "grpc-status-details-bin" in dict(done.trailing_metadata())
            assert call(payload("good"), timeout=10, metadata=[("x-scope-orgid", "quiet")]) == b""


def test_connections_are_renewed_without_a_failed_request(start_daemon: Callable[..., Daemon]) -> None:
    """`max_connection_age`: the client is told (GOAWAY) and opens the next connection by itself."""
    ages = {"max_connection_age": "200ms", "max_connection_age_grace": "1s"}
    config = otlp_config({"nop": None}, grpc={"keepalive": {"server_parameters": ages}}, signals=("traces",))
    daemon = start_daemon(config)
    with grpc.insecure_channel(daemon.grpc_endpoint) as channel:
        call, ends, sent = channel.unary_unary(METHODS["traces"]), time.monotonic() + 1.5, 0
        while time.monotonic() < ends:
            assert call(payload("good"), timeout=10) == b""
            sent += 1
    daemon.wait_metric("receiver_accepted_spans", sent)
    assert daemon.metric("receiver_accepted_spans") == sent
