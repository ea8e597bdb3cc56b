"""The exporter: slices of a pipeline's log become named inserts."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from typing import NamedTuple

from colonnade.exporters.clickhouse.config import ClickHouseConfig
from colonnade.exporters.clickhouse.errors import AUTH_DELAY_S, BACK_PRESSURE_DELAY_S, Action, StoreError
from colonnade.exporters.clickhouse.schema import Table, prepare
from colonnade.exporters.clickhouse.stores import EmbeddedStore, ServerStore, Store
from colonnade.native import Batch, NativeBlock, NativeError, encode_native
from colonnade.pipeline import embedded_engine
from colonnade.pipeline.component import ComponentId, Exporter, Host, Slice, SliceLimits, Status
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable

MIB = 1 << 20
# The server's CPU per row falls threefold from 8,000 to 200,000 rows an insert.
SERVER_SLICE = SliceLimits(min_rows=100_000, max_rows=200_000, min_bytes=64 * MIB, max_bytes=128 * MIB, max_age_s=5.0)
# Somebody sits in front of an embedded store: rows should show soon, and a laptop does not ingest at full rate.
EMBEDDED_SLICE = SliceLimits(min_rows=100_000, max_rows=200_000, min_bytes=64 * MIB, max_bytes=128 * MIB, max_age_s=1.0)
CONNECTIONS = 2
MIN_SPLIT_ROWS = 256
PREPARE_FIRST_WAIT_S = 0.5
PREPARE_LONGEST_WAIT_S = 15.0

# Blocks are large and named already: the server must neither gather them nor answer before it has them.
TOKEN = "insert_deduplication_token"
INSERT_SETTINGS = {"async_insert": "0", "insert_deduplicate": "1"}
# Otherwise it answers before the shards have the rows.
DISTRIBUTED_SETTINGS = {"distributed_foreground_insert": "1"}


class Piece(NamedTuple):
    """Rows start..end of a slice; of one day, or (None) of all."""

    start: int
    end: int
    day: int | None = None


class ClickHouseExporter(Exporter):
    """See the package's text."""

    def __init__(self, id: ComponentId, config: ClickHouseConfig) -> None:
        super().__init__(id)
        self.config = config
        self.retry = config.retry_on_failure
        self.queue = config.sending_queue
        self.dead_letter = config.dead_letter
        self.slice = SERVER_SLICE if config.embedded is None else EMBEDDED_SLICE
        self._options = config.table_options
        self._compression = _compression(config)
        self._engine: embedded_engine.Engine | None = None
        self._store: Store | None = None
        self._table: Table | None = None
        self._opening: asyncio.Task[None] | None = None
        # What was too large, by slice: a repeat must cut the same way, because the names follow the cuts.
        self._halved: dict[tuple[str, int, int], set[Piece]] = {}

    async def start(self, host: Host) -> None:
        self._host = host
        self._preparing = asyncio.Lock()
        self._connections = asyncio.Semaphore(CONNECTIONS)
        for warning in self.config.warnings():
            host.logger.warning("exporter %s: %s", self.id, warning)
        if self.config.embedded is None:
            self._store = ServerStore(self.config)
        else:
            self._engine = await host.run(embedded_engine.acquire, self.config.embedded, self.config.memory_limit)
            self._engine.database = self._options.database
            self._store = EmbeddedStore(self._engine, self.config.connection_params)
        self._opening = asyncio.create_task(self._open(), name=f"{self.id} schema")

    async def shutdown(self) -> None:
        task, self._opening = self._opening, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        store, self._store = self._store, None
        if store is not None:
            await self._host.run(store.close)
        engine, self._engine = self._engine, None
        if engine is not None:
            await self._host.run(embedded_engine.release, engine)
        self._table = None
        self._halved.clear()

    async def export(self, part: Slice) -> None:
        """Stores the slice, day by day; a day that is stored already is passed over by its name."""
        name = self._name(part)
        try:
            try:
                await self._export(part, name)
            except StoreError as error:
                if error.action is not Action.SCHEMA:
                    raise
                # The table was changed or dropped under us: look again, once.
                self._table = None
                await self._export(part, name)
        except StoreError as error:
            raise self._outcome(error) from None
        self._halved.pop((part.log_id, part.start, part.end), None)

    async def _export(self, part: Slice, name: str) -> None:
        table = await self._ready()
        halved = self._halved.setdefault((part.log_id, part.start, part.end), set())
        await self._send(part.batches, Piece(0, part.rows), table, name, halved)

    async def _send(self, batches: list[Batch], piece: Piece, table: Table, name: str, halved: set[Piece]) -> None:
        """Inserts a piece, one block per day; a block that is too large for the store goes in halves."""
        rows = _rows(batches, piece.start, piece.end)
        async with self._connections:
            blocks = await self._host.compute(self._encode, rows, table)
        for day, _, block in blocks:
            if piece.day not in (None, day):
                continue
            part = Piece(piece.start, piece.end, day)
            if part not in halved and not await self._insert(block, part, name, table.engine):
                halved.add(part)
            if part in halved:
                middle = (part.start + part.end) // 2
                await self._send(batches, Piece(part.start, middle, day), table, name, halved)
                await self._send(batches, Piece(middle, part.end, day), table, name, halved)

    async def _insert(self, block: NativeBlock, piece: Piece, name: str, engine: str) -> bool:
        """Stores a block under its name; False when the store wants a smaller one. Raises StoreError."""
        settings = {**INSERT_SETTINGS, TOKEN: f"{name}[{piece.start}-{piece.end}]@{piece.day}"}
        if engine == "Distributed":
            settings |= DISTRIBUTED_SETTINGS
        try:
            async with self._connections:
                await self._host.run(self._insert_block, block, settings)
        except StoreError as error:
            if error.action is not Action.SHRINK or piece.end - piece.start <= MIN_SPLIT_ROWS:
                raise
            self._host.logger.warning(
                "exporter %s: %d rows are too many for the store, sending halves: %s",
                *(self.id, piece.end - piece.start, error.describe()),
            )
            return False
        return True

    def _encode(self, batches: list[Batch], table: Table) -> list[tuple[int, int, NativeBlock]]:
        try:
            return encode_native(batches, table.columns, sort=True, compression=self._compression or "none")
        except NativeError as error:
            raise Permanent(f"encode_{error.code}", f"rows can not be sent to ClickHouse: {error}") from None

    def _insert_block(self, block: NativeBlock, settings: dict[str, str]) -> None:
        store = self._store
        if store is None:
            raise Retryable("stopped", f"exporter {self.id} is not running")
        store.insert(self._options.name(), memoryview(block), self._compression, settings)

    async def _ready(self) -> Table:
        """The table as the store describes it; makes it first where it is missing. Raises Retryable."""
        async with self._preparing:
            if self._table is None:
                store = self._store
                if store is None:
                    raise Retryable("stopped", f"exporter {self.id} is not running")
                try:
                    self._table = await self._host.run(
                        prepare, store, self._options, self.config.views, self.config.create_schema, self._host.logger
                    )
                except StoreError as error:
                    outcome = self._outcome(error)
                    # Whatever is wrong with the schema, no slice is at fault: all of them wait.
                    delay_s = outcome.delay_s or (BACK_PRESSURE_DELAY_S if outcome.permanent else None)
                    raise Retryable(outcome.code, outcome.message, delay_s) from None
            return self._table

    async def _open(self) -> None:
        """Waits for the store, so that the table is there before the first row; trouble is told once, not each time."""
        wait_s, told = PREPARE_FIRST_WAIT_S, ""
        while self._table is None:
            try:
                await self._ready()
            except Retryable as error:
                if error.message != told:
                    told = error.message
                    self._host.logger.warning("exporter %s: waiting for the store: %s", self.id, told)
                    self._host.report(Status("recoverable_error", told))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, PREPARE_LONGEST_WAIT_S)
        if told:
            self._host.logger.info("exporter %s: the store answers", self.id)
        self._host.report(Status("ok"))

    def _name(self, part: Slice) -> str:
        """What names the slice's inserts. Partitions of one slice share its range, so their headers tell them apart."""
        name = f"{part.log_id}:{part.start}-{part.end}"
        keys = self.queue.batch.partition.metadata_keys if self.queue.batch else ()
        if not keys or not part.batches:
            return name
        metadata = dict(part.batches[0].runs[0][2])
        values = "\0".join(metadata.get(key.lower(), "") for key in keys)
        return f"{name}:{hashlib.blake2b(values.encode(), digest_size=8).hexdigest()}"

    def _outcome(self, error: StoreError) -> ColonnadeError:
        text = f"ClickHouse {error.describe()}"
        match error.action:
            case Action.RETRY:
                return Retryable(error.label, text)
            case Action.BACK_PRESSURE | Action.SHRINK:
                return Retryable(error.label, text, BACK_PRESSURE_DELAY_S)
            case Action.AUTH:
                return Retryable(error.label, f"{text}; check username, password and grants", AUTH_DELAY_S)
            case Action.SCHEMA | Action.DATA | Action.QUERY:
                return Permanent(error.label, text)


def _compression(config: ClickHouseConfig) -> str:
    """Content coding of blocks; empty for none."""
    if config.embedded is not None or config.compress == "none":
        return ""
    if config.compress is None:
        return "" if all(server.is_loopback for server in config.servers()) else "lz4"
    return config.compress


def _rows(batches: list[Batch], start: int, end: int) -> list[Batch]:
    """Rows start..end of all batches; nothing is copied."""
    found: list[Batch] = []
    first = 0
    for batch in batches:
        low, high = max(start, first), min(end, first + batch.rows)
        if low < high:
            found.append(batch if high - low == batch.rows else batch.slice(low - first, high - low))
        first += batch.rows
    return found
