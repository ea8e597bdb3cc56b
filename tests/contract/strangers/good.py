"""Five components that keep the contract.

    receivers:
      stranger_door:
        endpoint: localhost:4999

    processors:
      stranger_half:
        keep: 0.5

    exporters:
      stranger_file:
        path: rows.txt

    connectors:
      stranger_twice:

    extensions:
      stranger_light:
        token: a

The Collector has no such components.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from colonnade.pipeline.component import (
    BatchContext,
    ComponentId,
    Connector,
    Entry,
    Exporter,
    Extension,
    Factory,
    Processor,
    Receiver,
    RouteSpec,
    ServerSpec,
    Slice,
    signals,
)
from colonnade.pipeline.settings import ExporterSettings, HTTPServer, Secret, Settings


class DoorConfig(HTTPServer):
    endpoint: str = Field(default="localhost:4999", description="Where.")


class Door(Receiver):
    def __init__(self, id: ComponentId, config: DoorConfig) -> None:
        super().__init__(id)
        self.config = config

    def entries(self) -> list[Entry]:
        route = RouteSpec("POST", "/in", "otlp_http", 1 << 20)
        return [Entry("logs", ServerSpec(self.config.endpoint, ("http1",), self.config), (route,), "http")]


class HalfConfig(Settings):
    keep: float = Field(default=0.5, ge=0, le=1, description="Share of rows kept.")


class Half(Processor):
    def __init__(self, id: ComponentId, config: HalfConfig) -> None:
        super().__init__(id)
        self.config = config

    def process(self, batch: Any, ctx: BatchContext) -> Any:
        kept = round(batch.rows * self.config.keep)
        ctx.drop(batch.rows - kept, "sampled", "half")
        return batch.slice(0, kept) if kept else None


class FileConfig(ExporterSettings):
    path: str = Field(min_length=1, description="File to append to.")


class File(Exporter):
    wants_completed = False

    def __init__(self, id: ComponentId, config: FileConfig) -> None:
        super().__init__(id)
        self.config, self.queue, self.retry = config, config.sending_queue, config.retry_on_failure
        self._file: Any = None

    async def start(self, host: Any) -> None:
        self._file = open(self.config.path, "a")  # noqa: ASYNC230, SIM115

    async def shutdown(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    async def export(self, part: Slice) -> None:
        self._file.write(f"{part.rows}\n")


class Twice(Connector):
    wants_completed = False

    def __init__(self, id: ComponentId, config: ExporterSettings) -> None:
        super().__init__(id)
        self.queue, self.retry = config.sending_queue, config.retry_on_failure

    async def export(self, part: Slice) -> None:
        await self.emit["logs"](part.batches)


class LightConfig(Settings):
    token: Secret = Field(default=Secret(""), description="Who may look.")


class Light(Extension):
    def __init__(self, id: ComponentId, config: LightConfig) -> None:
        super().__init__(id)


door = Factory("stranger_door", "receiver", DoorConfig, Door, signals("logs"))
half = Factory("stranger_half", "processor", HalfConfig, Half, signals(), aliases=("strangerhalf",))
file = Factory("stranger_file", "exporter", FileConfig, File, signals())
twice = Factory("stranger_twice", "connector", ExporterSettings, Twice, connects=frozenset({("logs", "logs")}))
light = Factory("stranger_light", "extension", LightConfig, Light)
