"""What a sender is told of a pipeline's result, over both protocols: the Collector's table, and a delay besides."""

from __future__ import annotations

import http.client
from collections.abc import AsyncIterator, Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from colonnade.daemon.configuration import load
from colonnade.daemon.graph import Engine
from colonnade.daemon.health import Health
from colonnade.daemon.host import Services
from colonnade.daemon.telemetry import Metrics
from colonnade.native import Listener
from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Processor, signals
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable
from colonnade.pipeline.outcome import TABLE
from colonnade.pipeline.registry import GROUP, Registry
from colonnade.pipeline.settings import Settings
from tests.daemon_process import Daemon, free_port, otlp_config
from tests.wire.payloads import METHODS, payload, spans

DELAY_S = 7.0
FILE = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{}"}}, http: {{endpoint: "127.0.0.1:{}"}}}}}}}}
processors: {{verdict: }}
exporters: {{nop: }}
service: {{pipelines: {{traces: {{receivers: [otlp], processors: [verdict], exporters: [nop]}}}}}}
"""

# Kind of the pipeline's result: gRPC code, HTTP status, whether the sender is told to come back.
EXPECTED: dict[str, tuple[str, int, bool]] = {
    "invalid": ("INVALID_ARGUMENT", 400, False),
    "unauthenticated": ("UNAUTHENTICATED", 401, False),
    "forbidden": ("PERMISSION_DENIED", 403, False),
    "unimplemented": ("UNIMPLEMENTED", 404, False),
    "quota": ("RESOURCE_EXHAUSTED", 429, True),
    "internal": ("INTERNAL", 500, False),
    "canceled": ("CANCELLED", 503, True),
    "deadline_exceeded": ("DEADLINE_EXCEEDED", 503, True),
    "aborted": ("ABORTED", 503, True),
    "out_of_range": ("OUT_OF_RANGE", 503, True),
    "unavailable": ("UNAVAILABLE", 503, True),
    "data_loss": ("DATA_LOSS", 503, True),
}


class NoKeys(Settings):
    pass


class Verdict(Processor):
    """Raises what it is told to."""

    error: ColonnadeError | Exception | None = None

    def __init__(self, id: ComponentId, config: NoKeys) -> None:
        super().__init__(id)

    def process(self, batch: Any, ctx: BatchContext) -> Any:
        if Verdict.error is not None:
            raise Verdict.error
        ctx.drop(1, "rejected", "too old")
        return batch.slice(0, batch.rows - 1)


class Rejects(Verdict):
    rejects = True


@pytest.fixture
async def addresses(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Where the graph listens, by transport."""
    verdict = Factory("verdict", "processor", NoKeys, Rejects, signals())
    installed: dict[str, Any] = {point.name: point for point in entry_points(group=GROUP)}
    components = Registry(installed | {"processor.verdict": verdict})
    configuration = load([f"yaml:{FILE.format(free_port(), free_port())}"], env={}, components=components)
    services = Services(Metrics("detailed"), Health(lambda _: None), Listener(), data=tmp_path)
    engine = Engine(services)
    await engine.apply(configuration)
    assert engine.graph is not None
    yield {o.entry.transport: engine.doors.addresses[o.entry.server.address] for o in engine.graph.openings}
    Verdict.error = None
    await engine.shutdown(1)
    services.listener.close(0)
    assert services.close(5)


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(function, *arguments)


def over_http(address: str, body: bytes) -> tuple[int, float | None, Any]:
    """Status, Retry-After, and the body as google.rpc.Status."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        wait = answer.getheader("retry-after")
        return answer.status, float(wait) if wait else None, status_pb2.Status.FromString(answer.read())
    finally:
        connection.close()


def over_grpc(address: str, body: bytes) -> tuple[str, str, float | None]:
    """Code, message, and the delay of RetryInfo."""
    with grpc.insecure_channel(address) as channel:
        done: Any = channel.unary_unary(METHODS["traces"]).future(body, timeout=10)
        details = dict(done.trailing_metadata() or ()).get("grpc-status-details-bin")
        return done.code().name, done.details(), _delay(status_pb2.Status.FromString(details)) if details else None


def _delay(status: Any) -> float | None:
    info = error_details_pb2.RetryInfo()
    found = [info.retry_delay.seconds + info.retry_delay.nanos / 1e9 for d in status.details if d.Unpack(info)]
    return found[0] if found else None


def test_the_table_has_every_kind() -> None:
    assert EXPECTED.keys() | {"accepted", "partial"} == TABLE.keys()


@pytest.mark.parametrize("kind", EXPECTED)
async def test_a_refusal_is_told_as_the_collector_tells_it(addresses: dict[str, str], kind: str) -> None:
    code, status, comes_back = EXPECTED[kind]
    base = Retryable if comes_back else Permanent
    error = type("Told", (base,), {"kind": kind})("told", f"because of {kind}")
    error.delay_s = DELAY_S if comes_back else None
    Verdict.error = error
    wait = DELAY_S if comes_back else None
    assert await in_thread(over_grpc, addresses["grpc"], payload("good")) == (code, f"because of {kind}", wait)
    got, retry_after, told = await in_thread(over_http, addresses["http"], payload("good"))
    assert (got, retry_after) == (status, wait)
    assert (told.code, told.message) == (getattr(grpc.StatusCode, code).value[0], f"because of {kind}")
    assert _delay(told) == wait


async def test_an_unforeseen_error_is_internal_and_tells_nothing_of_the_rows(addresses: dict[str, str]) -> None:
    Verdict.error = ValueError("secret row")
    code, message, wait = await in_thread(over_grpc, addresses["grpc"], payload("good"))
    assert (code, wait) == ("INTERNAL", None)
    status, retry_after, told = await in_thread(over_http, addresses["http"], payload("good"))
    assert (status, retry_after, told.code) == (500, None, 13)
    assert message == told.message == "internal error (ValueError); see the daemon's log"


async def test_rejected_rows_are_told_as_partial_success(addresses: dict[str, str]) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    def send() -> tuple[bytes, bytes]:
        connection = http.client.HTTPConnection(addresses["http"], timeout=10)
        connection.request("POST", "/v1/traces", spans(3), {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        assert answer.status == 200
        body = answer.read()
        connection.close()
        with grpc.insecure_channel(addresses["grpc"]) as channel:
            return body, channel.unary_unary(METHODS["traces"])(spans(3), timeout=10)

    for body in await in_thread(send):
        told = ExportTraceServiceResponse.FromString(body).partial_success
        assert (told.rejected_spans, told.error_message) == (1, "1 too old")


def test_above_the_memory_limit_both_protocols_are_told_to_come_back(start_daemon: Callable[..., Daemon]) -> None:
    limiter = {"memory_limiter": {"check_interval": "1s", "limit_mib": 1}}
    daemon = start_daemon(otlp_config({"nop": None}, processors=limiter, signals=("traces",)))
    why = "data refused due to high memory usage"
    assert over_grpc(daemon.grpc_endpoint, payload("good")) == ("UNAVAILABLE", why, 1.0)
    status, retry_after, told = over_http(daemon.http_endpoint, payload("good"))
    assert (status, retry_after, told.code, told.message) == (503, 1.0, 14, why)
    daemon.wait_metric("processor_memory_limiter_refused_bytes", 2 * len(payload("good")))
    assert daemon.metric("receiver_accepted_spans") == 0
