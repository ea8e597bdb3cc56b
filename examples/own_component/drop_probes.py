"""Leaves out the requests of health probes, which nobody looks at and which come every few seconds.

    processors:
      unify:
      drop_probes:
        paths: [/healthz, /readyz]
        keep_errors: true

Rows whose `http_path` is one of `paths` are left out, counted as filtered with the reason `probe`. A probe that failed
is worth more than a thousand that did not: with `keep_errors` rows of status 400 and above stay. Stands after `unify`,
which fills `http_path` from a full URL. It holds no rows, so nothing can be lost in it.

The Collector has no component of that name; its `filter` processor does the same with a condition.
"""

from __future__ import annotations

from typing import Any

import pyarrow
import pyarrow.compute
from pydantic import Field

from colonnade.native import Batch, take
from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Processor, signals
from colonnade.pipeline.settings import Settings

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow
pc: Any = pyarrow.compute

ERROR_STATUS_MIN = 400


class Config(Settings):
    """The processor's section."""

    paths: tuple[str, ...] = Field(
        default=("/healthz", "/readyz", "/livez"), min_length=1, description="Paths that only probes ask for."
    )
    keep_errors: bool = Field(default=True, description="Rows of status 400 and above stay.")


class DropProbes(Processor):
    """Looks at two columns; a batch without probes passes untouched."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        if "http_path" not in batch.column_names:
            return batch
        probes = probe_rows(pa.record_batch(batch), self.config)
        dropped = pc.sum(probes).as_py() or 0
        if not dropped:
            return batch
        ctx.drop(dropped, "filtered", "probe")
        if dropped == batch.rows:
            return None
        # `take` and not an Arrow filter: rows then still know which request brought them.
        return take(batch, pc.indices_nonzero(pc.invert(probes)).to_pylist())


def probe_rows(rows: Any, config: Config) -> Any:
    """Which rows to leave out: a boolean array without nulls, as long as the record batch."""
    probes = pc.is_in(rows["http_path"], value_set=pa.array(config.paths, pa.utf8()))
    if config.keep_errors and "http_status" in rows.schema.names:
        failed = pc.greater_equal(rows["http_status"], ERROR_STATUS_MIN)
        probes = pc.and_not(probes, pc.fill_null(failed, False))
    return probes


factory = Factory(
    type="drop_probes",
    kind="processor",
    config=Config,
    create=DropProbes,
    signals=signals("traces", "logs"),
    stability="alpha",
)
