"""The ground that receivers of JSON events stand on: routes as data, keys, one native call per body, answers.

A request's events go through the mapping engine in one call, whatever their number; each has its own verdict. Rows
are safe before the answer. Events that came before, by their source's own key, are answered as accepted and not stored
again (`event_dedup.py`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

from pydantic import Field

from colonnade.pipeline.component import ComponentId, Entry, Host, Receiver, RouteSpec, ServerSpec, Signal
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.event_dedup import SeenEvents
from colonnade.pipeline.event_keys import ANYBODY, Key, KeyRegistry, KeySettings
from colonnade.pipeline.intake import log_unforeseen
from colonnade.pipeline.outcome import of_error, status
from colonnade.pipeline.settings import MIB, Duration, HTTPServer, Settings

if TYPE_CHECKING:
    from colonnade.native import Batch, Format, Request

# Mapping this much takes about as long as a hop to an executor thread and back.
INLINE_BYTES = 16 << 10
ERRORS_TOLD = 100
PREFLIGHT_MAX_AGE_S = 86_400
DEFAULT_HEADERS = "authorization, content-type, content-encoding, x-retry-count, x-write-key, traceparent"
GZIP_MAGIC = b"\x1f\x8b"

Headers = dict[str, str]


class DedupSettings(Settings):
    """`dedup`."""

    window: Duration = Field(default=86_400.0, ge=0, description="How long keys of events are remembered; 0 = not.")
    max_keys: int = Field(default=5_000_000, ge=1, description="How many; beyond it the oldest are forgotten.")


class EventServer(HTTPServer):
    """Keys that all receivers of JSON events have, besides the Collector's of an HTTP endpoint."""

    max_request_body_size: int = Field(default=4 * MIB, gt=0, description="Largest body, before decompression.")
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="Addresses whose X-Forwarded-For is believed; others say where they are themselves."
    )
    keys_file: KeySettings = Field(default_factory=lambda: KeySettings(), description="Keys in a file.")
    dedup: DedupSettings = Field(default_factory=lambda: DedupSettings(), description="Events that come again.")


