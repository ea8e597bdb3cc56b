"""The durable log: what survives a crash, where cursors take up, what is freed, what several logs of one store see."""

from __future__ import annotations

import asyncio
import time

import pytest

from colonnade.extensions.file_storage import store as store_module
from colonnade.extensions.file_storage.store import StorageError
from colonnade.pipeline.component import SliceLimits
from colonnade.pipeline.log import Overflow
from colonnade.pipeline.settings import SendingQueue
from tests.durable.kit import Disk, append, queue
from tests.pipeline.kit import EAGER, Numbers, numbers_of, until


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


async def take(cursor, limits: SliceLimits = EAGER):
    """The next slice with its rows."""
    part = await asyncio.wait_for(cursor.take(limits), 10)
    await cursor.load(part)
    return part


async def test_what_was_appended_is_there_after_a_crash(disk: Disk, numbers: Numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    log.open_cursor("a", queue())
    await log.ready()
    for _ in range(5):
        await append(numbers, 7, log)
    again = (await disk.after_crash(store)).open_log("logs", "logs")
    assert (again.id, again.end) == (log.id, 35)
    part = await take(again.open_cursor("a", queue()))
    assert (part.start, part.end, numbers_of(part.batches)) == (0, 35, list(range(35)))
    assert not part.in_doubt


async def test_batches_come_back_with_their_sources(disk: Disk, numbers: Numbers) -> None:
    store = await disk.open()
    log = store.open_log("traces", "traces")
    log.open_cursor("a", queue())
    await log.ready()
    batch = numbers.batch(3, "traces", tenant="acme")
    from colonnade.pipeline.log import Append

    await store.commit([log.reserve(Append(b"i" * 16, [batch, batch.slice(1, 2)], 5, batch.nbytes))])
    again = (await disk.after_crash(store)).open_log("traces", "traces")
    part = await take(again.open_cursor("a", queue()))
    assert [b.runs for b in part.batches] == [[(3, "acme", [])], [(2, "acme", [])]]
    assert [b.signal for b in part.batches] == ["traces", "traces"]
    assert numbers_of(part.batches) == [0, 1, 2, 1, 2]


async def test_a_cursor_takes_up_where_it_was_and_a_noted_slice_comes_again_in_doubt(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await log.ready()
    for _ in range(6):
        await append(numbers, 10, log)
    three = SliceLimits(min_rows=0, max_rows=20)
    first, second, third = [await take(cursor, three) for _ in range(3)]
    for part in (first, second):
        await cursor.note(part)
    second.plan["halved"] = [[0, 10, 1]]
    await second.remember()
    cursor.ack(first)
    await store.flush()

    again = (await disk.after_crash(store)).open_log("logs", "logs").open_cursor("a", queue())
    assert (again.position, again.lag_rows, again.recovered_rows) == (20, 40, 40)
    part = await take(again)
    assert (part.start, part.end, part.in_doubt, part.plan) == (20, 40, True, {"halved": [[0, 10, 1]]})
    assert numbers_of(part.batches) == list(range(20, 40))
    rest = await take(again)
    assert (rest.start, rest.end, rest.in_doubt) == (40, 60, False)
    assert third.start == 40


async def test_slices_done_out_of_order_are_not_sent_again(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await log.ready()
    for _ in range(6):
        await append(numbers, 10, log)
    parts = [await take(cursor, SliceLimits(min_rows=0, max_rows=10)) for _ in range(5)]
    await cursor.note(parts[3])
    for number in (1, 4):
        cursor.ack(parts[number])
    await store.flush()
    again = (await disk.after_crash(store)).open_log("logs", "logs").open_cursor("a", queue())
    assert (again.position, again.lag_rows) == (0, 40)
    seen = []
    while again.lag_rows:
        part = await take(again)
        seen.append((part.start, part.end, part.in_doubt))
        again.ack(part)
    assert seen == [(0, 10, False), (20, 30, False), (30, 40, True), (50, 60, False)]


async def test_an_exporter_without_storage_begins_at_the_end_after_a_restart(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    log.open_cursor("a", queue())
    loose = log.open_cursor("loose", SendingQueue())
    await log.ready()
    await append(numbers, 4, log)
    assert numbers_of((await take(loose)).batches) == [0, 1, 2, 3]
    again = (await disk.after_crash(store)).open_log("logs", "logs")
    assert again.open_cursor("loose", SendingQueue()).lag_rows == 0
    assert again.open_cursor("a", queue()).lag_rows == 4


async def test_requests_that_wait_together_are_committed_together(disk, numbers) -> None:
    store = await disk.open()
    logs = [store.open_log(name, "logs") for name in ("logs/a", "logs/b")]
    for log in logs:
        log.open_cursor("a", queue())
    await store.flush()
    before = disk.host.counts["file_storage_commits"]
    await asyncio.gather(*(append(numbers, 1, *logs) for _ in range(50)))
    assert disk.host.counts["file_storage_commits"] - before <= 10
    again = await disk.after_crash(store)
    for name in ("logs/a", "logs/b"):
        part = await take(again.open_log(name, "logs").open_cursor("a", queue()))
        assert numbers_of(part.batches) == list(range(50))


async def test_callers_that_go_away_leave_no_reservation_behind(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue(queue_size=10, sizer="items"))
    await log.ready()
    task = asyncio.create_task(append(numbers, 9, log))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: cursor.lag_rows == 9)
    cursor.ack(await take(cursor))
    await append(numbers, 9, log)


async def test_a_full_queue_refuses_by_what_is_on_disk(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue(queue_size=3000, sizer="bytes"))
    await log.ready()
    await append(numbers, 100, log)
    assert 0 < cursor.held_bytes < 3000
    with pytest.raises(Overflow, match="of 3000 bytes"):  # noqa: PT012  which of them does not fit is the log's affair
        for _ in range(10):
            await append(numbers, 100, log)
    cursor.ack(await take(cursor))
    assert cursor.held_bytes == 0
    await append(numbers, 100, log)


async def test_a_row_that_waits_too_long_makes_the_queue_refuse(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue(max_age="10s"))
    await log.ready()
    await append(numbers, 1, log)
    now = log.clock()
    log.clock = lambda: now + 11
    with pytest.raises(Overflow, match="max_age is 10s"):
        await append(numbers, 1, log)
    cursor.ack(await take(cursor))
    await append(numbers, 1, log)


async def test_rows_that_left_memory_are_read_from_disk(disk, numbers, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "MEMORY_BYTES", 20_000)
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 1_500)
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await log.ready()
    for _ in range(40):
        await append(numbers, 10, log)
    assert len(log) < 5
    assert len(store.segments) > 5
    rows: list[int] = []
    while cursor.lag_rows:
        part = await take(cursor, SliceLimits(min_rows=0, max_rows=25))
        assert part.rows == sum(batch.rows for batch in part.batches)
        rows += numbers_of(part.batches)
        cursor.ack(part)
    assert rows == list(range(400))
    assert (cursor.held_bytes, cursor.held_rows, cursor.held_requests, cursor.waiting_bytes) == (0, 0, 0, 0)
    await until(lambda: len(store.segments) == 1)


async def test_an_append_larger_than_a_slice_is_cut(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    log.open_cursor("a", queue())
    await log.ready()
    await append(numbers, 100, log)
    cursor = (await disk.after_crash(store)).open_log("logs", "logs").open_cursor("a", queue())
    rows: list[int] = []
    sizes = []
    while cursor.lag_rows:
        part = await take(cursor, SliceLimits(min_rows=0, max_rows=30))
        sizes.append(part.rows)
        rows += numbers_of(part.batches)
        cursor.ack(part)
    assert (rows, sizes) == (list(range(100)), [30, 30, 30, 10])
    assert (cursor.held_bytes, cursor.waiting_bytes, cursor.held_requests) == (0, 0, 0)


async def test_segments_go_once_every_cursor_has_done_them(disk, numbers, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 2_000)
    store = await disk.open()
    log = store.open_log("logs", "logs")
    one, other = (log.open_cursor(name, queue()) for name in ("a", "b"))
    await log.ready()
    for _ in range(20):
        await append(numbers, 10, log)
    files = lambda: len(list(store.folder.glob("segment-*.sqlite")))  # noqa: E731
    before = files()
    assert before >= 3
    one.ack(await take(one))
    await store.flush()
    assert files() == before
    other.ack(await take(other))
    await until(lambda: files() == 1)
    await disk.close(store)
    assert files() == 0


async def test_a_segment_that_ends_while_the_store_closes_goes_too(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await append(numbers, 10, log)
    cursor.ack(await take(cursor))
    await store.flush()
    store._seal_soon()
    closing = asyncio.create_task(disk.close(store))
    await asyncio.sleep(0)
    # The loop hears of the segment's end only once everything else has ended, if it can.
    until_s = time.monotonic() + 0.5
    while time.monotonic() < until_s and not store._clerk._closing:
        time.sleep(0.001)  # noqa: ASYNC251
    await closing
    assert not list(store.folder.glob("segment-*"))


async def test_rows_left_in_mostly_empty_segments_move_so_that_these_can_go(disk, numbers, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 2_000)
    store = await disk.open()
    slow_log, log = (store.open_log(name, "logs") for name in ("logs/slow", "logs"))
    slow, cursor = slow_log.open_cursor("a", queue()), log.open_cursor("a", queue())
    await store.flush()
    for turn in range(60):
        if turn % 3 == 0:
            await append(numbers, 1, slow_log)
        await append(Numbers(), 10, log)
        cursor.ack(await take(cursor))
    assert len(store.segments) > 10
    held = slow.held_bytes
    while (segment := store._to_move()) is not None:
        await store._move_out(segment)
    assert sum(s.stored_bytes for s in store.segments.values()) < 3 * held + 4_000
    part = await take(slow)
    assert numbers_of(part.batches) == list(range(20))
    again = (await disk.after_crash(store)).open_log("logs/slow", "logs").open_cursor("a", queue())
    part = await take(again)
    assert numbers_of(part.batches) == list(range(20))
    again.ack(part)


async def test_a_crash_between_moving_and_removing_finds_each_row_once(disk, numbers, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 1_000)
    store = await disk.open()
    log = store.open_log("logs", "logs")
    log.open_cursor("a", queue())
    await log.ready()
    for _ in range(10):
        await append(numbers, 5, log)
    segment = next(s for s in store.segments.values() if s is not store._active and s.stored_bytes)
    monkeypatch.setattr(store, "_drop", lambda segment: None)
    await store._move_out(segment)
    again = (await disk.after_crash(store)).open_log("logs", "logs").open_cursor("a", queue())
    assert again.lag_rows == 50
    part = await take(again)
    assert numbers_of(part.batches) == list(range(50))


async def test_a_folder_belongs_to_one_process(disk) -> None:
    await disk.open()
    with pytest.raises(StorageError, match=r"in use by another process \(pid \d+\)"):
        await disk.open()


async def test_rows_of_an_exporter_that_left_are_kept_and_said_so(disk, numbers, caplog) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    gone, stays = (log.open_cursor(name, queue()) for name in ("gone", "stays"))
    await log.ready()
    await append(numbers, 5, log)
    stays.ack(await take(stays))
    del gone

    second = await disk.after_crash(store)
    log = second.open_log("logs", "logs")
    log.open_cursor("stays", queue())
    await second.settled(second.options, disk.host)  # type: ignore[arg-type]
    assert "exporter gone left pipeline logs with 5 rows in the log: they are kept" in caplog.text
    await append(numbers, 5, log)

    third = await disk.after_crash(second)
    log = third.open_log("logs", "logs")
    back = log.open_cursor("gone", queue())
    await third.settled(third.options, disk.host)  # type: ignore[arg-type]
    part = await take(back)
    assert numbers_of(part.batches) == [0, 1, 2, 3, 4]
    assert back.lag_rows == 5
    back.ack(part)
    await append(numbers, 1, log)
    assert numbers_of((await take(back)).batches) == [10]


async def test_rows_of_an_exporter_that_left_are_dropped_and_counted_where_the_file_says_so(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    log.open_cursor("gone", queue())
    await log.ready()
    await append(numbers, 5, log)
    second = await disk.after_crash(store, keep_removed=False)
    second.open_log("logs", "logs").open_cursor("stays", queue())
    await second.settled(second.options, disk.host)  # type: ignore[arg-type]
    assert disk.host.counts["file_storage_dropped_rows"] == 5
    third = await disk.after_crash(second)
    assert third.open_log("logs", "logs").open_cursor("gone", queue()).lag_rows == 0


async def test_undoing_a_start_leaves_everything_as_it_was(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    log.open_cursor("a", queue())
    await log.ready()
    await append(numbers, 5, log)
    second = await disk.after_crash(store, keep_removed=False)
    log = second.open_log("logs", "logs")
    for name in ("a", "new"):
        log.open_cursor(name, queue())
        log.undo_cursor(name)
    third = await disk.after_crash(second)
    log = third.open_log("logs", "logs")
    assert log.open_cursor("a", queue()).lag_rows == 5
    assert log.open_cursor("new", queue()).lag_rows == 0


async def test_numbers_go_on_after_everything_is_done_and_removed(disk, numbers) -> None:
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await log.ready()
    await append(numbers, 5, log)
    cursor.ack(await take(cursor))
    await disk.close(store)
    second = await disk.open()
    log = second.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await log.ready()
    await append(numbers, 5, log)
    part = await take(cursor)
    assert (part.start, part.end) == (5, 10)
