"""The hand-over log: where the rows of a pipeline wait for its exporters.

One log per pipeline, one append serves all exporters, each has its own cursor. A caller is answered after its append:
what is in the log is the daemon's to keep. Every log is bounded, per exporter, in the units its `sending_queue`
names (bytes unless the file says otherwise); at the bound the append is refused with a delay, or waits
(`block_on_overflow`).

A request that enters several pipelines is taken by all or by none: `reserve` in each, then one `commit` over all
(`fanout.py`). The log in memory appends at once and can not fail after `reserve`; a log on disk (`store` is set; the
extension `file_storage` has it) commits through the store that it shares with others, in one transaction.

Invariants (tests/pipeline/test_log.py): rows are numbered without gaps; a cursor hands out every row exactly once
unless given back; an append is freed as soon as every cursor has released it; what a cursor holds never exceeds its
bound, but for one append into an empty queue.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from colonnade.pipeline.component import Extension, Slice, SliceLimits
from colonnade.pipeline.cursor import Cursor, RowRanges, Totals
from colonnade.pipeline.errors import ColonnadeError, QueueFull, ShuttingDown
from colonnade.pipeline.settings import SendingQueue

if TYPE_CHECKING:
    from colonnade.native import Batch

DELAY_MIN_S = 1.0
DELAY_MAX_S = 30.0


@dataclass(slots=True)
class Append:
    """What one commit adds to one log."""

    append_id: bytes
    batches: list[Batch]
    rows: int
    nbytes: int
    requests: int = 1
    repeated: int = 0
    """Rows that are not in `batches` any more, because the log had them before."""


@dataclass(slots=True)
class Reservation:
    """Room in one log; ends in `MemoryLog.append`, `LogStore.commit` or `cancel`."""

    log: HandoverLog
    append: Append

    def cancel(self) -> None:
        self.log.unreserve(self)


class Overflow(QueueFull):
    """A log has no room. `exporters` are the cursors that are full; `blocks` when all of them want callers to wait."""

    def __init__(
        self, message: str, delay_s: float, log: HandoverLog, exporters: tuple[str, ...], blocks: bool
    ) -> None:
        super().__init__(message, delay_s)
        self.log = log
        self.exporters = exporters
        self.blocks = blocks


class Receipt:
    """Proof of an append; `wait` returns once every exporter that answers after its store has the rows."""

    __slots__ = ("_error", "_future", "_open")

    def __init__(self) -> None:
        self._open = 0
        self._error: ColonnadeError | None = None
        self._future: asyncio.Future[None] | None = None

    def expect(self) -> None:
        self._open += 1

    def settle(self, error: ColonnadeError | None) -> None:
        """One exporter is done with the append."""
        self._error = self._error or error
        self._open -= 1
        if not self._open and self._future is not None and not self._future.done():
            self._future.set_result(None)

    @property
    def settled(self) -> bool:
        return not self._open

    async def wait(self) -> None:
        """Raises the first error that an exporter gave the append up with."""
        if self._open:
            self._future = self._future or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._future)
        if self._error is not None:
            raise self._error


class LogStore(Protocol):
    """What logs on disk share: one writer, one transaction."""

    async def commit(self, reservations: Sequence[Reservation]) -> list[Receipt]:
        """Appends to all logs, durably, or to none (raises Retryable). It ends the reservations, also when the caller
        goes away."""
        ...


class HandoverLog(ABC):
    """The interface of a log; see the module's text."""

    store: LogStore | None = None

    def __init__(self, pipeline: str, signal: str, log_id: str) -> None:
        self.pipeline = pipeline
        self.signal = signal
        self.id = log_id

    @abstractmethod
    def reserve(self, append: Append) -> Reservation:
        """Room for an append. Raises Overflow, ShuttingDown."""

    @abstractmethod
    def unreserve(self, reservation: Reservation) -> None:
        """Gives the room back."""

    @abstractmethod
    def append(self, reservation: Reservation) -> Receipt:
        """Appends in memory what was reserved; never fails."""

    @abstractmethod
    async def room(self) -> None:
        """Returns when something was released since the call. Raises ShuttingDown."""

    @abstractmethod
    def open_cursor(self, name: str, queue: SendingQueue) -> Cursor:
        """The cursor of that exporter, as it was left, else a new one at the end."""

    @abstractmethod
    def close_cursor(self, name: str) -> int:
        """The exporter has left the pipeline; gives the rows it had not done."""

    def undo_cursor(self, name: str) -> None:
        """Undoes `open_cursor` of a cursor that was not open before."""
        self.close_cursor(name)

    async def ready(self) -> None:  # noqa: B027  nothing to do in memory
        """Called before rows come in: what was opened holds from now on, also after a crash. Raises Retryable."""

    @abstractmethod
    async def close(self) -> None:
        """Appends and waits for room are refused from now on; returns once those under way have ended, so that who
        drains a cursor then drains all."""


