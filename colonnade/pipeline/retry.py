"""When to try again: exponential backoff with jitter, never sooner than the store asked for.

Clause: otelcol 1.7, `retry_on_failure`; the wait before repeat n is
`initial_interval * multiplier**n`, spread by `randomization_factor`, at most `max_interval`, at least the delay that
the error carries.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from colonnade.pipeline.errors import Permanent, Retryable
from colonnade.pipeline.settings import RetryOnFailure

# An error that no exporter foresaw is repeated, but not for ever: it may be the slice that causes it.
UNFORESEEN_ATTEMPTS = 5


class GaveUp(Permanent):
    """Retryable errors went on for longer than `max_elapsed_time`, or retrying is switched off."""

    splits = False

    def __init__(self, last: Retryable, why: str) -> None:
        super().__init__("gave_up", f"{why}; last error: {last.message}")
        self.last = last


@dataclass(slots=True)
class Backoff:
    """The waits of one slice."""

    settings: RetryOnFailure
    started_s: float
    random: Callable[[], float] = field(default=random.random)
    attempts: int = 0
    unforeseen: int = 0

    def wait_s(self, error: Retryable, now_s: float) -> float:
        """Seconds to wait before the next attempt. Raises GaveUp."""
        if not self.settings.enabled:
            raise GaveUp(error, "retry_on_failure is off")
        self.unforeseen += error.code == "unforeseen"
        if self.unforeseen >= UNFORESEEN_ATTEMPTS:
            raise GaveUp(error, f"failed {self.unforeseen} times in an unforeseen way")
        wait_s = max(self._spread(self.interval_s()), error.delay_s or 0.0)
        limit_s = self.settings.max_elapsed_time
        if limit_s and now_s + wait_s - self.started_s > limit_s:
            raise GaveUp(error, f"max_elapsed_time of {limit_s:g}s is used up")
        self.attempts += 1
        return wait_s

    def interval_s(self) -> float:
        """The wait before the next attempt, before it is spread."""
        # The exponent is bounded because a float overflows after some 1700 repeats of a store that is down for a day.
        grown = self.settings.initial_interval * self.settings.multiplier ** min(self.attempts, 100)
        return min(grown, self.settings.max_interval)

    def _spread(self, interval_s: float) -> float:
        delta = self.settings.randomization_factor * interval_s
        return interval_s - delta + 2 * delta * self.random()
