"""The wide table as Parquet: the columns of a file, how each is encoded, and the folders that hold the other two.

Everything here is made from `unified_schema.csv`; nothing touches a file. Decisions (specification 10, storage 4.1):

* A file has every column of the table but `day` and `event_type`, which are its folders' names. So all files of an
  archive have one schema, whatever their rows hold: readers take the schema of the first file that they open, and
  would hide or refuse what other files have besides. A column without a value costs about 150 bytes a row group.
* What is absent is null, also text and bytes, which are empty in flight. Columns that a row must have are not nullable.
* What has few values (low-cardinality text, small integers, keys of maps) is dictionary-encoded, and nothing else is:
  times and counts are delta-encoded, floats split by byte, ids written with their lengths apart. Ranges (statistics)
  are kept of what people filter and sort by, not of long or random text.
* Field ids are the columns' positions, for table formats that look columns up by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

import pyarrow

from colonnade.unified_schema.columns import LOW_CARDINALITY_TEXT, Column
from colonnade.unified_schema.columns import columns as flight_columns

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow

PARTITION_COLUMNS = ("day", "event_type")
# What Hive calls the folder of rows without a value.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
EVENT_TYPE_MAX_BYTES = 200
BLOOM_COLUMNS = ("trace_id",)
BLOOM_FALSE_POSITIVES = 0.01

_TEXT_MAP = pa.map_(pa.utf8(), pa.field("value", pa.utf8(), nullable=False))
_TYPES: dict[str, Any] = {
    "uuid": pa.uuid(),
    "map<string,any>": _TEXT_MAP,
    "map<string,string>": _TEXT_MAP,
}
# Ids and other text that hardly repeats: lengths first, then the bytes.
_ID_COLUMNS = ("trace_id", "span_id", "parent_id", "root_id")
_FEW_VALUES = frozenset({"lc_string", "uint8", "uint16", "int32"})
_ENCODINGS = {
    "timestamp_ns": "DELTA_BINARY_PACKED",
    "int64": "DELTA_BINARY_PACKED",
    "uint32": "DELTA_BINARY_PACKED",
    "float64": "BYTE_STREAM_SPLIT",
}
_RANGELESS_TYPES = frozenset({"uuid", "string", "json", "bytes", "map<string,any>", "map<string,string>"})
_MAP_KEYS = {"attributes": ("key",), "labels": ("key", "value")}


@dataclass(frozen=True, slots=True)
class Encoding:
    """What `pyarrow.parquet.ParquetWriter` is told about columns, by their paths in the file."""

    dictionary: tuple[str, ...]
    other: dict[str, str]
    ranges: tuple[str, ...]


@cache
def file_schema() -> Any:
    """The columns of a file (pyarrow.Schema), in the table's order; low-cardinality text as dictionaries."""
    return pa.schema([_field(column) for column in flight_columns() if column.name not in PARTITION_COLUMNS])


def _field(column: Column) -> Any:
    is_map = column.type.startswith("map")
    return pa.field(
        column.name,
        _TYPES.get(column.type, column.arrow_type),
        nullable=column.nullable and not is_map,
        metadata={"PARQUET:field_id": str(column.position)},
    )


def encoding(schema: Any) -> Encoding:
    """How the columns of a file are encoded; columns outside of the table (extensions) by their Arrow types."""
    types = {column.name: column.type for column in flight_columns()}
    dictionary: list[str] = []
    other: dict[str, str] = {}
    ranges: list[str] = []
    for field in schema:
        name, kind = field.name, types.get(field.name, "")
        if kind in _FEW_VALUES or name == "context" or field.type == LOW_CARDINALITY_TEXT:
            dictionary.append(name)
        elif name in _ID_COLUMNS:
            other[name] = "DELTA_LENGTH_BYTE_ARRAY"
        elif kind in _ENCODINGS:
            other[name] = _ENCODINGS[kind]
        dictionary += [f"{name}.key_value.{part}" for part in _MAP_KEYS.get(name, ())]
        if kind not in _RANGELESS_TYPES:
            ranges.append(name)
    return Encoding(tuple(dictionary), other, tuple(ranges))


def folder(days: int, event_type: str) -> str:
    """`day=2026-03-04/event_type=trace`, of days since 1970-01-01. Raises ValueError where that can be no folder."""
    name = quote(event_type, safe="") or NO_VALUE
    if len(name) > EVENT_TYPE_MAX_BYTES:
        raise ValueError(f"an event type of {len(event_type)} characters is too long for a folder's name")
    try:
        day = date(1970, 1, 1) + timedelta(days)
    except OverflowError:
        raise ValueError(f"day {days} since 1970-01-01 is beyond the years 1 to 9999") from None
    return f"day={day.isoformat()}/event_type={name}"
