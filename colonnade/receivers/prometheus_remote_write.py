"""Receives what Prometheus writes, and whoever else speaks remote write: version 1.0 and 2.0.

    receivers:
      prometheus_remote_write:
        endpoint: localhost:9090
        tenant:
          header: x-scope-orgid

`POST /api/v1/write` takes `prometheus.WriteRequest` (1.0; also without a Content-Type) and
`io.prometheus.write.v2.Request` (2.0), packed by snappy. Every sample of every series is a row, the series of classic
histograms and summaries included; so is every native histogram, with its buckets, and every exemplar that comes without
a sample. Samples in any order are taken, also older ones than before. What 1.0 says about types and units comes in
requests of its own, once a minute: it is remembered in memory, by tenant and name of the metric, and until it has come
`metric_type` is `unknown`. 2.0 says so with each series where Prometheus has `metadata-wal-records` switched on.

Guarantees: a request is answered 204 after its rows are in the log of every pipeline that names this receiver. A
request that is none is refused whole. A series, sample, histogram or exemplar that is wrong is left out alone: the
others are stored, and the answer is 400 and says what was wrong, which senders do not repeat. A sample that stands
twice in a request is stored once; with two values, the first is. Answers to 2.0 say in their headers how much of the
request was taken. Ids are made of labels and time, so that a request that is sent again makes the same rows.

On overload: 503 with Retry-After, also to a tenant over its share of the listener's queue: Prometheus does not repeat
what is answered 429.

Specification: https://prometheus.io/docs/specs/prw/remote_write_spec/ (1.0),
https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/ (2.0), and the unified mapping 3.17.

Differences from the Collector's `prometheusremotewrite` receiver:

- It takes 1.0, the series of classic histograms and summaries, and samples and metadata as they were sent: nothing is
  made into points of OTLP.
- `tenant` says which tenant (column `ns`) a request belongs to, as in `otlp`.
- `metadata_help` keeps the description of a metric with its rows.
- `http` timeouts are not 0: `read_timeout` is 2m, `idle_timeout` 5m.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from colonnade.pipeline.component import (
    ComponentId,
    Entry,
    Factory,
    Host,
    Receiver,
    RouteSpec,
    ServerSpec,
    Signal,
    signals,
)
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.event_receiver import Refusal
from colonnade.pipeline.intake import log_unforeseen
from colonnade.pipeline.outcome import of_error, status
from colonnade.pipeline.settings import MIB, ByteSize, Duration, HTTPServer, Tenant

if TYPE_CHECKING:
    from colonnade.native import Batch, MetricFamilies, NativeError, Request

BODY_MAX_BYTES_DEFAULT: Final = 10 * MIB
# Decoding this much takes about as long as a hop to an executor thread and back.
INLINE_BYTES: Final = 32 << 10
Version = Literal[1, 2]
Headers = list[tuple[str, str]]
# Samples, histograms and exemplars.
Written = tuple[int, int, int]

VERSIONS: Final[dict[str, Version]] = {"prometheus.WriteRequest": 1, "io.prometheus.write.v2.Request": 2}
MEDIA_TYPE: Final = "application/x-protobuf"
WRITTEN: Final = tuple(f"x-prometheus-remote-write-{what}-written" for what in ("samples", "histograms", "exemplars"))
NOTHING: Final = (0, 0, 0)
TEXT: Final = ("content-type", "text/plain; charset=utf-8")
# Statuses of what a request is refused for whole.
STATUSES: Final = {"corrupt": 400, "malformed": 400, "too_large": 413}


class Config(HTTPServer):
    """The receiver's section."""

    endpoint: str = Field(default="localhost:9090", description="host:port to listen on, or unix:/path.")
    max_request_body_size: ByteSize = Field(
        default=BODY_MAX_BYTES_DEFAULT, description="Largest body, before and after decompression; 0 = the default."
    )
    read_timeout: Duration = Field(default=120.0, description="Longest time to read a whole request; 0 = no bound.")
    idle_timeout: Duration = Field(default=300.0, description="How long an idle connection stays; 0 = no bound.")
    tenant: Tenant = Field(default_factory=lambda: Tenant(), description="Whose rows a request brings.")
    metadata_help: bool = Field(default=False, description="Keep the description of a metric in labels, as `$help`.")


