"""Tables in QuestDB: narrow ones per kind of metric point, a wide one of events, and their DDL.

Everything here is text made from `unified_schema.csv`; nothing talks to a server. Decisions:

* Columns keep the names that they have in the wide table; `series`, `occurrence`, `temporality`, `resource` are
  added, and buckets and quantiles are arrays of doubles in place of JSON.
* QuestDB has no name for a row. `series` is a hash of all that a source says of a point but its times and values, and
  `occurrence` the row's place in the log it came through; with the time they are the table's key, so a row that is
  sent again is the same row, and two points of one series and time stay two.
* What has few values is SYMBOL where the configuration says so, or the column's type (`lc_string`) does; ids and other
  text are VARCHAR. Maps are JSON text, in the form that all stores keep them.
* A point's attribute that has a column of its own (a symbol) is not in `labels` as well. `resource` is a JSON object of
  all columns that have no place of their own; `attributes` what else the record said (`$otlp.` keys).
* QuestDB has no null of BOOLEAN, SHORT and BYTE: small numbers are INT, and booleans SYMBOL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from colonnade.unified_schema.columns import columns, otel_attributes

METRIC_TABLES = {
    "gauge": "otel_metrics_gauge",
    "sum": "otel_metrics_sum",
    "histogram": "otel_metrics_histogram",
    "exponential_histogram": "otel_metrics_exponential_histogram",
    "summary": "otel_metrics_summary",
}
EVENTS = "events"
TIMESTAMP = "timestamp"
NAME_MAX_BYTES = 127
# Columns that a program may give rows besides, by Arrow's name of their types.
_EXTENSION_TYPES = {
    **dict.fromkeys(("string", "large_string", "string_view", "binary", "large_binary"), "VARCHAR"),
    **{f"int{bits}": "INT" for bits in (8, 16, 32)},
    **{f"uint{bits}": "INT" for bits in (8, 16)},
    **dict.fromkeys(("int64", "uint32", "uint64"), "LONG"),
    **dict.fromkeys(("float", "double"), "DOUBLE"),
    "bool": "SYMBOL",
    "timestamp[ns, tz=UTC]": "TIMESTAMP_NS",
    "date32[day]": "TIMESTAMP_NS",
    "dictionary<values=string, indices=int32, ordered=0>": "SYMBOL",
}
_TYPES = {
    "uuid": "UUID",
    "lc_string": "SYMBOL",
    "string": "VARCHAR",
    "timestamp_ns": "TIMESTAMP_NS",
    "int64": "LONG",
    "int32": "INT",
    "uint32": "LONG",
    "uint16": "INT",
    "uint8": "INT",
    "float64": "DOUBLE",
    "bool": "SYMBOL",
    "date32": "TIMESTAMP_NS",
    "json": "VARCHAR",
    "bytes": "VARCHAR",
    "map<string,any>": "VARCHAR",
    "map<string,string>": "VARCHAR",
}
# The same instant as `timestamp`, and what follows from it.
_DERIVED = frozenset({"timestamp_ns", "hour", "day"})


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table, and where its values come from (`native.encode_lines`)."""

    name: str
    source: str
    type: str

    @property
    def ddl(self) -> str:
        return f"{quoted(self.name)} {self.type}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table that rows of one kind go to; its key is `keys`, and the designated time is `timestamp`."""

    rows: str
    name: str
    columns: tuple[TableColumn, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How tables are made.

    Args:
        partition_by: HOUR, DAY, WEEK, MONTH or YEAR.
        ttl_h: whole partitions older than this are dropped; 0 = never.
    """

    partition_by: str = "DAY"
    ttl_h: int = 0


def _same(*names: str, type: str) -> list[TableColumn]:
    return [TableColumn(name, name, type) for name in names]


_KEYS = [TableColumn("series", "$series", "LONG"), TableColumn("occurrence", "$occurrence", "LONG")]
_WORDS = _same("metric_name", "metric_unit", type="SYMBOL")
_TEMPORALITY = [TableColumn("temporality", "=$temporality", "SYMBOL")]
_STARTED = _same("started_at", type="TIMESTAMP_NS")
_VALUE = [*_same("metric_type", type="SYMBOL"), *_STARTED, *_same("metric_value", type="DOUBLE")]
_TOTALS = [*_STARTED, *_same("metric_count", type="LONG"), *_same("metric_sum", type="DOUBLE")]
_RANGE = _same("metric_min", "metric_max", type="DOUBLE")
_LAST = [
    *_same("labels", "attributes", "data", type="VARCHAR"),
    TableColumn("resource", "$rest", "VARCHAR"),
]


def _part(name: str, part: str, type: str) -> TableColumn:
    return TableColumn(name, f"${part}", type)


_OWN: dict[str, list[TableColumn]] = {
    "gauge": _VALUE,
    "sum": [*_TEMPORALITY, *_VALUE],
    "histogram": [
        *(*_TEMPORALITY, *_TOTALS, *_RANGE),
        *(_part("bounds", "bounds", "DOUBLE[]"), _part("counts", "counts", "DOUBLE[]")),
    ],
    "exponential_histogram": [
        *(*_TEMPORALITY, *_TOTALS, *_RANGE),
        *(_part("scale", "scale", "INT"), _part("zero_count", "zero_count", "LONG")),
        _part("zero_threshold", "zero_threshold", "DOUBLE"),
        *(_part("positive_offset", "positive.offset", "INT"), _part("positive_counts", "positive.counts", "DOUBLE[]")),
        *(_part("negative_offset", "negative.offset", "INT"), _part("negative_counts", "negative.counts", "DOUBLE[]")),
    ],
    "summary": [
        *(*_TOTALS, *_RANGE),
        *(_part("quantiles", "quantiles", "DOUBLE[]"), _part("quantile_values", "quantile_values", "DOUBLE[]")),
    ],
}


def metric_table(rows: str, name: str, symbols: tuple[str, ...]) -> Table:
    """The table of one kind of points. Raises ValueError where a symbol's name is taken."""
    fixed = [*_same(TIMESTAMP, type="TIMESTAMP_NS"), *_KEYS, *_WORDS]
    more = [TableColumn(*column_of(symbol), "SYMBOL") for symbol in symbols]
    found = _unique([*fixed, *more, *_OWN[rows], *_LAST])
    return Table(rows, name, found, (TIMESTAMP, "series", "occurrence"))


def events_table(name: str, picked: tuple[str, ...], symbols: tuple[str, ...]) -> Table:
    """The wide table: the columns picked, or all. Raises ValueError where two would have one name."""
    types = {column.name: _TYPES[column.type] for column in columns()}
    wanted = picked or tuple(name for name in types if name not in _DERIVED)
    found = [TableColumn(TIMESTAMP, TIMESTAMP, "TIMESTAMP_NS"), TableColumn("occurrence", "$occurrence", "LONG")]
    few = {column_of(symbol)[0] for symbol in symbols}
    for key in wanted:
        column, source = column_of(key)
        if column != TIMESTAMP:
            # What has a home lives there, with its type.
            source = column if column in types else source
            found.append(TableColumn(column, source, "SYMBOL" if column in few else types.get(column, "VARCHAR")))
    known = {column.name for column in found}
    found += [TableColumn(*column_of(s), "SYMBOL") for s in symbols if column_of(s)[0] not in known]
    return Table(EVENTS, name, _unique(found), (TIMESTAMP, "occurrence"))


def extension_type(arrow_type: str) -> str | None:
    """The type of a column that the schema does not have; None where QuestDB has none."""
    return _EXTENSION_TYPES.get(arrow_type)


def column_of(key: str) -> tuple[str, str]:
    """Name and source of a column that a user names: one of the wide table, or an attribute by its key, which may live
    in a column."""
    if key in _names():
        return key, key
    homes = {a.key: a.column for a in otel_attributes() if a.role == "canonical"}
    if key in homes:
        return homes[key], f"{homes[key]}={key}"
    return re.sub(r"\W", "_", key, flags=re.ASCII), f"={key}"


@cache
def _names() -> frozenset[str]:
    return frozenset(column.name for column in columns())


def _unique(found: list[TableColumn]) -> tuple[TableColumn, ...]:
    """QuestDB does not tell case apart in names."""
    seen: dict[str, TableColumn] = {}
    for column in found:
        before = seen.setdefault(column.name.lower(), column)
        if before is not column and before.source != column.source:
            raise ValueError(f"column {column.name!r} would hold both {_said(before)} and {_said(column)}")
    return tuple(seen.values())


def _said(column: TableColumn) -> str:
    _, is_attribute, key = column.source.partition("=")
    return f"attribute {key!r}" if is_attribute else f"column {column.source!r}"


def create_table(table: Table, options: TableOptions) -> str:
    """CREATE TABLE."""
    listed = ", ".join(column.ddl for column in table.columns)
    ttl = f" TTL {options.ttl_h} HOURS" if options.ttl_h else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(table.name)} ({listed}) TIMESTAMP({quoted(TIMESTAMP)}) "
        f"PARTITION BY {options.partition_by}{ttl} WAL DEDUP UPSERT KEYS({_listed(table.keys)})"
    )


def add_column(table: str, column: TableColumn) -> str:
    """ALTER TABLE, which a column that another daemon has just added does not disturb."""
    return f"ALTER TABLE {quoted(table)} ADD COLUMN IF NOT EXISTS {column.ddl}"


def enable_dedup(table: Table) -> str:
    """ALTER TABLE, for a table that somebody made without a key."""
    return f"ALTER TABLE {quoted(table.name)} DEDUP ENABLE UPSERT KEYS({_listed(table.keys)})"


def set_ttl(table: str, options: TableOptions) -> str:
    """ALTER TABLE, to what the configuration says."""
    return f"ALTER TABLE {quoted(table)} SET TTL {options.ttl_h} HOURS"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(quoted(name) for name in names)


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"
