"""The columns of the unified event as Python objects, read from `unified_schema.csv`."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

TEXT = pa.utf8()
LOW_CARDINALITY_TEXT = pa.dictionary(pa.int32(), pa.utf8())
ANY_VALUE = pa.struct([pa.field("kind", pa.uint8(), nullable=False), pa.field("text", pa.utf8(), nullable=False)])


def _map_of(value: pa.DataType) -> pa.DataType:
    """Text to values that are never null."""
    never_null: Any = pa.field("values", value, nullable=False)
    return pa.map_(pa.utf8(), never_null)


_ARROW: dict[str, pa.DataType] = {
    "uuid": pa.binary(16),
    "lc_string": LOW_CARDINALITY_TEXT,
    "string": TEXT,
    "timestamp_ns": pa.timestamp("ns", "UTC"),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "uint32": pa.uint32(),
    "uint16": pa.uint16(),
    "uint8": pa.uint8(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date32": pa.date32(),
    "json": TEXT,
    "map<string,any>": _map_of(ANY_VALUE),
    "map<string,string>": _map_of(TEXT),
    "bytes": pa.binary(),
}

_HOLDS_NULLS = frozenset({"timestamp_ns", "int64", "int32", "uint32", "uint16", "uint8", "float64", "bool"})


@dataclass(frozen=True)
class Column:
    """One row of the table of columns."""

    position: int
    group: str
    name: str
    type: str
    nullable: bool
    description: str
    otel_attributes: tuple[str, ...]

    @property
    def arrow_type(self) -> pa.DataType:
        """The type in flight; `context` is a dictionary, because it repeats."""
        return LOW_CARDINALITY_TEXT if self.name == "context" else _ARROW[self.type]

    @property
    def arrow_field(self) -> pa.Field[pa.DataType]:
        """Nullable only for numbers, booleans and times: text is empty where it is absent."""
        return pa.field(self.name, self.arrow_type, nullable=self.type in _HOLDS_NULLS)


@dataclass(frozen=True)
class OtelAttribute:
    """What one attribute key feeds; a `canonical` one may have its column as its only home."""

    key: str
    column: str
    role: str
    side: str
    type: str
    transform: str


@cache
def columns() -> tuple[Column, ...]:
    """Every column, in the table's order."""
    with (Path(__file__).parent / "unified_schema.csv").open(encoding="utf-8", newline="") as table:
        return tuple(
            Column(
                int(row["position"]),
                row["group"],
                row["name"],
                row["type"],
                row["nullable"] == "yes",
                row["description"],
                tuple(filter(None, row["otel_attributes"].split("|"))),
            )
            for row in csv.DictReader(table)
        )


@cache
def otel_attributes() -> tuple[OtelAttribute, ...]:
    """Every attribute that feeds a column; for one column, old names before current ones."""
    with (Path(__file__).parent / "otel_attributes.csv").open(encoding="utf-8", newline="") as table:
        return tuple(OtelAttribute(**row) for row in csv.DictReader(table))


def arrow_schema() -> pa.Schema:
    """All columns in flight."""
    return pa.schema([column.arrow_field for column in columns()])


def extension_fields(batches: Iterable[Any]) -> list[pa.Field[pa.DataType]]:
    """Columns of rows in flight that the table does not have, once per name and type: extension columns of `unify`, or
    of a user's processor. Those that begin with `$` are in flight only.

    Args:
        batches: of `colonnade.native`, or anything else with `column_names` that speaks Arrow's C interface.
    """
    found: dict[tuple[str, str], pa.Field[pa.DataType]] = {}
    for batch in batches:
        if _names().issuperset(batch.column_names):
            continue
        fields: list[pa.Field[pa.DataType]] = list(pa.record_batch(batch).schema)
        for field in fields:
            if field.name not in _names() and not field.name.startswith("$"):
                found.setdefault((field.name, str(field.type)), field)
    return list(found.values())


@cache
def _names() -> frozenset[str]:
    return frozenset(column.name for column in columns())
