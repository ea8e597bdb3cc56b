"""Receives the Segment tracking API, as the libraries of Segment and RudderStack speak it.

    receivers:
      segment:
        endpoint: localhost:8080
        write_keys:
          - {key: wk-1, ns: shop}

Point a library at it: `Client("wk-1", host="http://localhost:8080")` in Python, `new Analytics({writeKey: "wk-1", host:
"http://localhost:8080"})` in Node, `cdnURL: "http://localhost:8080"` in a page. Calls: track, identify, page, screen,
group, alias; alone, in batches, by one letter (analytics.js), as a beacon or a pixel (RudderStack). Keys come as Basic
user name, `writeKey` in the body, `X-Write-Key`, or `?writeKey=`. Without `write_keys` and `keys_file` everybody may
send.

Guarantees: a request is answered after its rows are in the log of every pipeline that names this receiver. The answer
is 200 with `success`, `accepted`, `rejected` and `errors` by event: a bad event never takes the others of its batch
along. An event that comes again (its `messageId` came within `dedup.window`) is accepted and not stored again; ids are
kept over restarts, but for those of the last minutes before a crash. Times are corrected by `sentAt`.

On overload: 429 with Retry-After, which all libraries obey; 503 while `keys_file` is not loaded, because they drop what
they are told is forbidden.

Specification: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/ and the unified mapping
3.4 to 3.10. The Collector has no component of that name.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pydantic import Field

from colonnade.pipeline.component import ComponentId, Factory, Host, signals
from colonnade.pipeline.event_keys import ANYBODY, Key
from colonnade.pipeline.event_receiver import Call, EventReceiver, EventRoute, EventServer, Refusal, Reply

if TYPE_CHECKING:
    from colonnade.native import Format

CALLS = ("track", "identify", "page", "screen", "group", "alias")
LETTERS = {"t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias"}
BATCHES = ("batch", "import", "b", "batch/b")
EVENT_MAX_BYTES = 32 << 10
BATCH_MAX_BYTES = 500 << 10
BATCH_MAX_EVENTS = 2_500
PROPERTIES_MAX = 10_000
SETTINGS_MAX_AGE_S = 60
PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


class Config(EventServer):
    """The receiver's section."""

    endpoint: str = Field(default="localhost:8080", description="host:port to listen on, or unix:/path.")
    write_keys: tuple[Key, ...] = Field(default=(), description="Keys of sources.")
    max_event_size: int = Field(default=EVENT_MAX_BYTES, gt=0, description="Bytes of one event.")
    max_batch_size: int = Field(default=BATCH_MAX_BYTES, gt=0, description="Bytes of a body, decompressed.")
    max_batch_events: int = Field(default=BATCH_MAX_EVENTS, gt=0, description="Events of a body.")


