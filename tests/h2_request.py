"""A client of HTTP/2 that may break gRPC's framing, which grpcio never does."""

from __future__ import annotations

import socket

import pytest
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

TIMEOUT_S = 10.0
STREAM = 1


class _Upload:
    """A body on its way: as much at once as the other side has room for."""

    def __init__(self, connection: H2Connection, body: bytes) -> None:
        self.connection = connection
        self.left: bytes | None = body

    def go_on(self) -> None:
        while self.left is not None:
            room = min(
                self.connection.local_flow_control_window(STREAM),
                self.connection.max_outbound_frame_size,
                len(self.left),
            )
            if self.left and not room:
                return
            piece, rest = self.left[:room], self.left[room:]
            self.connection.send_data(STREAM, piece, end_stream=not rest)
            self.left = rest or None


def request(port: int, path: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
    """POSTs to loopback; gives `:status`, headers and trailers of the answer, by name."""
    connection = H2Connection()
    connection.initiate_connection()
    head = [(":method", "POST"), (":scheme", "http"), (":authority", f"127.0.0.1:{port}"), (":path", path)]
    connection.send_headers(STREAM, [*head, *headers.items()])
    upload = _Upload(connection, body)
    found: dict[str, str] = {}
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as wire:
        while True:
            upload.go_on()
            wire.sendall(connection.data_to_send())
            received = wire.recv(65536)
            if not received:
                return found
            for event in connection.receive_data(received):
                if isinstance(event, (ResponseReceived, TrailersReceived)):
                    found |= {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, (StreamEnded, StreamReset, ConnectionTerminated)):
                    return found


@pytest.fixture
def h2_request():
    """Calls `(port, path, body, headers)`; gives status, headers and trailers of the answer."""
    return request
