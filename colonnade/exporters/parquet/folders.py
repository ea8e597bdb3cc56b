"""Where files are made, and where they are published.

A file is made in a spool: a hidden folder that no reader looks into. Once it is whole it is published by its target
under a key, `day=.../event_type=.../NAME.parquet`: at once. A folder of this machine is one kind of target, a bucket
(`bucket.py`) the other.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from colonnade.pipeline.errors import Permanent

SPOOL = ".unpublished"
SUFFIX = ".tmp"


class Unwritable(Permanent):
    """The files are at fault, and no row."""

    splits = False


class SpooledFile:
    """A file that is being made. What `append` has taken is on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nbytes = 0

    def append(self, data: memoryview) -> None:
        """Adds all of `data`, or nothing. Raises OSError; Unwritable when what was there before is gone."""
        flags = os.O_WRONLY if self.nbytes else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            file = os.open(self.path, flags, 0o644)
        except FileNotFoundError:
            if not self.nbytes:
                raise
            raise self.gone() from None
        try:
            if os.fstat(file).st_size < self.nbytes:
                raise self.gone()
            # A previous attempt may have left a part of its bytes.
            os.ftruncate(file, self.nbytes)
            _write(file, data, self.nbytes)
            # Here, where `data` can still be written again: after a failed fsync the pages count as clean.
            os.fsync(file)
        finally:
            os.close(file)
        self.nbytes += len(data)

    def remove(self) -> None:
        """Throws it away; idempotent."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def gone(self) -> Unwritable:
        """What to raise when somebody removed it."""
        return Unwritable("spool_lost", f"rows that were spooled are gone: {self.path} was removed or cut by others")


class Spool:
    """The folder of the files that one exporter is making.

    Everybody who writes into one archive under one name holds the lock of its spool, so that leftovers of a crash are
    removed only when nobody else can be at work: not another process, not the exporter that a reload replaces.

    Attributes:
        alone: whether nobody else was at work when it was opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alone = False
        self._lock: int | None = None
        self._count = 0

    def open(self) -> int:
        """Makes the folder, and removes what a crash has left; gives how many files. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        removed = 0
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            self.alone = True
            removed = self._sweep()
        self._lock = lock
        fcntl.flock(lock, fcntl.LOCK_SH)
        return removed

    def close(self) -> None:
        """Gives the lock back; idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    @property
    def owner(self) -> str:
        """An id of this folder that no other has. Raises OSError."""
        file = self.folder / "owner"
        if not file.exists():
            made = file.with_suffix(f".{os.getpid()}")
            made.write_text(uuid.uuid4().hex)
            made.replace(file)
        return file.read_text()

    def new(self) -> SpooledFile:
        """A file of a name that no other has."""
        self._count += 1
        return SpooledFile(self.folder / f"{os.getpid()}-{id(self):x}-{self._count}{SUFFIX}")

    def _sweep(self) -> int:
        leftovers = list(self.folder.glob(f"*{SUFFIX}"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


class Target(Protocol):
    """Where files become visible."""

    def publish(self, file: SpooledFile, key: str) -> None:
        """Makes the file visible under `key`, whole and for good. Repeatable. Raises OSError, Retryable, Unwritable."""
        ...


class LocalFolder:
    """A folder of this machine, on the same file system as its spool. What a key had is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def spool(self, name: str) -> Path:
        """Where files of that exporter are made."""
        return self.path / SPOOL / quote(name, safe="")

    def publish(self, file: SpooledFile, key: str) -> None:
        final = self.path / key
        _make(final.parent, self.path)
        try:
            os.replace(file.path, final)
        except FileNotFoundError:
            if file.path.exists():
                raise
            # Where this is a repeat after the folder could not be synced, the file is there already.
            if not final.exists():
                raise file.gone() from None
        _sync(final.parent)


def _write(file: int, data: memoryview, offset: int) -> None:
    while len(data):
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


def _make(folder: Path, root: Path) -> None:
    """Makes a folder below `root`; those that are new are on the disk when it returns."""
    if folder.is_dir():
        return
    if folder != root:
        _make(folder.parent, root)
    folder.mkdir(exist_ok=True, parents=folder == root)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
