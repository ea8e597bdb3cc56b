"""The server over HTTP: statements by `/exec`, lines by `/write`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any, Final, cast

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from colonnade import __version__
from colonnade.exporters.questdb.config import QuestDBConfig
from colonnade.exporters.questdb.errors import StoreError

# Slices of a body that are handed to the socket at once.
CHUNK_BYTES: Final = 256 << 10
CONNECTIONS: Final = 4

Rows = list[list[Any]]


class Body(Payload):
    """Bytes that are sent as they lie: nothing is copied, and no other task waits for the whole."""

    def __init__(self, block: memoryview) -> None:
        super().__init__(block, content_type="text/plain")
        self._size = block.nbytes

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for start in range(0, self._value.nbytes, CHUNK_BYTES):
            await writer.write(self._value[start : start + CHUNK_BYTES])


class Server:
    """One session. Every method raises StoreError."""

    def __init__(self, config: QuestDBConfig, context: ssl.SSLContext) -> None:
        self._url = config.endpoint
        self._timeout_s = config.timeout
        self._server_name = config.tls.server_name_override or None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context),
            timeout=aiohttp.ClientTimeout(total=config.timeout),
            headers=_headers(config),
            trust_env=True,
        )

    async def close(self) -> None:
        await self._session.close()

    async def execute(self, sql: str) -> Rows:
        """Runs one statement; its rows."""
        status, headers, answer = await self._ask("GET", "/exec", params={"query": sql})
        said = _object(answer)
        if status != 200 or "error" in said:
            raise StoreError(status, str(said.get("error", "")) or _text(answer), _delay_s(headers))
        return cast(Rows, said.get("dataset", []))

    async def write(self, block: memoryview) -> None:
        """Stores lines, or nothing of them."""
        status, headers, answer = await self._ask("POST", "/write", params={"precision": "n"}, data=Body(block))
        if status not in (200, 204):
            raise StoreError(status, str(_object(answer).get("message", "")) or _text(answer), _delay_s(headers))

    async def _ask(self, method: str, path: str, **given: Any) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with self._session.request(
                method, self._url + path, server_hostname=self._server_name, allow_redirects=False, **given
            ) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError:
            raise StoreError(0, f"does not answer at {self._url} within {self._timeout_s:g}s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise StoreError(0, f"does not answer at {self._url}: {error or type(error).__name__}") from None


def _headers(config: QuestDBConfig) -> dict[str, str]:
    headers = {"User-Agent": f"colonnade/{__version__}"}
    if config.token:
        headers["Authorization"] = f"Bearer {config.token.reveal()}"
    elif config.username:
        headers["Authorization"] = aiohttp.encode_basic_auth(config.username, config.password.reveal())
    return headers


def _object(answer: bytes) -> dict[str, Any]:
    """A JSON object; QuestDB leaves control characters in texts as they are."""
    try:
        found: Any = json.loads(answer, strict=False)
    except ValueError:
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _text(answer: bytes) -> str:
    return answer[:300].decode(errors="replace").strip()


def _delay_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None
