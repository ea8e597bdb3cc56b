"""How cost grows: with rows per request, connections, columns present, distinct values, cores and threads.

Each prints a table and writes it, and a plot, to a folder. There should be no cliff in any of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import load
from bench.cases import Case
from bench.measure import run_case
from bench.plot import svg
from bench.products import Colonnade, Stores
from bench.table import aligned, figures
from colonnade import native
from colonnade.unified_schema import columns

# More would fill a tenant's share of the listener's queue, and refusals would be measured.
IN_FLIGHT_BYTES = 8 << 20
SPAN_BYTES = 640
THREADS_SPANS = 512
THREADS_PAYLOADS = 8
TRIES = 5

# Case of the curve, and where on it.
Variant = tuple[float, Case, dict[str, Any] | None]


def _rows() -> Iterator[Variant]:
    for rows in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000):
        connections = max(2, min(32, IN_FLIGHT_BYTES // (rows * SPAN_BYTES)))
        yield rows, Case(f"scaling.rows.{rows}", rows=rows, connections=connections), None


def _connections() -> Iterator[Variant]:
    for connections in (1, 4, 16, 64, 256, 1_000, 2_000):
        yield connections, Case(f"scaling.connections.{connections}", rows=10, connections=connections), None


def _distinct() -> Iterator[Variant]:
    for distinct in (10, 100, 1_000, 10_000, 100_000, 1_000_000):
        yield distinct, Case(f"scaling.distinct.{distinct}", distinct=distinct), None


def _cores() -> Iterator[Variant]:
    for cores in range(1, (os.cpu_count() or 1) + 1):
        yield cores, Case(f"scaling.cores.{cores}", cores=cores), None


def _columns(program: Path) -> Iterator[Variant]:
    """Attributes that have a column of their own, then those that the user's rules give one."""
    rows = ("--signal", "logs", "--rows", "100")
    semantic = 0
    while b"wide." not in load.dump(program, *rows, "--attributes", str(semantic + 1)):
        semantic += 1
    present = _present(load.dump(program, *rows, "--attributes", str(semantic)), None)
    free = [c.name for c in columns() if c.type in ("string", "lc_string") and c.name not in present]
    rules = {column: [f"wide.{index:03}"] for index, column in enumerate(c for c in free if _may_be_fed(c))}
    for attributes in (0, 5, 15, 30, semantic, semantic + len(rules) // 2, semantic + len(rules)):
        unify = {"columns": rules} if attributes > semantic else None
        body = load.dump(program, *rows, "--attributes", str(attributes))
        case = Case(f"scaling.columns.{attributes}", signal="logs", attributes=attributes, connections=8)
        yield len(_present(body, unify)), case, unify


def _may_be_fed(column: str) -> bool:
    from colonnade.processors.unify import Config

    try:
        Config.model_validate({"columns": {column: ["wide"]}})
    except ValueError:
        return False
    return True


def _present(body: bytes, unify: dict[str, Any] | None) -> list[str]:
    """Names of the columns of a completed request."""
    batch, _ = native.decode("logs", [body])
    return _complete(batch, unify).column_names


def _complete(batch: native.Batch, unify: dict[str, Any] | None = None) -> native.Batch:
    from colonnade.pipeline.component import BatchContext, ComponentId, Processor
    from colonnade.processors.unify import Config, factory
    from tests.pipeline.kit import FakeHost

    processor = factory.create(ComponentId("unify"), Config.model_validate(unify or {}))
    assert isinstance(processor, Processor)
    host = FakeHost("unify", kind="processor")
    completed = processor.process(batch, BatchContext("bench", time.time_ns(), bytes(16), host))
    assert completed is not None
    return completed


CURVES: dict[str, tuple[str, Callable[[Path], Iterator[Variant]]]] = {
    "scaling.rows": ("rows per request", lambda _: _rows()),
    "scaling.connections": ("connections, 10 spans a request", lambda _: _connections()),
    "scaling.columns": ("columns present, 512 log records a request", _columns),
    "scaling.distinct": ("distinct values per high-cardinality attribute", lambda _: _distinct()),
    "scaling.cores": ("cores of the whole daemon, beside the load", lambda _: _cores()),
}
NAMES = (*CURVES, "scaling.threads")


def run(name: str, stores: Stores, program: Path, *, rounds: int, seconds: float, folder: Path) -> Any:
    """Measures one of `NAMES`, prints it, writes it to the folder, and returns its figures."""
    if name == "scaling.threads":
        return _threads(program, seconds, folder)
    x_name, variants = CURVES[name]
    lines = [[x_name, "CPU-s/M rows", "CPU us/request", "rows/s", "p99 ms", "peak RSS MiB", "refused", "lost", ""]]
    curve: list[dict[str, Any]] = []
    for x, case, unify in variants(program):
        product = Colonnade(unify)
        (result,) = run_case(case, [product], stores, program, rounds=rounds, seconds=seconds)
        values = figures(result)
        refused = sum(one.refused for one in result.rounds)
        curve.append({"x": x, "problem": result.problem, "refused": refused, "lost": result.lost, **values})
        wanted = (("cpu_s_per_m", ".2f"), ("us_per_request", ".0f"), ("rows_per_s", ",.0f"), ("p99_ms", ".1f"))
        cells = [
            format(values[key], style) if key in values else "" for key, style in (*wanted, ("peak_rss_mib", ".0f"))
        ]
        lines.append([f"{x:,}", *cells, f"{refused:,}", f"{result.lost:,}", result.problem[-100:]])
    plots = {"CPU-s per million rows": [(p["x"], p["cpu_s_per_m"]) for p in curve if p.get("cpu_s_per_m")]}
    _show(name, x_name, aligned(lines, 1), plots, folder)
    return curve


def _threads(program: Path, seconds: float, folder: Path) -> dict[int, float]:
    """Decoding and completing payloads in memory on one native thread and on two."""
    arguments = ("--rows", str(THREADS_SPANS))
    payloads = [load.dump(program, *arguments, "--seed", str(seed)) for seed in range(THREADS_PAYLOADS)]
    kernel = native.Unify()

    def work(until: float, done: list[int]) -> None:
        while time.perf_counter() < until:
            batch, _ = native.decode("traces", payloads)
            kernel.complete(batch, time.time_ns(), bytes(16))
            done[0] += batch.rows

    rates: dict[int, float] = {}
    for count in range(1, (os.cpu_count() or 1) + 1):
        rates[count] = max(_rate(work, count, seconds / TRIES) for _ in range(TRIES))
    lines = [["threads", "spans/s", "times one"]]
    lines += [[str(n), f"{rate:,.0f}", f"{rate / rates[1]:.2f}"] for n, rate in rates.items()]
    _show("scaling.threads", "threads", aligned(lines, 1), {"spans/s": list(rates.items())}, folder)
    return rates


def _rate(work: Callable[[float, list[int]], None], threads: int, seconds: float) -> float:
    begun = time.perf_counter()
    done = [[0] for _ in range(threads)]
    running = [threading.Thread(target=work, args=(begun + seconds, counter)) for counter in done]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counter[0] for counter in done) / (time.perf_counter() - begun)


def _show(name: str, x_name: str, text: str, curves: dict[str, list[tuple[Any, Any]]], folder: Path) -> None:
    print("", text, sep="\n", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text + "\n")
    for y_name, points in curves.items():
        if points:
            (folder / f"{name}.svg").write_text(svg(name, x_name, y_name, {y_name: points}))
