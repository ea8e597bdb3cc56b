"""The rows of one log between two publications: one file per day and event type."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from colonnade.exporters.parquet.file import Format, ParquetFile
from colonnade.exporters.parquet.folders import Spool, Target
from colonnade.exporters.parquet.rows import extensions
from colonnade.native import Batch, partition
from colonnade.pipeline import faults
from colonnade.pipeline.component import Slice
from colonnade.pipeline.errors import Permanent
from colonnade.unified_schema.parquet import folder

# Files that have left memory keep a writer; more of them, or more folders, and everything is published early.
OPEN_FILES_MAX = 32
FOLDERS_MAX = 128
# Bytes of a file per byte of rows in memory: what typical spans, logs and points come to.
TYPICAL_RATIO = 0.15


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication made visible."""

    files: int
    rows: int
    nbytes: int


class Stream:
    """Rows of one log. Methods block, and wait for each other: they may be called from any thread.

    A method that raised can be called again: what it had done stays done, and `write` has taken all of a part or
    nothing. Nothing of a log is visible before `publish`; the files' names are the stream's and the published range, so
    that the same range published again replaces itself.

    Attributes:
        name: whose rows they are, safe in a file's name.
        rows: unpublished rows.
        extensions: columns that the table does not have, and their types.
    """

    def __init__(self, name: str, start: int, spool: Spool, format: Format, extensions: dict[str, Any]) -> None:
        self.name = name
        self.rows = 0
        # Rows of the log below are written.
        self._written = start
        self._discarded = False
        self.extensions = extensions
        self._spool = spool
        self._format = format
        self._files: dict[str, ParquetFile] = {}
        self._range: tuple[int, int] | None = None
        self._lock = threading.RLock()

    @property
    def buffered_bytes(self) -> int:
        """Rows in memory."""
        return sum(file.nbytes for file in list(self._files.values()))

    @property
    def spooled_bytes(self) -> int:
        """Bytes of files that are not visible yet."""
        return sum(file.file_bytes for file in list(self._files.values()))

    @property
    def expected_bytes(self) -> int:
        """About how large the files would be now."""
        return self.spooled_bytes + int(self.buffered_bytes * TYPICAL_RATIO)

    @property
    def crowded(self) -> bool:
        """Whether there are as many files as should be open at once."""
        return len(self._files) >= FOLDERS_MAX or sum(f.begun for f in self._files.values()) >= OPEN_FILES_MAX

    @property
    def publishing(self) -> tuple[int, int] | None:
        """The range of a publication that has begun: nothing can be added any more."""
        return self._range

    def write(self, part: Slice, buffer_bytes: int) -> None:
        """Takes a part. Before, rows leave memory until less than `buffer_bytes` of them are there.

        Raises OSError; Permanent when the part can not be stored, or earlier rows are lost.
        """
        with self._lock:
            end = part.start + part.offset + part.rows
            if end <= self._written or self._discarded:
                # Its caller was cancelled, and did not see that it was written; or nobody waits for it any more.
                return
            folders = self._split(part)
            self._make_room(buffer_bytes)
            for key, batches in folders.items():
                rows = sum(batch.rows for batch in batches)
                self._file(key).add(batches, rows, part.nbytes * rows // part.rows)
            self.rows += part.rows
            self._written = end

    def publish(self, start: int, end: int, target: Target) -> Published:
        """Makes every file visible: first all are whole on the disk, then one after the other. Raises as `write`."""
        with self._lock:
            self._range = self._range or (start, end)
            name = f"{self.name}-{self._range[0]:012d}-{self._range[1]:012d}.parquet"
            for file in self._files.values():
                file.finish()
            for key, file in sorted(self._files.items()):
                file.publish(target, f"{key}/{name}")
                faults.reached("publish")
            files = self._files.values()
            return Published(len(files), self.rows, sum(file.file_bytes for file in files))

    def discard(self) -> None:
        """Throws away what is not visible; idempotent."""
        with self._lock:
            for file in self._files.values():
                file.discard()
            self._files = {}
            self.rows = 0
            self._discarded = True

    def _split(self, part: Slice) -> dict[str, list[Batch]]:
        """The part's rows by folder."""
        folders: dict[str, list[Batch]] = {}
        try:
            self.extensions.update(extensions(part.batches, self.extensions))
            for day, event_type, batches in partition(part.batches):
                folders.setdefault(folder(day, event_type), []).extend(batches)
        except ValueError as error:
            raise Permanent("unfit_rows", f"rows can not be written as Parquet: {error}") from None
        return folders

    def _make_room(self, buffer_bytes: int) -> None:
        for file in self._files.values():
            if file.is_due():
                file.flush()
        while self.buffered_bytes >= buffer_bytes:
            max(self._files.values(), key=lambda file: file.nbytes).flush()

    def _file(self, key: str) -> ParquetFile:
        if key not in self._files:
            self._files[key] = ParquetFile(self._spool, self._format, self.extensions)
        return self._files[key]
