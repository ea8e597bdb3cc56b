"""The exporter: slices of a pipeline's log become lines."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress

from colonnade.exporters.questdb.config import QuestDBConfig
from colonnade.exporters.questdb.errors import StoreError
from colonnade.exporters.questdb.schema import Prepared, Target, prepare, table_ids
from colonnade.exporters.questdb.server import CONNECTIONS, Server
from colonnade.native import Batch, NativeBlock, NativeError, encode_lines
from colonnade.pipeline.client_tls import ssl_context
from colonnade.pipeline.component import ComponentId, Exporter, Host, Slice, SliceLimits
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable
from colonnade.pipeline.opening import wait_for_store

MIB = 1 << 20
# A line takes about 300 bytes, and the server's cost per row hardly falls beyond some thousands of them.
SLICE = SliceLimits(min_rows=20_000, max_rows=50_000, min_bytes=16 * MIB, max_bytes=64 * MIB, max_age_s=1.0)
LONG_MODULUS = 1 << 64


class QuestDBExporter(Exporter):
    """See the package's text."""

    def __init__(self, id: ComponentId, config: QuestDBConfig) -> None:
        super().__init__(id)
        self.config = config
        self.retry = config.retry_on_failure
        self.queue = config.sending_queue
        self.dead_letter = config.dead_letter
        self.slice = SLICE
        self._tables = config.tables()
        self._server: Server | None = None
        self._prepared: Prepared | None = None
        self._opening: asyncio.Task[None] | None = None
        self._promised = ""

    async def start(self, host: Host) -> None:
        """Raises ColonnadeError where the settings of TLS can not be used; a server that is down is waited for."""
        self._host = host
        self._preparing = asyncio.Lock()
        self._connections = asyncio.Semaphore(CONNECTIONS)
        try:
            context = ssl_context(self.config.tls)
        except OSError as error:
            raise ColonnadeError("client", f"exporter {self.id}: tls: {error}") from error
        self._server = Server(self.config, context)
        self._opening = asyncio.create_task(wait_for_store(host, self._ready), name=f"{self.id} schema")

    async def shutdown(self) -> None:
        task, self._opening = self._opening, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        server, self._server = self._server, None
        if server is not None:
            await server.close()
        self._prepared = None

    async def export(self, part: Slice) -> None:
        """Stores the slice; lines that the server has already are the same rows."""
        async with self._connections:
            try:
                prepared = await self._ready()
                block = await self._host.compute(_encode, part.batches, prepared.targets, self._first(part))
                await self._running().write(memoryview(block))
            except StoreError as error:
                raise error.outcome() from None
            except NativeError as error:
                raise Permanent(f"encode_{error.code}", f"rows can not be sent to QuestDB: {error}") from None

    async def _ready(self) -> Prepared:
        """The tables as the server has them; makes what is missing first. Raises Retryable, StoreError.

        The server would make a table that was dropped anew by itself, but without a key: that is looked at each time.
        """
        async with self._preparing:
            server, known = self._running(), self._prepared
            if known is not None and await table_ids(server, self._tables) == known.ids:
                return known
            self._prepared = None
            prepared = await self._prepare(server)
            self._tell_promise(prepared.keyless)
            self._prepared = prepared
            return prepared

    async def _prepare(self, server: Server) -> Prepared:
        """Raises Retryable: whatever is wrong with the schema, no slice is at fault, and all of them wait."""
        config, logger = self.config, self._host.logger
        try:
            return await prepare(server, self._tables, config.table_options, config.create_schema, logger)
        except StoreError as error:
            outcome = error.outcome()
            raise Retryable(outcome.code, outcome.message, outcome.delay_s) from None

    def _running(self) -> Server:
        if self._server is None:
            raise Retryable("stopped", f"exporter {self.id} is not running")
        return self._server

    def _tell_promise(self, keyless: list[str]) -> None:
        """Whether a repeat after a lost answer or a crash can double rows, as the tables really are."""
        self._host.gauge("exporter_exactly_once", 0 if keyless else 1)
        if keyless:
            names = ", ".join(keyless)
            text, level = f"rows are stored at least once: no DEDUP UPSERT KEYS on {names}", logging.WARNING
        else:
            text, level = "rows are stored exactly once: the tables' keys tell a repeat", logging.INFO
        if text != self._promised:
            self._promised = text
            self._host.logger.log(level, "exporter %s: %s", self.id, text)

    def _first(self, part: Slice) -> int:
        """The occurrence of the slice's first row: its place in its log, from a beginning of the log's own.

        Partitions of one slice share its range, so their headers tell them apart.
        """
        name = part.log_id
        keys = self.queue.batch.partition.metadata_keys if self.queue.batch else ()
        if keys and part.batches:
            metadata = dict(part.batches[0].runs[0][2])
            name = "\0".join([name, *(metadata.get(key.lower(), "") for key in keys)])
        beginning = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        place = (beginning + part.start + part.offset) % LONG_MODULUS
        return place - LONG_MODULUS if place >= LONG_MODULUS // 2 else place


def _encode(batches: list[Batch], targets: list[Target], first: int) -> NativeBlock:
    block, _ = encode_lines(batches, targets, first)
    return block
