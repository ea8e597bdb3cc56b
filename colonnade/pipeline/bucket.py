"""A bucket of tokens: how much may pass by and by."""

from __future__ import annotations

import time
from collections.abc import Callable


class Bucket:
    """Tokens that come by and by.

    Args:
        rate: tokens per second.
        burst: how many it holds; 0 = a second's worth, at least one.
    """

    def __init__(self, rate: float, burst: float = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most = rate, float(burst or max(rate, 1.0))
        self._clock = clock
        self._tokens, self._at_s = self._most, clock()

    def wait_s(self, count: float = 1) -> float:
        """Seconds until so many can be taken; 0 = now. What is more than it holds can be taken once it is full."""
        now_s = self._clock()
        self._tokens = min(self._most, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return max(min(count, self._most) - self._tokens, 0.0) / self._rate

    def take(self, count: float = 1) -> float:
        """Takes them; else how many seconds until it can. Of more than it holds, the rest is owed."""
        wait_s = self.wait_s(count)
        if not wait_s:
            self._tokens -= count
        return wait_s

    @property
    def is_full(self) -> bool:
        """Whether a new one would be no other."""
        self.wait_s()
        return self._tokens >= self._most
