"""Batches that use every column, and what a store should say of them."""

from __future__ import annotations

import csv
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa

from colonnade.native import Batch
from colonnade.unified_schema.clickhouse import NULLABLE

SCHEMA = Path(__file__).resolve().parents[2] / "colonnade/unified_schema/unified_schema.csv"
COLUMNS = {row["name"]: row["type"] for row in csv.DictReader(SCHEMA.open(encoding="utf-8"))}

BASE_NS = 1_790_000_000_000_000_000
BASE_DAY = BASE_NS // 86_400_000_000_000
ANY = pa.struct([pa.field("kind", pa.uint8(), False), pa.field("text", pa.string(), False)])
NUMBERS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int64": (pa.int64(), [0, -(2**63), 2**63 - 1, 7]),
    "int32": (pa.int32(), [0, -(2**31), 2**31 - 1, 7]),
    "uint32": (pa.uint32(), [0, 1, 2**32 - 1, 7]),
    "uint16": (pa.uint16(), [0, 1, 2**16 - 1, 7]),
    "uint8": (pa.uint8(), [0, 1, 2**8 - 1, 7]),
    "float64": (pa.float64(), [0.0, -1.5, 1.7976931348623157e308, 5e-324]),
}
TEXTS = ["", "plain", "Grüße, 世界 🎉", "tab\tnewline\nquote'\"\\end", "x" * 300]


def ns(row: int) -> int:
    """Times that are not in order, over three days."""
    return BASE_NS + (row * 37_123_456_789_011 % 200_000_000_000_000)


def values(name: str, rows: int, seed: int = 0) -> list[Any]:
    """What column `name` holds in flight."""
    kind = COLUMNS[name]
    step = [seed + i for i in range(rows)]
    match kind:
        case "uuid":
            return [uuid.UUID(int=(i << 100) + 0x0102030405060708090A0B0C0D0E0F).bytes for i in step]
        case "timestamp_ns":
            return [ns(i) for i in step]
        case "date32":
            return [ns(i) // 86_400_000_000_000 for i in step]
        case "bool":
            return [[True, False, None][i % 3] for i in step]
        case "bytes":
            return [[b"", b"\x00\xff\xfe", bytes(range(256))][i % 3] for i in step]
        case "map<string,any>":
            return [_attributes(i) for i in step]
        case "map<string,string>":
            return [[("a", str(i)), ("key with = , %", TEXTS[i % 5])] if i % 3 else [] for i in step]
        case _ if kind in NUMBERS:
            return [None if i % 5 == 4 else NUMBERS[kind][1][i % 4] for i in step]
        case _:
            return [TEXTS[i % 5] if i % 2 else f"{name} {i % 7}" for i in step]


def _attributes(i: int) -> list[tuple[str, dict[str, Any]]]:
    if not i % 4:
        return []
    text = ("app.name", {"kind": 1, "text": f"shop {i % 3}"})
    return [text, ("app.count", {"kind": 3, "text": str(i)})] if i % 2 else [text]


def array(name: str, held: list[Any]) -> pa.Array:
    match COLUMNS[name]:
        case "uuid":
            return pa.array(held, pa.binary(16))
        case "timestamp_ns":
            return pa.array(held, pa.timestamp("ns", "UTC"))
        case "date32":
            return pa.array(held, pa.int32()).cast(pa.date32())
        case "bool":
            return pa.array(held, pa.bool_())
        case "bytes":
            return pa.array(held, pa.binary())
        case "map<string,any>":
            return pa.array(held, pa.map_(pa.string(), ANY))
        case "map<string,string>":
            return pa.array(held, pa.map_(pa.string(), pa.string()))
        case kind if kind in NUMBERS:
            return pa.array(held, NUMBERS[kind][0])
        case kind:
            texts = pa.array(held, pa.string())
            return texts.dictionary_encode() if kind == "lc_string" or name == "context" else texts


def batch(rows: int, seed: int = 0, names: list[str] | None = None, **given: list[Any]) -> Batch:
    """Rows numbered from `seed` in `correlation_id`, with these columns (default: all)."""
    chosen = [n for n in COLUMNS if names is None or n in names]
    given = {"correlation_id": [f"{seed + i:08d}" for i in range(rows)]} | given
    held = {n: given.get(n) or values(n, rows, seed) for n in chosen}
    return Batch.from_arrow(pa.record_batch({n: array(n, v) for n, v in held.items()}), "traces", completed=True)


def stored(name: str, rows: int, seed: int = 0) -> list[Any]:
    """What a store should say of `values`, as JSON reads it."""
    held = values(name, rows, seed)
    match COLUMNS[name]:
        case "uuid":
            return [str(uuid.UUID(bytes=v)) for v in held]
        case "bytes":
            return [v.hex().upper() for v in held]
        case "map<string,any>":
            return [_typed(v) for v in held]
        case "map<string,string>":
            return [dict(v) for v in held]
        case kind if (kind in NUMBERS or kind == "bool") and name not in NULLABLE:
            return [v or 0 for v in held]
        case _:
            return held


def _typed(entries: list[tuple[str, dict[str, Any]]]) -> dict[str, str]:
    found = {key: value["text"] for key, value in entries}
    types = ",".join(f"{key}={value['kind']}" for key, value in entries if value["kind"] != 1)
    return found | ({"$otlp.types": types} if types else {})


def select(table: str) -> str:
    """Every column in a form that JSON carries exactly, by row number."""
    shown: list[str] = []
    for name, kind in COLUMNS.items():
        match kind:
            case "timestamp_ns":
                shown.append(f"toUnixTimestamp64Nano({name})")
            case "date32":
                shown.append(f"toInt32({name})")
            case "bytes":
                shown.append(f"hex({name})")
            case _:
                shown.append(name)
    return f"SELECT {', '.join(shown)} FROM {table} ORDER BY correlation_id"
