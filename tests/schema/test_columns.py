"""One table of columns: CSV, Python, Rust and the attributes that feed them agree."""

from __future__ import annotations

import pyarrow as pa

from colonnade import native
from colonnade.unified_schema import arrow_schema, columns, otel_attributes


def test_there_are_172_columns_of_which_165_are_event_columns() -> None:
    assert [column.position for column in columns()] == list(range(1, 173))
    assert sum(column.group != "PartitionInternal" for column in columns()) == 165
    assert len({column.group for column in columns()}) == 23


def test_rust_has_the_same_columns_in_the_same_order() -> None:
    assert native.columns() == [(c.name, c.group, c.nullable) for c in columns()]


def test_attributes_are_those_of_the_table_both_ways() -> None:
    told = [(key, c.name) for c in columns() for key in c.otel_attributes if not key.startswith("otlp:")]
    assert told
    assert [(a.key, a.column) for a in otel_attributes()] == told


def test_only_the_current_name_of_a_column_is_canonical() -> None:
    last = {a.column: a.key for a in otel_attributes()}
    canonical = [a for a in otel_attributes() if a.role == "canonical"]
    assert canonical
    assert all(last[a.column] == a.key for a in canonical)


def test_text_is_never_null_in_flight() -> None:
    schema = arrow_schema()
    assert not schema.field("trace_id").nullable
    assert schema.field("duration_ms").nullable
    assert pa.types.is_dictionary(schema.field("context").type)
