"""Bringing a store's schema up to ours: create what is missing, add columns, say which version it has.

Nothing is ever dropped or narrowed: a table that an operator made may have other types, orders and further columns, and
is taken as it is. Every statement may run on several daemons at once.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from colonnade.exporters.clickhouse.errors import StoreError
from colonnade.exporters.clickhouse.stores import Store
from colonnade.unified_schema import clickhouse as ddl
from colonnade.unified_schema.clickhouse_views import create_views


class Table(NamedTuple):
    """A table as the store describes it.

    Args:
        columns: those that take data (name, type).
        engine: of the table.
        window: how many inserts it remembers by their names; 0 = none.
        readable: whether this user may select from it.
    """

    columns: list[tuple[str, str]]
    engine: str
    window: int = 0
    readable: bool = True


# DESCRIBE's kinds of default whose columns take no data.
_COMPUTED = frozenset({"ALIAS", "MATERIALIZED"})


def prepare(
    store: Store, options: ddl.TableOptions, views: dict[str, str], create: bool, logger: logging.Logger
) -> Table:
    """The table, after creating and completing it. Raises StoreError."""
    if create:
        _create(store, options)
    described = store.execute(f"DESCRIBE TABLE {options.name()}")
    if create:
        described = _complete(store, options, described)
        _create_views(store, options, views, logger)
    engine, statement = _definition(store, options)
    _warn_about_missing(described, options, logger)
    table = Table(
        columns=[(row[0], row[1]) for row in described if row[2] not in _COMPUTED],
        engine=engine,
        window=_window(store, engine, statement),
        readable=_is_readable(store, options),
    )
    if engine.endswith("MergeTree") and not table.window:
        logger.warning(
            "table %s.%s remembers no inserts, so one that is sent again after a lost answer may be stored twice: "
            "ALTER TABLE ... MODIFY SETTING non_replicated_deduplication_window = %d",
            *(options.database, options.table, ddl.DEDUPLICATION_WINDOW),
        )
    return table


def extend(store: Store, options: ddl.TableOptions, fields: Iterable[tuple[str, str]]) -> None:
    """Adds columns that rows have besides the schema's: (name, Arrow type). Raises StoreError, or ValueError where
    ClickHouse has no such type.
    """
    for name, type in fields:
        alter = ddl.add_extension(options, name, type)
        if alter is None:
            raise ValueError(f"column {name!r} is {type}, which is not sent to ClickHouse")
        store.execute(alter)


def _definition(store: Store, options: ddl.TableOptions) -> tuple[str, str]:
    """Engine and CREATE statement of the table."""
    found = store.execute(
        f"SELECT engine, create_table_query FROM system.tables WHERE database = {ddl.literal(options.database)} "
        f"AND name = {ddl.literal(options.table)}"
    )
    return (found[0][0], found[0][1]) if found else ("", "")


_DISTRIBUTED = re.compile(r"ENGINE = Distributed\(\s*'?[^,']*'?,\s*'?([^,']*)'?,\s*'?([^,')]*)'?")


def _window(store: Store, engine: str, statement: str) -> int:
    """How many inserts a table remembers; that of a distributed one is its shards', as this server defines them."""
    if engine == "Distributed":
        if (place := _DISTRIBUTED.search(statement)) is None:
            return 0
        engine, statement = _definition(store, ddl.TableOptions(database=place[1], table=place[2]))
    if not engine.endswith("MergeTree"):
        return 0
    setting = "replicated_deduplication_window" if "Replicated" in engine else "non_replicated_deduplication_window"
    written = re.search(rf"\b{setting} = (\d+)", statement)
    if written:
        return int(written[1])
    source = "replicated_merge_tree_settings" if "Replicated" in engine else "merge_tree_settings"
    found = store.execute(f"SELECT value FROM system.{source} WHERE name = {ddl.literal(setting)}")
    return int(found[0][0]) if found else 0


def _is_readable(store: Store, options: ddl.TableOptions) -> bool:
    try:
        store.execute(f"SELECT 1 FROM {options.name()} LIMIT 0")
    except StoreError as error:
        if not error.code:
            raise
        return False
    return True


def _create(store: Store, options: ddl.TableOptions) -> None:
    # A user without the right to create databases may well have the right to create tables.
    if not store.execute(f"SELECT 1 FROM system.databases WHERE name = {ddl.literal(options.database)}"):
        store.execute(ddl.create_database(options))
    store.execute(ddl.create_table(options))


def _complete(store: Store, options: ddl.TableOptions, described: list[list[str]]) -> list[list[str]]:
    """Adds missing columns, follows the configured expiry, and notes the version."""
    alter = ddl.add_columns(options, {row[0] for row in described})
    if alter:
        store.execute(alter)
        described = store.execute(f"DESCRIBE TABLE {options.name()}")
    _, text = _definition(store, options)
    if _expires(text) != bool(options.ttl_s) or (options.ttl_s and options.ttl not in text):
        store.execute(ddl.modify_ttl(options))
    _note_version(store, options)
    return described


def _expires(create_query: str) -> bool:
    return " TTL toDateTime(ingested_at)" in create_query.replace("\n", " ")


def _note_version(store: Store, options: ddl.TableOptions) -> None:
    store.execute(ddl.create_migrations(options))
    checksum = f"{zlib.crc32(repr(ddl.columns()).encode()):08x}"
    row = (ddl.literal(options.table), str(ddl.SCHEMA_VERSION), ddl.literal(checksum))
    known = store.execute(
        f"SELECT 1 FROM {options.name(ddl.MIGRATIONS_TABLE)} "
        f"WHERE name = {row[0]} AND version = {row[1]} AND checksum = {row[2]} LIMIT 1"
    )
    if not known:
        store.execute(
            f"INSERT INTO {options.name(ddl.MIGRATIONS_TABLE)} (name, version, checksum) SELECT {', '.join(row)}"
        )


def _create_views(store: Store, options: ddl.TableOptions, views: dict[str, str], logger: logging.Logger) -> None:
    """Views serve readers only: one that can not be made is no reason to keep rows waiting."""
    for name, sql in create_views(options, views):
        try:
            if store.execute(
                f"SELECT 1 FROM system.tables WHERE database = {ddl.literal(options.database)} "
                f"AND name = {ddl.literal(name)} AND engine != 'View'"
            ):
                logger.warning("%s.%s is a table, so no view of that name is made", options.database, name)
                continue
            store.execute(sql)
        except StoreError as error:
            if not error.code:
                raise
            logger.warning("view %s.%s can not be made: %s", options.database, name, error.describe())


def _warn_about_missing(described: list[list[str]], options: ddl.TableOptions, logger: logging.Logger) -> None:
    names = {row[0] for row in described}
    missing = [column.name for column in ddl.columns() if column.name not in names]
    if missing:
        logger.warning(
            "table %s.%s lacks %d columns, whose values are not stored: %s (create_schema: true adds them)",
            *(options.database, options.table, len(missing), ", ".join(missing[:10])),
        )