class Refusal(Exception):
    """A request that is not taken: status, stable code, what is wrong."""

    def __init__(self, status: int, code: str, message: str, delay_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.delay_s = status, code, message, delay_s


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int = 200
    body: bytes = b""
    type: str = "application/json"
    headers: Headers = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Call:
    """A request, as routes look at it."""

    request: Request
    headers: Headers
    query: Headers
    rest: str = ""
    """What a `/*` path stands for."""

    @property
    def is_browser(self) -> bool:
        """Pages name their origin; servers have none, and their address says nothing of a user."""
        return "origin" in self.headers


@dataclass(frozen=True, slots=True)
class EventRoute:
    """One path. `answer` is called with the request; `/*` at the end stands for all paths below."""

    method: str
    path: str
    answer: Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a body's events. `rejected`: (index, id, code, path, message)."""

    accepted: int
    duplicates: int
    rejected: list[tuple[int, str, str, str, str]]

    @property
    def failed(self) -> bool:
        """Whether there were events, and none was taken."""
        return bool(self.rejected) and not self.accepted and not self.duplicates

    def told(self) -> dict[str, Any]:
        """Counts, and the first errors."""
        told: dict[str, Any] = {"accepted": self.accepted + self.duplicates, "rejected": len(self.rejected)}
        if self.duplicates:
            told["duplicates"] = self.duplicates
        if self.rejected:
            told["errors"] = [
                {"index": index, "messageId": id, "code": code, "path": path, "message": message}
                for index, id, code, path, message in self.rejected[:ERRORS_TOLD]
            ]
        return told


def accepted_or_not(taken: Taken) -> Reply:
    """202 where anything was taken, else 422; both with a word on every event that was not."""
    body = {"success": not taken.failed, **taken.told()}
    if taken.failed:
        body |= {"code": taken.rejected[0][2], "message": taken.rejected[0][4]}
    return Reply(422 if taken.failed else 202, json.dumps(body).encode())


class EventReceiver(Receiver):
    """Serves routes. Subclasses give them (`routes`), and answer with `take`."""

    protocol: ClassVar[str] = "events"
    too_large_status: ClassVar[int] = 413
    bad_key_code: ClassVar[str] = "invalid_key"
    credentials: ClassVar[str] = "Basic"
    body_max_bytes: int
    consume: dict[Signal, Callable[[Sequence[Batch]], Awaitable[None]]]

    def __init__(self, id: ComponentId, config: EventServer, keys: Sequence[Key], body_max_bytes: int) -> None:
        super().__init__(id)
        self.server = config
        self.keys = KeyRegistry(keys, config.keys_file)
        self.body_max_bytes = body_max_bytes
        self._seen: SeenEvents | None = None
        self._routes = {(route.method, route.path): route for route in self.routes()}

    def routes(self) -> list[EventRoute]:
        """What is served."""
        raise NotImplementedError

    def entries(self) -> list[Entry]:
        """One entry with all routes."""
        paths = {path for _, path in self._routes}
        asked = [*self._routes, *(("OPTIONS", path) for path in sorted(paths))]
        specs = tuple(
            RouteSpec(method=method, path=path, kind="python", max_body_bytes=self.server.max_request_body_size)
            for method, path in asked
        )
        spec = ServerSpec(self.server.endpoint, ("http1", "h2"), self.server)
        return [Entry("events", spec, specs, "http", self.protocol, self._handle)]

    async def start(self, host: Host) -> None:
        self.host = host
        dedup = self.server.dedup
        self._seen = SeenEvents(dedup.window, dedup.max_keys) if dedup.window else None
        if self._seen is not None:
            await self._seen.start(host)
        await self.keys.start(host)

    async def shutdown(self) -> None:
        await self.keys.stop()
        seen, self._seen = self._seen, None
        if seen is not None:
            await seen.stop()

    # --- requests

    async def _handle(self, request: Request) -> None:
        call = Call(request, dict(request.headers), dict(parse_qsl(request.query)))
        if request.method == "OPTIONS":
            self._respond(call, Reply(204, headers=_preflight(call)))
            return
        try:
            reply = await self._route(call).answer(call)
        except Refusal as refusal:
            self._count_request("refused")
            reply = self.refused(refusal)
        else:
            self._count_request("success" if reply.status < 400 else "refused")
        self._respond(call, reply)

    def _route(self, call: Call) -> EventRoute:
        method, path = call.request.method, call.request.path
        route = self._routes.get((method, path))
        above = path
        while route is None and "/" in above:
            above = above.rpartition("/")[0]
            route = self._routes.get((method, f"{above}/*"))
            call.rest = path[len(above) + 1 :]
        assert route is not None, path
        return route

    def refused(self, refusal: Refusal) -> Reply:
        """How a refusal is told."""
        headers: Headers = {}
        if refusal.delay_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(refusal.delay_s)))
        if refusal.status == 401:
            headers["www-authenticate"] = self.credentials
        body = {"success": False, "code": refusal.code, "message": refusal.message}
        return Reply(refusal.status, json.dumps(body).encode(), headers=headers)

    def _respond(self, call: Call, reply: Reply) -> None:
        headers = [*reply.headers.items(), *_cors(call)]
        if reply.body or reply.status == 200:
            headers.append(("content-type", reply.type))
        call.request.respond(reply.status, headers, reply.body)

    # --- events

    def admitted(self, text: str, scope: str = "") -> Key:
        """The key of this text; anybody's where no keys are asked for. Raises Refusal."""
        if self.keys.is_open:
            return ANYBODY
        if not self.keys.loaded:
            raise Refusal(503, "keys_not_loaded", "keys are not loaded yet; send again", 1.0)
        key = self.keys.find(text)
        if key is None:
            what = "no key was given" if not text else "the key is not known"
            raise Refusal(401, self.bad_key_code, what)
        if not key.enabled:
            raise Refusal(403, "key_disabled", "the key is switched off")
        if scope and key.scopes and scope not in key.scopes:
            raise Refusal(403, "missing_scope", f"the key may not send {scope}")
        wait_s = self.keys.wait_s(key)
        if wait_s:
            raise Refusal(429, "rate_limited", "the key sends too many requests", wait_s)
        return key

    def body(self, call: Call, max_bytes: int = 0) -> bytes:
        """The request's body, decompressed: by its header, by `?compression=`, or because it begins as gzip does.

        Raises Refusal.
        """
        from colonnade.native import NativeError, decompress

        max_bytes = max_bytes or self.body_max_bytes
        body = call.request.body
        coding = call.headers.get("content-encoding", "").strip().lower() or call.query.get("compression", "")
        if body.startswith(GZIP_MAGIC):
            coding = "gzip"
        if coding not in ("", "identity", "gzip-js"):
            try:
                body = decompress(coding, body, max_bytes + 1)
            except NativeError as error:
                if error.code == "too_large":
                    raise Refusal(self.too_large_status, "body_too_large", str(error)) from None
                raise Refusal(400, "bad_compression", str(error)) from None
        if len(body) > max_bytes:
            text = f"the body has {len(body)} bytes or more, and may have {max_bytes}"
            raise Refusal(self.too_large_status, "body_too_large", text)
        return body

    async def take(
        self,
        call: Call,
        format: Format,
        body: bytes,
        key: Key,
        *,
        mapping: int | None = None,
        privacy: str = "",
        bound: tuple[str, str] | None = None,
    ) -> Taken:
        """Maps a body's events, and returns once their rows are safe. Raises Refusal.

        Args:
            mapping: the one of the format that takes all events; else each chooses.
            privacy: `anonymised` leaves out what is personal, anything else is a remark.
            bound: a member that has to say this where an event has it.
        """
        from colonnade.native import NativeError

        headers, now_ns = call.headers, self.host.clock_ns()
        mapped = partial(
            format.map,
            body,
            received_ns=now_ns,
            tenant=key.ns,
            mapping=mapping,
            client_ip=self.client_address(call) if call.is_browser else "",
            user_agent=headers.get("user-agent", "") if call.is_browser else "",
            referer=headers.get("referer", "") if call.is_browser else "",
            privacy=privacy,
            window=self._seen.window if self._seen else None,
            bound=bound,
        )
        try:
            result = await self.host.compute(mapped) if len(body) > INLINE_BYTES else mapped()
        except NativeError as error:
            self._count_rejected("malformed", 1)
            raise Refusal(400, error.code, str(error)) from None
        batch, accepted, duplicates, fresh, rejected = result
        if batch.rows:
            self._admit_users(key, batch)
            await self._deliver(batch, accepted)
            if self._seen is not None:
                self._seen.remember(fresh, now_ns)
        self._count(accepted, duplicates, rejected)
        return Taken(accepted, duplicates, rejected)

    def _admit_users(self, key: Key, batch: Batch) -> None:
        """Raises Refusal where a user of the batch sends too much."""
        if key.user_rate_limit is None:
            return
        wait_s = self.keys.user_wait_s(key, users_of(batch))
        if wait_s:
            raise Refusal(429, "rate_limited", "a user of these events sends too many requests", wait_s)

    async def _deliver(self, batch: Batch, events: int) -> None:
        try:
            await self.consume["events"]([batch])
        except Exception as error:
            outcome = of_error(error)
            if not isinstance(error, ColonnadeError):
                log_unforeseen(self.host, error)
            self.host.count("receiver_refused_events", events, transport="http")
            code = status(outcome.kind, self.protocol)
            delay_s = (outcome.delay_s or 1.0) if code.retryable else None
            raise Refusal(code.http, outcome.code or outcome.kind, outcome.message, delay_s) from None

    def client_address(self, call: Call) -> str:
        """Where a browser is: the connection's other end, or what a proxy that is trusted says."""
        peer = call.request.peer.rpartition(":")[0].strip("[]") or call.request.peer
        if peer in self.server.trusted_proxies:
            hops = [hop.strip() for hop in call.headers.get("x-forwarded-for", "").split(",") if hop.strip()]
            while hops and hops[-1] in self.server.trusted_proxies:
                hops.pop()
            return hops[-1] if hops else peer
        return peer

    # --- counting

    def _count(self, accepted: int, duplicates: int, rejected: list[tuple[int, str, str, str, str]]) -> None:
        if accepted:
            self.host.count("receiver_accepted_events", accepted, transport="http")
        if duplicates:
            self.host.count("receiver_duplicate_events", duplicates, transport="http")
        for code, events in Counter(code for _, _, code, _, _ in rejected).items():
            self._count_rejected(code, events)

    def _count_rejected(self, code: str, events: int) -> None:
        self.host.count("receiver_rejected_events", events, transport="http", code=code)

    def _count_request(self, outcome: str) -> None:
        self.host.count("receiver_requests", 1, transport="http", outcome=outcome)


