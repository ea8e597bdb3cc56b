"""Rows in flight as a Parquet file holds them: pure functions of columns."""

from __future__ import annotations

from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from colonnade.native import Batch, cluster, store_attributes
from colonnade.unified_schema.columns import LOW_CARDINALITY_TEXT, extension_fields
from colonnade.unified_schema.parquet import file_schema

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow
pc: Any = pyarrow.compute
pq: Any = pyarrow.parquet


def extensions(batches: list[Batch], known: dict[str, Any]) -> dict[str, Any]:
    """Columns that the table does not have, with their types.

    Raises ValueError where one has another type than before (`known`), or a type that Parquet does not have.
    """
    found: dict[str, Any] = {}
    for field in extension_fields(batches):
        before = known.get(field.name) or found.setdefault(field.name, _writable(field))
        if field.type != before:
            raise ValueError(f"column {field.name!r} is {field.type}, but was {before} before")
    return found


def _writable(field: Any) -> Any:
    """The field's type. Raises ValueError where Parquet has none for it."""
    try:
        pq.write_table(pa.table([pa.array([], field.type)], [field.name]), pa.BufferOutputStream())
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"column {field.name!r} is {field.type}, which Parquet does not have") from error
    return field.type


def schema_of(batches: list[Batch], extensions: dict[str, Any]) -> Any:
    """The schema of a file that begins with these rows.

    Low-cardinality columns that they lack are plain text: a column of nulls costs half as much that way.
    """
    present = {name for batch in batches for name in batch.column_names}
    fields = [
        field.with_type(pa.utf8()) if field.type == LOW_CARDINALITY_TEXT and field.name not in present else field
        for field in file_schema()
    ]
    return pa.schema(fields + [pa.field(name, type) for name, type in extensions.items()])


def table(batches: list[Batch], schema: Any) -> Any:
    """A row group (pyarrow.Table) of these rows, services together; columns that they lack are null."""
    rows = pa.record_batch(store_attributes(cluster(batches)))
    columns = {name: rows.column(name) for name in rows.schema.names}
    absent = {field.type: pa.nulls(rows.num_rows, field.type) for field in schema if field.name not in columns}
    arrays: list[Any] = []
    for field in schema:
        if field.name in columns:
            arrays.append(_stored(columns[field.name], field))
        else:
            arrays.append(absent[field.type] if field.nullable else _blank(field.type, rows.num_rows))
    return pa.Table.from_arrays(arrays, schema=schema)


def _stored(array: Any, field: Any) -> Any:
    """A column as the file's field has it."""
    if pa.types.is_map(field.type):
        return pa.MapArray.from_arrays(array.offsets, array.keys, array.items, type=field.type)
    if field.nullable:
        array = _null_where_empty(array)
    elif array.null_count:
        plain = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
        array = plain.fill_null(_zero(plain.type))
    if field.type == pa.uuid():
        return pa.ExtensionArray.from_storage(field.type, array)
    return array if array.type == field.type else array.cast(field.type)


def _null_where_empty(array: Any) -> Any:
    """Text and bytes that are empty become null, and ids that are zero."""
    if array.type == LOW_CARDINALITY_TEXT:
        empty = array.dictionary.index("").as_py()
        indices = array.indices if empty < 0 else _masked(array.indices, pc.not_equal(array.indices, empty))
        return pa.DictionaryArray.from_arrays(indices, array.dictionary)
    if array.type in (pa.utf8(), pa.binary()):
        return _masked(array, pc.not_equal(pc.binary_length(array), 0))
    if pa.types.is_fixed_size_binary(array.type):
        return _masked(array, pc.not_equal(array, _zero(array.type)))
    return array


def _masked(array: Any, present: Any) -> Any:
    """Null where `present` is not true."""
    return array if present.true_count == len(array) else pc.if_else(present, array, pa.scalar(None, array.type))


def _blank(type: Any, rows: int) -> Any:
    """A column that every row must have, for rows that lack it: they were not completed."""
    if pa.types.is_map(type):
        nothing = pa.array([], pa.utf8())
        return pa.MapArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows + 1), nothing, nothing, type=type)
    if pa.types.is_dictionary(type):
        return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([""]))
    if type == pa.uuid():
        return pa.ExtensionArray.from_storage(type, pa.repeat(_zero(type.storage_type), rows))
    return pa.repeat(_zero(type), rows)


def _zero(type: Any) -> Any:
    if pa.types.is_fixed_size_binary(type):
        return pa.scalar(bytes(type.byte_width), type)
    return pa.scalar("" if type == pa.utf8() else 0, type)
