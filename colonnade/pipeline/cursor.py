"""A cursor: how far one exporter has come in one log.

Rows of a log are numbered from 0. A cursor hands out half-open ranges of them (slices), in order; several may be
under way at once, so what is done is a set of ranges. A slice given back (reload, cancelled) comes again exactly as it
was cut: its range names the insert, and a repeat under the same name changes nothing in the store.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

from colonnade.pipeline.component import Slice, SliceLimits
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import SendingQueue

if TYPE_CHECKING:
    from colonnade.pipeline.log import MemoryLog


class RowRanges:
    """A set of row numbers that is mostly one range from 0: everything below `position`, and some ranges above it."""

    __slots__ = ("_above", "position")

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self._above: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> int:
        """Adds a range that does not overlap the set; gives the new position."""
        if start == self.position:
            self.position = end
            while self._above and self._above[0][0] == self.position:
                self.position = self._above.pop(0)[1]
        elif start < self.position:
            raise ValueError(f"rows {start}..{end} were done before (position {self.position})")
        else:
            self._above.insert(bisect_left(self._above, (start, end)), (start, end))
        return self.position

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges above the position, ascending."""
        return iter(self._above)


class Cursor:
    """One exporter's place in one log in memory. All methods belong to the event loop's thread.

    `held_*` is what the log keeps in memory for this cursor; `lag_rows` what the store does not have yet.
    """

    def __init__(self, log: MemoryLog, name: str, queue: SendingQueue, start: int) -> None:
        self.log = log
        self.name = name
        self.queue = queue
        self.done = RowRanges(start)
        self.next = start
        self.lag_rows = 0
        self.held_bytes = 0
        self.held_rows = 0
        self.held_requests = 0
        self.handed_bytes = 0
        self.next_attempt_at = 0.0
        self.last_error = ""
        self._returned: list[Slice] = []
        self._released_since: float | None = None
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
    def available_rows(self) -> int:
        """Rows not handed out yet, apart from slices given back."""
        return self.log.end - self.next

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
        """Whether that much more stays within the queue's bound. An empty queue takes anything: what is larger than
        the bound could never be taken otherwise."""
        more = {"bytes": nbytes, "items": rows, "requests": requests}[self.queue.bound_sizer]
        used = self.used
        return used == 0 or used + more <= self.queue.bound

    @property
    def lag_s(self) -> float:
        """Age of the oldest row that the store does not have; 0 when it has all."""
        since = [s for s in (self._released_since, self.log.appended_at(self.position)) if s is not None]
        return max(0.0, self.log.clock() - min(since)) if self.lag_rows and since else 0.0

    async def take(self, limits: SliceLimits, until_s: float | None = None) -> Slice | None:
        """The next slice, as soon as it is ready by `limits`. One caller at a time.

        None when the cursor was stopped, when it drains and nothing is left, or when the clock reached `until_s`.
        """
        while not self._stopped:
            if self._returned:
                return self._again(self._returned.pop(0))
            wait_s = self._due_in(limits)
            if wait_s is not None and (wait_s <= 0 or self._draining):
                return self._cut(limits)
            if self._draining:
                return None
            if until_s is not None:
                left_s = until_s - self.log.clock()
                if left_s <= 0:
                    return None
                wait_s = left_s if wait_s is None else min(wait_s, left_s)
            await self._sleep(limits, wait_s)
        return None

    def release(self, start: int, end: int, appended_at_s: float | None = None) -> None:
        """These rows need not stay in memory for this cursor; the store does not have them for good yet."""
        if appended_at_s is not None and self._released_since is None:
            self._released_since = appended_at_s
        self.handed_bytes -= self.log.release(self, start, end)

    def ack(self, start: int, end: int, error: ColonnadeError | None = None, *, released: bool = False) -> None:
        """These rows are done: stored, or given up with `error`, which callers that wait for the result get."""
        if not released:
            self.release(start, end)
        self._released_since = None
        self.lag_rows -= end - start
        self.done.add(start, end)
        self.log.resolve(self, start, end, error)

    def give_back(self, part: Slice) -> None:
        """Undoes `take`: the same range comes again, before anything else."""
        self.handed_bytes -= part.nbytes
        part.batches = []
        self._returned.append(part)
        self._returned.sort(key=lambda p: p.start)
        self._wake()

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

    def appended(self, rows: int, nbytes: int, requests: int) -> None:
        """Called by the log for every append."""
        self.lag_rows += rows
        self.held_rows += rows
        self.held_bytes += nbytes
        self.held_requests += requests
        # A waiter without a timer was waiting on an empty log and has to set one now.
        if self._waiter is not None and (not self._timed or self._full_enough(self._limits)):
            self._wake()

    def _again(self, part: Slice) -> Slice:
        part.batches = self.log.read(part.start, part.end)
        self.handed_bytes += part.nbytes
        return part

    def _cut(self, limits: SliceLimits) -> Slice:
        part = self.log.cut(self.next, limits)
        self.next = part.end
        self.handed_bytes += part.nbytes
        return part

    def _full_enough(self, limits: SliceLimits) -> bool:
        if not limits.min_rows and not limits.min_bytes:
            return True
        waiting_bytes = self.log.total_bytes - self.log.bytes_at(self.next)
        if (limits.min_rows and self.available_rows >= limits.min_rows) or (
            limits.min_bytes and waiting_bytes >= limits.min_bytes
        ):
            return True
        if (limits.max_rows and self.available_rows >= limits.max_rows) or (
            limits.max_bytes and waiting_bytes >= limits.max_bytes
        ):
            return True
        # Half of the room that slices under way leave: waiting longer would fill the log and refuse callers.
        return self._half_full(waiting_bytes)

    def _half_full(self, waiting_bytes: int) -> bool:
        if self.queue.bound_sizer == "bytes":
            return waiting_bytes * 2 >= self.queue.bound - self.handed_bytes
        waiting = self.available_rows if self.queue.bound_sizer == "items" else self.held_requests
        return waiting * 2 >= self.queue.bound

    def _due_in(self, limits: SliceLimits) -> float | None:
        """Seconds until a slice is ready; None while nothing is there."""
        if not self.available_rows:
            return None
        if self._full_enough(limits):
            return 0.0
        since = self.log.appended_at(self.next)
        return 0.0 if since is None else since + limits.max_age_s - self.log.clock()

    async def _sleep(self, limits: SliceLimits, wait_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        self._limits, self._timed = limits, wait_s is not None and self.available_rows > 0
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
