"""What a folder holds when it is opened: after a clean stop, after a crash, after something has been at its files.

Full segments are taken at the catalog's word, so that opening takes as long as reading the one that was being written;
what is damaged within them shows when it is read. A row is lost when some cursor has not done it and it lies nowhere.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from colonnade.extensions.file_storage import salvage
from colonnade.extensions.file_storage.catalog import (
    Catalog,
    CatalogDamaged,
    CursorRecord,
    ExtentRecord,
    LogRecord,
)
from colonnade.extensions.file_storage.extents import Extent, Extents
from colonnade.extensions.file_storage.segment import PATTERN, Damaged, Entry, LogRow, Segment, number_of

if TYPE_CHECKING:
    from colonnade.extensions.file_storage.log import DurableLog

DAMAGED = "damaged"
RUNNING = "running"
DAMAGED_MAX_BYTES = 1 << 30
# Where the catalog is lost, row numbers go on so much later: a name that was given to rows is never given to others.
NUMBER_GAP = 1 << 32

Ranges = list[tuple[int, int]]


@dataclass(slots=True)
class LogState:
    """A log that has rows or cursors here."""

    record: LogRecord
    extents: Extents = field(default_factory=Extents)
    log: DurableLog | None = None
    """The open one, or the last that was."""
    told_lost: Ranges = field(default_factory=list[tuple[int, int]])
    volatile: dict[str, CursorRecord] = field(default_factory=dict[str, CursorRecord])
    """Cursors that end with the process."""
    forgotten: bool = False
    """The catalog was lost: an exporter that is not known may have a place here, and begins at the first row."""

    @property
    def row(self) -> LogRow:
        return LogRow(self.record.number, self.record.id, self.record.pipeline, self.record.signal)

    def cursors(self) -> list[CursorRecord]:
        return [*self.record.cursors.values(), *self.volatile.values()]

    def needed(self, start: int, end: int) -> bool:
        """Whether any cursor has not done some of these rows."""
        return any(_rest(cursor, start, end) for cursor in self.cursors()) or (self.forgotten and start < end)

    def wanted(self, start: int, end: int) -> Ranges:
        """The rows of start..end that any cursor has not done."""
        return merged(sorted(part for cursor in self.cursors() for part in _rest(cursor, start, end)))

    def lost(self, start: int, end: int) -> Ranges:
        """Rows of start..end that a cursor needs and that lie nowhere."""
        found: set[tuple[int, int]] = set()
        for cursor in self.record.cursors.values():
            for low, high in _rest(cursor, start, end):
                found.update(self.extents.missing(low, high))
        return merged(sorted(found))


@dataclass(slots=True)
class Recovered:
    """What was found. `damaged`: segments to be searched for what can still be read."""

    logs: dict[int, LogState] = field(default_factory=dict[int, LogState])
    segments: dict[int, Segment] = field(default_factory=dict[int, Segment])
    damaged: list[Damaged] = field(default_factory=list[Damaged])
    told: list[str] = field(default_factory=list[str])
    """Sentences about damage."""
    last_number: int = 0
    catalog_lost: bool = False
    in_doubt: bool = False
    """The catalog may have forgotten what stores have."""


def recover(folder: Path, catalog: Catalog) -> Recovered:
    """Opens the catalog and finds everything. Raises Newer, sqlite3.Error, OSError."""
    found = Recovered()
    records, known = _open_catalog(folder, catalog, found)
    found.logs = {number: LogState(record) for number, record in records.items()}
    by_segment: dict[int, list[ExtentRecord]] = {}
    for extent in known:
        by_segment.setdefault(extent.segment, []).append(extent)
    paths = sorted(folder.glob(PATTERN), key=number_of)
    for path in folder.glob(f"{PATTERN}-*"):
        if path.with_name(path.name.rpartition("-")[0]) not in paths:
            path.unlink()
    numbers = [number_of(path) for path in paths]
    found.last_number = max([*numbers, *by_segment], default=0)
    for number in sorted(set(by_segment) - set(numbers)):
        found.told.append(f"{Segment(folder, number).path.name} is missing")
    # The newest first: what was moved from an older segment before a crash is taken from where it was moved to.
    for number in reversed(numbers):
        _open_segment(Segment(folder, number), by_segment.get(number, []), found)
    return found


def _open_catalog(folder: Path, catalog: Catalog, found: Recovered) -> tuple[dict[int, LogRecord], list[ExtentRecord]]:
    wal = catalog.wal
    cut_off = (folder / RUNNING).exists() and catalog.path.exists() and not wal.exists()
    if salvage.wal_is_damaged(wal):
        keep(folder, [catalog.path, wal])
        salvage.mend(wal)
        found.in_doubt = True
        found.told.append(f"{wal.name} was damaged and has been mended: every slice that waits is in doubt")
    try:
        fresh = catalog.open()
        records, known = catalog.read()
    except CatalogDamaged as error:
        kept = catalog.set_aside(folder / DAMAGED)
        found.told.append(f"the catalog is damaged ({error}) and is set aside as {kept}: every slice is in doubt")
        catalog.open()
        records, known = catalog.read()
        fresh = True
    if cut_off:
        found.told.append(f"{wal.name} is missing: the catalog has forgotten what it was told last")
    found.catalog_lost = (fresh or cut_off) and any(folder.glob(PATTERN))
    found.in_doubt |= found.catalog_lost
    return records, known


def _open_segment(segment: Segment, known: list[ExtentRecord], found: Recovered) -> None:
    """Adds what a segment holds."""
    try:
        if salvage.wal_is_damaged(segment.wal):
            raise Damaged(segment, "its write-ahead log holds commits that can not be read")
        folded = not segment.wal.exists() or not segment.wal.stat().st_size
        if folded:
            segment.check_header()
        found.segments[segment.number] = segment
        if known and folded and _taken_at_word(segment, known, found):
            return
        _scan(segment, found)
    except Damaged as damage:
        found.segments.pop(segment.number, None)
        for state in found.logs.values():
            state.extents.without(segment)
        found.damaged.append(damage)


def _taken_at_word(segment: Segment, known: list[ExtentRecord], found: Recovered) -> bool:
    """Adds a full segment's extents as the catalog has them, unless rows of theirs lie elsewhere already."""
    for extent in known:
        state = found.logs.get(extent.log)
        if state is None or state.extents.between(extent.start, extent.end):
            return False
    for extent in known:
        found.logs[extent.log].extents.insert(Extent(segment, extent.start, extent.end, extent.totals))
        segment.stored_bytes += extent.totals.stored_bytes
    return True


