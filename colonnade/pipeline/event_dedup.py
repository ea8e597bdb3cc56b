"""Keys of events that came lately, over restarts: in memory, and in a file of the data folder.

The file is written now and then and at the end: a process that is killed forgets what came since. Where it must not,
`dedup` of the durable log compares rows, within the commit that takes them.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from colonnade.pipeline.component import Host

if TYPE_CHECKING:
    from colonnade.native import EventKeys

SAVE_EVERY_S = 300.0
NS_PER_S = 1_000_000_000


class SeenEvents:
    """A window of keys that is kept. Methods belong to the event loop's thread.

    Args:
        window_s: how long a key is known.
        max_keys: how many.
    """

    def __init__(self, window_s: float, max_keys: int) -> None:
        from colonnade.native import EventWindow

        self.window = EventWindow(round(window_s * NS_PER_S), max_keys)
        self._changed = False
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: Host) -> None:
        """Finds what was known; what can not be read is not known."""
        self._host = host
        self._path = host.folder("dedup") / "keys"
        with suppress(OSError):
            self.window.load(await host.run(self._path.read_bytes))
        self._task = asyncio.create_task(self._save_now_and_then(), name=f"{host.id} dedup")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._save()

    def remember(self, keys: EventKeys, now_ns: int) -> None:
        """These events are safe."""
        self.window.remember(keys, now_ns)
        self._changed = True

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            await self._save()

    async def _save(self) -> None:
        if not self._changed:
            return
        self._changed = False
        try:
            await self._host.run(self._write)
        except OSError as error:
            self._changed = True
            text = "%s: the keys of events can not be written, a restart will not know them: %s"
            self._host.logger.warning(text, self._host.id, error)

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".tmp")
        beside.write_bytes(self.window.dump())
        os.replace(beside, self._path)
