"""The exporter `otlp_grpc` against the official gRPC server, and against our listener for what that one lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from pydantic import ValidationError

from colonnade import native
from colonnade.exporters import otlp_grpc
from colonnade.exporters.otlp_grpc import Config, OTLPgRPCExporter, target
from colonnade.pipeline.component import ComponentId
from colonnade.pipeline.errors import ColonnadeError, Retryable
from tests.listener.kit import OK, serving
from tests.pipeline.kit import FakeHost

from .kit import grpc_server, refuse, request, slice_of, untouched

CERTIFICATES = Path(__file__).parents[1] / "listener/certificates"


@asynccontextmanager
async def running(endpoint: str, **keys: Any) -> AsyncIterator[OTLPgRPCExporter]:
    """The exporter, started; plain text unless the keys say otherwise."""
    config = Config.model_validate({"endpoint": endpoint, "tls": {"insecure": True}, **keys})
    exporter = OTLPgRPCExporter(ComponentId("otlp_grpc"), config)
    await exporter.start(FakeHost("otlp_grpc"))
    try:
        yield exporter
    finally:
        await exporter.shutdown()


async def test_untouched_requests_arrive_as_they_came_joined_end_to_end():
    one, two = request(2, "one"), request(3, "two")
    with grpc_server() as server:
        async with running(server.endpoint) as exporter:
            await exporter.export(untouched(one, two))
    assert server.requests == [one + two]
    assert server.methods == ["/opentelemetry.proto.collector.trace.v1.TraceService/Export"]
    spans = [s for r in ExportTraceServiceRequest.FromString(one + two).resource_spans for s in r.scope_spans[0].spans]
    assert len(spans) == 5


@pytest.mark.parametrize("signal", ["metrics", "logs"])
async def test_every_signal_goes_to_its_own_service(signal: str):
    bodies = {"metrics": b"\x0a\x0a\x12\x08\x12\x06\x0a\x01m\x2a\x01\x0a", "logs": b"\x0a\x04\x12\x02\x12\x00"}
    body = bodies[signal]
    if signal == "metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        message = ExportMetricsServiceRequest()
        metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
        metric.gauge.data_points.add(as_int=1)
        body = message.SerializeToString()
    with grpc_server() as server:
        async with running(server.endpoint) as exporter:
            await exporter.export(untouched(body, signal=signal))
    assert server.requests == [body]
    assert f".{signal}.v1." in server.methods[0]


@pytest.mark.parametrize("compression", ["none", "", "gzip", "snappy", "zstd"])
async def test_compressed_messages_open_to_the_same_bytes(compression: str):
    bodies: list[bytes] = []

    def handle(group: Any) -> None:
        bodies.extend(body for _, _, body in group.payloads())
        group.answer(OK)

    one = request(40)
    with serving(handle, route={"max_body_bytes": 4 << 20}) as at:
        async with running(f"127.0.0.1:{at.port}", compression=compression) as exporter:
            await exporter.export(untouched(*[one] * 40))
    assert bodies == [one * 40]


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_the_official_server_opens_what_it_knows(compression: str):
    with grpc_server() as server:
        async with running(server.endpoint, compression=compression) as exporter:
            await exporter.export(untouched(request(50)))
    assert server.requests == [request(50)]


async def test_headers_and_user_agent_are_sent_and_never_shown():
    with grpc_server() as server:
        async with running(
            server.endpoint, headers={"X-Scope-OrgID": "shop", "authorization": "Bearer s3cret"}, user_agent="sidecar"
        ) as exporter:
            await exporter.export(untouched(request()))
            assert "s3cret" not in repr(exporter.config)
    assert server.metadata[0]["x-scope-orgid"] == "shop"
    assert server.metadata[0]["authorization"] == "Bearer s3cret"
    assert server.metadata[0]["user-agent"].startswith("sidecar")


RETRIED = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code != grpc.StatusCode.OK], ids=str)
async def test_statuses_are_repeated_as_the_protocol_says(code: grpc.StatusCode):
    with grpc_server(refuse(code, "über 100 %")) as server:
        async with running(server.endpoint) as exporter:
            with pytest.raises(ColonnadeError, match="über 100 %") as failed:
                await exporter.export(untouched(request()))
    assert failed.value.permanent is (code.name not in RETRIED)
    assert failed.value.code.startswith("grpc_")
    assert failed.value.delay_s is None


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED], ids=str)
async def test_the_servers_delay_is_kept(code: grpc.StatusCode):
    with grpc_server(refuse(code, "busy", 2.5)) as server:
        async with running(server.endpoint) as exporter:
            with pytest.raises(Retryable, match="busy") as failed:
                await exporter.export(untouched(request()))
    assert failed.value.delay_s == 2.5


async def test_what_a_server_leaves_out_is_counted_and_told(caplog: pytest.LogCaptureFixture):
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = 3, "too old"
    with grpc_server(lambda *_: answer.SerializeToString()) as server:
        async with running(server.endpoint) as exporter:
            await exporter.export(untouched(request(5)))
            assert exporter.host.counts["exporter_rejected_spans"] == 3  # type: ignore[attr-defined]
    assert "the server left out 3 spans: too old" in caplog.text


async def test_a_server_that_is_down_can_be_tried_again_and_one_that_comes_back_is_found():
    with grpc_server() as server:
        async with running(server.endpoint) as exporter:
            await exporter.export(untouched(request()))
            port = server.port
    async with running(f"127.0.0.1:{port}") as exporter:
        with pytest.raises(Retryable, match=r"can not connect to 127\.0\.0\.1") as failed:
            await exporter.export(untouched(request()))
        assert failed.value.code == "grpc_unavailable"
        for _ in range(2):
            with grpc_server(address=f"127.0.0.1:{port}") as again:
                await exporter.export(untouched(request()))
                assert again.requests == [request()]


async def test_wait_for_ready_waits_for_the_server():
    with grpc_server() as server:
        port = server.port
    async with running(f"127.0.0.1:{port}", wait_for_ready=True, timeout="30s") as exporter:
        sending = asyncio.create_task(exporter.export(untouched(request())))
        await asyncio.sleep(0)
        with grpc_server(address=f"127.0.0.1:{port}") as again:
            await sending
            assert again.requests == [request()]


async def test_no_answer_in_time_can_be_tried_again():
    import threading

    hold = threading.Event()

    def slow(*_: Any) -> bytes:
        hold.wait(30)
        return b""

    with grpc_server(slow) as server:
        async with running(server.endpoint, timeout="50ms") as exporter:
            with pytest.raises(Retryable, match=r"DEADLINE_EXCEEDED|no answer within"):
                await exporter.export(untouched(request()))
        hold.set()


async def test_a_cancelled_export_breaks_its_call_off():
    import threading

    began, ended = threading.Event(), threading.Event()

    def slow(method: str, body: bytes, metadata: Any, context: Any) -> bytes:
        context.add_callback(ended.set)
        began.set()
        ended.wait(30)
        return b""

    with grpc_server(slow) as server:
        async with running(server.endpoint) as exporter:
            sending = asyncio.create_task(exporter.export(untouched(request())))
            await asyncio.to_thread(began.wait, 30)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert await asyncio.to_thread(ended.wait, 30)


async def test_connections_that_a_server_retires_cost_no_request():
    options = {"grpc.max_connection_age_ms": 100, "grpc.max_connection_age_grace_ms": 5000}
    with grpc_server(**options) as server:
        async with running(server.endpoint) as exporter:
            loop = asyncio.get_running_loop()
            ends = loop.time() + 1.0
            sent = 0
            while loop.time() < ends:
                await exporter.export(untouched(request()))
                sent += 1
    assert len(server.requests) == sent


async def test_a_server_that_speaks_no_grpc_is_named():
    async with running("127.0.0.1:1") as exporter:
        with pytest.raises(Retryable, match="can not connect"):
            await exporter.export(untouched(request()))
    with serving(protocols=("http1",)) as at:
        async with running(f"127.0.0.1:{at.port}") as exporter:
            with pytest.raises(ColonnadeError, match="UNAVAILABLE"):
                await exporter.export(untouched(request()))


async def test_a_unix_socket_is_an_endpoint(tmp_path: Path):
    with grpc_server(address=f"unix:{tmp_path}/s") as server:
        async with running(f"unix://{tmp_path}/s") as exporter:
            await exporter.export(untouched(request()))
    assert server.requests == [request()]


# --- TLS


def credentials(*, mutual: bool = False) -> Any:
    pair = ((CERTIFICATES / "server.key").read_bytes(), (CERTIFICATES / "server.pem").read_bytes())
    return grpc.ssl_server_credentials([pair], (CERTIFICATES / "ca.pem").read_bytes() if mutual else None, mutual)


async def test_tls_with_an_own_authority_and_a_client_certificate():
    tls = {
        "ca_file": str(CERTIFICATES / "ca.pem"),
        "cert_file": str(CERTIFICATES / "client.pem"),
        "key_pem": (CERTIFICATES / "client.key").read_text(),
    }
    with grpc_server(credentials=credentials(mutual=True)) as server:
        async with running(f"localhost:{server.port}", tls=tls) as exporter:
            await exporter.export(untouched(request()))
    assert server.requests == [request()]


@pytest.mark.parametrize(
    ("tls", "host", "reason"),
    [
        ({}, "localhost", "UnknownIssuer"),
        ({"ca_file": str(CERTIFICATES / "ca.pem"), "server_name_override": "other.example"}, "localhost", "valid for"),
    ],
)
async def test_a_server_that_is_not_trusted_gets_nothing(tls: dict[str, Any], host: str, reason: str):
    with grpc_server(credentials=credentials()) as server:
        async with running(f"{host}:{server.port}", tls=tls) as exporter:
            with pytest.raises(Retryable, match=reason):
                await exporter.export(untouched(request()))
    assert server.requests == []


@pytest.mark.parametrize(
    "tls",
    [
        {"insecure_skip_verify": True, "server_name_override": "other.example"},
        {"ca_file": str(CERTIFICATES / "ca.pem"), "insecure": True},
    ],
)
async def test_tls_that_is_not_checked_or_switched_on_by_an_authority(tls: dict[str, Any]):
    with grpc_server(credentials=credentials()) as server:
        async with running(f"localhost:{server.port}", tls=tls) as exporter:
            await exporter.export(untouched(request()))
    assert server.requests == [request()]


async def test_a_certificate_that_is_not_there_is_told_at_start():
    with pytest.raises(ColonnadeError, match=r"can not read /nowhere\.pem"):
        async with running("localhost:1", tls={"ca_file": "/nowhere.pem"}):
            pass


# --- slices


async def test_a_slice_that_is_too_large_goes_in_parts_and_a_repeat_sends_only_the_rest():
    bodies = [request(2, f"r{n}") for n in range(5)]
    refusals = [False, True]

    def once(method: str, body: bytes, metadata: Any, context: Any) -> bytes:
        if refusals and refusals.pop(0):
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return b""

    with grpc_server(once) as server:
        async with running(server.endpoint) as exporter:
            exporter.max_bytes = 2 * len(bodies[0])
            part = untouched(*bodies)
            with pytest.raises(Retryable):
                await exporter.export(part)
            await exporter.export(part)
            assert not exporter._sent
    pairs = [bodies[0] + bodies[1], bodies[2] + bodies[3], bodies[4]]
    assert server.requests == [pairs[0], pairs[1], pairs[1], pairs[2]]


async def test_changed_rows_are_encoded_anew():
    part = untouched(request(3, "one"))
    changed = native.take(part.batches[0], [2, 0])
    with grpc_server() as server:
        async with running(server.endpoint) as exporter:
            await exporter.export(slice_of([changed, *part.batches]))
    spans = ExportTraceServiceRequest.FromString(server.requests[0]).resource_spans[0].scope_spans[0].spans
    assert [span.span_id[-1] for span in spans] == [3, 1]
    assert server.requests[0].endswith(request(3, "one"))


async def test_a_request_that_is_too_large_alone_goes_in_parts():
    with grpc_server() as server:
        async with running(server.endpoint) as exporter:
            exporter.max_bytes = 1000
            await exporter.export(untouched(request(100), request(1)))
    assert len(server.requests) > 3
    assert all(len(body) <= 1000 for body in server.requests)
    found = [ExportTraceServiceRequest.FromString(body) for body in server.requests]
    ids = [s.span_id for r in found for resource in r.resource_spans for s in resource.scope_spans[0].spans]
    assert ids == [(n + 1).to_bytes(8, "big") for n in range(100)] + [bytes(7) + b"\x01"]


async def test_requests_of_several_batches_are_joined():
    bodies = [request(1, f"r{n}") for n in range(3)]
    with grpc_server() as server:
        async with running(server.endpoint) as exporter:
            await exporter.export(slice_of([b for body in bodies for b in untouched(body).batches]))
    assert server.requests == [b"".join(bodies)]


async def test_nothing_is_sent_after_shutdown_and_shutdown_may_be_repeated():
    with grpc_server() as server:
        async with running(server.endpoint) as exporter:
            await exporter.shutdown()
            with pytest.raises(Retryable, match="not running"):
                await exporter.export(untouched(request()))
    assert not server.requests


# --- configuration


def test_the_docstrings_sample_is_valid():
    sample = yaml.safe_load(otlp_grpc.__doc__.split("\n\n")[1])  # type: ignore[union-attr]
    assert Config.model_validate(sample["exporters"]["otlp_grpc"]).compression == "zstd"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("gateway:4317", ("gateway:4317", "gateway:4317", None)),
        ("[::1]:4317", ("[::1]:4317", "[::1]:4317", None)),
        ("http://gateway:4317", ("gateway:4317", "gateway:4317", False)),
        ("https://gateway:4317/", ("gateway:4317", "gateway:4317", True)),
        ("dns:///gateway:4317", ("gateway:4317", "gateway:4317", None)),
        ("unix:///run/otlp.sock", ("unix:/run/otlp.sock", "localhost", None)),
    ],
)
def test_endpoints_lead_where_they_say(endpoint: str, expected: tuple[str, str, bool | None]):
    assert target(endpoint) == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"endpoint": ""}, 'requires a non-empty "endpoint"'),
        ({"endpoint": "gateway"}, "must be host:port"),
        ({"endpoint": "gateway:http"}, "invalid port 'http'"),
        ({"endpoint": "gateway:70000"}, "invalid port '70000'"),
        ({"endpoint": "ftp://gateway:1"}, "unknown scheme"),
        ({"endpoint": "::1:4317"}, "must be host:port"),
        ({"endpoint": "https://a:1", "tls": {"insecure": True}}, "contradicts"),
        ({"endpoint": "a:1", "compression": "lz4"}, "compression"),
        ({"endpoint": "a:1", "headers": {"grpc-timeout": "1"}}, "belong to the protocol"),
        ({"endpoint": "a:1", "headers": {"a b": "1"}}, "not a metadata key"),
        ({"endpoint": "a:1", "endpoints": []}, "endpoints"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(keys: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(keys)
