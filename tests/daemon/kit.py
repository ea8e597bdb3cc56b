"""Components for tests of the daemon: small, in process, and counting what happens to them."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from colonnade.daemon.health import Health
from colonnade.daemon.host import Services
from colonnade.daemon.telemetry import Metrics
from colonnade.pipeline.component import (
    ComponentId,
    Exporter,
    Extension,
    Factory,
    Processor,
    Receiver,
    Slice,
    SliceLimits,
    signals,
)
from colonnade.pipeline.errors import ColonnadeError, Retryable
from colonnade.pipeline.registry import Registry
from colonnade.pipeline.settings import (
    ByteSize,
    Duration,
    HTTPServer,
    OptionalSection,
    RetryOnFailure,
    Secret,
    SendingQueue,
    Settings,
)
from tests.pipeline.kit import numbers_of

events: list[str] = []
"""`start x`, `stop x` in order; cleared by the fixture."""
stored: dict[str, list[int]] = {}
"""Rows by the exporter's `to`."""
made: dict[str, Any] = {}
"""The latest instance by id."""


class FeedConfig(Settings):
    endpoint: str = Field(default="localhost:1", description="Where.")
    port: int = Field(default=1, ge=0, le=65535, description="A number.")
    ratio: float = Field(default=0.5, description="A fraction.")
    on: bool = Field(default=False, description="A switch.")
    mode: str = Field(default="", description="A text.")
    wait: Duration = Field(default=1.0, description="A duration.")
    size: ByteSize = Field(default=1, description="A size.")
    token: Secret = Field(default=Secret(""), description="A secret.")
    headers: dict[str, Secret] = Field(default_factory=dict, description="Secrets.")
    names: tuple[str, ...] = Field(default=(), description="Texts.")
    http: OptionalSection[HTTPServer] = Field(default=None, description="A section.")
    fail: str = Field(default="", description="Why it does not start.")


class _Noted:
    def __init__(self, id: ComponentId, config: Any) -> None:
        super().__init__(id)  # type: ignore[call-arg]
        self.config = config
        self.running = False
        made[str(id)] = self

    async def start(self, host: Any) -> None:
        events.append(f"start {self.id}")
        if getattr(self.config, "fail", ""):
            raise ColonnadeError("will_not", self.config.fail)
        self.running = True

    async def shutdown(self) -> None:
        if self.running:
            events.append(f"stop {self.id}")
        self.running = False


class Feed(_Noted, Receiver):
    """Gets `consume` from the graph."""

    consume: dict[str, Any]


class PassConfig(Settings):
    fail: str = Field(default="", description="Why it does not start.")
    keep: float = Field(default=1, description="Share of rows kept.")


class Pass(_Noted, Processor):
    def process(self, batch: Any, ctx: Any) -> Any:
        kept = round(batch.rows * self.config.keep)
        ctx.drop(batch.rows - kept, "filtered", "test")
        return batch.slice(0, kept) if kept else None


class StoreConfig(Settings):
    to: str = Field(default="store", description="Where to.")
    fail: str = Field(default="", description="Why it does not start.")
    down: bool = Field(default=False, description="Every attempt fails.")
    token: Secret = Field(default=Secret(""), description="A secret.")
    sending_queue: SendingQueue = Field(default_factory=SendingQueue, description="The queue.")


class Store(_Noted, Exporter):
    wants_completed = False
    slice = SliceLimits(min_rows=0, max_rows=0, max_bytes=0, max_age_s=0)
    retry = RetryOnFailure.model_validate({"initial_interval": "1ms", "max_interval": "1ms"})

    def __init__(self, id: ComponentId, config: StoreConfig) -> None:
        super().__init__(id, config)
        self.queue = config.sending_queue

    async def export(self, part: Slice) -> None:
        if self.config.down:
            raise Retryable("down", "the store is down")
        stored.setdefault(self.config.to, []).extend(numbers_of(part.batches))


class Wide(Store):
    wants_completed = True


class Door(_Noted, Extension):
    pass


def _factory(type: str, kind: Any, config: Any, create: Any, **more: Any) -> Factory:
    more.setdefault("signals", signals() if kind != "extension" else frozenset())
    return Factory(type=type, kind=kind, config=config, create=create, **more)


@cache
def components() -> Registry:
    """Everything that the tests' files may name."""
    factories = [
        _factory("feed", "receiver", FeedConfig, Feed),
        _factory("traces_only", "receiver", FeedConfig, Feed, signals=signals("traces")),
        _factory("pass", "processor", PassConfig, Pass),
        _factory("unify", "processor", PassConfig, Pass),
        _factory("store", "exporter", StoreConfig, Store, aliases=("shop",)),
        _factory("wide", "exporter", StoreConfig, Wide),
        _factory("door", "extension", PassConfig, Door),
    ]
    return Registry({f"{f.kind}.{f.type}": f for f in factories})


class SilentListener:
    """A listener that nobody sends to."""

    def __init__(self) -> None:
        self._pair = socket.socketpair()

    def fileno(self) -> int:
        return self._pair[0].fileno()

    def ready(self) -> list[int]:
        return []

    def pending_credentials(self) -> list[tuple[int, str]]:
        return []

    def forget_verdicts(self) -> None:
        """There are none."""

    def stats(self) -> dict[str, Any]:
        return {}

    def close(self, deadline_s: float) -> None:
        """The descriptor stays valid, as the real one's does."""


def services(folder: Path) -> Services:
    return Services(Metrics("detailed"), Health(lambda _: None), SilentListener(), data=folder)
