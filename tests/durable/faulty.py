"""A durable log whose n-th change of a file fails, for all n: what was answered is there, what was refused is not.

Run with `fault.c` preloaded: `python -m tests.durable.faulty KIND ERROR STEP` tries every STEP-th n, prints how many.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import sqlite3
import sys
import tempfile
from pathlib import Path

from colonnade.extensions.file_storage import store as store_module
from colonnade.extensions.file_storage.store import StorageError
from colonnade.pipeline.component import SliceLimits
from colonnade.pipeline.errors import Retryable
from tests.durable.kit import Disk, append, queue, read_out
from tests.pipeline.kit import Numbers, numbers_of

KINDS = {"once": 0, "short": 1, "for a while": 2}
PIECES = SliceLimits(min_rows=0, max_rows=10)


class Scenario:
    """One run: rows go in, slices are noted and done, segments change, while something fails."""

    def __init__(self, folder: Path, kind: int, error: int) -> None:
        self.disk = Disk(folder)
        self.kind, self.error = kind, error
        self.library = ctypes.CDLL(None)
        self.answered: set[int] = set()
        self.done: set[int] = set()

    def arm(self, n: int) -> None:
        path = str(self.disk.folder / "log").encode()
        self.library.fault_arm(path, ctypes.c_long(n), self.kind, self.error)

    def calls(self) -> int:
        self.library.fault_calls.restype = ctypes.c_long
        return self.library.fault_calls()

    async def run(self, n: int) -> int:
        """Gives how many changes there were before everything was well again."""
        self.arm(n)
        numbers = Numbers()
        try:
            store = await self.disk.open()
        except (StorageError, OSError, sqlite3.Error):
            self.arm(0)
            store = await self.disk.open()
        log = store.open_log("logs", "logs")
        cursor = log.open_cursor("a", queue())
        try:
            # The daemon takes no request before the log knows who reads it.
            await log.ready()
        except Retryable:
            self.arm(0)
            await log.ready()
        for _ in range(4):
            await self._append(numbers, log)
        await self._deliver(cursor)
        for _ in range(4):
            await self._append(numbers, log)
        calls = self.calls()
        self.arm(0)
        # Everything works again by itself, and what was refused is taken now.
        before = len(self.answered)
        for _ in range(3):
            await self._append(numbers, log)
        assert len(self.answered) == before + 9, f"n={n}: it does not recover"
        await self._deliver(cursor)
        await store.flush()
        await self._check(n, await self.disk.open(self.disk.crash(store)))
        await self.disk.close(store)
        await self._check(n, await self.disk.open())
        await self.disk.close_all()
        return calls

    async def _append(self, numbers: Numbers, log) -> None:
        first = numbers.next
        try:
            await append(numbers, 3, log)
        except Retryable:
            # A crash right now must not bring back what was refused.
            copy = await self.disk.open(self.disk.crash(log.store))
            await self._check(f"{first} refused", copy)
            await self.disk.close(copy)
            return
        self.answered |= {first, first + 1, first + 2}

    async def _deliver(self, cursor) -> None:
        """Two slices, as a sender would: given back where they can not be noted."""
        for _ in range(2):
            if not cursor.lag_rows:
                return
            part = await asyncio.wait_for(cursor.take(PIECES), 5)
            try:
                await cursor.load(part)
                await cursor.note(part)
            except Retryable:
                cursor.give_back(part)
                return
            self.done |= set(numbers_of(part.batches))
            cursor.ack(part)

    async def _check(self, n: object, store) -> None:
        cursor = store.open_log("logs", "logs").open_cursor("a", queue())
        found = await read_out(cursor, PIECES, 5)
        assert len(found) == len(set(found)), f"n={n}: {found}"
        # What the store had already may come again where the last word of that is not on disk: it is in doubt then.
        assert self.answered - self.done <= set(found) <= self.answered, f"n={n}: {found} of {self.answered}"
        assert not self.disk.host.counts["file_storage_lost_rows"], f"n={n}"


def main(kind: str, error: str, step: str) -> None:
    store_module.SEGMENT_BYTES = 1_000
    n = tried = 0
    while True:
        n += int(step)
        with tempfile.TemporaryDirectory() as folder:
            scenario = Scenario(Path(folder), KINDS[kind], getattr(errno, error))
            calls = asyncio.run(scenario.run(n))
        tried += 1
        if n > calls:
            break
    print(f"{tried} tried")


if __name__ == "__main__":
    main(*sys.argv[1:])
