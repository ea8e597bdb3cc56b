"""The catalog: which logs there are, how far each cursor has come, which slices are in doubt, and what segments hold.

A small SQLite file of its own, so that a damaged page among the rows does not touch it. It is never ahead of a store: a
cursor moves here after its store has the rows, and a slice is noted here before it is sent.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colonnade.extensions.file_storage.segment import Newer, is_damage, write_ahead
from colonnade.pipeline.cursor import RowRanges, Totals
from colonnade.pipeline.disk import sync

FORMAT = 1
APPLICATION_ID = 0x636C6E63
NAME = "catalog.sqlite"
BALLAST = "reserve"
BALLAST_BYTES = 4 << 20
BUSY_TIMEOUT_S = 10.0

_SCHEMA = """
CREATE TABLE logs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, pipeline TEXT NOT NULL UNIQUE, signal TEXT NOT NULL,
    next_row INTEGER NOT NULL
);
CREATE TABLE cursors (
    log INTEGER, name TEXT, position INTEGER NOT NULL, above TEXT NOT NULL, left_at INTEGER,
    doubt_below INTEGER NOT NULL, PRIMARY KEY (log, name)
) WITHOUT ROWID;
CREATE TABLE notes (
    log INTEGER, name TEXT, start INTEGER, "end" INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (log, name, start)
) WITHOUT ROWID;
CREATE TABLE extents (
    segment INTEGER, log INTEGER, start INTEGER, "end" INTEGER NOT NULL, nbytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL, requests INTEGER NOT NULL, PRIMARY KEY (segment, log, start)
) WITHOUT ROWID;
"""

Statement = tuple[str, tuple[Any, ...]]


class CatalogDamaged(Exception):
    """The file can not be read."""


@dataclass(slots=True)
class Note:
    """A slice in doubt: its range, and what it takes to send it again exactly."""

    start: int
    end: int
    body: dict[str, Any]


@dataclass(slots=True)
class CursorRecord:
    """`left_at`: the exporter has left the pipeline, and needs no rows from there on. `doubt_below`: a damaged catalog
    may have forgotten that the store has rows below."""

    name: str
    done: RowRanges
    left_at: int | None = None
    doubt_below: int = 0
    notes: dict[int, Note] = field(default_factory=dict[int, Note])


@dataclass(slots=True)
class LogRecord:
    """A pipeline's log. `next_row` is at least what the catalog had to know of: there may be more rows."""

    number: int
    id: str
    pipeline: str
    signal: str
    next_row: int = 0
    cursors: dict[str, CursorRecord] = field(default_factory=dict[str, CursorRecord])


@dataclass(slots=True)
class ExtentRecord:
    """Consecutive rows of one log in one segment."""

    segment: int
    log: int
    start: int
    end: int
    totals: Totals


