"""Minutes of requests and of fuzzing; `make soak` runs it. `SOAK_SECONDS` is each test's time."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from .kit import assert_says, completed, decoded
from .messages import REQUESTS, FromSeed, seeded
from .test_verdicts import assert_refused_alone, assert_same_verdict, changed

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
NATIVE = Path(__file__).parents[2] / "native"


@pytest.mark.parametrize("signal", REQUESTS)
def test_new_requests_come_back_and_changed_ones_are_judged(signal: str) -> None:
    first = seed = random.randrange(2**48)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        messages = [seeded(signal, seed + i) for i in range(20)]
        try:
            for message in messages:
                for whole in (False, True):
                    batch = decoded(signal, [message], whole=whole)
                    assert_says(signal, batch, [message])
                    assert_says(signal, completed(batch), [message], ordered=False)
            bodies = [changed(FromSeed(seed + i), m.SerializeToString()) for i, m in enumerate(messages)]
            for body in bodies:
                assert_same_verdict(signal, body)
            assert_refused_alone(signal, bodies)
        except Exception as error:
            error.add_note(f"seeds {seed} to {seed + 19}")
            raise
        seed += len(messages)
    assert seed > first


@pytest.mark.skipif(shutil.which("cargo") is None, reason="fuzzing builds the targets, which needs Rust (cargo)")
def test_fuzzing_finds_nothing() -> None:
    build = ["cargo", "run", "--quiet", "--release", "--no-default-features", "--example", "fuzz", "--"]
    # Five targets share the time; a new seed every day means new inputs every day.
    arguments = [str(int(SECONDS * 5)), str(time.time_ns() // 86_400_000_000_000)]
    run = subprocess.run([*build, *arguments], cwd=NATIVE, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stderr
