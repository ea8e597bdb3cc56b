"""An exporter that wants requests as they came, and forgets them: what forwarding costs before anything is sent.

    exporters:
      forget:

It is registered for the daemon under test only (`install`), as a package of a user's own would register itself.
"""

from __future__ import annotations

from pathlib import Path

from colonnade.pipeline.component import ComponentId, Exporter, Factory, Slice, SliceLimits, signals
from colonnade.pipeline.settings import ExporterSettings


class Config(ExporterSettings):
    """Keys that every exporter has."""


class Forget(Exporter):
    """Takes payloads, which are validated and not decoded."""

    wants_completed = False
    forwards_payloads = True
    slice = SliceLimits(min_rows=0, max_rows=0, max_bytes=0, max_age_s=0)

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.retry = config.retry_on_failure
        self.queue = config.sending_queue

    async def export(self, part: Slice) -> None:
        """Drops the slice."""


factory = Factory(
    type="forget", kind="exporter", config=Config, create=Forget, signals=signals("traces", "metrics", "logs")
)


def install(folder: Path) -> None:
    """Makes `folder` a place for Python's path that registers the exporter."""
    info = folder / "bench_forget-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-forget\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[colonnade.components]\nexporter.forget = bench.forget:factory\n")
