"""Where the daemon's time goes under a case, as a flame graph.

    python -m bench.flame nop.http.traces.512.none --out flame.svg

Samples stacks of all threads with `perf` (Debian: linux-perf) while the load runs. The width of a box is its share of
the CPU; what called it stands below it. Frames of the interpreter that follow one another are one box.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from bench import load
from bench.cases import CASES, Case
from bench.load import Load
from bench.measure import WARM_UP_S
from bench.products import Colonnade, Stores

SAMPLES_PER_S = 499
# Bytes of each stack that perf keeps: enough for the interpreter's frames.
STACK_BYTES = 16_384
WIDTH, ROW, MARGIN, TITLE = 1_200, 17, 10, 40
# Narrower boxes can not be read, and there are many.
LEAST_SHARE = 0.002
CHARACTER = 6.2
INTERPRETER = "python interpreter"


@dataclass
class Frame:
    """A function under its callers, and how many samples were in it."""

    name: str
    samples: int = 0
    callees: dict[str, Frame] = field(default_factory=dict[str, "Frame"])

    def add(self, stack: Iterable[str]) -> None:
        """One sample; `stack` is from the outermost function in."""
        frame = self
        frame.samples += 1
        for name in stack:
            frame = frame.callees.setdefault(name, Frame(name))
            frame.samples += 1


def stacks(script: str) -> Iterator[list[str]]:
    """Stacks of `perf script`, each from the outermost in: the thread's name, then its functions."""
    for sample in script.split("\n\n"):
        head, *lines = sample.strip("\n").splitlines() or [""]
        if not lines:
            continue
        names = [re.sub(r"\s+\d+\s+[\d.]+:.*", "", head).strip()]
        for line in reversed(lines):
            name = _function(line)
            if name and name != names[-1]:
                names.append(name)
        yield names


def _function(line: str) -> str:
    found = re.match(r"\s*[0-9a-f]+ (.+) \((.*)\)$", line)
    if found is None:
        return ""
    if "libpython" in found[2] or "/python3" in found[2]:
        return INTERPRETER
    if found[1] == "[unknown]":
        return Path(found[2]).name
    return re.sub(r"\+0x[0-9a-f]+$", "", found[1])


def render(root: Frame, title: str) -> str:
    """The picture."""
    boxes = list(_boxes(root, 0, 0.0, WIDTH - 2 * MARGIN, root.samples))
    depth = max(level for level, *_ in boxes) + 1
    height = TITLE + depth * ROW + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{MARGIN}" y="24" font-size="16" font-family="sans-serif">{escape(title)}</text>',
    ]
    for level, x, width, frame in boxes:
        y = height - MARGIN - (level + 1) * ROW
        share = f"{frame.samples / root.samples:.1%}"
        text = frame.name[: max(0, int((width - 4) / CHARACTER))] if width > 4 * CHARACTER else ""
        parts.append(
            f"<g><title>{escape(frame.name)}: {share}</title>"
            f'<rect x="{MARGIN + x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}" fill="{_colour(frame.name)}"/>'
            f'<text x="{MARGIN + x + 2:.1f}" y="{y + 12}" font-size="11">{escape(text)}</text></g>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _boxes(frame: Frame, level: int, x: float, width: float, total: int) -> Iterator[tuple[int, float, float, Frame]]:
    yield level, x, width, frame
    for callee in sorted(frame.callees.values(), key=lambda callee: callee.name):
        share = width * callee.samples / frame.samples
        if callee.samples >= total * LEAST_SHARE:
            yield from _boxes(callee, level + 1, x, share, total)
        x += share


def _colour(name: str) -> str:
    """By whose code it is: Rust, the interpreter, others."""
    if "::" in name:
        return "#f6b26b"
    return "#9fc5e8" if name == INTERPRETER else "#d9d2c5"


def main() -> int:
    """Records one case and writes its picture."""
    parser = argparse.ArgumentParser("python -m bench.flame", description=__doc__)
    parser.add_argument("case", choices=[case.name for case in CASES], metavar="CASE")
    parser.add_argument("--out", type=Path, default=Path("flame.svg"), help="where to (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long (default %(default)s)")
    options = parser.parse_args()
    if shutil.which("perf") is None:
        print("sampling stacks needs perf (Debian: apt-get install linux-perf)", file=sys.stderr)
        return 2
    case = next(case for case in CASES if case.name == options.case)
    root = Frame("all")
    for stack in stacks(_record(case, options.seconds)):
        root.add(stack)
    if not root.samples:
        print("perf took no samples", file=sys.stderr)
        return 1
    options.out.write_text(render(root, f"{case.name}: {root.samples:,} samples"))
    print(options.out)
    return 0


def _record(case: Case, seconds: float) -> str:
    """What `perf script` says of the daemon while the case runs."""
    program = load.build()
    with Stores() as stores, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        running = Colonnade().start(case, stores, Path(folder) / "run")
        stores.callback(running.stop)
        generator = Load(program, running.address(case), case.load_arguments())
        stores.callback(generator.close)
        generator.run(WARM_UP_S)
        data = Path(folder) / "perf.data"
        generator.begin(seconds + WARM_UP_S)
        graph = f"dwarf,{STACK_BYTES}"
        target = ["-p", str(running.pid), "--", "sleep", str(seconds)]
        record = ["perf", "record", "--quiet", "-o", data, "-F", str(SAMPLES_PER_S), "--call-graph", graph, *target]
        subprocess.run(record, check=True, stdout=subprocess.DEVNULL)
        generator.end()
        script = ["perf", "script", "-i", data, "--no-inline"]
        return subprocess.run(script, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