def users_of(batch: Batch) -> list[str]:
    """Who the rows are of, each once: `actor_id`, else `anonymous_id`; rows of nobody are left out."""
    # pyarrow has no types; `Any` says so once.
    pa: Any = import_module("pyarrow")
    pc: Any = import_module("pyarrow.compute")
    data = pa.record_batch(batch)
    columns = [data[name].cast(pa.string()) for name in ("actor_id", "anonymous_id") if name in data.schema.names]
    if not columns:
        return []
    named = [pc.if_else(pc.equal(column, ""), None, column) for column in columns]
    return pc.drop_null(pc.unique(pc.coalesce(*named))).to_pylist()


def _preflight(call: Call) -> Headers:
    """What a browser asks before it sends: everything that it wants is allowed."""
    return {
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": call.headers.get("access-control-request-headers") or DEFAULT_HEADERS,
        "access-control-max-age": str(PREFLIGHT_MAX_AGE_S),
    }


def _cors(call: Call) -> list[tuple[str, str]]:
    """Any page may send: the key says who it is. The origin is named, because credentials do not go with `*`."""
    origin = call.headers.get("origin")
    if not origin:
        return []
    return [
        ("access-control-allow-origin", origin),
        ("access-control-allow-credentials", "true"),
        ("vary", "Origin"),
    ]
