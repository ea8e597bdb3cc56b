"""Bringing a server's tables up to ours: make what is missing, add columns, refuse what would lose or double rows.

Nothing is ever dropped or changed in type. Every statement may run on several daemons at once. Changes of a table show
late in what the server says of it, so what was just added is taken as there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from colonnade.exporters.questdb.server import Server
from colonnade.pipeline.errors import Retryable
from colonnade.unified_schema import questdb as ddl

CLASH_DELAY_S = 10.0

# Types that a column may have in place of ours: what is sent follows the table.
_TEXT = ("VARCHAR", "STRING")
_FIT: dict[str, tuple[str, ...]] = {
    "SYMBOL": ("SYMBOL", *_TEXT),
    "VARCHAR": (*_TEXT, "SYMBOL"),
    "UUID": ("UUID", *_TEXT),
    "INT": ("INT", "LONG"),
    "TIMESTAMP_NS": ("TIMESTAMP_NS", "TIMESTAMP"),
}
# JSON of maps is too various for symbols.
_JSON = frozenset({"labels", "attributes", "$rest"})
# What `native.encode_lines` is told of a table.
Target = tuple[str, str, list[tuple[str, str, str]]]


class Prepared(NamedTuple):
    """Tables as the server has them.

    Args:
        targets: what lines are made for.
        ids: the server's numbers of the tables, by name; a table made anew has another.
        keyless: tables that would keep a row twice.
    """

    targets: list[Target]
    ids: dict[str, int]
    keyless: list[str]


class _Found(NamedTuple):
    id: int
    wal: bool
    ttl_h: int
    suspended: bool


_HOURS = {"HOUR": 1, "DAY": 24, "WEEK": 7 * 24}


class SchemaClash(Retryable):
    """A table is not as it has to be; rows wait until somebody mends it."""

    def __init__(self, message: str) -> None:
        super().__init__("schema_clash", message, CLASH_DELAY_S)


async def prepare(
    server: Server, tables: Iterable[ddl.Table], options: ddl.TableOptions, create: bool, logger: logging.Logger
) -> Prepared:
    """The tables, after making and completing them. Raises StoreError, SchemaClash."""
    tables = list(tables)
    if create:
        known = await _describe(server, tables)
        for table in tables:
            if table.name.lower() not in known:
                await server.execute(ddl.create_table(table, options))
    known = await _describe(server, tables)
    targets: list[Target] = []
    keyless: list[str] = []
    for table in tables:
        found = known.get(table.name.lower())
        if found is None:
            raise SchemaClash(f"there is no table {table.name!r}: make it, or write create_schema: true")
        if found.suspended:
            logger.warning("table %s is suspended: rows show after ALTER TABLE ... RESUME WAL", table.name)
        if create and found.ttl_h != options.ttl_h and (options.ttl_h or found.ttl_h > 0):
            await server.execute(ddl.set_ttl(table.name, options))
        columns, has_key = await _complete(server, table, found, create, logger)
        targets.append((table.rows, table.name, columns))
        if not has_key:
            keyless.append(table.name)
    return Prepared(targets, {name: found.id for name, found in known.items()}, keyless)


async def table_ids(server: Server, tables: Iterable[ddl.Table]) -> dict[str, int]:
    """As `Prepared.ids`. Raises StoreError."""
    return {name: found.id for name, found in (await _describe(server, tables)).items()}


async def _describe(server: Server, tables: Iterable[ddl.Table]) -> dict[str, _Found]:
    """By name in lower case: QuestDB does not tell case apart."""
    names = ", ".join(ddl.literal(table.name.lower()) for table in tables)
    rows = await server.execute(
        "SELECT lower(table_name), id, walEnabled, ttlValue, ttlUnit, table_suspended FROM tables() "
        f"WHERE lower(table_name) IN ({names})"
    )
    return {name: _Found(id, wal, ttl * _HOURS.get(unit, -1), off) for name, id, wal, ttl, unit, off in rows}


async def _complete(
    server: Server, table: ddl.Table, found: _Found, create: bool, logger: logging.Logger
) -> tuple[list[tuple[str, str, str]], bool]:
    """Columns to send, and whether the table has our key."""
    rows = await server.execute(
        f'SELECT "column", type, designated, upsertKey FROM table_columns({ddl.literal(table.name)})'
    )
    types = {name.lower(): type for name, type, *_ in rows}
    _check_time(table, [(name, type) for name, type, designated, _ in rows if designated])
    missing = [column for column in table.columns if column.name.lower() not in types]
    if create:
        for column in missing:
            await server.execute(ddl.add_column(table.name, column))
    elif missing:
        names = ", ".join(column.name for column in missing[:10])
        logger.warning(
            "table %s lacks %d columns, whose values are not stored: %s (create_schema: true adds them)",
            *(table.name, len(missing), names),
        )
    columns = [
        (column.name, column.source, _type(table, column, types.get(column.name.lower(), column.type)))
        for column in table.columns
        if create or column not in missing
    ]
    return columns, await _has_key(server, table, found, {row[0].lower() for row in rows if row[3]}, create)


def _check_time(table: ddl.Table, designated: list[tuple[str, str]]) -> None:
    if designated != [(ddl.TIMESTAMP, "TIMESTAMP_NS")]:
        said = " ".join(designated[0]) if designated else "none"
        raise SchemaClash(
            f"table {table.name!r} must have the designated timestamp {ddl.TIMESTAMP} TIMESTAMP_NS, not {said}: "
            "rename the table, or name another one for this exporter"
        )


def _type(table: ddl.Table, column: ddl.TableColumn, type: str) -> str:
    """The column's type in the table, where it can take our values."""
    allowed = _TEXT if column.source in _JSON else _FIT.get(column.type, (column.type,))
    if type not in allowed:
        raise SchemaClash(
            f"column {column.name!r} of table {table.name!r} must be {' or '.join(allowed)}, not {type}: "
            "rename it, or name another table for this exporter"
        )
    return type


async def _has_key(server: Server, table: ddl.Table, found: _Found, keys: set[str], create: bool) -> bool:
    """Whether the table keeps a row once; makes it so where it may."""
    if keys and not keys.issuperset(table.keys):
        raise SchemaClash(
            f"table {table.name!r} has the upsert keys {', '.join(sorted(keys))}, so that rows would replace others: "
            f"they must be {', '.join(table.keys)}"
        )
    if not keys and create and found.wal:
        await server.execute(ddl.enable_dedup(table))
        return True
    return bool(keys)
