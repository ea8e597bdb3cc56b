"""The sender: takes slices of one pipeline's log to one exporter, and sees each through.

A slice ends in one of three ways, each counted: stored; parked as dead letter (refused for good, or given up by the
user's `max_elapsed_time`); left in the log (shutdown, reload). A sender knows nothing of other exporters: a slow or
failing one only lets its own cursor fall behind. Order inside, as in the Collector: queue, batch, retry, timeout, send.

Before a slice is sent, the log writes down that it will be (`Cursor.note`), so that after a crash the same range comes
again, under the same name and in doubt. A slice refused for good is halved until the bad rows are alone
(`halving.py`). While a store fails, at most two slices are under way: one waits, the other tries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from colonnade.pipeline import faults
from colonnade.pipeline.component import NOUNS, Exporter, Host, Processor, Slice, SliceLimits, Status, StreamExporter
from colonnade.pipeline.dead_letter import DeadLetters
from colonnade.pipeline.dead_letter_retry import retry_dead_letters
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable, ShuttingDown
from colonnade.pipeline.halving import Halving, by_reason
from colonnade.pipeline.log import HandoverLog
from colonnade.pipeline.retry import Backoff
from colonnade.pipeline.settings import SendingQueue

Send = Callable[[], Awaitable[None]]


# Size of the dead letters that a log in memory leaves at shutdown.
REST_SLICE_BYTES = 16 << 20
# Slices whose rows are in memory at once, where the log has them elsewhere.
LOADED_BYTES = 256 << 20
SLICES_WHILE_FAILING = 2


class LeftInLog(Exception):
    """The slice stays in the log: the sender is stopping and its last attempt failed."""


def slice_limits(exporter: Exporter, processors: list[Processor]) -> SliceLimits:
    """The exporter's slice, as `batch` processors and then `sending_queue.batch` change it where values are set.

    A stream exporter rolls as its own section says: files as small as `batch` makes requests would be of no use.
    """
    limits = exporter.slice
    if not isinstance(exporter, StreamExporter):
        for processor in processors:
            limits = processor.slices(limits)
    return _queue_limits(exporter.queue, limits)


def _queue_limits(queue: SendingQueue, limits: SliceLimits) -> SliceLimits:
    batch = queue.batch
    if batch is None:
        return limits
    given, in_bytes = batch.model_fields_set, queue.batch_sizer == "bytes"
    if "flush_timeout" in given:
        limits = replace(limits, max_age_s=batch.flush_timeout)
    if "min_size" in given:
        rows, nbytes = (0, batch.min_size) if in_bytes else (batch.min_size, 0)
        limits = replace(limits, min_rows=rows, min_bytes=nbytes)
    if "max_size" in given:
        limits = replace(limits, max_bytes=batch.max_size) if in_bytes else replace(limits, max_rows=batch.max_size)
    return limits


def partitions(part: Slice, keys: tuple[str, ...]) -> Iterator[Slice]:
    """The slice, split so that rows of different values of these request headers are apart; all keep its range.

    Copies nothing: batches are cut where requests begin. Without keys the slice itself.
    """
    if not keys:
        yield part
        return
    groups: dict[tuple[str, ...], Slice] = {}
    for batch in part.batches:
        row = 0
        for rows, _, metadata in batch.runs:
            values = dict(metadata)
            group = groups.setdefault(
                tuple(values.get(key.lower(), "") for key in keys), replace(part, batches=[], rows=0, nbytes=0)
            )
            group.batches.append(batch.slice(row, rows))
            group.rows += rows
            group.nbytes += batch.nbytes * rows // max(batch.rows, 1)
            row += rows
    yield from groups.values()


class Sender:
    """One exporter of one pipeline. Tasks belong to the loop that `start` runs on."""

    def __init__(
        self,
        log: HandoverLog,
        exporter: Exporter,
        host: Host,
        limits: SliceLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = str(exporter.id)
        self.exporter = exporter
        self.host = host
        self.limits = limits
        self.log = log
        self.cursor = log.open_cursor(self.name, exporter.queue)
        self.cursor.on_lost = self._count_damaged
        self._clock = clock
        self._labels = {"pipeline": log.pipeline, "data_type": log.signal}
        self._noun = NOUNS[log.signal]
        self.letters = DeadLetters(lambda: host.folder("dead_letter"), exporter.dead_letter)
        self._parking = asyncio.Lock()
        self._cutting = asyncio.Lock()
        self._trying = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._eased = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._under_way: list[Slice] = []
        self._failing = False

    def start(self) -> None:
        """Starts the consumers."""
        self.cursor.resume()
        self._hurry.clear()
        self._show_gauges()
        self.host.show(self._facts)
        self.host.report(Status("ok"))
        if self.cursor.recovered_rows:
            self.count_again(self.cursor.recovered_rows)
            self.cursor.recovered_rows = 0
        for number in range(self._consumers()):
            name = f"{self.log.pipeline} -> {self.name} #{number}"
            self._tasks.append(asyncio.create_task(self._run(), name=name))
        if self.exporter.dead_letter.enabled:
            name = f"{self.log.pipeline} -> {self.name} dead letters"
            self._tasks.append(asyncio.create_task(self._retry_dead_letters(), name=name))

    async def drain(self, deadline_s: float) -> int:
        """Sends what is in the log, one attempt for each slice, until the deadline. What a log in memory still holds is
        parked; what is on disk stays there.

        Gives the rows that were not stored and are not in a log that survives. Idempotent.
        """
        before = self.cursor.lag_rows
        self.cursor.drain()
        await self._finish(deadline_s)
        left = self.cursor.lag_rows
        if not left:
            return 0
        why = f"; last error: {self.cursor.last_error}" if self.cursor.last_error else ""
        what = (self.name, left, before, self.log.pipeline)
        if self.cursor.survives:
            text = "exporter %s: %d of %d rows of pipeline %s wait in the log for the next start%s"
            self.host.logger.warning(text, *what, why)
            return 0
        text = "exporter %s: %d of %d rows of pipeline %s were not stored before shutdown%s"
        self.host.logger.error(text, *what, why)
        await self._park_rest()
        return left

    async def hand_over(self, deadline_s: float) -> None:
        """Stops so that another sender can take the same cursor: slices under way finish or go back to the log."""
        self.cursor.stop()
        await self._finish(deadline_s)

    async def _finish(self, deadline_s: float) -> None:
        self._hurry.set()
        self._eased.set()
        tasks, self._tasks = self._tasks, []
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=deadline_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self.cursor.stop()

    def _consumers(self) -> int:
        return self.exporter.queue.num_consumers

    async def _run(self) -> None:
        """One consumer. Only one at a time waits for the next slice, so slices are cut in order."""
        while True:
            async with self._cutting:
                part = await self._take(self.limits)
            if part is None:
                return
            try:
                error = await self._deliver(part)
            except (LeftInLog, asyncio.CancelledError) as left:
                self.cursor.give_back(part)
                if isinstance(left, LeftInLog):
                    # The store does not answer: trying what comes after it would use up the deadline for nothing.
                    self.cursor.stop()
                    return
                raise
            self.cursor.ack(part, error)
            faults.reached("done")

    async def _take(self, limits: SliceLimits, until_s: float | None = None) -> Slice | None:
        """The next slice, once one may be taken; trouble with the log's disk is waited for."""
        while self._holds_back() and not self._hurry.is_set():
            self._eased.clear()
            await self._eased.wait()
        backoff = Backoff(self.exporter.retry, self._clock())
        while True:
            try:
                return await self.cursor.take(limits, until_s)
            except Retryable as error:
                self._tell_failure(error, f"reading the log of pipeline {self.log.pipeline} failed")
                if self._hurry.is_set():
                    return None
                await self._pause(backoff.interval_s())
                backoff.attempts += 1

    def _holds_back(self) -> bool:
        """Whether what is under way should end before more is taken."""
        if self._failing and len(self._under_way) >= SLICES_WHILE_FAILING:
            return True
        return self.log.store is not None and sum(p.nbytes for p in self._under_way if p.batches) >= LOADED_BYTES

    async def _deliver(self, part: Slice) -> ColonnadeError | None:
        """Sends every partition of a slice; gives the first error that ended one for good."""
        first: ColonnadeError | None = None
        part.keys = self._partition_keys() if part.keys is None else part.keys
        self._under_way.append(part)
        try:
            while part.rows:
                error = await self.see_through(lambda: self._send(part), part, unload=True)
                if error is not None:
                    # It may have waited for so long that its rows are not in memory any more.
                    await self.see_through(lambda: self.cursor.load(part), part)
                if not part.rows:
                    break
                pieces = list(partitions(part, part.keys))
                piece = pieces[part.pieces_done]
                rows = piece.rows
                if error is not None:
                    rows = await self.settle_refused(piece, error, self.exporter.export)
                    first = first or error
                if rows:
                    self.count_stored(rows, piece.nbytes * rows // piece.rows)
                faults.reached("stored")
                part.pieces_done += 1
                if part.pieces_done == len(pieces):
                    break
        finally:
            self._under_way.remove(part)
            self._eased.set()
        return first

    async def _send(self, part: Slice) -> None:
        """One attempt at the first partition that is not settled."""
        await self.cursor.load(part)
        if not part.rows:
            return
        pieces = list(partitions(part, part.keys or ()))
        await self.cursor.note(part)
        faults.reached("note")
        await self.exporter.export(pieces[part.pieces_done])

    async def _retry_dead_letters(self) -> None:
        with suppress(LeftInLog):
            await retry_dead_letters(self, self._hurry)

    async def settle_refused(
        self, piece: Slice, error: ColonnadeError, send: Callable[[Slice], Awaitable[None]]
    ) -> int:
        """A piece was refused for good: its good rows are sent, the others parked; gives how many are good."""
        halving = Halving(lambda half: self.see_through(lambda: send(half), half))
        refused = await halving.isolate(piece, error)
        for part, why in by_reason(refused):
            await self.give_up(part, why)
        return piece.rows - sum(part.rows for part, _ in refused)

    def _partition_keys(self) -> tuple[str, ...]:
        batch = self.exporter.queue.batch
        keys = (*(batch.partition.metadata_keys if batch else ()), *self.exporter.apart_by)
        return tuple(dict.fromkeys(keys))

    async def see_through(self, send: Send, part: Slice, *, unload: bool = False) -> ColonnadeError | None:
        """Repeats `send` until it succeeds (None) or must not be repeated (the error). Raises LeftInLog.

        With `unload`, a slice whose rows are on disk as well does not stay in memory while it waits.
        """
        backoff = Backoff(self.exporter.retry, self._clock())
        while True:
            hurried = self._hurry.is_set()
            error = await self._attempt(send)
            if error is None:
                self._recovered()
                return None
            if not isinstance(error, Retryable):
                return error
            try:
                wait_s = backoff.wait_s(error, self._clock())
            except Permanent as gave_up:
                return gave_up
            self._failed(error, wait_s, part)
            if hurried:
                raise LeftInLog from error
            part.attempt += 1
            if unload:
                self.cursor.unload(part)
            async with self._trying:
                # Who waited behind another that got through need not wait again.
                if self._failing:
                    await self._pause(wait_s)

    async def _attempt(self, send: Send) -> ColonnadeError | None:
        started_s = self._clock()
        try:
            async with asyncio.timeout(self.exporter.timeout_s or None):
                await send()
        except ColonnadeError as error:
            return error
        except TimeoutError:
            return Retryable("timeout", f"no answer within {self._clock() - started_s:.3g}s")
        except Exception as error:
            # The text of a foreign exception may hold rows, so only its kind is logged above debug level.
            self.host.logger.error("exporter %s failed in an unforeseen way: %s", self.name, type(error).__name__)
            self.host.logger.debug("exporter %s: details", self.name, exc_info=True)
            return Retryable("unforeseen", f"unforeseen error ({type(error).__name__})")
        finally:
            self.host.observe("exporter_send_duration", self._clock() - started_s)
        return None

    async def _pause(self, wait_s: float) -> None:
        """Waits, but not once the sender is to finish: then the last attempt comes at once."""
        self.cursor.next_attempt_at = self._clock() + wait_s
        try:
            async with asyncio.timeout(wait_s):
                await self._hurry.wait()
        except TimeoutError:
            pass
        finally:
            self.cursor.next_attempt_at = 0.0

    def _failed(self, error: Retryable, wait_s: float, part: Slice) -> None:
        what = f"attempt {part.attempt + 1} for {part.rows} rows of pipeline {self.log.pipeline} failed"
        self._tell_failure(error, f"{what}, next in {wait_s:.1f}s")

    def _tell_failure(self, error: Retryable, what: str) -> None:
        self.cursor.last_error = error.message
        self.host.count("exporter_retries", 1, pipeline=self.log.pipeline, code=error.code)
        if not self._failing:
            self._failing = True
            self.host.report(Status("recoverable_error", error.message))
        self.host.logger.warning("exporter %s: %s: %s", self.name, what, error.message)

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            self._eased.set()
            self.cursor.last_error = ""
            self.host.report(Status("ok"))
            self.host.logger.info("exporter %s: works again for pipeline %s", self.name, self.log.pipeline)

    async def send_alone(self, part: Slice) -> None:
        """One attempt at rows that are not the log's."""
        await self.exporter.export(part)

    def count_again(self, rows: int) -> None:
        """Counts rows that are back from before: a durable log's at start, dead letters that are tried again."""
        self.host.count("pipeline_recovered_items", rows, **self._labels)

    def count_stored(self, rows: int, nbytes: int) -> None:
        """Counts rows that the store has."""
        self.host.count(f"exporter_sent_{self._noun}", rows)
        self.host.count("pipeline_stored_items", rows, **self._labels)
        self.host.observe("exporter_queue_batch_send_size", rows)
        self.host.observe("exporter_queue_batch_send_size_bytes", nbytes)

    async def give_up(self, part: Slice, error: ColonnadeError) -> None:
        """Parks and counts a slice that will not be tried again."""
        self.cursor.last_error = error.message
        self.host.count(f"exporter_send_failed_{self._noun}", part.rows)
        self.host.count("pipeline_failed_items", part.rows, **self._labels)
        if not self.exporter.dead_letter.enabled:
            self._count_lost(part.rows, "dead_letter_off", error)
            return
        try:
            async with self._parking:
                parked = await self.host.run(self.letters.park, part, self.name, error, time.time())
        except OSError as fault:
            self._count_lost(part.rows, "not_writable", error)
            self.host.logger.error("exporter %s: the dead-letter folder failed: %s", self.name, type(fault).__name__)
            return
        self.host.count("exporter_dead_letter_rows", parked.rows, code=error.code, **self._labels)
        self.host.gauge("exporter_dead_letter_bytes", parked.folder_bytes)
        if parked.evicted_rows:
            self.host.count("exporter_dead_letter_lost_rows", parked.evicted_rows, reason="bound", **self._labels)
        self.host.logger.error(
            "exporter %s: %d rows of pipeline %s parked as dead letter (%s): %s",
            *(self.name, part.rows, self.log.pipeline, error.code, error.message),
        )

    def _count_lost(self, rows: int, reason: str, error: ColonnadeError) -> None:
        self.host.count("exporter_dead_letter_lost_rows", rows, reason=reason, **self._labels)
        self.host.logger.error(
            "exporter %s: %d rows of pipeline %s lost (%s): %s",
            *(self.name, rows, self.log.pipeline, reason, error.message),
        )

    def _count_damaged(self, rows: int) -> None:
        """Rows that can not be read from the log's disk any more; the log has said which."""
        self.host.count("pipeline_failed_items", rows, **self._labels)
        self.host.count("exporter_dead_letter_lost_rows", rows, reason="damaged", **self._labels)

    async def _park_rest(self) -> None:
        """A cursor that ends with the process: what it still has becomes dead letters."""
        self.cursor.resume()
        self.cursor.drain()
        limits = replace(self.limits, max_bytes=self.limits.max_bytes or REST_SLICE_BYTES)
        while (part := await self._take(limits)) is not None:
            await self.cursor.load(part)
            error = ShuttingDown("not stored before shutdown")
            await self.give_up(part, error)
            self.cursor.ack(part, error)
        self.cursor.stop()

    def _facts(self) -> dict[str, Any]:
        cursor = self.cursor
        facts: dict[str, Any] = {
            "lag": {"rows": cursor.lag_rows, "bytes": cursor.lag_bytes, "oldest_seconds": round(cursor.lag_s, 3)},
            "position": cursor.position,
        }
        return facts | ({"last_error": cursor.last_error} if cursor.last_error else {})

    def _show_gauges(self) -> None:
        cursor, gauge, labels = self.cursor, self.host.gauge, self._labels
        gauge("exporter_queue_size", lambda: cursor.used, **labels)
        gauge("exporter_queue_capacity", cursor.queue.bound, **labels)
        gauge("exporter_in_flight_requests", lambda: len(self._under_way), **labels)
        gauge("exporter_lag_rows", lambda: cursor.lag_rows, **labels)
        gauge("exporter_lag_bytes", lambda: cursor.lag_bytes, **labels)
        gauge("exporter_lag_seconds", lambda: cursor.lag_s, **labels)
        gauge("pipeline_in_log_items", lambda: cursor.lag_rows, **labels)
