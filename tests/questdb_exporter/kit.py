"""An exporter as a pipeline would run it, points for it, and slices of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from colonnade.exporters.questdb import QuestDBConfig, QuestDBExporter, factory
from colonnade.native import Batch, Unify, decode
from colonnade.pipeline.component import ComponentId, Slice
from tests.pipeline.kit import FakeHost

BASE_NS = 1_790_000_000_000_000_000
KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def config_of(url: str, prefix: str, **config: Any) -> dict[str, Any]:
    """A section whose tables have names of their own."""
    tables = {kind: {"name": f"{prefix}{kind}"} for kind in KINDS}
    return {"endpoint": url, "metrics_tables": tables, **config}


def exporter_of(config: dict[str, Any], id: str = "questdb") -> QuestDBExporter:
    made = factory.create(ComponentId.parse(id), QuestDBConfig.model_validate(config))
    assert isinstance(made, QuestDBExporter)
    return made


@asynccontextmanager
async def running(config: dict[str, Any], folder: Path | None = None) -> AsyncIterator[QuestDBExporter]:
    exporter = exporter_of(config)
    await exporter.start(FakeHost("questdb", folder))
    try:
        yield exporter
    finally:
        await exporter.shutdown()


def slice_of(*batches: Batch, log: str = "log", start: int = 0, signal: str = "metrics") -> Slice:
    rows = sum(batch.rows for batch in batches)
    return Slice(log, signal, signal, start, start + rows, list(batches), rows, sum(b.nbytes for b in batches))


def metric(request: ExportMetricsServiceRequest, name: str, **resource: str) -> Metric:
    """A metric of a resource of its own."""
    found = request.resource_metrics.add()
    for key, value in resource.items():
        found.resource.attributes.add(key=key.replace("_", ".")).value.string_value = value
    return found.scope_metrics.add().metrics.add(name=name)


def rows_of(request: ExportMetricsServiceRequest, tenant: str = "shop") -> Batch:
    """The request's rows as they leave `unify`."""
    batch, refused = decode("metrics", [request.SerializeToString()], tenant=tenant)
    assert not refused
    return Unify().complete(batch, BASE_NS, b"a" * 16)[0]
