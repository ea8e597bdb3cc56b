"""What a server's answer means for the slice that met it.

QuestDB answers 400 where it can not read a line or a column can not have a value, and 500 or 503 where it is busy or
has no room; nothing of a refused request is stored. Statuses that this table does not name are retried: that keeps
rows.
"""

from __future__ import annotations

import re

from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable

AUTH_DELAY_S = 60.0
# No server of this kind answers them; somebody has to mend the endpoint.
NOT_THERE_DELAY_S = 10.0

DATA = frozenset({400, 413, 422})
AUTH = frozenset({401, 403})
NOT_THERE = frozenset({404, 405})

# The server quotes values after these words; one of text may hold anything.
_QUOTED = re.compile(r"(value: ).*|(timestamp: )[^;]*", re.DOTALL)
_LINES = re.compile(r"^.*errors encountered on line\(s\):\s*", re.DOTALL)


class StoreError(Exception):
    """What the server answered.

    Args:
        status: of HTTP; 0 where no server answered (refused, reset, timed out).
        message: the server's text.
        delay_s: the wait that the server asks for.
    """

    def __init__(self, status: int, message: str, delay_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.delay_s = delay_s

    @property
    def label(self) -> str:
        """A stable code for metrics."""
        return f"questdb_{self.status}" if self.status else "questdb_unreachable"

    def describe(self) -> str:
        """Without anything of the rows."""
        if not self.status:
            return self.message[:300]
        text = _QUOTED.sub(r"\1\2[not shown]", _LINES.sub("", self.message)).strip()
        return f"answered {self.status}" + (f": {text[:300]}" if text else "")

    def outcome(self) -> ColonnadeError:
        """What becomes of the slice."""
        text = f"QuestDB {self.describe()}"
        if self.status in DATA:
            return Permanent(self.label, text)
        if self.status in AUTH:
            return Retryable(self.label, f"{text}; check username, password or token", AUTH_DELAY_S)
        if self.status in NOT_THERE:
            return Retryable(self.label, f"{text}; check endpoint: it must be QuestDB's HTTP port", NOT_THERE_DELAY_S)
        return Retryable(self.label, text, self.delay_s)
