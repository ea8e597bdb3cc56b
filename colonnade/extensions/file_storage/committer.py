"""Group commit: a thread that takes everything that waits, and commits it as one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

J = TypeVar("J")
# What one commit may take in; what is more waits for the next.
WEIGHT_PER_COMMIT = 64 << 20


@dataclass(slots=True)
class _Job(Generic[J]):
    what: J
    weight: int
    done: Callable[[Any], None]
    failed: Callable[[BaseException], None]


class Committer(Generic[J]):
    """Jobs are committed in the order of `submit`; their callbacks run on the event loop's thread."""

    def __init__(self, name: str, commit: Callable[[list[J]], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._commit = commit
        self._loop = loop
        self._changed = threading.Condition()
        self._waiting: list[_Job[J]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        what: J,
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
        weight: int = 0,
    ) -> None:
        """Either callback will be called: `done` with what the commit gave, `failed` with why nothing was committed."""
        with self._changed:
            if self._closing:
                raise RuntimeError("closed")
            self._waiting.append(_Job(what, weight, done, failed))
            self._changed.notify()

    def close(self) -> None:
        """Commits what waits, then ends. Blocks; callbacks still need the loop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            try:
                result = self._commit([job.what for job in jobs])
            except BaseException as error:
                self._tell([(job.failed, error) for job in jobs])
            else:
                self._tell([(job.done, result) for job in jobs])

    def _next(self) -> list[_Job[J]]:
        """What waits, as much as one commit takes; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            weight, count = 0, 0
            for job in self._waiting:
                if count and weight + job.weight > WEIGHT_PER_COMMIT:
                    break
                weight, count = weight + job.weight, count + 1
            jobs, self._waiting = self._waiting[:count], self._waiting[count:]
            return jobs

    def _tell(self, calls: list[tuple[Callable[[Any], None], Any]]) -> None:
        def tell() -> None:
            for call, value in calls:
                call(value)

        self._loop.call_soon_threadsafe(tell)
