"""The component contract: what a receiver, processor, exporter, connector and extension is to the daemon.

Life of a component: `__init__` stores (no I/O, no task), `start` acquires, `shutdown` drains. `shutdown` is idempotent
and safe before `start`; `start` after `shutdown` works again. A component never reads configuration files, never
exits the process and never makes metric instruments: it counts through its `Host` (names of `instruments.TABLE`).
"""

from __future__ import annotations

import logging
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, get_args

from pydantic import BaseModel

from colonnade.pipeline.settings import DeadLetterSettings, GRPCServer, HTTPServer, RetryOnFailure, SendingQueue

if TYPE_CHECKING:
    from colonnade.native import Batch

T = TypeVar("T")

Signal = Literal["traces", "metrics", "logs", "events"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)
Kind = Literal["receiver", "processor", "exporter", "connector", "extension"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What one row of a signal is called in the Collector's metric names.
NOUNS: dict[str, str] = {
    "traces": "spans",
    "metrics": "metric_points",
    "logs": "log_records",
    "events": "events",
}

_TYPE = re.compile(r"[a-zA-Z][0-9a-zA-Z_]{0,62}")
_NAME = re.compile(r"[^/\s]([^/]{0,1022}[^/\s])?")


class ComponentId(NamedTuple):
    """`type` or `type/name`, as the file spells it (aliases already resolved by the configuration)."""

    type: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> ComponentId:
        """Raises ValueError with the reason."""
        kind, slash, name = text.partition("/")
        kind, name = kind.strip(), name.strip()
        if not _TYPE.fullmatch(kind):
            raise ValueError(
                f"invalid component id {text!r}: the type must be letters, digits and _, starting with a letter"
            )
        if slash and not _NAME.fullmatch(name):
            raise ValueError(f"invalid component id {text!r}: the part after '/' must not be empty or hold '/'")
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.type}/{self.name}" if self.name else self.type


@dataclass(frozen=True, slots=True)
class Status:
    """What a component says about itself to health checks: as the Collector's component status.

    `state`: starting | ok | recoverable_error | permanent_error | fatal_error | stopping | stopped.
    """

    state: str
    message: str = ""


class Host(Protocol):
    """What the daemon gives one component; one instance per component (or per component and pipeline)."""

    @property
    def id(self) -> ComponentId: ...
    @property
    def logger(self) -> logging.Logger: ...
    @property
    def listener(self) -> Any:
        """The process's `colonnade.native.Listener`."""
        ...

    def clock_ns(self) -> int:
        """Unix time in nanoseconds; the only clock a component may read for data."""
        ...

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        """Adds to a counter of `instruments.TABLE`, from any thread.

        The component's own label (`receiver`, `processor`, `exporter`) is added where the instrument has it.
        """
        ...

    def gauge(self, name: str, value: float | Callable[[], float], **labels: str) -> None:
        """Sets a gauge, or has it read from a function at scrape time."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Adds one observation to a histogram."""
        ...

    def extension(self, id: ComponentId | str) -> Component:
        """A started extension; KeyError when the file's `service.extensions` does not name it."""
        ...

    def report(self, status: Status) -> None:
        """Tells the component's state to health checks."""
        ...

    def show(self, facts: Callable[[], dict[str, Any]]) -> None:
        """Figures that health checks show beside the component's state, read when they are asked."""
        ...

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Runs a function that waits (for a disk, a store) on the daemon's executor."""
        ...

    async def compute(self, function: Callable[..., T], *args: Any) -> T:
        """Runs work on columns that never waits, on one of as many threads as there are cores."""
        ...

    def folder(self, name: str) -> Path:
        """Where this component may keep data of its own; who writes there makes the folder."""
        ...


class Component(ABC):  # noqa: B024  every method has a default
    """Base of all; subclasses add what their kind does."""

    def __init__(self, id: ComponentId) -> None:
        self.id = id

    async def start(self, host: Host) -> None:  # noqa: B027  most components acquire nothing
        """Acquires sockets, files, tasks. Raises ColonnadeError when the component can not run."""

    async def shutdown(self) -> None:  # noqa: B027
        """Drains and releases; idempotent, safe before `start`."""


Fault = Literal["filtered", "sampled", "rejected"]


@dataclass(slots=True)
class BatchContext:
    """What a processor knows besides the rows, and where it accounts for rows that it takes out.

    Args:
        pipeline: id of the pipeline, for example `traces/backend`.
        received_at_ns: when the group was taken; the value of `ingested_at`.
        append_id: 16 bytes, the id of the log append that these rows become (`batch_id`).
        host: the processor's host.
    """

    pipeline: str
    received_at_ns: int
    append_id: bytes
    host: Host
    dropped: dict[tuple[Fault, str], int] = field(default_factory=dict[tuple[Fault, str], int])

    def drop(self, rows: int, fault: Fault, reason: str) -> None:
        """Accounts for rows left out: `filtered` and `sampled` are wished for, `rejected` is told to the sender.

        Whatever a processor leaves out without saying so is counted as filtered, reason `unstated`.
        """
        if rows:
            self.dropped[fault, reason] = self.dropped.get((fault, reason), 0) + rows


