"""A slice that a store refuses for good is halved until the bad rows are alone; the rest is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from colonnade.pipeline.component import Slice
from colonnade.pipeline.errors import ColonnadeError, Permanent
from colonnade.pipeline.log import cut_rows

# So many refusals in a row, with nothing stored between, and what is refused next is not halved further: where
# everything is bad, asking for every row alone takes longer than the rows took to come.
REFUSALS_IN_A_ROW = 4096

Send = Callable[[Slice], Awaitable[ColonnadeError | None]]


class Refused(NamedTuple):
    """A part of a slice that the store will never take."""

    part: Slice
    error: ColonnadeError


def rows_of(piece: Slice, start: int, end: int) -> Slice:
    """Rows start..end of a piece; nothing is copied."""
    rows, whole = end - start, max(piece.rows, 1)
    return replace(
        piece,
        batches=cut_rows(piece.batches, start, end),
        rows=rows,
        nbytes=piece.nbytes * rows // whole,
        stored_bytes=piece.stored_bytes * rows // whole,
        offset=piece.offset + start,
    )


@dataclass(slots=True)
class Halving:
    """One refused piece. `send` stores a part of it, or gives the error that ended it for good."""

    send: Send
    in_a_row: int = 0

    async def isolate(self, piece: Slice, error: ColonnadeError) -> list[Refused]:
        """What of the piece is refused, in order, once everything else is stored."""
        self.in_a_row += 1
        splits = isinstance(error, Permanent) and error.splits
        if piece.rows <= 1 or not splits or self.in_a_row > REFUSALS_IN_A_ROW:
            return [Refused(piece, error)]
        middle = piece.rows // 2
        refused: list[Refused] = []
        for half in (rows_of(piece, 0, middle), rows_of(piece, middle, piece.rows)):
            again = await self.send(half)
            if again is None:
                self.in_a_row = 0
            else:
                refused += await self.isolate(half, again)
        return refused


def by_reason(refused: list[Refused]) -> list[Refused]:
    """One part per reason, so that many bad rows do not make many files."""
    groups: dict[tuple[str, str], Refused] = {}
    for part, error in refused:
        known = groups.get((error.code, error.message))
        if known is None:
            groups[error.code, error.message] = Refused(replace(part, batches=list(part.batches)), error)
            continue
        known.part.batches += part.batches
        known.part.rows += part.rows
        known.part.nbytes += part.nbytes
        known.part.stored_bytes += part.stored_bytes
    return list(groups.values())
