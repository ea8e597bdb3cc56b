"""An exporter as a pipeline would run it, and slices for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from colonnade.exporters.clickhouse import ClickHouseConfig, ClickHouseExporter, factory
from colonnade.native import Batch
from colonnade.pipeline.component import ComponentId, Slice
from tests.pipeline.kit import FakeHost


def exporter_of(config: dict[str, Any]) -> ClickHouseExporter:
    made = factory.create(ComponentId.parse("clickhouse"), ClickHouseConfig.model_validate(config))
    assert isinstance(made, ClickHouseExporter)
    return made


@asynccontextmanager
async def running(config: dict[str, Any], folder: Path | None = None) -> AsyncIterator[ClickHouseExporter]:
    exporter = exporter_of(config)
    await exporter.start(FakeHost("clickhouse", folder))
    try:
        yield exporter
    finally:
        await exporter.shutdown()


def slice_of(*batches: Batch, log: str = "log", start: int = 0) -> Slice:
    rows = sum(batch.rows for batch in batches)
    return Slice(log, "traces", "traces", start, start + rows, list(batches), rows, sum(b.nbytes for b in batches))
