"""The log in memory: numbering, bounds, cursors, receipts."""

from __future__ import annotations

import asyncio

import pytest

from colonnade.pipeline.component import SliceLimits
from colonnade.pipeline.errors import Permanent, ShuttingDown
from colonnade.pipeline.log import Append, MemoryLog, Overflow, Receipt
from colonnade.pipeline.settings import SendingQueue
from tests.pipeline.kit import EAGER, Numbers, numbers_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def queue(**keys: object) -> SendingQueue:
    return SendingQueue.model_validate(keys)


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog("logs", "logs", Clock())


def append(log: MemoryLog, numbers: Numbers, rows: int, nbytes: int | None = None) -> Receipt:
    batch = numbers.batch(rows)
    return log.append(log.reserve(Append(b"i" * 16, [batch], rows, nbytes or batch.nbytes)))


async def test_every_cursor_gets_every_row_once_and_the_append_is_freed_after_the_last(log, numbers) -> None:
    cursors = [log.open_cursor(name, queue()) for name in ("a", "b")]
    append(log, numbers, 3)
    append(log, numbers, 2)
    for cursor in cursors:
        assert len(log) == 2
        part = await cursor.take(EAGER)
        assert part is not None
        assert (part.start, part.end, numbers_of(part.batches)) == (0, 5, [0, 1, 2, 3, 4])
        cursor.ack(part)
        assert cursor.lag_rows == 0
        assert cursor.held_bytes == 0
    assert len(log) == 0


