"""What a store's error means for the slice that met it: the table of ClickHouse's error codes, as data.

ClickHouse says nowhere which errors pass; HTTP statuses do not tell either (400, 404, 408 and 500 are given to errors
of every class), so only the number in `X-ClickHouse-Exception-Code` counts. A code that no class names is retried:
that keeps rows.
"""

from __future__ import annotations

import re
from enum import Enum

BACK_PRESSURE_DELAY_S = 10.0
AUTH_DELAY_S = 60.0


class Action(Enum):
    """What to do with the slice."""

    RETRY = "retry"
    """The same again, with the usual backoff."""
    BACK_PRESSURE = "back_pressure"
    """The same again, not soon: the server is behind."""
    SHRINK = "shrink"
    """In halves."""
    SCHEMA = "schema"
    """Look at the table again, once; then park it."""
    DATA = "data"
    """Park it: the rows are at fault."""
    QUERY = "query"
    """Park it: the statement is at fault."""
    AUTH = "auth"
    """The same again, rarely, until someone mends the credentials."""


CLASSES: dict[Action, frozenset[int]] = {
    Action.RETRY: frozenset(
        {159, 202, 203, 209, 210, 225, 236, 242, 254, 265, 279, 285, 286, 289, 319, 373, 394, 425, 439, 473}
        | {692, 733, 745, 999, 3, 107, 164}
    ),
    Action.BACK_PRESSURE: frozenset({201, 243, 252}),
    Action.SHRINK: frozenset({229, 241, 307, 396}),
    Action.SCHEMA: frozenset({16, 20, 47, 50, 60, 81}),
    Action.DATA: frozenset({6, 26, 27, 33, 38, 41, 43, 53, 69, 70, 72, 117, 131, 349, 407, 469, 691}),
    Action.QUERY: frozenset({46, 48, 62, 73, 115, 271}),
    Action.AUTH: frozenset({192, 193, 194, 497, 516}),
}

_BY_CODE = {code: action for action, codes in CLASSES.items() for code in codes}

_PREFIX = re.compile(r"^.*?Code: \d+\. DB::Exception: ", re.DOTALL)
_TRAILER = re.compile(r" \([A-Z_0-9]+\)( \(version .*)?$")

# Two conditions share code 252; this one is about the insert, not about the server.
TOO_MANY_PARTITIONS = "partitions for single INSERT block"


class StoreError(Exception):
    """What a store answered, whichever way it was reached.

    Args:
        code: ClickHouse's number; 0 where no server answered (refused, reset, timed out).
        message: the store's text.
        name: the error's symbolic name, if the store said it.
    """

    def __init__(self, code: int, message: str, name: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.name = name

    @property
    def action(self) -> Action:
        if self.code == 252 and TOO_MANY_PARTITIONS in self.message:
            return Action.SHRINK
        return _BY_CODE.get(self.code, Action.RETRY)

    @property
    def label(self) -> str:
        """A stable code for metrics."""
        return f"clickhouse_{self.code}" if self.code else "clickhouse_unreachable"

    def describe(self) -> str:
        """Without anything of the rows: errors about data quote them."""
        if not self.code:
            return self.message[:300]
        what = f"code {self.code}" + (f" {self.name}" if self.name else "")
        if self.action is Action.DATA:
            return what
        text = _TRAILER.sub("", _PREFIX.sub("", self.message).splitlines()[0])
        return f"{what}: {text[:300]}"
