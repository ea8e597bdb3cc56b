"""Results as a table of medians, with goals and ratios beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from bench.goals import GOALS, Goal
from bench.measure import Result, Round

OURS = "colonnade"
REMARK_CHARS = 80


def _per_million(value: float | None, one: Round) -> float | None:
    return None if value is None else value / one.rows * 1e6


def figures(result: Result) -> dict[str, float | None]:
    """Medians of the rounds, by the names of `Goal`. Empty where requests failed or a row was lost."""
    if result.lost > 0 or result.problem or not result.rounds:
        return {}

    def of(value: Callable[[Round], float | None]) -> float | None:
        values = [v for v in map(value, result.rounds) if v is not None]
        return median(values) if values else None

    return {
        "cpu_s_per_m": of(lambda r: _per_million(r.cpu_s, r)),
        "us_per_request": of(lambda r: r.cpu_s / r.requests * 1e6),
        "store_cpu_s_per_m": of(lambda r: _per_million(r.store_cpu_s, r)),
        "sum_cpu_s_per_m": of(lambda r: None if r.store_cpu_s is None else _per_million(r.cpu_s + r.store_cpu_s, r)),
        "rows_per_s": of(lambda r: r.rows / r.seconds),
        "p50_ms": of(lambda r: r.p50_ms),
        "p99_ms": of(lambda r: r.p99_ms),
        "peak_rss_mib": result.peak_rss_mib,
    }


COLUMNS: tuple[tuple[str, str, str], ...] = (
    # figure, heading, format
    ("cpu_s_per_m", "CPU-s/M rows", ".2f"),
    ("us_per_request", "CPU us/request", ".0f"),
    ("store_cpu_s_per_m", "store CPU-s/M", ".2f"),
    ("sum_cpu_s_per_m", "sum CPU-s/M", ".2f"),
    ("rows_per_s", "rows/s", ",.0f"),
    ("p50_ms", "p50 ms", ".2f"),
    ("p99_ms", "p99 ms", ".1f"),
    ("peak_rss_mib", "peak RSS MiB", ".0f"),
)


def render(results: Sequence[Result]) -> str:
    """One line per case and product, peers that have no such thing left out.

    A goal stands behind its figure as `<= 0.95`, with `!` where it is missed.
    """
    lines = [["case", "product", *(heading for _, heading, _ in COLUMNS), "refused", "rows lost", ""]]
    for result in results:
        if result.left_out and result.product != OURS:
            continue
        values = figures(result)
        goal = GOALS.get(result.case.name) if result.product == OURS else None
        cells = [_cell(name, style, values.get(name), goal) for name, _, style in COLUMNS]
        refused = sum(one.refused for one in result.rounds)
        lost = _lost(result) if result.rounds else ""
        remark = result.problem.strip().splitlines()[-1][:REMARK_CHARS] if result.problem else ""
        lines.append([result.case.name, result.product, *cells, f"{refused:,}", lost, remark])
    return aligned(lines)


def _cell(name: str, style: str, value: float | None, goal: Goal | None) -> str:
    if value is None:
        return ""
    text = format(value, style)
    if goal is None:
        return text
    if name == "rows_per_s":
        least = goal.rows_per_s_at_least
        return text if least is None else f"{text} (>= {least:,.0f}{'' if value >= least else ' !'})"
    most: float | None = getattr(goal, name)
    return text if most is None else f"{text} (<= {most:g}{'' if value <= most else ' !'})"


def _lost(result: Result) -> str:
    if not result.lost:
        return "0" if result.accepted is not None or result.stored is not None else "nobody counts"
    if result.lost < 0:
        return f"0, {-result.lost:,} doubled"
    return f"{result.lost:,} of {result.sent:,} (accepted {result.accepted}, stored {result.stored})"


def ratios(results: Iterable[Result]) -> str:
    """How many times as much each peer takes, case by case."""
    by_case: dict[str, dict[str, dict[str, float | None]]] = {}
    for result in (result for result in results if not result.left_out):
        by_case.setdefault(result.case.name, {})[result.product] = figures(result)
    lines = [["case", "peer", "CPU, times ours", "store CPU", "sum", "rows/s, of ours", "peak RSS"]]
    for name, products in by_case.items():
        ours = products.pop(OURS, {})
        for peer, theirs in products.items():
            wanted = ("cpu_s_per_m", "store_cpu_s_per_m", "sum_cpu_s_per_m", "rows_per_s", "peak_rss_mib")
            lines.append([name, peer, *(_ratio(theirs.get(key), ours.get(key)) for key in wanted)])
    return aligned(lines) if len(lines) > 1 else ""


def _ratio(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:.2f}" if theirs is not None and ours else ""


def aligned(lines: Sequence[Sequence[str]], names: int = 2) -> str:
    """A Markdown table whose columns line up: the first `names` and the last to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    left = {*range(names), len(widths) - 1}

    def row(line: Sequence[str]) -> str:
        cells = (c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        return f"| {' | '.join(cells)} |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i in left else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([row(lines[0]), rule, *map(row, lines[1:])])
