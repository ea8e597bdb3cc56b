"""A cursor: how far one exporter has come in one log.

Rows of a log are numbered from 0. A cursor hands out half-open ranges of them (slices), in order; several may be
under way at once, so what is done is a set of ranges. A slice given back (reload, cancelled, crash) comes again exactly
as it was cut: its range names the insert, and a repeat under the same name changes nothing in the store.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from colonnade.pipeline.component import Slice, SliceLimits
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import SendingQueue

if TYPE_CHECKING:
    from colonnade.pipeline.log import MemoryLog, Stored


class RowRanges:
    """A set of row numbers that is mostly one range from 0: everything below `position`, and some ranges above it."""

    __slots__ = ("_above", "position")

    def __init__(self, position: int = 0, above: Iterable[tuple[int, int]] = ()) -> None:
        self.position = position
        self._above = [(start, end) for start, end in above]

    def add(self, start: int, end: int) -> int:
        """Adds a range that does not overlap the set; gives the new position."""
        if start < self.position:
            raise ValueError(f"rows {start}..{end} were done before (position {self.position})")
        above, index = self._above, bisect_left(self._above, (start, end))
        if (index and above[index - 1][1] > start) or (index < len(above) and above[index][0] < end):
            raise ValueError(f"rows {start}..{end} overlap rows that were done before: {above}")
        if index < len(above) and above[index][0] == end:
            end = above.pop(index)[1]
        if index and above[index - 1][1] == start:
            index -= 1
            start = above.pop(index)[0]
        if start == self.position:
            self.position = end
        else:
            above.insert(index, (start, end))
        return self.position

    def rest(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of start..end that are not in the set, ascending."""
        at = max(start, self.position)
        for low, high in self._above[max(bisect_right(self._above, (at, at)) - 1, 0) :]:
            if low >= end:
                break
            if at < low:
                yield at, low
            at = max(at, high)
        if at < end:
            yield at, end

    def cover(self, start: int, end: int) -> bool:
        """Whether the set has all of start..end."""
        return next(self.rest(start, end), None) is None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges above the position, ascending."""
        return iter(self._above)


def _uncounted(rows: int) -> None:
    """Nobody counts them."""


class Totals(NamedTuple):
    """What some rows come to: in memory, in units of a log's bound, and as requests that end among them."""

    rows: int = 0
    nbytes: int = 0
    stored_bytes: int = 0
    requests: int = 0


