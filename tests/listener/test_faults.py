"""Clients that dawdle, vanish, flood or ask too much: bounded, counted, harmless to others."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time

import grpc
import pytest

from colonnade import native

from .kit import METHOD, OK, PROTOBUF, export_request, open_and_accept, serving

HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"


def read_all(connection: socket.socket) -> bytes:
    """Until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_head_that_never_ends_is_cut_off():
    with serving(options={"read_header_timeout_s": 0.2}) as at, at.connect() as slow, at.connect() as silent:
        slow.sendall(HEAD)
        assert read_all(slow) == b""
        assert read_all(silent) == b""
        at.await_count("header_timeouts", 2)
        assert at.post(export_request())[0] == 200
        at.await_count("connections_open", 0)


def test_a_body_that_stands_still_is_refused():
    with serving(options={"body_idle_timeout_s": 0.2}) as at, at.connect() as slow:
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\nabc")
        assert read_all(slow).startswith(b"HTTP/1.1 408 ")
        assert at.count("body_timeouts") == 1
        assert at.count("queue_bytes") == 0
        assert at.post(export_request())[0] == 200


def test_a_body_that_drips_is_refused_after_read_timeout():
    with serving(options={"read_timeout_s": 0.3}) as at, at.connect() as slow:
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\na")
        at.await_count("body_timeouts", 1)
        assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_reset_in_mid_body_is_counted_and_gives_its_room_back():
    with serving() as at:
        with at.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\nabc")
            at.await_count("queue_bytes", 5000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        at.await_count("resets", 1)
        at.await_count("queue_bytes", 0)
        assert at.post(export_request())[0] == 200


def test_idle_connections_are_closed_in_time_and_do_not_hinder_others():
    with serving(options={"idle_timeout_s": 2.0}) as at:
        connections = [at.connect() for _ in range(1000)]
        try:
            at.await_count("connections_open", 1000)
            assert at.post(export_request())[0] == 200
            assert read_all(connections[0]) == b""
        finally:
            for connection in connections:
                connection.close()
        at.await_count("connections_open", 0)


def test_connections_over_the_limit_are_refused():
    with serving(options={"max_connections": 1}) as at, at.connect() as first:
        at.await_count("connections_open", 1)
        with at.connect() as second:
            assert read_all(second) == b""
        assert at.count("connections_refused") == 1
        first.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_head_over_the_limit_is_refused():
    with serving(options={"max_header_bytes": 8192}) as at, at.connect() as connection:
        connection.sendall(HEAD + b"X-Long: " + b"x" * 10_000 + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")


def test_a_full_queue_refuses_before_the_body_is_read():
    with serving(queue_bytes=10_000) as at, at.connect() as holder:
        holder.sendall(HEAD + b"Content-Length: 9990\r\n\r\n")
        at.await_count("queue_bytes", 9990)
        code, headers, _ = at.post(export_request())
        assert (code, headers["retry-after"]) == (503, "1")
        assert (at.count("queue_full"), at.count("refused_before_body")) == (1, 1)
        with grpc.insecure_channel(f"127.0.0.1:{at.port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(METHOD)(export_request(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "grpc-status-details-bin" in dict(refused.value.trailing_metadata())


def test_a_tenant_over_its_share_is_refused_while_others_are_served():
    with serving(queue_bytes=100_000, tenant_share=0.5) as at, at.connect() as flood:
        flood.sendall(HEAD + b"X-Tenant: noisy\r\nContent-Length: 60000\r\n\r\n")
        at.await_count("queue_bytes", 60_000)
        with at.connect() as other:
            other.sendall(HEAD + b"X-Tenant: quiet\r\nContent-Length: 100\r\n\r\n")
            at.await_count("queue_bytes", 60_100)
            code, headers, _ = at.post(export_request(), PROTOBUF | {"X-Tenant": "noisy"})
            assert (code, headers["retry-after"]) == (429, "1")
            assert at.count("tenant_over_share") == 1
            assert at.post(export_request(), PROTOBUF | {"X-Tenant": "quiet"})[0] == 200


def test_tenants_take_turns():
    gate, taken = threading.Event(), []

    def hold(group):
        taken.extend(tenant for _, tenant, _ in group.payloads())
        gate.wait(10)
        group.answer(OK)

    with serving(hold) as at:
        clients = [threading.Thread(target=at.post, args=(export_request(),))]
        clients[0].start()
        while not taken:
            time.sleep(0.001)
        for tenant in ["a", "a", "a", "b"]:
            headers = PROTOBUF | {"X-Tenant": tenant}
            clients.append(threading.Thread(target=at.post, args=(export_request(), headers)))
            clients[-1].start()
            waiting = len(clients) * len(export_request())
            at.await_count("queue_bytes", waiting)
        gate.set()
        for client in clients:
            client.join()
    assert taken == ["", "a", "b", "a", "a"]


def test_a_request_whose_deadline_has_passed_is_dropped_undecoded():
    gate, handled = threading.Event(), []

    def hold(group):
        handled.append(group.count)
        gate.wait(10)
        group.answer(OK)

    with serving(hold) as at, grpc.insecure_channel(f"127.0.0.1:{at.port}") as channel:
        export = channel.unary_unary(METHOD)
        first = export.future(export_request(), timeout=10)
        while not handled:
            time.sleep(0.001)
        with pytest.raises(grpc.RpcError) as late:
            export(export_request(), timeout=0.05)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gate.set()
        assert first.result() == b""
        assert export(export_request(), timeout=10) == b""
        assert at.count("expired") + at.count("abandoned") == 1
        assert sum(handled) == 2


def test_credentials_are_asked_for_once_and_refused_before_the_body():
    asked = []

    def verdict(entry: int, credential: str) -> dict[str, object]:
        asked.append(credential)
        return {"allowed": credential == "Bearer good", "tenant": "acme"}

    tenants = []

    def keep(group):
        tenants.extend(group.tenants)
        open_and_accept(group)

    with serving(keep, route={"auth_header": "authorization"}, verdict=verdict) as at:
        good, bad = PROTOBUF | {"Authorization": "Bearer good"}, PROTOBUF | {"Authorization": "Bearer bad"}
        assert [at.post(export_request(), good)[0] for _ in range(3)] == [200, 200, 200]
        with at.connect() as connection:
            connection.sendall(HEAD + b"Authorization: Bearer bad\r\nContent-Length: 90000\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        assert at.post(export_request(), bad)[0] == 401
        assert at.post(export_request())[0] == 401
        with grpc.insecure_channel(f"127.0.0.1:{at.port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(METHOD)(export_request(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert asked == ["Bearer good", "Bearer bad", "", ""]
        assert set(tenants) == {"acme"}
        assert at.count("refused_before_body") == 4


@pytest.mark.parametrize(
    ("message", "code", "details"),
    [
        (b"", "INTERNAL", "no message received"),
        (b"\0\0", "INTERNAL", "unexpected EOF"),
        (b"\0\0\0\0\x05ab", "INTERNAL", "unexpected EOF"),
        (b"\x01\0\0\0\x01a", "INTERNAL", "grpc: compressed flag set with identity or empty encoding"),
        (b"\x07\0\0\0\x01a", "INTERNAL", "grpc: received unexpected payload format"),
        (b"\0\0\0\0\x01ab", "INTERNAL", "cardinality violation: more than one message in a unary request"),
        (b"\0\xff\xff\xff\xffa", "RESOURCE_EXHAUSTED", "larger than max (4294967295 vs. 100000)"),
    ],
)
def test_broken_grpc_framing_is_refused(message, code, details, h2_request):
    with serving() as at:
        answer = h2_request(at.port, METHOD, message, {"content-type": "application/grpc"})
        assert answer["grpc-status"] == str(getattr(grpc.StatusCode, code).value[0])
        assert details in answer["grpc-message"]
        with grpc.insecure_channel(f"127.0.0.1:{at.port}") as channel:
            assert channel.unary_unary(METHOD)(export_request(), timeout=10) == b""


def test_unknown_grpc_encodings_timeouts_and_media_types_are_refused(h2_request):
    with serving() as at:
        grpc_head = {"content-type": "application/grpc"}
        answer = h2_request(at.port, METHOD, b"\0\0\0\0\0", grpc_head | {"grpc-encoding": "br"})
        assert answer["grpc-status"] == "12"
        answer = h2_request(at.port, METHOD, b"\0\0\0\0\0", grpc_head | {"grpc-timeout": "soon"})
        assert (answer["grpc-status"], answer["grpc-message"]) == ("13", "malformed grpc-timeout")
        assert h2_request(at.port, METHOD, b"\0\0\0\0\0", {"content-type": "text/plain"})[":status"] == "415"
        answer = h2_request(at.port, "/v1/traces", export_request(), PROTOBUF_H2)
        assert answer[":status"] == "200"


PROTOBUF_H2 = {"content-type": "application/x-protobuf"}


def test_a_drain_finishes_what_is_in_flight_and_accepts_nothing_new():
    gate, taken = threading.Event(), threading.Event()

    def hold(group):
        taken.set()
        gate.wait(10)
        group.answer(OK)

    with serving(hold) as at:
        answers = []
        client = threading.Thread(target=lambda: answers.append(at.post(export_request())))
        client.start()
        with at.connect() as idle:
            assert taken.wait(10)
            closing = threading.Thread(target=at.server.close, args=(10.0,))
            closing.start()
            assert read_all(idle) == b""
            with pytest.raises(ConnectionRefusedError):
                at.connect()
            gate.set()
            client.join()
            closing.join()
        code, headers, _ = answers[0]
        assert (code, headers["connection"]) == (200, "close")


def test_a_drain_says_goodaway_to_grpc_clients_and_finishes_their_requests():
    gate, taken = threading.Event(), threading.Event()

    def hold(group):
        taken.set()
        gate.wait(10)
        group.answer(OK)

    with serving(hold) as at, grpc.insecure_channel(f"127.0.0.1:{at.port}") as channel:
        answer = channel.unary_unary(METHOD).future(export_request(), timeout=10)
        assert taken.wait(10)
        closing = threading.Thread(target=at.server.close, args=(10.0,))
        closing.start()
        gate.set()
        assert answer.result() == b""
        closing.join()
        at.await_count("connections_open", 0)


def test_a_drain_ends_at_its_deadline():
    gate, taken = threading.Event(), threading.Event()

    def hold(group):
        taken.set()
        gate.wait(10)
        group.answer(OK)

    with serving(hold) as at:
        with at.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
            assert taken.wait(10)
            at.server.close(0.1)
            assert read_all(connection) == b""
        gate.set()


def test_one_server_closes_without_the_other_and_its_port_is_free_at_once():
    with serving() as at:
        other = at.listener.serve("127.0.0.1:0")
        address = other.address
        other.close(1)
        assert at.post(export_request())[0] == 200
        again = at.listener.serve(address)
        with pytest.raises(OSError, match="in use"):
            at.listener.serve(address)
        again.close(0)


def test_routes_are_swapped_while_a_request_is_under_way():
    with serving() as at, at.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 5\r\n\r\n")
        at.await_count("queue_bytes", 5)
        at.server.set_routes([])
        connection.sendall(b"\n\x03\n\x01\0")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert at.post(export_request())[0] == 404


def test_unix_sockets_are_served_and_removed(tmp_path):
    path = tmp_path / "door"
    path.write_bytes(b"")
    os.unlink(path)
    with serving(address=f"unix:{path}") as at:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        at.server.close(1)
        assert not path.exists()


def test_localhost_is_bound_under_its_name():
    with serving(address="localhost:0") as at:
        assert at.server.address.startswith("localhost:")
        assert at.post(export_request())[0] == 200


def test_a_listener_with_several_threads_serves():
    with serving(threads=2) as at:
        assert [at.post(export_request())[0] for _ in range(20)] == [200] * 20


def test_closing_a_listener_twice_is_harmless():
    door = native.Listener()
    door.close(0)
    door.close(0)
    with pytest.raises(OSError, match="closed"):
        door.serve("127.0.0.1:0")
