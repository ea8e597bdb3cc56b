"""The durable log of one pipeline: a log in memory whose rows are on disk as well.

The newest rows stay in memory (within a bound that all logs share), so that an exporter that keeps up never reads; one
that has fallen behind reads its slices from segments. What is under way and waits for a store is let go and read again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from colonnade import native
from colonnade.extensions.file_storage.catalog import CursorRecord, Note
from colonnade.extensions.file_storage.extents import Extent, plus
from colonnade.extensions.file_storage.recovery import LogState
from colonnade.extensions.file_storage.segment import Damaged, Entry, place
from colonnade.native import Batch
from colonnade.pipeline.component import Slice, SliceLimits
from colonnade.pipeline.cursor import Cursor, RowRanges, Totals
from colonnade.pipeline.errors import ColonnadeError, Retryable
from colonnade.pipeline.log import Append, MemoryLog, Receipt, Reservation, Stored, cut_rows, last_request_end
from colonnade.pipeline.settings import SendingQueue

if TYPE_CHECKING:
    from colonnade.extensions.file_storage.store import Store

# No slice that is read from disk is larger than this, whatever the exporter would take.
READ_BYTES = 128 << 20


class _Read(NamedTuple):
    """Rows start..end from disk, and the time of the next row."""

    start: int
    end: int
    batches: list[Batch]
    totals: Totals
    at_ms: int
    next_at_ms: int | None


class DurableLog(MemoryLog):
    """See the module's text. `state` is the store's, and outlives this object."""

    def __init__(self, store: Store, state: LogState) -> None:
        super().__init__(state.record.pipeline, state.record.signal, log_id=state.record.id)
        self.store: Store = store  # pyright: ignore[reportIncompatibleVariableOverride]  it never changes
        self.state = state
        self.end = state.record.next_row

    # --- appends

    def append(self, reservation: Reservation) -> Receipt:
        raise TypeError("a durable log appends through its store")

    def committed(self, append: Append, entry: Entry) -> Receipt:
        """An append is on disk."""
        receipt = self.take_in(append, entry.start, entry.stored_bytes, self.clock())
        # Also where no cursor wants the rows, so that no number is given twice.
        self.end = self.state.record.next_row = entry.end
        if len(self) and self._stored[-1].end == entry.end:
            self.store.keep_in_memory(self, self._stored[-1])
        return receipt

    def evict(self, stored: Stored) -> None:
        """Lets an append in memory go: it is on disk."""
        stored.held_by.clear()
        stored.batches = []
        self._prune()

    # --- cursors

    def open_cursor(self, name: str, queue: SendingQueue) -> Cursor:
        cursor = self.cursors.get(name)
        if cursor is not None:
            assert isinstance(cursor, DurableCursor)
            cursor.change_queue(queue)
            cursor.resume()
            return cursor
        record = self.state.record.cursors.get(name)
        fresh = record is None
        if record is None:
            record = CursorRecord(name, RowRanges(self._first_row(queue)))
            if self.state.forgotten and queue.storage is not None:
                record.doubt_below = self.end
        cursor = self.cursors[name] = DurableCursor(self, record, queue, fresh)
        cursor.recover()
        return cursor

    def _first_row(self, queue: SendingQueue) -> int:
        """Where a cursor that is not known begins."""
        first = next(iter(self.state.extents), None)
        if self.state.forgotten and queue.storage is not None and first is not None:
            return first.start
        return self.end

    def undo_cursor(self, name: str) -> None:
        cursor = self.cursors[name]
        assert isinstance(cursor, DurableCursor)
        super().close_cursor(name)
        self.state.volatile.pop(name, None)
        if cursor.fresh:
            self.store.forget_cursor(self.state, name)
        elif cursor.had_left:
            cursor.record.left_at = self.end
            self.store.save_cursor(self.state, cursor.record)

    def close_cursor(self, name: str) -> int:
        cursor = self.cursors[name]
        assert isinstance(cursor, DurableCursor)
        left = super().close_cursor(name)
        self.state.volatile.pop(name, None)
        if cursor.survives:
            cursor.record.left_at = self.end
            self.store.left(self.state, cursor.record)
        else:
            self.store.collect(self.state, 0, self.end)
        return left

    async def ready(self) -> None:
        await self.store.flush()

    def recount(self) -> None:
        """Rows were lost: what cursors still have is less."""
        for cursor in self.cursors.values():
            waiting = self.measure(cursor.next, self.end)
            cursor.recount(waiting, self.at_s(self.appended_at_ms(cursor.next)) if waiting.rows else None)

    # --- reading

    async def cut(self, cursor: Cursor, limits: SliceLimits) -> tuple[Slice | None, float | None]:
        if cursor.fence is None and self._holds(cursor):
            part, since_s = self.cut_in_memory(cursor, limits)
        else:
            part, since_s = await self._cut_on_disk(cursor, limits)
        if part is None:
            return None, None
        # A slice holds its rows itself, and they can be read again.
        self.forget(cursor, part.start, part.end)
        assert isinstance(cursor, DurableCursor)
        part.in_doubt = part.start < cursor.record.doubt_below
        part.remember = lambda: cursor.note(part)
        return part, since_s

    async def read(self, start: int, end: int) -> list[Batch]:
        kept = self._between(start, end)
        if kept and kept[0].start <= start and all(stored.batches for stored in kept):
            return self.read_in_memory(start, end)
        found = await self._on_disk(start, end, None, all_rows=True)
        return [batch for read in found for batch in read.batches]

    def measure(self, start: int, end: int) -> Totals:
        """What rows start..end come to, of those that lie somewhere. Reads an index where a segment has some only."""
        totals = Totals()
        for extent in self.state.extents.between(start, end):
            if start <= extent.start and extent.end <= end:
                totals = plus(totals, extent.totals)
                continue
            totals = plus(totals, self._part_of(extent, max(start, extent.start), min(end, extent.end)))
        return totals

    def _part_of(self, extent: Extent, low: int, high: int) -> Totals:
        """What some rows of an extent come to; about, where its index is damaged, which shows when they are read."""
        totals = Totals()
        try:
            for entry in extent.segment.entries(self.state.record.number, low, high):
                totals = plus(totals, _share(entry, low, high))
        except Damaged:
            rows, whole = high - low, extent.end - extent.start
            return Totals(rows, *(count * rows // whole for count in extent.totals[1:]))
        return totals

    def appended_at_ms(self, row: int) -> int | None:
        """When the first row at or after `row` that lies somewhere was appended."""
        for extent in self.state.extents.between(row, self.end)[:1]:
            with suppress(Damaged):
                return extent.segment.entries(self.state.record.number, max(row, extent.start), extent.end)[0].at_ms
        return None

    def at_s(self, at_ms: int | None) -> float | None:
        """A time of the wall on the log's own clock."""
        return None if at_ms is None else self.clock() - max(0.0, time.time() - at_ms / 1000)

    def _holds(self, cursor: Cursor) -> bool:
        """Whether what a cursor hands out next is in memory."""
        kept = self._between(cursor.next, cursor.next + 1)
        return bool(kept) and kept[0].start <= cursor.next and cursor.name in kept[0].held_by

    async def _cut_on_disk(self, cursor: Cursor, limits: SliceLimits) -> tuple[Slice | None, float | None]:
        fence = cursor.fence
        found = await self._on_disk(cursor.next, fence or self.end, None if fence else limits)
        if not found:
            if fence:
                cursor.done.add(cursor.next, fence)
                cursor.next = fence
                cursor.fences = [row for row in cursor.fences if row > fence]
            return None, None
        (read,) = found
        part = Slice(
            log_id=self.id,
            pipeline=self.pipeline,
            signal=self.signal,
            start=read.start,
            end=read.end,
            batches=read.batches,
            rows=read.totals.rows,
            nbytes=read.totals.nbytes,
            stored_bytes=read.totals.stored_bytes,
            requests=read.totals.requests,
            appended_at_s=self.at_s(read.at_ms) or 0.0,
        )
        return part, self.at_s(read.next_at_ms)

    async def _on_disk(self, start: int, end: int, limits: SliceLimits | None, all_rows: bool = False) -> list[_Read]:
        """Consecutive rows from the first that lies somewhere on, as far as the limits allow; with `all_rows`, all
        that lie somewhere, in several pieces. Raises Retryable."""
        while True:
            reader = _Reader(self.state.record.number, self.state.extents.between(start, end), start, end, limits)
            try:
                return await self.store.run(reader.read_all if all_rows else reader.read_first)
            except Damaged as damage:
                await self.store.rescue(damage)
            except OSError as error:
                raise Retryable(
                    "storage_failed", f"the log of pipeline {self.pipeline} can not be read: {error}"
                ) from None


