"""Throws rows away, counted as sent: for load tests and for trying a pipeline out.

    exporters:
      nop:

It always succeeds. It takes no keys but those of every exporter's queue, so that a file can bound the log before it.
Differences from the Collector's component: none known.
"""

from __future__ import annotations

from colonnade.pipeline.component import ComponentId, Exporter, Factory, Slice, SliceLimits, signals
from colonnade.pipeline.settings import ExporterSettings


class Config(ExporterSettings):
    """Keys that every exporter has."""


class Nop(Exporter):
    """Takes everything, keeps nothing."""

    wants_completed = False
    slice = SliceLimits(min_rows=0, max_rows=0, max_bytes=0, max_age_s=0)

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.retry = config.retry_on_failure
        self.queue = config.sending_queue

    async def export(self, part: Slice) -> None:
        """Drops the slice."""


factory = Factory(
    type="nop",
    kind="exporter",
    config=Config,
    create=Nop,
    signals=signals("traces", "metrics", "logs", "events"),
    stability="stable",
)
