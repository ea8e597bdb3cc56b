"""A durable log in front of the archive: a run that ends while it publishes is completed by the next, file by file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from colonnade.exporters.parquet.folders import LocalFolder, SpooledFile
from colonnade.extensions.file_storage.log import DurableLog
from colonnade.native import Batch
from colonnade.pipeline.component import SliceLimits
from colonnade.pipeline.log import Append
from tests.durable.kit import STORED, Disk, sender
from tests.parquet.kit import exporter_of, files, numbers, running
from tests.parquet.test_rolling import rows
from tests.parquet.test_round_trip import extended
from tests.pipeline.kit import FAST_RETRY, FakeHost, until


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    await disk.close_all()


class Stuck(LocalFolder):
    """Publishes a number of files, and refuses the rest."""

    def __init__(self, path: Path, left: int) -> None:
        super().__init__(path)
        self.left = left

    def publish(self, file: SpooledFile, key: str) -> None:
        if not self.left:
            raise OSError(5, "Input/output error")
        super().publish(file, key)
        self.left -= 1


async def append(log: DurableLog, batch: Batch) -> None:
    await log.store.commit([log.reserve(Append(b"i" * 16, [batch], batch.rows, batch.nbytes))])


@pytest.mark.parametrize("published", [0, 1, 2])
async def test_what_was_half_published_at_a_crash_is_stored_once_whatever_the_roll_is_then(
    published: int, disk: Disk, tmp_path: Path
) -> None:
    archive, config = tmp_path / "archive", {"sending_queue": STORED, "retry_on_failure": FAST_RETRY}
    crashed = exporter_of(archive, roll={"max_rows": 90}, **config)
    crashed._target = Stuck(archive, published)
    crashed.part = SliceLimits(min_rows=30, max_rows=30, max_age_s=0)
    await crashed.start(FakeHost("parquet"))
    store = await disk.open()
    log = store.open_log("logs", "logs")
    before = sender(log, crashed, tmp_path)
    await log.ready()
    before.start()
    types = ("trace", "log", "metric")
    for start in (0, 30):
        await append(log, rows(30, start, types=types))
    # A column that the table does not have shows up when the first rows have left memory.
    await append(log, extended(30, 60, client_ip=pa.array(["10.0.0.1"] * 30)))
    host: Any = before.host
    await until(lambda: host.counts["exporter_retries"] > 0)
    assert len(files(archive)) == published
    copy = disk.crash(store)
    await before.hand_over(0.1)
    await crashed.shutdown()
    store = await disk.open(copy)
    log = store.open_log("logs", "logs")
    async with running(archive, roll={"max_rows": 20}, row_group={"max_rows": 10}, **config) as exporter:
        after = sender(log, exporter, tmp_path)
        await log.ready()
        after.start()
        await append(log, rows(30, 90, types=types))
        assert await after.drain(30) == 0
    assert numbers(archive) == list(range(120))
