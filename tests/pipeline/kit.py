"""A test kit for the pipeline: hosts that remember, batches that are numbered, stores that fail as told."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from colonnade.native import Batch
from colonnade.pipeline.component import ComponentId, Exporter, Slice, SliceLimits, Status
from colonnade.pipeline.instruments import BY_NAME
from colonnade.pipeline.settings import RetryOnFailure, SendingQueue

EAGER = SliceLimits(min_rows=0, max_rows=0, max_bytes=0, max_age_s=0)
FAST_RETRY = {"initial_interval": "1us", "max_interval": "1us"}


class FakeHost:
    """Counts in memory; refuses instruments and labels that the table does not have."""

    def __init__(self, id: str, folder: Path | None = None, kind: str = "exporter") -> None:
        self.id = ComponentId.parse(id)
        self.kind = kind
        self.logger = logging.getLogger(f"test.{id}")
        self.listener: Any = None
        self.counts: Counter[str] = Counter()
        self.labelled: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.gauges: dict[str, float | Callable[[], float]] = {}
        self.statuses: list[Status] = []
        self.now_ns = 1_800_000_000_000_000_000
        self._folder = folder

    def clock_ns(self) -> int:
        return self.now_ns

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        self._check(name, "counter", labels)
        self.counts[name] += n
        self.labelled[name, tuple(sorted(labels.items()))] += n

    def gauge(self, name: str, value: float | Callable[[], float], **labels: str) -> None:
        self._check(name, "gauge", labels)
        self.gauges[name] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._check(name, "histogram", labels)

    def _check(self, name: str, type: str, labels: dict[str, str]) -> None:
        instrument = BY_NAME[name]
        assert instrument.type == type, name
        own = {self.kind} & set(instrument.labels)
        assert set(labels) | own == set(instrument.labels), (name, labels)

    def labelled_of(self, name: str, **labels: str) -> float:
        """What was counted under these labels, whatever the others are."""
        wanted = set(labels.items())
        return sum(n for (counted, told), n in self.labelled.items() if counted == name and wanted <= set(told))

    def gauge_value(self, name: str) -> float:
        value = self.gauges[name]
        return value() if callable(value) else value

    def extension(self, id: object) -> Any:
        raise KeyError(id)

    def report(self, status: Status) -> None:
        self.statuses.append(status)

    def show(self, facts: Callable[[], dict[str, Any]]) -> None:
        self.facts = facts

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, function, *args)

    async def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, function, *args)

    def folder(self, name: str) -> Path:
        # Without a folder nothing is there, and nothing can be written.
        return (self._folder or Path(os.devnull)) / str(self.id).replace("/", "_") / name


class Numbers:
    """Makes batches whose rows are numbered, so that a test can say which arrived."""

    def __init__(self) -> None:
        self.next = 0

    def batch(self, rows: int, signal: str = "logs", tenant: str = "") -> Batch:
        numbers = [str(n) for n in range(self.next, self.next + rows)]
        self.next += rows
        data = pa.record_batch({"message": pa.array(numbers, pa.string())})
        return Batch.from_arrow(data, signal, tenant=tenant)


def numbers_of(batches: list[Batch]) -> list[int]:
    return [int(n) for batch in batches for n in pa.record_batch(batch)["message"].to_pylist()]


class Store(Exporter):
    """An exporter that keeps what it gets; `plan(n, part)` may raise or wait at the n-th attempt (from 0)."""

    def __init__(
        self,
        id: str = "store",
        plan: Callable[[int, Slice], Any] | None = None,
        *,
        queue: dict[str, Any] | None = None,
        retry: dict[str, Any] | None = None,
        limits: SliceLimits = EAGER,
    ) -> None:
        super().__init__(ComponentId.parse(id))
        self.plan = plan
        self.queue = SendingQueue.model_validate(queue or {})
        self.retry = RetryOnFailure.model_validate(FAST_RETRY | (retry or {}))
        self.slice = limits
        self.rows: list[int] = []
        self.ranges: list[tuple[int, int]] = []
        self.names: list[tuple[object, ...]] = []
        self.attempts = 0

    async def export(self, part: Slice) -> None:
        attempt, self.attempts = self.attempts, self.attempts + 1
        if self.plan is not None:
            result = self.plan(attempt, part)
            if result is not None:
                await result
        assert sum(batch.rows for batch in part.batches) == part.rows
        self.rows += numbers_of(part.batches)
        self.ranges.append((part.start, part.end))
        self.names.append((part.log_id, part.start, part.end, part.pieces_done, part.offset, part.rows))


async def until(condition: Callable[[], bool]) -> None:
    """Lets other tasks run until the condition holds; the test's own timeout bounds it."""
    while not condition():  # noqa: ASYNC110  whatever makes it true tells nobody
        await asyncio.sleep(0)
