"""Receives JSON events of theData.io and of edge services, and any others by a mapping file of one's own.

    receivers:
      events:
        endpoint: localhost:8082
        tokens:
          - {key: t-1, ns: shop}
          - {key: t-2, ns: shop, scopes: [cdc, thedata.log]}
      events/mine:
        endpoint: localhost:8083
        path: /hook
        mapping: segment.track

`POST /api/v1/events` takes one event or a list, `POST /api/v1/events/batch` a list or `{"events": [..]}`. What an
event is, its fields tell: theData.io's user interaction, performance, video, application metric, trace, log and
infrastructure metric; change data (also Debezium's), events and actions of durable objects, Workers tail, API requests,
EPCIS. A path that names the source tells it as well: `/api/v1/events/cdc`, `/api/v1/events/thedata.log`. With
`mapping`, a file or the name of one of ours, `path` takes what that mapping takes and nothing else; `colonnade map`
shows what becomes of it. Tokens come as `Authorization: Bearer` or `X-API-Key`; without `tokens` and `keys_file`
everybody may send. Scopes are names of sources: on other paths a token is forbidden, and where fields tell, other
events are `unknown_event`.

Guarantees: a request is answered after its rows are in the log of every pipeline that names this receiver. The answer
is 202 with `accepted`, `rejected` and `errors` by event, 422 where every event was rejected: a bad event never takes
the others along. An event that comes again within `dedup.window` is accepted and not stored again.

On overload: 429 or 503 with Retry-After.

Specification: the unified mapping 3.8, 3.11 to 3.16 and 6.1 to 6.8. The Collector has no component of that name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from colonnade.pipeline.component import ComponentId, Factory, Host, signals
from colonnade.pipeline.event_keys import Key
from colonnade.pipeline.event_receiver import Call, EventReceiver, EventRoute, EventServer, Reply, accepted_or_not
from colonnade.pipeline.settings import MIB

if TYPE_CHECKING:
    from colonnade.native import Format
    from colonnade.unified_schema.mappings import Mapping

# Where fields tell what an event is, the first whose conditions hold takes it.
SOURCES = (
    "thedata.user_interaction", "thedata.performance", "thedata.video", "thedata.app_metric", "thedata.infra_metric",
    "thedata.trace", "thedata.log", "cdc.debezium", "cdc", "do.action", "do.event", "workers.tail", "api.request",
    "epcis",
)  # fmt: skip
EVENT_MAX_BYTES = 100 << 10
BODY_MAX_BYTES = 4 * MIB
BODY_MAX_EVENTS = 10_000
# Lists of events in a body that is an object; the second is an EPCIS document's.
LISTS = (("events",), ("epcisBody", "eventList"))
EVERY_SOURCE = ""


class Config(EventServer):
    """The receiver's section."""

    endpoint: str = Field(default="localhost:8082", description="host:port to listen on, or unix:/path.")
    path: str = Field(default="/api/v1/events", pattern=r"^(/[^/*?#\s]+)+$", description="Where events are sent to.")
    mapping: str = Field(default="", description="The one mapping of `path`: a file, or the name of one of ours.")
    tokens: tuple[Key, ...] = Field(default=(), description="Bearer tokens of senders.")
    max_event_size: int = Field(default=EVENT_MAX_BYTES, gt=0, description="Bytes of one event.")
    max_batch_size: int = Field(default=BODY_MAX_BYTES, gt=0, description="Bytes of a body, decompressed.")
    max_batch_events: int = Field(default=BODY_MAX_EVENTS, gt=0, description="Events of a body.")

    @field_validator("mapping")
    @classmethod
    def _readable(cls, name: str) -> str:
        if name:
            _find(name)
        return name


class EventsReceiver(EventReceiver):
    """One path for every source, and one path per source."""

    credentials = "Bearer"

    def __init__(self, id: ComponentId, config: Config) -> None:
        self.config = config
        super().__init__(id, config, config.tokens, config.max_batch_size)
        self._mappings: dict[str, Mapping] = {}
        self._formats: dict[tuple[str, ...], Format] = {}

    async def start(self, host: Host) -> None:
        from colonnade.unified_schema import mappings

        await super().start(host)
        own = self.config.mapping
        self._mappings = {own: _find(own)} if own else {name: mappings.builtin(name) for name in SOURCES}
        await host.run(self._format, tuple(self._mappings))

    def _format(self, names: tuple[str, ...]) -> Format:
        """What reads events of these sources, compiled once."""
        from colonnade.native import Format
        from colonnade.unified_schema import mappings

        if names not in self._formats:
            known = [self._mappings[name] for name in names]
            limits = {"event_bytes": self.config.max_event_size, "events": self.config.max_batch_events}
            lists = [*LISTS, *(path for mapping in known for path in mapping.lists)]
            self._formats[names] = Format(mappings.format_plan(known, lists=lists, limits=limits))
        return self._formats[names]

    def routes(self) -> list[EventRoute]:
        base, own = self.config.path, self.config.mapping
        routes = [EventRoute("POST", path, self._answer(own or EVERY_SOURCE)) for path in (base, f"{base}/batch")]
        if not own:
            routes += [EventRoute("POST", f"{base}/{name}", self._answer(name)) for name in SOURCES]
        return routes

    def _answer(self, source: str) -> Any:
        async def answer(call: Call) -> Reply:
            key = self._key(call, source)
            named = (source,) if source else tuple(name for name in SOURCES if not key.scopes or name in key.scopes)
            body = self.body(call)
            taken = await self.take(call, self._format(named), body, key, mapping=0 if source else None)
            return accepted_or_not(taken)

        return answer

    def _key(self, call: Call, source: str) -> Key:
        """The token that lets the request in. Raises Refusal."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        return self.admitted(token or call.headers.get("x-api-key", ""), source)


def _find(name: str) -> Mapping:
    """A mapping by its file or name. Raises ValueError, which says what is wrong and where."""
    from colonnade.unified_schema import mappings

    try:
        return mappings.find(name, Path.cwd())
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None


def _create(id: ComponentId, config: Config) -> EventsReceiver:
    return EventsReceiver(id, config)


factory = Factory(
    type="events",
    kind="receiver",
    config=Config,
    create=_create,
    signals=signals("events"),
)
