"""Sends traces, metrics and logs as OTLP over HTTP, protobuf or JSON, to a gateway or any server that speaks it.

    exporters:
      otlp_http:
        endpoint: https://otlp.example.com
        headers:
          authorization: Bearer 8f2c
        compression: zstd

Guarantees: rows that no processor changed are sent as the very bytes they came in, unknown fields included (with
`encoding: json`: what the protocol knows of them); requests are joined up to `sending_queue.batch.max_size`. A request
is repeated until the server has answered it, so a server that dies between taking and answering sees it twice: at least
once. Ours then makes the same ids again.

On overload: 429, 502, 503 and 504 are repeated, not before `Retry-After`; meanwhile rows wait in the log, which refuses
callers when it is full. Any other status is never repeated: those slices become dead letters. What the server leaves
out of a request it takes (`partial_success`) is counted and told in the log.

Specification: OTLP 1.11, https://opentelemetry.io/docs/specs/otlp/

Differences from the Collector's `otlp_http` exporter:

- `timeout` bounds every request; slices are sent once they hold 8,192 rows or are 200 ms old.
- `cookies` and `http2_*` are not offered; `max_idle_conns` is accepted, idle connections are bounded by
  `max_conns_per_host`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, Self, cast
from urllib.parse import urlsplit

import aiohttp
from pydantic import Field, field_validator, model_validator

from colonnade import __version__, native
from colonnade.pipeline.client_tls import ssl_context
from colonnade.pipeline.component import ComponentId, Factory, Host, signals
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable
from colonnade.pipeline.forwarding import INLINE_BYTES, ForwardingExporter, Request
from colonnade.pipeline.settings import MIB, ExporterSettings, HTTPClient, Secret

PATHS: Final = {"traces": "/v1/traces", "metrics": "/v1/metrics", "logs": "/v1/logs"}
PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
# A server's default is 20 MiB before and after decompression.
REQUEST_MAX_BYTES: Final = 16 * MIB
ANSWER_MAX_BYTES: Final = 64 << 10
RETRYABLE: Final = frozenset({429, 502, 503, 504})
CONNECTIONS: Final = 100


class Config(HTTPClient, ExporterSettings):
    """Keys of the exporter; the Collector's."""

    endpoint: str = Field(default="", description="Base URL; /v1/traces and so on are added to it.")
    traces_endpoint: str = Field(default="", description="Whole URL for traces, in place of the base.")
    metrics_endpoint: str = Field(default="", description="Whole URL for metrics, in place of the base.")
    logs_endpoint: str = Field(default="", description="Whole URL for logs, in place of the base.")
    encoding: Literal["proto", "json"] = Field(default="proto", description="How requests are spelled.")

    @field_validator("endpoint", "traces_endpoint", "metrics_endpoint", "logs_endpoint", "proxy_url")
    @classmethod
    def _url(cls, url: str) -> str:
        if url:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"expected a URL such as https://gateway:4318, got {url!r}")
        return url

    @field_validator("headers")
    @classmethod
    def _headers(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        for name, value in headers.items():
            if not name or not all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in name):
                raise ValueError(f"not a header name: {name!r}")
            if any(c in value.reveal() for c in "\r\n\0"):
                raise ValueError(f"header {name!r} holds a line break")
        return headers

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.endpoint or self.traces_endpoint or self.metrics_endpoint or self.logs_endpoint):
            raise ValueError("at least one endpoint must be specified: for example endpoint: http://gateway:4318")
        return self

    def url(self, signal: str) -> str:
        """Where requests of a signal go; empty where nothing says it."""
        own = {"traces": self.traces_endpoint, "metrics": self.metrics_endpoint, "logs": self.logs_endpoint}[signal]
        return own or (self.endpoint.rstrip("/") + PATHS[signal] if self.endpoint else "")


