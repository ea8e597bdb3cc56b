"""Every registered component: starts, stops and starts again, in any order; leaves nothing open."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from colonnade.daemon.health import Health
from colonnade.daemon.host import ComponentHost, Services
from colonnade.daemon.telemetry import Metrics
from colonnade.native import Listener
from colonnade.pipeline.component import (
    KINDS,
    Component,
    ComponentId,
    Connector,
    Exporter,
    Extension,
    Processor,
    Receiver,
)
from colonnade.pipeline.errors import ColonnadeError
from tests.contract.kit import Sample, factory_of, names, samples

ENGINE_THREADS = ("ThreadPool", "jemalloc_bg_thd")
SETTLED_WITHIN_S = 5.0
# The second and third time must leave what the first time left: pools that a library makes once are not a leak.
ROUNDS = 3

every_component = pytest.mark.parametrize("name", names())
CLASSES = dict(zip(KINDS, (Receiver, Processor, Exporter, Connector, Extension), strict=True))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples name relative paths."""
    monkeypatch.chdir(tmp_path)


def create(sample: Sample) -> Component:
    settings = sample.factory.config.model_validate(sample.settings)
    return sample.factory.create(ComponentId.parse(sample.key), settings)


async def start(component: Component, host: Any) -> bool:
    """Whether it started. A refusal must be one that a user is told."""
    try:
        await component.start(host)
    except ColonnadeError as error:
        refusal = error
    else:
        return True
    assert len(refusal.message) > 20, refusal
    await component.shutdown()
    return False


Scene = Callable[[Component, Any], Awaitable[None]]


async def stop_before_start(component: Component, host: Any) -> None:
    await component.shutdown()
    await component.shutdown()
    await start(component, host)
    await component.shutdown()


async def double_stop(component: Component, host: Any) -> None:
    await start(component, host)
    await component.shutdown()
    await component.shutdown()


async def restart(component: Component, host: Any) -> None:
    first = await start(component, host)
    await component.shutdown()
    assert await start(component, host) == first, "does not start again as it did at first"
    await component.shutdown()


async def cancelled_start(component: Component, host: Any) -> None:
    """The daemon is stopped while it starts."""
    starting = asyncio.create_task(start(component, host))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await component.shutdown()


SCENES: list[Scene] = [stop_before_start, double_stop, restart, cancelled_start]


@every_component
def test_creating_it_does_nothing(name: str) -> None:
    factory = factory_of(name)
    for sample in samples(factory):
        before = open_things()
        component = create(sample)
        assert isinstance(component, CLASSES[factory.kind])
        assert component.id == ComponentId.parse(sample.key)
        if isinstance(component, Receiver) and factory.kind == "receiver":
            assert component.entries() == component.entries()
            assert {entry.signal for entry in component.entries()} <= factory.signals
        settled(before)
        assert not os.listdir(), "creates files before it is started"


@every_component
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_any_order_of_start_and_stop_is_safe_and_leaves_nothing_open(name: str, scene: Scene, tmp_path: Path) -> None:
    for sample in samples(factory_of(name)):
        play(sample, scene, tmp_path)
        for _ in range(ROUNDS - 1):
            before = open_things()
            play(sample, scene, tmp_path)
            settled(before)


def play(sample: Sample, scene: Scene, folder: Path) -> None:
    """A scene in an event loop of its own, which must be empty at the end."""
    services = Services(Metrics("detailed"), Health(lambda _: None), Listener(), data=folder / "data")

    async def scene_in_loop() -> None:
        component = create(sample)
        await scene(component, ComponentHost(sample.factory.kind, component.id, services))
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks that still run: {left}"

    try:
        asyncio.run(scene_in_loop())
    finally:
        services.listener.close(0)
        services.executor.shutdown()
        services.computers.shutdown()


def open_things() -> tuple[list[str], int]:
    """What the process has open: descriptors by what they lead to, and threads."""
    descriptors: list[str] = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        # An anonymous descriptor's number says nothing, and the listing itself is one.
        descriptors.append(target.partition(":[")[0] if ":[" in target else target)
    return sorted(d for d in descriptors if not d.startswith("/proc/")), len(threads_but_the_engines())


def threads_but_the_engines() -> list[str]:
    """Names of the process's threads; the embedded engine keeps a pool as long as the process lives."""
    names: list[str] = []
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):
            names.append(Path(f"/proc/self/task/{thread}/comm").read_text().strip())
    return [name for name in names if name not in ENGINE_THREADS]


def settled(before: tuple[list[str], int]) -> None:
    """Nothing more is open than before, once threads have had the time to end."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    pause = threading.Event()
    while grown(before, open_things()) and time.monotonic() < deadline:
        gc.collect()  # an exception's traceback may keep what nobody uses any more
        pause.wait(0.05)
    assert not grown(before, open_things()), f"left open: {grown(before, open_things())}"


def grown(before: tuple[list[str], int], now: tuple[list[str], int]) -> str:
    more = list(now[0])
    for one in before[0]:
        if one in more:
            more.remove(one)
    threads = now[1] - before[1]
    return " ".join([*more, *([f"{threads} threads"] if threads > 0 else [])])
