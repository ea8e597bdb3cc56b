"""A durable log in a folder, as a pipeline would use it; a crash is a copy of the folder as it is at that moment."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from colonnade.extensions.file_storage.log import DurableLog
from colonnade.extensions.file_storage.store import Options, Store
from colonnade.pipeline.component import Exporter, SliceLimits, StreamExporter
from colonnade.pipeline.cursor import Cursor
from colonnade.pipeline.log import Append, Receipt
from colonnade.pipeline.sender import Sender, slice_limits
from colonnade.pipeline.settings import SendingQueue
from colonnade.pipeline.stream import StreamSender
from tests.pipeline.kit import FakeHost, Numbers, numbers_of

STORED = {"storage": "file_storage"}


def queue(**keys: Any) -> SendingQueue:
    return SendingQueue.model_validate(STORED | keys)


class Disk:
    """Stores opened in one test; what is left open is closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[FakeHost] = []
        self._crashes = 0
        self._open: list[Store] = []

    async def open(self, folder: Path | None = None, **options: Any) -> Store:
        host = FakeHost("file_storage", kind="extension")
        self.hosts.append(host)
        store = Store(folder or self.folder / "log", Options(**options), host, asyncio.get_running_loop())  # type: ignore[arg-type]
        await asyncio.to_thread(store.open, 0.0, 0o750)
        self._open.append(store)
        return store

    @property
    def host(self) -> FakeHost:
        """The latest store's."""
        return self.hosts[-1]

    async def close(self, store: Store) -> None:
        self._open.remove(store)
        store.stop()
        await asyncio.to_thread(store.close)

    async def close_all(self) -> None:
        for store in list(self._open):
            await self.close(store)

    def crash(self, store: Store) -> Path:
        """The folder that a process would find that starts after this one was killed now: all files as they are at one
        moment, so they are copied again where the log's threads changed one meanwhile."""
        self._crashes += 1
        copy = self.folder / f"crash{self._crashes}"
        while True:
            before = _files(store.folder)
            copy.mkdir()
            for path in before:
                with suppress(FileNotFoundError):
                    shutil.copy2(path, copy / path.name)
            if _files(store.folder) == before:
                return copy
            shutil.rmtree(copy)

    async def after_crash(self, store: Store, **options: Any) -> Store:
        """Another store on what a crash would leave."""
        return await self.open(self.crash(store), **options)


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    """What a crash leaves of a log's folder: files, with their sizes and times of change."""
    found: dict[Path, tuple[int, int]] = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            state = path.stat()
            if path.is_file() and not path.name.endswith("-shm"):
                found[path] = (state.st_size, state.st_mtime_ns)
    return found


async def append(numbers: Numbers, rows: int, *logs: DurableLog, requests: int = 1) -> list[Receipt]:
    """One request into these logs: numbered rows, durable on return."""
    batch = numbers.batch(rows)
    reservations = [log.reserve(Append(b"i" * 16, [batch], rows, batch.nbytes, requests)) for log in logs]
    return await logs[0].store.commit(reservations)


async def read_out(cursor: Cursor, pieces: SliceLimits, within_s: float = 20) -> list[int]:
    """Numbers of the rows that a cursor still hands out, each slice in time; it is done with them then."""
    found: list[int] = []
    while cursor.lag_rows:
        part = await asyncio.wait_for(cursor.take(pieces), within_s)
        await cursor.load(part)
        found += numbers_of(part.batches)
        cursor.ack(part)
    return found


def sender(log: DurableLog, exporter: Exporter, folder: Path) -> Sender:
    host = FakeHost(str(exporter.id), folder)
    kind = StreamSender if isinstance(exporter, StreamExporter) else Sender
    return kind(log, exporter, host, slice_limits(exporter, []))
