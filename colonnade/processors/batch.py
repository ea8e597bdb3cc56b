"""Sets how large the slices are that exporters read from the log; it holds no rows itself.

    processors:
      batch:
        send_batch_size: 50000
        send_batch_max_size: 100000
        timeout: 1s

Batching happens where an exporter reads the hand-over log, after the rows are safe: nothing can be lost here, and an
exporter's errors reach the queue's accounts. Only keys that the file sets change a slice; at defaults the exporter's
own size holds, because a store knows best what it likes. `sending_queue.batch` of an exporter comes after, and wins.
Exporters that write files roll as their own section says (`roll` of `parquet`).

Specification: the Collector's `batch` processor. Differences: sizes count rows; `metadata_keys` is refused, use
`sending_queue.batch.partition.metadata_keys` of the exporter; `timeout: 0` sends at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Processor, SliceLimits, signals
from colonnade.pipeline.settings import Duration, Settings

if TYPE_CHECKING:
    from colonnade.native import Batch


class Config(Settings):
    """The processor's section."""

    timeout: Duration = Field(default=0.2, description="A slice is sent this long after its first row.")
    send_batch_size: int = Field(default=8192, ge=0, description="A slice is sent once it has this many rows.")
    send_batch_max_size: int = Field(default=0, ge=0, description="A slice never has more rows; 0 = no bound.")
    metadata_keys: tuple[str, ...] = Field(default=(), max_length=0, description="Refused: see the exporter's queue.")
    metadata_cardinality_limit: int = Field(default=1000, ge=0, description="Accepted; nothing is kept apart here.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        size, most = self.send_batch_size, self.send_batch_max_size
        if "send_batch_size" in self.model_fields_set and 0 < most < size:
            raise ValueError(f"send_batch_max_size ({most}) must be 0 or at least send_batch_size ({size})")
        return self


class BatchSizes(Processor):
    """Rows pass through untouched."""

    changes = False

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        return batch

    def slices(self, limits: SliceLimits) -> SliceLimits:
        config = self.config
        given = config.model_fields_set
        if "timeout" in given:
            limits = replace(limits, max_age_s=config.timeout)
        if "send_batch_max_size" in given:
            limits = replace(limits, max_rows=config.send_batch_max_size)
            if limits.max_rows:
                limits = replace(limits, min_rows=min(limits.min_rows, limits.max_rows))
        if "send_batch_size" in given:
            limits = replace(limits, min_rows=config.send_batch_size, min_bytes=0)
        return limits


factory = Factory(
    type="batch",
    kind="processor",
    config=Config,
    create=BatchSizes,
    signals=signals("traces", "metrics", "logs", "events"),
    stability="stable",
)
