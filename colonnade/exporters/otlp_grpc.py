"""Sends traces, metrics and logs as OTLP over gRPC, to a gateway or any server that speaks it.

    exporters:
      otlp_grpc:
        endpoint: gateway.example.com:4317
        tls:
          insecure: true
        compression: zstd
        headers:
          x-scope-orgid: checkout

Guarantees: rows that no processor changed are sent as the very bytes they came in, unknown fields included; requests
are joined up to `sending_queue.batch.max_size`. A request is repeated until the server has answered it, so a server
that dies between taking and answering sees it twice: at least once. Ours then makes the same ids again.

On overload: the server's delay (RetryInfo) is the least wait before a repeat; meanwhile rows wait in the log, which
refuses callers when it is full. `RESOURCE_EXHAUSTED` without a delay, `INVALID_ARGUMENT` and the like are never
repeated: those slices become dead letters. What the server leaves out of a request it takes (`partial_success`) is
counted and told in the log.

Specification: OTLP 1.11, https://opentelemetry.io/docs/specs/otlp/

Differences from the Collector's `otlp_grpc` exporter:

- An `http://` endpoint is plain text, also without `tls.insecure`.
- The environment's proxies are not used; buffer sizes are accepted and mean nothing here.
- Credentials of `auth` are also sent without TLS, and the log says so.
- `timeout` bounds every request; slices are sent once they hold 8,192 rows or are 200 ms old.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from colonnade import __version__
from colonnade.native import Channel, Frame, ServerAnswer
from colonnade.pipeline.client_tls import native_arguments
from colonnade.pipeline.component import ComponentId, Factory, Host, signals
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable
from colonnade.pipeline.forwarding import INLINE_BYTES, ForwardingExporter, Request
from colonnade.pipeline.settings import (
    MIB,
    ByteSize,
    ClientAuth,
    Duration,
    ExporterSettings,
    OptionalSection,
    Secret,
    Settings,
    TLSClient,
)

SERVICES: Final = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
# A server's default is 4 MiB; some room is left for what joining adds.
REQUEST_MAX_BYTES: Final = 4 * MIB - (64 << 10)
NO_TIMEOUT_S: Final = 86_400.0

CODES: Final = (
    *("ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists"),
    *("permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented"),
    *("internal", "unavailable", "data_loss", "unauthenticated"),
)
RETRYABLE: Final = frozenset({"canceled", "deadline_exceeded", "aborted", "out_of_range", "unavailable", "data_loss"})


class KeepaliveClient(Settings):
    """`keepalive`."""

    time: Duration = Field(default=0.0, description="Ping a silent server after this; 0 = never.")
    timeout: Duration = Field(default=20.0, description="How long to wait for the ping's answer; 0 = the default.")
    permit_without_stream: bool = Field(default=False, description="Ping also while no request is under way.")


class Target(NamedTuple):
    """Where an endpoint leads. `secure` is None where it does not say."""

    address: str
    authority: str
    secure: bool | None


Compression = Literal["none", "gzip", "snappy", "zstd", "deflate"]


class Config(ExporterSettings):
    """Keys of the exporter; the Collector's."""

    endpoint: str = Field(description="host:port, http(s)://host:port, dns:///host:port or unix:///path.")
    tls: TLSClient = Field(default_factory=lambda: TLSClient(), description="TLS to the server.")
    compression: Annotated[Compression, BeforeValidator(lambda value: value or "none")] = Field(  # pyright: ignore[reportUnknownLambdaType]
        default="gzip", description="How messages are compressed; empty or none: not at all."
    )
    headers: dict[str, Secret] = Field(default_factory=dict[str, Secret], description="Metadata of every request.")
    auth: OptionalSection[ClientAuth] = Field(default=None, description="What tells the server who sends.")
    timeout: Duration = Field(default=5.0, description="Bound of one request; 0 = no bound.")
    keepalive: OptionalSection[KeepaliveClient] = Field(default=None, description="Pings.")
    balancer_name: Literal["round_robin", "pick_first"] = Field(
        default="round_robin", description="Requests go to all addresses of the name in turn, or to the first."
    )
    wait_for_ready: bool = Field(
        default=False, description="A server that is down makes a request wait for it until its timeout."
    )
    authority: str = Field(default="", description="The `:authority` of requests; default: the endpoint's host.")
    user_agent: str = Field(default=f"colonnade/{__version__}", description="What the server is told to be called by.")
    read_buffer_size: ByteSize = Field(default=0, description="Accepted; buffers are the system's.")
    write_buffer_size: ByteSize = Field(default=512 << 10, description="Accepted; buffers are the system's.")

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, endpoint: str) -> str:
        target(endpoint)
        return endpoint

    @field_validator("headers")
    @classmethod
    def _headers(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        for name in headers:
            if not name or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
                raise ValueError(f"not a metadata key: {name!r}")
            if name.lower().startswith("grpc-"):
                raise ValueError(f"metadata key {name!r}: keys that begin with grpc- belong to the protocol")
        return {name.lower(): value for name, value in headers.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.target.secure and self.tls.insecure:
            raise ValueError("tls.insecure contradicts an https:// endpoint: remove one of them")
        return self

    @property
    def target(self) -> Target:
        return target(self.endpoint)

    @property
    def secure(self) -> bool:
        """As in the Collector, authorities given by name switch TLS on, whatever `insecure` says."""
        said = self.target.secure
        return said if said is not None else not self.tls.insecure or bool(self.tls.ca_file or self.tls.ca_pem)


class OTLPgRPCExporter(ForwardingExporter):
    """Requests over the native client's connections."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id, config, REQUEST_MAX_BYTES, config.auth)
        self.config = config
        self._channel: Channel | None = None

    async def start(self, host: Host) -> None:
        await super().start(host)
        config, target = self.config, self.config.target
        pings = config.keepalive or KeepaliveClient()
        try:
            self._channel = Channel(
                target.address,
                authority=config.authority or target.authority,
                tls=native_arguments(config.tls) if config.secure else None,
                round_robin=config.balancer_name == "round_robin",
                ping_interval_s=pings.time,
                ping_timeout_s=pings.timeout or 20.0,
                ping_idle=pings.permit_without_stream,
            )
        except (ValueError, OSError) as error:
            raise ColonnadeError("client", f"exporter {self.id} can not connect to anything: {error}") from error
        self.credentials.start(host, target.address, config.secure)

    async def shutdown(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    @property
    def given_headers(self) -> dict[str, str]:
        revealed = {name: value.reveal() for name, value in self.config.headers.items()}
        return {"user-agent": self.config.user_agent} | revealed

    async def send(self, signal: str, request: Request, headers: dict[str, str]) -> None:
        """Raises Retryable, Permanent."""
        compressed = self.config.compression != "none" and request.nbytes > INLINE_BYTES
        frame = await self.host.run(self._frame, request) if compressed else self._frame(request)
        answer = await self._call(SERVICES[signal], frame, headers)
        if answer.code:
            raise failure(answer)
        self.count_rejected(signal, answer.rejected, answer.rejected_message)

    def _frame(self, request: Request) -> Frame:
        return Frame(request.parts, self.config.compression)

    async def _call(self, path: str, frame: Frame, headers: dict[str, str]) -> ServerAnswer:
        if self._channel is None:
            raise Retryable("stopped", f"exporter {self.id} is not running")
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[ServerAnswer] = loop.create_future()

        def settle(answer: ServerAnswer) -> None:
            if not answered.done():
                answered.set_result(answer)

        def done(answer: ServerAnswer) -> None:
            # The loop may be gone by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, answer)

        call = self._channel.call(
            path,
            list(headers.items()),
            frame,
            done,
            timeout_s=self.config.timeout or NO_TIMEOUT_S,
            wait_for_ready=self.config.wait_for_ready,
        )
        try:
            return await answered
        except asyncio.CancelledError:
            call.cancel()
            raise


def target(endpoint: str) -> Target:
    """Where an endpoint leads. Raises ValueError with what is wrong and what is allowed."""
    if not endpoint:
        raise ValueError('requires a non-empty "endpoint", for example gateway:4317')
    scheme, colon, rest = endpoint.partition(":")
    if colon and scheme == "unix":
        path = rest.removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"endpoint {endpoint!r}: write unix:///path")
        return Target(f"unix:{path}", "localhost", None)
    if "://" not in endpoint:
        return _host_port(endpoint, endpoint, None)
    if scheme in ("dns", "passthrough"):
        return _host_port(rest.removeprefix("//").rpartition("/")[2], endpoint, None)
    if scheme in ("http", "https"):
        return _host_port(urlsplit(endpoint).netloc, endpoint, scheme == "https")
    raise ValueError(f"endpoint {endpoint!r}: unknown scheme; write host:port, https://host:port or unix:///path")


def _host_port(text: str, endpoint: str, secure: bool | None) -> Target:
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed) or "@" in host or "/" in host:
        raise ValueError(f"endpoint {endpoint!r} must be host:port, for example gateway:4317 or [::1]:4317")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"endpoint {endpoint!r}: invalid port {port!r}")
    return Target(text, text, secure)


def failure(answer: ServerAnswer) -> ColonnadeError:
    """What a status other than OK means (OTLP 1.11, 'OTLP/gRPC Response', table of retryable codes)."""
    name = CODES[answer.code] if answer.code < len(CODES) else "unknown"
    delay_s = answer.retry_after_s
    text = f"{name.upper()}: {answer.message[:300]}" if answer.message else name.upper()
    if name in RETRYABLE or (name == "resource_exhausted" and delay_s is not None):
        return Retryable(f"grpc_{name}", text, delay_s)
    return Permanent(f"grpc_{name}", text)


factory = Factory(
    type="otlp_grpc",
    kind="exporter",
    config=Config,
    create=OTLPgRPCExporter,
    signals=signals(),
    aliases=("otlp",),
    stability="stable",
)
