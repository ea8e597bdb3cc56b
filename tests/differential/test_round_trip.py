"""Rows say what the requests said: decode then encode is the identity, by every way that rows take."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from colonnade.native import Batch, encode_otlp, store_attributes, take
from colonnade.native import concat as joined
from tests.clickhouse.kit import running, slice_of
from tests.servers.clickhouse import ClickHouseServer

from .canonical import canonical, repeated
from .kit import assert_says, batches_of, completed, decoded, merged
from .messages import REQUESTS, requests, seeded, seeded_list

SIGNALS = pytest.mark.parametrize("signal", REQUESTS)
WHOLE = pytest.mark.parametrize("whole", [False, True], ids=["residual", "whole"])


def many(signal: str, count: int = 150) -> list[Message]:
    return seeded_list(signal, 1, count)


def stored(batch: Batch) -> pa.Table:
    """Completed rows as a store takes them."""
    return pa.table(pa.record_batch(store_attributes(completed(batch))))


@SIGNALS
@WHOLE
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_request_comes_back(signal: str, whole: bool, data: st.DataObject) -> None:
    message = data.draw(requests(signal))
    batch = decoded(signal, [message], whole=whole)
    assert_says(signal, batch, [message])
    assert_says(signal, completed(batch), [message], ordered=False)


@SIGNALS
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_many_requests_of_one_call_come_back(signal: str, data: st.DataObject) -> None:
    messages = data.draw(st.lists(requests(signal), max_size=5))
    assert_says(signal, decoded(signal, messages), messages)


@SIGNALS
@WHOLE
def test_requests_come_back_at_length(signal: str, whole: bool) -> None:
    for seed in range(500):
        message = seeded(signal, seed)
        assert_says(signal, decoded(signal, [message], whole=whole), [message])


@SIGNALS
@WHOLE
def test_many_batches_make_one_request(signal: str, whole: bool) -> None:
    messages = many(signal)
    batch = decoded(signal, messages, whole=whole)
    pieces = [batch.slice(at, min(7, batch.rows - at)) for at in range(0, batch.rows, 7)]
    assert_says(signal, batch, messages)
    assert_says(signal, pieces, messages)
    assert_says(signal, joined(pieces), messages)
    assert encode_otlp(signal, pieces) == encode_otlp(signal, [batch])
    assert len(encode_otlp(signal, pieces)) == 1


@SIGNALS
def test_rows_in_another_order_have_the_same_owners(signal: str) -> None:
    messages = many(signal)
    batch = decoded(signal, messages)
    order = random.Random(1).sample(range(batch.rows), batch.rows)
    shuffled = take(batch, order)
    assert_says(signal, shuffled, messages, ordered=False)
    # Equal resources, scopes and metrics are written down once.
    whole = merged(signal, encode_otlp(signal, [shuffled]))
    groups = canonical(whole)
    [resources] = repeated(whole)
    assert len(resources) == len(groups)
    assert sum(len(scopes) for group in resources for scopes in repeated(group)) == sum(map(len, groups.values()))


@SIGNALS
@pytest.mark.parametrize("max_bytes", [1, 300, 5_000, 100_000])
def test_requests_keep_a_bound_in_bytes(signal: str, max_bytes: int) -> None:
    messages = many(signal)
    batch = decoded(signal, messages)
    parts = encode_otlp(signal, [batch], max_bytes=max_bytes)
    rows = [decoded(signal, merged_one).rows for merged_one in ([REQUESTS[signal].FromString(part)] for part in parts)]
    assert sum(rows) == batch.rows
    assert all(len(part) <= max_bytes or count == 1 for part, count in zip(parts, rows, strict=True))
    # Two neighbours would not have fitted into one request.
    assert all(len(merged(signal, pair).SerializeToString()) + 60 > max_bytes for pair in pairwise(parts))
    assert_says(signal, batch, [merged(signal, parts)])


@SIGNALS
def test_no_rows_make_no_request(signal: str) -> None:
    assert encode_otlp(signal, []) == []
    assert encode_otlp(signal, [decoded(signal, [REQUESTS[signal]()])]) == []


@SIGNALS
@WHOLE
def test_rows_come_back_from_parquet(signal: str, whole: bool, tmp_path: Path) -> None:
    messages = many(signal)
    pq.write_table(stored(decoded(signal, messages, whole=whole)), tmp_path / "rows.parquet", row_group_size=100)
    by_pyarrow = pq.read_table(tmp_path / "rows.parquet")
    assert_says(signal, batches_of(by_pyarrow, signal), messages, ordered=False)
    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(tmp_path / "rows.parquet")).to_arrow_table()
    assert rows.num_rows == by_pyarrow.num_rows
    assert_says(signal, batches_of(rows, signal), messages, ordered=False)


@SIGNALS
@WHOLE
async def test_rows_come_back_from_clickhouse(
    signal: str, whole: bool, clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    messages = many(signal)
    batch = completed(decoded(signal, messages, whole=whole))
    async with running({"endpoint": clickhouse_server.url, "database": clickhouse_database}) as exporter:
        await exporter.export(slice_of(batch))
    answer = clickhouse_server.query(f"SELECT * FROM {clickhouse_database}.events FORMAT ArrowStream")
    rows = pa.ipc.open_stream(answer).read_all()
    assert rows.num_rows == batch.rows
    assert_says(signal, batches_of(rows, signal), messages, ordered=False)


def as_type(wanted: pa.DataType) -> Any:
    """Every text column in another layout."""

    def cast(column: pa.ChunkedArray) -> pa.ChunkedArray:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = pc.cast(column, pa.utf8())
        return pc.cast(column, wanted) if pa.types.is_string(column.type) else column

    return cast


def coarse_types(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as wide as they come."""
    wide = {pa.uint8(): pa.int16(), pa.uint16(): pa.uint64(), pa.int32(): pa.int64()}
    return pc.cast(column, wide[column.type]) if column.type in wide else column


def as_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Maps as lists of their entries."""
    if not pa.types.is_map(column.type):
        return column
    entry = pa.struct([pa.field("key", pa.utf8()), pa.field("value", pa.utf8())])
    parts = [
        pa.LargeListArray.from_arrays(
            pc.cast(part.offsets, pa.int64()), pa.StructArray.from_arrays([part.keys, part.items], fields=list(entry))
        )
        for part in column.chunks
    ]
    return pa.chunked_array(parts, pa.large_list(entry))


SHAPES = {
    "large text": as_type(pa.large_utf8()),
    "text views": as_type(pa.string_view()),
    "bytes": as_type(pa.binary()),
    "large bytes": as_type(pa.large_binary()),
    "dictionaries of 64 bits": as_type(pa.dictionary(pa.int64(), pa.large_utf8())),
    "other numbers": coarse_types,
    "lists of entries": as_lists,
}


@SIGNALS
@pytest.mark.parametrize("shape", SHAPES)
def test_any_layout_of_a_column_is_read(signal: str, shape: str) -> None:
    messages = many(signal, 80)
    table = stored(decoded(signal, messages))
    columns = {name: SHAPES[shape](table.column(name)) for name in table.column_names}
    changed = pa.table(columns)
    assert changed.schema != table.schema
    assert_says(signal, batches_of(changed, signal), messages, ordered=False)


@SIGNALS
def test_nulls_read_as_absent(signal: str) -> None:
    messages = many(signal, 80)
    table = stored(decoded(signal, messages))
    for number, name in enumerate(table.column_names):
        column = table.column(name)
        if pa.types.is_string(column.type):
            nulls = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
            table = table.set_column(number, name, nulls)
    assert_says(signal, batches_of(table, signal), messages, ordered=False)
