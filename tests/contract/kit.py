"""What the battery needs to know of a component: its registration, its documentation's sample, and rows to send it.

Nothing here names a component: what is registered is found in the registry, and its configuration in its docstring.
"""

from __future__ import annotations

import copy
import json
import re
import socket
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import pyarrow as pa
import yaml
from pydantic import BaseModel, ValidationError

from colonnade.daemon.configuration import Configuration, load
from colonnade.daemon.configuration.model import SECTIONS
from colonnade.daemon.demo import open_shop
from colonnade.native import Batch, decode, json_to_protobuf
from colonnade.pipeline.component import (
    KINDS,
    SIGNALS,
    ComponentId,
    Exporter,
    Factory,
    Kind,
    Receiver,
    Signal,
    Slice,
    SliceLimits,
)
from colonnade.pipeline.registry import GROUP, Registry, registry
from colonnade.pipeline.settings import RetryOnFailure, SendingQueue, Settings

NOW_NS = 1_772_600_767_000_000_000
VISITS = 3
SECTION: dict[Kind, str] = {kind: section for section, kind in SECTIONS.items()}

# `host:port` of an endpoint to listen on or to reach, and the URL of a server (what names a bucket is none).
ADDRESS = re.compile(r"[\w.\[\]:-]*:\d+")
URL = re.compile(r"((?!s3:)\w+://)[\w.\[\]:-]+(/\S*)?")

Document = dict[str, Any]


# --- what is registered


def names(*kinds: Kind) -> list[str]:
    """`kind.type` of every registered component of these kinds (default: of all); none is imported."""
    found = [f"{kind}.{type}" for kind in kinds or KINDS for type in registry().types(kind)]
    assert found or kinds, "the registry is empty"
    return found


def factory_of(name: str) -> Factory:
    """The factory; fails the test where it can not be imported."""
    kind, _, type = name.partition(".")
    return registry().get(next(k for k in KINDS if k == kind), type)[0]


@dataclass(frozen=True)
class Sample:
    """One component of a docstring's sample."""

    factory: Factory
    key: str
    settings: Document = field(compare=False)

    @property
    def signals(self) -> list[Signal]:
        """Of the pipelines that it can stand in; for a connector: at whose end."""
        taken = self.factory.signals or frozenset(pair[0] for pair in self.factory.connects)
        return [signal for signal in SIGNALS if signal in taken and takes(self.factory, self.settings, signal)]


def takes(factory: Factory, settings: Document | None, signal: Signal) -> bool:
    """Whether a component of these settings serves a signal of its factory; settings that are wrong are told first."""
    try:
        return factory.lacks is None or not factory.lacks(factory.config.model_validate(settings or {}), signal)
    except ValidationError:
        return True


def blocks(factory: Factory) -> list[Document]:
    """The samples of a module's docstring: its indented blocks that configure the component."""
    section = SECTION[factory.kind]
    found = re.findall(r"(?m)^((?: {4}.*\n|\n(?= {4}))+)", factory.doc + "\n")
    texts = [textwrap.dedent(block) for block in found]
    return [yaml.safe_load(text) for text in texts if re.search(rf"(?m)^{section}:", text)]


def samples(factory: Factory) -> list[Sample]:
    """Every component of the docstring's samples, with ports and servers that are nobody's."""
    found = [
        Sample(factory, key, at_home(factory.config, settings or {}))
        for block in blocks(factory)
        for key, settings in block[SECTION[factory.kind]].items()
        if ComponentId.parse(key).type == factory.type
    ]
    assert found, f"the docstring of {factory.module} has no sample of {SECTION[factory.kind]}"
    return found


# --- where components listen and send to


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def at_home(model: type[BaseModel], settings: Document, server: str | None = None) -> Document:
    """The settings with every address of loopback, on a port of its own; `server`: where URLs lead to instead.

    Also addresses that the file leaves out, because a default port may be taken.
    """
    moved = copy.deepcopy(settings)
    for path, value in _texts(model.model_validate(settings)):
        if URL.fullmatch(value):
            new = URL.sub(lambda m: f"{m[1]}{server or f'127.0.0.1:{free_port()}'}{m[2] or ''}", value)
        elif ADDRESS.fullmatch(value):
            new = server or f"127.0.0.1:{free_port()}"
        else:
            continue
        section = moved
        for key in path[:-1]:
            section[key] = section.get(key) or {}
            section = section[key]
        section[path[-1]] = new
    return moved


