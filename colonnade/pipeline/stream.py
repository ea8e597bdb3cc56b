"""The sender of a `StreamExporter`: parts are written as they come, and published together.

On a log in memory rows leave it after `write`, so that a roll larger than memory (a Parquet file of an hour) needs no
memory; the cursor moves after `publish`. Rows between the two are in the exporter's temporary files: counted as in the
log, and as lost where they can not be published.

On a durable log the rows stay until they are published: a stream that is thrown away begins again at the cursor. The
range and its parts are written down before it is published, and a stream that begins again after that has the same
parts and the same end (the cursor's `fences`), so that its files have the same names.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

from colonnade.pipeline import faults
from colonnade.pipeline.component import Slice, StreamExporter
from colonnade.pipeline.errors import ColonnadeError, Retryable
from colonnade.pipeline.sender import LeftInLog, Sender


class StreamSender(Sender):
    """One stream: parts are in order, and one at a time."""

    _unpublished: Slice | None = None

    def start(self) -> None:
        self.cursor.expect_stream()
        super().start()

    def _consumers(self) -> int:
        return 1

    @property
    def stream(self) -> StreamExporter:
        return cast(StreamExporter, self.exporter)

    async def _run(self) -> None:
        try:
            while True:
                part = await self._take(self.stream.part, self._publish_at_s())
                if part is not None:
                    await self._write(part)
                if self._due() or part is None:
                    await self._publish()
                if part is None and (self.cursor.draining or self.cursor.stopped):
                    return
        except LeftInLog:
            self.cursor.stop()
        finally:
            await self._forget()

    async def _write(self, part: Slice) -> None:
        self._under_way.append(part)
        try:
            await self.see_through(lambda: self.cursor.load(part), part)
            # A range that was written down is published as a whole, whatever is configured now.
            if self._unpublished is not None and not self.cursor.fences and not self.stream.fits(part):
                await self._publish()
            error = await self.see_through(lambda: self.stream.write(part), part) if part.rows else None
            if error is not None:
                await self._write_rest(part, error)
                return
        except (LeftInLog, asyncio.CancelledError):
            self.cursor.give_back(part)
            raise
        finally:
            self._under_way.remove(part)
        self._written(part)

    async def _write_rest(self, part: Slice, error: ColonnadeError) -> None:
        """Some rows can not be written. What came before is published first, and the rest of the part by itself, so
        that the outcome of either is told to its own callers."""
        await self._publish()
        rows = await self.settle_refused(part, error, lambda half: self.stream.write(_by_itself(half)))
        if rows:
            good = replace(part, batches=[], rows=rows, nbytes=part.nbytes * rows // part.rows)
            error = await self._make_visible(good) or error
        self.cursor.ack(part, error)

    def _written(self, part: Slice) -> None:
        self.cursor.release(part)
        part.batches = []
        roll = self._unpublished
        if roll is None:
            # The part itself stays with the cursor, as a slice under way.
            self._unpublished = replace(part)
            return
        roll.end = part.end
        roll.rows += part.rows
        roll.nbytes += part.nbytes
        roll.stored_bytes += part.stored_bytes
        roll.requests += part.requests

    async def send_alone(self, part: Slice) -> None:
        try:
            await self.stream.export(_by_itself(part))
        except BaseException:
            await self.stream.abort(part.log_id)
            raise

    def _publish_at_s(self) -> float | None:
        return None if self._unpublished is None else self._unpublished.appended_at_s + self.limits.max_age_s

    def _due(self) -> bool:
        roll, limits, fences = self._unpublished, self.limits, self.cursor.fences
        if roll is None:
            return False
        if fences:
            return roll.end >= fences[-1]
        rows = limits.min_rows or limits.max_rows
        nbytes = limits.min_bytes or limits.max_bytes
        return bool(
            (rows and roll.rows >= rows)
            or (nbytes and roll.nbytes >= nbytes)
            or self._clock() >= roll.appended_at_s + limits.max_age_s
            or self.stream.full(roll.log_id)
        )

    async def _publish(self) -> None:
        roll = self._unpublished
        if roll is None:
            return
        error = await self._make_visible(roll)
        self._unpublished = None
        self.cursor.ack(roll, error, released=True)
        faults.reached("done")

    async def _make_visible(self, roll: Slice) -> ColonnadeError | None:
        """Publishes, and counts what came of it."""
        error = await self.see_through(lambda: self._publish_once(roll), roll)
        faults.reached("stored")
        if error is None:
            self.count_stored(roll.rows, roll.nbytes)
            return None
        await self._abort()
        if self.cursor.survives:
            await self._park_again(roll, error)
        else:
            self._count_unpublished(roll, error)
        return error

    async def _publish_once(self, roll: Slice) -> None:
        await self.cursor.note(roll)
        faults.reached("note")
        await self.stream.publish(roll.log_id, roll.start, roll.end)

    async def _park_again(self, roll: Slice, error: ColonnadeError) -> None:
        """The log still has the rows of a stream that can never be published."""
        for part in self.cursor.parts(roll):
            await self.see_through(lambda part=part: self.cursor.load(part), part)
            await self.give_up(part, error)
            part.batches = []

    async def _forget(self) -> None:
        """The sender ends with a stream that could not be published: it begins again where the log has its rows, else
        they are counted as lost."""
        roll, self._unpublished = self._unpublished, None
        await self._abort()
        if roll is None or self.cursor.rewind(roll):
            return
        error = Retryable("unpublished", f"the stream could not be published: {self.cursor.last_error or 'deadline'}")
        self._count_unpublished(roll, error)
        self.cursor.ack(roll, error, released=True)

    async def _abort(self) -> None:
        try:
            await self.stream.abort(self.log.id)
        except Exception as error:
            self.host.logger.error("exporter %s: abort failed: %s", self.name, type(error).__name__)

    def _count_unpublished(self, roll: Slice, error: ColonnadeError) -> None:
        self.host.count(f"exporter_send_failed_{self._noun}", roll.rows)
        self.host.count("pipeline_failed_items", roll.rows, **self._labels)
        self._count_lost(roll.rows, "unpublished", error)


def _by_itself(half: Slice) -> Slice:
    """A part of a part under its own row numbers: by those a stream knows what it has taken already."""
    start = half.start + half.offset
    return replace(half, start=start, end=min(half.end, start + half.rows), offset=0)
