"""What is measured: cases by name, `store.protocol.signal.rows.encoding` and a few of their own.

`passthrough` is validated and not decoded; `durable` is ClickHouse with a log on disk before it; `latency` is one small
request at a time on an idle daemon.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import product
from typing import Literal

Store = Literal["nop", "clickhouse", "embedded", "parquet", "questdb", "forget"]
Protocol = Literal["http", "grpc"]
Signal = Literal["traces", "logs", "metrics", "gauges"]
Encoding = Literal["none", "gzip", "zstd"]

STORES: tuple[Store, ...] = ("nop", "clickhouse", "embedded", "parquet")
NOUNS: dict[Signal, str] = {
    "traces": "spans",
    "logs": "log_records",
    "metrics": "metric_points",
    "gauges": "metric_points",
}


@dataclass(frozen=True)
class Case:
    """A load and where its rows go.

    Attributes:
        rows: rows per request.
        rate: requests per second over all connections; 0 = as fast as answers come.
        attributes, distinct: of the corpus; None = as a shop's services have them.
        durable: whether the answer waits for a log on disk.
        cores: how many of the machine's the product may use; None = all.
    """

    name: str
    store: Store = "nop"
    protocol: Protocol = "http"
    signal: Signal = "traces"
    rows: int = 512
    encoding: Encoding = "none"
    connections: int = 32
    streams: int = 1
    rate: float = 0.0
    attributes: int | None = None
    distinct: int | None = None
    durable: bool = False
    cores: int | None = None

    def load_arguments(self) -> list[str]:
        """What the generator is told."""
        arguments = {
            "protocol": self.protocol,
            "signal": self.signal,
            "rows": self.rows,
            "encoding": self.encoding,
            "connections": self.connections,
            "streams": self.streams,
            "rate": self.rate,
            "attributes": self.attributes,
            "distinct": self.distinct,
        }
        return [text for key, value in arguments.items() if value is not None for text in (f"--{key}", str(value))]


def _with_connections(name: str, protocol: Protocol, **more: object) -> Case:
    """32 requests at once: a connection each over HTTP, 8 connections of 4 over gRPC."""
    connections, streams = (32, 1) if protocol == "http" else (8, 4)
    return Case(name, protocol=protocol, connections=connections, streams=streams, **more)  # type: ignore[arg-type]


def _matrix() -> Iterator[Case]:
    protocols: tuple[Protocol, ...] = ("http", "grpc")
    signals: tuple[Signal, ...] = ("traces", "logs", "metrics")
    encodings: tuple[Encoding, ...] = ("none", "gzip", "zstd")
    for store, protocol, signal, rows, encoding in product(STORES, protocols, signals, (512, 10), encodings):
        name = f"{store}.{protocol}.{signal}.{rows}.{encoding}"
        yield _with_connections(name, protocol, store=store, signal=signal, rows=rows, encoding=encoding)


def _others() -> Iterator[Case]:
    for store in ("nop", "clickhouse", "questdb"):
        yield Case(f"{store}.http.gauges.512.none", store=store, signal="gauges")
    yield Case("questdb.http.metrics.512.none", store="questdb", signal="metrics")
    for rows in (512, 10):
        yield Case(f"durable.http.traces.{rows}.none", store="clickhouse", rows=rows, durable=True)
    protocols: tuple[Protocol, ...] = ("http", "grpc")
    for protocol in protocols:
        for rows in (512, 10):
            name = f"passthrough.{protocol}.traces.{rows}.none"
            yield _with_connections(name, protocol, store="forget", rows=rows)
        yield Case(f"latency.{protocol}.traces.10.none", protocol=protocol, rows=10, connections=1, rate=100.0)


CASES: tuple[Case, ...] = (*_matrix(), *_others())


def chosen(patterns: list[str]) -> list[Case]:
    """Cases whose name has one of these beginnings or fits one of these patterns; all without any."""
    return [case for case in CASES if named(case.name, patterns)]


def named(name: str, patterns: list[str]) -> bool:
    """Whether a name is chosen: `nop`, `nop.grpc`, `*.logs.*`."""
    return not patterns or any(
        name == pattern or name.startswith(f"{pattern}.") or fnmatch(name, pattern) for pattern in patterns
    )
