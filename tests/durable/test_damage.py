"""Damaged files: what is lost is said, everything else goes on; nothing stops the daemon without a word."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from colonnade.extensions.file_storage import store as store_module
from colonnade.extensions.file_storage.store import StorageError, Store
from colonnade.pipeline.component import SliceLimits
from tests.durable.kit import Disk, append, queue, read_out
from tests.pipeline.kit import Numbers, numbers_of

PIECES = SliceLimits(min_rows=0, max_rows=40)
APPENDS, ROWS = 60, 10


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 4_000)


async def filled(disk: Disk, *, done: int = 0, folded: bool = False) -> Store:
    """A store with appends in several segments; the first `done` rows are stored, and a slice after them is noted."""
    store = await disk.open()
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await log.ready()
    numbers = Numbers()
    for _ in range(APPENDS):
        await append(numbers, ROWS, log)
    while cursor.position < done:
        cursor.ack(await cursor.take(PIECES))
    if done:
        await cursor.note(await cursor.take(PIECES))
    store.save_ends()
    await store.flush()
    if folded:
        for segment in store.segments.values():
            if segment is not store._active:
                assert segment.checkpoint()
    return store


async def outcome(disk: Disk, folder: Path) -> tuple[list[int], int]:
    """What a store on that folder hands out, and how many rows it says are lost; then it must work as any other."""
    store = await disk.open(folder)
    lost = disk.host.counts["file_storage_lost_rows"]
    log = store.open_log("logs", "logs")
    cursor = log.open_cursor("a", queue())
    await store.settled(store.options, disk.host)  # type: ignore[arg-type]
    rows = await read_out(cursor, PIECES)
    numbers = Numbers()
    numbers.next = 1_000_000
    await append(numbers, 3, log)
    part = await asyncio.wait_for(cursor.take(PIECES), 20)
    assert numbers_of(part.batches) == [1_000_000, 1_000_001, 1_000_002]
    cursor.ack(part)
    await disk.close(store)
    assert disk.host.counts["file_storage_lost_rows"] >= lost
    assert not files(folder, "segment-*")
    return rows, int(disk.host.counts["file_storage_lost_rows"])


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.stat().st_size)


def flip(path: Path, at: int) -> None:
    held = bytearray(path.read_bytes())
    held[at] ^= 0x40
    path.write_bytes(held)


async def test_a_damaged_page_of_a_write_ahead_log_costs_what_lies_on_it(disk: Disk) -> None:
    folder = disk.crash(await filled(disk))
    wal = files(folder, "segment-*-wal")[0]
    flip(wal, wal.stat().st_size // 3)
    rows, lost = await outcome(disk, folder)
    assert len(rows) + lost == APPENDS * ROWS
    assert lost <= 3 * ROWS
    assert list((folder / "damaged").iterdir())


async def test_a_damaged_page_of_a_folded_segment_costs_what_lies_on_it(disk: Disk, caplog) -> None:
    folder = disk.crash(await filled(disk, folded=True))
    first = files(folder, "segment-*.sqlite")[0]
    held = bytearray(first.read_bytes())
    held[-4_096:] = bytes(4_096)
    first.write_bytes(held)
    rows, lost = await outcome(disk, folder)
    assert len(rows) + lost == APPENDS * ROWS
    assert 0 < lost < 20 * ROWS
    assert "rows of pipeline logs are lost: " in caplog.text


@pytest.mark.parametrize("cut", [0, 1, 100, 4096, 10_000])
async def test_a_segment_that_is_cut_short_is_said_to_be_and_its_rows_are_named(disk: Disk, caplog, cut: int) -> None:
    folder = disk.crash(await filled(disk, folded=True))
    path = files(folder, "segment-*.sqlite")[1]
    os.truncate(path, cut)
    rows, lost = await outcome(disk, folder)
    assert len(rows) + lost == APPENDS * ROWS
    assert lost > 0
    assert path.name in caplog.text


async def test_a_segment_that_is_gone_is_missed(disk: Disk, caplog) -> None:
    folder = disk.crash(await filled(disk, folded=True))
    path = files(folder, "segment-*.sqlite")[1]
    path.unlink()
    rows, lost = await outcome(disk, folder)
    assert len(rows) + lost == APPENDS * ROWS
    assert f"{path.name} is missing" in caplog.text


async def test_a_torn_end_of_a_write_ahead_log_is_what_a_crash_leaves(disk: Disk, caplog) -> None:
    store = await filled(disk)
    folder = disk.crash(store)
    wal = files(folder, "segment-*-wal")[-1]
    with wal.open("ab") as file:
        file.write(os.urandom(5_000))
    rows, lost = await outcome(disk, folder)
    assert (sorted(rows), lost) == (list(range(APPENDS * ROWS)), 0)
    assert "damage" not in caplog.text


@pytest.mark.parametrize("how", ["gone", "empty", "garbage", "flipped", "log flipped", "log gone"])
async def test_without_a_sound_catalog_every_row_comes_again_and_is_in_doubt(disk: Disk, how: str) -> None:
    store = await filled(disk, done=200)
    folder = disk.crash(store)
    path = folder / "catalog.sqlite"
    wal = folder / "catalog.sqlite-wal"
    match how:
        case "gone":
            path.unlink()
            wal.unlink()
        case "empty":
            path.write_bytes(b"")
            wal.unlink()
        case "garbage":
            path.write_bytes(os.urandom(30_000))
            wal.unlink()
        case "flipped":
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            flip(path, 4_096 + 1)
        case "log flipped":
            flip(wal, wal.stat().st_size // 2)
        case "log gone":
            wal.unlink()
    second = await disk.open(folder)
    cursor = second.open_log("logs", "logs").open_cursor("a", queue())
    rows: list[int] = []
    while cursor.lag_rows:
        part = await cursor.take(PIECES)
        await cursor.load(part)
        assert part.in_doubt
        rows += numbers_of(part.batches)
        cursor.ack(part)
    assert set(range(200, APPENDS * ROWS)) <= set(rows)
    assert len(rows) == len(set(rows))
    log = second.open_log("logs", "logs")
    assert log.end >= APPENDS * ROWS


async def test_a_later_version_is_left_alone(disk: Disk) -> None:
    store = await filled(disk)
    for name in ("catalog.sqlite", "segment-00000001.sqlite"):
        folder = disk.crash(store)
        path = next(folder.glob(name))
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        before = sorted(p.name for p in folder.iterdir())
        with pytest.raises(StorageError, match="has format 99, and this program knows 1: use a later version"):
            await disk.open(folder)
        assert {p.name for p in folder.iterdir()} >= set(before) - {"catalog.sqlite-wal"}


async def test_files_of_nobody_are_left_alone(disk: Disk) -> None:
    folder = disk.crash(await filled(disk))
    (folder / "notes.txt").write_text("mine")
    rows, lost = await outcome(disk, folder)
    assert (len(rows), lost) == (APPENDS * ROWS, 0)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_is_damaged_rows_come_once_or_are_said_to_be_lost(disk: Disk, seed: int, monkeypatch) -> None:
    chance = random.Random(seed)
    done = chance.choice((0, 200))
    store = await filled(disk, done=done, folded=chance.random() < 0.5)
    folder = disk.crash(store)
    for _ in range(chance.randint(1, 3)):
        path = chance.choice(files(folder, "segment-*"))
        at = chance.randrange(path.stat().st_size)
        match chance.choice(("flip", "zero", "cut", "garbage")):
            case "flip":
                flip(path, at)
            case "cut":
                os.truncate(path, at)
            case kind:
                held = bytearray(path.read_bytes())
                length = min(chance.choice((1, 100, 5_000)), len(held) - at)
                held[at : at + length] = bytes(length) if kind == "zero" else chance.randbytes(length)
                path.write_bytes(held)
    kept = shutil.copytree(folder, disk.folder / "before")
    rows, lost = await outcome(disk, folder)
    assert len(rows) == len(set(rows)), kept
    assert set(rows) <= set(range(done, APPENDS * ROWS)), kept
    assert len(rows) + lost == APPENDS * ROWS - done, kept


async def test_damage_that_shows_while_the_daemon_runs_is_mended_around(disk: Disk, caplog) -> None:
    store = await filled(disk, folded=True)
    segments = [s for s in store.segments.values() if s is not store._active]
    victim = segments[2]
    victim.close()
    size = victim.path.stat().st_size
    for page in range(3, size // 4096):
        flip(victim.path, page * 4096 + 500)
    log = store.logs[1].log
    assert log is not None
    cursor = log.open_cursor("a", queue())
    for stored in list(log._stored):
        log.evict(stored)
    rows = await read_out(cursor, PIECES)
    lost = int(disk.host.counts["file_storage_lost_rows"])
    assert lost > 0
    assert len(rows) + lost == APPENDS * ROWS
    assert len(set(rows)) == len(rows)
    assert "are lost: " in caplog.text