class PrometheusRemoteWriteReceiver(Receiver):
    """One route; a request is decoded in one call."""

    consume: dict[Signal, Callable[[Sequence[Batch]], Awaitable[None]]]

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config
        self._families: MetricFamilies | None = None
        self._max_bytes = config.max_request_body_size or BODY_MAX_BYTES_DEFAULT

    def entries(self) -> list[Entry]:
        """The route of writes."""
        route = RouteSpec(
            method="POST",
            path="/api/v1/write",
            kind="python",
            max_body_bytes=self._max_bytes,
            tenant=self.config.tenant.default,
            tenant_header=self.config.tenant.header or None,
            share_status=503,
        )
        spec = ServerSpec(self.config.endpoint, ("http1", "h2"), self.config)
        return [Entry("metrics", spec, (route,), "http", "prometheus", self._handle)]

    async def start(self, host: Host) -> None:
        from colonnade.native import MetricFamilies

        self.host, self._families = host, self._families or MetricFamilies()

    async def _handle(self, request: Request) -> None:
        try:
            version = negotiated(dict(request.headers))
        except Refusal as refusal:
            self._count("receiver_requests_refused_undecoded", 1, code=refusal.code)
            self._refuse(request, refusal, [])
            return
        try:
            written, wrong = await self._write(request, version)
        except Refusal as refusal:
            self._refuse(request, refusal, written_headers(version, NOTHING))
            return
        self._count("receiver_requests", 1, outcome="refused" if wrong else "success")
        headers = written_headers(version, written)
        request.respond(400 if wrong else 204, [*headers, TEXT] if wrong else headers, wrong.encode())

    def _refuse(self, request: Request, refusal: Refusal, headers: Headers) -> None:
        self._count("receiver_requests", 1, outcome="refused")
        if refusal.delay_s is not None:
            headers = [*headers, ("retry-after", str(max(1, math.ceil(refusal.delay_s))))]
        request.respond(refusal.status, [*headers, TEXT], f"{refusal.message}\n".encode())

    async def _write(self, request: Request, version: Version) -> tuple[Written, str]:
        """How much was taken, once it is safe, and what was wrong with the rest. Raises Refusal."""
        from colonnade.native import NativeError, decode_remote_write

        body = request.body
        decoded = partial(
            decode_remote_write,
            version,
            body,
            max_bytes=self._max_bytes,
            tenant=request.tenant,
            metadata=request.headers if self.config.include_metadata else [],
            families=self._families,
            help=self.config.metadata_help,
        )
        try:
            result = await self.host.compute(decoded) if len(body) > INLINE_BYTES else decoded()
        except NativeError as error:
            self._count("receiver_requests_refused_undecoded", 1, code=error.code)
            raise Refusal(STATUSES.get(error.code, 500), error.code, located(error)) from None
        batch, written, duplicates, rejected, messages = result
        if batch.rows:
            await self._deliver(batch)
        if duplicates:
            self._count("receiver_duplicate_metric_points", duplicates)
        for code, number in rejected:
            self._count("receiver_rejected_metric_points", number, code=code)
        return written, told(rejected, messages)

    async def _deliver(self, batch: Batch) -> None:
        """Returns once the rows are safe. Raises Refusal."""
        try:
            await self.consume["metrics"]([batch])
        except Exception as error:
            outcome = of_error(error)
            foreseen = isinstance(error, ColonnadeError)
            if not foreseen:
                log_unforeseen(self.host, error)
            self._count(f"receiver_{'refused' if foreseen else 'failed'}_metric_points", batch.rows)
            code = status(outcome.kind, "prometheus")
            delay_s = (outcome.delay_s or 1.0) if code.retryable else None
            raise Refusal(code.http, outcome.code or outcome.kind, outcome.message, delay_s) from None
        self._count("receiver_accepted_metric_points", batch.rows)

    def _count(self, name: str, number: float, **labels: str) -> None:
        self.host.count(name, number, transport="http", **labels)


def negotiated(headers: dict[str, str]) -> Version:
    """The version that a request's Content-Type names; its body must be packed by snappy. Raises Refusal."""
    given = headers.get("content-type", "")
    media, *parameters = (part.strip() for part in (given or MEDIA_TYPE).split(";"))
    named = [
        value for name, _, value in (part.partition("=") for part in parameters) if name.strip().lower() == "proto"
    ]
    message = named[0].strip().strip('"') if named else next(iter(VERSIONS))
    if media.lower() != MEDIA_TYPE or message not in VERSIONS:
        known = " or ".join(f"{MEDIA_TYPE};proto={name}" for name in VERSIONS)
        raise Refusal(415, "unsupported_media_type", f"unsupported Content-Type {given!r}, expected {known}")
    encoding = headers.get("content-encoding", "")
    if encoding.strip().lower() not in ("", "snappy"):
        raise Refusal(415, "unsupported_encoding", f"unsupported Content-Encoding {encoding!r}, expected snappy")
    return VERSIONS[message]


def written_headers(version: Version, written: Written) -> Headers:
    """How much of a request of 2.0 was taken, as its senders ask for."""
    return [(name, str(count)) for name, count in zip(WRITTEN, written, strict=True)] if version == 2 else []


def located(error: NativeError) -> str:
    """What is wrong with a request, and where."""
    if error.offset is None:
        return str(error)
    return f"{error} at byte {error.offset}" + (f" in {error.path}" if error.path else "")


def told(rejected: list[tuple[str, int]], messages: list[str]) -> str:
    """What was left out of a request and why; empty where nothing was."""
    if not rejected:
        return ""
    counts = ", ".join(f"{number} {code}" for code, number in rejected)
    return "\n".join((f"left out: {counts}; the others are stored", *messages, ""))


factory = Factory(
    type="prometheus_remote_write",
    kind="receiver",
    config=Config,
    create=PrometheusRemoteWriteReceiver,
    signals=signals("metrics"),
    aliases=("prometheusremotewrite",),
)
