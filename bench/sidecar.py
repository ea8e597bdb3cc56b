"""The smallest useful configuration: how soon it takes requests, and what it holds while nothing comes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.process import cpu_s, rss_mib
from bench.products import Product
from bench.table import OURS, aligned

IDLE_S = 3.0
READY_AT_MOST_S = 0.8
IDLE_RSS_AT_MOST_MIB = 85


@dataclass
class Sidecar:
    """One product's starts."""

    product: str
    ready_after_s: list[float] = field(default_factory=list[float])
    idle_rss_mib: list[float] = field(default_factory=list[float])
    idle_cpu_percent: list[float] = field(default_factory=list[float])


def run_sidecar(products: Sequence[Product], rounds: int, idle_s: float = IDLE_S) -> list[Sidecar]:
    """Starts each product in turn, lets it stand idle, stops it."""
    results = [Sidecar(product.name) for product in products]
    for _ in range(rounds):
        for result, product in zip(results, products, strict=True):
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                running = product.start_sidecar(Path(folder) / "run")
                try:
                    before = cpu_s(running.pid)
                    time.sleep(idle_s)
                    result.ready_after_s.append(running.ready_after_s)
                    result.idle_rss_mib.append(rss_mib(running.pid))
                    result.idle_cpu_percent.append((cpu_s(running.pid) - before) / idle_s * 100)
                finally:
                    running.stop()
    return results


def render(results: Sequence[Sidecar]) -> str:
    """A line per product: medians."""
    lines = [["sidecar", "product", "start to ready s", "idle RSS MiB", "idle CPU %"]]
    for result in results:
        ready, rss = median(result.ready_after_s), median(result.idle_rss_mib)
        goals = [f" (<= {READY_AT_MOST_S:g})", f" (<= {IDLE_RSS_AT_MOST_MIB})"] if result.product == OURS else ["", ""]
        cpu = f"{median(result.idle_cpu_percent):.1f}"
        lines.append(["sidecar", result.product, f"{ready:.2f}{goals[0]}", f"{rss:.0f}{goals[1]}", cpu])
    return aligned(lines)