class Storage(Extension):
    """What `sending_queue.storage` names: an extension that has logs which outlive the process."""

    @property
    @abstractmethod
    def store(self) -> LogStore:
        """The same object as long as it is the same place."""

    @abstractmethod
    def open_log(self, pipeline: str, signal: str) -> HandoverLog:
        """The pipeline's log, as it was left. Raises ColonnadeError."""

    @abstractmethod
    async def settled(self) -> None:
        """A configuration took over: what nobody has opened belongs to what was removed from it."""


@dataclass(slots=True)
class Stored:
    """An append in memory. `held_by`: rows still needed, by cursor name."""

    start: int
    end: int
    bytes_before: int
    nbytes: int
    stored_bytes: int
    requests: int
    batches: list[Batch]
    at_s: float
    held_by: dict[str, int]

    def bytes_at(self, row: int) -> int:
        """Bytes of the log before a row of this append, apportioned by rows."""
        return self.bytes_before + self.nbytes * (row - self.start) // (self.end - self.start)

    def share(self, low: int, high: int) -> Totals:
        """What its rows low..high come to, apportioned; a request counts where its append ends."""
        rows = self.end - self.start

        def part(total: int) -> int:
            return total * (high - self.start) // rows - total * (low - self.start) // rows

        return Totals(high - low, part(self.nbytes), part(self.stored_bytes), self.requests if high == self.end else 0)


@dataclass(slots=True)
class _Awaited:
    """An append whose callers wait for stores: rows not done, by cursor name."""

    start: int
    end: int
    receipt: Receipt
    left: dict[str, int]


