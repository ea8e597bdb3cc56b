"""What every component says about itself, and what the daemon as a whole is doing: for health checks and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from colonnade.pipeline.component import ComponentId, Status


@dataclass(frozen=True, slots=True)
class Report:
    """The latest word of one component; `pipelines` empty = of the daemon as a whole (extensions)."""

    kind: str
    id: ComponentId
    status: Status
    since_s: float
    pipelines: tuple[str, ...]


class Health:
    """The board. `phase`: starting | ready | stopping."""

    def __init__(self, on_fatal: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.phase = "starting"
        self.clock = clock
        self._on_fatal = on_fatal
        self._reports: dict[tuple[str, ComponentId, str], Report] = {}

    def report(self, kind: str, id: ComponentId, pipeline: str, status: Status) -> None:
        """A component's word, of one pipeline or of all (`""`). Fatal ends the daemon."""
        key = (kind, id, pipeline)
        before = self._reports.get(key)
        since_s = before.since_s if before and before.status.state == status.state else self.clock()
        self._reports[key] = Report(kind, id, status, since_s, (pipeline,) if pipeline else ())
        if status.state == "fatal_error":
            self._on_fatal(f"{kind} {id}: {status.message}")

    def forget(self, kind: str, id: ComponentId, pipeline: str) -> None:
        """The component is gone."""
        self._reports.pop((kind, id, pipeline), None)

    def reports(self) -> list[Report]:
        """Everybody's latest word."""
        return list(self._reports.values())
