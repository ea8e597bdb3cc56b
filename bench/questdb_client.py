"""What a row of metrics costs as line protocol: our kernel beside the official client.

    python -m bench.questdb_client

The client takes pandas or one row at a time; Arrow has to become pandas first. All make the same columns: three
symbols, two longs, a double, a text and the time; nothing is sent.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import questdb as client

from colonnade.native import Batch, encode_lines

ROWS = 100_000
ROUNDS = 5
BASE_NS = 1_790_000_000_000_000_000


def _columns() -> dict[str, Any]:
    few = pa.dictionary(pa.int32(), pa.utf8())
    numbers = range(ROWS)
    return {
        "timestamp": pa.array([BASE_NS + n for n in numbers], pa.timestamp("ns", "UTC")),
        "service_name": pa.array([f"service {n % 7}" for n in numbers]).cast(few),
        "host_name": pa.array([f"host-{n % 100}" for n in numbers]).cast(few),
        "metric_name": pa.array([f"metric.{n % 50}" for n in numbers]).cast(few),
        "metric_count": pa.array(numbers, pa.int64()),
        "db_version": pa.array([n * 7919 for n in numbers], pa.int64()),
        "metric_value": pa.array([n / 7 for n in numbers], pa.float64()),
        "log_message": pa.array([f'{{"route":"/items/{n % 1000}","method":"GET"}}' for n in numbers]),
    }


def _best_us(encode: Callable[[], int]) -> tuple[float, float]:
    """CPU-microseconds and bytes per row."""
    best, size = float("inf"), 0
    for _ in range(ROUNDS):
        before = time.process_time()
        size = encode()
        best = min(best, time.process_time() - before)
    return best / ROWS * 1e6, size / ROWS


def main() -> int:
    data = pa.record_batch(_columns())
    batch = Batch.from_arrow(data, "metrics", completed=True)
    symbols = ["service_name", "host_name", "metric_name"]
    types = {"metric_value": "DOUBLE", "log_message": "VARCHAR", **dict.fromkeys(symbols, "SYMBOL")}
    targets = [(name, name, types.get(name, "LONG")) for name in data.schema.names if name != "timestamp"]
    sender = client.Sender(client.Protocol.Http, "127.0.0.1", 1, auto_flush=False, protocol_version=2)
    sender.establish()

    def ours() -> int:
        return len(encode_lines([batch], [("events", "t", targets)], 0)[0])

    def dataframe() -> int:
        buffer: Any = sender.new_buffer()
        buffer.dataframe(data.to_pandas(), table_name="t", symbols=symbols, at="timestamp")
        return len(buffer)

    def rows() -> int:
        buffer = sender.new_buffer()
        for row in data.to_pylist():
            at = client.TimestampNanos(row.pop("timestamp").value)
            buffer.row("t", symbols={name: row.pop(name) for name in symbols}, columns=row, at=at)
        return len(buffer)

    for name, encode in (("encode_lines", ours), ("client, dataframe", dataframe), ("client, row", rows)):
        us, nbytes = _best_us(encode)
        print(f"{name:20} {us:8.3f} us/row {nbytes:6.0f} B/row")
    return 0


if __name__ == "__main__":
    sys.exit(main())
