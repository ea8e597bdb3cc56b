"""ClickHouse's HTTP query form in front of the embedded engine."""

from __future__ import annotations

import base64
import gzip
import hmac
import ipaddress
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from colonnade.extensions.clickhouse_query import hello
from colonnade.extensions.clickhouse_query.guard import Forbidden
from colonnade.extensions.clickhouse_query.runner import Runner, Statement
from colonnade.native import NativeError, decompress
from colonnade.pipeline import embedded_engine
from colonnade.pipeline.embedded_engine import EngineError

if TYPE_CHECKING:
    from colonnade.extensions.clickhouse_query import ClickHouseQueryConfig

MAX_STATEMENT_BYTES = 1 << 20
GZIP_FROM_BYTES = 1024

READONLY = 164
AUTHENTICATION_FAILED = 516
BAD_ARGUMENTS = 36
NETWORK_ERROR = 210
TOO_LARGE = 307

# As ClickHouse's own handler gives them; everything else is 500.
_STATUS = {
    **dict.fromkeys((6, 36, 38, 41, 42, 43, 44, 52, 53, 62, 69, 70, 72, 117, 386, 457, 636), 400),
    **dict.fromkeys((46, 47, 48, 50, 60, 81, 115), 404),
    **dict.fromkeys((159, 160), 408),
    **dict.fromkeys((164, 497, 452), 403),
    **dict.fromkeys((192, 193, 194, 516), 401),
    307: 413,
    202: 503,
    210: 503,
}

# Parameters that are not settings of a statement, or that mean nothing to a reader of this store.
_IGNORED = frozenset(
    {
        *("query", "database", "default_format", "user", "password", "quota_key", "query_id", "stacktrace", "role"),
        *("enable_http_compression", "http_zlib_compression_level", "wait_end_of_query", "buffer_size"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "client_protocol_version"),
        *("cancel_http_readonly_queries_on_client_close", "add_http_cors_header", "readonly", "log_queries"),
        *("session_id", "session_timeout", "session_check", "close_session", "output_format_enable_streaming"),
        *("http_write_exception_in_output_format", "log_comment", "async_insert", "max_threads", "compress"),
    }
)
# What a reader may set: how the answer looks, and tighter limits of its own.
_SETTINGS = re.compile(
    r"output_format_\w+|format_csv_\w+|date_time_output_format|date_time_input_format|session_timezone|extremes"
    r"|join_use_nulls|max_block_size|group_by_use_nulls|transform_null_in|use_variant_as_common_type|limit|offset"
    r"|prefer_column_name_to_alias|aggregate_functions_null_for_empty|result_overflow_mode|max_rows_to_read"
    r"|dialect|union_default_mode|float_precision|enable_analyzer|use_uncompressed_cache|optimize_\w+"
)
_TIGHTER = frozenset({"max_execution_time", "max_result_rows", "max_result_bytes", "max_memory_usage"})


