"""The durable log in a running graph: restarts, reloads that change where the log is, exporters that leave, balance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from colonnade.daemon.balance import accounts
from colonnade.daemon.configuration import ConfigError, load
from colonnade.daemon.graph import Engine
from colonnade.extensions.file_storage import factory
from colonnade.pipeline.registry import Registry
from tests.daemon import kit
from tests.pipeline.kit import Numbers, until

STORED = "sending_queue: {storage: file_storage}"


def configuration(folder: Path, store: str = STORED, *, exporters: str = "store", storage: str = "", log: str = "log"):
    """One pipeline into `store`, and `store/b` where `exporters` names it."""
    text = f"""
        extensions: {{file_storage: {{directory: {folder / log}, create_directory: true, {storage}}}}}
        receivers: {{feed: }}
        exporters: {{store: {{{store}}}, store/b: {{to: b, {STORED}}}}}
        service:
          extensions: [file_storage]
          shutdown_timeout: 2s
          pipelines: {{logs: {{receivers: [feed], exporters: [{exporters}]}}}}
    """
    own = {f"{f.kind}.{f.type}": f for f in kit.components()}
    return load([f"yaml:{text}"], env={}, components=Registry(own | {"extension.file_storage": factory}))


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[], Engine]]:
    """Makes engines, as one process after another would."""
    for noted in (kit.events, kit.stored, kit.made):
        noted.clear()
    engines: list[Engine] = []

    def make() -> Engine:
        engines.append(Engine(kit.services(tmp_path)))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.shutdown(1)
        engine.services.close(timeout_s=1)


async def feed(numbers: Numbers, rows: int = 1) -> None:
    await kit.made["feed"].consume["logs"]([numbers.batch(rows)])


async def test_what_a_store_did_not_take_before_a_stop_is_taken_after_the_next_start(start, tmp_path, caplog) -> None:
    engine, numbers = start(), Numbers()
    await engine.apply(configuration(tmp_path, f"down: true, {STORED}"))
    await feed(numbers, 5)
    assert await engine.shutdown(1) == 0
    assert "5 of 5 rows of pipeline logs wait in the log for the next start" in caplog.text
    assert not list(tmp_path.rglob("*.parquet"))

    engine = start()
    await engine.apply(configuration(tmp_path))
    await feed(numbers, 2)
    await until(lambda: len(kit.stored.get("store", [])) == 7)
    await until(lambda: not any(account.missing for account in accounts(engine.services.metrics)))
    (account,) = accounts(engine.services.metrics)
    assert (account.accepted, account.stored, account.in_log) == (7, 7, 0)
    assert sorted(kit.stored["store"]) == list(range(7))
    assert await engine.shutdown(1) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [({"store": ""}, {}), ({}, {"store": ""}), ({}, {"log": "other"}), ({}, {"storage": "fsync: false"})],
    ids=["memory to disk", "disk to memory", "another folder", "another setting"],
)
async def test_reloads_that_change_the_log_under_load_lose_and_double_nothing(start, tmp_path, before, after) -> None:
    engine, numbers = start(), Numbers()
    await engine.apply(configuration(tmp_path, **before))
    done = asyncio.Event()

    async def load_it() -> None:
        while not done.is_set():
            await feed(numbers, 3)
            await asyncio.sleep(0)  # a log in memory answers without a pause

    task = asyncio.create_task(load_it())
    for turn in range(6):
        await engine.apply(configuration(tmp_path, **(after if turn % 2 == 0 else before)))
        fed = numbers.next
        await until(lambda fed=fed: numbers.next > fed + 30)
    done.set()
    await task
    assert await engine.shutdown(2) == 0
    assert sorted(kit.stored["store"]) == list(range(numbers.next))


async def test_a_failed_reload_leaves_cursors_as_they_were(start, tmp_path) -> None:
    engine, numbers = start(), Numbers()
    await engine.apply(configuration(tmp_path))
    receiver = kit.made["feed"]
    with pytest.raises(Exception, match="no luck"):
        await engine.apply(configuration(tmp_path, f"fail: no luck, {STORED}", exporters="store, store/b"))
    await receiver.consume["logs"]([numbers.batch(4)])
    await until(lambda: kit.stored.get("store") == [0, 1, 2, 3])
    await engine.shutdown(1)
    engine = start()
    await engine.apply(configuration(tmp_path, exporters="store, store/b"))
    await feed(numbers, 1)
    await until(lambda: kit.stored.get("b") == [4])


@pytest.mark.parametrize("dropped", [False, True])
async def test_rows_of_an_exporter_that_a_reload_removes_are_kept_or_dropped(start, tmp_path, caplog, dropped) -> None:
    engine, numbers = start(), Numbers()
    storage = f"removed_exporters: {'drop' if dropped else 'keep'}"
    await engine.apply(configuration(tmp_path, f"down: true, {STORED}", exporters="store, store/b", storage=storage))
    await feed(numbers, 3)
    await engine.apply(configuration(tmp_path, exporters="store/b", storage=storage))
    assert f"they are {'dropped' if dropped else 'kept'}" in caplog.text
    await feed(numbers, 3)
    await until(lambda: kit.stored.get("b") == list(range(6)))
    await engine.apply(configuration(tmp_path, exporters="store, store/b", storage=storage))
    await feed(numbers, 3)
    await until(lambda: len(kit.stored.get("b", [])) == 9)
    expected = [6, 7, 8] if dropped else [0, 1, 2, 6, 7, 8]
    await until(lambda: sorted(kit.stored.get("store", [])) == expected)


async def test_a_pipeline_that_is_removed_says_what_it_leaves(start, tmp_path, caplog) -> None:
    engine, numbers = start(), Numbers()
    await engine.apply(configuration(tmp_path, f"down: true, {STORED}"))
    await feed(numbers, 3)
    await engine.shutdown(1)
    engine = start()
    text = configuration(tmp_path)
    text.pipelines["logs/new"] = text.pipelines.pop("logs").__class__(
        "logs/new", "logs", *(getattr(configuration(tmp_path).pipelines["logs"], n) for n in _FIELDS)
    )
    await engine.apply(text)
    assert "exporter store left pipeline logs with 3 rows in the log: they are kept" in caplog.text


_FIELDS = ("receivers", "processors", "exporters", "place")


async def test_callers_wait_for_room_where_the_queue_says_so(start, tmp_path) -> None:
    engine, numbers = start(), Numbers()
    small = (
        "sending_queue: {storage: file_storage, queue_size: 5, sizer: items, block_on_overflow: true, num_consumers: 1}"
    )
    await engine.apply(configuration(tmp_path, small))
    await asyncio.gather(*(feed(numbers, 3) for _ in range(20)))
    await until(lambda: sorted(kit.stored.get("store", [])) == list(range(60)))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"store": "sending_queue: {storage: file_storag}"}, "references extension 'file_storag' which is not"),
        (
            {"store": "sending_queue: {storage: file_storage, wait_for_result: true}"},
            "can not be combined with storage",
        ),
        ({"storage": "fsink: true"}, "fsink"),
    ],
)
def test_a_wrong_configuration_is_told_before_anything_starts(
    tmp_path: Path, parts: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        configuration(tmp_path, **parts)


def test_a_storage_that_is_not_started_and_two_of_them_are_told(tmp_path: Path) -> None:
    own = {f"{f.kind}.{f.type}": f for f in kit.components()}
    registry = Registry(own | {"extension.file_storage": factory})
    text = f"""
        extensions:
          file_storage: {{directory: {tmp_path}}}
          file_storage/b: {{directory: {tmp_path}/b, create_directory: true}}
          file_storage/c: {{directory: {tmp_path}/c, create_directory: true}}
          door:
        receivers: {{feed: }}
        exporters:
          store: {{sending_queue: {{storage: file_storage}}}}
          store/b: {{sending_queue: {{storage: file_storage/b}}}}
          store/c: {{sending_queue: {{storage: file_storage/c}}}}
          store/d: {{sending_queue: {{storage: door}}}}
        service:
          extensions: [file_storage/b, file_storage/c, door]
          pipelines: {{logs: {{receivers: [feed], exporters: [store, store/b, store/c, store/d]}}}}
    """
    with pytest.raises(ConfigError) as told:
        load([f"yaml:{text}"], env={}, components=registry)
    said = str(told.value)
    assert "exporters::store::sending_queue::storage: extension 'file_storage' is not started" in said
    assert "its exporters name file_storage/b and file_storage/c as storage, but a pipeline has one log" in said
    assert "extension 'door' keeps no logs: name a file_storage" in said
