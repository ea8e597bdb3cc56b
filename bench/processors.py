"""Prints what processors cost: CPU of one pass over 8,192 spans with 20 attributes, per million rows.

    python -m bench.processors                          all of them
    python -m bench.processors probabilistic_sampler    those whose names begin so

What comes before and after stays out: rows are decoded (and completed) once, and every pass begins with them. A figure
is the median of the passes.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import load
from colonnade.native import Batch, Unify, decode
from colonnade.pipeline.component import BatchContext, ComponentId, Processor
from colonnade.pipeline.registry import registry

ROWS = 8192
ATTRIBUTES = 20
PASSES = 200
WARM_UP_PASSES = 20


class Case(NamedTuple):
    """A processor with its section, and the CPU seconds that a million rows may take."""

    name: str
    section: dict[str, Any]
    goal_cpu_s_per_m: float | None = None

    @property
    def type(self) -> str:
        return self.name.partition("/")[0]


ACTIONS = [
    {"key": "environment", "value": "production", "action": "insert"},
    {"key": "wide.000", "value": "changed", "action": "update"},
    {"key": "url.path", "value": "/", "action": "upsert"},
    {"key": "wide.001", "action": "delete"},
    {"key": "user.name", "action": "hash"},
]
CASES = (
    Case("attributes", {"actions": ACTIONS}, 0.15),
    Case("probabilistic_sampler", {"sampling_percentage": 50}, 0.05),
    Case("probabilistic_sampler/proportional", {"sampling_percentage": 50, "mode": "proportional"}, 0.05),
    Case("probabilistic_sampler/equalizing", {"sampling_percentage": 50, "mode": "equalizing"}, 0.05),
)


class Host:
    """Nobody counts."""

    logger = logging.getLogger("bench")

    def clock_ns(self) -> int:
        return time.time_ns()

    def count(self, name: str, n: float = 1, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...
    def gauge(self, name: str, value: Any, **labels: str) -> None: ...


def main(arguments: Sequence[str]) -> int:
    cases = [case for case in CASES if not arguments or case.name.startswith(tuple(arguments))]
    if not cases:
        print(f"no case is named so: {', '.join(case.name for case in CASES)}", file=sys.stderr)
        return 2
    rows = spans(load.build())
    print(f"{'processor':<40}{'as decoded':>12}{'completed':>12}  CPU-s per million rows")
    for case in cases:
        figures = [cpu_s_per_m(make(case), batch) for batch in rows]
        goal = case.goal_cpu_s_per_m
        missed = goal is not None and max(figures) > goal
        told = "" if goal is None else f"  (<= {goal}{' !' if missed else ''})"
        print(f"{case.name:<40}{figures[0]:>12.3f}{figures[1]:>12.3f}{told}", flush=True)
    return 0


def spans(program: Path) -> tuple[Batch, Batch]:
    """As decoded, and completed."""
    body = load.dump(program, "--signal", "traces", "--rows", str(ROWS), "--attributes", str(ATTRIBUTES))
    decoded, _ = decode("traces", [body])
    completed, _ = Unify().complete(decoded, time.time_ns(), bytes(16))
    return decoded, completed


def make(case: Case) -> Processor:
    factory, _ = registry().get("processor", case.type)
    made = factory.create(ComponentId(case.type), factory.config.model_validate(case.section))
    assert isinstance(made, Processor)
    return made


def cpu_s_per_m(processor: Processor, batch: Batch) -> float:
    host: Any = Host()
    spent: list[int] = []
    for _ in range(WARM_UP_PASSES + PASSES):
        ctx = BatchContext("traces", host.clock_ns(), bytes(16), host)
        started_ns = time.thread_time_ns()
        processor.process(batch, ctx)
        spent.append(time.thread_time_ns() - started_ns)
    return median(spent[WARM_UP_PASSES:]) / 1e9 / batch.rows * 1e6


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
