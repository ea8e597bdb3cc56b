"""The embedded ClickHouse engine (chdb): one per process, shared by the components that write to it and read from it.

The engine belongs to the process, not to a graph: whoever needs it acquires it, and it closes when the last one has
released it. A reload builds the new graph before it shuts the old one down, so the engine is handed over open. chdb
allows one path per process and hangs in a forked child: open it after forking, or spawn.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from colonnade.pipeline.errors import ColonnadeError

MIB = 1 << 20
GIB = 1 << 30
MARK_CACHE_BYTES = 256 * MIB
BACKGROUND_THREADS = 2
IDLE_HANDLES = 8
CLOSE_TIMEOUT_S = 60.0

_CODE = re.compile(r"Code: (\d+)")


class EngineError(Exception):
    """What the engine answers; `code` is ClickHouse's number, 0 where it gave none."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        code = _CODE.search(message)
        self.code = int(code[1]) if code else 0


class EngineUnavailable(ColonnadeError):
    """The engine can not be opened: not installed, in use by another process, another path is open."""

    def __init__(self, message: str) -> None:
        super().__init__("embedded_engine", message)


class Engine:
    """An open engine. Every method may be called from any thread; each statement gets a handle of its own."""

    def __init__(self, path: Path, memory_bytes: int) -> None:
        self.path = path
        self.memory_bytes = memory_bytes
        self.database = "default"
        """Where `FROM events` looks; set by the exporter that writes there."""
        self._chdb = _library()
        self._pid = os.getpid()
        self._idle: list[Any] = []
        self._changed = threading.Condition()
        self._used = 0
        self._closed = False
        settings = {
            "max_server_memory_usage": memory_bytes,
            "mark_cache_size": min(MARK_CACHE_BYTES, memory_bytes // 8),
            "background_pool_size": BACKGROUND_THREADS,
            "background_schedule_pool_size": 4,
        }
        path.mkdir(parents=True, exist_ok=True)
        self._target = f"{path}?{urlencode(settings)}"
        # This handle keeps the engine open between statements.
        self._root = self._connect()

    def _connect(self) -> Any:
        if os.getpid() != self._pid:
            raise EngineUnavailable("the embedded engine can not be used in a forked child: spawn it")
        try:
            return self._chdb.connect(self._target)
        except RuntimeError as error:
            raise EngineError(str(error)) from None

    @contextmanager
    def _use(self) -> Generator[None]:
        """Counts a statement under way: the engine does not close under it."""
        with self._changed:
            if self._closed:
                raise EngineError("the embedded engine is closed")
            self._used += 1
        try:
            yield
        finally:
            with self._changed:
                self._used -= 1
                self._changed.notify_all()

    @contextmanager
    def handle(self) -> Generator[Any]:
        """A new handle, closed afterwards: settings and `USE` on it touch nobody else."""
        with self._use():
            handle = self._connect()
            try:
                yield handle
            finally:
                handle.close()

    @contextmanager
    def _pooled(self) -> Generator[Any]:
        with self._use():
            with self._changed:
                handle = self._idle.pop() if self._idle else None
            handle = handle or self._connect()
            try:
                yield handle
            except BaseException:
                # A handle that failed half-way may still hold an open statement.
                with suppress(Exception):
                    handle.close()
                raise
            with self._changed:
                if len(self._idle) < IDLE_HANDLES:
                    self._idle.append(handle)
                    return
            handle.close()

    def query(self, sql: str, format: str = "TabSeparated") -> bytes:
        """The answer to one statement. Raises EngineError."""
        try:
            with self._pooled() as handle:
                return handle.query(sql, format).bytes()
        except RuntimeError as error:
            raise EngineError(str(error)) from None

    def insert(self, table: str, settings: str, block: memoryview) -> None:
        """Stores a block in the Native format; raises EngineError with nothing stored.

        It goes through a file in memory: the engine's streaming insert (`send_insert`) says that all is well also
        where the table has refused the rows.
        """
        descriptor = os.memfd_create("block") if hasattr(os, "memfd_create") else _unlinked_file()
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(block)
            os.lseek(descriptor, 0, os.SEEK_SET)
            self.query(f"INSERT INTO {table} FROM INFILE '/dev/fd/{descriptor}' SETTINGS {settings} FORMAT Native")
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Ends the engine after the statements under way; its path may then be opened again, here or elsewhere."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._used, CLOSE_TIMEOUT_S)
            handles, self._idle = [*self._idle, self._root], []
        for handle in handles:
            handle.close()


def _unlinked_file() -> int:
    descriptor, path = tempfile.mkstemp()
    os.unlink(path)
    return descriptor


def _library() -> Any:
    try:
        import chdb  # pyright: ignore[reportMissingImports]  a heavy extra, loaded only where it is used
    except ImportError as error:
        raise EngineUnavailable(
            f"the embedded store needs the package chdb ({error}): pip install 'colonnade[embedded]'"
        ) from error
    return chdb


_lock = threading.Lock()
_engine: Engine | None = None
_users = 0


def acquire(path: str | Path, memory_bytes: int = 0) -> Engine:
    """The process's engine at this path, opened by the first who asks; to be released as often as acquired.

    Raises:
        EngineUnavailable: another path is open, another process has the path, or chdb is not installed.
    """
    global _engine, _users
    target = Path(path).absolute()
    if "?" in str(target):
        raise EngineUnavailable(f"the path {str(target)!r} must not hold '?'")
    with _lock:
        if _engine is None:
            try:
                _engine = Engine(target, memory_bytes or default_memory_bytes())
            except (EngineError, OSError) as error:
                raise EngineUnavailable(_why(target, error)) from error
        elif _engine.path != target:
            raise EngineUnavailable(
                f"one process has one embedded store, and {_engine.path} is open: "
                f"use that path, or restart to change it to {target}"
            )
        _users += 1
        return _engine


def release(engine: Engine) -> None:
    """Gives it back; the last one closes it."""
    global _engine, _users
    with _lock:
        if engine is not _engine:
            return
        _users -= 1
        if _users == 0:
            _engine = None
            engine.close()


def current() -> Engine | None:
    """The engine that is open now, if any."""
    return _engine


def default_memory_bytes() -> int:
    """A quarter of the machine's memory, at least 512 MiB and at most 4 GiB."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(512 * MIB, min(4 * GIB, machine // 4))


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, EngineError) and error.code == 76:
        return f"the embedded store {path} is in use by another process: stop it, or use another path"
    return f"the embedded store {path} can not be opened: {error}"