class Cursor:
    """One exporter's place in one log. All methods belong to the event loop's thread.

    `lag_*` is what the store does not have yet; `held_*` what the log keeps for this cursor, in units of its bound.
    Rows that wait (`waiting_*`) have not been handed out.
    """

    survives: bool = False
    """Whether it outlives the process, and with it the rows that are not done."""

    def __init__(self, log: MemoryLog, name: str, queue: SendingQueue, done: RowRanges) -> None:
        self.log = log
        self.name = name
        self.queue = queue
        self.done = done
        self.next = done.position
        self.fences: list[int] = []
        """Where the parts of a stream ended that was being published when the process died: they end there again."""
        self.lag_rows = 0
        self.lag_bytes = 0
        self.held_bytes = 0
        self.held_rows = 0
        self.held_requests = 0
        self.waiting_rows = 0
        self.waiting_bytes = 0
        self.waiting_stored_bytes = 0
        self.waiting_since_s: float | None = None
        self.recovered_rows = 0
        """What it had to do when it was opened, from before; whoever counts it sets it to 0."""
        self.next_attempt_at = 0.0
        self.last_error = ""
        self.on_lost: Callable[[int], None] = _uncounted
        self._returned: list[Slice] = []
        self._flight: dict[int, Slice] = {}
        self._limits = SliceLimits()
        self._waiter: asyncio.Future[None] | None = None
        self._timed = False
        self._draining = False
        self._stopped = False

    @property
    def position(self) -> int:
        """Every row below is done."""
        return self.done.position

    @property
    def fence(self) -> int | None:
        """Where the next slice ends, whatever its limits; None = where the limits say."""
        return next((row for row in self.fences if row > self.next), None)

    @property
    def used(self) -> int:
        """What is held, in units of the queue's sizer."""
        match self.queue.bound_sizer:
            case "bytes":
                return self.held_bytes
            case "items":
                return self.held_rows
            case "requests":
                return self.held_requests

    def fits(self, rows: int, nbytes: int, requests: int) -> bool:
        """Whether that much more stays within the queue's bounds. An empty queue takes anything: what is larger than
        the bound could never be taken otherwise."""
        more = {"bytes": nbytes, "items": rows, "requests": requests}[self.queue.bound_sizer]
        used = self.used
        return used == 0 or (used + more <= self.queue.bound and not self.too_old)

    @property
    def too_old(self) -> bool:
        """Whether its oldest row waits for longer than the queue's bound."""
        return bool(self.queue.max_age) and self.lag_s > self.queue.max_age

    @property
    def lag_s(self) -> float:
        """Age of the oldest row that the store does not have; 0 when it has all."""
        since = [part.appended_at_s for parts in (self._flight.values(), self._returned) for part in parts]
        if self.waiting_since_s is not None:
            since.append(self.waiting_since_s)
        return max(0.0, self.log.clock() - min(since)) if self.lag_rows and since else 0.0

    async def take(self, limits: SliceLimits, until_s: float | None = None) -> Slice | None:
        """The next slice, as soon as it is ready by `limits`. One caller at a time.

        None when the cursor was stopped, when it drains and nothing is left, or when the clock reached `until_s`.
        """
        while not self._stopped:
            if self._returned:
                part = self._returned.pop(0)
                self._flight[part.start] = part
                return part
            wait_s = self._due_in(limits)
            if wait_s is not None and (wait_s <= 0 or self._draining):
                part = await self._cut(limits)
                if part is not None:
                    return part
                continue
            if self._draining:
                return None
            if until_s is not None:
                left_s = until_s - self.log.clock()
                if left_s <= 0:
                    return None
                wait_s = left_s if wait_s is None else min(wait_s, left_s)
            await self._sleep(limits, wait_s)
        return None

    async def note(self, part: Slice) -> None:
        """Called before a slice is sent: a durable log writes its range and plan down. Raises Retryable."""

    async def load(self, part: Slice) -> None:
        """Gets the rows of a slice that came again, or that `unload` let go. Raises Retryable."""
        if part.batches:
            return
        part.batches = await self.log.read(part.start, part.end)
        rows = sum(batch.rows for batch in part.batches)
        if rows < part.rows:
            self._shrink(part, rows)

    def unload(self, part: Slice) -> None:
        """The slice will not be sent soon: a log that has its rows elsewhere lets them go from memory."""

    def release(self, part: Slice) -> None:
        """A log in memory needs not keep these rows for this cursor; the store does not have them for good yet."""
        self._free(part)

    def ack(self, part: Slice, error: ColonnadeError | None = None, *, released: bool = False) -> None:
        """These rows are done: stored, or given up with `error`, which callers that wait for the result get."""
        if not released:
            self._free(part)
        for start in [start for start in self._flight if part.start <= start < part.end]:
            del self._flight[start]
        self.lag_rows -= part.rows
        self.lag_bytes -= part.stored_bytes
        self.done.add(part.start, part.end)
        self.log.resolve(self, part.start, part.end, error)

    def give_back(self, part: Slice) -> None:
        """Undoes `take`: the same range comes again, before anything else."""
        part.batches = []
        self._flight.pop(part.start, None)
        self._returned.append(part)
        self._returned.sort(key=lambda p: p.start)
        self._wake()

    def parts(self, roll: Slice) -> list[Slice]:
        """The slices under way that make up a stream."""
        return [part for part in self._flight.values() if roll.start <= part.start < roll.end]

    def rewind(self, roll: Slice) -> bool:
        """Undoes `take` of everything from a stream's start on, where the log still has it; else gives False."""
        del roll
        return False

    def expect_stream(self) -> None:
        """A stream sender takes the cursor: a log that survives begins the stream anew, where it began before."""

    def drain(self) -> None:
        """From now on `take` gives what is there without waiting, then None."""
        self._draining = True
        self._wake()

    def stop(self) -> None:
        """From now on `take` gives None."""
        self._stopped = True
        self._wake()

    def resume(self) -> None:
        """Undoes `drain` and `stop`: another sender takes over."""
        self._draining = self._stopped = False

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def stopped(self) -> bool:
        return self._stopped

    def appended(self, stored: Stored) -> None:
        """Called by the log for every append."""
        rows = stored.end - stored.start
        self.lag_rows += rows
        self.lag_bytes += stored.stored_bytes
        self.held_rows += rows
        self.held_bytes += stored.stored_bytes
        self.held_requests += stored.requests
        self.waiting_rows += rows
        self.waiting_bytes += stored.nbytes
        self.waiting_stored_bytes += stored.stored_bytes
        if self.waiting_since_s is None:
            self.waiting_since_s = stored.at_s
        # A waiter without a timer was waiting on an empty log and has to set one now.
        if self._waiter is not None and (not self._timed or self._full_enough(self._limits)):
            self._wake()

    def _free(self, part: Slice) -> None:
        self.held_rows -= part.rows
        self.held_bytes -= part.stored_bytes
        self.held_requests -= part.requests
        self.log.forget(self, part.start, part.end)
        self.log.signal_room()

    def recount(self, waiting: Totals, since_s: float | None) -> None:
        """What waits, counted anew."""
        before, under_way = self.lag_rows, [*self._flight.values(), *self._returned]
        self.waiting_rows, self.waiting_bytes, self.waiting_stored_bytes = waiting[:3]
        self.waiting_since_s = since_s
        self.lag_rows = self.held_rows = waiting.rows + sum(part.rows for part in under_way)
        self.lag_bytes = self.held_bytes = waiting.stored_bytes + sum(part.stored_bytes for part in under_way)
        self.held_requests = waiting.requests + sum(part.requests for part in under_way)
        if self.lag_rows < before:
            self.on_lost(before - self.lag_rows)

    def _shrink(self, part: Slice, rows: int) -> None:
        """Rows of a slice under way are lost."""
        self.on_lost(part.rows - rows)
        lost_bytes = part.stored_bytes * (part.rows - rows) // part.rows
        self.lag_rows -= part.rows - rows
        self.held_rows -= part.rows - rows
        self.lag_bytes -= lost_bytes
        self.held_bytes -= lost_bytes
        part.rows, part.stored_bytes = rows, part.stored_bytes - lost_bytes

    async def _cut(self, limits: SliceLimits) -> Slice | None:
        """The next slice; None when the rows that waited turned out to be lost."""
        part, since_s = await self.log.cut(self, limits)
        if part is None:
            return None
        if part.start > self.next:
            # Rows that lie nowhere: what there is to say of them has been said.
            self.done.add(self.next, part.start)
        self.next = part.end
        self._flight[part.start] = part
        self.waiting_rows -= part.rows
        self.waiting_bytes -= part.nbytes
        self.waiting_stored_bytes -= part.stored_bytes
        if since_s is None and self.waiting_rows:
            since_s = self.log.clock()  # They came while the slice was read.
        self.waiting_since_s = since_s
        return part

    def _full_enough(self, limits: SliceLimits) -> bool:
        if self.fences or not (limits.min_rows or limits.min_bytes):
            return True
        if (limits.min_rows and self.waiting_rows >= limits.min_rows) or (
            limits.min_bytes and self.waiting_bytes >= limits.min_bytes
        ):
            return True
        if (limits.max_rows and self.waiting_rows >= limits.max_rows) or (
            limits.max_bytes and self.waiting_bytes >= limits.max_bytes
        ):
            return True
        # Half of the room that slices under way leave: waiting longer would fill the log and refuse callers.
        return self._half_full()

    def _half_full(self) -> bool:
        if self.queue.bound_sizer == "bytes":
            handed = self.held_bytes - self.waiting_stored_bytes
            return self.waiting_stored_bytes * 2 >= self.queue.bound - handed
        waiting = self.waiting_rows if self.queue.bound_sizer == "items" else self.held_requests
        return waiting * 2 >= self.queue.bound

    def _due_in(self, limits: SliceLimits) -> float | None:
        """Seconds until a slice is ready; None while nothing is there."""
        if not self.waiting_rows:
            return None
        if self._full_enough(limits) or self.waiting_since_s is None:
            return 0.0
        return self.waiting_since_s + limits.max_age_s - self.log.clock()

    async def _sleep(self, limits: SliceLimits, wait_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        self._limits, self._timed = limits, wait_s is not None and self.waiting_rows > 0
        timer = None if wait_s is None else loop.call_later(wait_s, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
