"""Answered means safe, and stored once: the daemon and the store are killed, again and again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.durable.rounds import (
    Archive,
    BucketArchive,
    Embedded,
    QuestDB,
    QuestDBEvents,
    Rounds,
    Server,
    Stored,
    Summary,
)

STORES: dict[str, Callable[[Path], Stored]] = {
    "server": Server,
    "embedded": Embedded,
    "parquet": Archive,
    "bucket": BucketArchive,
    "questdb": QuestDB,
    "questdb_events": QuestDBEvents,
}


def crash(store: str, folder: Path, rounds: int, seed: int) -> Summary:
    made = STORES[store](folder)
    try:
        lives = Rounds(made, folder / "daemon", seed)
        lives.run(rounds)
        return lives.check()
    finally:
        made.close()


@pytest.mark.parametrize("store", STORES)
def test_every_answered_row_is_stored_once_over_five_crashes(store: str, tmp_path: Path) -> None:
    crash(store, tmp_path, 5, seed=len(store))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", STORES)
def test_every_answered_row_is_stored_once_over_25_crashes(store: str, tmp_path: Path) -> None:
    crash(store, tmp_path, 25, seed=25 + len(store))


@pytest.mark.soak
@pytest.mark.parametrize("store", STORES)
def test_every_answered_row_is_stored_once_over_a_thousand_crashes(store: str, tmp_path: Path) -> None:
    rounds, total = int(os.environ.get("CRASH_ROUNDS", "1000")), Summary()
    for batch in range(0, rounds, 50):
        total += crash(store, tmp_path / str(batch), min(50, rounds - batch), seed=1000 + batch)
        print(f"{store}: {total}", flush=True)
        shutil.rmtree(tmp_path / str(batch))
