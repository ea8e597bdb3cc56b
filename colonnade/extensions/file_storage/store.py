"""The store: everything in one folder. One writer for the rows of all logs, one for the catalog.

All that waits is committed together: appends of any number of requests and pipelines in one transaction of the newest
segment, and so with one fsync; what moves cursors in one of the catalog. A segment goes once every cursor has done
what it holds. The store belongs to the process, not to a graph: a reload hands it over open.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from colonnade import native
from colonnade.extensions.file_storage import catalog as sql
from colonnade.extensions.file_storage.catalog import Catalog, CursorRecord, ExtentRecord, LogRecord, Note, Statement
from colonnade.extensions.file_storage.committer import Committer
from colonnade.extensions.file_storage.dedup import Seen
from colonnade.extensions.file_storage.log import DurableLog
from colonnade.extensions.file_storage.recovery import (
    DAMAGED,
    RUNNING,
    LogState,
    Ranges,
    adopt,
    bound_damaged,
    keep,
    merged,
    number_on,
    recover,
    spelled,
)
from colonnade.extensions.file_storage.salvage import Search, mend, wal_is_damaged
from colonnade.extensions.file_storage.segment import ROW_BITS, Damaged, Entry, Newer, Segment, place
from colonnade.pipeline import faults
from colonnade.pipeline.component import Host, Status
from colonnade.pipeline.cursor import RowRanges
from colonnade.pipeline.errors import ColonnadeError, Retryable
from colonnade.pipeline.log import Append, Receipt, Reservation, Stored

T = TypeVar("T")
MIB = 1 << 20

SEGMENT_BYTES = 256 * MIB
# Rows that stay in memory for exporters that keep up; all logs of a store share it.
MEMORY_BYTES = 96 * MIB
# What an append takes of memory besides its columns.
APPEND_OVERHEAD_BYTES = 4096
# A full segment whose rows are gone by then never needs to be folded into one file.
FOLD_AFTER_S = 30.0
TIDY_EVERY_S = 5.0
# A segment that is idle and done with gives its room back.
IDLE_SEGMENT_BYTES = 4 * MIB
# Rows are moved out of old segments where these hold more of what nobody needs than of what somebody does.
SEGMENTS_MIN = 2
SEGMENTS_MAX = 64
MOVE_BYTES = 8 * MIB
# The log leaves so much of a disk free (or a fiftieth of a small one), because the catalog must still be written.
FREE_BYTES = 64 * MIB
FULL_DELAY_S = 5.0
CATALOG_RETRY_S = 1.0
MAX_ROW = (1 << ROW_BITS) - 1
LOCK = "lock"
LOCK_POLL_S = 0.05


class StorageError(ColonnadeError):
    """The folder can not be used: in use, not there, of a later version."""

    def __init__(self, message: str) -> None:
        super().__init__("storage", message)


class _Full(Exception):
    """The disk, or the bound that the file sets, has no room."""


@dataclass(frozen=True, slots=True)
class Options:
    """What may change while the store is open.

    Args:
        fsync: commits wait for the disk.
        max_bytes: bound of the folder; 0 = none.
        keep_removed: rows of exporters that left the configuration stay.
        dedup_window_s, dedup_max_ids: rows that come again are left out (`dedup.py`); 0 seconds = they are not.
    """

    fsync: bool = True
    max_bytes: int = 0
    keep_removed: bool = True
    dedup_window_s: float = 0.0
    dedup_max_ids: int = 1_000_000


@dataclass(slots=True)
class _Append:
    """Reservations that are committed together. The writer fills in what of them is written, and where: nothing of an
    append that came before."""

    reservations: Sequence[Reservation]
    appends: list[Append] = field(default_factory=list[Append])
    entries: list[Entry | None] = field(default_factory=list["Entry | None"])


@dataclass(slots=True)
class _Move:
    """Appends that change segments."""

    rows: list[tuple[Entry, bytes]]


@dataclass(slots=True)
class _Seal:
    """Another segment begins, whether or not the newest is full."""


_Job = _Append | _Move | _Seal


class Store:
    """See the module's text. Methods belong to the event loop's thread unless they say that they block."""

    def __init__(self, folder: Path, options: Options, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self.folder = folder
        self.options = options
        self.host = host
        self.logs: dict[int, LogState] = {}
        self.segments: dict[int, Segment] = {}
        self.opened_in_s = 0.0
        self._loop = loop
        self._catalog = Catalog(folder, options.fsync)
        self._seen = Seen(folder, options.dedup_window_s, options.dedup_max_ids)
        self._active: Segment
        self._last_number = 0
        self._in_memory: deque[tuple[DurableLog, Stored]] = deque()
        self._memory_bytes = 0
        self._owed: list[Statement] = []
        self._numbers: dict[int, int] = {}
        self._saved_ends: dict[int, int] = {}
        self._rescues: dict[int, asyncio.Task[None]] = {}
        self._moving: asyncio.Task[None] | None = None
        self._pinned: Counter[int] = Counter()
        self._full = ""
        self._lock_descriptor: int | None = None
        self._janitor = ThreadPoolExecutor(1, thread_name_prefix="file_storage")
        self._last_append_s = time.monotonic()
        self._tidying: asyncio.TimerHandle | None = None

    # --- open and close

    def open(self, timeout_s: float, mode: int | None = None) -> None:
        """Locks the folder, finds what it holds, and begins a new segment. Blocks.

        Args:
            timeout_s: how long to wait for another process that has the folder.
            mode: permissions of a folder that is made; None = it must be there.

        Raises:
            StorageError: another process has the folder, or a later version has written it.
            OSError, sqlite3.Error: the disk.
        """
        began_s = time.monotonic()
        if mode is not None:
            self.folder.mkdir(mode, parents=True, exist_ok=True)
        self._lock(timeout_s)
        try:
            found = recover(self.folder, self._catalog)
            self.logs, self.segments = found.logs, found.segments
            self._last_number = found.last_number
            self._active = self._new_segment()
            self.segments[self._active.number] = self._active
            for damage in found.damaged:
                found.told.append(self._rescue_now(damage))
            for state in self.logs.values():
                number_on(state, found)
            self._tell_losses(found.told)
            self._catalog.commit(self._whole_catalog())
            self._seen.load({n: state.record.id for n, state in self.logs.items()}, self.segments.values())
            # From here on the catalog has a write-ahead log, until it is closed.
            (self.folder / RUNNING).touch()
        except Newer as error:
            self._unlock()
            raise StorageError(str(error)) from None
        except BaseException:
            self._unlock()
            raise
        self._writer: Committer[_Job] = Committer("file_storage rows", self._commit_rows, self._loop)
        self._clerk: Committer[tuple[list[Statement], bool]] = Committer(
            "file_storage catalog", self._commit_catalog, self._loop
        )
        self.opened_in_s = time.monotonic() - began_s
        self._loop.call_soon_threadsafe(self._start_tidying)

    def _whole_catalog(self) -> list[Statement]:
        """What was found, so that nothing has to be found twice."""
        statements = [sql.save_log(state.record) for state in self.logs.values()]
        for state in self.logs.values():
            statements += [sql.save_cursor(state.record, cursor) for cursor in state.record.cursors.values()]
        for segment in self.segments.values():
            statements += self._save_extents(segment)
        return statements

    def close(self) -> None:
        """Commits what waits, gives back what nobody needs, and closes. Blocks; not for the loop's thread."""
        for committer in (self._writer, self._clerk):
            committer.close()
            # What has been committed is known to the logs then, and what follows from it said to the clerk.
            told = threading.Event()
            self._loop.call_soon_threadsafe(told.set)
            told.wait()
        with suppress(sqlite3.Error):
            self._catalog.commit([*self._owed, *self._whole_catalog()])
        self._janitor.shutdown(wait=True)
        self._save_seen()
        for segment in list(self.segments.values()):
            if not self._is_needed(segment):
                with suppress(OSError, sqlite3.Error):
                    self._catalog.commit([sql.drop_segment(segment.number)])
                    segment.remove()
            else:
                segment.close()
        self._catalog.close()
        (self.folder / RUNNING).unlink(missing_ok=True)
        self._unlock()

    def stop(self) -> None:
        """Nothing is done by itself any more: comes before `close`."""
        if self._tidying is not None:
            self._tidying.cancel()
        if self._moving is not None:
            self._moving.cancel()

    def describe(self) -> str:
        """What was found, for people."""
        rows = sum(
            high - low
            for state in self.logs.values()
            for extent in state.extents
            for low, high in state.wanted(extent.start, extent.end)
        )
        size = sum(segment.stored_bytes for segment in self.segments.values()) / MIB
        return (
            f"the log in {self.folder} is open after {self.opened_in_s:.3f}s: "
            f"{rows} rows wait, in {len(self.segments)} segments of {size:.1f} MiB"
        )

    def _lock(self, timeout_s: float) -> None:
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        until_s = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() < until_s:
                    threading.Event().wait(LOCK_POLL_S)
                    continue
                who = os.pread(descriptor, 100, 0).decode(errors="replace") or "unknown"
                os.close(descriptor)
                raise StorageError(
                    f"the folder {self.folder} is in use by another process ({who}): "
                    "stop it, or give each its own `directory`"
                ) from error
        self._lock_descriptor = descriptor
        with suppress(OSError):  # Only to tell others who has it.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}".encode(), 0)

    def _unlock(self) -> None:
        descriptor, self._lock_descriptor = self._lock_descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _change(self, options: Options, host: Host) -> None:
        """Another configuration's options."""
        synced, self.options, self.host = self.options.fsync, options, host
        self._show_gauges()
        if (options.dedup_window_s, options.dedup_max_ids) != (self._seen.window_s, self._seen.max_ids):
            self._seen.changed(options.dedup_window_s, options.dedup_max_ids)
        if options.fsync != synced:
            self._writer.submit(_Seal(), _nothing, _nothing)

    # --- appends

    async def commit(self, reservations: Sequence[Reservation]) -> list[Receipt]:
        """See `LogStore`."""
        wanted: list[Reservation] = []
        for reservation in reservations:
            assert isinstance(reservation.log, DurableLog)
            if reservation.append.rows and reservation.log.cursors:
                wanted.append(reservation)
            else:
                reservation.cancel()
        if not wanted:
            return [Receipt() for _ in reservations]
        future: asyncio.Future[list[Receipt]] = self._loop.create_future()
        job = _Append(wanted)

        def done(segment: Segment) -> None:
            receipts = self._take_in(job, segment)
            if not future.done():
                future.set_result(receipts)

        def failed(error: BaseException) -> None:
            for reservation in wanted:
                reservation.cancel()
            if not future.done():
                future.set_exception(self._refusal(error))
                future.exception()  # The caller may have gone away.

        self._writer.submit(job, done, failed, sum(r.append.nbytes for r in wanted))
        return await asyncio.shield(future)

    def _take_in(self, job: _Append, segment: Segment) -> list[Receipt]:
        """A commit is on disk: its rows are in the logs."""
        receipts: list[Receipt] = []
        for reservation, kept, entry in zip(job.reservations, job.appends, job.entries, strict=True):
            log, append = reservation.log, reservation.append
            assert isinstance(log, DurableLog)
            log.unreserve(reservation)
            if kept is not append:
                append.repeated = append.rows - kept.rows
                append.batches, append.rows, append.nbytes = kept.batches, kept.rows, kept.nbytes
                self.host.count("file_storage_repeated_rows", append.repeated, pipeline=log.pipeline)
            if entry is None:
                receipts.append(Receipt())
                continue
            log.state.extents.add(segment, entry)
            receipts.append(log.committed(append, entry))
        self._last_append_s = time.monotonic()
        if self._full:
            self._full = ""
            self.host.report(Status("ok"))
            self.host.logger.info("extension %s: the disk has room again", self.host.id)
        return receipts

    def _refusal(self, error: BaseException) -> Retryable:
        """What a caller is told whose rows could not be written."""
        if isinstance(error, Retryable):
            return error
        full = isinstance(error, _Full) or _is_full(error)
        reason = str(error) if isinstance(error, (OSError, sqlite3.Error, _Full)) else type(error).__name__
        text = f"the log in {self.folder} can not be written: {reason}"
        if text != self._full:
            self._full = text
            self.host.report(Status("recoverable_error", text))
            self.host.logger.error("extension %s: %s; requests are refused until it can", self.host.id, text)
            self._seal_soon()
        return Retryable("storage_full" if full else "storage_failed", text, FULL_DELAY_S)

    def keep_in_memory(self, log: DurableLog, stored: Stored) -> None:
        """The newest rows of all logs stay in memory, the oldest of those make room."""
        self._in_memory.append((log, stored))
        self._memory_bytes += stored.nbytes + APPEND_OVERHEAD_BYTES
        while self._memory_bytes > MEMORY_BYTES and len(self._in_memory) > 1:
            log, stored = self._in_memory.popleft()
            self._memory_bytes -= stored.nbytes + APPEND_OVERHEAD_BYTES
            log.evict(stored)

    # --- the writer's thread

    def _commit_rows(self, jobs: list[_Job]) -> Segment:
        """One transaction. Gives the segment that has the rows."""
        if any(isinstance(job, _Append) for job in jobs):
            self._check_room()
        if self._active.stored_bytes >= SEGMENT_BYTES or any(isinstance(job, _Seal) for job in jobs):
            self._begin_segment()
        segment, at_ms = self._active, time.time_ns() // 1_000_000
        rows: list[tuple[Entry, Any]] = []
        next_row: dict[int, int] = {}
        with self._seen.committing:
            written = False
            try:
                for job in jobs:
                    if isinstance(job, _Move):
                        rows += job.rows
                    elif isinstance(job, _Append):
                        rows += self._pack(job, next_row, at_ms)
                began_s = time.perf_counter()
                if rows:
                    self._write(segment, rows)
                written = True
            finally:
                self._seen.settle(written)
        if not rows:
            return segment
        self._numbers.update(next_row)
        self.host.count("file_storage_commits")
        self.host.observe("file_storage_commit_duration", time.perf_counter() - began_s)
        self.host.observe("file_storage_commit_appends", len(rows))
        faults.reached("append")
        return segment

    def _write(self, segment: Segment, rows: list[tuple[Entry, Any]]) -> None:
        logs = {entry.log: self.logs[entry.log].row for entry, _ in rows}
        try:
            segment.append(rows, logs.values())
        except (sqlite3.Error, OSError) as error:
            if not _is_full(error):
                # What the kernel did with pages that it could not write is unknown: nothing more goes into this file.
                with suppress(sqlite3.Error, OSError):
                    self._begin_segment()
            raise

    def _pack(self, job: _Append, next_row: dict[int, int], at_ms: int) -> Iterator[tuple[Entry, Any]]:
        """Appends get their places. `next_row`: what this commit has given out."""
        for reservation in job.reservations:
            assert isinstance(reservation.log, DurableLog)
            record = reservation.log.state.record
            append = self._seen.take(record.number, record.id, reservation.append, at_ms)
            job.appends.append(append)
            packed = self._packed(reservation.log, append, next_row, at_ms) if append.rows else None
            job.entries.append(packed[0] if packed else None)
            if packed:
                yield packed

    def _packed(self, log: DurableLog, append: Append, next_row: dict[int, int], at_ms: int) -> tuple[Entry, Any]:
        number = log.state.record.number
        start = next_row.get(number) or self._numbers.setdefault(number, log.state.record.next_row)
        body = native.to_ipc(append.batches, place(number, start))
        next_row[number] = start + append.rows
        return Entry(number, start, append.rows, len(body), append.nbytes, append.requests, at_ms), body

    def _check_room(self) -> None:
        """Raises _Full where the log must not take more."""
        stat = os.statvfs(self.folder)
        free, floor = stat.f_bavail * stat.f_frsize, min(FREE_BYTES, stat.f_blocks * stat.f_frsize // 50)
        if free < floor:
            raise _Full(f"{free} bytes of disk are free, and {floor} are left to others")
        limit = self.options.max_bytes
        if limit and self._disk_bytes() > limit:
            raise _Full(f"max_size of {limit} bytes is reached")

    def _begin_segment(self) -> None:
        """The newest segment is full: another begins. Raises sqlite3.Error, OSError."""
        before, self._active = self._active, self._new_segment()
        self._loop.call_soon_threadsafe(self._sealed, before, self._active)

    def _new_segment(self) -> Segment:
        self._last_number += 1
        segment = Segment(self.folder, self._last_number)
        try:
            segment.create(self.options.fsync)
        except BaseException:
            with suppress(OSError, sqlite3.Error):
                segment.remove()
            raise
        return segment

    # --- the catalog

    def _commit_catalog(self, jobs: list[tuple[list[Statement], bool]]) -> None:
        """One transaction, on the clerk's thread. What must be said is said again until it is written."""
        if self._catalog.fsync != self.options.fsync:
            self._catalog.set_fsync(self.options.fsync)
        statements = [*self._owed, *(statement for listed, _ in jobs for statement in listed)]
        try:
            self._catalog.commit(statements)
        except BaseException:
            self._owed += [statement for listed, must in jobs if must for statement in listed]
            raise
        self._owed = []

    def _save(self, statements: list[Statement], then: Callable[[], None] | None = None) -> None:
        """Writes something down soon; `then` is called once it is."""

        def failed(error: BaseException) -> None:
            del error
            self._loop.call_later(CATALOG_RETRY_S, lambda: self._save([], then))

        with suppress(RuntimeError):  # Closing: `close` writes what is owed.
            self._clerk.submit((statements, True), lambda _: then() if then else None, failed)

    async def _save_now(self, statements: list[Statement]) -> None:
        """Returns once it is written. Raises Retryable, and then it is not."""
        future: asyncio.Future[None] = self._loop.create_future()

        def done(_: None) -> None:
            if not future.done():
                future.set_result(None)

        def failed(error: BaseException) -> None:
            if not future.done():
                future.set_exception(self._refusal(error))
                future.exception()

        self._clerk.submit((statements, False), done, failed)
        await asyncio.shield(future)

    async def flush(self) -> None:
        """Returns once everything said so far is written. Raises Retryable."""
        await self._save_now([])

    def save_cursor(self, state: LogState, cursor: CursorRecord) -> None:
        self._save([sql.save_log(state.record), sql.save_cursor(state.record, cursor)])

    async def save_note(self, state: LogState, cursor: CursorRecord, note: Note) -> None:
        """Returns once a slice is known to be in doubt. Raises Retryable."""
        await self._save_now([sql.save_note(state.record, cursor, note)])

    def forget_cursor(self, state: LogState, name: str) -> None:
        """A cursor is gone for good."""
        state.record.cursors.pop(name, None)
        self._save(sql.drop_cursor(state.record, name))
        self.collect(state, 0, state.record.next_row)

    def moved(self, state: LogState, cursor: CursorRecord, start: int, end: int, survives: bool) -> None:
        """A cursor has done these rows."""
        if survives:
            gone = [note for note in cursor.notes.values() if start <= note.start < end]
            for note in gone:
                del cursor.notes[note.start]
            self._save(
                [
                    sql.save_log(state.record),
                    sql.save_cursor(state.record, cursor),
                    *(sql.drop_note(state.record, cursor, note.start) for note in gone),
                ]
            )
        self.collect(state, start, end)

    def left(self, state: LogState, cursor: CursorRecord) -> None:
        """An exporter has left its pipeline; what it has not done is kept or dropped, as the file says."""
        end = cursor.left_at if cursor.left_at is not None else state.record.next_row
        ranges = [
            part
            for low, high in cursor.done.rest(0, end)
            for part in _without([(low, high)], state.extents.missing(low, high))
        ]
        rows = sum(high - low for low, high in ranges)
        if not rows or not self.options.keep_removed:
            self.forget_cursor(state, cursor.name)
        else:
            self.save_cursor(state, cursor)
        if not rows:
            return
        what = f"exporter {cursor.name} left pipeline {state.record.pipeline} with {rows} rows in the log"
        if self.options.keep_removed:
            self.host.logger.warning(
                "extension %s: %s: they are kept until it is named again (removed_exporters: drop lets them go)",
                *(self.host.id, what),
            )
        else:
            self.host.count("file_storage_dropped_rows", rows, pipeline=state.record.pipeline)
            self.host.logger.error("extension %s: %s: they are dropped, as removed_exporters says", self.host.id, what)

    # --- logs

    def open_log(self, pipeline: str, signal: str) -> DurableLog:
        """See `Storage`."""
        known = next((state for state in self.logs.values() if state.record.pipeline == pipeline), None)
        if known is None:
            number = max(self.logs, default=0) + 1
            known = self.logs[number] = LogState(LogRecord(number, secrets.token_hex(8), pipeline, signal))
            self._save([sql.save_log(known.record)])
        known.log = DurableLog(self, known)
        return known.log

    async def settled(self, options: Options, host: Host) -> None:
        """A configuration took over. Cursors that nobody has opened belong to what was removed from it."""
        self._change(options, host)
        for state in self.logs.values():
            state.forgotten = False
            opened = state.log.cursors if state.log is not None and not state.log.closed else {}
            for cursor in list(state.record.cursors.values()):
                if cursor.name not in opened:
                    if cursor.left_at is None:
                        cursor.left_at = state.record.next_row
                    self.left(state, cursor)
            self.collect(state, 0, state.record.next_row)
        await self.flush()

    # --- segments

    def _sealed(self, segment: Segment, active: Segment) -> None:
        """A segment takes no more rows."""
        self.segments[active.number] = active
        if not self._is_needed(segment):
            self._drop(segment)
            return
        logs = [sql.save_log(state.record) for state in self.logs.values()]
        self._save([*logs, *self._save_extents(segment)])
        self._loop.call_later(FOLD_AFTER_S, self._fold, segment)

    def _save_extents(self, segment: Segment) -> list[Statement]:
        return [
            sql.save_extent(ExtentRecord(segment.number, number, extent.start, extent.end, extent.totals))
            for number, state in self.logs.items()
            for extent in state.extents
            if extent.segment is segment
        ]

    def _fold(self, segment: Segment) -> None:
        """Folds a full segment that is still needed into one file."""
        if self.segments.get(segment.number) is not segment:
            return

        def fold() -> None:
            try:
                folded = segment.checkpoint()
            except (sqlite3.Error, OSError):
                folded = False  # The write-ahead log has it all.
            if not folded:
                self._loop.call_soon_threadsafe(self._loop.call_later, FOLD_AFTER_S, self._fold, segment)

        with suppress(RuntimeError):
            self._janitor.submit(fold)

    def _seal_soon(self) -> None:
        """Lets the newest segment end, so that it can go once what it holds is done."""
        if self._active.stored_bytes:
            with suppress(RuntimeError):
                self._writer.submit(_Seal(), _nothing, _nothing)

    def collect(self, state: LogState, start: int, end: int) -> None:
        """Rows of a log may be done with: segments that nobody needs go."""
        if self._full:
            self._seal_soon()
        for extent in state.extents.between(start, end):
            if extent.segment is not self._active and not self._is_needed(extent.segment):
                self._drop(extent.segment)

    def _is_needed(self, segment: Segment) -> bool:
        return segment.number in self._pinned or any(
            state.needed(extent.start, extent.end)
            for state in self.logs.values()
            for extent in state.extents
            if extent.segment is segment
        )

    def _drop(self, segment: Segment) -> None:
        """Removes a segment, once the catalog says that nobody needs it."""
        if self.segments.pop(segment.number, None) is None:
            return
        for state in self.logs.values():
            state.extents.without(segment)

        def remove() -> None:
            with suppress(RuntimeError):
                self._janitor.submit(self._remove, segment)

        self._save([sql.drop_segment(segment.number)], remove)

    def _remove(self, segment: Segment) -> None:
        """Blocks."""
        self._save_seen()
        with suppress(OSError, sqlite3.Error):
            segment.remove()

    def _save_seen(self) -> None:
        try:
            self._seen.save()
        except OSError as error:
            # Room for rows comes first.
            text = (
                "extension %s: the ids of rows that go can not be written: a repeat of them after a crash is taken: %s"
            )
            self.host.logger.warning(text, self.host.id, error)

    def _disk_bytes(self) -> int:
        return sum(segment.disk_bytes() for segment in list(self.segments.values()))

    # --- what is done from time to time

    def _start_tidying(self) -> None:
        self._show_gauges()
        self._tidying = self._loop.call_later(TIDY_EVERY_S, self._tidy)

    def _tidy(self) -> None:
        self._tidying = self._loop.call_later(TIDY_EVERY_S, self._tidy)
        for segment in list(self.segments.values()):
            if segment is not self._active and not self._is_needed(segment):
                self._drop(segment)
        self.save_ends()
        idle = time.monotonic() - self._last_append_s > TIDY_EVERY_S
        if idle and self._active.stored_bytes > IDLE_SEGMENT_BYTES and not self._is_needed(self._active):
            self._seal_soon()
        if self._moving is None and (segment := self._to_move()) is not None:
            self._moving = self._loop.create_task(self._move_out(segment), name=f"file_storage move {segment.number}")

    def save_ends(self) -> None:
        """How far logs have come: what a file that was cut short has lost after that can not be known."""
        ends = {number: state.record.next_row for number, state in self.logs.items()}
        grown = [number for number, end in ends.items() if self._saved_ends.get(number) != end]
        if grown:
            self._saved_ends = ends
            self._save([sql.save_log(self.logs[number].record) for number in grown])

    def _to_move(self) -> Segment | None:
        """The segment that holds least of what is needed, where all together hold too much of what is not."""
        needed = {
            segment: sum(
                extent.totals.stored_bytes
                for state in self.logs.values()
                for extent in state.extents
                if extent.segment is segment and state.needed(extent.start, extent.end)
            )
            for segment in self.segments.values()
            if segment is not self._active and segment.number not in self._pinned
        }
        if len(needed) < SEGMENTS_MIN:
            return None
        waste = sum(segment.stored_bytes for segment in needed) - sum(needed.values())
        segment = min(needed, key=lambda s: needed[s])
        scattered = len(needed) > SEGMENTS_MAX and needed[segment] < SEGMENT_BYTES // 16
        return segment if scattered or waste > max(sum(needed.values()), SEGMENT_BYTES) else None

    async def _move_out(self, segment: Segment) -> None:
        """What is needed of a segment moves to the newest, so that it can go."""
        try:
            logs = [state.row for state in self.logs.values() if any(e.segment is segment for e in state.extents)]
            await self._relocate(segment, (row for log in logs for row in segment.bodies(log.number, 0, MAX_ROW)))
            self._drop(segment)
        except Damaged as damage:
            await self.rescue(damage)
        except (ColonnadeError, sqlite3.Error, OSError) as error:
            self.host.logger.warning("extension %s: moving %s failed: %s", self.host.id, segment, error)
        finally:
            self._moving = None

    async def _relocate(self, segment: Segment, appends: Iterator[tuple[Entry, bytes]]) -> None:
        """Writes appends to the newest segment, and from then on has them there. Raises Damaged, Retryable."""
        moved: list[tuple[Segment, Entry]] = []
        try:
            while chunk := await self.run(self._next_needed, appends):
                moved += await self._move(chunk)
            for state in self.logs.values():
                state.extents.without(segment)
            for to, entry in moved:
                self.logs[entry.log].extents.add(to, entry)
        finally:
            for to, _ in moved:
                self._pinned[to.number] -= 1
            self._pinned = +self._pinned

    def _next_needed(self, appends: Iterator[tuple[Entry, bytes]]) -> list[tuple[Entry, bytes]]:
        """The next few appends that some cursor has not done. Blocks."""
        chunk: list[tuple[Entry, bytes]] = []
        nbytes = 0
        for entry, body in appends:
            if self.logs[entry.log].needed(entry.start, entry.end):
                chunk.append((entry, body))
                nbytes += len(body)
            if nbytes >= MOVE_BYTES:
                break
        return chunk

    async def _move(self, rows: list[tuple[Entry, bytes]]) -> list[tuple[Segment, Entry]]:
        future: asyncio.Future[list[tuple[Segment, Entry]]] = self._loop.create_future()

        def done(segment: Segment) -> None:
            # Until the logs know of them, nobody seems to need them there.
            self._pinned[segment.number] += len(rows)
            future.set_result([(segment, entry) for entry, _ in rows])

        self._writer.submit(
            _Move(rows), done, lambda e: future.set_exception(self._refusal(e)), sum(len(body) for _, body in rows)
        )
        return await future

    def _show_gauges(self) -> None:
        gauge = self.host.gauge
        gauge("file_storage_size_bytes", self._disk_bytes)
        gauge("file_storage_segments", lambda: len(self.segments))
        gauge("file_storage_known_ids", lambda: self._seen.count)

    # --- damage

    async def rescue(self, damage: Damaged) -> None:
        """Moves what can be read of a damaged segment to the newest, and sets it aside. Raises Retryable."""
        segment = damage.segment
        if self.segments.get(segment.number) is not segment:
            return
        running = self._rescues.get(segment.number)
        if running is None:
            running = self._rescues[segment.number] = self._loop.create_task(self._rescue(damage))
            running.add_done_callback(lambda _: self._rescues.pop(segment.number, None))
        await asyncio.shield(running)

    async def _rescue(self, damage: Damaged) -> None:
        segment = damage.segment
        if segment is self._active:
            await self._seal()
        search = await self.run(Search, segment)
        logs = [state.row for state in self.logs.values() if any(e.segment is segment for e in state.extents)]
        try:
            await self._relocate(segment, search.appends(logs))
        finally:
            search.close()
        self.segments.pop(segment.number, None)
        try:
            kept = f"it is kept as {await self.run(segment.set_aside, self.folder / DAMAGED)}"
        except OSError as error:
            kept = f"it can not be set aside: {error.strerror}"
        self._save([sql.drop_segment(segment.number)])
        lost = self._tell_losses([f"{damage}; {kept}"])
        for log in lost:
            log.recount()

    async def _seal(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._writer.submit(
            _Seal(), lambda _: future.set_result(None), lambda e: future.set_exception(self._refusal(e))
        )
        await future

    def _rescue_now(self, damage: Damaged) -> str:
        """The same while opening; gives a sentence that tells it."""
        segment = damage.segment
        if wal_is_damaged(segment.wal):
            keep(self.folder, [segment.path, segment.wal])
            mend(segment.wal)
        search = Search(segment)
        rows, total = 0, 0
        try:
            logs = {log.number: log for log in search.logs([state.row for state in self.logs.values()])}
            appends = search.appends(logs.values())
            while chunk := list(_some(appends)):
                self._active.append(chunk, [logs[number] for number in {entry.log for entry, _ in chunk}])
                for entry, _ in chunk:
                    adopt(self.logs, logs[entry.log], self._active, entry)
                    rows, total = rows + entry.rows, total + 1
        finally:
            search.close()
        kept = segment.set_aside(self.folder / DAMAGED)
        return f"{damage}; {total} appends of {rows} rows could be read, and it is kept as {kept}"

    def _tell_losses(self, told: list[str]) -> list[DurableLog]:
        """Says what is damaged, and which rows are lost; gives open logs that have lost some."""
        logger, id = self.host.logger, self.host.id
        for sentence in told:
            logger.error("extension %s: damage in %s: %s", id, self.folder, sentence)
        concerned: list[DurableLog] = []
        for state in self.logs.values():
            record = state.record
            lost = _without(state.lost(0, record.next_row), state.told_lost)
            if not lost:
                continue
            state.told_lost = merged(sorted([*state.told_lost, *lost]))
            rows = sum(end - start for start, end in lost)
            logger.error("extension %s: %d rows of pipeline %s are lost: %s", id, rows, record.pipeline, spelled(lost))
            self.host.count("file_storage_lost_rows", rows, pipeline=record.pipeline)
            if state.log is not None:
                concerned.append(state.log)
        if told:
            bound_damaged(self.folder)
        return concerned

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Runs a blocking function off the loop."""
        return await self.host.run(function, *args)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _without(ranges: Ranges, others: Ranges) -> Ranges:
    """Ranges without what is in others; both sorted and disjoint."""
    apart = RowRanges(0, others)
    return [part for start, end in ranges for part in apart.rest(start, end)]


def _some(appends: Iterator[tuple[Entry, bytes]]) -> Iterator[tuple[Entry, bytes]]:
    """The next few megabytes."""
    nbytes = 0
    for entry, body in appends:
        yield entry, body
        nbytes += len(body)
        if nbytes >= MOVE_BYTES:
            return


def _nothing(_: object) -> None:
    """Nobody waits for it."""
