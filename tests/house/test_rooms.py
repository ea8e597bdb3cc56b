"""The import contracts of pyproject.toml hold, as part of the suite and not of `make check` alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_a_room_imports_only_what_is_below_it() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run([linter, "--no-cache"], cwd=TOP, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout
    assert "1 kept, 0 broken" in ended.stdout


def test_only_the_door_imports_the_binary() -> None:
    sources = [*(TOP / "colonnade").rglob("*.py")]
    found = {str(f.relative_to(TOP)) for f in sources if "colonnade._native" in f.read_text(encoding="utf-8")}
    assert found == {"colonnade/native/__init__.py"}
