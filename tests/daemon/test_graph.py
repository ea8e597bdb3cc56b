"""The graph: order of start and stop, what a failure undoes, what a reload keeps, that no row is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from colonnade.daemon.balance import accounts
from colonnade.daemon.configuration import load
from colonnade.daemon.graph import Engine, StartFailed
from tests.daemon import kit
from tests.pipeline.kit import Numbers, until

FILE = """
extensions: {{door: {door}}}
receivers: {{feed: {feed}}}
processors: {{pass: {process}}}
exporters: {{store: {store}, store/b: {{to: b}}}}
service:
  extensions: [door]
  shutdown_timeout: 5s
  pipelines: {{logs: {{receivers: [feed], processors: [pass], exporters: [{exporters}]}}}}
"""


def configuration(**parts: str):
    defaults = {"door": "", "feed": "", "process": "", "store": "", "exporters": "store"}
    return load([f"yaml:{FILE.format(**(defaults | parts))}"], env={}, components=kit.components())


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    for noted in (kit.events, kit.stored, kit.made):
        noted.clear()
    services = kit.services(tmp_path)
    engine = Engine(services)
    yield engine
    await engine.shutdown(1)
    services.executor.shutdown()


async def feed(numbers: Numbers, rows: int = 1) -> None:
    await kit.made["feed"].consume["logs"]([numbers.batch(rows)])


async def test_exporters_start_first_and_receivers_last_and_stop_the_other_way(engine: Engine) -> None:
    await engine.apply(configuration())
    assert kit.events == ["start door", "start store", "start pass", "start feed"]
    await feed(Numbers(), 3)
    assert await engine.shutdown(1) == 0
    assert kit.events[4:] == ["stop feed", "stop pass", "stop store", "stop door"]
    assert kit.stored["store"] == [0, 1, 2]


@pytest.mark.parametrize("part", ["door", "feed", "process"])
async def test_what_started_is_stopped_when_something_fails_to_start(engine: Engine, part: str) -> None:
    with pytest.raises(StartFailed, match=r"cannot start \w+: failed to start .*: no luck"):
        await engine.apply(configuration(**{part: "{fail: no luck}"}))
    assert engine.graph is None
    started = [e.removeprefix("start ") for e in kit.events if e.startswith("start")][:-1]
    assert [e.removeprefix("stop ") for e in kit.events if e.startswith("stop")] == started[::-1]


async def test_reload_keeps_what_did_not_change(engine: Engine) -> None:
    await engine.apply(configuration())
    before = dict(kit.made)
    kit.events.clear()
    await engine.apply(configuration(process="{keep: 0.5}"))
    assert kit.events == ["start pass", "stop pass"]
    members = {str(key[1]): member.component for key, member in engine.graph.members.items()}
    assert {id for id, component in members.items() if component is before[id]} == {"door", "store", "feed"}


@pytest.mark.parametrize("part", ["door", "process", "store"])
async def test_failed_reload_leaves_the_old_graph_running(engine: Engine, part: str) -> None:
    await engine.apply(configuration())
    graph, numbers = engine.graph, Numbers()
    receiver = kit.made["feed"]
    with pytest.raises(StartFailed, match="no luck"):
        await engine.apply(configuration(**{part: "{fail: no luck}"}))
    assert engine.graph is graph
    await receiver.consume["logs"]([numbers.batch(2)])
    await engine.shutdown(1)
    assert kit.stored["store"] == [0, 1]


async def test_reloads_under_load_lose_and_double_nothing(engine: Engine) -> None:
    await engine.apply(configuration())
    numbers, receiver = Numbers(), kit.made["feed"]
    done = asyncio.Event()

    async def load_it() -> None:
        while not done.is_set():
            await receiver.consume["logs"]([numbers.batch(3)])
            await asyncio.sleep(0)

    task = asyncio.create_task(load_it())
    for turn in range(12):
        await engine.apply(configuration(store=f"{{to: store{turn}}}", process="{keep: 1, fail: ''}"))
        await until(lambda turn=turn: f"store{turn}" in kit.stored)
    done.set()
    await task
    assert await engine.shutdown(2) == 0
    rows = [row for name, part in kit.stored.items() if name != "b" for row in part]
    assert sorted(rows) == list(range(numbers.next))


async def test_exporter_that_joins_by_reload_gets_what_comes_after(engine: Engine) -> None:
    await engine.apply(configuration())
    numbers = Numbers()
    await feed(numbers)
    await engine.apply(configuration(exporters="store, store/b"))
    await feed(numbers)
    await engine.apply(configuration(exporters="store/b"))
    await feed(numbers)
    await engine.shutdown(1)
    assert kit.stored == {"store": [0, 1], "b": [1, 2]}


async def test_rows_that_a_store_does_not_take_are_parked_and_counted(engine: Engine) -> None:
    await engine.apply(configuration(store="{down: true}", exporters="store, store/b"))
    await feed(Numbers(), 4)
    await until(lambda: kit.stored.get("b") == [0, 1, 2, 3])
    assert await engine.shutdown(0.5) == 4
    metrics = engine.services.metrics
    assert sum(metrics.read("exporter_dead_letter_rows").values()) == 4


async def test_balance_holds_while_rows_wait_and_after(engine: Engine) -> None:
    await engine.apply(configuration(process="{keep: 0.5}", store="{down: true}", exporters="store, store/b"))
    await feed(Numbers(), 10)
    await until(lambda: len(kit.stored.get("b", [])) == 5)
    await until(lambda: not any(a.missing for a in accounts(engine.services.metrics)))
    by_exporter = {account.exporter: account for account in accounts(engine.services.metrics)}
    assert (by_exporter["store"].accepted, by_exporter["store"].left_out, by_exporter["store"].in_log) == (10, 5, 5)
    assert by_exporter["store/b"].stored == 5


async def test_failing_exporter_is_told_to_health(engine: Engine) -> None:
    await engine.apply(configuration(store="{down: true}"))
    await feed(Numbers())

    def states() -> set[str]:
        return {r.status.state for r in engine.services.health.reports() if r.kind == "exporter" and r.pipelines}

    await until(lambda: states() == {"recoverable_error"})
