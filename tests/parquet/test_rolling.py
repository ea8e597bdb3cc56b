"""When files become visible, how large they are, and what waits in memory until then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from colonnade.exporters.parquet import ParquetExporter
from colonnade.exporters.parquet.stream import FOLDERS_MAX, OPEN_FILES_MAX
from colonnade.native import Batch
from colonnade.pipeline.component import ComponentId
from colonnade.pipeline.sender import slice_limits
from colonnade.processors.batch import BatchSizes, Config
from tests.clickhouse.rows import batch
from tests.parquet.kit import Rig, exporter_of, files, numbers, running, slice_of, spooled
from tests.pipeline.kit import until

NAMES = ["event_type", "correlation_id", "timestamp", "day", "ns", "service_name", "trace_id", "http_url"]
MIB = 1 << 20


def rows(count: int, seed: int = 0, day: int | None = 20_000, types: tuple[str, ...] = ("log",)) -> Batch:
    """Numbered rows; `day` None: each on a day of its own."""
    days = [seed + i for i in range(count)] if day is None else [day] * count
    kinds = [types[i % len(types)] for i in range(count)]
    return batch(count, seed, NAMES, event_type=kinds, day=days)


def ranges(path: Path) -> list[tuple[int, int]]:
    """Row ranges that the names of files tell, without repeats."""
    names = {Path(one).stem.split("-")[-2:][0] + "-" + Path(one).stem.split("-")[-1] for one in files(path)}
    return sorted((int(start), int(end)) for start, end in (name.split("-") for name in names))


async def published(rig: Rig, path: Path, count: int) -> None:
    await until(lambda: len(files(path)) >= count)


async def test_rows_roll_at_their_bound_and_never_beyond(tmp_path: Path) -> None:
    async with running(tmp_path, roll={"max_rows": 100, "max_bytes": 0, "max_age": 0}) as exporter:
        rig = Rig(exporter, tmp_path)
        for seed in range(0, 250, 25):
            rig.append(rows(25, seed))
        await published(rig, tmp_path, 2)
        assert ranges(tmp_path) == [(0, 100), (100, 200)]
        await rig.drain()
    assert ranges(tmp_path) == [(0, 100), (100, 200), (200, 250)]
    assert numbers(tmp_path) == list(range(250))


async def test_bytes_roll_at_about_their_bound(tmp_path: Path) -> None:
    most = 200_000
    async with running(tmp_path, roll={"max_rows": 0, "max_bytes": most, "max_age": 0}) as exporter:
        rig = Rig(exporter, tmp_path)
        for seed in range(0, 60_000, 2_000):
            rig.append(rows(2_000, seed))
        await rig.drain()
    sizes = [(tmp_path / one).stat().st_size for one in files(tmp_path)]
    assert len(sizes) > 2
    assert max(sizes) < 2.5 * most
    assert numbers(tmp_path) == list(range(60_000))


async def test_age_rolls_what_is_there(tmp_path: Path) -> None:
    async with running(tmp_path, roll={"max_rows": 0, "max_bytes": 0, "max_age": "10s"}) as exporter:
        rig = Rig(exporter, tmp_path)
        rig.append(rows(10))
        rig.now_s += 2
        rig.sender.cursor._wake()
        await until(lambda: exporter._streams != {} and exporter._streams[rig.log.id].rows == 10)
        assert files(tmp_path) == []
        rig.now_s += 8
        rig.sender.cursor._wake()
        await published(rig, tmp_path, 1)
        assert ranges(tmp_path) == [(0, 10)]
        await rig.drain()
    assert numbers(tmp_path) == list(range(10))


async def test_all_folders_roll_together_at_one_place_of_the_log(tmp_path: Path) -> None:
    async with running(tmp_path, roll={"max_rows": 40}) as exporter:
        rig = Rig(exporter, tmp_path)
        for seed in (0, 20, 40, 60):
            rig.append(rows(20, seed, types=("trace", "log")))
        await rig.drain()
    assert len(files(tmp_path)) == 4
    assert ranges(tmp_path) == [(0, 40), (40, 80)]


async def test_a_drain_publishes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running(tmp_path, row_group={"max_rows": 10}) as exporter:
        rig = Rig(exporter, tmp_path)
        rig.append(rows(10), rows(15, 10))
        await rig.drain()
        assert rig.host.counts["exporter_sent_spans"] == 25
    assert numbers(tmp_path) == list(range(25))
    assert spooled(tmp_path) == []


async def test_row_groups_are_of_the_configured_size(tmp_path: Path) -> None:
    async with running(tmp_path, row_group={"max_rows": 100}) as exporter:
        for start in range(0, 1000, 50):
            await exporter.write(slice_of(rows(50, start), start=start))
        await exporter.write(slice_of(rows(550, 1000), start=1000))
        await exporter.publish("log", 0, 1550)
    [one] = files(tmp_path)
    metadata = pq.ParquetFile(tmp_path / one).metadata
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [100] * 10 + [110] * 5
    assert numbers(tmp_path) == list(range(1550))


def memory(exporter: ParquetExporter) -> int:
    return sum(stream.buffered_bytes for stream in exporter._streams.values())


async def test_rows_in_memory_stay_within_the_buffer_whatever_the_folders(tmp_path: Path) -> None:
    bound = 2 * MIB
    async with running(tmp_path, buffer_size=bound, roll={"max_bytes": 0}) as exporter:
        start, largest = 0, 0
        for turn in range(40):
            part = slice_of(rows(1_000, start, day=20_000 + turn % 7, types=("a", "b", "c")), start=start)
            await exporter.write(part)
            largest = max(largest, part.nbytes)
            assert memory(exporter) <= bound + largest
            start += 1_000
        assert memory(exporter) > bound / 2
        assert spooled(tmp_path) != []
        await exporter.publish("log", 0, start)
        assert memory(exporter) == 0
    assert numbers(tmp_path) == list(range(start))


async def test_pipelines_share_the_buffer(tmp_path: Path) -> None:
    bound = 2 * MIB
    async with running(tmp_path, buffer_size=bound) as exporter:
        for turn in range(20):
            for number, log in enumerate(("traces", "logs", "metrics")):
                seed = (turn * 3 + number) * 1_000
                await exporter.write(slice_of(rows(1_000, seed), log=log, start=turn * 1_000))
        assert memory(exporter) <= bound + 3 * slice_of(rows(1_000)).nbytes
        for log in ("traces", "logs", "metrics"):
            await exporter.publish(log, 0, 20_000)
    assert len(files(tmp_path)) == 3
    assert numbers(tmp_path) == list(range(60_000))


@pytest.mark.parametrize(("config", "count"), [({}, FOLDERS_MAX), ({"row_group": {"max_rows": 1}}, OPEN_FILES_MAX + 1)])
async def test_too_many_folders_are_published_early(config: dict[str, Any], count: int, tmp_path: Path) -> None:
    async with running(tmp_path, **config) as exporter:
        await exporter.write(slice_of(rows(count - 2, day=None)))
        await exporter.write(slice_of(rows(1, count - 2, day=None), start=count - 2))
        assert not exporter.full("log")
        await exporter.write(slice_of(rows(1, count - 1, day=None), start=count - 1))
        assert exporter.full("log")
        await exporter.publish("log", 0, count)
    assert len(files(tmp_path)) == count


async def test_what_is_published_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path, row_group={"max_rows": 10}) as exporter:
        host: Any = exporter._host
        await exporter.write(slice_of(rows(10)))
        await exporter.write(slice_of(rows(5, 10, types=("trace",)), start=10))
        assert host.gauge_value("exporter_unpublished_rows") == 15
        assert host.gauge_value("exporter_buffered_bytes") > 0
        assert host.gauge_value("exporter_unpublished_bytes") > 0
        await exporter.publish("log", 0, 15)
        assert host.gauge_value("exporter_unpublished_rows") == 0
        assert host.gauge_value("exporter_unpublished_bytes") == 0
        assert (host.counts["exporter_files"], host.counts["exporter_files_rows"]) == (2, 15)
        assert host.counts["exporter_files_bytes"] == sum((tmp_path / one).stat().st_size for one in files(tmp_path))


def test_batch_processors_leave_the_roll_alone(tmp_path: Path) -> None:
    """A file of the Collector's has them in every pipeline; a Parquet file each 200 ms would be of no use."""
    exporter = exporter_of(tmp_path, roll={"max_rows": 500, "max_age": "1m"})
    batch = BatchSizes(ComponentId.parse("batch"), Config(timeout=0.2, send_batch_size=10, send_batch_max_size=20))
    assert slice_limits(exporter, [batch]) == exporter.slice
    assert exporter.slice.min_rows == 500
    assert exporter.slice.max_age_s == 60
