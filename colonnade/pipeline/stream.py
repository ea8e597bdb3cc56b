"""The sender of a `StreamExporter`: parts are written as they come, and published together.

On a log in memory rows leave it after `write`, so that a roll larger than memory (a Parquet file of an hour) needs no
memory; the cursor moves after `publish`. Rows between the two are in the exporter's temporary files: counted as in the
log, and as lost where they can not be published.
"""

from __future__ import annotations

import asyncio
from typing import cast

from colonnade.pipeline.component import Slice, StreamExporter
from colonnade.pipeline.errors import ColonnadeError, Retryable
from colonnade.pipeline.sender import LeftInLog, Sender


class StreamSender(Sender):
    """One stream: parts are in order, and one at a time."""

    _unpublished: Slice | None = None

    def _consumers(self) -> int:
        return 1

    @property
    def stream(self) -> StreamExporter:
        return cast(StreamExporter, self.exporter)

    async def _run(self) -> None:
        try:
            while True:
                part = await self.cursor.take(self.stream.part, self._publish_at_s())
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
        self._in_flight += 1
        try:
            if self._unpublished is not None and not self.stream.fits(part):
                await self._publish()
            error = await self.see_through(lambda: self.stream.write(part), part)
        except (LeftInLog, asyncio.CancelledError):
            self.cursor.give_back(part)
            raise
        finally:
            self._in_flight -= 1
        if error is not None:
            # What came before is published first, so that the stream's range has no hole.
            await self._publish()
            await self.give_up(part, error)
            self.cursor.ack(part.start, part.end, error)
            return
        self.cursor.release(part.start, part.end, part.appended_at_s)
        part.batches = []
        if self._unpublished is None:
            self._unpublished = part
        else:
            self._unpublished.end = part.end
            self._unpublished.rows += part.rows
            self._unpublished.nbytes += part.nbytes

    def _publish_at_s(self) -> float | None:
        return None if self._unpublished is None else self._unpublished.appended_at_s + self.limits.max_age_s

    def _due(self) -> bool:
        roll, limits = self._unpublished, self.limits
        if roll is None:
            return False
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
        error = await self.see_through(lambda: self.stream.publish(roll.log_id, roll.start, roll.end), roll)
        self._unpublished = None
        if error is None:
            self.count_stored(roll.rows, roll.nbytes)
        else:
            await self._abort(roll)
            self._count_unpublished(roll, error)
        self.cursor.ack(roll.start, roll.end, error, released=True)

    async def _forget(self) -> None:
        """The sender ends with a stream that could not be published: its rows are counted as lost."""
        roll, self._unpublished = self._unpublished, None
        if roll is not None:
            error = Retryable(
                "unpublished", f"the stream could not be published: {self.cursor.last_error or 'deadline'}"
            )
            self._count_unpublished(roll, error)
            self.cursor.ack(roll.start, roll.end, error, released=True)

    async def _abort(self, roll: Slice) -> None:
        try:
            await self.stream.abort(roll.log_id)
        except Exception as error:
            self.host.logger.error("exporter %s: abort failed: %s", self.name, type(error).__name__)

    def _count_unpublished(self, roll: Slice, error: ColonnadeError) -> None:
        self.host.count(f"exporter_send_failed_{self._noun}", roll.rows)
        self.host.count("pipeline_failed_items", roll.rows, **self._labels)
        self._count_lost(roll.rows, "unpublished", error)
