"""Rows that come again: the ids of what each pipeline took lately.

A row's `id` is made of what its sender sent, so a request that is sent again has the same ones. They are compared on
the writer's thread, within the commit that takes the rows: of two requests that are alike the later one is answered
after the earlier one is on disk, and taken itself where that one failed. A request is compared with those before it,
not with itself.

Ids are in memory. After a start they come from the rows of the segments that are still there, and from one file per
log, `seen-N`, which is written before a segment goes.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from colonnade import native
from colonnade.extensions.file_storage.segment import ROW_BITS, Damaged, Segment, place
from colonnade.native import Batch, EventKeys, EventWindow
from colonnade.pipeline.disk import sync
from colonnade.pipeline.log import Append

NAME = "seen-{}"
_MAGIC = b"clnbseen"
_HEAD = struct.Struct("<8s16sI")
MS, NS_PER_S = 1_000_000, 1_000_000_000
ALL_ROWS = (1 << ROW_BITS) - 1


class Seen:
    """The windows of one store, by number of log. Methods block; `take` and `settle` are the writer's.

    Args:
        folder: the store's.
        window_s: how long an id is known; 0 = off.
        max_ids: how many per log.
    """

    def __init__(self, folder: Path, window_s: float, max_ids: int) -> None:
        self.folder = folder
        self.window_s = window_s
        self.max_ids = max_ids
        # Held while ids are known whose rows are not on disk yet: a file must never have those.
        self.committing = threading.Lock()
        self._windows: dict[int, EventWindow] = {}
        self._log_ids: dict[int, str] = {}
        self._unsaved: set[int] = set()
        self._under_way: list[tuple[EventWindow, EventKeys]] = []

    def take(self, log: int, log_id: str, append: Append, at_ms: int) -> Append:
        """The append without rows that came before, within a commit (`committing` is held)."""
        if not self.window_s:
            return append
        window = self._window(log, log_id)
        kept: list[Batch] = []
        for batch in append.batches:
            ranges, keys = window.take_in(batch, at_ms * MS)
            self._under_way.append((window, keys))
            kept += [batch if rows == batch.rows else batch.slice(first, rows) for first, rows in ranges]
        self._unsaved.add(log)
        rows = sum(batch.rows for batch in kept)
        if rows == append.rows:
            return append
        return replace(append, batches=kept, rows=rows, nbytes=append.nbytes * rows // append.rows)

    def settle(self, committed: bool) -> None:
        """The commit has ended; where it failed, its ids are not known."""
        under_way, self._under_way = self._under_way, []
        for window, keys in () if committed else under_way:
            window.forget(keys)

    def save(self) -> None:
        """Writes down what is known, before rows go. Raises OSError."""
        for log in sorted(self._unsaved):
            with self.committing:
                if log not in self._windows:
                    continue  # Switched off meanwhile.
                dump = self._windows[log].dump()
                self._unsaved.discard(log)
            try:
                self._write(log, dump)
            except OSError:
                self._unsaved.add(log)
                raise

    def _write(self, log: int, dump: bytes) -> None:
        path = self.folder / NAME.format(log)
        beside = path.with_suffix(".tmp")
        with beside.open("wb") as file:
            file.write(_HEAD.pack(_MAGIC, self._log_ids[log].encode(), zlib.crc32(dump)))
            file.write(dump)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync(self.folder)

    def load(self, logs: dict[int, str], segments: Iterable[Segment]) -> None:
        """Finds what was known, of these logs (ids by number); what can not be read is not known."""
        if not self.window_s:
            return
        for log, log_id in logs.items():
            window = self._window(log, log_id)
            window.load(self._saved(log, log_id))
            for segment, start in self._recent(log, segments):
                self._load_rows(window, log, segment, start)

    def changed(self, window_s: float, max_ids: int) -> None:
        """Other bounds; what is known stays known."""
        with self.committing:
            before, self._windows = self._windows, {}
            self.window_s, self.max_ids = window_s, max_ids
            for log, window in before.items() if window_s else ():
                self._window(log, self._log_ids[log]).load(window.dump())
            self._unsaved &= self._windows.keys()

    @property
    def count(self) -> int:
        """Ids that are known."""
        return sum(map(len, list(self._windows.values())))

    def _window(self, log: int, log_id: str) -> EventWindow:
        if log not in self._windows:
            self._windows[log] = EventWindow(round(self.window_s * NS_PER_S), self.max_ids)
            self._log_ids[log] = log_id
        return self._windows[log]

    def _saved(self, log: int, log_id: str) -> bytes:
        try:
            data = (self.folder / NAME.format(log)).read_bytes()
        except OSError:
            return b""
        dump = data[_HEAD.size :]
        whole = len(data) >= _HEAD.size and _HEAD.unpack_from(data) == (_MAGIC, log_id.encode(), zlib.crc32(dump))
        return dump if whole else b""

    def _recent(self, log: int, segments: Iterable[Segment]) -> Sequence[tuple[Segment, int]]:
        """Segments, oldest first, and from which row on they have rows that count."""
        since_ms = (time.time() - self.window_s) * 1000
        found: list[tuple[Segment, int]] = []
        rows = 0
        for segment in sorted(segments, key=lambda s: -s.number):
            try:
                entries = [entry for entry in segment.entries(log, 0, ALL_ROWS) if entry.at_ms >= since_ms]
            except Damaged:
                continue
            while entries and rows < self.max_ids:
                rows += entries[-1].rows
                start = entries.pop().start
                if not entries or rows >= self.max_ids:
                    found.append((segment, start))
        return found[::-1]

    def _load_rows(self, window: EventWindow, log: int, segment: Segment, start: int) -> None:
        try:
            for entry, body in segment.bodies(log, start, ALL_ROWS):
                for batch in native.from_ipc(body, place(log, entry.start)):
                    window.take_in(batch, entry.at_ms * MS)
        except (Damaged, native.NativeError):
            return
