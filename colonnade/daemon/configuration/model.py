"""A configuration that holds: every section validated, every reference resolved."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from colonnade.daemon.configuration.service import Service
from colonnade.daemon.configuration.tree import Node, Place, Problem
from colonnade.pipeline.component import ComponentId, Factory, Kind, Signal

SECTIONS: dict[str, Kind] = {
    "receivers": "receiver",
    "processors": "processor",
    "exporters": "exporter",
    "connectors": "connector",
    "extensions": "extension",
}


@dataclass(frozen=True, slots=True)
class ComponentConfig:
    """One component of the file (or one that was added, `place` None)."""

    id: ComponentId
    factory: Factory
    settings: BaseModel
    place: Place | None = None

    @property
    def kind(self) -> Kind:
        return self.factory.kind


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """One pipeline. `added`: processors that the file does not name."""

    id: str
    signal: Signal
    receivers: tuple[ComponentId, ...]
    processors: tuple[ComponentId, ...]
    exporters: tuple[ComponentId, ...]
    place: Place
    added: tuple[ComponentId, ...] = ()


Components = dict[tuple[Kind, ComponentId], ComponentConfig]


@dataclass(slots=True)
class Configuration:
    """What the daemon runs. `root`: the merged and expanded document."""

    components: Components
    pipelines: dict[str, PipelineConfig]
    extensions: tuple[ComponentId, ...]
    service: Service
    root: Node
    sources: tuple[str, ...] = ()
    warnings: list[Problem] = field(default_factory=list[Problem])
    added: list[str] = field(default_factory=list[str])
    """What was added to what the file says, as sentences."""

    def get(self, kind: Kind, id: ComponentId) -> ComponentConfig:
        return self.components[kind, id]