class Catalog:
    """The open file. `commit` belongs to one thread; `read` comes before it."""

    def __init__(self, folder: Path, fsync: bool) -> None:
        self.path = folder / NAME
        self._ballast = folder / BALLAST
        self._connection: sqlite3.Connection | None = None
        self.fsync = fsync

    def open(self) -> bool:
        """Opens or makes the file; gives whether it made it. Raises CatalogDamaged, Newer, sqlite3.Error, OSError."""
        made = False
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            write_ahead(connection)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if (version, application) == (0, 0) and not _tables(connection):
                marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};"
                connection.executescript(f"BEGIN; {marks} {_SCHEMA} COMMIT;")
                made = True
            elif application != APPLICATION_ID:
                raise CatalogDamaged("not a catalog")
            elif version > FORMAT:
                raise Newer(f"{self.path} has format {version}, and this program knows {FORMAT}: use a later version")
        except sqlite3.Error as error:
            connection.close()
            if is_damage(error):
                raise CatalogDamaged(str(error)) from error
            raise
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.set_fsync(self.fsync)
        if made:
            sync(self.path.parent)
        self._make_ballast()
        return made

    @property
    def wal(self) -> Path:
        return self.path.with_name(NAME + "-wal")

    def set_fsync(self, fsync: bool) -> None:
        """Whether a commit returns after the disk has it (FULL), or after the kernel has (NORMAL)."""
        assert self._connection is not None
        self.fsync = fsync
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")

    def read(self) -> tuple[dict[int, LogRecord], list[ExtentRecord]]:
        """Everything it holds. Raises CatalogDamaged."""
        assert self._connection is not None
        try:
            return self._read(self._connection)
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise CatalogDamaged(f"{type(error).__name__}: {error}") from error

    def _read(self, connection: sqlite3.Connection) -> tuple[dict[int, LogRecord], list[ExtentRecord]]:
        (sound,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if sound != "ok":
            raise CatalogDamaged(str(sound))
        logs = {row[0]: LogRecord(*row) for row in connection.execute("SELECT * FROM logs ORDER BY number")}
        for log, name, position, above, left_at, doubt_below in connection.execute("SELECT * FROM cursors"):
            ranges = [(int(start), int(end)) for start, end in json.loads(above)]
            logs[log].cursors[name] = CursorRecord(name, RowRanges(position, ranges), left_at, doubt_below)
        for log, name, start, end, body in connection.execute("SELECT * FROM notes ORDER BY start"):
            logs[log].cursors[name].notes[start] = Note(start, end, json.loads(body))
        extents = [
            ExtentRecord(segment, log, start, end, Totals(end - start, *counts))
            for segment, log, start, end, *counts in connection.execute("SELECT * FROM extents")
        ]
        return logs, extents

    def commit(self, statements: Iterable[Statement]) -> None:
        """Runs them all in one transaction, or none. Raises sqlite3.Error.

        A full disk must not keep cursors from moving: that is what makes room again.
        """
        listed = list(statements)
        try:
            self._commit(listed)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL or not self._ballast.exists():
                raise
            self._ballast.unlink()
            self._commit(listed)

    def _commit(self, statements: list[Statement]) -> None:
        assert self._connection is not None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for sql, values in statements:
                self._connection.execute(sql, values)
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _make_ballast(self) -> None:
        """Room that is given up when the disk is full, so that the catalog can be written."""
        if self._ballast.exists():
            return
        try:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError:
            self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def set_aside(self, folder: Path) -> Path:
        """Moves a damaged catalog away; gives where to."""
        self.close()
        folder.mkdir(exist_ok=True)
        for suffix in ("", "-wal", "-shm"):
            path = self.path.with_name(NAME + suffix)
            if path.exists():
                os.replace(path, folder / path.name)
        return folder / NAME


def _tables(connection: sqlite3.Connection) -> int:
    with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as found:
        return found.fetchone()[0]


# --- statements


def save_log(log: LogRecord) -> Statement:
    return (
        "INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?, ?)",
        (log.number, log.id, log.pipeline, log.signal, log.next_row),
    )


def save_cursor(log: LogRecord, cursor: CursorRecord) -> Statement:
    above = json.dumps(list(cursor.done), separators=(",", ":"))
    values = (log.number, cursor.name, cursor.done.position, above, cursor.left_at, cursor.doubt_below)
    return "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?, ?)", values


def save_note(log: LogRecord, cursor: CursorRecord, note: Note) -> Statement:
    body = json.dumps(note.body, separators=(",", ":"))
    return "INSERT OR REPLACE INTO notes VALUES (?, ?, ?, ?, ?)", (log.number, cursor.name, note.start, note.end, body)


def drop_note(log: LogRecord, cursor: CursorRecord, start: int) -> Statement:
    return "DELETE FROM notes WHERE log = ? AND name = ? AND start = ?", (log.number, cursor.name, start)


def drop_cursor(log: LogRecord, name: str) -> list[Statement]:
    values = (log.number, name)
    return [
        ("DELETE FROM notes WHERE log = ? AND name = ?", values),
        ("DELETE FROM cursors WHERE log = ? AND name = ?", values),
    ]


def save_extent(extent: ExtentRecord) -> Statement:
    counts = extent.totals[1:]
    values = (extent.segment, extent.log, extent.start, extent.end, *counts)
    return "INSERT OR REPLACE INTO extents VALUES (?, ?, ?, ?, ?, ?, ?)", values


def drop_segment(segment: int) -> Statement:
    return "DELETE FROM extents WHERE segment = ?", (segment,)