class Processor(Component):
    """Batch in, batch out. Called in order, for one group of requests at a time."""

    changes: ClassVar[bool] = True
    """False when it never changes rows or order (memory_limiter, batch): payloads may be forwarded undecoded."""
    rejects: ClassVar[bool] = False
    """True when it may leave out rows as `rejected`: requests are then processed one by one, to tell each its count."""
    wants_whole: bool = False
    """True when `attributes` and `context` should also hold what has a column (`unify` with `attributes: whole`)."""

    @abstractmethod
    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        """Pure and synchronous; may run on an executor thread. None = no rows left.

        Raises:
            Retryable, Permanent: the whole group is refused with that outcome; anything else is answered as internal.
        """

    def admit(self, nbytes: int) -> None:
        """Called with the waiting bytes before anything is decoded; raises Retryable to refuse."""

    def slices(self, limits: SliceLimits) -> SliceLimits:
        """What this processor makes of the exporters' slice sizes (the `batch` processor); default: unchanged."""
        return limits


@dataclass(frozen=True, slots=True)
class SliceLimits:
    """When a slice of the log is ready for an exporter: at `min_rows` or `min_bytes` (0 = not a trigger), or at
    `max_age_s` after its first row was appended. It never exceeds `max_rows`/`max_bytes` (0 = no bound) except where
    one row alone does."""

    min_rows: int = 8192
    max_rows: int = 0
    min_bytes: int = 0
    max_bytes: int = 16 << 20
    max_age_s: float = 0.2
    whole_requests: bool = False
    """A slice ends where a request does, if one does within its bounds: only whole requests can be forwarded."""


async def _nowhere() -> None:
    """The plan of a slice of a log in memory goes with the process."""


@dataclass(slots=True)
class Slice:
    """A half-open range of rows of one log. `(log_id, start, end)` names it: sending it again carries the same name.

    `batches` are in log order and cover `start..end`, but for rows that a damaged disk has lost.
    """

    log_id: str
    pipeline: str
    signal: str
    start: int
    end: int
    batches: list[Batch]
    rows: int
    nbytes: int
    stored_bytes: int = 0
    """Its share of the log's bound."""
    requests: int = 0
    attempt: int = 0
    appended_at_s: float = 0.0
    offset: int = 0
    """Where its rows begin among those of the slice that it is a part of: with the number of rows, what tells the
    parts of a slice that was refused apart."""
    keys: tuple[str, ...] | None = None
    """Headers by which the slice is partitioned (`batch.partition.metadata_keys`); a repeat keeps to them."""
    pieces_done: int = 0
    """How many of its partitions are settled, so that a repeat leaves them out."""
    in_doubt: bool = False
    """An earlier process may have stored some or all of it: a store that can be asked for its rows should be."""
    plan: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the exporter has to know to repeat it (JSON values); parts of a slice share it."""
    remember: Callable[[], Awaitable[None]] = _nowhere
    """Writes the plan down, durably where the log is. Raises Retryable."""


class Exporter(Component):
    """Sends slices of a pipeline's log to a store.

    One instance may serve several pipelines: `export` is then called with slices of several logs, concurrently, and
    with `queue.num_consumers` > 1 with several slices of one log.

    What a store must offer for "exactly once": that a slice sent again under its name changes nothing, or that it can
    be asked whether it has a slice's rows. A slice that may be there already says so (`in_doubt`).
    """

    wants_completed: ClassVar[bool] = True
    """Whether rows must have been through `unify`; the graph adds one where the file names none."""
    forwards_payloads: ClassVar[bool] = False
    """Whether the request's own bytes do, so that no columns need to be built."""

    slice: SliceLimits = SliceLimits()
    """What suits the store; `sending_queue.batch` of the file overrides it."""
    retry: RetryOnFailure = RetryOnFailure()
    queue: SendingQueue = SendingQueue()
    dead_letter: DeadLetterSettings = DeadLetterSettings()
    timeout_s: float = 0.0
    """Bound of one attempt; 0 = the exporter bounds itself."""

    @property
    def apart_by(self) -> tuple[str, ...]:
        """Request headers whose values must not be mixed in one `export`, besides those that the file names."""
        return ()

    @abstractmethod
    async def export(self, part: Slice) -> None:
        """Stores the whole slice, or raises Retryable or Permanent having stored nothing that a repeat would double.

        A slice refused for good comes again in halves (`offset`, `rows`), unless the error says that rows are not at
        fault (`Permanent.splits`).
        """


