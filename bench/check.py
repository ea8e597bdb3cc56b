"""Fails when a kernel takes noticeably more instructions per row than `instructions.json` says.

    python -m bench.check             compare
    python -m bench.check --update    write the file anew, after a change that is meant

Instructions are counted (valgrind), not timed, so that a busy machine does not matter. They do depend on the compiler:
a new version of Rust may ask for an update.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import load
from colonnade.unified_schema import clickhouse

FILE = Path(__file__).with_name("instructions.json")
KERNELS = (
    "decode.traces.512",
    "decode.traces.10",
    "decode.logs.512",
    "decode.metrics.512",
    "validate.traces.512",
    "unify.traces.512",
    "native.traces.512",
    "native.logs.512",
)
REGRESSION = 1.10
# The difference of two runs is the kernel without the start and without making its rows.
FEW, MORE = 1, 4
VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")


def main() -> int:
    """Returns 1 on a regression."""
    parser = argparse.ArgumentParser("python -m bench.check", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the file anew")
    update = parser.parse_args().update
    if shutil.which("valgrind") is None:
        print(
            "SKIPPED: counting instructions needs valgrind (Debian, Ubuntu: apt-get install valgrind)", file=sys.stderr
        )
        return 0
    program = load.build(example="count")
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as table:
        table.writelines(f"{column.name}\t{column.type}\n" for column in clickhouse.columns() if not column.alias)
        table.flush()
        counts = {kernel: instructions_per_row(program, kernel, table.name) for kernel in KERNELS}
    if update:
        FILE.write_text(json.dumps(counts, indent=4) + "\n")
        return 0
    known = json.loads(FILE.read_text())
    print("\n".join(verdict(kernel, count, known.get(kernel)) for kernel, count in counts.items()))
    return int(any(is_regression(count, known.get(kernel)) for kernel, count in counts.items()))


def instructions_per_row(program: Path, kernel: str, table: str) -> int:
    """Instructions of one run over its rows, the process's start left out."""
    (few, rows), (more, _) = (_run(program, kernel, times, table) for times in (FEW, MORE))
    return round((more - few) / (MORE - FEW) / rows)


def _run(program: Path, kernel: str, times: int, table: str) -> tuple[int, int]:
    command = [*VALGRIND, str(program), kernel, str(times), table]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", "")), int(done.stdout)


def is_regression(count: int, known: int | None) -> bool:
    """Whether it is more than what is known allows; a kernel that the file lacks is one."""
    return known is None or count > known * REGRESSION


def verdict(kernel: str, count: int, known: int | None) -> str:
    """One line."""
    if known is None:
        return f"{kernel:22} {count:>8,} instructions a row; not in {FILE.name}: run python -m bench.check --update"
    word = (
        "REGRESSION"
        if is_regression(count, known)
        else "better: update the file"
        if count * REGRESSION < known
        else "ok"
    )
    return f"{kernel:22} {count:>8,} instructions a row, {count / known - 1:+7.1%}  {word}"


if __name__ == "__main__":
    sys.exit(main())
