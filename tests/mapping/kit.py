"""Events through mappings, rows as plain dictionaries, and back."""

from __future__ import annotations

import json
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

from colonnade import native
from colonnade.unified_schema import mappings
from colonnade.unified_schema.mappings import Mapping, inverse

NS = "acme-prod"
# Long after the examples: an old event that is sent again is no error of a clock.
RECEIVED_NS = 1_790_000_000_000_000_000
_JSON = ("context", "data", "properties", "traits", "db_before", "db_after")


@cache
def format_of(name: str) -> native.Format:
    """The format that knows one built-in mapping only."""
    return native.Format(mappings.format_plan([mappings.builtin(name)]))


def raw_rows(batch: native.Batch) -> list[dict[str, Any]]:
    """Rows with times as nanoseconds, attributes as key to (kind, text); absent columns left out."""
    table = pa.record_batch(batch)
    rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        for row, value in zip(rows, column.to_pylist(), strict=True):
            if isinstance(value, list):
                value = {k: (v["kind"], v["text"]) if isinstance(v, dict) else v for k, v in value}
            if value not in (None, "", {}, b""):
                row[name] = value
    return rows


def with_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose id is their source's own, where that is a UUID."""
    for row in rows:
        try:
            row["id"] = uuid.UUID(row.get("$uid", "")).bytes
        except ValueError:
            row.setdefault("id", bytes(16))
        row.setdefault("ns", NS)
    return rows


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the specification prints it."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        if name in _JSON:
            out[name] = json.loads(value)
        elif name == "attributes":
            out[name] = {key: inverse._typed(*entry) for key, entry in value.items()}
        elif name in ("timestamp", "started_at", "ended_at"):
            out[name] = inverse.print_time(value)
        elif name == "replay_data":
            out[name] = json.loads(zstandard.ZstdDecompressor().decompress(value))
        else:
            out[name] = value
    return out


def run(name: str, event: Any, **options: Any) -> list[dict[str, Any]]:
    """The rows of one event, or of the text of one; a refused event raises."""
    body = event.encode() if isinstance(event, str) else json.dumps(event, ensure_ascii=False).encode()
    options = {"tenant": NS, "received_ns": RECEIVED_NS, **options}
    batch, _, _, _, rejected = format_of(name).map(body, **options)
    if rejected:
        raise ValueError(rejected)
    return raw_rows(batch)


def refused(name: str, event: Any, **options: Any) -> tuple[str, str]:
    """Code and path of an event that is refused."""
    body = event.encode() if isinstance(event, str) else json.dumps(event, ensure_ascii=False).encode()
    options = {"tenant": NS, "received_ns": RECEIVED_NS, **options}
    _, accepted, _, _, rejected = format_of(name).map(body, **options)
    assert accepted == 0
    return rejected[0][2], rejected[0][3]


def back(mapping: Mapping, rows: list[dict[str, Any]]) -> Any:
    """The event that the rows came from."""
    return inverse.restore(mapping, with_ids(rows))


def read(file: str) -> str:
    return (Path(__file__).parent / file).read_text(encoding="utf-8")
