"""The exporter: slices of a pipeline's log become named inserts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from typing import Any, NamedTuple

from colonnade.exporters.clickhouse import asking
from colonnade.exporters.clickhouse.config import ClickHouseConfig
from colonnade.exporters.clickhouse.errors import AUTH_DELAY_S, BACK_PRESSURE_DELAY_S, Action, StoreError
from colonnade.exporters.clickhouse.schema import Table, extend, prepare
from colonnade.exporters.clickhouse.stores import EmbeddedStore, ServerStore, Store
from colonnade.native import Batch, NativeBlock, NativeError, encode_native
from colonnade.pipeline import embedded_engine
from colonnade.pipeline.acquire import acquire
from colonnade.pipeline.component import ComponentId, Exporter, Host, Slice, SliceLimits
from colonnade.pipeline.errors import ColonnadeError, Permanent, Retryable
from colonnade.pipeline.log import cut_rows
from colonnade.pipeline.opening import wait_for_store
from colonnade.unified_schema.columns import extension_fields

MIB = 1 << 20
# The server's CPU per row falls threefold from 8,000 to 200,000 rows an insert.
SERVER_SLICE = SliceLimits(min_rows=100_000, max_rows=200_000, min_bytes=64 * MIB, max_bytes=128 * MIB, max_age_s=5.0)
# Somebody sits in front of an embedded store: rows should show soon, and a laptop does not ingest at full rate.
EMBEDDED_SLICE = SliceLimits(min_rows=100_000, max_rows=200_000, min_bytes=64 * MIB, max_bytes=128 * MIB, max_age_s=1.0)
CONNECTIONS = 2
MIN_SPLIT_ROWS = 256
EMBEDDED_OPEN_WITHIN_S = 5.0

# Blocks are large and named already: the server must neither gather them nor answer before it has them.
TOKEN = "insert_deduplication_token"
INSERT_SETTINGS = {"async_insert": "0", "insert_deduplicate": "1"}
# Otherwise it answers before the shards have the rows.
DISTRIBUTED_SETTINGS = {"distributed_foreground_insert": "1"}


# Of the notes of slices in doubt: how rows are parted into blocks.
ENCODER = 1


class Piece(NamedTuple):
    """Rows start..end of a slice that are of one day: one block, and one insert."""

    start: int
    end: int
    day: int


class Progress:
    """What is known of a slice's blocks. It is kept in the slice's plan, as lists: it survives with the slice.

    Halves follow the rows' numbers, so a repeat cuts as was cut before, and names blocks alike.
    """

    def __init__(self, part: Slice, name: str, table: str) -> None:
        known: dict[str, Any] = part.plan.setdefault(name, {"table": table, "encoder": ENCODER})
        self.same_place = known["table"] == table and known["encoder"] == ENCODER
        self._all_in_doubt = part.in_doubt
        self._done: list[list[int]] = known.setdefault("done", [])
        self._halved: list[list[int]] = known.setdefault("halved", [])
        self._doubt: list[list[int]] = known.setdefault("doubt", [])

    def is_done(self, piece: Piece) -> bool:
        """Whether the store has it, by itself or within a larger piece."""
        return any(day == piece.day and start <= piece.start and piece.end <= end for start, end, day in self._done)

    def is_halved(self, piece: Piece) -> bool:
        return list(piece) in self._halved

    def is_in_doubt(self, piece: Piece) -> bool:
        """Whether the store may have some of it."""
        return self._all_in_doubt or any(
            day == piece.day and start < piece.end and piece.start < end for start, end, day in self._doubt
        )

    def done(self, piece: Piece) -> None:
        self._done.append(list(piece))

    def halved(self, piece: Piece) -> None:
        self._halved.append(list(piece))

    def doubted(self, piece: Piece) -> None:
        if list(piece) not in self._doubt:
            self._doubt.append(list(piece))


class _Sending(NamedTuple):
    """One attempt at a slice."""

    part: Slice
    name: str
    table: Table
    progress: Progress


class Misconfigured(Permanent):
    """The table or the statement is at fault, and no row."""

    splits = False


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
        self._promised = ""
        self._not_stored: frozenset[str] = frozenset()

    async def start(self, host: Host) -> None:
        self._host = host
        self._preparing = asyncio.Lock()
        self._connections = asyncio.Semaphore(CONNECTIONS)
        for warning in self.config.warnings():
            host.logger.warning("exporter %s: %s", self.id, warning)
        if self.config.embedded is None:
            self._store = ServerStore(self.config)
        else:
            path, memory_bytes = self.config.embedded, self.config.memory_limit
            self._engine = await acquire(
                host, embedded_engine.acquire, path, memory_bytes, undo=embedded_engine.release
            )
            self._engine.database = self._options.database
            self._store = EmbeddedStore(self._engine, self.config.connection_params)
        self._opening = asyncio.create_task(wait_for_store(host, self._ready), name=f"{self.id} schema")
        if self._engine is not None:
            # Nobody else has to be waited for: whoever reads once the daemon is ready finds the table.
            await asyncio.wait([self._opening], timeout=EMBEDDED_OPEN_WITHIN_S)

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

    async def export(self, part: Slice) -> None:
        """Stores the slice, block by block; what the store has already is passed over."""
        try:
            try:
                await self._export(part)
            except StoreError as error:
                if error.action is not Action.SCHEMA:
                    raise
                # The table was changed or dropped under us: look again, once.
                self._table = None
                await self._export(part)
        except StoreError as error:
            raise self._outcome(error) from None

    async def _export(self, part: Slice) -> None:
        table, name = await self._ready_for(part), self._name(part)
        progress = Progress(part, name, self._options.name())
        if not progress.same_place:
            self._host.logger.warning(
                "exporter %s: %d rows may be stored elsewhere already: another table was written to before",
                *(self.id, part.rows),
            )
        await self._send(_Sending(part, name, table, progress), 0, part.rows)

    async def _send(self, sending: _Sending, start: int, end: int, day: int | None = None) -> None:
        """Inserts rows start..end (of one day, or None: of all), one block per day; a block that is too large for the
        store goes in halves."""
        rows = cut_rows(sending.part.batches, start, end)
        async with self._connections:
            blocks = await self._host.compute(self._encode, rows, sending.table)
        first = sending.part.offset
        for block_day, _, block in blocks:
            piece = Piece(first + start, first + end, block_day)
            if day not in (None, block_day) or sending.progress.is_done(piece):
                continue
            if not sending.progress.is_halved(piece) and await self._insert(sending, piece, rows, block):
                sending.progress.done(piece)
                continue
            if not sending.progress.is_halved(piece):
                sending.progress.halved(piece)
                await sending.part.remember()
            middle = (start + end) // 2
            await self._send(sending, start, middle, block_day)
            await self._send(sending, middle, end, block_day)

    async def _insert(self, sending: _Sending, piece: Piece, rows: list[Batch], block: NativeBlock) -> bool:
        """Stores a block under its name; False when the store wants a smaller one. Raises StoreError."""
        token = f"{sending.name}[{piece.start}-{piece.end}]@{piece.day}"
        if sending.progress.is_in_doubt(piece) and asking.can_be_asked(sending.table) and sending.table.readable:
            lacking = await self._ask(rows, piece.day, sending.table)
            if lacking is not None and not lacking.rows:
                return True
            if lacking is not None and lacking.rows < sum(batch.rows for batch in rows):
                ((_, _, block),) = await self._host.compute(self._encode, lacking.batches, sending.table)
                token += f"-{lacking.rows}"
        settings = {**INSERT_SETTINGS, TOKEN: token}
        if sending.table.engine == "Distributed":
            settings |= DISTRIBUTED_SETTINGS
        try:
            async with self._connections:
                await self._host.run(self._insert_block, block, settings)
        except StoreError as error:
            sending.progress.doubted(piece)
            if error.action is not Action.SHRINK or piece.end - piece.start <= MIN_SPLIT_ROWS:
                raise
            self._host.logger.warning(
                "exporter %s: %d rows are too many for the store, sending halves: %s",
                *(self.id, piece.end - piece.start, error.describe()),
            )
            return False
        except BaseException:
            sending.progress.doubted(piece)
            raise
        return True

    async def _ask(self, rows: list[Batch], day: int, table: Table) -> asking.Missing | None:
        """What the store lacks of rows that it may have. Raises StoreError."""
        store = self._store
        if store is None:
            raise Retryable("stopped", f"exporter {self.id} is not running")
        return await self._host.run(asking.missing, store, self._options.name(), table, rows, day)

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
                self._tell_promise(self._table)
            return self._table

    async def _ready_for(self, part: Slice) -> Table:
        """The table, with the columns that these rows have besides the schema's. Raises Retryable, Permanent."""
        table = await self._ready()
        fields = await self._host.compute(extension_fields, part.batches)
        names = {name for name, _ in table.columns} | self._not_stored
        lacking = [(field.name, str(field.type)) for field in fields if field.name not in names]
        if not lacking or (store := self._store) is None:
            return table
        if not self.config.create_schema:
            self._not_stored |= {name for name, _ in lacking}
            self._host.logger.warning(
                "exporter %s: table %s lacks columns whose values are not stored: %s (create_schema: true adds them)",
                *(self.id, self._options.name(), ", ".join(name for name, _ in lacking)),
            )
            return table
        try:
            await self._host.run(extend, store, self._options, lacking)
        except ValueError as error:
            raise Permanent("unfit_rows", f"rows can not be sent to ClickHouse: {error}") from None
        self._table = None
        table = await self._ready()
        # Columns that the table computes take no data.
        self._not_stored |= {name for name, _ in lacking} - {name for name, _ in table.columns}
        return table

    def _tell_promise(self, table: Table) -> None:
        """Whether a repeat after a lost answer or a crash can double rows, as the table really is."""
        why = ""
        if not table.window:
            why = f"the table ({table.engine or 'unknown engine'}) remembers no inserts"
        elif not asking.can_be_asked(table):
            why = "the table lacks the columns id and batch_id, by which it could be asked"
        elif not table.readable:
            why = "this user may not select from the table, so it can not be asked"
        self._host.gauge("exporter_exactly_once", 0 if why else 1)
        if why:
            text, level = f"rows are stored at least once: {why}", logging.WARNING
        else:
            text = f"rows are stored exactly once: the table remembers {table.window} inserts, and can be asked"
            level = logging.INFO
        if text != self._promised:
            self._promised = text
            self._host.logger.log(level, "exporter %s: %s", self.id, text)

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
            case Action.DATA:
                return Permanent(error.label, text)
            case Action.SCHEMA | Action.QUERY:
                return Misconfigured(error.label, text)


def _compression(config: ClickHouseConfig) -> str:
    """Content coding of blocks; empty for none."""
    if config.embedded is not None or config.compress == "none":
        return ""
    if config.compress is None:
        return "" if all(server.is_loopback for server in config.servers()) else "lz4"
    return config.compress
