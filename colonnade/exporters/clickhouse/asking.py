"""Asking a store which rows of a slice in doubt it has.

A row is known by `batch_id` (the append that accepted it) and `id`; rows that a client sent twice share the second and
not the first. The question names the appends, the day and the span of time, so that it reads little of the table.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pyarrow
import pyarrow.compute

from colonnade.exporters.clickhouse.schema import Table
from colonnade.exporters.clickhouse.stores import Store
from colonnade.native import Batch, concat, take
from colonnade.unified_schema.clickhouse import quoted

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow
pc: Any = pyarrow.compute

ID, APPEND = "id", "batch_id"
# A statement may have 256 KiB; an id takes 39 bytes.
APPENDS_PER_QUESTION = 2000
# Columns of an operator's own table may be coarser than ours.
MARGIN_NS = 1_000_000_000


class Missing(NamedTuple):
    """What a store lacks of some rows: none, all, or these."""

    rows: int
    batches: list[Batch]


def can_be_asked(table: Table) -> bool:
    """Whether the table keeps what tells rows apart."""
    types = dict(table.columns)
    return types.get(ID) in ("UUID", "String") and types.get(APPEND) in ("UUID", "String")


def missing(store: Store, name: str, table: Table, batches: list[Batch], day: int) -> Missing | None:
    """The rows of that day that the store does not have; None when these rows can not be told apart.

    Blocks. Raises StoreError.
    """
    if not all({ID, APPEND} <= set(batch.column_names) for batch in batches):
        return None
    mine = _of_day(batches, day)
    theirs = [
        _parsed(store.fetch(question))
        for question in _questions(name, table, mine, day if all("day" in b.column_names for b in batches) else None)
    ]
    have = pa.concat_tables(theirs)
    if not have.num_rows:
        return Missing(mine.num_rows, [take(concat(batches), mine["row"].to_pylist())])
    lacking = _lacking(mine, have)
    return Missing(len(lacking), [take(concat(batches), lacking)] if lacking else [])


def _of_day(batches: list[Batch], day: int) -> Any:
    """Columns batch_id, id, timestamp (ns) and row (number within all batches) of the rows of that day."""
    tables: list[Any] = []
    first = 0
    for batch in batches:
        data = pa.record_batch(batch)
        rows = pa.array(range(first, first + batch.rows), pa.uint32())
        first += batch.rows
        timed = "timestamp" in batch.column_names
        at = data["timestamp"].cast(pa.int64()) if timed else pa.nulls(batch.rows, pa.int64())
        table = pa.table({APPEND: data[APPEND], ID: data[ID], "at": at, "row": rows})
        if "day" in batch.column_names:
            table = table.filter(pc.equal(data["day"].cast(pa.int32()), day))
        tables.append(table)
    return pa.concat_tables(tables)


def _questions(name: str, table: Table, mine: Any, day: int | None) -> list[str]:
    """SELECTs whose answers are batch_id, id and how often, of the appends that `mine` has rows of."""
    types = dict(table.columns)
    where: list[str] = []
    if day is not None and types.get("day") == "Date":
        where.append(f"day = toDate({day})")
    span = pc.min_max(mine["at"]).as_py()
    if types.get("timestamp", "").startswith("DateTime64") and span["min"] is not None:
        low, high = span["min"] - MARGIN_NS, span["max"] + MARGIN_NS
        where.append(f"timestamp BETWEEN fromUnixTimestamp64Nano({low}) AND fromUnixTimestamp64Nano({high})")
    appends = [_text(value) for value in pc.unique(mine[APPEND]).to_pylist()]
    return [
        f"SELECT {_number(types[APPEND], APPEND)} AS append, {_number(types[ID], ID)} AS row, count() AS times "
        f"FROM {name} WHERE "
        + " AND ".join([*where, f"{quoted(APPEND)} IN ({', '.join(appends[at : at + APPENDS_PER_QUESTION])})"])
        + " GROUP BY append, row"
        for at in range(0, len(appends), APPENDS_PER_QUESTION)
    ]


def _number(type: str, column: str) -> str:
    """A UUID as 16 bytes."""
    return f"UUIDToNum({quoted(column)})" if type == "UUID" else f"UUIDToNum(toUUID({quoted(column)}))"


def _text(value: bytes) -> str:
    digits = value.hex()
    return f"'{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}'"


def _parsed(answer: bytes) -> Any:
    schema = pa.schema([("append", pa.binary(16)), ("row", pa.binary(16)), ("times", pa.uint64())])
    return pa.ipc.open_stream(answer).read_all().cast(schema) if answer else schema.empty_table()


def _lacking(mine: Any, have: Any) -> list[int]:
    """Row numbers of `mine` that `have` has not; of rows that are alike, as many as it lacks."""
    keys = [APPEND, ID]
    alike = mine.group_by(keys).aggregate([("row", "count")])
    joined = mine.join(have.rename_columns([*keys, "times"]), keys=keys).join(alike, keys=keys)
    lacking: list[int] = joined.filter(pc.is_null(joined["times"]))["row"].to_pylist()
    found: Counter[tuple[bytes, bytes]] = Counter()
    for row in joined.filter(pc.less(joined["times"], joined["row_count"].cast(pa.uint64()))).to_pylist():
        found[row[APPEND], row[ID]] += 1
        if found[row[APPEND], row[ID]] > row["times"]:
            lacking.append(row["row"])
    return sorted(lacking)
