"""Components that break the contract; what the battery must say of each is in `test_strangers.py`.

    processors:
      wrong_alias:

    exporters:
      wrong_leak:
      wrong_file:
      wrong_store:
      wrong_queue:

    extensions:
      wrong_keys:

The Collector has no such components.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from colonnade.native import Batch
from colonnade.pipeline.component import (
    BatchContext,
    ComponentId,
    Exporter,
    Extension,
    Factory,
    Processor,
    Slice,
    signals,
)
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import ExporterSettings, Settings


class NoKeys(Settings):
    pass


class Changer(Processor):
    """Says that it changes nothing."""

    changes = False

    def __init__(self, id: ComponentId, config: NoKeys) -> None:
        super().__init__(id)

    def process(self, batch: Any, ctx: BatchContext) -> Any:
        data = pa.record_batch(batch)
        return Batch.from_arrow(data.slice(0, data.num_rows - 1), batch.signal, like=batch)


LEAKED: list[Any] = []


class Leak(Exporter):
    """Leaves a task behind."""

    wants_completed = False

    def __init__(self, id: ComponentId, config: ExporterSettings) -> None:
        super().__init__(id)
        self.queue, self.retry = config.sending_queue, config.retry_on_failure

    async def start(self, host: Any) -> None:
        LEAKED.append(asyncio.create_task(asyncio.Event().wait()))

    async def export(self, part: Slice) -> None:
        pass


class File(Leak):
    """Leaves a file open."""

    async def start(self, host: Any) -> None:
        LEAKED.append(open("leak.txt", "a"))  # noqa: ASYNC230, SIM115


class Store(Exporter):
    """Does not start, and does not say why."""

    wants_completed = False

    def __init__(self, id: ComponentId, config: ExporterSettings) -> None:
        super().__init__(id)
        self.queue, self.retry = config.sending_queue, config.retry_on_failure

    async def start(self, host: Any) -> None:
        raise ColonnadeError("no", "no")

    async def export(self, part: Slice) -> None:
        pass


class Queue(Exporter):
    """Takes the queue's keys and does not look at them."""

    wants_completed = False

    def __init__(self, id: ComponentId, config: ExporterSettings) -> None:
        super().__init__(id)

    async def export(self, part: Slice) -> None:
        pass


class AnyKeys(BaseModel):
    model_config = ConfigDict(extra="allow")
    password: str = Field(default="")


class Keys(Extension):
    def __init__(self, id: ComponentId, config: AnyKeys) -> None:
        super().__init__(id)


alias = Factory("wrong_alias", "processor", NoKeys, Changer, signals())
leak = Factory("wrong_leak", "exporter", ExporterSettings, Leak, signals())
file = Factory("wrong_file", "exporter", ExporterSettings, File, signals())
store = Factory("wrong_store", "exporter", ExporterSettings, Store, signals())
queue = Factory("wrong_queue", "exporter", ExporterSettings, Queue, signals())
keys = Factory("wrong_keys", "extension", AnyKeys, Keys)
