"""What every component says about itself, and what the daemon as a whole is doing: for health checks and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from colonnade.pipeline.component import ComponentId, Status

Facts = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Report:
    """The latest word of one component; `pipelines` empty = of the daemon as a whole (extensions). `facts`: figures
    that go with it, as they are when they are asked for."""

    kind: str
    id: ComponentId
    status: Status
    since_s: float
    pipelines: tuple[str, ...]
    facts: Facts = dict


class Health:
    """The board. `phase`: starting | ready | stopping."""

    def __init__(self, on_fatal: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.phase = "starting"
        self.clock = clock
        self._on_fatal = on_fatal
        self._reports: dict[tuple[str, ComponentId, str], Report] = {}
        self._facts: dict[tuple[str, ComponentId, str], Facts] = {}

    def report(self, kind: str, id: ComponentId, pipeline: str, status: Status) -> None:
        """A component's word, of one pipeline or of all (`""`). Fatal ends the daemon."""
        key = (kind, id, pipeline)
        before = self._reports.get(key)
        since_s = before.since_s if before and before.status.state == status.state else self.clock()
        facts = self._facts.get(key, dict)
        self._reports[key] = Report(kind, id, status, since_s, (pipeline,) if pipeline else (), facts)
        if status.state == "fatal_error":
            self._on_fatal(f"{kind} {id}: {status.message}")

    def show(self, kind: str, id: ComponentId, pipeline: str, facts: Facts) -> None:
        """Figures that go with the component's word."""
        self._facts[kind, id, pipeline] = facts

    def forget(self, kind: str, id: ComponentId, pipeline: str) -> None:
        """The component is gone."""
        self._reports.pop((kind, id, pipeline), None)
        self._facts.pop((kind, id, pipeline), None)

    def reports(self) -> list[Report]:
        """Everybody's latest word."""
        return list(self._reports.values())
