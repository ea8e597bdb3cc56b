"""`dedup` of the log: a request that is sent again is taken once, whatever happened in between; nothing else is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colonnade.extensions.file_storage import store as store_module
from colonnade.extensions.file_storage.log import DurableLog
from colonnade.extensions.file_storage.segment import Segment
from colonnade.extensions.file_storage.store import Store
from colonnade.native import Batch, EventWindow, concat
from colonnade.pipeline.component import SliceLimits
from colonnade.pipeline.errors import Retryable
from colonnade.pipeline.log import Append
from tests.durable.kit import Disk, queue, read_out
from tests.durable.rounds import Archive, Rounds
from tests.pipeline.kit import EAGER, FakeHost, until

HOUR = {"dedup_window_s": 3600.0}


def request(*numbers: int) -> Batch:
    """Rows whose id is their number."""
    ids = pa.array([number.to_bytes(16) for number in numbers], pa.binary(16))
    return Batch.from_arrow(
        pa.record_batch({"id": ids, "message": pa.array([str(number) for number in numbers], pa.string())}), "logs"
    )


async def send(log: DurableLog, *requests: Sequence[int]) -> Append:
    batch = concat([request(*numbers) for numbers in requests])
    append = Append(b"i" * 16, [batch], batch.rows, batch.nbytes, len(requests))
    await log.store.commit([log.reserve(append)])
    return append


async def opened(store: Store) -> tuple[DurableLog, object]:
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await log.ready()
    return log, cursor


@pytest.mark.parametrize("between", ["nothing", "a crash", "a stop", "stored, and a crash", "stored, and a stop"])
async def test_what_was_taken_is_not_taken_again(disk: Disk, monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 1_000)
    store = await disk.open(**HOUR)
    log, cursor = await opened(store)
    found: list[int] = []
    for first in range(0, 200, 10):
        await send(log, range(first, first + 10))
    if "stored" in between:
        found += await read_out(cursor, SliceLimits(max_rows=50, min_rows=0, max_age_s=0))
        await store.flush()
        await until(lambda: len(list(store.folder.glob("segment-*.sqlite"))) == 1)
    if "crash" in between:
        store = await disk.after_crash(store, **HOUR)
    elif "stop" in between:
        await disk.close(store)
        store = await disk.open(**HOUR)
    log, cursor = (log, cursor) if between == "nothing" else await opened(store)
    again = await send(log, range(195, 205))
    assert (again.rows, again.repeated) == (5, 5)
    assert (await send(log, range(40))).rows == 0
    found += await read_out(cursor, EAGER)
    assert sorted(found) == list(range(205))
    assert disk.host.counts["file_storage_repeated_rows"] == 45
    assert not any(log._reserved)


async def test_requests_of_one_commit_are_compared_and_a_request_not_with_itself(disk: Disk) -> None:
    log, cursor = await opened(await disk.open(**HOUR))
    one = await send(log, [1, 1, 2], [2, 3], [3, 3, 4])
    assert (one.rows, one.repeated) == (5, 3)
    appends = await asyncio.gather(*(send(log, [7, 8, 9]) for _ in range(20)))
    assert sum(append.rows for append in appends) == 3
    assert sorted(await read_out(cursor, EAGER)) == [1, 1, 2, 3, 4, 7, 8, 9]


async def test_what_could_not_be_written_is_taken_when_it_comes_again(disk: Disk, monkeypatch) -> None:
    log, cursor = await opened(await disk.open(**HOUR))
    await send(log, [1])
    write = Segment.append

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Segment, "append", refuse)
    with pytest.raises(Retryable):
        await send(log, [1, 2, 3])
    monkeypatch.setattr(Segment, "append", write)
    assert (await send(log, [1, 2, 3])).rows == 2
    assert not any(log._reserved)
    assert await read_out(cursor, EAGER) == [1, 2, 3]


async def test_pipelines_and_logs_without_the_option_are_apart(disk: Disk) -> None:
    store = await disk.open(**HOUR)
    logs = [store.open_log(name, "logs") for name in ("logs/a", "logs/b")]
    for log in logs:
        log.open_cursor("a", queue())
        assert (await send(log, [1, 2])).rows == 2
    await disk.close(store)
    log, _ = await opened(await disk.open())
    for _ in range(2):
        assert (await send(log, [1, 2])).rows == 2


async def test_a_reload_may_change_the_window_and_the_bound(disk: Disk) -> None:
    store = await disk.open(**HOUR)
    log, _ = await opened(store)
    await send(log, range(100))
    for options, rows in (({"dedup_window_s": 7200.0}, 0), ({}, 100), ({"dedup_window_s": 7200.0}, 100)):
        await store.settled(store_module.Options(**options), FakeHost("file_storage", kind="extension"))
        assert (await send(log, range(100))).rows == rows


async def test_rows_go_also_once_the_option_is_switched_off(disk: Disk) -> None:
    store = await disk.open(**HOUR)
    log, cursor = await opened(store)
    await send(log, [1, 2])
    await store.settled(store_module.Options(), FakeHost("file_storage", kind="extension"))
    await read_out(cursor, EAGER)
    await disk.close(store)
    assert not list(store.folder.glob("segment-*"))


async def test_ids_that_could_not_be_written_are_written_later(disk: Disk, monkeypatch) -> None:
    store = await disk.open(**HOUR)
    log, cursor = await opened(store)
    await send(log, [1, 2])

    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("colonnade.extensions.file_storage.dedup.os.replace", full)
    with pytest.raises(OSError, match="no room"):
        store._seen.save()
    monkeypatch.undo()
    await read_out(cursor, EAGER)
    await disk.close(store)
    log, _ = await opened(await disk.open(**HOUR))
    assert (await send(log, [1, 2, 3])).rows == 1


@pytest.mark.parametrize("damage", [b"", b"short", b"clnbseen" + bytes(200)])
async def test_a_damaged_file_of_ids_is_as_none(disk: Disk, damage: bytes) -> None:
    store = await disk.open(**HOUR)
    log, cursor = await opened(store)
    await send(log, [1, 2])
    await read_out(cursor, EAGER)
    await disk.close(store)
    (store.folder / "seen-1").write_bytes(damage)
    log, _ = await opened(await disk.open(**HOUR))
    assert (await send(log, [1, 2, 3])).rows == 3


@given(st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=30), st.integers(0, 29))
def test_a_window_is_a_set_of_requests_before(requests: list[list[int]], restart: int) -> None:
    window, known = EventWindow(10**12, 10**6), set[int]()
    for number, rows in enumerate(requests):
        if number == restart:
            again = EventWindow(10**12, 10**6)
            again.load(window.dump())
            window = again
        if not rows:
            continue
        ranges, keys = window.take_in(request(*rows), number)
        kept = [rows[at] for first, count in ranges for at in range(first, first + count)]
        assert kept == [row for row in rows if row not in known]
        if number % 5 == 4:
            window.forget(keys)
        else:
            known |= set(rows)
        assert len(window) == len(known)


def test_requests_without_an_answer_are_sent_again_and_stored_once_over_crashes(tmp_path: Path) -> None:
    lives = Rounds(Archive(tmp_path), tmp_path / "daemon", seed=77, resend=True)
    lives.run(4)
    summary = lives.check()
    assert summary.unknown == 0
    assert summary.answered > 0
