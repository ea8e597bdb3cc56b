"""Receives what browsers send: TrackFlow, RadixInsight, web vitals, session replay, resource timings.

    receivers:
      beacon:
        endpoint: localhost:8081
        keys:
          - {key: pk-1, ns: shop}
        honor: [dnt, gpc]
        honor_action: anonymise

`POST /batch`: TrackFlow's `{events: [...]}`, whose `tenantId` is the key. `POST /collect`: RadixInsight's list of
events, with the key as `X-API-Key`; `project_id` is the key's `ns`. `POST /vitals`: metrics of the web-vitals
library, one or a list, alone or as `{metric, context}`. `POST /replay`: rrweb's `{context: {sessionId, sequence,
pageUrl, ..}, events: [...]}`, of which `sequence` is that of the first. `POST /timing`: entries of the browser's
resource timing. `POST /beacon`: any of them, told apart by their members. Where a page can not set headers the key
stands in the path: `?key=pk-1`. Without `keys` and `keys_file` everybody may send.

Bodies are JSON under any content type or none, a form's `data=`, gzip by its first bytes or by `?compression=gzip`.
Pages of every origin may send; their preflights are answered. A browser's address (behind `trusted_proxies`: what
they say) and user agent are kept with the event. `honor` names signals of the browser (Do Not Track, Global Privacy
Control): `drop` takes nothing, `anonymise` leaves out who it was, `flag` says so in the row.

Guarantees: a request is answered after its rows are in the log of every pipeline that names this receiver: 202 with
`accepted`, `rejected` and `errors` by event; 422 where no event was taken, 400 for a body that holds none, 401 for a
bad key, 413 for one that is too large. An event that comes again (its id came within `dedup.window`) is accepted and
not stored again.

On overload: 503, and 429 for a key over its `rate_limit`, both with Retry-After.

Specification: the unified mapping 3.9, 3.10, 3.14, 6.1, 6.10 and 6.11. The Collector has no component of that name.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from pydantic import Field

from colonnade.pipeline.component import ComponentId, Factory, Host, signals
from colonnade.pipeline.event_keys import ANYBODY, Key
from colonnade.pipeline.event_receiver import (
    Call,
    EventReceiver,
    EventRoute,
    EventServer,
    Refusal,
    Reply,
    Taken,
    accepted_or_not,
)
from colonnade.pipeline.settings import MIB

if TYPE_CHECKING:
    from colonnade.native import Format

EVENT_MAX_BYTES = 100 << 10
BODY_MAX_BYTES = 4 * MIB
REPLAY_MAX_BYTES = 25 * MIB
REPLAY_EVENT_MAX_BYTES = 8 * MIB
BODY_MAX_EVENTS = 1_000

Signal = Literal["dnt", "gpc"]
SIGNALS: dict[Signal, str] = {"dnt": "dnt", "gpc": "sec-gpc"}


class Config(EventServer):
    """The receiver's section."""

    endpoint: str = Field(default="localhost:8081", description="host:port to listen on, or unix:/path.")
    max_request_body_size: int = Field(
        default=REPLAY_MAX_BYTES, gt=0, description="Largest body, before decompression."
    )
    keys: tuple[Key, ...] = Field(default=(), description="Keys of pages; visible in every browser.")
    max_event_size: int = Field(default=EVENT_MAX_BYTES, gt=0, description="Bytes of one event; replay has its own.")
    max_body_size: int = Field(default=BODY_MAX_BYTES, gt=0, description="Bytes of a body, decompressed.")
    max_batch_events: int = Field(default=BODY_MAX_EVENTS, gt=0, description="Events of a body.")
    max_replay_size: int = Field(default=REPLAY_MAX_BYTES, gt=0, description="Bytes of a replay body, decompressed.")
    max_replay_event_size: int = Field(default=REPLAY_EVENT_MAX_BYTES, gt=0, description="Bytes of one of its events.")
    honor: tuple[Signal, ...] = Field(default=(), description="Signals of the browser that are honoured.")
    honor_action: Literal["drop", "anonymise", "flag"] = Field(default="drop", description="What is done then.")


class Kind(NamedTuple):
    """What one route takes.

    Args:
        mappings: the first whose conditions hold takes an event.
        key_at: where a body has the key, by the names of members.
        bound: the member that has to say the key's `ns`.
    """

    mappings: tuple[str, ...]
    key_at: tuple[tuple[str, ...], ...] = ()
    bound: str = ""


