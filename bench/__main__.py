"""Prints what a million rows cost.

    python -m bench                             every case
    python -m bench --list                      the names of the cases
    python -m bench --only nop.http --rounds 5  some of them
    python -m bench --peers --only goals        beside the Go Collector and Rotel, where there is a goal
    python -m bench --only scaling              how cost grows with rows, connections, columns, cores and so on
    python -m bench --only overload             ten times more than the store takes, for minutes

A figure is the median of the rounds, and stands only where every row that was answered with success was found: by the
product's own counters, and in the store. Where a line has a goal, a missed one is marked with an exclamation mark.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import load, overload, scaling, sidecar, table
from bench.cases import CASES, Case, named
from bench.goals import GOALS
from bench.measure import Result, run_case
from bench.peers import available
from bench.products import Colonnade, Product, Stores

SIDECAR = "sidecar"
ROUND_S = 3.0
OVERLOAD_S = 300.0
RESULTS = Path("bench/results")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when a case could not run or lost rows, else 0: how fast it was is for the reader to judge."""
    options = _parser().parse_args(arguments)
    patterns = [pattern for text in options.only for pattern in text.split(",")]
    if options.list:
        print("\n".join([*(case.name for case in CASES), SIDECAR, *scaling.NAMES, *overload.NAMES]))
        return 0
    cases, others = _chosen(patterns, options.peers)
    if not cases and not others:
        print(f"no case is named {', '.join(patterns)}; --list names them", file=sys.stderr)
        return 2
    program = options.load or load.build()
    products: list[Product] = [Colonnade(), *(available() if options.peers else ())]
    report: dict[str, Any] = {"machine": machine(), "rounds": options.rounds}
    with Stores() as stores:
        results = _run(cases, products, stores, program, options)
        if results:
            report["cases"] = [asdict(result) | {"figures": table.figures(result)} for result in results]
            print("\n".join(["", table.render(results), "", table.ratios(results)]))
        if SIDECAR in others:
            starts = sidecar.run_sidecar(products, options.rounds)
            report[SIDECAR] = [asdict(start) for start in starts]
            print("", sidecar.render(starts), sep="\n")
        for name in (name for name in scaling.NAMES if name in others):
            report[name] = scaling.run(
                name, stores, program, rounds=options.rounds, seconds=options.seconds or ROUND_S, folder=options.results
            )
        for name in (name for name in overload.NAMES if name in others):
            report[name] = overload.run(name, stores, program, seconds=options.seconds or OVERLOAD_S)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    return int(any(result.problem or result.lost for result in results if result.product == table.OURS))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", action="append", default=[], metavar="NAMES", help="cases by beginning or pattern, with commas")
    add("--list", action="store_true", help="print the names of the cases")
    add("--rounds", type=int, default=3, help="rounds per case and product; medians are shown (default %(default)s)")
    add("--seconds", type=float, help=f"length of a round's load (default {ROUND_S:g}; of an overload {OVERLOAD_S:g})")
    add(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="where curves are written (default %(default)s)"
    )
    add("--json", type=Path, metavar="FILE", help="write every round there as well")
    add("--peers", action="store_true", help="also measure the Go Collector and Rotel, round by round in turn")
    add("--load", type=Path, metavar="PROGRAM", help="a load generator that is built already")
    return parser


def _chosen(patterns: list[str], peers: bool) -> tuple[list[Case], set[str]]:
    """Cases of the table, and the rest by name. What takes minutes, or shows a curve, runs only when named."""
    if patterns == ["goals"] or (peers and not patterns):
        return [case for case in CASES if case.name in GOALS], {SIDECAR}
    others = {name for name in (*scaling.NAMES, *overload.NAMES) if patterns and named(name, patterns)}
    if named(SIDECAR, patterns):
        others.add(SIDECAR)
    return [case for case in CASES if named(case.name, patterns)], others


def _run(
    cases: Sequence[Case], products: Sequence[Product], stores: Stores, program: Path, options: argparse.Namespace
) -> list[Result]:
    results: list[Result] = []
    for number, case in enumerate(cases, 1):
        print(f"[{number}/{len(cases)}] {case.name}", file=sys.stderr, flush=True)
        done = run_case(case, products, stores, program, rounds=options.rounds, seconds=options.seconds or ROUND_S)
        for result in done:
            if result.problem:
                print(f"SKIPPED: {case.name}, {result.product}: {result.problem}", file=sys.stderr)
        results += done
    return results


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


if __name__ == "__main__":
    sys.exit(main())