def _scan(segment: Segment, found: Recovered) -> None:
    """Adds what a segment says it holds. Raises Damaged, Newer."""
    for row in segment.logs():
        for entry in segment.entries(row.number):
            adopt(found.logs, row, segment, entry)


def adopt(logs: dict[int, LogState], row: LogRow, segment: Segment, entry: Entry) -> None:
    """An append belongs to a log, unless it lies elsewhere already."""
    state = logs.get(row.number)
    if state is None:
        state = logs[row.number] = LogState(LogRecord(row.number, row.id, row.pipeline, row.signal))
    if not state.extents.between(entry.start, entry.end):
        state.extents.add(segment, entry)
        segment.stored_bytes += entry.stored_bytes


def number_on(state: LogState, found: Recovered) -> None:
    """The number of the next row: above everything that ever had one. Comes last."""
    record = state.record
    ends = [record.next_row, state.extents.end]
    for cursor in record.cursors.values():
        ends += [cursor.done.position, cursor.left_at or 0, *(end for _, end in cursor.done)]
        ends += [note.end for note in cursor.notes.values()]
    last = max(ends)
    record.next_row = last + (NUMBER_GAP if found.catalog_lost else 0)
    state.forgotten = found.catalog_lost
    for cursor in record.cursors.values():
        if found.in_doubt:
            cursor.doubt_below = last
        if record.next_row > last:
            cursor.done.add(last, record.next_row)


def _rest(cursor: CursorRecord, start: int, end: int) -> Ranges:
    return list(cursor.done.rest(start, end if cursor.left_at is None else min(end, cursor.left_at)))


def merged(ranges: Ranges) -> Ranges:
    """The union of ranges that are sorted."""
    found: Ranges = []
    for start, end in ranges:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def spelled(ranges: Ranges) -> str:
    """Ranges of rows, for people."""
    return ", ".join(f"{start}..{end}" for start, end in ranges[:20]) + (", ..." if len(ranges) > 20 else "")


def keep(folder: Path, paths: list[Path]) -> None:
    """Copies files to where damaged ones are kept. Raises OSError."""
    (folder / DAMAGED).mkdir(exist_ok=True)
    for path in paths:
        if path.exists():
            shutil.copy2(path, folder / DAMAGED / path.name)


def bound_damaged(folder: Path) -> None:
    """The oldest of the files set aside make room for the newest."""
    files = sorted((p for p in (folder / DAMAGED).glob("*") if p.is_file()), key=lambda p: p.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        if total <= DAMAGED_MAX_BYTES:
            break
        total -= path.stat().st_size
        path.unlink()