TRACKFLOW = tuple(f"trackflow.{name}" for name in ("page_view", "click", "error", "error.flat", "performance"))
KINDS = {
    "batch": Kind(TRACKFLOW, (("events", "0", "tenantId"), ("0", "tenantId"), ("tenantId",))),
    "collect": Kind(("radix.event",), bound="project_id"),
    "vitals": Kind(("web_vitals", "web_vitals.library")),
    "replay": Kind(("rrweb",)),
    "timing": Kind(("browser.snippet",)),
}
EVERYTHING = Kind(
    (*TRACKFLOW, "radix.event", "web_vitals", "web_vitals.library", "rrweb", "browser.snippet"), KINDS["batch"].key_at
)


class BeaconReceiver(EventReceiver):
    """Routes by kind."""

    bad_key_code = "bad_key"

    def __init__(self, id: ComponentId, config: Config) -> None:
        self.config = config
        super().__init__(id, config, config.keys, config.max_body_size)
        self._formats: dict[str, Format] = {}

    async def start(self, host: Host) -> None:
        await super().start(host)
        await host.run(self._compile)

    def _compile(self) -> None:
        from colonnade.native import Format
        from colonnade.unified_schema import mappings

        config = self.config
        limits = {"event_bytes": config.max_event_size, "events": config.max_batch_events}
        replay = {"event_bytes": config.max_replay_event_size, "events": config.max_batch_events}
        for name, kind in {**KINDS, "beacon": EVERYTHING}.items():
            plan = mappings.format_plan(
                [mappings.builtin(mapping) for mapping in kind.mappings],
                lists=[("events",)],
                wrap={"item": "event", "with": "context", "number": "sequence"} if name == "replay" else None,
                limits=replay if name == "replay" else limits,
            )
            self._formats[name] = Format(plan)

    def routes(self) -> list[EventRoute]:
        """One path per kind, and one for all."""
        kinds = {**KINDS, "beacon": EVERYTHING}
        return [EventRoute("POST", f"/{name}", self._kind(name, kind)) for name, kind in kinds.items()]

    def _kind(self, name: str, kind: Kind) -> Any:
        limit = self.config.max_replay_size if name == "replay" else self.config.max_body_size

        async def answer(call: Call) -> Reply:
            body = _plain(self.body(call, limit))
            key = self._key(call, kind, body)
            privacy = self._privacy(call)
            if privacy == "drop":
                self._count_rejected("privacy", 1)
                return accepted_or_not(Taken(0, 0, []))
            bound = (kind.bound, key.ns) if kind.bound and key.ns else None
            if kind.key_at and not self.keys.is_open:
                bound = bound or ("tenantId", key.key.reveal())
            taken = await self.take(call, self._formats[name], body, key, privacy=privacy, bound=bound)
            return accepted_or_not(taken)

        return answer

    def _key(self, call: Call, kind: Kind, body: bytes) -> Key:
        """The key that lets the request in. Raises Refusal."""
        from colonnade.native import text_at

        if self.keys.is_open:
            return ANYBODY
        text = call.headers.get("x-api-key", "") or call.query.get("key", "") or call.query.get("api_key", "")
        for path in () if text else kind.key_at:
            text = text or text_at(body, list(path)) or ""
        return self.admitted(text)

    def _privacy(self, call: Call) -> str:
        asked = [signal for signal in self.config.honor if call.headers.get(SIGNALS[signal]) == "1"]
        if not asked:
            return ""
        action = self.config.honor_action
        return {"drop": "drop", "anonymise": "anonymised"}.get(action, ",".join(asked))


def _plain(body: bytes) -> bytes:
    """A form's `data=`, unpacked; anything else as it is. Raises Refusal."""
    if not body.startswith(b"data="):
        return body
    text = unquote_to_bytes(body[5:].partition(b"&")[0].replace(b"+", b" "))
    if text.lstrip()[:1] in (b"{", b"["):
        return text
    try:
        return base64.b64decode(text.replace(b" ", b"+"), validate=True)
    except binascii.Error:
        raise Refusal(400, "malformed", "the form's data is neither JSON nor base64") from None


def _create(id: ComponentId, config: Config) -> BeaconReceiver:
    return BeaconReceiver(id, config)


factory = Factory(
    type="beacon",
    kind="receiver",
    config=Config,
    create=_create,
    signals=signals("events"),
)
