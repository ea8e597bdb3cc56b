"""The debug exporter, its output, and the Collector's."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from colonnade import native
from colonnade.exporters.debug import Debug, DebugConfig, factory
from colonnade.native import Batch
from colonnade.pipeline.component import ComponentId, Slice
from tests.pipeline.kit import FakeHost

SIGNALS = ("traces", "metrics", "logs")
VERBOSITIES = ("basic", "normal", "detailed")


@asynccontextmanager
async def running(**config: Any) -> AsyncIterator[Debug]:
    exporter = factory.create(ComponentId("debug"), DebugConfig.model_validate(config))
    assert isinstance(exporter, Debug)
    await exporter.start(FakeHost("debug"))
    try:
        yield exporter
    finally:
        await exporter.shutdown()


def slice_of(signal: str, *batches: Batch) -> Slice:
    rows = sum(batch.rows for batch in batches)
    return Slice("log", signal, signal, 0, rows, list(batches), rows, sum(batch.nbytes for batch in batches))


def decoded(signal: str, *requests: bytes, keep_payload: bool = True) -> Batch:
    batch, refused = native.decode(signal, list(requests), keep_payload=keep_payload)
    assert refused == []
    return batch


async def told(signal: str, *batches: Batch, folder: Path, **config: Any) -> str:
    """What the exporter writes of each batch, one slice after the other."""
    file = folder / "debug.txt"
    file.unlink(missing_ok=True)
    async with running(use_internal_logger=False, output_paths=[str(file)], **config) as exporter:
        for batch in batches:
            await exporter.export(slice_of(signal, batch))
    return file.read_text()


def collectors(peer: Path, signal: str, verbosity: str, *requests: bytes, initial: int = 1000, each: int = 1) -> str:
    """What the Collector's exporter writes of each request (`go_peer`)."""
    sent = b"".join(len(request).to_bytes(4, "big") + request for request in requests)
    arguments = [str(peer), signal, verbosity, str(initial), str(each)]
    return subprocess.run(arguments, input=sent, stdout=subprocess.PIPE, check=True).stdout.decode()