def reaches_out(sample: Sample) -> bool:
    """Whether it sends to a server."""
    return at_home(sample.factory.config, sample.settings, "127.0.0.1:1") != sample.settings


def _texts(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, info in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, info.alias or name)
        if isinstance(value, BaseModel):
            yield from _texts(value, here)
        elif isinstance(value, str):
            yield here, value


# --- a file around a component


class FeedConfig(Settings):
    """No keys."""


class Feed(Receiver):
    """Hands on what a test gives it: `consume[signal]` is the graph's."""

    consume: dict[str, Any]

    def __init__(self, id: ComponentId, config: FeedConfig) -> None:
        super().__init__(id)
        self.consume = {}


class CatchConfig(Settings):
    """The end of a pipeline, with a queue that a test may bound."""

    sending_queue: SendingQueue = SendingQueue()


class Catch(Exporter):
    """Keeps how many rows it got; `plan` says how it fails, attempt by attempt."""

    wants_completed = False
    slice = SliceLimits(min_rows=0, max_rows=0, max_bytes=0, max_age_s=0)
    retry = RetryOnFailure.model_validate({"initial_interval": "1us", "max_interval": "1us"})

    def __init__(self, id: ComponentId, config: CatchConfig) -> None:
        super().__init__(id)
        self.queue = config.sending_queue
        self.plan: Any = None
        self.rows = 0
        self.attempts = 0

    async def export(self, part: Slice) -> None:
        self.attempts += 1
        if self.plan is not None:
            await self.plan(self.attempts)
        assert sum(batch.rows for batch in part.batches) == part.rows
        self.rows += part.rows


@cache
def components() -> Registry:
    """What is installed, and the two ends that tests put around it."""
    every = frozenset(SIGNALS)
    ends = [
        Factory(type="feed", kind="receiver", config=FeedConfig, create=Feed, signals=every),
        Factory(type="catch", kind="exporter", config=CatchConfig, create=Catch, signals=every),
    ]
    installed: dict[str, Any] = {point.name: point for point in entry_points(group=GROUP)}
    return Registry(installed | {f"{end.kind}.{end.type}": end for end in ends})


def file_of(
    factory: Factory, section: Document, catch: Document | None = None, beside: Document | None = None
) -> Document:
    """A whole file in which every component of `section` (as in the docstring) stands where it belongs.

    Args:
        section: settings by id.
        catch: settings of the exporter that ends the pipelines.
        beside: further sections; their extensions are started too.
    """
    kind, keys = factory.kind, [*section]
    document: Document = {
        "receivers": {"feed": None},
        "exporters": {"catch": catch},
        "service": {"shutdown_timeout": "5s", "pipelines": {}},
    }
    sections = {**(beside or {}), SECTION[kind]: section}
    for name, components in sections.items():
        document[name] = {**document.get(name, {}), **components}
    document["service"]["extensions"] = [*document.get("extensions", {})]
    pipelines = document["service"]["pipelines"]
    if kind == "connector":
        for taken, given in sorted(factory.connects):
            pipelines.setdefault(f"{taken}/in", {"receivers": ["feed"], "exporters": keys})
            pipelines.setdefault(f"{given}/out", {"receivers": keys, "exporters": ["catch"]})
        return document
    for signal in SIGNALS:
        if kind == "extension" or signal in factory.signals:
            fit = [key for key in keys if kind == "extension" or takes(factory, section[key], signal)]
            pipelines[signal] = {
                "receivers": fit if kind == "receiver" else ["feed"],
                "processors": fit if kind == "processor" else [],
                "exporters": fit if kind == "exporter" and fit else ["catch"],
            }
    return document


def read(document: Document) -> Configuration:
    """The configuration of a document. Raises ConfigError."""
    return load([f"yaml:{json.dumps(document)}"], env={}, components=components())


# --- rows


@cache
def request(signal: Signal) -> bytes:
    """An OTLP request of a small shop."""
    return json_to_protobuf(signal, json.dumps(open_shop(1, VISITS, NOW_NS).request(signal)).encode())


@cache
def rows(signal: Signal) -> Batch:
    """Rows of a small shop."""
    if signal == "events":
        logs = rows("logs")
        return Batch.from_arrow(pa.record_batch(logs), "events", like=logs)
    batch, refused = decode(signal, [request(signal)], tenant="shop")
    assert batch.rows
    assert not refused
    return batch