class QueryServer:
    """The aiohttp application."""

    def __init__(self, config: ClickHouseQueryConfig, runner: Runner, host: str) -> None:
        self._config = config
        self._runner = runner
        self._names = {"localhost", host.lower(), *(name.lower() for name in config.allowed_hosts)}
        self.application = web.Application(client_max_size=MAX_STATEMENT_BYTES)
        self.application.router.add_get("/ping", self._ping)
        self.application.router.add_get("/replicas_status", self._ping)
        self.application.router.add_route("*", "/", self._answer)

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n") if self._is_known_host(request) else _wrong_host()

    async def _answer(self, request: web.Request) -> web.Response:
        if not self._is_known_host(request):
            return _wrong_host()
        if request.method not in ("GET", "POST", "HEAD"):
            return web.Response(status=405, text="GET or POST\n", headers={"Allow": "GET, POST"})
        fields: dict[str, str] = dict(request.query)
        try:
            self._check_credentials(request, fields)
            if request.content_type == "multipart/form-data":
                fields |= {name: str(value) for name, value in (await request.post()).items()}
                body = ""
            else:
                body = await _body(request)
            sql = "\n".join(part for part in (fields.get("query", ""), body) if part.strip())
            if not sql.strip():
                return web.Response(text="Ok.\n")
            engine = embedded_engine.current()
            if engine is None:
                raise Forbidden("no embedded store is open in this process", NETWORK_ERROR)
            statement = self._statement(request, fields, sql)
            if hello.is_hello(fields, sql):
                greeting = hello.answer(await self._runner.version(engine))
                return web.Response(body=greeting, headers={"X-ClickHouse-Format": "Native"})
            answer = await self._runner.run(engine, statement)
        except (Forbidden, EngineError) as error:
            return _refusal(error.code, str(error))
        except web.HTTPRequestEntityTooLarge:
            return _refusal(TOO_LARGE, f"the statement is larger than {MAX_STATEMENT_BYTES} bytes")
        headers = {
            "Content-Type": answer.content_type,
            "X-ClickHouse-Format": answer.format,
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": answer.summary,
            "X-ClickHouse-Server-Display-Name": "colonnade",
            "X-Content-Type-Options": "nosniff",
        }
        if query_id := fields.get("query_id"):
            headers["X-ClickHouse-Query-Id"] = re.sub(r"[^\x21-\x7e]", "", query_id)[:128]
        return web.Response(body=_packed(request, fields, answer.body, headers), headers=headers)

    def _is_known_host(self, request: web.Request) -> bool:
        """A page that rebinds its own name to this address sends that name; ours and bare addresses are served."""
        host = request.headers.get("Host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        name = name.strip("[]").lower()
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _check_credentials(self, request: web.Request, fields: Mapping[str, str]) -> None:
        """With a password configured, it must be given in one of ClickHouse's three ways."""
        if not self._config.password:
            return
        user = request.headers.get("X-ClickHouse-User") or fields.get("user", "default")
        key = request.headers.get("X-ClickHouse-Key") or fields.get("password", "")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                user, _, key = base64.b64decode(given, validate=True).decode().partition(":")
            except ValueError:
                key = ""
        same = hmac.compare_digest(key.encode(), self._config.password.reveal().encode())
        if not (same and user == self._config.username):
            raise Forbidden(
                "Authentication failed: password is incorrect, or there is no such user", AUTHENTICATION_FAILED
            )

    def _statement(self, request: web.Request, fields: Mapping[str, str], sql: str) -> Statement:
        if fields.get("compress") == "1" or fields.get("decompress") == "1":
            raise Forbidden("compress and decompress are not supported: use Accept-Encoding", BAD_ARGUMENTS)
        settings: dict[str, str] = {}
        for name, value in fields.items():
            if name in _IGNORED or name.startswith("param_") or name == "decompress":
                continue
            if name in _TIGHTER or _SETTINGS.fullmatch(name):
                settings[name] = value
            else:
                raise Forbidden(f"Cannot modify '{name}' setting here: it is not one that readers may set", READONLY)
        statement = Statement(
            sql=sql,
            database=request.headers.get("X-ClickHouse-Database") or fields.get("database", ""),
            format=request.headers.get("X-ClickHouse-Format") or fields.get("default_format", "TabSeparated"),
            params={name.removeprefix("param_"): value for name, value in fields.items() if name.startswith("param_")},
        )
        if not all(re.fullmatch(r"\w+", name) for name in statement.params):
            raise Forbidden("a parameter's name must be of letters, digits and _", BAD_ARGUMENTS)
        return replace(statement, settings=self._tightened(settings))

    def _tightened(self, settings: dict[str, str]) -> dict[str, str]:
        """Limits that a reader gives hold where they are lower than ours; the rest is ours."""
        limits = self._runner.limits.settings
        for name in _TIGHTER & settings.keys():
            try:
                wished = float(settings[name])
            except ValueError:
                raise Forbidden(f"{name}: {settings[name]!r} is not a number", BAD_ARGUMENTS) from None
            if not 0 < wished < float(limits[name]):
                del settings[name]
        return settings


async def _body(request: web.Request) -> str:
    """The statement in the body; raises Forbidden where it can not be read."""
    if not request.can_read_body:
        return ""
    body = await request.read()
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    try:
        if coding and coding != "identity":
            body = decompress(coding, body, MAX_STATEMENT_BYTES)
        return body.decode()
    except (NativeError, ValueError) as error:
        raise Forbidden(f"the body can not be read: {error}", BAD_ARGUMENTS) from None


def _packed(request: web.Request, fields: Mapping[str, str], body: bytes, headers: dict[str, str]) -> bytes:
    """The body, packed where the reader asks for it in ClickHouse's way."""
    accepted = request.headers.get("Accept-Encoding", "").lower()
    if fields.get("enable_http_compression") != "1" or len(body) < GZIP_FROM_BYTES:
        return body
    if "gzip" in accepted:
        headers["Content-Encoding"] = "gzip"
        return gzip.compress(body, 1)
    if "deflate" in accepted:
        headers["Content-Encoding"] = "deflate"
        return zlib.compress(body, 1)
    return body


def _refusal(code: int, text: str) -> web.Response:
    """An exception as ClickHouse sends it."""
    if not text.startswith("Code:"):
        text = f"Code: {code}. DB::Exception: {text}"
    headers = {"X-ClickHouse-Exception-Code": str(code), "X-Content-Type-Options": "nosniff"}
    if code == AUTHENTICATION_FAILED:
        headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
    return web.Response(status=_STATUS.get(code, 500), text=text.rstrip() + "\n", headers=headers)


def _wrong_host() -> web.Response:
    return web.Response(
        status=421, text="this name is not served here: use localhost or an address, or add it to allowed_hosts\n"
    )
