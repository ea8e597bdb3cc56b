"""Settings that many components share, with the Collector's key names.

Every model is frozen and refuses unknown keys; every field has a description, a default and bounds. Clauses:
otelcol 1.2 (durations, optional sections), 1.6 (servers), 1.7 (exporterhelper).

A key whose value is null keeps its default, except for an optional section (`optional_section`): there null or `{}`
switches the section on with its defaults, and `enabled: false` inside switches it off.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

MIB: Final = 1 << 20
REDACTED: Final = "[REDACTED]"
QUEUE_SIZE_DEFAULT_BYTES: Final = 256 * MIB

_UNIT_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([+-]?)((?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)
_SIZE_UNIT: Final = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
    "ti": 1 << 40,
}


def parse_duration(value: Any) -> float:
    """Seconds of a Go duration (`1m30s`, `200ms`, `0`); a bare integer is nanoseconds, as in the Collector."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"expected a duration such as 5s, 200ms or 1h30m, got {value!r}")
    if isinstance(value, (int, float)):
        return value / 1e9
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(
            f"invalid duration {value!r}: a number with a unit of ns, us, ms, s, m, h, such as 5s or 1h30m"
        )
    seconds = sum(float(n) * _UNIT_S[unit] for n, unit in _DURATION_PART.findall(match[2]))
    return -seconds if match[1] == "-" else seconds


def format_duration(seconds: float) -> str:
    """The shortest Go spelling of a duration."""
    if seconds == 0:
        return "0s"
    text, left = "", round(abs(seconds) * 1e9)
    for unit, size in (("h", 3600 * 10**9), ("m", 60 * 10**9)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)):
        if left and (left % size == 0 or left > size):
            text += f"{left / size:.9f}".rstrip("0").rstrip(".") + unit
            break
    return ("-" if seconds < 0 else "") + text


def parse_size(value: Any) -> int:
    """Bytes of `1048576`, `64MiB` or `1.5GB`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"invalid size {value!r}: a number of bytes, or a number with KiB, MiB, GiB, kB, MB, GB")
    return round(float(match[1]) * _SIZE_UNIT[(match[2] or "").lower()])


def _not_negative(seconds: float) -> float:
    if seconds < 0:
        raise ValueError(f"must not be negative, got {format_duration(seconds)}")
    return seconds


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(_not_negative),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["5s", "200ms", "1h30m"]}),
]
"""Seconds; written as Go writes durations."""

ByteSize = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(ge=0),
    WithJsonSchema({"type": ["integer", "string"], "examples": [1048576, "64MiB"]}),
]
"""Bytes; a plain number, or with a unit."""


class Secret:
    """A text that prints as `[REDACTED]`; `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def of(value: Any) -> Secret:
            if isinstance(value, Secret):
                return value
            # YAML reads an unquoted 123456 as a number; a token that looks like one is still a token.
            if isinstance(value, (str, int, float)) and not isinstance(value, bool):
                return cls(str(value))
            raise ValueError("expected a text")

        return core_schema.no_info_plain_validator_function(
            of,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: REDACTED if secret else ""),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "password"}


class _OptionalSection:
    """Marks a field as the Collector's `configoptional`."""


def _switch(value: Any) -> Any:
    if isinstance(value, dict) and "enabled" in value:
        section = cast(dict[Any, Any], {**value})
        return None if section.pop("enabled") is False else section
    return cast(Any, value)


M = TypeVar("M")
OptionalSection = Annotated[M | None, BeforeValidator(_switch), _OptionalSection()]
"""A section that is off when its key is absent, and on with defaults when the key stands there with nothing."""


class Settings(BaseModel):
    """Base of every configuration model."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_null(cls, value: Any) -> Any:
        """Null = default for a plain key, `{}` for an optional section; unknown keys stay, to be refused."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            return value  # pyright: ignore[reportUnknownVariableType]
        section: dict[Any, Any] = {}
        fields = {(f.alias or name): f for name, f in cls.model_fields.items()}
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            if item is None and key in fields:
                if any(isinstance(mark, _OptionalSection) for mark in fields[key].metadata):  # pyright: ignore[reportUnknownArgumentType]
                    section[key] = {}
            else:
                section[key] = item
        return section


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
        description="What queue_size counts. Default: bytes; requests (as in the Collector) where only queue_size is set.",
    )
    block_on_overflow: bool = Field(
        default=False, description="A full queue makes the caller wait instead of refusing with a delay."
    )
    wait_for_result: bool = Field(default=False, description="Answer the caller after the store has the rows.")
    storage: str | None = Field(
        default=None, description="Id of a storage extension: the log is on disk and durable before the answer."
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
        """The bound of a log in memory, in units of `bound_sizer`."""
        return self.queue_size or QUEUE_SIZE_DEFAULT_BYTES

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


class ExporterSettings(Settings):
    """Keys that every exporter has."""

    retry_on_failure: RetryOnFailure = Field(
        default_factory=lambda: RetryOnFailure(), description="What happens after a retryable error."
    )
    sending_queue: SendingQueue = Field(
        default_factory=lambda: SendingQueue(), description="The exporter's share of the log."
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

    authenticator: str = Field(description="Id of the authenticator extension.")
    request_params: tuple[str, ...] = Field(
        default=(), description="Query parameters given to the authenticator as headers."
    )


HTTP_COMPRESSIONS: Final = ("", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed")


class HTTPServer(Settings):
    """Keys of an HTTP endpoint (the Collector's confighttp)."""

    endpoint: str = Field(default="", description="host:port to listen on, or unix:/path.")
    transport: Literal["tcp", "tcp4", "tcp6", "unix"] = Field(default="tcp", description="Kind of socket.")
    tls: OptionalSection[TLSServer] = Field(default=None, description="Serve TLS.")
    cors: OptionalSection[CORS] = Field(default=None, description="Let browsers of other origins send.")
    auth: OptionalSection[ServerAuth] = Field(default=None, description="Who may send.")
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
        default=300.0, description="A client that pings more often is disconnected; 0 = the default."
    )
    permit_without_stream: bool = Field(
        default=False, description="Let clients ping while they have no request under way."
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
    auth: OptionalSection[ServerAuth] = Field(default=None, description="Who may send.")
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