class MemoryLog(HandoverLog):
    """The log in memory: gone with the process, and the same interface as the durable one."""

    def __init__(
        self, pipeline: str, signal: str, clock: Callable[[], float] = time.monotonic, log_id: str = ""
    ) -> None:
        super().__init__(pipeline, signal, log_id or secrets.token_hex(8))
        self.clock = clock
        self.end = 0
        self.total_bytes = 0
        self.cursors: dict[str, Cursor] = {}
        self.closed = False
        self._stored: list[Stored] = []
        self._head = 0
        self._awaited: list[_Awaited] = []
        self._reserved = [0, 0, 0]
        self._room: asyncio.Future[None] | None = None
        self._quiet = asyncio.Event()

    def __len__(self) -> int:
        """Appends that are still in memory."""
        return len(self._stored) - self._head

    def reserve(self, append: Append) -> Reservation:
        if self.closed:
            raise ShuttingDown(f"pipeline {self.pipeline} is shutting down")
        rows, nbytes, requests = self._reserved
        size = (rows + append.rows, nbytes + append.nbytes, requests + append.requests)
        full = [cursor for cursor in self.cursors.values() if not cursor.fits(*size)]
        if full:
            raise self._overflow(full)
        self._reserved[:] = size
        return Reservation(self, append)

    def unreserve(self, reservation: Reservation) -> None:
        append = reservation.append
        for index, size in enumerate((append.rows, append.nbytes, append.requests)):
            self._reserved[index] -= size
        if self.closed and not any(self._reserved):
            self._quiet.set()

    def append(self, reservation: Reservation) -> Receipt:
        self.unreserve(reservation)
        return self.take_in(reservation.append, self.end, reservation.append.nbytes, self.clock())

    def take_in(self, append: Append, start: int, stored_bytes: int, at_s: float) -> Receipt:
        """Rows that begin at `start` are in the log from now on."""
        receipt = Receipt()
        if not append.rows or not self.cursors:
            return receipt
        stored = Stored(
            start=start,
            end=start + append.rows,
            bytes_before=self.total_bytes,
            nbytes=append.nbytes,
            stored_bytes=stored_bytes,
            requests=append.requests,
            batches=append.batches,
            at_s=at_s,
            held_by=dict.fromkeys(self.cursors, append.rows),
        )
        awaited = {name: append.rows for name, c in self.cursors.items() if c.queue.answers_after_store}
        if awaited:
            for _ in awaited:
                receipt.expect()
            self._awaited.append(_Awaited(stored.start, stored.end, receipt, awaited))
        self._stored.append(stored)
        self.end, self.total_bytes = stored.end, self.total_bytes + append.nbytes
        for cursor in self.cursors.values():
            cursor.appended(stored)
        return receipt

    async def room(self) -> None:
        if self.closed:
            raise ShuttingDown(f"pipeline {self.pipeline} is shutting down")
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._room)

    def open_cursor(self, name: str, queue: SendingQueue) -> Cursor:
        cursor = self.cursors.get(name)
        if cursor is None:
            cursor = self.cursors[name] = Cursor(self, name, queue, RowRanges(self.end))
        cursor.queue = queue
        cursor.resume()
        return cursor

    def close_cursor(self, name: str) -> int:
        cursor = self.cursors.pop(name)
        cursor.stop()
        error = ShuttingDown(f"exporter {name} left pipeline {self.pipeline} before it had stored these rows")
        for stored in self._stored[self._head :]:
            stored.held_by.pop(name, None)
            if not stored.held_by:
                stored.batches = []
        for awaited in self._awaited:
            if awaited.left.pop(name, None) is not None:
                awaited.receipt.settle(error)
        self._prune()
        self.signal_room()
        return cursor.lag_rows

    async def close(self) -> None:
        self.closed = True
        self.signal_room()
        if any(self._reserved):
            await self._quiet.wait()

    async def cut(self, cursor: Cursor, limits: SliceLimits) -> tuple[Slice | None, float | None]:
        """A slice of what a cursor has not handed out, as large as `limits` allow and the log has; and since when the
        rows after it wait."""
        return self.cut_in_memory(cursor, limits)

    def cut_in_memory(self, cursor: Cursor, limits: SliceLimits) -> tuple[Slice, float | None]:
        """As `cut`, of rows that are in memory."""
        start = cursor.next
        end = min(self.end, start + limits.max_rows) if limits.max_rows else self.end
        if limits.max_bytes and self.bytes_at(end) - self.bytes_at(start) > limits.max_bytes:
            end = self._row_at(self.bytes_at(start) + limits.max_bytes, start)
        if limits.whole_requests and end < self.end:
            end = self._request_end(start, end)
        shares = [s.share(max(start, s.start), min(end, s.end)) for s in self._between(start, end)]
        rows, nbytes, stored_bytes, requests = (sum(column) for column in zip(*shares, strict=True))
        part = Slice(
            log_id=self.id,
            pipeline=self.pipeline,
            signal=self.signal,
            start=start,
            end=end,
            batches=self.read_in_memory(start, end),
            rows=rows,
            nbytes=nbytes,
            stored_bytes=stored_bytes,
            requests=requests,
            appended_at_s=self._find(start).at_s,
        )
        return part, self._find(end).at_s if end < self.end else None

    async def read(self, start: int, end: int) -> list[Batch]:
        """The rows of a range that no cursor has released for good."""
        return self.read_in_memory(start, end)

    def read_in_memory(self, start: int, end: int) -> list[Batch]:
        """As `read`, of rows that are in memory."""
        batches: list[Batch] = []
        for stored in self._between(start, end):
            batches += cut_rows(stored.batches, start - stored.start, end - stored.start)
        return batches

    def bytes_at(self, row: int) -> int:
        """Bytes of the log before a row that is in memory (or the end)."""
        return self.total_bytes if row >= self.end else self._find(row).bytes_at(row)

    def forget(self, cursor: Cursor, start: int, end: int) -> None:
        """Rows that need not stay in memory for a cursor."""
        for stored in self._between(start, end):
            if cursor.name not in stored.held_by:
                continue
            left = stored.held_by[cursor.name] - (min(end, stored.end) - max(start, stored.start))
            stored.held_by[cursor.name] = left
            if not left:
                del stored.held_by[cursor.name]
            if not stored.held_by:
                stored.batches = []
        self._prune()

    def resolve(self, cursor: Cursor, start: int, end: int, error: ColonnadeError | None) -> None:
        """Tells callers who wait for this cursor's result."""
        if not cursor.queue.answers_after_store:
            return
        first = bisect_right(self._awaited, start, key=lambda a: a.end)
        for awaited in self._awaited[first:]:
            if awaited.start >= end:
                break
            if cursor.name not in awaited.left:
                continue
            awaited.left[cursor.name] -= min(end, awaited.end) - max(start, awaited.start)
            if error is not None or not awaited.left[cursor.name]:
                del awaited.left[cursor.name]
                awaited.receipt.settle(error)
        self._awaited = [awaited for awaited in self._awaited if awaited.left]

    def signal_room(self) -> None:
        """Wakes who waits for room."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            if self.closed:
                room.set_exception(ShuttingDown(f"pipeline {self.pipeline} is shutting down"))
            else:
                room.set_result(None)

    def _overflow(self, full: list[Cursor]) -> Overflow:
        cursor = max(full, key=lambda c: c.next_attempt_at)
        delay_s = min(max(cursor.next_attempt_at - self.clock(), DELAY_MIN_S), DELAY_MAX_S)
        why = f"; its last error: {cursor.last_error}" if cursor.last_error else ""
        if cursor.too_old:
            held = f"its oldest row waits for {cursor.lag_s:.0f}s, and max_age is {cursor.queue.max_age:.0f}s"
        else:
            held = f"{cursor.used} of {cursor.queue.bound} {cursor.queue.bound_sizer}"
        return Overflow(
            f"sending queue of exporter {cursor.name} is full ({held}){why}",
            delay_s,
            self,
            tuple(c.name for c in full),
            all(c.queue.block_on_overflow for c in full),
        )

    def _find(self, row: int) -> Stored:
        return self._stored[self._index(row)]

    def _index(self, row: int) -> int:
        return bisect_right(self._stored, row, lo=self._head, key=lambda s: s.start) - 1

    def _between(self, start: int, end: int) -> list[Stored]:
        if self._head == len(self._stored) or start >= end:
            return []
        first = max(self._index(start), self._head)
        last = bisect_right(self._stored, end - 1, lo=first, key=lambda s: s.start)
        return self._stored[first:last]

    def _row_at(self, nbytes: int, start: int) -> int:
        """The last row number such that the rows before it take at most `nbytes`; at least one row after `start`."""
        index = bisect_right(self._stored, nbytes, lo=self._head, key=lambda s: s.bytes_before) - 1
        stored = self._stored[index]
        if not stored.nbytes:
            return max(stored.end, start + 1)
        row = stored.start + (nbytes - stored.bytes_before) * (stored.end - stored.start) // stored.nbytes
        return max(row, start + 1)

    def _request_end(self, start: int, end: int) -> int:
        """The last row up to `end` with which a request ends; `end` where that would leave nothing."""
        for stored in reversed(self._between(start, end)):
            found = last_request_end(stored.batches, start - stored.start, end - stored.start)
            if found is not None:
                return stored.start + found
        return end

    def _prune(self) -> None:
        """Forgets appends at the head that nobody needs; the list is compacted once half of it is forgotten."""
        stored, head = self._stored, self._head
        while head < len(stored) and not stored[head].held_by:
            head += 1
        self._head = head
        if head > 64 and head * 2 > len(stored):
            del stored[:head]
            self._head = 0


def cut_rows(batches: Sequence[Batch], start: int, end: int) -> list[Batch]:
    """Rows start..end of all batches; nothing is copied."""
    found: list[Batch] = []
    first = 0
    for batch in batches:
        low, high = max(start, first), min(end, first + batch.rows)
        if low < high:
            found.append(batch if high - low == batch.rows else batch.slice(low - first, high - low))
        first += batch.rows
    return found


def last_request_end(batches: Sequence[Batch], start: int, end: int) -> int | None:
    """The last row after `start` and up to `end` with which a request ends."""
    row, found = 0, None
    for rows in (rows for batch in batches for rows, _, _ in batch.runs):
        row += rows
        if row > end:
            break
        if row > start:
            found = row
    return found