class SegmentReceiver(EventReceiver):
    """Routes of the tracking API."""

    protocol = "segment"
    too_large_status = 400

    def __init__(self, id: ComponentId, config: Config) -> None:
        self.config = config
        super().__init__(id, config, config.write_keys, config.max_batch_size)
        self._batches: Format | None = None
        self._singles: dict[str, Format] = {}

    async def start(self, host: Host) -> None:
        await super().start(host)
        await host.run(self._compile)

    def _compile(self) -> None:
        from colonnade.native import Format
        from colonnade.unified_schema import mappings

        known = [mappings.builtin(f"segment.{call}") for call in CALLS]
        limits = {
            "event_bytes": self.config.max_event_size,
            "events": self.config.max_batch_events,
            "members": PROPERTIES_MAX,
        }
        shared, given = ("context", "integrations"), ("sentAt",)
        plan = mappings.format_plan(known, lists=[("batch",)], single=False, merge=shared, inherit=given, limits=limits)
        self._batches = Format(plan)
        self._singles = {
            call: Format(mappings.format_plan([mapping], list=False, limits=limits))
            for call, mapping in zip(CALLS, known, strict=True)
        }

    def routes(self) -> list[EventRoute]:
        """Every path with and without `/v1`: libraries differ in what they call their base."""
        routes: list[EventRoute] = []
        for base in ("/v1", ""):
            routes += [EventRoute("POST", f"{base}/{name}", self._batch) for name in BATCHES]
            for name, call in {**{call: call for call in CALLS}, **LETTERS}.items():
                routes.append(EventRoute("POST", f"{base}/{name}", self._single(call)))
            routes.append(EventRoute("POST", f"{base}/m", self._metrics))
            routes.append(EventRoute("GET", f"{base}/projects/*", self._settings))
            routes.append(EventRoute("POST", f"/beacon{base}/batch", self._batch))
            routes += [EventRoute("GET", f"/pixel{base}/{call}", self._pixel(call)) for call in ("track", "page")]
        return [*routes, EventRoute("GET", "/robots.txt", self._robots), EventRoute("GET", "/health", self._health)]

    def _key(self, call: Call, body: bytes) -> Key:
        """The key that lets the request in. Raises Refusal."""
        from colonnade.native import text_at

        if self.keys.is_open:
            return ANYBODY
        text = _basic(call.headers.get("authorization", "")) or call.headers.get("x-write-key", "")
        text = text or call.query.get("writeKey", "") or call.query.get("writekey", "")
        return self.admitted(text or (text_at(body, ["writeKey"]) if body else None) or "")

    async def _batch(self, call: Call) -> Reply:
        assert self._batches is not None
        body = self.body(call)
        key = self._key(call, body)
        taken = await self.take(call, self._batches, body, key)
        return Reply(body=json.dumps({"success": True, **taken.told()}).encode())

    def _single(self, name: str) -> Any:
        async def answer(call: Call) -> Reply:
            body = self.body(call)
            key = self._key(call, body)
            if len(body) > self.config.max_event_size:
                text = f"the event has {len(body)} bytes, and may have {self.config.max_event_size}"
                raise Refusal(400, "too_large", text)
            taken = await self.take(call, self._singles[name], body, key, mapping=0)
            return Reply(body=json.dumps({"success": True, **taken.told()}).encode())

        return answer

    def _pixel(self, name: str) -> Any:
        async def answer(call: Call) -> Reply:
            key = self._key(call, b"")
            event = {key: _value(text) for key, text in call.query.items() if key.lower() != "writekey"}
            await self.take(call, self._singles[name], json.dumps(event).encode(), key, mapping=0)
            return Reply(body=PIXEL, type="image/gif", headers={"cache-control": "no-store"})

        return answer

    async def _metrics(self, call: Call) -> Reply:
        """What analytics.js says of itself: taken, and not kept."""
        return Reply(body=b'{"success": true}')

    async def _settings(self, call: Call) -> Reply:
        """What analytics.js and mobile libraries ask for before they send anything."""
        parts = [part for part in call.rest.split("/") if part and part != "projects"]
        if len(parts) != 2 or parts[1] != "settings":
            raise Refusal(404, "not_found", "there are settings of a key: /v1/projects/KEY/settings")
        text = unquote(parts[0])
        self.admitted(text)
        host = call.headers.get("host", "")
        destination: dict[str, Any] = {
            "apiKey": text,
            "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
        }
        destination |= {"apiHost": f"{host}/v1"} if host else {}
        enabled: dict[str, Any] = {"__default": {"enabled": True, "integrations": {}}}
        document: dict[str, Any] = {
            "integrations": {"Segment.io": destination},
            "plan": {"track": enabled, "identify": enabled, "group": enabled},
            "edgeFunction": {},
            "analyticsNextEnabled": True,
            "middlewareSettings": {},
            "enabledMiddleware": {},
            "metrics": {"sampleRate": 0},
            "legacyVideoPluginsEnabled": False,
            "remotePlugins": [],
        }
        headers = {"cache-control": f"public, max-age={SETTINGS_MAX_AGE_S}"}
        return Reply(body=json.dumps(document).encode(), headers=headers)

    async def _robots(self, call: Call) -> Reply:
        return Reply(body=b"User-agent: *\nDisallow: /\n", type="text/plain")

    async def _health(self, call: Call) -> Reply:
        return Reply(body=b'{"status": "ok"}')


def _basic(header: str) -> str:
    """The user name of Basic credentials, also where the colon is left out."""
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(text.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _value(text: str) -> Any:
    """A pixel's parameter: objects and lists are JSON, everything else is text."""
    if text[:1] in "{[":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _create(id: ComponentId, config: Config) -> SegmentReceiver:
    return SegmentReceiver(id, config)


factory = Factory(
    type="segment",
    kind="receiver",
    config=Config,
    create=_create,
    signals=signals("events"),
)