class _Reader:
    """Reads rows of one log from its segments. Blocks; belongs on an executor."""

    def __init__(self, log: int, extents: list[Extent], start: int, end: int, limits: SliceLimits | None) -> None:
        self._log = log
        self._extents = extents
        self._start = start
        self._end = end
        self._max_rows = limits.max_rows if limits else 0
        self._max_bytes = min(limits.max_bytes or READ_BYTES, READ_BYTES) if limits else 1 << 62
        self._whole_requests = limits is not None and limits.whole_requests

    def read_all(self) -> list[_Read]:
        found: list[_Read] = []
        while reads := self.read_first():
            found += reads
            self._start = reads[-1].end
        return found

    def read_first(self) -> list[_Read]:
        """One stretch of consecutive rows, or none."""
        batches: list[Batch] = []
        totals, first, at = Totals(), None, self._start
        for entry, body in self._bodies():
            low, high = max(entry.start, self._start), min(entry.end, self._end)
            if first is not None and (low != at or self._exceeds(plus(totals, _share(entry, low, high)))):
                return [_Read(first[0], at, batches, totals, first[1], entry.at_ms)]
            whole = self._unpacked(entry, body)
            if first is None:
                first = (low, entry.at_ms)
                high = self._shorten(entry, low, high, whole)
            batches += cut_rows(whole, low - entry.start, high - entry.start)
            totals, at = plus(totals, _share(entry, low, high)), high
            if high < min(entry.end, self._end):
                return [_Read(first[0], at, batches, totals, first[1], entry.at_ms)]
        return [] if first is None else [_Read(first[0], at, batches, totals, first[1], None)]

    def _bodies(self) -> Iterator[tuple[Entry, Any]]:
        for extent in self._extents:
            low, high = max(self._start, extent.start), min(self._end, extent.end)
            if low < high:
                self._segment = extent.segment
                yield from extent.segment.bodies(self._log, low, high)

    def _unpacked(self, entry: Entry, body: bytes) -> list[Batch]:
        try:
            batches = native.from_ipc(body, place(self._log, entry.start))
        except native.NativeError as error:
            raise Damaged(self._segment, f"append at row {entry.start}: {error}") from None
        if sum(batch.rows for batch in batches) != entry.rows:
            raise Damaged(self._segment, f"append at row {entry.start} has other rows than its entry says")
        return batches

    def _exceeds(self, totals: Totals) -> bool:
        return bool(self._max_rows and totals.rows > self._max_rows) or totals.nbytes > self._max_bytes

    def _shorten(self, entry: Entry, low: int, high: int, batches: list[Batch]) -> int:
        """An append that is too large by itself is cut."""
        rows = high - low
        if self._max_rows:
            rows = min(rows, self._max_rows)
        nbytes = entry.nbytes * rows // entry.rows
        if nbytes > self._max_bytes:
            rows = max(1, self._max_bytes * entry.rows // entry.nbytes)
        cut = low + rows
        if self._whole_requests and cut < high:
            return entry.start + (last_request_end(batches, low - entry.start, cut - entry.start) or cut - entry.start)
        return cut


def _share(entry: Entry, low: int, high: int) -> Totals:
    """What rows low..high of an append come to, apportioned; a request counts where its append ends."""

    def part(total: int) -> int:
        return total * (high - entry.start) // entry.rows - total * (low - entry.start) // entry.rows

    low, high = max(low, entry.start), min(high, entry.end)
    requests = entry.requests if high == entry.end else 0
    return Totals(high - low, part(entry.nbytes), part(entry.stored_bytes), requests)


class DurableCursor(Cursor):
    """A cursor whose place is on disk, where its exporter names storage."""

    log: DurableLog

    def __init__(self, log: DurableLog, record: CursorRecord, queue: SendingQueue, fresh: bool) -> None:
        super().__init__(log, record.name, queue, record.done)
        self.record = record
        self.fresh = fresh
        self.survives = queue.storage is not None
        self.had_left = record.left_at is not None

    def recover(self) -> None:
        """Takes up where the last process was: slices in doubt, what was cut and never sent, and then the rest."""
        log, record = self.log, self.record
        if record.left_at is not None:
            # Rows of the time when the exporter was not part of the pipeline are not its rows.
            if record.left_at < log.end:
                record.done.add(max(record.left_at, record.done.position), log.end)
            record.left_at = None
        for low, high in list(record.done.rest(record.done.position, log.end)):
            for lost in log.state.extents.missing(low, high):
                for start, end in list(self._noted().rest(*lost)):
                    record.done.add(start, end)
        self._list(self.survives)
        self._resend()
        waiting = log.measure(self.next, log.end)
        self.recount(waiting, log.at_s(log.appended_at_ms(self.next)) if waiting.rows else None)
        self.recovered_rows = self.lag_rows

    def _noted(self) -> RowRanges:
        return RowRanges(0, sorted((note.start, note.end) for note in self.record.notes.values()))

    def _resend(self) -> None:
        """What comes again as it was cut."""
        record = self.record
        for note in record.notes.values():
            part = self._slice(note.start, note.end)
            part.in_doubt, part.plan = True, dict(note.body.get("plan") or {})
            part.keys, part.pieces_done = tuple(note.body.get("keys") or ()), int(note.body.get("pieces_done") or 0)
            self._returned.append(part)
        self.next = max([record.done.position, *(r[1] for r in record.done), *(r[1] for r in self._noted())])
        for low, high in record.done.rest(record.done.position, self.next):
            self._returned += [self._slice(start, end) for start, end in self._noted().rest(low, high)]
        self._returned.sort(key=lambda part: part.start)

    def _slice(self, start: int, end: int) -> Slice:
        """A slice that comes again, without its rows."""
        totals = self.log.measure(start, end)
        part = Slice(
            log_id=self.log.id,
            pipeline=self.log.pipeline,
            signal=self.log.signal,
            start=start,
            end=end,
            batches=[],
            rows=totals.rows,
            nbytes=totals.nbytes,
            stored_bytes=totals.stored_bytes,
            requests=totals.requests,
            appended_at_s=self.log.at_s(self.log.appended_at_ms(start)) or self.log.clock(),
            in_doubt=start < self.record.doubt_below,
        )
        part.remember = lambda: self.note(part)
        return part

    def _list(self, survives: bool) -> None:
        """The store knows the cursor among those that survive, or among those that do not."""
        state, name = self.log.state, self.name
        self.survives = survives
        if survives:
            state.volatile.pop(name, None)
            state.record.cursors[name] = self.record
            self.log.store.save_cursor(state, self.record)
        else:
            if state.record.cursors.get(name) is self.record:
                self.log.store.forget_cursor(state, name)
            state.volatile[name] = self.record

    def change_queue(self, queue: SendingQueue) -> None:
        """Another configuration's queue; the cursor may begin or cease to survive."""
        self.queue = queue
        if self.survives != (queue.storage is not None):
            self._list(queue.storage is not None)

    def expect_stream(self) -> None:
        """Slices that come again are not sent by themselves: a stream begins anew at the position, and one that was
        being published ends where it ended."""
        self._take_back(self._returned)
        self._returned = []
        self.next = self.position
        self._fence()

    def _fence(self) -> None:
        """The stream that was being published has the same parts again."""
        note = self.record.notes.get(self.next)
        self.fences = [] if note is None else list(note.body.get("parts") or [note.end])

    async def note(self, part: Slice) -> None:
        if not self.survives:
            return
        body: dict[str, Any] = {
            "pieces_done": part.pieces_done,
            "keys": list(part.keys or ()),
            "plan": part.plan,
            "parts": [piece.end for piece in self.parts(part)],
        }
        known = self.record.notes.get(part.start)
        if known is not None and known.end == part.end and known.body == body:
            return
        # As it is now: the exporter goes on changing its plan.
        note = Note(part.start, part.end, json.loads(json.dumps(body)))
        await self.log.store.save_note(self.log.state, self.record, note)
        self.record.notes[part.start] = note

    def release(self, part: Slice) -> None:
        """The rows stay on disk until they are done."""

    def unload(self, part: Slice) -> None:
        part.batches = []

    def ack(self, part: Slice, error: ColonnadeError | None = None, *, released: bool = False) -> None:
        super().ack(part, error)
        self.fences = [row for row in self.fences if row > part.end]
        self.log.store.moved(self.log.state, self.record, part.start, part.end, self.survives)

    def rewind(self, roll: Slice) -> bool:
        under_way = self.parts(replace(roll, end=self.log.end))
        for part in under_way:
            del self._flight[part.start]
        self._take_back([*under_way, *self._returned])
        self._returned = []
        self.next = roll.start
        self._fence()
        return True

    def _take_back(self, parts: list[Slice]) -> None:
        """Slices that will be cut anew."""
        for part in parts:
            self.waiting_rows += part.rows
            self.waiting_bytes += part.nbytes
            self.waiting_stored_bytes += part.stored_bytes
        since = [part.appended_at_s for part in parts]
        if self.waiting_since_s is not None:
            since.append(self.waiting_since_s)
        self.waiting_since_s = min(since, default=None)