class StreamExporter(Exporter):
    """An exporter whose unit of storing is larger than memory should hold (Parquet files).

    The sender calls `write` for consecutive parts of one log, then `publish(start, end)` over all of them once the
    limits of `slice` are reached or `full()` says so. On a log in memory the rows leave it after `write`; the
    cursor moves after `publish`. On a durable log the rows stay until then: after a crash the stream begins again at
    the cursor, and where `publish` had begun, it ends where that one ended, so that files of the same name replace
    what was published. One stream per (pipeline, exporter): methods get the pipeline through `part`.
    """

    part: SliceLimits = SliceLimits(min_rows=8192, max_bytes=16 << 20, max_age_s=1.0)
    """Size of what one `write` gets."""

    @abstractmethod
    async def write(self, part: Slice) -> None:
        """Appends to the unpublished stream, all or nothing: after Retryable the same part comes again."""

    @abstractmethod
    async def publish(self, log_id: str, start: int, end: int) -> None:
        """Makes what was written for `start..end` of that log visible, atomically per file; repeatable."""

    @abstractmethod
    async def abort(self, log_id: str) -> None:
        """Throws the unpublished stream away; the rows come again where the log still has them."""

    def fits(self, part: Slice) -> bool:
        """Whether the part can join what is unpublished of its log; if not, that is published first."""
        return True

    def full(self, log_id: str) -> bool:
        """Whether the stream should be published now (for example: bytes of the file reached)."""
        return False

    async def export(self, part: Slice) -> None:
        """One part as a whole: written and published."""
        await self.write(part)
        await self.publish(part.log_id, part.start, part.end)


RouteKind = Literal["otlp_http", "otlp_grpc", "python"]


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One route of a receiver, as data. `tenant_header` wins over `tenant` where the request has it.

    `share_status` is the answer to a tenant over its share of the listener's queue.
    """

    method: str
    path: str
    kind: RouteKind
    max_body_bytes: int
    tenant: str = ""
    tenant_header: str | None = None
    include_metadata: bool = False
    share_status: int = 429


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One endpoint a receiver listens on. Two specs with one `address` share the port and must agree on the rest."""

    address: str
    protocols: tuple[str, ...]
    settings: HTTPServer | GRPCServer


@dataclass(frozen=True, slots=True)
class Entry:
    """Where rows of one signal enter: routes on one server, with one protocol's outcome table.

    Args:
        signal: of the rows; the entry is served only when a pipeline of that signal names the receiver.
        server: where the routes stand.
        routes: at least one.
        transport: label of the Collector's metrics (`grpc` or `http`).
        protocol: key of `outcome.PROTOCOLS`.
        handler: for routes of kind `python`: called per request, answers it itself.
    """

    signal: Signal
    server: ServerSpec
    routes: tuple[RouteSpec, ...]
    transport: str
    protocol: str = "otlp"
    handler: Callable[[Any], Awaitable[None]] | None = None


class Receiver(Component):
    """Not a server: a table of entries that the shared listener serves. A scraping receiver has no entries and gets
    `consume` instead."""

    def entries(self) -> list[Entry]:
        """What to serve; read once, before `start`."""
        return []


class Extension(Component):
    """A capability for others: health checks, storage, authenticators, query servers."""

    @property
    def serves(self) -> list[str]:
        """What people can reach, and where, once it has started: `health on localhost:13133`."""
        return []


class Connector(Exporter, Receiver):
    """The end of some pipelines and the start of others: `export` gets slices, `emit` hands rows on.

    The graph sets `emit[signal]` before `start`; it returns after the rows are in every following pipeline's log and
    raises like an intake's refusal.
    """

    emit: dict[Signal, Callable[[list[Batch]], Awaitable[None]]]


@dataclass(frozen=True)
class Factory:
    """How the daemon knows a component; one per component module, found by entry point (`registry.py`).

    Args:
        type: the YAML type.
        kind: receiver | processor | exporter | connector | extension.
        config: the pydantic model of the component's section.
        create: makes an instance of an id and a validated config; does no I/O.
        signals: what it takes (receivers: gives); empty for extensions.
        aliases: older YAML spellings, accepted with a warning.
        stability: stable | beta | alpha.
        connects: connectors only: pairs (taken signal, given signal).
        lacks: why settings can not serve one of `signals`, and what to write; empty where they can.
    """

    type: str
    kind: Kind
    config: type[BaseModel]
    create: Callable[[ComponentId, Any], Component]
    signals: frozenset[Signal] = frozenset()
    aliases: tuple[str, ...] = ()
    stability: str = "beta"
    connects: frozenset[tuple[Signal, Signal]] = frozenset()
    lacks: Callable[[Any, Signal], str] | None = None

    @property
    def module(self) -> str:
        return self.create.__module__

    @property
    def doc(self) -> str:
        """The component's documentation: its module's docstring."""
        return (sys.modules[self.module].__doc__ or "").strip()


def signals(*names: Signal) -> frozenset[Signal]:
    """The set of signals of a factory; without names: the three of OTLP."""
    return frozenset(names or ("traces", "metrics", "logs"))