async def test_slices_respect_max_rows_and_cut_through_appends(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    append(log, numbers, 5)
    append(log, numbers, 5)
    limits = SliceLimits(min_rows=0, max_rows=4, max_bytes=0, max_age_s=0)
    got = []
    for _ in range(3):
        part = await cursor.take(limits)
        got.append(numbers_of(part.batches))
    assert got == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_slices_respect_max_bytes_but_for_one_row(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    append(log, numbers, 10, nbytes=1000)
    part = await cursor.take(SliceLimits(min_rows=0, max_bytes=250, max_age_s=0))
    assert (part.rows, part.nbytes) == (2, 200)
    part = await cursor.take(SliceLimits(min_rows=0, max_bytes=1, max_age_s=0))
    assert part.rows == 1


async def test_slice_waits_for_rows_or_age(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    limits = SliceLimits(min_rows=4, max_bytes=0, max_age_s=3600)
    task = asyncio.create_task(cursor.take(limits))
    append(log, numbers, 3)
    await asyncio.sleep(0)
    assert not task.done()
    append(log, numbers, 1)
    assert (await task).rows == 4
    append(log, numbers, 1)
    log.clock.now += 3600
    assert (await cursor.take(limits)).rows == 1


async def test_slice_closes_early_when_the_log_is_half_full(log, numbers) -> None:
    cursor = log.open_cursor("a", queue(queue_size=1000, sizer="bytes"))
    task = asyncio.create_task(cursor.take(SliceLimits(min_rows=10**6, max_bytes=0, max_age_s=3600)))
    append(log, numbers, 1, nbytes=400)
    await asyncio.sleep(0)
    assert not task.done()
    append(log, numbers, 1, nbytes=100)
    assert (await task).rows == 2


@pytest.mark.parametrize(("sizer", "bound"), [("bytes", 1000), ("items", 10), ("requests", 2)])
async def test_full_log_refuses_with_a_delay_and_takes_again_after_release(log, numbers, sizer, bound) -> None:
    cursor = log.open_cursor("a", queue(queue_size=bound, sizer=sizer))
    append(log, numbers, 5, nbytes=500)
    append(log, numbers, 5, nbytes=500)
    with pytest.raises(Overflow, match=f"of {bound} {sizer}") as refusal:
        append(log, numbers, 5, nbytes=500)
    assert refusal.value.delay_s >= 1
    assert refusal.value.exporters == ("a",)
    part = await cursor.take(EAGER)
    with pytest.raises(Overflow):
        append(log, numbers, 5, nbytes=500)
    cursor.ack(part)
    append(log, numbers, 5, nbytes=500)


def test_an_empty_queue_takes_what_is_larger_than_its_bound(log, numbers) -> None:
    log.open_cursor("a", queue(queue_size=10, sizer="bytes"))
    append(log, numbers, 5, nbytes=500)
    with pytest.raises(Overflow):
        append(log, numbers, 1, nbytes=1)


def test_reservations_count_until_cancelled(log, numbers) -> None:
    log.open_cursor("a", queue(queue_size=10, sizer="items"))
    append(log, numbers, 1)
    first = log.reserve(Append(b"", [numbers.batch(9)], 9, 1))
    with pytest.raises(Overflow):
        log.reserve(Append(b"", [numbers.batch(1)], 1, 1))
    first.cancel()
    log.reserve(Append(b"", [numbers.batch(1)], 1, 1))


async def test_overflow_hint_follows_the_exporters_next_attempt(log, numbers) -> None:
    cursor = log.open_cursor("a", queue(queue_size=1, sizer="items"))
    append(log, numbers, 1)
    cursor.next_attempt_at, cursor.last_error = log.clock() + 12, "connection refused"
    with pytest.raises(Overflow, match="connection refused") as refusal:
        append(log, numbers, 1)
    assert refusal.value.delay_s == 12


async def test_acks_out_of_order_move_the_position_over_what_is_done(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    parts = []
    for _ in range(4):
        append(log, numbers, 2)
        parts.append(await cursor.take(EAGER))
    for index, position in ((1, 0), (3, 0), (0, 4), (2, 8)):
        cursor.ack(parts[index])
        assert cursor.position == position
    assert len(log) == 0


async def test_a_stuck_slice_does_not_keep_others_in_memory(log, numbers) -> None:
    cursor = log.open_cursor("a", queue(queue_size=1000, sizer="bytes"))
    append(log, numbers, 1, nbytes=400)
    stuck = await cursor.take(EAGER)
    for _ in range(50):
        append(log, numbers, 1, nbytes=500)
        part = await cursor.take(EAGER)
        cursor.ack(part)
    assert cursor.held_bytes == 400
    assert numbers_of(await log.read(stuck.start, stuck.end)) == [0]


async def test_a_slice_given_back_comes_again_as_it_was_cut(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    append(log, numbers, 3)
    part = await cursor.take(EAGER)
    cursor.give_back(part)
    append(log, numbers, 3)
    again = await cursor.take(EAGER)
    await cursor.load(again)
    assert (again.start, again.end, numbers_of(again.batches)) == (0, 3, [0, 1, 2])
    assert (await cursor.take(EAGER)).start == 3


async def test_released_rows_leave_memory_before_they_are_done(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    append(log, numbers, 3)
    part = await cursor.take(EAGER)
    cursor.release(part)
    assert (len(log), cursor.held_bytes, cursor.lag_rows) == (0, 0, 3)
    log.clock.now += 7
    assert cursor.lag_s == 7
    cursor.ack(part, released=True)
    assert (cursor.lag_rows, cursor.lag_s) == (0, 0)


async def test_take_gives_the_rest_when_draining_and_then_none(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    append(log, numbers, 1)
    limits = SliceLimits(min_rows=100, max_age_s=3600)
    task = asyncio.create_task(cursor.take(limits))
    await asyncio.sleep(0)
    cursor.drain()
    assert (await task).rows == 1
    assert await cursor.take(limits) is None


async def test_receipt_waits_for_exporters_that_answer_after_their_store(log, numbers) -> None:
    waiting = log.open_cursor("a", queue(wait_for_result=True))
    log.open_cursor("b", queue())
    receipt = append(log, numbers, 4)
    assert not receipt.settled
    task = asyncio.create_task(receipt.wait())
    for _ in range(2):
        part = await waiting.take(SliceLimits(min_rows=0, max_rows=2))
        assert not task.done()
        waiting.ack(part)
    await task
    assert append(log, numbers, 1).settled is False


async def test_receipt_raises_what_the_exporter_gave_up_with(log, numbers) -> None:
    cursor = log.open_cursor("a", queue(enabled=False))
    receipt = append(log, numbers, 4)
    part = await cursor.take(EAGER)
    cursor.ack(part, Permanent("bad", "no such table"))
    with pytest.raises(Permanent, match="no such table"):
        await receipt.wait()


async def test_closing_a_cursor_frees_its_rows_and_tells_callers(log, numbers) -> None:
    log.open_cursor("a", queue(wait_for_result=True))
    receipt = append(log, numbers, 4)
    assert log.close_cursor("a") == 4
    assert len(log) == 0
    with pytest.raises(ShuttingDown):
        await receipt.wait()


async def test_a_new_cursor_starts_at_the_end_and_a_known_one_where_it_was(log, numbers) -> None:
    first = log.open_cursor("a", queue())
    append(log, numbers, 4)
    assert log.open_cursor("a", queue(num_consumers=3)) is first
    assert log.open_cursor("b", queue()).position == 4
    assert first.waiting_rows == 4


async def test_room_wakes_on_release_and_refuses_once_closed(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    append(log, numbers, 1)
    room = asyncio.create_task(log.room())
    await asyncio.sleep(0)
    part = await cursor.take(EAGER)
    cursor.ack(part)
    await room
    room = asyncio.create_task(log.room())
    await asyncio.sleep(0)
    await log.close()
    with pytest.raises(ShuttingDown):
        await room
    with pytest.raises(ShuttingDown):
        append(log, numbers, 1)


async def test_closing_waits_for_appends_that_have_their_room(log, numbers) -> None:
    log.open_cursor("a", queue())
    under_way, given_up = (log.reserve(Append(b"", [numbers.batch(2)], 2, 1)) for _ in range(2))
    closing = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    assert not closing.done()
    given_up.cancel()
    await asyncio.sleep(0)
    assert not closing.done()
    log.append(under_way)
    await closing
    assert log.cursors["a"].waiting_rows == 2


async def test_memory_of_the_log_itself_is_bounded(log, numbers) -> None:
    cursor = log.open_cursor("a", queue())
    for _ in range(1000):
        append(log, numbers, 1)
        part = await cursor.take(EAGER)
        cursor.ack(part)
    assert len(log._stored) <= 130
