"""Ten times more than the store takes, for minutes: memory, refusals, and what a tenant does to another.

The daemon and the generators are pinned to a core each. The store is a real ClickHouse behind a throttle.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.load import Load
from bench.process import pin, rss_mib
from bench.products import Colonnade, Running, Stores
from bench.table import aligned
from bench.throttle import Throttle

STORE_ROWS_PER_S = 20_000
TIMES = 10
ROWS = 512
# Enough that those that wait for another try do not hold the load back.
CONNECTIONS = 512
SAMPLE_S = 1.0
# Until the log is full, more is taken than the store takes.
FILLS_WITHIN_SHARE = 0.2
WINDOW_S = 10

TENANT_HEADER = "x-tenant"
QUIET_ROWS, QUIET_REQUESTS_PER_S, QUIET_CONNECTIONS = 10, 50, 10
QUIET_P99_TIMES_AT_MOST = 3.0

NAMES = ("overload", "overload.tenants")


@dataclass
class Memory:
    """Samples of a process's resident memory, taken while entered."""

    pid: int
    mib: list[float] = field(default_factory=list[float])
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.mib.append(rss_mib(self.pid))

    def peak(self, first: float, last: float) -> float:
        """Highest between two shares of the time."""
        part = self.mib[int(len(self.mib) * first) : max(1, round(len(self.mib) * last))]
        return max(part, default=0.0)


def run(name: str, stores: Stores, program: Path, *, seconds: float) -> dict[str, Any]:
    """Measures one of `NAMES`, prints it, and returns its figures."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        throttle = stack.enter_context(Throttle(stores.clickhouse("colonnade").url, STORE_ROWS_PER_S))
        running = Colonnade(store_url=throttle.url, tenant_header=TENANT_HEADER).start(
            Case(name, store="clickhouse"), stores, folder / "run"
        )
        stack.callback(running.store.close)
        stack.callback(running.stop)
        pin(running.pid, [0])
        return (_flood if name == "overload" else _tenants)(running, program, stack, seconds)


def _load(running: Running, program: Path, stack: ExitStack, tenant: str, seed: int, **options: object) -> Load:
    arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    load = Load(program, running.http, ["--header", f"{TENANT_HEADER}:{tenant}", "--seed", str(seed), *arguments])
    stack.callback(load.close)
    pin(load.pid, [1])
    return load


def _flooding(running: Running, program: Path, stack: ExitStack) -> Load:
    rate = TIMES * STORE_ROWS_PER_S / ROWS
    return _load(running, program, stack, "loud", 1, rows=ROWS, connections=CONNECTIONS, rate=rate)


def _flood(running: Running, program: Path, stack: ExitStack, seconds: float) -> dict[str, Any]:
    load = _flooding(running, program, stack)
    with Memory(running.pid) as memory:
        done = load.run(seconds)
    by_second: list[int] = done["rows_by_second"][: int(seconds)]
    steady = by_second[int(len(by_second) * FILLS_WITHIN_SHARE) :]
    windows = [sum(steady[i : i + WINDOW_S]) / WINDOW_S for i in range(0, len(steady) - WINDOW_S + 1, WINDOW_S)]
    figures = {
        "rows/s taken": sum(steady) / max(1, len(steady)),
        "worst 10 s": min(windows, default=0.0),
        "best 10 s": max(windows, default=0.0),
        "refused": sum(done["refused"].values()),
        "of these without delay": done["refused_without_delay"],
        "failed": sum(done["failed"].values()),
        "connections broken": done["broken"],
        "p50 ms of accepted": done["p50_ms"],
        "p99 ms of accepted": done["p99_ms"],
        "RSS MiB, first half": memory.peak(FILLS_WITHIN_SHARE, 0.5),
        "RSS MiB, second half": memory.peak(0.5, 1.0),
    }
    _show(f"overload, {TIMES} times {STORE_ROWS_PER_S:,} rows/s for {seconds:g} s", figures)
    return {**figures, "load": done, "rss_mib": memory.mib}


def _tenants(running: Running, program: Path, stack: ExitStack, seconds: float) -> dict[str, Any]:
    """A quiet tenant alone, then beside one that floods."""
    options = {"rows": QUIET_ROWS, "connections": QUIET_CONNECTIONS, "rate": QUIET_REQUESTS_PER_S}
    quiet = _load(running, program, stack, "quiet", 2, **options)
    alone = quiet.run(seconds / 2)
    loud = _flooding(running, program, stack)
    loud.begin(seconds / 2)
    beside = quiet.run(seconds / 2)
    flood = loud.end()
    figures = {
        "quiet tenant alone: p50 ms": alone["p50_ms"],
        "quiet tenant alone: p99 ms": alone["p99_ms"],
        "beside the flood: p50 ms": beside["p50_ms"],
        "beside the flood: p99 ms": beside["p99_ms"],
        f"p99, times (<= {QUIET_P99_TIMES_AT_MOST:g})": beside["p99_ms"] / alone["p99_ms"] if alone["p99_ms"] else 0.0,
        "quiet tenant refused": sum(beside["refused"].values()),
        "loud tenant refused": sum(flood["refused"].values()),
        "loud tenant rows/s taken": flood["rows"] / flood["seconds"],
    }
    _show(f"two tenants, one floods with {TIMES * STORE_ROWS_PER_S:,} rows/s", figures)
    return {**figures, "alone": alone, "beside": beside, "flood": flood}


def _show(title: str, figures: dict[str, float]) -> None:
    lines = [[title, ""], *([name, f"{value:,.1f}"] for name, value in figures.items())]
    print("", aligned(lines, 1), sep="\n", flush=True)
