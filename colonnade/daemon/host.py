"""What a component gets from the daemon: counters, logger, executor, folders, other extensions."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from colonnade.daemon.health import Health
from colonnade.daemon.logs import NAME
from colonnade.daemon.telemetry import Labels, Metrics, label_values
from colonnade.pipeline.component import Component, ComponentId, Status
from colonnade.pipeline.instruments import BY_NAME

T = TypeVar("T")
EXECUTOR_THREADS = 8
# Of one exporter; threads are made when needed.
STORE_THREADS = 16
# More threads than cores would only take turns, and each keeps memory of its own.
COMPUTE_THREADS = max(2, os.cpu_count() or 2)
THREAD_NAME = "colonnade"
DATA_FOLDER = "data"


def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix=THREAD_NAME)


@dataclass(slots=True)
class Services:
    """What belongs to the process and is handed from graph to graph."""

    metrics: Metrics
    health: Health
    listener: Any
    executor: ThreadPoolExecutor = field(default_factory=lambda: _threads(EXECUTOR_THREADS))
    computers: ThreadPoolExecutor = field(default_factory=lambda: _threads(COMPUTE_THREADS))
    extensions: dict[ComponentId, Component] = field(default_factory=dict[ComponentId, Component])
    data: Path = Path(DATA_FOLDER)
    _stores: dict[ComponentId, ThreadPoolExecutor] = field(default_factory=dict[ComponentId, ThreadPoolExecutor])

    def store_executor(self, id: ComponentId) -> ThreadPoolExecutor:
        """Threads of one exporter: those of a store that does not answer are nobody else's."""
        if id not in self._stores:
            self._stores[id] = _threads(STORE_THREADS)
        return self._stores[id]

    def close_store_executor(self, id: ComponentId) -> None:
        """The exporter is gone; what its threads still wait for is left to them."""
        if executor := self._stores.pop(id, None):
            executor.shutdown(wait=False, cancel_futures=True)

    def close(self, timeout_s: float) -> bool:
        """Ends all threads; False when some still wait for a store after the timeout."""
        for id in [*self._stores]:
            self.close_store_executor(id)
        for threads in (self.executor, self.computers):
            threads.shutdown(wait=False, cancel_futures=True)
        ends_s = time.monotonic() + timeout_s
        left = [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]
        for thread in left:
            thread.join(max(ends_s - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in left)


class ComponentHost:
    """The host of one component, or of one component in one pipeline."""

    def __init__(self, kind: str, id: ComponentId, services: Services, pipeline: str = "") -> None:
        self.kind = kind
        self.pipeline = pipeline
        self._id = id
        self._services = services
        self._logger = logging.getLogger(f"{NAME}.{kind}.{id}")
        self._known: dict[tuple[Any, ...], Labels] = {}

    @property
    def id(self) -> ComponentId:
        return self._id

    @property
    def logger(self) -> logging.Logger:
        return self._logger

    @property
    def listener(self) -> Any:
        return self._services.listener

    @property
    def health(self) -> Health:
        """The board of component states."""
        return self._services.health

    def clock_ns(self) -> int:
        return time.time_ns()

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        self._services.metrics.add(name, n, self._label_values(name, labels))

    def gauge(self, name: str, value: float | Callable[[], float], **labels: str) -> None:
        self._services.metrics.gauge(name, value, self._own(name, labels), self)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._services.metrics.observe(name, value, self._label_values(name, labels))

    def _label_values(self, name: str, labels: dict[str, str]) -> Labels:
        """Looked up, because every group of requests counts the same things again."""
        asked = (name, *labels.items())
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = label_values(name, self._own(name, labels))
        return known

    def _own(self, name: str, labels: dict[str, str]) -> dict[str, str]:
        if self.kind in BY_NAME[name].labels and self.kind not in labels:
            labels[self.kind] = str(self._id)
        return labels

    def extension(self, id: ComponentId | str) -> Component:
        wanted = ComponentId.parse(id) if isinstance(id, str) else id
        return self._services.extensions[wanted]

    def report(self, status: Status) -> None:
        self._services.health.report(self.kind, self._id, self.pipeline, status)

    def show(self, facts: Callable[[], dict[str, Any]]) -> None:
        self._services.health.show(self.kind, self._id, self.pipeline, facts)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor(), function, *args)

    def _executor(self) -> ThreadPoolExecutor:
        # A sender's host (it has a pipeline) parks dead letters: that must not wait for its store's threads either.
        if self.kind in ("exporter", "connector") and not self.pipeline:
            return self._services.store_executor(self._id)
        return self._services.executor

    async def compute(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._services.computers, function, *args)

    def folder(self, name: str) -> Path:
        return self._services.data / name / f"{self.kind}_{self._id}".replace("/", "_")

    def gone(self) -> None:
        """The component left: its gauges and its state disappear."""
        if self.kind in ("exporter", "connector") and not self.pipeline:
            self._services.close_store_executor(self._id)
        self._services.metrics.forget(self)
        self._services.health.forget(self.kind, self._id, self.pipeline)
