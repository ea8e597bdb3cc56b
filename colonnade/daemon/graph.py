"""The graph: components wired as the configuration says, started in order, swapped on reload.

Ports, logs and embedded engines belong to the daemon and are handed from graph to graph. A reload builds the new graph
beside the old one: what did not change is kept running, what is new is started, then the doors lead to the new
pipelines at once, and what is no longer wanted drains. Until the doors have turned, any failure undoes what was
started, and the old graph runs on.

Order of start: extensions, exporters, processors, senders, receivers, doors. Order of stop: doors (requests in flight
are answered), receivers, senders (logs are drained), processors, exporters, extensions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from colonnade.daemon.configuration.model import ComponentConfig, Configuration, PipelineConfig
from colonnade.daemon.host import ComponentHost, Services
from colonnade.pipeline.component import (
    Component,
    ComponentId,
    Connector,
    Entry,
    Exporter,
    Kind,
    Processor,
    Receiver,
    Signal,
    Status,
    StreamExporter,
)
from colonnade.pipeline.errors import ColonnadeError

if TYPE_CHECKING:
    from colonnade.pipeline.doors import Doors, Opening
    from colonnade.pipeline.fanout import Fanout, Pipeline
    from colonnade.pipeline.log import HandoverLog, Storage
    from colonnade.pipeline.sender import Sender

# (kind, id, pipeline): processors have one instance per pipeline, everything else one.
Key = tuple[Kind, ComponentId, str]
_START_ORDER: tuple[Kind, ...] = ("extension", "exporter", "connector", "processor", "receiver")


class StartFailed(ColonnadeError):
    """A component that could not start; the message says which and why."""

    def __init__(self, message: str) -> None:
        super().__init__("start_failed", message)


@dataclass(slots=True)
class Member:
    """One component of a graph."""

    key: Key
    config: ComponentConfig
    component: Component
    host: ComponentHost

    @property
    def label(self) -> str:
        kind, id, _ = self.key
        return f'"{id}" {kind}'


@dataclass(slots=True)
class Graph:
    """What runs."""

    configuration: Configuration
    members: dict[Key, Member]
    pipelines: dict[str, Pipeline] = field(default_factory=dict[str, "Pipeline"])
    openings: list[Opening] = field(default_factory=list["Opening"])


def check(configuration: Configuration) -> None:
    """Creates every component that is used, and throws it away; as `create`, without anything of a running daemon.

    Raises:
        StartFailed: a factory failed.
    """
    from colonnade.daemon.health import Health
    from colonnade.daemon.telemetry import Metrics

    nowhere = Services(Metrics("none"), Health(lambda _: None), None)
    create(configuration, nowhere)


def create(configuration: Configuration, services: Services, old: Graph | None = None) -> dict[Key, Member]:
    """Every component that is used; those that did not change are taken from the old graph. No I/O.

    Raises:
        StartFailed: a factory failed, or two receivers want one endpoint differently.
    """
    members: dict[Key, Member] = {}
    for key in _wanted(configuration):
        kind, id, pipeline = key
        config = configuration.get(kind, id)
        before = old.members.get(key) if old else None
        if before is not None and before.config.factory is config.factory and before.config.settings == config.settings:
            members[key] = before
            continue
        try:
            component = config.factory.create(id, config.settings)
        except ColonnadeError as error:
            where = f" for pipeline {pipeline}" if pipeline else ""
            raise StartFailed(f'failed to build pipelines: failed to create "{id}" {kind}{where}: {error}') from error
        members[key] = Member(key, config, component, ComponentHost(kind, id, services, pipeline))
    _check_endpoints(configuration, members)
    return members


def _check_endpoints(configuration: Configuration, members: dict[Key, Member]) -> None:
    """Raises StartFailed where two entries want one endpoint differently."""
    from colonnade.pipeline.doors import endpoints

    entries: list[tuple[ComponentId, Entry]] = []
    for id, signal in _doorways(configuration):
        member = members.get(("receiver", id, ""))
        if member is not None and isinstance(member.component, Receiver):
            entries += [(id, entry) for entry in member.component.entries() if entry.signal == signal]
    try:
        endpoints(entries)
    except ColonnadeError as error:
        raise StartFailed(f"failed to build pipelines: {error}") from error


def _wanted(configuration: Configuration) -> list[Key]:
    keys: dict[Key, None] = {("extension", id, ""): None for id in configuration.extensions}
    for pipeline in configuration.pipelines.values():
        for id in pipeline.exporters:
            keys[_end_kind(configuration, "exporter", id), id, ""] = None
        for id in pipeline.processors:
            keys["processor", id, pipeline.id] = None
        for id in pipeline.receivers:
            keys[_end_kind(configuration, "receiver", id), id, ""] = None
    return sorted(keys, key=lambda key: _START_ORDER.index(key[0]))


def _end_kind(configuration: Configuration, kind: Kind, id: ComponentId) -> Kind:
    return kind if (kind, id) in configuration.components else "connector"


class Engine:
    """Runs one graph at a time. Methods belong to the event loop's thread, one at a time."""

    def __init__(self, services: Services) -> None:
        from colonnade.pipeline.doors import Doors

        self.services = services
        self.doors: Doors = Doors(services.listener)
        self.graph: Graph | None = None
        self.logs: dict[str, HandoverLog] = {}

    async def apply(self, configuration: Configuration) -> None:
        """Starts the configuration, or swaps to it.

        Raises:
            StartFailed: something could not start; what ran before still runs, unchanged.
        """
        await _Swap(self, configuration).run()

    async def shutdown(self, deadline_s: float) -> int:
        """Drains and stops everything within the deadline; gives the rows that were not stored. Idempotent."""
        graph, self.graph = self.graph, None
        if graph is None:
            return 0
        ends_s = time.monotonic() + deadline_s
        # A third of the time is the requests' in flight; what they do not need is left to the stores.
        await self.doors.close(deadline_s / 3)
        await _stop(graph.members.values(), "receiver")
        await asyncio.gather(*(log.close() for log in self.logs.values()))
        senders = [sender for pipeline in graph.pipelines.values() for sender in pipeline.senders.values()]
        left = await asyncio.gather(*(sender.drain(max(ends_s - time.monotonic(), 0.1)) for sender in senders))
        for kind in ("processor", "connector", "exporter", "extension"):
            await _stop(reversed(graph.members.values()), kind)
        self.logs = {}
        return sum(left)


