"""Which rows of a log lie in which segment."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass

from colonnade.extensions.file_storage.segment import Entry, Segment
from colonnade.pipeline.cursor import Totals


@dataclass(slots=True)
class Extent:
    """Consecutive rows of one log in one segment."""

    segment: Segment
    start: int
    end: int
    totals: Totals


class Extents:
    """Those of one log, in order, disjoint; rows that lie nowhere are lost or were never written."""

    def __init__(self) -> None:
        self._list: list[Extent] = []

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._list)

    @property
    def end(self) -> int:
        return self._list[-1].end if self._list else 0

    def add(self, segment: Segment, entry: Entry) -> None:
        """Rows that no extent has."""
        totals = Totals(entry.rows, entry.nbytes, entry.stored_bytes, entry.requests)
        last = self._list[-1] if self._list else None
        if last is not None and last.end == entry.start and last.segment is segment:
            last.end, last.totals = entry.end, plus(last.totals, totals)
        else:
            insort(self._list, Extent(segment, entry.start, entry.end, totals), key=lambda e: e.start)

    def insert(self, extent: Extent) -> None:
        """An extent that overlaps none."""
        insort(self._list, extent, key=lambda e: e.start)

    def between(self, start: int, end: int) -> list[Extent]:
        """Those that have any of these rows."""
        first = max(bisect_right(self._list, start, key=lambda e: e.start) - 1, 0)
        return [e for e in self._list[first:] if e.end > start and e.start < end]

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of start..end that lie nowhere."""
        found: list[tuple[int, int]] = []
        at = start
        for extent in self.between(start, end):
            if at < extent.start:
                found.append((at, extent.start))
            at = max(at, extent.end)
        if at < end:
            found.append((at, end))
        return found

    def without(self, segment: Segment) -> list[Extent]:
        """Takes a segment's extents out; gives them."""
        gone = [extent for extent in self._list if extent.segment is segment]
        self._list = [extent for extent in self._list if extent.segment is not segment]
        return gone


def plus(one: Totals, other: Totals) -> Totals:
    return Totals(*(a + b for a, b in zip(one, other, strict=True)))
