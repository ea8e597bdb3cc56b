"""The wide table in ClickHouse: its columns, its DDL, and the views that readers of the Collector's tables expect.

Everything here is text made from `unified_schema.csv`; nothing talks to a server. Decisions (specification 10, storage
1.3, 1.6, 1.11):

* Text is never Nullable: empty means absent, and sparse serialization makes absent text nearly free. Numbers are
  Nullable only where zero is a value (`NULLABLE`).
* `timestamp_ns` is an ALIAS of `timestamp`: the same instant is not stored twice. `hour` and `day` are stored, because
  they follow `ingested_at` where `timestamp` lies outside the window that `unify` allows.
* Rows expire by `ingested_at`, and whole parts at a time: a row that claims to be from 1970 lives as long as any other.
* Times are delta-encoded; every other column has the server's own codec (LZ4 when written, ZSTD once merged in current
  servers), because a codec of our own costs a fifth of the insert speed.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SCHEMA_VERSION = 1

TABLE = "events"
MIGRATIONS_TABLE = "schema_migrations"
DEDUPLICATION_WINDOW = 10_000
MIN_BYTES_FOR_WIDE_PART = 64 << 20

# Specification 10.3, and the numbers that acceptance check 7 adds: a stored zero is not an absent value.
NULLABLE = frozenset(
    {
        *("duration_ms", "cpu_time_ms", "status_code", "http_status", "http_request_size", "http_response_size"),
        *("geo_latitude", "geo_longitude", "bot_verified", "db_version", "msg_batch_size", "action_input_version"),
        *("vital_value", "vital_delta", "replay_sequence", "replay_timestamp_offset"),
        *("metric_value", "metric_count", "metric_sum", "metric_min", "metric_max"),
        *("snippet_start_time", "snippet_dns_time", "snippet_connect_time", "snippet_ttfb", "snippet_download_time"),
        *("snippet_blocked_time", "snippet_transfer_size", "snippet_decoded_size"),
    }
)

_TYPES = {
    "uuid": "UUID",
    "string": "String",
    "lc_string": "LowCardinality(String)",
    "timestamp_ns": "DateTime64(9, 'UTC')",
    "int64": "Int64",
    "int32": "Int32",
    "uint32": "UInt32",
    "uint16": "UInt16",
    "uint8": "UInt8",
    "float64": "Float64",
    "bool": "Bool",
    "date32": "Date",
    "json": "String",
    "bytes": "String",
    "map<string,any>": "Map(LowCardinality(String), String)",
    "map<string,string>": "Map(LowCardinality(String), String)",
}

# Types of extension columns by Arrow's name of them; None is absent, and text is empty instead.
_EXTENSION_TYPES = {
    **dict.fromkeys(("string", "large_string", "string_view", "binary", "large_binary"), "String"),
    **{f"int{bits}": f"Nullable(Int{bits})" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"Nullable(UInt{bits})" for bits in (8, 16, 32, 64)},
    "float": "Nullable(Float32)",
    "double": "Nullable(Float64)",
    "bool": "Nullable(Bool)",
    "timestamp[ns, tz=UTC]": "Nullable(DateTime64(9, 'UTC'))",
    "date32[day]": "Nullable(Date32)",
    "dictionary<values=string, indices=int32, ordered=0>": "LowCardinality(String)",
}

_ALIASES = {"timestamp_ns": "toUnixTimestamp64Nano(timestamp)"}
ORDER_BY = "(toStartOfFiveMinutes(timestamp), ns, event_type, service_name, timestamp)"
PARTITION_BY = "day"


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column of the table. `alias` is the expression of a column that is computed, not stored."""

    name: str
    type: str
    alias: str = ""
    codec: str = ""
    comment: str = ""

    @property
    def ddl(self) -> str:
        parts = [quoted(self.name), self.type]
        if self.alias:
            parts.append(f"ALIAS {self.alias}")
        if self.comment:
            parts.append(f"COMMENT {literal(self.comment)}")
        if self.codec:
            parts.append(f"CODEC({self.codec})")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What the configuration says about the table.

    Args:
        database, table: names, unquoted.
        ttl_s: rows live this long after they came in; 0 = for ever.
        engine: a table engine of the MergeTree family.
        engine_params: its arguments as SQL text, for example `'/clickhouse/{shard}/events', '{replica}'`.
        cluster: DDL is sent ON CLUSTER of this name; empty: to the one server.
        trace_index: a bloom filter on `trace_id`.
        settings: further MergeTree settings, which win over ours.
    """

    database: str = "default"
    table: str = TABLE
    ttl_s: int = 0
    engine: str = "MergeTree"
    engine_params: str = ""
    cluster: str = ""
    trace_index: bool = True
    settings: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def on_cluster(self) -> str:
        return f" ON CLUSTER {quoted(self.cluster)}" if self.cluster else ""

    @property
    def ttl(self) -> str:
        return f"toDateTime(ingested_at) + toIntervalSecond({self.ttl_s})"

    def name(self, table: str = "") -> str:
        """`database`.`table`, quoted."""
        return f"{quoted(self.database)}.{quoted(table or self.table)}"


@cache
def columns() -> tuple[StoredColumn, ...]:
    """The table's columns, in the schema's order."""
    with (Path(__file__).parent / "unified_schema.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_stored(row["name"], row["type"], row["description"]) for row in csv.DictReader(file))


def _stored(name: str, kind: str, comment: str) -> StoredColumn:
    type = _TYPES[kind]
    if name in NULLABLE:
        type = f"Nullable({type})"
    codec = "Delta(8), Default" if kind == "timestamp_ns" else ""
    return StoredColumn(name, type, _ALIASES.get(name, ""), codec, comment)


def create_database(options: TableOptions) -> str:
    return f"CREATE DATABASE IF NOT EXISTS {quoted(options.database)}{options.on_cluster}"


def create_table(options: TableOptions) -> str:
    """The wide table."""
    lines = [f"    {column.ddl}" for column in columns()]
    if options.trace_index:
        lines.append("    INDEX idx_trace_id trace_id TYPE bloom_filter(0.001) GRANULARITY 1")
    ttl = f"\nTTL {options.ttl}" if options.ttl_s else ""
    settings = ", ".join(f"{name} = {value}" for name, value in table_settings(options).items())
    return (
        f"CREATE TABLE IF NOT EXISTS {options.name()}{options.on_cluster}\n(\n"
        + ",\n".join(lines)
        + f"\n)\nENGINE = {options.engine}({options.engine_params})\nPARTITION BY {PARTITION_BY}\n"
        + f"ORDER BY {ORDER_BY}{ttl}\nSETTINGS {settings}"
    )


def table_settings(options: TableOptions) -> dict[str, str]:
    """MergeTree settings: idempotent inserts, compact small parts, expiry by whole parts."""
    replicated = options.engine.startswith("Replicated")
    window = "replicated_deduplication_window" if replicated else "non_replicated_deduplication_window"
    return {
        window: str(DEDUPLICATION_WINDOW),
        "min_bytes_for_wide_part": str(MIN_BYTES_FOR_WIDE_PART),
        "ttl_only_drop_parts": "1",
        **options.settings,
    }


def add_columns(options: TableOptions, present: set[str]) -> str | None:
    """One ALTER that adds what the table lacks, each column where the schema has it; None when it lacks nothing."""
    changes: list[str] = []
    after = ""
    for column in columns():
        if column.name not in present:
            place = f"AFTER {quoted(after)}" if after else "FIRST"
            changes.append(f"ADD COLUMN IF NOT EXISTS {column.ddl} {place}")
        after = column.name
    return f"ALTER TABLE {options.name()}{options.on_cluster} {', '.join(changes)}" if changes else None


def add_extension(options: TableOptions, name: str, arrow_type: str) -> str | None:
    """An ALTER that adds a column which is no part of the schema; None where the table has no type for it."""
    type = _EXTENSION_TYPES.get(arrow_type)
    if type is None:
        return None
    return f"ALTER TABLE {options.name()}{options.on_cluster} ADD COLUMN IF NOT EXISTS {quoted(name)} {type}"


def modify_ttl(options: TableOptions) -> str:
    """Sets or removes the table's expiry."""
    change = f"MODIFY TTL {options.ttl}" if options.ttl_s else "REMOVE TTL"
    return f"ALTER TABLE {options.name()}{options.on_cluster} {change}"


def create_migrations(options: TableOptions) -> str:
    """The table that says which version of the schema each table has had, and since when."""
    return (
        f"CREATE TABLE IF NOT EXISTS {options.name(MIGRATIONS_TABLE)}{options.on_cluster} "
        "(name String, version UInt32, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) "
        f"ENGINE = {'ReplicatedMergeTree' if options.engine.startswith('Replicated') else 'MergeTree'} "
        "ORDER BY (name, version)"
    )


def quoted(name: str) -> str:
    """An identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