class _Swap:
    """One change from the running graph, or from nothing, to another."""

    def __init__(self, engine: Engine, configuration: Configuration) -> None:
        self.engine = engine
        self.services = engine.services
        self.old = engine.graph
        self.configuration = configuration
        self.started: list[Member] = []
        self.stopped: list[Member] = []
        self.undo: list[Callable[[], Any]] = []
        self.deadline_s = configuration.service.shutdown_timeout

    async def run(self) -> None:
        old = self.old
        members = create(self.configuration, self.services, old)
        graph = Graph(self.configuration, members)
        before = old.members if old else {}
        fresh = [member for key, member in members.items() if before.get(key) is not member]
        try:
            for member in fresh:
                if member.key[0] not in ("receiver", "connector"):
                    await self._start(member)
            self._wire(graph)
            await asyncio.gather(*(pipeline.log.ready() for pipeline in graph.pipelines.values()))
            if old is None:
                # Nothing may come in before everything behind the doors runs.
                self._start_senders(graph)
            for member in fresh:
                if member.key[0] in ("receiver", "connector"):
                    await self._start(member)
            gone = self.engine.doors.apply(graph.openings)
        except BaseException as error:
            await self._undo()
            if isinstance(error, ColonnadeError) and not isinstance(error, StartFailed):
                raise StartFailed(f"cannot start pipelines: {error}") from error
            raise
        self.engine.graph = graph
        self.services.extensions = {k[1]: m.component for k, m in members.items() if k[0] == "extension"}
        if old is not None:
            await self._retire(old, graph, gone)
        for storage in {
            id(s): s for p in self.configuration.pipelines.values() if (s := self._storage(p, graph))
        }.values():
            await storage.settled()

    async def _start(self, member: Member) -> None:
        """Raises StartFailed."""
        try:
            await self._start_once(member)
        except ColonnadeError as error:
            previous = self.old.members.get(member.key) if self.old else None
            if error.code != "address_in_use" or previous is None:
                raise StartFailed(self._told(member, error)) from error
            # The port is the previous instance's: it gives way, and comes back if this one fails.
            await previous.component.shutdown()
            self.stopped.append(previous)
            try:
                await self._start_once(member)
            except Exception as again:
                raise StartFailed(self._told(member, again)) from again
        except Exception as error:
            raise StartFailed(self._told(member, error)) from error

    async def _start_once(self, member: Member) -> None:
        self.started.append(member)
        member.host.report(Status("starting"))
        await member.component.start(cast(Any, member.host))
        if member.key[0] == "extension":
            self.services.extensions[member.key[1]] = member.component
        reports = [r for r in self.services.health.reports() if (r.kind, r.id) == member.key[:2]]
        if all(report.status.state == "starting" for report in reports):
            member.host.report(Status("ok"))

    def _told(self, member: Member, error: Exception) -> str:
        kind = "extensions" if member.key[0] == "extension" else "pipelines"
        reason = str(error) if isinstance(error, (ColonnadeError, OSError)) else f"{type(error).__name__}: {error}"
        return f"cannot start {kind}: failed to start {member.label}: {reason}"

    async def _undo(self) -> None:
        """Back to what ran before."""
        for action in reversed(self.undo):
            result = action()
            if isinstance(result, Awaitable):
                await result
        for member in reversed(self.started):
            await _shutdown(member)
        for member in self.stopped:
            await member.component.start(cast(Any, member.host))
        if self.old is not None:
            running = self.old.members
            self.services.extensions = {k[1]: m.component for k, m in running.items() if k[0] == "extension"}
            for member in running.values():
                if any(other.key == member.key for other in self.started):
                    member.host.report(Status("ok"))
        # An authenticator that did not stay may have said them.
        self.services.listener.forget_verdicts()

    # --- wiring

    def _wire(self, graph: Graph) -> None:
        """Pipelines over the logs, old or new, and who leads into them."""
        from colonnade.pipeline.fanout import Fanout

        for pipeline in self.configuration.pipelines.values():
            graph.pipelines[pipeline.id] = self._pipeline(pipeline, graph)
        fanouts: dict[tuple[ComponentId, Signal], Fanout] = {}
        for id, signal in _doorways(self.configuration):
            fanouts[id, signal] = Fanout(
                graph.pipelines[p.id]
                for p in self.configuration.pipelines.values()
                if p.signal == signal and id in p.receivers
            )
        for (id, signal), fanout in fanouts.items():
            self._lead(graph, id, signal, fanout)

    def _lead(self, graph: Graph, id: ComponentId, signal: Signal, fanout: Fanout) -> None:
        from colonnade.pipeline.doors import Opening

        member = graph.members.get(("receiver", id, "")) or graph.members["connector", id, ""]
        component = member.component
        if isinstance(component, Connector):
            emit: dict[Signal, Any] = getattr(component, "emit", None) or {}
            component.emit = {**emit, signal: fanout.consume}
            return
        assert isinstance(component, Receiver)
        entries: list[Entry] = [entry for entry in component.entries() if entry.signal == signal]
        graph.openings += [Opening(id, entry, fanout, cast(Any, member.host)) for entry in entries]
        if not entries or any(entry.handler is not None for entry in entries):
            cast(Any, component).consume = {**getattr(component, "consume", {}), signal: fanout.consume}

    def _pipeline(self, config: PipelineConfig, graph: Graph) -> Pipeline:
        from colonnade.pipeline.fanout import Pipeline, Stage

        log = self._log(config, graph)
        stages: list[Stage] = []
        for id in config.processors:
            member = graph.members["processor", id, config.id]
            assert isinstance(member.component, Processor)
            stages.append(Stage(member.component, cast(Any, member.host)))
        senders = [self._sender(log, config, id, stages, graph) for id in config.exporters]
        host = ComponentHost("pipeline", ComponentId(config.signal), self.services, config.id)
        return Pipeline(config.id, config.signal, stages, log, senders, cast(Any, host))

    def _log(self, config: PipelineConfig, graph: Graph) -> HandoverLog:
        """The log that runs where its place did not change, else another, beside it."""
        from colonnade.pipeline.log import MemoryLog

        storage = self._storage(config, graph)
        running = self.engine.logs.get(config.id)
        if running is not None and running.store is (storage.store if storage else None):
            return running
        log = storage.open_log(config.id, config.signal) if storage else MemoryLog(config.id, config.signal)
        self.engine.logs[config.id] = log

        def undo() -> None:
            del self.engine.logs[config.id]
            if running is not None:
                self.engine.logs[config.id] = running

        self.undo.append(undo)
        return log

    def _storage(self, config: PipelineConfig, graph: Graph) -> Storage | None:
        """The extension that the pipeline's exporters name in `sending_queue.storage`."""
        for id in config.exporters:
            exporter = graph.members[_end_kind(self.configuration, "exporter", id), id, ""].component
            assert isinstance(exporter, Exporter)
            if exporter.queue.storage is not None:
                member = graph.members["extension", ComponentId.parse(exporter.queue.storage), ""]
                return cast("Storage", member.component)
        return None

    def _sender(
        self, log: HandoverLog, config: PipelineConfig, id: ComponentId, stages: list[Any], graph: Graph
    ) -> Sender:
        """The running sender where nothing about it changed, else a new one on the same cursor."""
        from colonnade.pipeline.sender import Sender, slice_limits
        from colonnade.pipeline.stream import StreamSender

        kind = _end_kind(self.configuration, "exporter", id)
        exporter = graph.members[kind, id, ""].component
        assert isinstance(exporter, Exporter)
        limits = slice_limits(exporter, [stage.processor for stage in stages])
        before = self._running_sender(config.id, str(id))
        if before is not None and before.log is not log:
            before = None
        if before is not None and before.exporter is exporter and before.limits == limits:
            return before
        host = ComponentHost("exporter", id, self.services, config.id)
        known = before is not None
        sender = (StreamSender if isinstance(exporter, StreamExporter) else Sender)(
            log, exporter, cast(Any, host), limits
        )
        if known:
            queue = before.exporter.queue
            self.undo.append(lambda: log.open_cursor(str(id), queue))
        else:
            self.undo.append(lambda: log.undo_cursor(str(id)))
        return sender

    def _running_sender(self, pipeline: str, exporter: str) -> Sender | None:
        running = self.old.pipelines.get(pipeline) if self.old else None
        return running.senders.get(exporter) if running else None

    def _start_senders(self, graph: Graph) -> None:
        for pipeline in graph.pipelines.values():
            for sender in pipeline.senders.values():
                sender.start()
                self.undo.append(lambda sender=sender: sender.hand_over(1.0))

    # --- the old graph

    async def _retire(self, old: Graph, graph: Graph, gone: list[Any]) -> None:
        """The doors lead to the new graph: exchange senders, drain what left, stop what is not used any more."""
        await self._exchange_senders(old, graph)
        await self.engine.doors.close_servers(gone, self.deadline_s)
        await self.engine.doors.retire(graph.openings, self.deadline_s)
        removed = [member for key, member in old.members.items() if graph.members.get(key) is not member]
        await _stop(removed, "receiver")
        await self._drain_removed(old, graph)
        for kind in ("processor", "connector", "exporter", "extension"):
            await _stop([m for m in removed if m not in self.stopped], kind, graph)

    async def _exchange_senders(self, old: Graph, graph: Graph) -> None:
        async def exchange(pipeline: Pipeline, name: str, sender: Sender) -> None:
            running = old.pipelines.get(pipeline.id)
            before = running.senders.get(name) if running and running.log is pipeline.log else None
            if before is sender:
                return
            if before is not None:
                await before.hand_over(self.deadline_s)
                cast(Any, before.host).gone()
            sender.start()

        await asyncio.gather(
            *(exchange(p, name, sender) for p in graph.pipelines.values() for name, sender in p.senders.items())
        )

    async def _drain_removed(self, old: Graph, graph: Graph) -> None:
        async def drain(pipeline: Pipeline, name: str, sender: Sender) -> None:
            await sender.drain(self.deadline_s)
            pipeline.log.close_cursor(name)
            cast(Any, sender.host).gone()

        leaving: list[Awaitable[None]] = []
        for id, pipeline in old.pipelines.items():
            now = graph.pipelines.get(id)
            if now is None:
                self.engine.logs.pop(id, None)
            stays = now is not None and now.log is pipeline.log
            if not stays:
                await pipeline.log.close()
            kept = now.senders if now and stays else {}
            leaving += [drain(pipeline, name, s) for name, s in pipeline.senders.items() if name not in kept]
        await asyncio.gather(*leaving)


def _doorways(configuration: Configuration) -> Iterable[tuple[ComponentId, Signal]]:
    return dict.fromkeys((id, p.signal) for p in configuration.pipelines.values() for id in p.receivers)


async def _stop(members: Iterable[Member], kind: str, successor: Graph | None = None) -> None:
    for member in members:
        if member.key[0] == kind:
            member.host.report(Status("stopping"))
            await _shutdown(member, forget=successor is None or member.key not in successor.members)


async def _shutdown(member: Member, forget: bool = True) -> None:
    """Stops one component; a failure is logged, and stops nobody else."""
    try:
        await member.component.shutdown()
    except Exception as error:
        member.host.logger.error("%s failed to shut down: %s", member.label, type(error).__name__)
        member.host.logger.debug("%s: details", member.label, exc_info=True)
    if forget:
        member.host.gone()
