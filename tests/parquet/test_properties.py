"""Whatever batches come in, the same rows come out."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colonnade.native import Batch
from tests.clickhouse.rows import COLUMNS, batch
from tests.parquet.kit import NULLABLE, expected, files, pyarrow_columns, running, slice_of

ALWAYS = {"event_type", "correlation_id", "timestamp", "day"}
FIRST_DAY = 20_000

# Rows, columns, event types and days of one batch.
drawn = st.tuples(
    st.integers(0, 12),
    st.sets(st.sampled_from(sorted(set(COLUMNS) - ALWAYS)), max_size=40),
    st.lists(st.sampled_from(["trace", "log", "", "50 %/ü"]), min_size=1, max_size=3),
    st.integers(1, 4),
)
parts = st.lists(st.lists(drawn, min_size=1, max_size=3), min_size=1, max_size=4)


def made(seed: int, rows: int, names: set[str], types: list[str], days: int) -> tuple[Batch, list[dict[str, Any]]]:
    """A batch, and its rows as the archive should have them."""
    kinds, dates = [types[i % len(types)] for i in range(rows)], [FIRST_DAY + i % days for i in range(rows)]
    held = batch(rows, seed, [*ALWAYS, *names], event_type=kinds, day=dates)
    columns = {name: expected(name, rows, seed) if name in names else [absent(name)] * rows for name in COLUMNS}
    columns |= {
        "event_type": [kind or None for kind in kinds],
        "day": dates,
        "correlation_id": [f"{seed + i:08d}" for i in range(rows)],
        "timestamp": expected("timestamp", rows, seed),
    }
    return held, [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def absent(name: str) -> Any:
    match COLUMNS[name]:
        case kind if kind.startswith("map"):
            return {}
        case _ if NULLABLE[name]:
            return None
        case "uuid":
            return uuid.UUID(int=0)
        case "lc_string" | "string":
            return ""
        case _:
            return 0


def countable(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(repr(sorted(row.items(), key=lambda item: item[0])) for row in rows)


@given(parts, st.sampled_from([1, 5, 1000]), st.booleans())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_batches_in_are_the_same_rows_out(plan: list[list[Any]], group_rows: int, rolls: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wanted = asyncio.run(store(Path(folder), plan, group_rows, rolls))
        found = pyarrow_columns(Path(folder)) if files(Path(folder)) else {}
        rows = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
        assert countable(rows) == countable(wanted)


async def store(path: Path, plan: list[list[Any]], group_rows: int, rolls: bool) -> list[dict[str, Any]]:
    """Writes the parts, published one by one or all together; gives their rows."""
    wanted: list[dict[str, Any]] = []
    start = published = 0
    async with running(path, row_group={"max_rows": group_rows}) as exporter:
        for batches in plan:
            part: list[Batch] = []
            for given in batches:
                held, rows = made(len(wanted), *given)
                part.append(held)
                wanted += rows
            if end := len(wanted) - start:
                await exporter.write(slice_of(*part, start=start))
                start += end
            if rolls:
                await exporter.publish("log", published, start)
                published = start
        await exporter.publish("log", published, start)
    return wanted