class OTLPHTTPExporter(ForwardingExporter):
    """Requests over one aiohttp session."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id, config, REQUEST_MAX_BYTES, config.auth)
        self.config = config
        self._session: aiohttp.ClientSession | None = None

    async def start(self, host: Host) -> None:
        await super().start(host)
        config = self.config
        try:
            context = ssl_context(config.tls)
        except OSError as error:
            raise ColonnadeError("client", f"exporter {self.id}: tls: {error}") from error
        limit = config.max_conns_per_host or CONNECTIONS
        if config.disable_keep_alives:
            connector = aiohttp.TCPConnector(limit=limit, ssl=context, force_close=True)
        else:
            connector = aiohttp.TCPConnector(limit=limit, ssl=context, keepalive_timeout=config.idle_conn_timeout)
        self._session = aiohttp.ClientSession(
            connector=connector,
            # Those of a request are all that it has.
            skip_auto_headers=("User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=config.timeout or None),
            trust_env=not config.proxy_url,
            proxy=config.proxy_url or None,
        )

        for server in {urlsplit(url) for signal in PATHS if (url := config.url(signal))}:
            self.credentials.start(host, server.netloc.rpartition("@")[2], server.scheme == "https")

    async def shutdown(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, signal: str, request: Request, headers: dict[str, str]) -> None:
        """Raises Retryable, Permanent."""
        if self._session is None:
            raise Retryable("stopped", f"exporter {self.id} is not running")
        url = self.config.url(signal)
        if not url:
            raise Permanent("no_endpoint", f"exporter {self.id} has no endpoint for {signal}: write {signal}_endpoint")
        large = request.nbytes > INLINE_BYTES
        body = await self.host.run(self._body, signal, request) if large else self._body(signal, request)
        name = self.config.tls.server_name_override or None
        try:
            async with self._session.post(url, data=body, headers=headers, server_hostname=name) as response:
                self._judge(signal, response.status, response.headers, await _read(response))
        except TimeoutError:
            raise Retryable("timeout", f"{_shown(url)}: no answer within {self.config.timeout:g}s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable("unreachable", f"{_shown(url)}: {error or type(error).__name__}") from None

    @property
    def given_headers(self) -> dict[str, str]:
        config = self.config
        headers = {
            "content-type": PROTOBUF if config.encoding == "proto" else JSON,
            "user-agent": f"colonnade/{__version__}",
        }
        if config.compression not in ("", "none"):
            headers["content-encoding"] = config.compression
        return headers | {name.lower(): value.reveal() for name, value in config.headers.items()}

    def _body(self, signal: str, request: Request) -> bytes:
        parts, config = request.parts, self.config
        if config.encoding == "json":
            parts = [native.protobuf_to_json(signal, native.pack(parts, ""))]
        return native.pack(parts, config.compression, config.compression_params.level)

    def _judge(self, signal: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Counts what was left out of a request that was taken; raises where it was not."""
        is_json = headers.get("Content-Type", "").partition(";")[0].strip().lower() == JSON
        if 200 <= status < 300:
            self.count_rejected(signal, *(_partial_json(body) if is_json else native.read_export_response(body)))
            return
        message = _message(body, headers.get("Content-Type", ""))
        text = f"the server answered {status}" + (f": {message[:300]}" if message else "")
        if status in RETRYABLE:
            raise Retryable(f"http_{status}", text, retry_after_s(headers.get("Retry-After", ""), time.time()))
        raise Permanent(f"http_{status}", text)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, as far as anything in it matters."""
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > ANSWER_MAX_BYTES:
            break
    return bytes(found)


def retry_after_s(value: str, now_s: float) -> float | None:
    """Seconds of a `Retry-After`: a number of them, or a date (RFC 9110, 10.2.3); None for anything else."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - now_s, 0.0)
    except (ValueError, TypeError):
        return None


def _message(body: bytes, content_type: str) -> str:
    """What a refusal says: `google.rpc.Status`, or a text."""
    media = content_type.partition(";")[0].strip().lower()
    if media == PROTOBUF:
        return native.read_status(body).message
    if media == JSON:
        return str(_object(body).get("message", ""))
    return body.decode(errors="replace").strip() if media == "text/plain" else ""


def _partial_json(body: bytes) -> tuple[int, str]:
    partial = _object(body).get("partialSuccess")
    if not isinstance(partial, dict):
        return 0, ""
    found = cast(dict[str, Any], partial)
    counts = [v for k, v in found.items() if k.startswith("rejected")]
    number = str(counts[0]) if counts else "0"
    return int(number) if number.isascii() and number.isdigit() else 0, str(found.get("errorMessage", ""))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _shown(url: str) -> str:
    """A URL without credentials and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


factory = Factory(
    type="otlp_http",
    kind="exporter",
    config=Config,
    create=OTLPHTTPExporter,
    signals=signals(),
    aliases=("otlphttp",),
    stability="stable",
)
