"""The exporter `otlp_http` against an HTTP server that answers as told, and against our listener."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from pydantic import ValidationError

from colonnade import native
from colonnade.exporters import otlp_http
from colonnade.exporters.otlp_http import Config, OTLPHTTPExporter, retry_after_s
from colonnade.pipeline.component import ComponentId
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable
from tests.differential.canonical import canonical, difference
from tests.differential.messages import REQUESTS, seeded
from tests.listener.kit import OK, serving
from tests.pipeline.kit import FakeHost

from .kit import request, untouched

CERTIFICATES = Path(__file__).parents[1] / "listener/certificates"
Answers = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def running(endpoint: str, **keys: Any) -> AsyncIterator[OTLPHTTPExporter]:
    exporter = OTLPHTTPExporter(ComponentId("otlp_http"), Config.model_validate({"endpoint": endpoint, **keys}))
    await exporter.start(FakeHost("otlp_http"))
    try:
        yield exporter
    finally:
        await exporter.shutdown()


@dataclass
class HTTPServer:
    """`bodies` and `headers` of what came, by path."""

    port: int = 0
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def http_server(answer: Answers | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[HTTPServer]:
    found = HTTPServer()

    async def handle(http: web.Request) -> web.Response:
        found.bodies.append((http.path, await http.read()))
        found.headers.append(dict(http.headers))
        found.connections.add(http.transport)
        return await answer(http) if answer else web.Response()

    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


def answering(status: int, body: bytes = b"", content_type: str = "text/plain", **headers: str) -> Answers:
    async def answer(http: web.Request) -> web.Response:
        return web.Response(
            status=status,
            body=body,
            headers={"Content-Type": content_type, **{k.replace("_", "-"): v for k, v in headers.items()}},
        )

    return answer


async def test_untouched_requests_arrive_as_they_came_joined_end_to_end():
    one, two = request(2, "one"), request(3, "two")
    async with http_server() as server, running(server.endpoint + "/", compression="none") as exporter:
        await exporter.export(untouched(one, two))
        await exporter.export(untouched(one))
    assert server.bodies == [("/v1/traces", one + two), ("/v1/traces", one)]
    assert server.headers[0]["Content-Type"] == "application/x-protobuf"
    assert "Content-Encoding" not in server.headers[0]
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    "compression", ["", "none", "gzip", "zstd", "snappy", "x-snappy-framed", "zlib", "deflate", "lz4"]
)
async def test_compressed_bodies_open_to_the_same_bytes(compression: str):
    bodies: list[bytes] = []

    def handle(group: Any) -> None:
        bodies.extend(body for _, _, body in group.payloads())
        group.answer(OK)

    one = request(40)
    with serving(handle, route={"max_body_bytes": 4 << 20}) as at:
        async with running(f"http://127.0.0.1:{at.port}", compression=compression) as exporter:
            await exporter.export(untouched(*[one] * 40))
    assert bodies == [one * 40]


async def test_a_level_of_compression_is_used():
    sizes = []
    async with http_server() as server:
        for level in (1, 9):
            async with running(server.endpoint, compression_params={"level": level}) as exporter:
                await exporter.export(untouched(*[request(40, f"n{n}") for n in range(40)]))
            sizes.append(int(server.headers[-1]["Content-Length"]))
    assert sizes[1] < sizes[0]


async def test_each_signal_may_have_its_own_url_and_one_without_any_is_refused():
    async with http_server() as server:
        config = {"traces_endpoint": f"{server.endpoint}/own/traces?key=1"}
        async with running("", **config) as exporter:
            await exporter.export(untouched(request()))
            with pytest.raises(Permanent, match="no endpoint for logs: write logs_endpoint"):
                await exporter.export(untouched(b"\x0a\x04\x12\x02\x12\x00", signal="logs"))
    assert [path for path, _ in server.bodies] == ["/own/traces"]


async def test_json_says_the_same():
    body = request(3)
    async with http_server() as server, running(server.endpoint, encoding="json", compression="none") as exporter:
        await exporter.export(untouched(body))
    assert server.headers[0]["Content-Type"] == "application/json"
    assert native.json_to_protobuf("traces", server.bodies[0][1]) == body.removesuffix(b"\xfa\x01\x03new")
    spans = json.loads(server.bodies[0][1])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert spans[0]["traceId"] == "01" * 16
    assert spans[0]["startTimeUnixNano"] == "1800000000000000000"


async def test_headers_are_sent_and_never_shown():
    async with (
        http_server() as server,
        running(server.endpoint, headers={"Authorization": "Bearer s3cret"}) as exporter,
    ):
        await exporter.export(untouched(request()))
        assert "s3cret" not in repr(exporter.config)
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert server.headers[0]["User-Agent"].startswith("colonnade/")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 501, 502, 503, 504])
async def test_statuses_are_repeated_as_the_protocol_says(status: int):
    async with http_server(answering(status, b"try elsewhere")) as server, running(server.endpoint) as exporter:
        with pytest.raises(ColonnadeError, match=f"the server answered {status}: try elsewhere") as failed:
            await exporter.export(untouched(request()))
    assert failed.value.permanent is (status not in (429, 502, 503, 504))
    assert failed.value.code == f"http_{status}"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (Status(code=3, message="span 7 is wrong").SerializeToString(), "application/x-protobuf"),
        (b'{"code":3,"message":"span 7 is wrong"}', "application/json; charset=utf-8"),
    ],
)
async def test_a_refusal_is_told_in_the_servers_words(body: bytes, content_type: str):
    async with http_server(answering(400, body, content_type)) as server, running(server.endpoint) as exporter:
        with pytest.raises(Permanent, match="the server answered 400: span 7 is wrong"):
            await exporter.export(untouched(request()))


async def test_the_servers_delay_is_kept():
    answer = answering(503, Retry_After="7")
    async with http_server(answer) as server, running(server.endpoint) as exporter:
        with pytest.raises(Retryable) as failed:
            await exporter.export(untouched(request()))
    assert failed.value.delay_s == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("1.5", None),
    ],
)
def test_delays_are_seconds_or_dates(value: str, seconds: float | None):
    assert retry_after_s(value, 1_800_000_000.0) == seconds


@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json"])
async def test_what_a_server_leaves_out_is_counted_and_told(content_type: str, caplog: pytest.LogCaptureFixture):
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = 3, "too old"
    text = b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}'
    body = text if content_type.endswith("json") else answer.SerializeToString()
    async with http_server(answering(200, body, content_type)) as server, running(server.endpoint) as exporter:
        await exporter.export(untouched(request(5)))
        assert exporter.host.counts["exporter_rejected_spans"] == 3  # type: ignore[attr-defined]
    assert "the server left out 3 spans: too old" in caplog.text


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff", b"{", b"[]", b'{"partialSuccess":null}', b"x" * 200_000])
@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json", "text/html"])
async def test_a_strange_body_of_a_success_is_a_success(body: bytes, content_type: str):
    async with http_server(answering(200, body, content_type)) as server, running(server.endpoint) as exporter:
        await exporter.export(untouched(request()))


async def test_a_server_that_is_down_can_be_tried_again():
    async with http_server() as server:
        port = server.port
    async with running(f"http://user:s3cret@127.0.0.1:{port}") as exporter:
        with pytest.raises(Retryable, match=f"http://127.0.0.1:{port}/v1/traces") as failed:
            await exporter.export(untouched(request()))
    assert failed.value.code == "unreachable"
    assert "s3cret" not in failed.value.message


async def test_no_answer_in_time_can_be_tried_again():
    hold = asyncio.Event()

    async def slow(http: web.Request) -> web.Response:
        await hold.wait()
        return web.Response()

    async with http_server(slow) as server, running(server.endpoint, timeout="50ms") as exporter:
        with pytest.raises(Retryable, match=r"no answer within 0\.05s") as failed:
            await exporter.export(untouched(request()))
        hold.set()
    assert failed.value.code == "timeout"


def server_tls(*, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
    if mutual:
        context.load_verify_locations(CERTIFICATES / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_tls_with_an_own_authority_and_a_client_certificate():
    tls = {
        "ca_pem": (CERTIFICATES / "ca.pem").read_text(),
        "cert_pem": (CERTIFICATES / "client.pem").read_text(),
        "key_pem": (CERTIFICATES / "client.key").read_text(),
    }
    async with (
        http_server(tls=server_tls(mutual=True)) as server,
        running(f"https://localhost:{server.port}", tls=tls) as exporter,
    ):
        await exporter.export(untouched(request()))
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("tls", "trusted"),
    [
        ({}, False),
        ({"insecure_skip_verify": True}, True),
        ({"ca_file": str(CERTIFICATES / "ca.pem"), "server_name_override": "localhost"}, True),
        ({"ca_file": str(CERTIFICATES / "ca.pem"), "server_name_override": "other.example"}, False),
    ],
)
async def test_only_a_trusted_server_gets_rows(tls: dict[str, Any], trusted: bool):
    async with (
        http_server(tls=server_tls()) as server,
        running(f"https://127.0.0.1:{server.port}", tls=tls) as exporter,
    ):
        if trusted:
            await exporter.export(untouched(request()))
        else:
            with pytest.raises(Retryable, match=r"(?i)certificate"):
                await exporter.export(untouched(request()))
    assert bool(server.bodies) is trusted


async def test_a_certificate_that_is_not_there_is_told_at_start():
    with pytest.raises(ColonnadeError, match="tls: "):
        async with running("https://localhost:1", tls={"ca_file": "/nowhere.pem"}):
            pass


async def test_a_proxy_is_gone_through():
    async with http_server() as proxy, running("http://gateway.invalid:4318", proxy_url=proxy.endpoint) as exporter:
        await exporter.export(untouched(request()))
    assert proxy.headers[0]["Host"] == "gateway.invalid:4318"


def test_the_docstrings_sample_is_valid():
    sample = yaml.safe_load(otlp_http.__doc__.split("\n\n")[1])  # type: ignore[union-attr]
    assert Config.model_validate(sample["exporters"]["otlp_http"]).url("logs") == "https://otlp.example.com/v1/logs"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "at least one endpoint"),
        ({"endpoint": "gateway:4318"}, "expected a URL"),
        ({"endpoint": "http://a", "encoding": "xml"}, "encoding"),
        ({"endpoint": "http://a", "compression": "br"}, "compression"),
        ({"endpoint": "http://a", "headers": {"a": "b\nc"}}, "line break"),
        ({"endpoint": "http://a", "headers": {"a b": "c"}}, "not a header name"),
        ({"endpoint": "http://a", "proxy_url": "gateway"}, "expected a URL"),
        ({"endpoint": "http://a", "url": "b"}, "url"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(keys: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(keys)


@pytest.mark.parametrize("signal", REQUESTS)
def test_json_says_what_the_official_message_says(signal: str):
    for seed in range(200):
        message = seeded(signal, seed)
        text = native.protobuf_to_json(signal, message.SerializeToString())
        json.loads(text)
        parsed = REQUESTS[signal].FromString(native.json_to_protobuf(signal, text))
        assert not difference(canonical(message), canonical(parsed)), text


def test_what_is_no_request_has_no_json():
    with pytest.raises(native.NativeError) as failed:
        native.protobuf_to_json("traces", b"\x0a\x05x")
    assert failed.value.code == "malformed"
