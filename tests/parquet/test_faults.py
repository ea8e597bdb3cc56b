"""Disks that refuse, crashes, repeats, reloads: no row is lost or doubled, nothing that is not whole is visible."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from colonnade.exporters.parquet import ParquetConfig, ParquetExporter, folders
from colonnade.native import Batch
from colonnade.pipeline.component import Slice
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable
from colonnade.pipeline.halving import rows_of
from tests.parquet.kit import Rig, exporter_of, files, numbers, read, running, slice_of, spooled
from tests.parquet.test_rolling import rows
from tests.parquet.test_round_trip import extended
from tests.pipeline.kit import FakeHost, until

SMALL = {"row_group": {"max_rows": 20}}
NO_SPACE = (errno.ENOSPC, "No space left on device")


class Disk:
    """Stands for `os` in the module that touches the disk; the n-th call that changes something fails."""

    CALLS = ("open", "ftruncate", "pwrite", "fsync", "replace")

    def __init__(self, fails_at: int, error: int, said: str) -> None:
        self.fails_at = fails_at
        self.error = OSError(error, said)
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._guarded(name, real) if name in self.CALLS else real

    def _guarded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self.calls += 1
            if self.calls != self.fails_at:
                return real(*args)
            if name == "pwrite":
                # A disk that fills up takes what still fits.
                file, data, offset = args
                real(file, data[: len(data) // 2], offset)
            raise self.error

        return call


async def with_repeats(call: Callable[[], Any], failures: list[ColonnadeError]) -> None:
    """Calls again until it succeeds, as a sender does."""
    while True:
        try:
            return await call()
        except Retryable as error:
            failures.append(error)


async def history(exporter: ParquetExporter, failures: list[ColonnadeError]) -> None:
    """Parts of two folders, with row groups that leave memory before and while files are published."""
    for start, types in ((0, ("trace", "log")), (40, ("trace", "log")), (80, ("trace",))):
        part = slice_of(rows(40, start, types=types), start=start)
        await with_repeats(lambda part=part: exporter.write(part), failures)
    await with_repeats(lambda: exporter.publish("log", 0, 120), failures)


async def test_whichever_call_to_the_disk_fails_every_row_is_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at, failed = 0, True
    while failed:
        fails_at += 1
        archive = tmp_path / str(fails_at)
        async with running(archive, **SMALL) as exporter:
            disk = Disk(fails_at, *NO_SPACE)
            monkeypatch.setattr(folders, "os", disk)
            failures: list[ColonnadeError] = []
            await history(exporter, failures)
            monkeypatch.setattr(folders, "os", os)
            failed = disk.calls >= fails_at
            assert [failure.code for failure in failures] == ["disk_full"] * failed, fails_at
        assert numbers(archive) == list(range(120)), fails_at
        assert len(files(archive)) == 2
        assert spooled(archive) == []
    # Opening, cutting, writing and syncing each append; replacing, and syncing each folder: none was passed over.
    assert fails_at > 20


async def test_whichever_call_fails_while_a_late_column_is_added_every_row_is_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = pa.array(["10.0.0.1"] * 20)
    fails_at, failed = 0, True
    while failed:
        fails_at += 1
        archive = tmp_path / str(fails_at)
        async with running(archive, **SMALL) as exporter:
            for start in (0, 20, 40):
                await exporter.write(slice_of(extended(20, start), start=start))
            disk = Disk(fails_at, *NO_SPACE)
            monkeypatch.setattr(folders, "os", disk)
            failures: list[ColonnadeError] = []
            late = slice_of(extended(20, 60, client_ip=address), start=60)
            await with_repeats(lambda exporter=exporter, late=late: exporter.write(late), failures)
            await with_repeats(lambda exporter=exporter: exporter.publish("log", 0, 80), failures)
            monkeypatch.setattr(folders, "os", os)
            failed = disk.calls >= fails_at
            assert len(failures) == failed, fails_at
        assert numbers(archive) == list(range(80)), fails_at
        assert read(archive)["client_ip"].to_pylist() == [None] * 60 + address.to_pylist()
        assert spooled(archive) == []
    assert fails_at > 15


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets a limit on the size of files, which the kernel enforces."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda nbytes: resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_kernel_that_cuts_writes_short_is_waited_for(
    tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    async with running(tmp_path, **SMALL) as exporter:
        small_files(1_000)
        await exporter.write(slice_of(rows(20)))
        part = slice_of(rows(20, 20), start=20)
        for _ in range(3):
            with pytest.raises(Retryable) as caught:
                await exporter.write(part)
            assert caught.value.code == "file_too_large"
            assert "set a smaller roll.max_bytes" in str(caught.value)
        small_files(resource.RLIM_INFINITY)
        await exporter.write(part)
        await exporter.publish("log", 0, 40)
    assert numbers(tmp_path) == list(range(40))


async def test_memory_does_not_grow_while_the_disk_refuses(tmp_path: Path, small_files: Callable[[int], None]) -> None:
    async with running(tmp_path, buffer_size=1 << 20, roll={"max_bytes": 0}) as exporter:
        small_files(0)
        accepted = 0
        for start in range(0, 40_000, 1_000):
            part = slice_of(rows(1_000, start), start=start)
            try:
                await exporter.write(part)
            except Retryable:
                break
            accepted += 1_000
        assert 0 < accepted < 40_000
        before = exporter._streams["log"].rows
        for _ in range(5):
            with pytest.raises(Retryable):
                await exporter.write(part)
        assert exporter._streams["log"].rows == before
        small_files(resource.RLIM_INFINITY)
        await exporter.write(part)
        await exporter.publish("log", 0, accepted + 1_000)
    assert numbers(tmp_path) == list(range(accepted + 1_000))


async def test_a_sender_sees_a_full_disk_through_and_counts_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(
        tmp_path, **SMALL, retry_on_failure={"initial_interval": "1us", "max_interval": "1us"}
    ) as exporter:
        rig = Rig(exporter, tmp_path)
        monkeypatch.setattr(folders, "os", Disk(3, *NO_SPACE))
        for seed in (0, 25, 50):
            rig.append(rows(25, seed))
        rig.now_s += 100
        rig.sender.cursor._wake()
        await until(lambda: rig.host.counts["exporter_retries"] > 0)
        rig.append(rows(25, 75))
        await rig.drain()
        assert rig.host.counts["exporter_sent_spans"] == rig.host.counts["pipeline_stored_items"] == 100
    assert numbers(tmp_path) == list(range(100))


async def test_publishing_a_range_again_replaces_its_files(tmp_path: Path) -> None:
    async with running(tmp_path) as exporter:
        for _ in range(3):
            await exporter.write(slice_of(rows(40, types=("trace", "log"))))
            await exporter.publish("log", 0, 40)
        assert numbers(tmp_path) == list(range(40))
        await exporter.publish("log", 0, 40)
        await exporter.export(slice_of(rows(40, 40), log="other"))
    assert numbers(tmp_path) == list(range(80))
    assert len(files(tmp_path)) == 3


async def test_a_range_that_was_half_published_by_a_killed_run_is_completed_by_its_repeat(tmp_path: Path) -> None:
    async with running(tmp_path) as exporter:
        await exporter.export(slice_of(rows(40, types=("trace", "log"))))
    (tmp_path / files(tmp_path)[0]).unlink()
    async with running(tmp_path) as exporter:
        # Other parts than before, the same range.
        await exporter.write(slice_of(rows(15, types=("trace", "log"))))
        await exporter.write(slice_of(rows(25, 15, types=("log", "trace")), start=15))
        await exporter.publish("log", 0, 40)
    assert numbers(tmp_path) == list(range(40))
    assert len(files(tmp_path)) == 2


async def test_a_write_that_was_cut_off_and_comes_again_is_not_doubled(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as exporter:
        await exporter.write(slice_of(rows(30)))
        part = slice_of(rows(30, 30), start=30)
        task = asyncio.create_task(exporter.write(part))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await exporter.write(part)
        await exporter.publish("log", 0, 60)
    assert numbers(tmp_path) == list(range(60))


async def test_a_publication_that_was_cut_off_is_completed_before_other_rows_are_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as exporter:
        await exporter.write(slice_of(rows(30)))
        task = asyncio.create_task(exporter.publish("log", 0, 30))
        await until(lambda: exporter._streams["log"].publishing is not None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await exporter.write(slice_of(rows(30, 30), start=30))
        await exporter.publish("log", 30, 60)
    assert numbers(tmp_path) == list(range(60))
    assert len(files(tmp_path)) == 2


async def test_an_aborted_stream_leaves_nothing_and_its_rows_can_come_again(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as exporter:
        for _ in range(2):
            await exporter.write(slice_of(rows(30)))
            await exporter.write(slice_of(rows(30, 30), start=30))
            assert spooled(tmp_path) != []
            await exporter.abort("log")
            await exporter.abort("log")
            assert (spooled(tmp_path), files(tmp_path)) == ([], [])
        await exporter.publish("log", 0, 60)
        assert files(tmp_path) == []


async def test_rows_that_no_file_can_hold_are_refused_and_cost_others_nothing(tmp_path: Path) -> None:
    number = pa.record_batch({"correlation_id": pa.array([7])})
    unfit = {
        "an event type of 300 characters is too long": rows(1, 30, types=("x" * 300,)),
        "day 2147483647 since 1970-01-01 is beyond": rows(1, 30, day=2**31 - 1),
        'column "correlation_id" must be Utf8, not Int64': Batch.from_arrow(number, "logs", completed=True),
        "column 'own' is int64, but was string before": extended(1, 30, own=pa.array([1])),
        "which Parquet does not have": extended(1, 30, other=pa.array([None], pa.month_day_nano_interval())),
    }
    async with running(tmp_path, **SMALL) as exporter:
        await exporter.write(slice_of(extended(30, 0, own=pa.array(["x"] * 30))))
        for said, batch in unfit.items():
            with pytest.raises(Permanent, match=said) as caught:
                await exporter.write(slice_of(batch, start=30))
            assert caught.value.code == "unfit_rows"
        await exporter.write(slice_of(rows(30, 31), start=31))
        await exporter.publish("log", 0, 61)
    assert numbers(tmp_path) == [*range(30), *range(31, 61)]


async def test_spooled_rows_that_somebody_removed_are_told_as_lost_not_retried_for_ever(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as exporter:
        for start in (0, 30, 60):
            await exporter.write(slice_of(rows(30, start), start=start))
        [one] = spooled(tmp_path)
        one.unlink()
        with pytest.raises(Permanent) as caught:
            await exporter.publish("log", 0, 90)
        assert caught.value.code == "spool_lost"
        await exporter.abort("log")
        await exporter.export(slice_of(rows(5, 90), start=90))
    assert numbers(tmp_path) == list(range(90, 95))


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """The archive of a process that was killed with 20 rows published and a row group in the spool."""
    program = (
        "import asyncio, os\n"
        "from pathlib import Path\n"
        "from tests.parquet.kit import exporter_of, slice_of\n"
        "from tests.parquet.test_rolling import rows\n"
        "from tests.pipeline.kit import FakeHost\n"
        "async def main():\n"
        f"    exporter = exporter_of(Path({str(tmp_path)!r}), row_group={{'max_rows': 20}})\n"
        "    await exporter.start(FakeHost('parquet'))\n"
        "    await exporter.export(slice_of(rows(20)))\n"
        "    for start in (20, 50):\n"
        "        await exporter.write(slice_of(rows(30, start), start=start))\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert process.returncode == -9, process.stderr.decode()
    return tmp_path


async def test_leftovers_of_a_crash_are_removed_at_start_and_only_they(
    crashed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(spooled(crashed)) == 1
    foreign = crashed / ".unpublished" / "parquet%2Fother" / "1.tmp"
    foreign.parent.mkdir()
    mine = crashed / ".unpublished" / "parquet" / "notes.txt"
    for file in (foreign, mine):
        file.write_text("kept")
    with caplog.at_level("WARNING"):
        async with running(crashed):
            assert spooled(crashed) == [foreign]
    assert "removed 1 unfinished files" in caplog.text
    assert mine.exists()
    assert numbers(crashed) == list(range(20))


async def test_an_instance_that_a_reload_starts_leaves_the_running_ones_files_alone(tmp_path: Path) -> None:
    async with running(tmp_path, **SMALL) as old:
        for start in (0, 30):
            await old.write(slice_of(rows(30, start), start=start))
        async with running(tmp_path, **SMALL) as new:
            assert len(spooled(tmp_path)) == 1
            await new.write(slice_of(rows(30, 60), start=60, log="b"))
            await old.publish("log", 0, 60)
            await new.publish("b", 60, 90)
    assert numbers(tmp_path) == list(range(90))


async def test_two_exporters_of_one_folder_do_not_replace_each_others_files(tmp_path: Path) -> None:
    async with running(tmp_path) as one, running(tmp_path, "parquet/other") as other:
        await one.export(slice_of(rows(10)))
        await other.export(slice_of(rows(10)))
    assert numbers(tmp_path) == sorted([*range(10)] * 2)


async def test_a_path_that_can_not_be_written_to_is_an_error_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    exporter = exporter_of(tmp_path / "file" / "archive")
    with pytest.raises(ColonnadeError) as caught:
        await exporter.start(FakeHost("parquet"))
    assert caught.value.code == "not_writable"
    assert str(caught.value) == (
        f"the archive can not be written to: {tmp_path}/file/archive/.unpublished/parquet: Not a directory"
    )
    await exporter.shutdown()


async def test_a_folder_without_permission_is_an_error_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "os", Disk(1, errno.EACCES, "Permission denied"))
    with pytest.raises(ColonnadeError, match="Permission denied; give the daemon's user the right to write there"):
        await exporter_of(tmp_path / "archive").start(FakeHost("parquet"))


async def test_a_stopped_exporter_starts_again(tmp_path: Path) -> None:
    exporter = exporter_of(tmp_path)
    await exporter.shutdown()
    part: Slice = slice_of(rows(5))
    for _ in range(2):
        await exporter.start(FakeHost("parquet"))
        await exporter.export(part)
        await exporter.shutdown()
        await exporter.shutdown()
        with pytest.raises(Retryable):
            await exporter.write(part)
    assert numbers(tmp_path) == list(range(5))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"path": "gs://bucket"}, "path must be a folder, for example ./archive, or s3://bucket/prefix, not gs://"),
        ({"path": "s3://B/x"}, "path must be s3://bucket/prefix; 'B' is no name of a bucket"),
        ({"path": "s3://bucket/a//b"}, "path must not have empty parts, . or .. after the bucket"),
        ({"path": "s3://bucket", "endpoint": "127.0.0.1:9000"}, "endpoint must be a URL such as https://"),
        ({"path": "s3://bucket", "endpoint": "http://me:word@host"}, "without credentials in it"),
        ({"path": "s3://bucket", "access_key_id": "a"}, "access_key_id and secret_access_key belong together"),
        ({"path": "s3://bucket", "roll": {"max_bytes": "5GiB"}}, "roll.max_bytes must be 1 to 4GiB for a path of s3"),
        ({"path": "a", "region": "x"}, "region goes with a path of s3://bucket/prefix only, not with a folder"),
        ({"path": ""}, "at least 1 character"),
        ({"path": "a", "roll": {"max_age": 0, "max_rows": 0, "max_bytes": 0}}, "roll needs at least one bound"),
        ({"path": "a", "compression": "lz4", "compression_level": 3}, "does not go with compression: lz4"),
        ({"path": "a", "compression_level": 40}, "compression_level of zstd must be 1 to 22, not 40"),
        ({"path": "a", "compression": "rle"}, "Input should be 'none'"),
        ({"path": "a", "rolls": {}}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ParquetConfig.model_validate(config)


async def test_bad_rows_in_the_middle_of_a_part_are_parked_alone(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    async with running(archive, **SMALL) as exporter:
        rig = Rig(exporter, tmp_path)
        bad = [rows(1, 30, types=("x" * 300,)), rows(1, 71, types=("y" * 300,))]
        rig.append(rows(30), bad[0], rows(40, 31), bad[1], rows(8, 72))
        await rig.drain()
        assert rig.host.counts["exporter_dead_letter_rows"] == 2
        assert rig.host.counts["exporter_sent_spans"] == 78
    assert numbers(archive) == [*range(30), *range(31, 71), *range(72, 80)]


async def test_halves_of_a_part_are_each_taken_once_whoever_asks_again(tmp_path: Path) -> None:
    part = slice_of(rows(40))
    first, second = rows_of(part, 0, 20), rows_of(part, 20, 40)
    async with running(tmp_path) as exporter:
        for half in (first, first, second, second, first, part):
            await exporter.write(half)
        await exporter.write(slice_of(rows(5, 40), start=40))
        await exporter.publish("log", 0, 45)
    assert numbers(tmp_path) == list(range(45))
