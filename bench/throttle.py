"""A ClickHouse that takes so many rows a second: a proxy that answers each insert when its rows are due."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from types import TracebackType

from aiohttp import ClientSession, ClientTimeout, web

MAX_BODY_BYTES = 1 << 30
# Of one connection only; the others are the proxy's own business.
HOP_BY_HOP = {"host", "content-length", "transfer-encoding", "connection", "content-encoding"}


class Throttle:
    """Serves on a free port of loopback in a thread of its own, while entered."""

    def __init__(self, target: str, rows_per_s: float) -> None:
        self._target = target
        self._rows_per_s = rows_per_s
        self._due = 0.0
        self._port: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port.result()}"

    def __enter__(self) -> Throttle:
        self._thread.start()
        self._port.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.run_until_complete(self._session.close())

    async def _start(self) -> None:
        self._session = ClientSession(timeout=ClientTimeout(total=None), auto_decompress=False)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port.set_result(self._runner.addresses[0][1])

    async def _pass_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP - {"content-encoding"}}
        url = f"{self._target}{request.raw_path}"
        async with self._session.request(request.method, url, data=body, headers=headers) as reply:
            answer = await reply.read()
            await self._hold_back(
                int(json.loads(reply.headers.get("X-ClickHouse-Summary", "{}")).get("written_rows", 0))
            )
            kept = {k: v for k, v in reply.headers.items() if k.lower() not in HOP_BY_HOP - {"content-encoding"}}
            return web.Response(status=reply.status, body=answer, headers=kept)

    async def _hold_back(self, rows: int) -> None:
        now = self._loop.time()
        self._due = max(self._due, now) + rows / self._rows_per_s
        if rows:
            await asyncio.sleep(self._due - now)
