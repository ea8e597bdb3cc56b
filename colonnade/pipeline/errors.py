"""Errors that travel between components.

One tree. Each class says whether trying again can help (`permanent`) and which outcome the caller is told
(`kind`, a row of `outcome.TABLE`); each instance has a stable `code` for metrics, logs and tests.
"""

from __future__ import annotations

from typing import ClassVar


class ColonnadeError(Exception):
    """Something that a caller is told about.

    Args:
        code: stable lower_snake_case name, safe as a metric label.
        message: what is wrong, what was given, what to do; never holds a secret or a payload.
        permanent: whether sending the same again must fail again.
    """

    kind: ClassVar[str] = "internal"
    delay_s: float | None = None

    def __init__(self, code: str, message: str, permanent: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.permanent = permanent

    def __str__(self) -> str:
        return self.message


class Retryable(ColonnadeError):
    """Trying again later can help; `delay_s` is the least wait that the failing side asks for."""

    kind: ClassVar[str] = "unavailable"

    def __init__(self, code: str, message: str, delay_s: float | None = None) -> None:
        super().__init__(code, message, permanent=False)
        self.delay_s = delay_s


class QueueFull(Retryable):
    """A bounded queue or log has no room now."""

    def __init__(self, message: str, delay_s: float = 1.0, code: str = "queue_full") -> None:
        super().__init__(code, message, delay_s)


class MemoryLimited(Retryable):
    """The process is over its memory limit; refused before decoding."""

    def __init__(self, message: str = "data refused due to high memory usage", delay_s: float = 1.0) -> None:
        super().__init__("memory_limited", message, delay_s)


class QuotaExceeded(Retryable):
    """A tenant is over its quota; others are served."""

    kind: ClassVar[str] = "quota"

    def __init__(self, message: str, delay_s: float = 1.0) -> None:
        super().__init__("quota_exceeded", message, delay_s)


class ShuttingDown(Retryable):
    """The daemon or the pipeline is draining."""

    def __init__(self, message: str = "the pipeline is shutting down", delay_s: float = 1.0) -> None:
        super().__init__("shutting_down", message, delay_s)


class Permanent(ColonnadeError):
    """The same data must fail again: do not retry, park it."""

    kind: ClassVar[str] = "internal"
    splits: bool = True
    """Whether some rows may be at fault and others not, so that it is worth trying halves."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, permanent=True)


class Refused(Permanent):
    """The sender's data is at fault (malformed, forbidden by a rule); told as an invalid argument."""

    kind: ClassVar[str] = "invalid"


class Unauthenticated(Permanent):
    """No credential, or one that is not known."""

    kind: ClassVar[str] = "unauthenticated"

    def __init__(self, message: str = "missing or unknown credential") -> None:
        super().__init__("unauthenticated", message)


class Forbidden(Permanent):
    """The credential is known and may not do this."""

    kind: ClassVar[str] = "forbidden"

    def __init__(self, message: str = "not allowed") -> None:
        super().__init__("forbidden", message)
