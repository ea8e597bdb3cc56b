"""A listener with a Python side of its own: a thread that takes what waits and answers it."""

from __future__ import annotations

import http.client
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from colonnade import native

TRACES, GRPC, CONTROL = 1, 2, 3
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
MAX_BODY_BYTES = 100_000
OK = native.Answer(http_status=200, grpc_code=0)
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


def export_request(spans: int = 2, name: str = "checkout") -> bytes:
    """A small valid request."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(spans):
        span = scope.spans.add(name=name, start_time_unix_nano=1, end_time_unix_nano=2)
        span.trace_id, span.span_id = bytes([1] * 16), bytes([number + 1] * 8)
    return request.SerializeToString()


def routes(**more: Any) -> list[native.Route]:
    """Traces over HTTP and gRPC, and one route with a Python handler."""
    common = {"signal": "traces", "max_body_bytes": MAX_BODY_BYTES, "tenant_header": "x-tenant"} | more
    return [
        native.Route(entry=TRACES, method="POST", path="/v1/traces", kind="otlp_http", **common),
        native.Route(entry=GRPC, method="POST", path=METHOD, kind="otlp_grpc", **common),
        native.Route(entry=CONTROL, method="GET", path="/settings", kind="python", max_body_bytes=1000),
    ]


def open_and_accept(group: native.RequestGroup) -> None:
    """What an intake does, without rows."""
    if group.kind == "python":
        for request in group.requests():
            request.respond(200, [("content-type", "text/plain")], f"{request.path}?{request.query}".encode())
        return
    group.payloads()
    group.answer(OK)


@dataclass
class Serving:
    """A listener that is served by a thread. `handle` may be exchanged."""

    listener: native.Listener
    server: native.Server
    handle: Callable[[native.RequestGroup], None]
    verdict: Callable[[int, str], dict[str, Any]] | None = None
    groups: list[list[str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.server.address.rsplit(":", 1)[1])

    def run(self) -> None:
        while not self.stopped.is_set():
            select.select([self.listener.fileno()], [], [], 0.05)
            for entry in self.listener.ready():
                while group := self.listener.take(entry):
                    self.groups.append(group.tenants)
                    self.handle(group)
                    del group
            for entry, credential in self.listener.pending_credentials():
                if self.verdict is not None:
                    self.listener.set_verdict(entry, credential, **self.verdict(entry, credential))

    def post(
        self, body: bytes, headers: dict[str, str] = PROTOBUF, path: str = "/v1/traces", method: str = "POST"
    ) -> Any:
        """(status, headers, body) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def count(self, name: str) -> int:
        return self.listener.stats()[name]

    def await_count(self, name: str, value: int) -> None:
        """Waits until a counter has moved."""
        waited = threading.Event()
        for _ in range(500):
            if self.count(name) == value:
                return
            waited.wait(0.01)
        raise AssertionError(f"{name} is {self.count(name)}, not {value}")


@contextmanager
def serving(
    handle: Callable[[native.RequestGroup], None] = open_and_accept,
    *,
    address: str = "127.0.0.1:0",
    tls: dict[str, Any] | None = None,
    protocols: tuple[str, ...] = ("http1", "h2"),
    options: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    verdict: Callable[[int, str], dict[str, Any]] | None = None,
    **listener: Any,
) -> Iterator[Serving]:
    """A listener on a free port with a thread behind it."""
    door = native.Listener(**listener)
    server = door.serve(address, protocols=protocols, tls=tls)
    server.set_routes(routes(**(route or {})), native.ServerOptions(**(options or {})))
    it = Serving(door, server, handle, verdict)
    thread = threading.Thread(target=it.run)
    thread.start()
    try:
        yield it
    finally:
        it.stopped.set()
        thread.join()
        door.close(0)
