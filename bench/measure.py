"""Rounds of a case: every product under the same load in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.cases import Case
from bench.load import Load
from bench.process import cpu_s, peak_rss_mib, pin
from bench.products import Product, Running, Stores, Unavailable
from bench.stores import Parquet

WARM_UP_S = 1.0


@dataclass
class Round:
    """One product under load once. Rows are those that were answered with success.

    Attributes:
        cpu_s: of the product, from the first request until the last row was stored.
        store_cpu_s: of the store's own process, merges included.
    """

    rows: int
    requests: int
    seconds: float
    cpu_s: float
    store_cpu_s: float | None
    p50_ms: float
    p99_ms: float
    refused: int
    failed: int
    load_cpu_s: float


@dataclass
class Result:
    """A case with one product.

    Attributes:
        sent, accepted, stored: rows answered with success, taken by the product's own counters, and found in the store,
            warm-up included. None where nobody counts them.
        problem: why there are no figures.
        left_out: whether that is because the product has no such thing, or can not be started with it.
    """

    case: Case
    product: str
    rounds: list[Round] = field(default_factory=list[Round])
    peak_rss_mib: float = 0.0
    sent: int = 0
    accepted: int | None = None
    stored: int | None = None
    problem: str = ""
    left_out: bool = False

    @property
    def lost(self) -> int:
        """Rows answered with success and not found; less than 0 when there are more than were sent."""
        found = [count for count in (self.accepted, self.stored) if count is not None]
        return max((self.sent - count for count in found), key=abs, default=0)


@dataclass
class _Bench:
    """A product, its load, and what has been sent so far."""

    result: Result
    running: Running
    load: Load

    def measure(self, seconds: float) -> Round:
        running = self.running
        running.store.clear()
        store_before = running.store.cpu_s()
        before, load_before = cpu_s(running.pid), cpu_s(self.load.pid)
        done = self._send(seconds)
        spent, load_spent = cpu_s(running.pid) - before, cpu_s(self.load.pid) - load_before
        running.store.quiet()
        store_after = running.store.cpu_s()
        failed = sum(done["failed"].values())
        if failed or not done["rows"]:
            broken = f"{done['broken']:,} connections broken"
            self.result.problem = f"{failed:,} requests failed, by code: {done['failed']}; {broken}"
        return Round(
            rows=done["rows"],
            requests=done["requests"],
            seconds=done["seconds"],
            cpu_s=spent,
            store_cpu_s=None if store_before is None or store_after is None else store_after - store_before,
            p50_ms=done["p50_ms"],
            p99_ms=done["p99_ms"],
            refused=sum(done["refused"].values()),
            failed=failed,
            load_cpu_s=load_spent,
        )

    def _send(self, seconds: float) -> dict[str, Any]:
        done = self.load.run(seconds)
        self.result.sent += done["rows"]
        self.running.settle(self.result.case, self.result.sent)
        return done

    def warm_up(self, seconds: float) -> None:
        self._send(min(seconds, WARM_UP_S))

    def finish(self) -> None:
        """Counts what is where, and ends the product."""
        result, store = self.result, self.running.store
        self.load.close()
        result.peak_rss_mib = peak_rss_mib(self.running.pid)
        result.accepted = self.running.accepted(result.case)
        result.stored = store.rows()
        self.running.stop()
        if isinstance(store, Parquet):
            result.stored = store.rows_at_end()


def run_case(
    case: Case, products: Sequence[Product], stores: Stores, program: Path, *, rounds: int, seconds: float
) -> list[Result]:
    """Rounds are interleaved, so that what else happens on the machine happens to all products."""
    results = [Result(case, product.name) for product in products]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        benches: list[_Bench] = []
        for result, product in zip(results, products, strict=True):
            with _told(result):
                benches.append(_begin(result, product, stores, program, folder / product.name, stack))
        for bench in benches:
            with _told(bench.result):
                bench.warm_up(seconds)
        for number in range(rounds):
            # Each product is first in turn.
            first = number % max(1, len(benches))
            for bench in benches[first:] + benches[:first]:
                if not bench.result.problem:
                    with _told(bench.result):
                        bench.result.rounds.append(bench.measure(seconds))
        for bench in benches:
            with _told(bench.result):
                bench.finish()
    return results


@contextmanager
def _told(result: Result) -> Generator[None, None, None]:
    """What goes wrong with one product is its own: it gets no figures, and the others go on."""
    try:
        yield
    except Unavailable as reason:
        result.problem, result.left_out = str(reason), True
    except (AssertionError, RuntimeError, OSError, psutil.Error) as reason:
        result.problem = result.problem or str(reason) or type(reason).__name__


def _begin(result: Result, product: Product, stores: Stores, program: Path, folder: Path, stack: ExitStack) -> _Bench:
    case = result.case
    running = product.start(case, stores, folder)
    stack.callback(running.store.close)
    stack.callback(running.close)
    if case.cores is not None:
        pin(running.pid, range(case.cores))
    load = Load(program, running.address(case), case.load_arguments())
    stack.callback(load.close)
    return _Bench(result, running, load)
