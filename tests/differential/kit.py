"""Requests through rows and back, by every way that rows take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from google.protobuf.message import Message

from colonnade.native import Batch, Unify, decode, encode_otlp

from .canonical import canonical, difference, freeze
from .messages import REQUESTS

NOW_NS = 1_772_600_800_000_000_000
# The user-info of the generated URLs: completed rows have it removed (specification 2.6).
USER_INFO = "user:pw@"


def decoded(signal: str, messages: Iterable[Message], *, whole: bool = False) -> Batch:
    """The rows of these requests, out of one call."""
    batch, refused = decode(signal, [message.SerializeToString() for message in messages], whole=whole)
    assert refused == []
    return batch


def completed(batch: Batch) -> Batch:
    return Unify().complete(batch, NOW_NS, bytes(16))[0]


def batches_of(table: pa.Table, signal: str) -> list[Batch]:
    """What a store handed back."""
    return [Batch.from_arrow(batch, signal) for batch in table.to_batches()]


def rows_of(batch: Batch) -> list[dict[str, Any]]:
    """The rows; times are nanoseconds since 1970, because Python's own end at microseconds."""
    table = pa.table(pa.record_batch(batch))
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(number, field.name, table.column(number).cast(pa.int64()))
    return table.to_pylist()


def merged(signal: str, requests: Iterable[Message | bytes]) -> Message:
    """One request that says what all of them say."""
    whole = REQUESTS[signal]()
    for request in requests:
        whole.MergeFrom(request if isinstance(request, Message) else type(whole).FromString(request))
    return whole


def assert_says(
    signal: str, batches: Batch | list[Batch], messages: Iterable[Message], *, ordered: bool = True
) -> None:
    """The rows say what the requests say. A store (not `ordered`) gives completed rows back in an order of its own."""
    requests = encode_otlp(signal, batches if isinstance(batches, list) else [batches])
    left, right = canonical(merged(signal, messages)), canonical(merged(signal, requests))
    if not ordered:
        left, right = unordered(left), unordered(right)
    assert not difference(left, right)


def unordered(content: Any) -> Any:
    """The same for rows in any order, and with or without user-info in URLs."""
    if isinstance(content, dict):
        return {without_user_info(key): unordered(inner) for key, inner in content.items()}
    return sorted((without_user_info(freeze(record)) for record in content), key=repr)


def without_user_info(frozen: Any) -> Any:
    if isinstance(frozen, tuple):
        return tuple(without_user_info(inner) for inner in frozen)
    return frozen.replace(USER_INFO, "") if isinstance(frozen, str) else frozen
