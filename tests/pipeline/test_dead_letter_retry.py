"""Dead letters that are given back: every row ends in the store or in the folder, once, and the balance holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from colonnade.daemon.command import main
from colonnade.pipeline import dead_letter_retry
from colonnade.pipeline.component import Slice
from colonnade.pipeline.dead_letter import DeadLetters
from colonnade.pipeline.errors import Permanent, Retryable
from colonnade.pipeline.settings import DeadLetterSettings
from tests.parquet.kit import Rig as ParquetRig
from tests.parquet.kit import numbers, running, slice_of
from tests.parquet.test_rolling import rows
from tests.pipeline.kit import Numbers, Store, numbers_of, until
from tests.pipeline.test_sender import Rig


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter_retry, "LOOK_AGAIN_S", 0.01)


class Refusing:
    """Rows that a store refuses now."""

    def __init__(self, *rows: int) -> None:
        self.rows = set(rows)

    def __call__(self, attempt: int, part: Slice) -> None:
        if bad := self.rows & set(numbers_of(part.batches)):
            raise Permanent(f"bad_{min(bad) % 2}", f"row {min(bad)} is bad")


async def parked(folder: Path, *refused: int) -> tuple[Rig, Store, Refusing]:
    """A rig whose store refused some of 20 rows."""
    refusing = Refusing(*refused)
    store = Store("a", refusing, queue={"num_consumers": 1})
    rig = Rig(folder, store)
    rig.append(20)
    await until(lambda: rig.count("a", "exporter_dead_letter_rows") == len(refused))
    return rig, store, refusing


def cli(folder: Path, *arguments: str) -> int:
    return main(["dead-letter", *arguments, "--folder", str(folder)])


def in_balance(rig: Rig) -> bool:
    count = rig.hosts["a"].counts
    came = rig.log.end + count["pipeline_recovered_items"]
    left = rig.hosts["a"].gauge_value("pipeline_in_log_items")
    return came == count["pipeline_stored_items"] + count["pipeline_failed_items"] + left


async def test_rows_given_back_are_stored_once_the_store_takes_them(tmp_path, capsys, caplog) -> None:
    caplog.set_level("INFO")
    rig, store, refusing = await parked(tmp_path, 3, 4, 11)
    assert len([*(tmp_path / "a" / "dead_letter").glob("*.parquet")]) == 3
    refusing.rows.clear()
    assert cli(tmp_path, "retry", "--all") == 0
    assert "3 rows in 3 files will be tried again" in capsys.readouterr().out
    await until(lambda: len(store.rows) == 20)
    assert sorted(store.rows) == list(range(20))
    await until(lambda: not [*tmp_path.rglob("*.parquet")])
    assert in_balance(rig)
    assert rig.count("a", "pipeline_recovered_items") == 3
    assert "exporter a: 1 of 1 dead letters of pipeline logs are stored now" in caplog.text
    assert len({name[0] for name in store.names if name[0] != rig.log.id}) == 3, (
        "files of one range have names of their own"
    )
    await rig.drain()


async def test_what_is_refused_again_is_parked_again_and_the_rest_is_stored(tmp_path) -> None:
    rig, store, refusing = await parked(tmp_path, 4, 6, 8, 10)
    for left in ({8, 10}, {10}, {10}, set()):
        refusing.rows = set(left)
        before = rig.count("a", "pipeline_recovered_items")
        waiting = len(rig.parked("a"))
        assert cli(tmp_path, "retry", "--all") == 0
        await until(
            lambda before=before, waiting=waiting: rig.count("a", "pipeline_recovered_items") == before + waiting
        )
        await until(lambda: not [*tmp_path.rglob("retry/*.parquet")])
        assert rig.parked("a") == sorted(left)
        assert in_balance(rig)
    assert sorted(store.rows) == list(range(20))
    assert max(len(path.name) for path in tmp_path.rglob("*")) < 200
    await rig.drain()


async def test_names_and_codes_choose(tmp_path, capsys) -> None:
    rig, store, refusing = await parked(tmp_path, 3, 4)
    assert cli(tmp_path, "list") == 0
    told = capsys.readouterr()
    assert "row 3 is bad" in told.out
    assert "row 4 is bad" in told.out
    assert "2 rows in 2 files" in told.err
    name = next(line.split()[0] for line in told.out.splitlines() if "row 3 is bad" in line)
    assert cli(tmp_path, "show", name) == 0
    shown = capsys.readouterr().out
    assert "bad_1" in shown
    assert "message  3" in shown
    refusing.rows.clear()
    assert cli(tmp_path, "retry", name) == 0
    await until(lambda: 3 in store.rows)
    assert rig.parked("a") == [4]
    assert cli(tmp_path, "retry", "--code", "bad_1") == 0
    assert cli(tmp_path, "retry", "--code", "bad_0") == 0
    await until(lambda: 4 in store.rows)
    await rig.drain()
    assert cli(tmp_path, "retry", name) == 1
    assert "no dead letter is called" in capsys.readouterr().err
    assert cli(tmp_path, "retry") == 1
    assert "say --all or --code" in capsys.readouterr().err
    assert cli(tmp_path, "list") == 0
    assert "no dead letters below" in capsys.readouterr().err


async def test_files_wait_for_a_store_that_is_down_and_for_the_next_start(tmp_path) -> None:
    rig, store, _ = await parked(tmp_path, 3)
    down = asyncio.Event()

    def plan(attempt: int, part: Slice) -> None:
        down.set()
        raise Retryable("down", "connection refused")

    store.plan = plan
    assert cli(tmp_path, "retry", "--all") == 0
    await down.wait()
    await rig.drain()
    assert len([*tmp_path.rglob("retry/*.parquet")]) == 1
    again = Rig(tmp_path, store)
    store.plan = None
    await until(lambda: 3 in store.rows)
    await again.drain()
    assert sorted(store.rows) == list(range(20))


async def test_files_of_other_pipelines_stay_and_unreadable_ones_are_set_aside(tmp_path, caplog) -> None:
    letters = DeadLetters(lambda: tmp_path / "a" / "dead_letter", DeadLetterSettings())
    batch = Numbers().batch(2)
    letters.park(Slice("log", "other", "logs", 0, 2, [batch], 2, 1), "a", Permanent("x", "x"), 1.0)
    assert cli(tmp_path, "retry", "--all") == 0
    broken = tmp_path / "a" / "dead_letter" / "retry" / "broken_n1.parquet"
    broken.write_bytes(b"PAR1 no")
    rig = Rig(tmp_path, store := Store("a"))
    await until(lambda: "can not be read (ArrowInvalid): set aside as .unreadable" in caplog.text)
    assert broken.with_suffix(".unreadable").exists()
    await rig.drain()
    assert store.rows == []
    assert len([*tmp_path.rglob("retry/*.parquet")]) == 1


async def test_a_stream_exporter_publishes_each_file_by_itself_amid_its_roll(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    async with running(archive, roll={"max_age": "1h"}) as exporter:
        rig = ParquetRig(exporter, tmp_path)
        rig.append(rows(10))
        letters = rig.sender.letters
        for at in (20, 30):
            part = slice_of(rows(5, at), log=rig.log.id, start=0)
            letters.park(part, "parquet", Permanent(f"was_{at}", "x"), 1.0)
        assert cli(tmp_path, "retry", "--all") == 0
        await until(lambda: rig.host.counts["exporter_sent_spans"] == 10)
        assert numbers(archive) == [*range(20, 25), *range(30, 35)]
        await rig.drain()
    assert numbers(archive) == [*range(10), *range(20, 25), *range(30, 35)]
