"""What of a damaged file can still be read.

A damaged page costs the appends that lie on it: a write-ahead log is made readable beyond it (`native.mend_wal`), and a
tree of pages is searched around it. What is read has its checksum, so nothing is taken for whole that is not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from colonnade import native
from colonnade.extensions.file_storage.segment import PAGE_BYTES, Damaged, Entry, LogRow, Segment, entry_of, place

# Statements that may fail while one segment is searched; each takes some 50 us.
FAILURES_MAX = 50_000


def wal_is_damaged(wal: Path) -> bool:
    """Whether a write-ahead log holds commits that SQLite would drop. A torn end, as a crash leaves it, is none."""
    try:
        held = wal.read_bytes()
    except FileNotFoundError:
        return False
    _, beyond, _ = native.survey_wal(held, PAGE_BYTES)
    return beyond > 0


def mend(wal: Path) -> None:
    """Lets SQLite read what comes after damaged frames. Raises OSError."""
    wal.write_bytes(native.mend_wal(wal.read_bytes(), PAGE_BYTES))


class Search:
    """Finds the appends of a damaged segment."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._failures = 0
        self._connection = sqlite3.connect(segment.path, isolation_level=None, check_same_thread=False)

    def close(self) -> None:
        self._connection.close()

    def logs(self, known: Iterable[LogRow]) -> list[LogRow]:
        """The logs that have rows in it, as it says itself, else as others know."""
        with suppress(Damaged, sqlite3.Error):
            return self._segment.logs()
        return list(known)

    def appends(self, logs: Iterable[LogRow]) -> Iterator[tuple[Entry, bytes]]:
        """Every append that is whole, with its body."""
        for log in logs:
            for entry in self._entries(place(log.number, 0), place(log.number + 1, 0)):
                body = self._body(entry)
                if body is not None:
                    yield entry, body

    def _entries(self, low: int, high: int) -> list[Entry]:
        """The appends between two places: all at once, else from both ends, else by halves."""
        found = self._select(low, high)
        if found is not None:
            return found
        first = self._until_failure(low, high, "ASC")
        low = place(first[-1].log, first[-1].end) if first else low
        last = self._until_failure(low, high, "DESC")[::-1]
        high = place(last[0].log, last[0].start) if last else high
        return [*first, *self._halves(low, high), *last]

    def _halves(self, low: int, high: int) -> list[Entry]:
        if low >= high or self._failures > FAILURES_MAX:
            return []
        found = self._select(low, high)
        if found is not None or high - low == 1:
            return found or []
        middle = (low + high) // 2
        return self._halves(low, middle) + self._halves(middle, high)

    def _select(self, low: int, high: int) -> list[Entry] | None:
        try:
            return [entry_of(row) for row in self._connection.execute(_SELECT, (low, high)).fetchall()]
        except (sqlite3.Error, ValueError):
            self._failures += 1
            return None

    def _until_failure(self, low: int, high: int, order: str) -> list[Entry]:
        """The appends, as far as a walk gets."""
        found: list[Entry] = []
        with suppress(sqlite3.Error, ValueError):
            for row in self._connection.execute(f"{_SELECT} {order}", (low, high)):
                found.append(entry_of(row))
        self._failures += 1
        return found

    def _body(self, entry: Entry) -> bytes | None:
        at = place(entry.log, entry.start)
        try:
            (body,) = self._connection.execute("SELECT body FROM appends WHERE place = ?", (at,)).fetchone()
            rows = sum(batch.rows for batch in native.from_ipc(body, at))
        except (sqlite3.Error, native.NativeError, TypeError, ValueError):
            return None
        return body if rows == entry.rows else None


_SELECT = (
    "SELECT place, rows, stored_bytes, nbytes, requests, at_ms FROM appends "
    "WHERE place >= ? AND place < ? ORDER BY place"
)
