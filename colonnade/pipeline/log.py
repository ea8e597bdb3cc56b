"""The hand-over log: where the rows of a pipeline wait for its exporters.

One log per pipeline, one append serves all exporters, each has its own cursor. A caller is answered after its append:
what is in the log is the daemon's to keep. Every log is bounded, per exporter, in the units its `sending_queue`
names (bytes unless the file says otherwise); at the bound the append is refused with a delay, or waits
(`block_on_overflow`).

A request that enters several pipelines is taken by all or by none: `reserve` in each, then one `commit` over all
(`fanout.py`). The log in memory appends at once and can not fail after `reserve`; a log on disk (`store` is set)
commits through the store that it shares with others, in one transaction.

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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from colonnade.pipeline.component import Slice, SliceLimits
from colonnade.pipeline.cursor import Cursor
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


@dataclass(slots=True)
class Reservation:
    """Room in one log; ends in `MemoryLog.append` or `cancel`."""

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
        """Appends to all logs, durably, or to none (raises Retryable)."""
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
        """Forgets a cursor; gives the rows it had not done."""

    @abstractmethod
    def close(self) -> None:
        """Appends and waits for room are refused from now on."""


@dataclass(slots=True)
class _Stored:
    """An append in memory. `held_by`: rows still needed, by cursor name; `waits`: rows not done, where answers wait."""

    start: int
    end: int
    bytes_before: int
    nbytes: int
    requests: int
    batches: list[Batch]
    at_s: float
    receipt: Receipt
    held_by: dict[str, int]
    waits: dict[str, int] = field(default_factory=dict[str, int])

    def bytes_at(self, row: int) -> int:
        """Bytes of the log before a row of this append, apportioned by rows."""
        return self.bytes_before + self.nbytes * (row - self.start) // (self.end - self.start)


class MemoryLog(HandoverLog):
    """The log in memory: gone with the process, and the same interface as the durable one."""

    def __init__(self, pipeline: str, signal: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(pipeline, signal, secrets.token_hex(8))
        self.clock = clock
        self.end = 0
        self.total_bytes = 0
        self.cursors: dict[str, Cursor] = {}
        self.closed = False
        self._stored: list[_Stored] = []
        self._head = 0
        self._reserved = [0, 0, 0]
        self._room: asyncio.Future[None] | None = None

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

    def append(self, reservation: Reservation) -> Receipt:
        self.unreserve(reservation)
        append, receipt = reservation.append, Receipt()
        if not append.rows or not self.cursors:
            return receipt
        stored = _Stored(
            start=self.end,
            end=self.end + append.rows,
            bytes_before=self.total_bytes,
            nbytes=append.nbytes,
            requests=append.requests,
            batches=append.batches,
            at_s=self.clock(),
            receipt=receipt,
            held_by=dict.fromkeys(self.cursors, append.rows),
        )
        for cursor in self.cursors.values():
            if cursor.queue.answers_after_store:
                stored.waits[cursor.name] = append.rows
                receipt.expect()
        self._stored.append(stored)
        self.end, self.total_bytes = stored.end, self.total_bytes + append.nbytes
        for cursor in self.cursors.values():
            cursor.appended(append.rows, append.nbytes, append.requests)
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
            cursor = self.cursors[name] = Cursor(self, name, queue, self.end)
        cursor.queue = queue
        cursor.resume()
        return cursor

    def close_cursor(self, name: str) -> int:
        cursor = self.cursors.pop(name)
        cursor.stop()
        error = ShuttingDown(f"exporter {name} left pipeline {self.pipeline} before it had stored these rows")
        for stored in self._stored[self._head :]:
            stored.held_by.pop(name, None)
            if stored.waits.pop(name, None) is not None:
                stored.receipt.settle(error)
        self._prune()
        self._signal_room()
        return cursor.lag_rows

    def close(self) -> None:
        self.closed = True
        self._signal_room()

    def cut(self, start: int, limits: SliceLimits) -> Slice:
        """A slice from `start` on, as large as `limits` allow and the log has."""
        end = min(self.end, start + limits.max_rows) if limits.max_rows else self.end
        if limits.max_bytes and self.bytes_at(end) - self.bytes_at(start) > limits.max_bytes:
            end = self._row_at(self.bytes_at(start) + limits.max_bytes, start)
        if limits.whole_requests and end < self.end:
            end = self._request_end(start, end)
        return Slice(
            log_id=self.id,
            pipeline=self.pipeline,
            signal=self.signal,
            start=start,
            end=end,
            batches=self.read(start, end),
            rows=end - start,
            nbytes=self.bytes_at(end) - self.bytes_at(start),
            appended_at_s=self._find(start).at_s,
        )

    def read(self, start: int, end: int) -> list[Batch]:
        """The rows of a range that no cursor has released for good."""
        batches: list[Batch] = []
        row = start
        for stored in self._between(start, end):
            at = stored.start
            for batch in stored.batches:
                low, high = max(row, at), min(end, at + batch.rows)
                if low < high:
                    whole = high - low == batch.rows
                    batches.append(batch if whole else batch.slice(low - at, high - low))
                at += batch.rows
            row = stored.end
        return batches

    def bytes_at(self, row: int) -> int:
        """Bytes of the log before a row that is in memory (or the end)."""
        return self.total_bytes if row >= self.end else self._find(row).bytes_at(row)

    def appended_at(self, row: int) -> float | None:
        """When a row was appended; None when it is not in memory."""
        if row >= self.end or self._head == len(self._stored) or row < self._stored[self._head].start:
            return None
        return self._find(row).at_s

    def release(self, cursor: Cursor, start: int, end: int) -> int:
        """Rows that a cursor needs no more; gives their bytes."""
        nbytes = 0
        for stored in self._between(start, end):
            low, high = max(start, stored.start), min(end, stored.end)
            if cursor.name not in stored.held_by:
                continue
            nbytes += stored.bytes_at(high) - stored.bytes_at(low)
            left = stored.held_by[cursor.name] - (high - low)
            stored.held_by[cursor.name] = left
            if not left:
                del stored.held_by[cursor.name]
                cursor.held_requests -= stored.requests
            if not stored.held_by:
                stored.batches = []
        cursor.held_rows -= end - start
        cursor.held_bytes -= nbytes
        self._prune()
        self._signal_room()
        return nbytes

    def resolve(self, cursor: Cursor, start: int, end: int, error: ColonnadeError | None) -> None:
        """Tells callers who wait for this cursor's result."""
        if not cursor.queue.answers_after_store:
            return
        for stored in self._between(start, end):
            if cursor.name not in stored.waits:
                continue
            stored.waits[cursor.name] -= min(end, stored.end) - max(start, stored.start)
            if error is not None or not stored.waits[cursor.name]:
                del stored.waits[cursor.name]
                stored.receipt.settle(error)
        self._prune()

    def _overflow(self, full: list[Cursor]) -> Overflow:
        cursor = max(full, key=lambda c: c.next_attempt_at)
        delay_s = min(max(cursor.next_attempt_at - self.clock(), DELAY_MIN_S), DELAY_MAX_S)
        why = f"; its last error: {cursor.last_error}" if cursor.last_error else ""
        unit = cursor.queue.bound_sizer
        return Overflow(
            f"sending queue of exporter {cursor.name} is full ({cursor.used} of {cursor.queue.bound} {unit}){why}",
            delay_s,
            self,
            tuple(c.name for c in full),
            all(c.queue.block_on_overflow for c in full),
        )

    def _find(self, row: int) -> _Stored:
        return self._stored[self._index(row)]

    def _index(self, row: int) -> int:
        return bisect_right(self._stored, row, lo=self._head, key=lambda s: s.start) - 1

    def _between(self, start: int, end: int) -> list[_Stored]:
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
            row, found = stored.start, start
            for rows in (rows for batch in stored.batches for rows, _, _ in batch.runs):
                row += rows
                if row > end:
                    break
                found = row
            if found > start:
                return found
        return end

    def _prune(self) -> None:
        """Forgets appends at the head that nobody needs; the list is compacted once half of it is forgotten."""
        stored, head = self._stored, self._head
        while head < len(stored) and not stored[head].held_by and not stored[head].waits:
            head += 1
        self._head = head
        if head > 64 and head * 2 > len(stored):
            del stored[:head]
            self._head = 0

    def _signal_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            if self.closed:
                room.set_exception(ShuttingDown(f"pipeline {self.pipeline} is shutting down"))
            else:
                room.set_result(None)
