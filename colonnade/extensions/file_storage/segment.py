"""A segment: one SQLite file of appends, written by one connection while it is the newest, and removed as a whole.

While it is written, nothing is ever folded back into the file: its write-ahead log is what it is, 256 MB at most, and
grows at its end only (a third of the throughput went into folding back as it grew, and where exporters keep up the rows
are gone before that is needed). So the length after a commit is where the next one begins, and a commit that failed
can be cut off without asking the disk for room. A full segment is folded into its file by another connection.

An append is one row. Its key, the `place`, is the log's number and the number of its first row, and so is the seed of
the checksum within its body (`native.to_ipc`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from colonnade.pipeline import faults
from colonnade.pipeline.disk import sync

FORMAT = 1
APPLICATION_ID = 0x636C6E62
PAGE_BYTES = 4096
CACHE_KIB = 8192
BUSY_TIMEOUT_S = 10.0
ROW_BITS = 48
NAME = "segment-{:08d}.sqlite"
PATTERN = "segment-*.sqlite"
BEGUN = "begun.sqlite"

_SCHEMA = """
CREATE TABLE logs (number INTEGER PRIMARY KEY, id TEXT NOT NULL, pipeline TEXT NOT NULL, signal TEXT NOT NULL);
CREATE TABLE appends (
    place INTEGER PRIMARY KEY, rows INTEGER NOT NULL, stored_bytes INTEGER NOT NULL, nbytes INTEGER NOT NULL,
    requests INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL
);
"""
_ENTRIES = """
SELECT place, rows, stored_bytes, nbytes, requests, at_ms FROM appends
WHERE place >= (SELECT coalesce(max(place), ?1) FROM appends WHERE place BETWEEN ?3 AND ?1) AND place < ?2
ORDER BY place
"""
_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_ERROR,  # A table that is not there.
    }
)


class Damaged(Exception):
    """What is on disk is not what was written."""

    def __init__(self, segment: Segment, why: str) -> None:
        super().__init__(f"{segment.path.name}: {why}")
        self.segment = segment
        self.why = why


class Newer(Exception):
    """Written by a later version of this program."""


class Entry(NamedTuple):
    """An append, without its body. `at_ms`: Unix time of the commit."""

    log: int
    start: int
    rows: int
    stored_bytes: int
    nbytes: int
    requests: int
    at_ms: int

    @property
    def end(self) -> int:
        return self.start + self.rows


class LogRow(NamedTuple):
    """What a segment knows of a log, so that it can be read without the catalog."""

    number: int
    id: str
    pipeline: str
    signal: str


def place(log: int, row: int) -> int:
    """The key of an append: logs apart, rows in order."""
    return log << ROW_BITS | row


class Segment:
    """One file. `append` belongs to the writer's thread; the rest may be called from any."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self.path = folder / NAME.format(number)
        self.stored_bytes = 0
        self._logs: set[int] = set()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._good_bytes = 0

    def __repr__(self) -> str:
        return f"Segment({self.number})"

    @property
    def wal(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """Everything that belongs to it; the file itself first."""
        return self.path, self.wal, self.path.with_name(self.path.name + "-shm")

    def disk_bytes(self) -> int:
        """What it takes of the disk."""
        return sum(_size(path) for path in self.files[:2])

    # --- the writer

    def create(self, fsync: bool) -> None:
        """Makes the file, whole or not at all. Raises sqlite3.Error, OSError."""
        beside = self.path.with_name(BEGUN)
        for path in beside.parent.glob(f"{BEGUN}*"):
            path.unlink()
        with closing(_connect(beside)) as connection:
            connection.executescript(
                f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {FORMAT}; PRAGMA synchronous = FULL;"
            )
            write_ahead(connection)
            connection.executescript(f"BEGIN; {_SCHEMA} COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")
        os.rename(beside, self.path)
        sync(self.path.parent)
        self._writer = _connect(self.path)
        self._writer.executescript(f"PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -{CACHE_KIB};")
        self.set_fsync(fsync)

    def set_fsync(self, fsync: bool) -> None:
        """Whether a commit returns after the disk has it (FULL), or after the kernel has (NORMAL)."""
        assert self._writer is not None
        self._writer.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")

    def append(self, rows: Sequence[tuple[Entry, Any]], logs: Iterable[LogRow]) -> None:
        """Adds appends with their bodies, all or none. Raises sqlite3.Error, OSError."""
        assert self._writer is not None
        fresh = [log for log in logs if log.number not in self._logs]
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany("INSERT INTO logs VALUES (?, ?, ?, ?)", fresh)
            self._writer.executemany(
                "INSERT INTO appends VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((place(e.log, e.start), *e[2:], body) for e, body in rows),
            )
            self._writer.execute("COMMIT")
        except BaseException:
            self._cut_off()
            raise
        self._logs |= {log.number for log in fresh}
        self._good_bytes = _size(self.wal)
        self.stored_bytes += sum(entry.stored_bytes for entry, _ in rows)

    def _cut_off(self) -> None:
        """What a failed commit has left in the write-ahead log would be taken for committed after a crash."""
        assert self._writer is not None
        with suppress(sqlite3.Error):
            self._writer.execute("ROLLBACK")
        if _size(self.wal) > self._good_bytes:
            os.truncate(self.wal, self._good_bytes)

    def checkpoint(self) -> bool:
        """Folds the write-ahead log of a full segment into its file; False when a reader was in the way."""
        faults.reached("checkpoint")
        with closing(_connect(self.path)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    # --- readers

    def logs(self) -> list[LogRow]:
        """The logs that have rows here. Raises Damaged, Newer."""
        with self._read() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            self._check_format(version, application)
            found = [LogRow(*row) for row in connection.execute("SELECT * FROM logs ORDER BY number")]
        if not all(row.id and row.pipeline and row.signal for row in found):
            raise Damaged(self, "a log without a name")
        return found

    def check_header(self) -> None:
        """Looks at the file alone, which is quick: whether it is one, and as long as it says. Raises Damaged, Newer."""
        with self.path.open("rb") as file:
            head = file.read(100)
        if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
            raise Damaged(self, "the file is cut short")
        pages, version, application = (int.from_bytes(head[at : at + 4], "big") for at in (28, 60, 68))
        if _size(self.path) < pages * PAGE_BYTES:
            raise Damaged(self, "the file is cut short")
        self._check_format(version, application)

    def _check_format(self, version: int, application: int) -> None:
        if application != APPLICATION_ID or version < 1:
            raise Damaged(self, "not a segment")
        if version > FORMAT:
            raise Newer(f"{self.path} has format {version}, and this program knows {FORMAT}: use a later version")

    def entries(self, log: int, start: int = 0, end: int = (1 << ROW_BITS) - 1) -> list[Entry]:
        """The appends of a log that begin within these rows, and the one that start lies in. Raises Damaged."""
        with self._read() as connection:
            found = connection.execute(_ENTRIES, (place(log, start), place(log, end), place(log, 0))).fetchall()
            entries = [entry_of(row) for row in found]
        return [entry for entry in entries if entry.end > start]

    def bodies(self, log: int, start: int, end: int) -> Iterator[tuple[Entry, bytes]]:
        """The same with their bodies, one after another. Raises Damaged."""
        for entry in self.entries(log, start, end):
            with self._read() as connection:
                found = connection.execute("SELECT body FROM appends WHERE place = ?", (place(log, entry.start),))
                row = found.fetchone()
            if row is None:
                raise Damaged(self, "an append is missing")
            yield entry, row[0]

    def _read(self) -> _Reading:
        return _Reading(self)

    def reader(self) -> sqlite3.Connection:
        """The connection that reads; whoever uses it holds the lock."""
        if self._reader is None:
            self._reader = _connect(self.path)
            self._reader.execute("PRAGMA query_only = 1")
        return self._reader

    @property
    def reading(self) -> threading.Lock:
        return self._reading

    # --- the end

    def close(self) -> None:
        """Closes its connections; the last one folds the write-ahead log into the file."""
        with self._reading:
            connections, self._writer, self._reader = (self._reader, self._writer), None, None
            for connection in connections:
                if connection is not None:
                    with suppress(sqlite3.Error):
                        connection.close()

    def remove(self) -> None:
        """Removes the file; what reads it is stopped. Raises OSError."""
        faults.reached("drop")
        with self._reading:
            for path in self.files:
                with suppress(FileNotFoundError):
                    if path == self.wal:
                        # Closing a connection folds this into the file, which would be work for nothing.
                        os.truncate(path, 0)
                    path.unlink()
        self.close()

    def set_aside(self, folder: Path) -> Path:
        """Moves what is left of a damaged segment away; gives where to. Raises OSError."""
        self.close()
        folder.mkdir(exist_ok=True)
        for path in self.files:
            if path.exists():
                os.replace(path, folder / path.name)
        sync(folder)
        sync(self.path.parent)
        return folder / self.path.name


class _Reading:
    """A connection for one statement or two; SQLite's words for damage become `Damaged`."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def __enter__(self) -> sqlite3.Connection:
        self._segment.reading.acquire()
        try:
            return self._segment.reader()
        except BaseException as error:
            self._segment.reading.release()
            raise self._told(error) from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._segment.reading.release()
        if error is not None:
            told = self._told(error)
            if told is not error:
                raise told from error

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, ValueError) or (isinstance(error, sqlite3.Error) and is_damage(error)):
            return Damaged(self._segment, str(error))
        return error


def write_ahead(connection: sqlite3.Connection) -> None:
    """Switches to a write-ahead log. SQLite does not raise where it can not, but says that it has not."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"no write-ahead log can be made (journal mode {mode})")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite says that a file is not as it was written."""
    code = getattr(error, "sqlite_errorcode", 0)
    # Without a code: a text that is no UTF-8.
    return code in _DAMAGE or code & 0xFF in _DAMAGE or not code


def number_of(path: Path) -> int:
    """The number in a segment's name."""
    return int(path.stem.partition("-")[2])


def entry_of(row: Any) -> Entry:
    """The entry that a row of the table is. Raises ValueError where it can not be one."""
    if not all(isinstance(value, int) and value >= 0 for value in row) or not row[1]:
        raise ValueError(f"not an entry: {row}")
    return Entry(row[0] >> ROW_BITS, row[0] & ((1 << ROW_BITS) - 1), *row[1:])


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
