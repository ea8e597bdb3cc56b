"""Receives OTLP over gRPC and HTTP (protobuf and JSON): traces, metrics, logs.

    receivers:
      otlp:
        protocols:
          grpc:
            endpoint: localhost:4317
          http:
            endpoint: localhost:4318
            cors:
              allowed_origins: ["https://*.example.com"]
        tenant:
          header: x-scope-orgid
          default: default

Guarantees: a request is answered after its rows are in the log of every pipeline that names this receiver, or is
refused by all of them. A malformed request is refused alone (400 / INVALID_ARGUMENT with offset and field path),
however many others were decoded with it. Rows that a processor rejects are told in `partial_success`.

On overload: the listener's queue, the log and the memory limiter refuse with UNAVAILABLE / 503 and a delay
(`RetryInfo`, `Retry-After`), a tenant over its share of the queue with RESOURCE_EXHAUSTED / 429; nothing is decoded
that can not be taken.

Specification: OTLP 1.11, https://opentelemetry.io/docs/specs/otlp/

Differences from the Collector's `otlp` receiver:

- `tenant` says which tenant (column `ns`) a request belongs to: the value of `header`, else `default`; where both are
  empty the `unify` processor decides. One receiver per tenant with `traces_url_path` and so on routes by path.
- A refusal that may be repeated always carries a delay; `partial_success` is filled in.
- `http.read_timeout` is 2m, `http.read_header_timeout` 1m and `http.idle_timeout` 5m, not 0: a client that stops in the
  middle does not hold a connection for ever.
- `grpc.keepalive.enforcement_policy` is accepted, and nobody is disconnected for asking whether the daemon lives.
- `localhost` listens on IPv4 and, where the machine has it, IPv6.
"""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from colonnade.pipeline.component import (
    ComponentId,
    Entry,
    Factory,
    Receiver,
    RouteSpec,
    ServerSpec,
    Signal,
    signals,
)
from colonnade.pipeline.settings import MIB, Duration, GRPCServer, HTTPServer, OptionalSection, Settings, Tenant

GRPC_METHODS: Final[dict[Signal, str]] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
BODY_MAX_BYTES_DEFAULT: Final = 20 * MIB


class GRPCProtocol(GRPCServer):
    """`protocols.grpc`."""

    endpoint: str = Field(default="localhost:4317", description="host:port to listen on, or unix:/path.")


class HTTPProtocol(HTTPServer):
    """`protocols.http`."""

    endpoint: str = Field(default="localhost:4318", description="host:port to listen on, or unix:/path.")
    traces_url_path: str = Field(default="/v1/traces", description="Path of traces.")
    metrics_url_path: str = Field(default="/v1/metrics", description="Path of metrics.")
    logs_url_path: str = Field(default="/v1/logs", description="Path of logs.")
    read_timeout: Duration = Field(default=120.0, description="Longest time to read a whole request; 0 = no bound.")
    write_timeout: Duration = Field(default=0.0, description="Longest time to write an answer; 0 = no bound.")
    idle_timeout: Duration = Field(default=300.0, description="How long an idle connection stays; 0 = no bound.")

    @field_validator("traces_url_path", "metrics_url_path", "logs_url_path")
    @classmethod
    def _path(cls, path: str) -> str:
        """A leading slash may be left out, as in the Collector."""
        if not path or any(c in path for c in "?# "):
            raise ValueError(f"expected a URL path such as /v1/traces, got {path!r}")
        return path if path.startswith("/") else f"/{path}"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({self.traces_url_path, self.metrics_url_path, self.logs_url_path}) < 3:
            raise ValueError("traces_url_path, metrics_url_path and logs_url_path must differ")
        return self

    def url_path(self, signal: Signal) -> str:
        paths: dict[Signal, str] = {
            "traces": self.traces_url_path,
            "metrics": self.metrics_url_path,
            "logs": self.logs_url_path,
        }
        return paths[signal]


class Protocols(Settings):
    """`protocols`: a protocol whose key stands there is served, also with nothing behind it."""

    grpc: OptionalSection[GRPCProtocol] = Field(default=None, description="OTLP/gRPC.")
    http: OptionalSection[HTTPProtocol] = Field(default=None, description="OTLP/HTTP, protobuf and JSON.")


class Config(Settings):
    """The receiver's section."""

    protocols: Protocols = Field(default_factory=lambda: Protocols(), description="What to serve; at least one.")
    tenant: Tenant = Field(default_factory=lambda: Tenant(), description="Whose rows a request brings.")

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if self.protocols.grpc is None and self.protocols.http is None:
            raise ValueError(
                "must specify at least one protocol when using the OTLP receiver: "
                "for example protocols: {grpc: , http: }"
            )
        return self


class OTLPReceiver(Receiver):
    """A table of routes; the listener serves them, the intake takes what they bring."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config

    def entries(self) -> list[Entry]:
        """One entry per signal and protocol."""
        protocols = self.config.protocols
        entries: list[Entry] = []
        if protocols.grpc is not None:
            entries += [self._grpc(signal, protocols.grpc) for signal in GRPC_METHODS]
        if protocols.http is not None:
            entries += [self._http(signal, protocols.http) for signal in GRPC_METHODS]
        return entries

    def _grpc(self, signal: Signal, settings: GRPCProtocol) -> Entry:
        route = RouteSpec(
            method="POST",
            path=GRPC_METHODS[signal],
            kind="otlp_grpc",
            max_body_bytes=settings.max_message_bytes,
            tenant=self.config.tenant.default,
            tenant_header=self.config.tenant.header or None,
            include_metadata=settings.include_metadata,
        )
        return Entry(signal, ServerSpec(settings.endpoint, ("h2",), settings), (route,), "grpc")

    def _http(self, signal: Signal, settings: HTTPProtocol) -> Entry:
        route = RouteSpec(
            method="POST",
            path=settings.url_path(signal),
            kind="otlp_http",
            max_body_bytes=settings.max_request_body_size or BODY_MAX_BYTES_DEFAULT,
            tenant=self.config.tenant.default,
            tenant_header=self.config.tenant.header or None,
            include_metadata=settings.include_metadata,
        )
        return Entry(signal, ServerSpec(settings.endpoint, ("http1", "h2"), settings), (route,), "http")


factory = Factory(
    type="otlp",
    kind="receiver",
    config=Config,
    create=OTLPReceiver,
    signals=signals(),
    stability="stable",
)
