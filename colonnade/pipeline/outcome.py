"""What a sender is told: one table from outcome kind to status, per protocol.

Clause: OTLP 1.11 'Failures' and otelcol 1.6; fullness of the daemon is UNAVAILABLE / 503 with a delay, a tenant's
quota is RESOURCE_EXHAUSTED / 429 with a delay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from colonnade.pipeline.errors import ColonnadeError


class Status(NamedTuple):
    """How one outcome kind looks on the wire."""

    http: int
    grpc: int
    retryable: bool = False


# Kinds that hold for every protocol; `PROTOCOLS` lists where a protocol's clients need it otherwise.
TABLE: dict[str, Status] = {
    "accepted": Status(200, 0),
    "partial": Status(200, 0),
    "invalid": Status(400, 3),
    "unauthenticated": Status(401, 16),
    "forbidden": Status(403, 7),
    "unimplemented": Status(404, 12),
    "quota": Status(429, 8, retryable=True),
    "internal": Status(500, 13),
    "canceled": Status(503, 1, retryable=True),
    "deadline_exceeded": Status(503, 4, retryable=True),
    "aborted": Status(503, 10, retryable=True),
    "out_of_range": Status(503, 11, retryable=True),
    "unavailable": Status(503, 14, retryable=True),
    "data_loss": Status(503, 15, retryable=True),
}

PROTOCOLS: dict[str, dict[str, Status]] = {
    "otlp": {},
    "events": {},
    # Segment's libraries read Retry-After only on 429.
    "segment": {"unavailable": Status(429, 14, retryable=True)},
    # Prometheus retries 5xx; 429 only where the user has switched it on.
    "prometheus": {"quota": Status(503, 8, retryable=True)},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one request or one group of requests.

    Args:
        kind: a row of `TABLE`.
        message: for the sender's log; empty when accepted.
        delay_s: least wait before trying again; None = the client's own backoff.
        rejected: rows not taken although the rest was (`partial_success`).
        code: the error's stable code, for metrics.
    """

    kind: str = "accepted"
    message: str = ""
    delay_s: float | None = None
    rejected: int = 0
    code: str = ""

    @property
    def ok(self) -> bool:
        """Whether the sender must not send again."""
        return self.kind in ("accepted", "partial")

    @property
    def retryable(self) -> bool:
        return TABLE[self.kind].retryable


ACCEPTED = Outcome()


def partial(rejected: int, message: str) -> Outcome:
    """Accepted but for `rejected` rows."""
    return Outcome("partial", message, rejected=rejected, code="partial")


def of_error(error: BaseException) -> Outcome:
    """The outcome an error stands for; one that is not ours is a fault of the daemon, told without details."""
    if isinstance(error, ColonnadeError):
        return Outcome(error.kind, error.message, error.delay_s, code=error.code)
    return Outcome("internal", f"internal error ({type(error).__name__}); see the daemon's log", code="internal")


def status(kind: str, protocol: str = "otlp") -> Status:
    """Status of an outcome kind for a protocol; unknown names are a programming error (KeyError)."""
    return PROTOCOLS[protocol].get(kind) or TABLE[kind]
