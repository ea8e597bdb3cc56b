"""The daemon's own log: one line per event, for people or as JSON, repeated lines sampled.

Of lines with one text (before its values are put in) the first `initial` per tick are written, then every
`thereafter`-th.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from colonnade.daemon.configuration.service import LogSampling, LogSettings

NAME = "colonnade"
TEXTS_MAX = 10_000
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}


class Sampler(logging.Filter):
    """Leaves repeated lines out."""

    def __init__(self, settings: LogSampling) -> None:
        super().__init__()
        self._settings = settings
        self._seen: dict[tuple[int, str], int] = {}
        self._tick_ends_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now_s = time.monotonic()
        if now_s >= self._tick_ends_s or len(self._seen) > TEXTS_MAX:
            self._seen.clear()
            self._tick_ends_s = now_s + self._settings.tick
        key = (record.levelno, str(record.msg))
        number = self._seen[key] = self._seen.get(key, 0) + 1
        over = number - self._settings.initial
        if over <= 0:
            return True
        return bool(self._settings.thereafter) and over % self._settings.thereafter == 0


class _Formatter(logging.Formatter):
    def __init__(self, settings: LogSettings) -> None:
        super().__init__()
        self._settings = settings

    def _trace(self, record: logging.LogRecord) -> str:
        wanted = record.exc_info and not self._settings.disable_stacktrace
        return self.formatException(record.exc_info) if wanted and record.exc_info else ""


def _stamp(created_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s)) + f".{int(created_s % 1 * 1000):03d}Z"


class ConsoleFormatter(_Formatter):
    """Time, level, who, text."""

    def format(self, record: logging.LogRecord) -> str:
        level = _NAMES.get(record.levelno, "info")
        who = "" if self._settings.disable_caller else record.name.removeprefix(f"{NAME}.").removeprefix(NAME)
        head = f"{_stamp(record.created)}\t{level}\t{who + chr(9) if who else ''}"
        text = record.getMessage()
        trace = self._trace(record)
        return head + text + (f"\n{trace}" if trace else "")


class JSONFormatter(_Formatter):
    """One object per line, with the Collector's keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "level": _NAMES.get(record.levelno, "info"),
            "ts": _stamp(record.created),
            "msg": record.getMessage(),
            **self._settings.initial_fields,
        }
        if not self._settings.disable_caller:
            line["logger"] = record.name
        if trace := self._trace(record):
            line["stacktrace"] = trace
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up(settings: LogSettings) -> None:
    """Applies the settings; again at each reload. Raises OSError when a file can not be opened."""
    logger = logging.getLogger(NAME)
    formatter = (JSONFormatter if settings.encoding == "json" else ConsoleFormatter)(settings)
    handlers = [_handler(path) for path in settings.output_paths]
    for handler in handlers:
        handler.setFormatter(formatter)
        if settings.sampling.enabled:
            handler.addFilter(Sampler(settings.sampling))
    old, logger.handlers = logger.handlers, handlers
    for handler in old:
        handler.close()
    logger.setLevel(_LEVELS[settings.level])
    logger.propagate = False


def _handler(path: str) -> logging.Handler:
    streams: dict[str, TextIO] = {"stderr": sys.stderr, "stdout": sys.stdout}
    if path in streams:
        return logging.StreamHandler(streams[path])
    return logging.FileHandler(path, encoding="utf-8", delay=False)
