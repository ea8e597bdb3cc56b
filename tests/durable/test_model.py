"""A model of log, cursors and slices, walked at random: whatever happens in whatever order, every row that was answered
is in every store once, because a slice that may have been sent comes again under its name."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from colonnade.extensions.file_storage import store as store_module
from colonnade.pipeline.component import Slice, SliceLimits
from colonnade.pipeline.cursor import Cursor
from tests.durable.kit import Disk, append, queue
from tests.pipeline.kit import Numbers, numbers_of

T = TypeVar("T")
NAMES = ("a", "b")
cursors = st.sampled_from(NAMES)


class LogMachine(RuleBasedStateMachine):
    """Two exporters of one durable log with tiny segments and little memory. `stores` are what they have, by the
    name of the slice that brought it: a repeat replaces itself, as an insert under a known name does."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.disk = Disk(self.folder)
        self.numbers = Numbers()
        self.stores: dict[str, dict[tuple[int, int], list[int]]] = {name: {} for name in NAMES}
        self.tiny = mock.patch.multiple(store_module, SEGMENT_BYTES=1_500, MEMORY_BYTES=3_000)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, 30))

    @initialize()
    def begin(self) -> None:
        self.tiny.start()
        self.store = self.run(self.disk.open(fsync=False))
        self.open_cursors()

    def open_cursors(self) -> None:
        self.log = self.store.open_log("logs", "logs")
        self.cursors: dict[str, Cursor] = {name: self.log.open_cursor(name, queue()) for name in NAMES}
        self.under_way: dict[str, list[Slice]] = {name: [] for name in NAMES}
        self.run(self.log.ready())

    # --- what can happen

    @rule(rows=st.integers(1, 30), requests=st.integers(1, 3))
    def answer(self, rows: int, requests: int) -> None:
        self.run(append(self.numbers, rows, self.log, requests=requests))

    @rule(name=cursors, max_rows=st.integers(1, 50), sent=st.booleans())
    def take(self, name: str, max_rows: int, sent: bool) -> None:
        """A slice, which is perhaps sent; no answer comes yet."""
        cursor = self.cursors[name]
        if not cursor.waiting_rows and not cursor._returned:
            return
        part = self.run(cursor.take(SliceLimits(min_rows=0, max_rows=max_rows)))
        assert part is not None
        self.under_way[name].append(part)
        if sent:
            self.send(name, part)

    def send(self, name: str, part: Slice) -> None:
        """As a sender: the rows, the note, and then the store has them."""
        cursor = self.cursors[name]
        self.run(cursor.load(part))
        self.run(cursor.note(part))
        rows = numbers_of(part.batches)
        assert self.stores[name].setdefault((part.start, part.end), rows) == rows

    @rule(name=cursors, which=st.integers(0, 3), answered=st.booleans(), waits=st.booleans())
    def send_again(self, name: str, which: int, answered: bool, waits: bool) -> None:
        """Sent; perhaps the answer comes, perhaps it waits for its next attempt without its rows."""
        if not self.under_way[name]:
            return
        part = self.under_way[name][which % len(self.under_way[name])]
        self.send(name, part)
        if answered:
            self.under_way[name].remove(part)
            self.cursors[name].ack(part)
        elif waits:
            self.cursors[name].unload(part)

    @rule(name=cursors)
    def give_all_back(self, name: str) -> None:
        for part in self.under_way[name]:
            self.cursors[name].give_back(part)
        self.under_way[name] = []

    @rule()
    def write_down(self) -> None:
        self.run(self.store.flush())

    @rule()
    def tidy(self) -> None:
        async def tidied() -> None:
            while (segment := self.store._to_move()) is not None:
                await self.store._move_out(segment)
            self.store._seal_soon()
            await self.store.flush()

        self.run(tidied())

    @rule()
    def crash(self) -> None:
        before, self.store = self.store, self.run(self.disk.after_crash(self.store, fsync=False))
        self.run(self.disk.close(before))
        self.open_cursors()

    @rule()
    def restart(self) -> None:
        self.run(self.disk.close(self.store))
        # What was under way is not done: the folder is what the crash left.
        self.store = self.run(self.disk.open(self.store.folder, fsync=False))
        self.open_cursors()

    # --- what must hold

    @invariant()
    def lags_are_what_is_not_done(self) -> None:
        for name, cursor in getattr(self, "cursors", {}).items():
            rest = sum(end - start for start, end in cursor.done.rest(0, self.log.end))
            assert cursor.lag_rows == rest, name
            assert cursor.waiting_rows <= cursor.lag_rows

    def teardown(self) -> None:
        try:
            if hasattr(self, "cursors"):
                self.finish()
        finally:
            self.run(self.disk.close_all())
            self.runner.close()
            self.tiny.stop()
            shutil.rmtree(self.folder)

    def finish(self) -> None:
        """Every cursor empties: each store has each row, once."""
        for name, cursor in self.cursors.items():
            for part in self.under_way[name]:
                cursor.give_back(part)
            while cursor.lag_rows:
                part = self.run(cursor.take(SliceLimits(min_rows=0, max_rows=40)))
                assert part is not None
                self.send(name, part)
                cursor.ack(part)
            stored = sorted(row for rows in self.stores[name].values() for row in rows)
            assert stored == list(range(self.numbers.next)), name


LogMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_every_row_is_stored_once = LogMachine.TestCase
