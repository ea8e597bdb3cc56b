"""The extension: a store of the process, taken while the graph needs it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from colonnade.extensions.file_storage.config import FileStorageConfig
from colonnade.extensions.file_storage.log import DurableLog
from colonnade.extensions.file_storage.store import Options, StorageError, Store
from colonnade.pipeline.component import ComponentId, Host
from colonnade.pipeline.log import Storage

# Stores belong to the process: a reload starts the new extension before it stops the old one.
_stores: dict[Path, tuple[Store, int]] = {}


class FileStorage(Storage):
    """See the package's text."""

    def __init__(self, id: ComponentId, config: FileStorageConfig) -> None:
        super().__init__(id)
        self.config = config
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The same object as long as it is the same folder."""
        assert self._store is not None, "the extension is not running"
        return self._store

    async def start(self, host: Host) -> None:
        """Raises StorageError."""
        self._host = host
        if self._store is not None:
            return
        path, options = self.config.path, self._options()
        known = _stores.get(path)
        if known is not None:
            store, users = known
        else:
            store, users = await self._open(path, options), 0
        _stores[path] = store, users + 1
        self._store = store

    async def _open(self, path: Path, options: Options) -> Store:
        store = Store(path, options, self._host, asyncio.get_running_loop())
        try:
            await self._host.run(
                store.open, self.config.timeout, self.config.mode if self.config.create_directory else None
            )
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"the folder {path} can not be used: {error}") from error
        self._host.logger.info("extension %s: %s", self.id, store.describe())
        return store

    async def shutdown(self) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        path = store.folder
        _, users = _stores[path]
        if users > 1:
            _stores[path] = store, users - 1
            return
        del _stores[path]
        store.stop()
        await self._host.run(store.close)

    def open_log(self, pipeline: str, signal: str) -> DurableLog:
        return self.store.open_log(pipeline, signal)

    async def settled(self) -> None:
        await self.store.settled(self._options(), self._host)

    def _options(self) -> Options:
        config = self.config
        return Options(
            fsync=config.fsync,
            max_bytes=config.max_size,
            keep_removed=config.removed_exporters == "keep",
            dedup_window_s=config.dedup.window,
            dedup_max_ids=config.dedup.max_ids,
        )
