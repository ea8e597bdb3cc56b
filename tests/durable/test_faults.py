"""The n-th change of a file fails, for all n: nothing answered is lost, nothing refused stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that lets calls fail."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("fault") / "fault.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "fault.c", "-ldl"], check=True)
    return library


def run(preload: Path, kind: str, error: str, step: int) -> int:
    """How many n were tried."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.durable.faulty", kind, error, str(step)],
        env={**os.environ, "LD_PRELOAD": str(preload)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-6000:]
    return int(ended.stdout.split()[0])


FAULTS = [("once", "ENOSPC"), ("once", "EIO"), ("short", "EIO"), ("for a while", "ENOSPC"), ("for a while", "EIO")]


@pytest.mark.parametrize(("kind", "error"), FAULTS)
def test_nothing_answered_is_lost_and_nothing_refused_stays_when_the_nth_call_fails(
    preload: Path, kind: str, error: str
) -> None:
    assert run(preload, kind, error, 7) > 10


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("kind", "error"), FAULTS)
def test_nothing_answered_is_lost_and_nothing_refused_stays_for_all_n(preload: Path, kind: str, error: str) -> None:
    assert run(preload, kind, error, 1) > 100
