"""Prints what `dedup` of the durable log costs: CPU per million rows that did not come before, and what a save takes.

python -m bench.dedup
"""

from __future__ import annotations

import os
import time

import pyarrow as pa

from colonnade.native import Batch, EventWindow

ROWS = 512
SIZES = (100_000, 1_000_000)
SPAN_NS = 3600 * 10**9
MEASURED_BATCHES = 2000


def main() -> None:
    print(f"{'ids remembered':>15}{'CPU-s per M rows':>20}{'a save, MB':>14}{'a save, s':>12}")
    for size in SIZES:
        window = EventWindow(SPAN_NS, size)
        for _ in range(size // ROWS):
            window.take_in(unseen(), 0)
        batches = [unseen() for _ in range(MEASURED_BATCHES)]
        began_s = time.thread_time()
        for batch in batches:
            window.take_in(batch, 0)
        spent_s = time.thread_time() - began_s
        began_s = time.monotonic()
        saved = window.dump()
        took_s = time.monotonic() - began_s
        per_million = spent_s / (MEASURED_BATCHES * ROWS) * 1e6
        print(f"{len(window):>15,}{per_million:>20.3f}{len(saved) / 1e6:>14.1f}{took_s:>12.3f}")


def unseen() -> Batch:
    ids = pa.array([os.urandom(16) for _ in range(ROWS)], pa.binary(16))
    return Batch.from_arrow(pa.record_batch({"id": ids}), "logs")


if __name__ == "__main__":
    main()
