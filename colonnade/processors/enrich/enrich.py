"""The processor: parts in their order, and the files that some of them read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from colonnade.pipeline.component import BatchContext, ComponentId, Host, Processor
from colonnade.pipeline.errors import ColonnadeError
from colonnade.processors.enrich.config import WEEKDAYS, Config

if TYPE_CHECKING:
    from colonnade.native import Batch

Load = Callable[[], None]
Stamp = tuple[int, int, int]


class Enrich(Processor):
    """See the package's text."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        from colonnade.processors.enrich.address import Anonymizer
        from colonnade.processors.enrich.geo import Geo
        from colonnade.processors.enrich.local_time import LocalTimes
        from colonnade.processors.enrich.lookup import Lookup

        super().__init__(id)
        self.config = config
        hours = config.local_time
        days = frozenset(WEEKDAYS.index(day) + 1 for day in hours.business_days)
        self._local_time = LocalTimes(hours.business_begins, hours.business_ends, days) if hours.enabled else None
        self._geo = Geo(config.geo.databases)
        self._lookups = [Lookup(one.path, one.column, one.key, dict(one.columns)) for one in config.lookups]
        address = config.address
        self._anonymizer = Anonymizer(address.anonymize, address.salt_rotation) if address.anonymize != "keep" else None
        self._files: dict[Path, Load] = {path: self._geo_load(path) for path in config.geo.databases}
        self._files |= {one.path: one.load for one in self._lookups}
        if config.traffic.table is not None:
            self._files[config.traffic.table] = self._load_traffic
        self._stamps: dict[Path, Stamp | None] = {}
        self._watching: asyncio.Task[None] | None = None

    async def start(self, host: Host) -> None:
        self._host = host
        await host.run(self._prepare)
        for path, load in self._files.items():
            self._stamps[path] = _stamp(path)
            try:
                await host.run(load)
            except (OSError, ValueError) as error:
                text = f"processor {self.id} can not read {path}: {_told(error)}"
                raise ColonnadeError("unreadable_file", text) from None
        for path in self._geo.paths:
            host.gauge("processor_enrich_database_age_seconds", lambda path=path: self._geo.age_s(path), file=path.name)
        if self._files:
            self._watching = asyncio.create_task(self._watch(), name=f"{self.id} files")

    def _prepare(self) -> None:
        """What takes a while: half a second for the patterns of user agents."""
        from colonnade.processors.enrich.traffic import Traffic
        from colonnade.processors.enrich.user_agent import UserAgents

        config = self.config
        self._user_agents = None
        if config.user_agent.enabled:
            try:
                self._user_agents = UserAgents(config.user_agent.cache_size)
            except ImportError as error:
                text = f'processor {self.id} needs {error.name} for user agents: pip install "colonnade[enrich]"'
                raise ColonnadeError("missing_extra", f"{text}, or set user_agent: {{enabled: false}}") from None
        # With a table of one's own it is made once that is read.
        own = config.traffic.enabled and config.traffic.table is None
        self._traffic = Traffic(config.traffic.internal) if own else None

    async def shutdown(self) -> None:
        task, self._watching = self._watching, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        """Columns in: completed ones. Columns out: those, and what was found; `context` with `$enrich`."""
        from colonnade.processors.enrich.rows import Rows

        rows = Rows(batch, self.config.overwrite)
        places = self.config.address.places
        if self._user_agents is not None:
            self._user_agents(rows)
        if self._geo.paths:
            (addresses,) = rows.attributes(places)
            self._geo(rows, addresses)
        for lookup in self._lookups:
            lookup(rows)
        if self._traffic is not None:
            self._traffic(rows)
        if self._local_time is not None:
            self._local_time(rows)
        enriched = rows.finish()
        if self._anonymizer is None:
            return enriched
        return self._anonymizer.apply(enriched, places, rows.attributes(*([place] for place in places)))

    def _geo_load(self, path: Path) -> Load:
        return lambda: self._geo.load(path)

    def _load_traffic(self) -> None:
        from colonnade.processors.enrich.traffic import Traffic, read_table

        assert self.config.traffic.table is not None
        if self.config.traffic.enabled:
            self._traffic = Traffic(self.config.traffic.internal, read_table(self.config.traffic.table))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.config.reload_interval)
            for path, load in self._files.items():
                await self._look_at(path, load)

    async def _look_at(self, path: Path, load: Load) -> None:
        stamp = await self._host.run(_stamp, path)
        if stamp == self._stamps[path]:
            return
        self._stamps[path] = stamp
        try:
            await self._host.run(load)
        except (OSError, ValueError) as error:
            self._host.count("processor_enrich_reloads", 1, file=path.name, result="failed")
            self._host.logger.warning(
                "processor %s: %s can not be read, what it said before stays: %s", self.id, path, _told(error)
            )
        else:
            self._host.count("processor_enrich_reloads", 1, file=path.name, result="ok")
            self._host.logger.info("processor %s: %s was read again", self.id, path)


def _stamp(path: Path) -> Stamp | None:
    """What changes with a file; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _told(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
