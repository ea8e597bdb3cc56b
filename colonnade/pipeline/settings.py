"""Settings that many components share, with the Collector's key names.

Every model is frozen and refuses unknown keys; every field has a description, a default and bounds. Clauses:
otelcol 1.2 (durations, optional sections), 1.6 (servers), 1.7 (exporterhelper).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from colonnade.pipeline.values import (
    MIB,
    REDACTED,
    ByteSize,
    Duration,
    OptionalSection,
    Secret,
    Settings,
    format_duration,
    parse_duration,
    parse_size,
)

__all__ = [
    "CORS",
    "HTTP_COMPRESSIONS",
    "MIB",
    "QUEUE_SIZE_DEFAULT_BYTES",
    "REDACTED",
    "STORAGE_AGE_DEFAULT_S",
    "STORAGE_SIZE_DEFAULT_BYTES",
    "ByteSize",
    "ClientAuth",
    "CompressionParams",
    "DeadLetterSettings",
    "Duration",
    "ExporterSettings",
    "GRPCServer",
    "HTTPClient",
    "HTTPServer",
    "KeepaliveEnforcementPolicy",
    "KeepaliveServer",
    "KeepaliveServerParameters",
    "OptionalSection",
    "Partition",
    "QueueBatch",
    "RetryOnFailure",
    "Secret",
    "SendingQueue",
    "ServerAuth",
    "Settings",
    "Sizer",
    "TLSClient",
    "TLSServer",
    "TLSSettings",
    "TLSVersion",
    "format_duration",
    "parse_duration",
    "parse_size",
]

QUEUE_SIZE_DEFAULT_BYTES: Final = 256 * MIB
STORAGE_SIZE_DEFAULT_BYTES: Final = 10 << 30
STORAGE_AGE_DEFAULT_S: Final = 7 * 86400.0


class RetryOnFailure(Settings):
    """`retry_on_failure`: what happens after a retryable error."""

    enabled: bool = Field(
        default=True, description="Try again after a retryable error; off: such a slice is parked at once."
    )
    initial_interval: Duration = Field(default=5.0, description="Wait before the first repeat.")
    randomization_factor: float = Field(
        default=0.5, ge=0, le=1, description="Share by which each wait is spread at random."
    )
    multiplier: float = Field(default=1.5, ge=1, description="Growth of the wait from repeat to repeat.")
    max_interval: Duration = Field(default=30.0, description="Longest wait between repeats.")
    max_elapsed_time: Duration = Field(
        default=0.0,
        description="Park a slice as dead letter after this long; 0 = never give up (the Collector's 5m loses data).",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_elapsed_time and self.max_elapsed_time < max(self.initial_interval, self.max_interval):
            raise ValueError("max_elapsed_time must be 0 or at least initial_interval and max_interval")
        return self


Sizer = Literal["requests", "items", "bytes"]


class Partition(Settings):
    """`batch.partition`."""

    metadata_keys: tuple[str, ...] = Field(default=(), description="Request headers whose values keep slices apart.")


class QueueBatch(Settings):
    """`sending_queue.batch`: the size of slices, where the file sets it."""

    flush_timeout: Duration = Field(default=0.2, gt=0, description="Longest wait for a slice to fill.")
    min_size: int = Field(default=8192, ge=0, description="A slice is sent once it has this many (see sizer).")
    max_size: int = Field(default=0, ge=0, description="A slice never has more than this; 0 = no bound.")
    sizer: Literal["items", "bytes"] | None = Field(
        default=None, description="What the sizes count; default: the queue's sizer, else items."
    )
    partition: Partition = Field(default_factory=lambda: Partition(), description="What keeps slices apart.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_size and self.max_size < self.min_size:
            raise ValueError(f"max_size ({self.max_size}) must be 0 or at least min_size ({self.min_size})")
        return self


class SendingQueue(Settings):
    """`sending_queue`: the exporter's share of the pipeline's hand-over log."""

    enabled: bool = Field(
        default=True, description="Off: the caller is answered after the store has the rows (as wait_for_result)."
    )
    num_consumers: int = Field(
        default=10, ge=1, le=1000, description="Slices of one pipeline that may be under way at once."
    )
    queue_size: ByteSize | None = Field(
        default=None,
        description="Bound of what waits, in units of sizer. Default: 256 MiB in memory, 10 GiB with storage.",
    )
    sizer: Sizer | None = Field(
        default=None,
        description="What queue_size counts. Default: bytes; requests, as in the Collector, with queue_size set.",
    )
    block_on_overflow: bool = Field(
        default=False, description="A full queue makes the caller wait instead of refusing with a delay."
    )
    wait_for_result: bool = Field(default=False, description="Answer the caller after the store has the rows.")
    storage: str | None = Field(
        default=None, description="Id of a storage extension: the log is on disk and durable before the answer."
    )
    age_limit: Duration | None = Field(
        default=None,
        alias="max_age",
        description="Refuse more while the oldest row waits for longer; 0 = no bound. Default: 168h with storage.",
    )
    batch: OptionalSection[QueueBatch] = Field(default=None, description="Slice size; default: what suits the store.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.queue_size == 0:
            raise ValueError("queue_size must be positive")
        if self.wait_for_result and self.storage:
            raise ValueError("wait_for_result can not be combined with storage: the answer is durable already")
        if (
            self.batch
            and self.queue_size
            and self.bound_sizer == self.batch_sizer
            and self.batch.min_size > self.queue_size
        ):
            raise ValueError(f"batch.min_size ({self.batch.min_size}) must not be above queue_size ({self.queue_size})")
        return self

    @property
    def bound(self) -> int:
        """The bound of what waits, in units of `bound_sizer`."""
        return self.queue_size or (STORAGE_SIZE_DEFAULT_BYTES if self.storage else QUEUE_SIZE_DEFAULT_BYTES)

    @property
    def max_age(self) -> float:
        """How long the oldest row may wait before more is refused, in seconds; 0 = no bound."""
        if self.age_limit is None:
            return STORAGE_AGE_DEFAULT_S if self.storage else 0.0
        return self.age_limit

    @property
    def bound_sizer(self) -> Sizer:
        if self.queue_size is None:
            return "bytes"
        return self.sizer or "requests"

    @property
    def batch_sizer(self) -> Literal["items", "bytes"]:
        own = self.batch.sizer if self.batch else None
        return own or ("bytes" if self.sizer == "bytes" else "items")

    @property
    def answers_after_store(self) -> bool:
        return self.wait_for_result or not self.enabled


class DeadLetterSettings(Settings):
    """`dead_letter` of an exporter."""

    enabled: bool = Field(default=True, description="Park what a store refuses for good; off: it is counted as lost.")
    directory: str = Field(default="", description="Folder; default: one of the exporter's own below the data folder.")
    max_size: ByteSize = Field(default=1 << 30, description="Bound of the folder in bytes; the oldest files give way.")
    max_age: Duration = Field(default=7 * 86400.0, description="Files older than this are removed; 0 = no bound.")


class ExporterSettings(Settings):
    """Keys that every exporter has."""

    retry_on_failure: RetryOnFailure = Field(
        default_factory=lambda: RetryOnFailure(), description="What happens after a retryable error."
    )
    sending_queue: SendingQueue = Field(
        default_factory=lambda: SendingQueue(), description="The exporter's share of the log."
    )
    dead_letter: DeadLetterSettings = Field(
        default_factory=lambda: DeadLetterSettings(), description="Where rows go that the store refuses for good."
    )


TLSVersion = Literal["1.2", "1.3"]


def _tls_version(value: Any) -> Any:
    """YAML reads an unquoted 1.2 as a number."""
    if str(value) in ("1.0", "1.1"):
        raise ValueError(f"TLS {value} is not offered: it is broken; allowed: 1.2, 1.3")
    return str(value) if isinstance(value, float) else value


class TLSSettings(Settings):
    """Keys of both ends of a TLS connection."""

    ca_file: str = Field(default="", description="PEM file of the authorities to trust; default: the system's.")
    ca_pem: Secret = Field(default=Secret(""), description="The same, given here.")
    cert_file: str = Field(default="", description="PEM file of the own certificate chain.")
    cert_pem: Secret = Field(default=Secret(""), description="The same, given here.")
    key_file: str = Field(default="", description="PEM file of the own private key.")
    key_pem: Secret = Field(default=Secret(""), description="The same, given here.")
    min_version: Annotated[TLSVersion, BeforeValidator(_tls_version)] = Field(
        default="1.2", description="Lowest TLS version."
    )
    max_version: Annotated[TLSVersion, BeforeValidator(_tls_version)] = Field(
        default="1.3", description="Highest TLS version."
    )
    cipher_suites: tuple[str, ...] = Field(
        default=(), description="Allowed cipher suites by IANA name; default: a safe set."
    )
    curve_preferences: tuple[str, ...] = Field(
        default=(), description="Key exchange groups in order of preference; default: a safe set."
    )
    include_system_ca_certs_pool: bool = Field(
        default=False, description="Trust the system's authorities besides the given ones."
    )
    reload_interval: Duration = Field(default=0.0, description="How often files are read again; 0 = on reload only.")

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        for name in ("ca", "cert", "key"):
            if getattr(self, f"{name}_file") and getattr(self, f"{name}_pem"):
                raise ValueError(f"give {name}_file or {name}_pem, not both")
        if bool(self.cert_file or self.cert_pem) != bool(self.key_file or self.key_pem):
            raise ValueError("cert_file (or cert_pem) and key_file (or key_pem) belong together")
        if self.min_version > self.max_version:
            raise ValueError("min_version must not be above max_version")
        return self


class TLSServer(TLSSettings):
    """`tls` of a server; a client certificate is required as soon as `client_ca_file` is set."""

    client_ca_file: str = Field(
        default="", description="PEM file of the authorities whose clients are let in (mutual TLS)."
    )
    client_ca_file_reload: bool = Field(default=False, description="Read client_ca_file again when it changes.")

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        if not (self.cert_file or self.cert_pem):
            raise ValueError("a TLS server needs cert_file and key_file (or cert_pem and key_pem)")
        return self


class TLSClient(TLSSettings):
    """`tls` of a client."""

    insecure: bool = Field(default=False, description="No TLS (where the endpoint's scheme does not say it).")
    insecure_skip_verify: bool = Field(default=False, description="TLS without checking the server's certificate.")
    server_name_override: str = Field(default="", description="Name to expect in the server's certificate.")


class CORS(Settings):
    """`cors` of an HTTP server."""

    allowed_origins: tuple[str, ...] = Field(
        default=(), description="Origins that may send; `*` matches within an origin."
    )
    allowed_headers: tuple[str, ...] = Field(
        default=(), description="Request headers allowed besides the simple ones; `*` = any."
    )
    exposed_headers: tuple[str, ...] = Field(default=(), description="Answer headers that scripts may read.")
    max_age: int = Field(
        default=0, ge=0, description="Seconds a browser may keep a preflight's answer; 0 = its own default."
    )


class ServerAuth(Settings):
    """`auth` of a server."""

    authenticator: str = Field(min_length=1, description="Id of an extension that says who is let in.")
    request_params: tuple[str, ...] = Field(
        default=(), description="Only empty: credentials in URLs end up in the logs of proxies; send them as a header."
    )

    @field_validator("request_params")
    @classmethod
    def _refuse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:
            raise ValueError("is not offered: credentials in URLs end up in the logs of proxies; send them as a header")
        return value


class ClientAuth(Settings):
    """`auth` of a client."""

    authenticator: str = Field(min_length=1, description="Id of an extension that completes the headers of requests.")


HTTP_COMPRESSIONS: Final = ("", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed")


class HTTPServer(Settings):
    """Keys of an HTTP endpoint (the Collector's confighttp)."""

    endpoint: str = Field(default="", description="host:port to listen on, or unix:/path.")
    transport: Literal["tcp", "tcp4", "tcp6", "unix"] = Field(default="tcp", description="Kind of socket.")
    tls: OptionalSection[TLSServer] = Field(default=None, description="Serve TLS.")
    cors: OptionalSection[CORS] = Field(default=None, description="Let browsers of other origins send.")
    auth: OptionalSection[ServerAuth] = Field(default=None, description="Who is let in; default: everybody.")
    max_request_body_size: ByteSize = Field(
        default=20 * MIB, description="Largest body, before and after decompression; 0 = the default."
    )
    include_metadata: bool = Field(
        default=False, description="Keep request headers with the rows, for processors and exporters."
    )
    response_headers: dict[str, Secret] = Field(
        default_factory=dict[str, Secret], description="Headers added to every answer."
    )
    compression_algorithms: tuple[str, ...] = Field(
        default=HTTP_COMPRESSIONS, description="Content-Encodings taken; the empty one is none."
    )
    read_timeout: Duration = Field(default=0.0, description="Longest time to read a whole request; 0 = no bound.")
    read_header_timeout: Duration = Field(
        default=60.0, description="Longest time to read a request's headers; 0 = no bound."
    )
    write_timeout: Duration = Field(default=30.0, description="Longest time to write an answer; 0 = no bound.")
    idle_timeout: Duration = Field(
        default=60.0, description="How long an idle kept-alive connection stays open; 0 = no bound."
    )
    keep_alives_enabled: bool = Field(default=True, description="Serve more than one request per connection.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.compression_algorithms:
            if name not in HTTP_COMPRESSIONS:
                raise ValueError(
                    f"unknown compression algorithm {name!r}; allowed: {', '.join(HTTP_COMPRESSIONS[1:])} and ''"
                )
        return self


class Tenant(Settings):
    """`tenant`: whose rows a request brings."""

    header: str = Field(default="", description="Request header (gRPC: metadata key) that names the tenant.")
    default: str = Field(default="", description="Tenant of requests without it; empty: unify's default_ns.")

    @field_validator("header")
    @classmethod
    def _header(cls, name: str) -> str:
        if name and not all(c.isalnum() or c in "-_.!#$%&'*+^`|~" for c in name):
            raise ValueError(f"not a header name: {name!r}")
        return name.lower()


class KeepaliveServerParameters(Settings):
    """`keepalive.server_parameters`."""

    max_connection_idle: Duration = Field(
        default=0.0, description="Close a connection without requests after this; 0 = never."
    )
    max_connection_age: Duration = Field(
        default=0.0, description="Close a connection after this (spread by 10%); 0 = never."
    )
    max_connection_age_grace: Duration = Field(
        default=0.0, description="How long its requests may finish; 0 = without end."
    )
    time: Duration = Field(default=7200.0, description="Ping a silent client after this; 0 = the default.")
    timeout: Duration = Field(default=20.0, description="How long to wait for the ping's answer; 0 = the default.")


class KeepaliveEnforcementPolicy(Settings):
    """`keepalive.enforcement_policy`."""

    min_time: Duration = Field(
        default=300.0, description="Accepted: pings are answered at any rate, and floods of them bounded."
    )
    permit_without_stream: bool = Field(
        default=False, description="Accepted: clients may always ping while they have no request under way."
    )


class KeepaliveServer(Settings):
    """`keepalive` of a gRPC server."""

    server_parameters: OptionalSection[KeepaliveServerParameters] = Field(
        default=None, description="The server's own pings and ages."
    )
    enforcement_policy: OptionalSection[KeepaliveEnforcementPolicy] = Field(
        default=None, description="What clients may do."
    )


class GRPCServer(Settings):
    """Keys of a gRPC endpoint (the Collector's configgrpc)."""

    endpoint: str = Field(default="", description="host:port to listen on, or unix:/path.")
    transport: Literal["tcp", "tcp4", "tcp6", "unix"] = Field(default="tcp", description="Kind of socket.")
    tls: OptionalSection[TLSServer] = Field(default=None, description="Serve TLS.")
    auth: OptionalSection[ServerAuth] = Field(default=None, description="Who is let in; default: everybody.")
    max_recv_msg_size_mib: int = Field(
        default=0, ge=0, le=2047, description="Largest message after decompression, in MiB; 0 = gRPC's 4."
    )
    max_concurrent_streams: int = Field(
        default=0, ge=0, le=2**32 - 1, description="Requests under way per connection; 0 = 1000."
    )
    read_buffer_size: ByteSize = Field(default=512 << 10, description="Bytes read from a socket at once.")
    write_buffer_size: ByteSize = Field(default=32 << 10, description="Bytes written to a socket at once.")
    keepalive: OptionalSection[KeepaliveServer] = Field(default=None, description="Pings and ages of connections.")
    include_metadata: bool = Field(
        default=False, description="Keep request headers with the rows, for processors and exporters."
    )

    @property
    def max_message_bytes(self) -> int:
        return (self.max_recv_msg_size_mib or 4) * MIB


class CompressionParams(Settings):
    """`compression_params`."""

    level: int | None = Field(default=None, description="The algorithm's own level; default: its own default.")


class HTTPClient(Settings):
    """Keys of an HTTP client."""

    endpoint: str = Field(default="", description="URL to send to.")
    proxy_url: str = Field(default="", description="Proxy to go through.")
    tls: TLSClient = Field(default_factory=lambda: TLSClient(), description="TLS to the server.")
    auth: OptionalSection[ClientAuth] = Field(default=None, description="What tells the server who sends.")
    timeout: Duration = Field(default=30.0, description="Bound of one attempt; 0 = no bound.")
    headers: dict[str, Secret] = Field(default_factory=dict[str, Secret], description="Headers added to every request.")
    compression: Literal["", "none", "gzip", "zstd", "snappy", "x-snappy-framed", "zlib", "deflate", "lz4"] = Field(
        default="gzip", description="How bodies are compressed."
    )
    compression_params: CompressionParams = Field(
        default_factory=lambda: CompressionParams(), description="Level of compression."
    )
    max_idle_conns: int = Field(default=100, ge=0, description="Idle connections kept; 0 = no bound.")
    max_idle_conns_per_host: int = Field(default=0, ge=0, description="Idle connections kept per server; 0 = no bound.")
    max_conns_per_host: int = Field(default=0, ge=0, description="Connections per server; 0 = no bound.")
    idle_conn_timeout: Duration = Field(default=90.0, description="How long an idle connection is kept.")
    disable_keep_alives: bool = Field(default=False, description="A new connection for every request.")
