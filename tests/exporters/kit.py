"""Exporters of OTLP in a test: slices of requests, and servers that answer as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from colonnade import native
from colonnade.pipeline.component import Slice

Handler = Callable[[str, bytes, dict[str, Any], Any], bytes]


def request(spans: int = 2, name: str = "checkout") -> bytes:
    """A request that says more than columns keep: a field that nobody knows."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = name
    scope = resource.scope_spans.add()
    for number in range(spans):
        span = scope.spans.add(name=name, start_time_unix_nano=1_800_000_000_000_000_000, end_time_unix_nano=2)
        span.trace_id, span.span_id = bytes([1] * 16), (number + 1).to_bytes(8, "big")
    return message.SerializeToString() + b"\xfa\x01\x03new"


def slice_of(batches: Sequence[native.Batch], **more: Any) -> Slice:
    """A slice of a log that holds these batches and nothing else."""
    rows, nbytes = sum(b.rows for b in batches), sum(b.nbytes for b in batches)
    signal = batches[0].signal
    return Slice("log", signal, signal, 0, rows, list(batches), rows, nbytes, **more)


def untouched(*payloads: bytes, signal: str = "traces") -> Slice:
    """One batch of requests as they came."""
    batch, refused = native.decode(signal, list(payloads), keep_payload=True)
    assert not refused
    return slice_of([batch])


@dataclass
class GRPCServer:
    """An official server; `requests` are the bytes that it got, `metadata` what came with them."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"


def accept(method: str, body: bytes, metadata: dict[str, Any], context: Any) -> bytes:
    return b""


def refuse(code: grpc.StatusCode, message: str = "no", delay_s: float | None = None) -> Handler:
    """A handler that answers with a status, and with RetryInfo where there is a delay."""

    def handle(method: str, body: bytes, metadata: dict[str, Any], context: Any) -> bytes:
        if delay_s is not None:
            detail = AnyMessage()
            detail.Pack(RetryInfo(retry_delay=Duration(seconds=int(delay_s), nanos=int(delay_s % 1 * 1e9))))
            status = Status(code=code.value[0], message=message, details=[detail])
            context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        context.abort(code, message)
        raise AssertionError("abort raises")

    return handle


@contextmanager
def grpc_server(
    handle: Handler = accept, *, address: str = "127.0.0.1:0", credentials: Any = None, **options: Any
) -> Iterator[GRPCServer]:
    """The official gRPC server with any OTLP service."""
    found = GRPCServer(0)

    class Service(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            metadata = dict(details.invocation_metadata)

            def call(body: bytes, context: grpc.ServicerContext) -> bytes:
                found.requests.append(body)
                found.metadata.append(metadata)
                found.methods.append(details.method)
                return handle(details.method, body, metadata, context)

            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0), *options.items()])
    server.add_generic_rpc_handlers((Service(),))
    if credentials is None:
        found.port = server.add_insecure_port(address)
    else:
        found.port = server.add_secure_port(address, credentials)
    server.start()
    try:
        yield found
    finally:
        server.stop(None).wait()
