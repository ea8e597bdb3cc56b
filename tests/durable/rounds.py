"""Crash rounds: clients send numbered rows, the daemon is killed, and in the end each store has each answered row once.

A round starts the daemon on what the last one left, loads it, and lets it die: killed at a random moment, or by itself
at a place that is armed (`colonnade.pipeline.faults`). A request without an answer is not sent again: its rows may be
stored or not, but in every pipeline alike, and never twice. With `resend` it is sent again, to a log with `dedup`: then
every row is stored once.
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import duckdb
import grpc
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

from tests.daemon_process import Config, Daemon, otlp_config
from tests.servers.clickhouse import ClickHouseServer
from tests.servers.questdb import QuestDBServer, require_questdb
from tests.servers.s3 import S3Server, require_s3

PLACES = ("note", "stored", "done", "append", "publish", "upload", "checkpoint", "drop")
CLIENTS = 4
ANSWER_WITHIN_S = 5.0
RECOVERED_WITHIN_S = 240.0
DAY_NS = 86_400_000_000_000
BASE_NS = 1_790_000_000_000_000_000
DEDUP = {"dedup": {"window": "1h"}}
QUICK = {
    "retry_on_failure": {"initial_interval": "20ms", "max_interval": "200ms"},
    "sending_queue": {
        "storage": "file_storage",
        "num_consumers": 3,
        "batch": {"min_size": 200, "max_size": 4000, "flush_timeout": "50ms"},
    },
}


class Stored(Protocol):
    """A store under test: what the daemon is told, and what it has in the end."""

    exporters: tuple[str, str]
    signal: str

    def config(self) -> Config: ...
    def disturb(self, random: random.Random) -> None: ...
    def rows(self, exporter: str) -> Counter[int]: ...
    def close(self) -> None: ...


def quiet_port() -> int:
    """A free port that no outgoing connection gets."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A ClickHouse server, killed now and then itself."""

    exporters = ("clickhouse", "clickhouse/second")
    signal = "logs"

    def __init__(self, folder: Path) -> None:
        # It comes back on its port, which nobody else may take meanwhile: connections begin at ports from 32768 on.
        self._arguments = ["--data", str(folder / "clickhouse"), "--http-port", str(quiet_port())]
        self._server = ClickHouseServer.start(*self._arguments)

    def config(self) -> Config:
        endpoint = {"endpoint": self._server.url, "database": "d", "timeout": "5s", **QUICK}
        return {"clickhouse": endpoint, "clickhouse/second": {**endpoint, "table": "second"}}

    def disturb(self, random: random.Random) -> None:
        if random.random() < 0.25:
            self._server.kill()
            self._server = ClickHouseServer.start(*self._arguments)

    def rows(self, exporter: str) -> Counter[int]:
        table = "second" if exporter.endswith("second") else "events"
        found = self._server.rows(f"SELECT log_message, count() FROM d.{table} GROUP BY log_message")
        return Counter({int(number): times for number, times in found})

    def close(self) -> None:
        self._server.stop()


class Embedded:
    """The engine within the daemon: it is killed with it."""

    exporters = ("clickhouse", "clickhouse/second")
    signal = "logs"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "embedded"

    def config(self) -> Config:
        endpoint = {"endpoint": f"embedded:{self._path}", **QUICK}
        return {"clickhouse": endpoint, "clickhouse/second": {**endpoint, "table": "second"}}

    def disturb(self, random: random.Random) -> None:
        """It has no life of its own."""

    def rows(self, exporter: str) -> Counter[int]:
        table = "second" if exporter.endswith("second") else "events"
        code = (
            "import sys, chdb; print(chdb.connect(sys.argv[1]).query("
            f"'SELECT log_message, count() FROM colonnade.{table} GROUP BY 1', 'JSONCompactEachRow').bytes().decode())"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code, str(self._path)], capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        return Counter(
            {int(number): int(times) for number, times in map(json.loads, filter(None, ended.stdout.splitlines()))}
        )

    def close(self) -> None:
        """Nothing runs."""


def archived(path: Path) -> Counter[int]:
    """The rows of an archive's files."""
    # Not what a server that was killed has left of its own beside them, nor what is hidden.
    files = [str(file) for file in path.glob("day=*/**/*.parquet")]
    if not files:
        return Counter()
    found = duckdb.sql(f"SELECT log_message::INT, count(*) FROM read_parquet({files}) GROUP BY 1")
    return Counter(dict(found.fetchall()))


class Archive:
    """Parquet files."""

    exporters = ("parquet", "parquet/second")
    signal = "logs"

    def __init__(self, folder: Path) -> None:
        self._paths = {name: folder / name.replace("/", "-") for name in self.exporters}

    def config(self) -> Config:
        quick = {**QUICK, "roll": {"max_rows": 700, "max_age": "100ms"}}
        return {name: {"path": str(path), **quick} for name, path in self._paths.items()}

    def disturb(self, random: random.Random) -> None:
        """Nothing to disturb."""

    def rows(self, exporter: str) -> Counter[int]:
        return archived(self._paths[exporter])

    def close(self) -> None:
        """Nothing runs."""


class BucketArchive:
    """Parquet files in a bucket, some of them in parts; its server is killed now and then itself."""

    exporters = ("parquet", "parquet/second")
    signal = "logs"

    def __init__(self, folder: Path) -> None:
        require_s3()
        self._arguments = ["--data", str(folder / "s3"), "--bucket", "archive", "--port", str(quiet_port())]
        self._server = S3Server.start(*self._arguments)

    def config(self) -> Config:
        quick = {**QUICK, "roll": {"max_rows": 700, "max_age": "100ms"}}
        return {name: {**self._server.section(f"archive/{name}"), **quick} for name in self.exporters}

    def disturb(self, random: random.Random) -> None:
        if random.random() < 0.25:
            self._server.kill()
            self._server = S3Server.start(*self._arguments)

    def rows(self, exporter: str) -> Counter[int]:
        return archived(self._server.folder(f"archive/{exporter}"))

    def close(self) -> None:
        self._server.stop()


class QuestDB:
    """A QuestDB, killed now and then itself. Numbers are values of gauges, or texts of logs in the wide table."""

    exporters = ("questdb", "questdb/second")
    signal = "metrics"

    def __init__(self, folder: Path) -> None:
        require_questdb()
        # It comes back on its port, as above.
        self._arguments = ["--data", str(folder / "questdb"), "--http-port", str(quiet_port())]
        self._server = QuestDBServer.start(*self._arguments)

    def config(self) -> Config:
        tables = {"metrics_tables": {"gauge": {"name": "gauge"}}, "events_table": {"name": "logs"}}
        second = {"metrics_tables": {"gauge": {"name": "second_gauge"}}, "events_table": {"name": "second_logs"}}
        section = {"endpoint": self._server.url, "timeout": "5s", **QUICK}
        return {"questdb": {**section, **tables}, "questdb/second": {**section, **second}}

    def disturb(self, random: random.Random) -> None:
        if random.random() < 0.25:
            self._server.kill()
            self._server = QuestDBServer.start(*self._arguments)

    def rows(self, exporter: str) -> Counter[int]:
        prefix = "second_" if exporter.endswith("second") else ""
        table, column = ("gauge", "metric_value") if self.signal == "metrics" else ("logs", "log_message")
        found = self._server.rows(prefix + table, f"{column}, count()", f"GROUP BY {column}")
        return Counter({int(float(number)): times for number, times in found})

    def close(self) -> None:
        self._server.stop()


class QuestDBEvents(QuestDB):
    """The same with logs, in the wide table."""

    signal = "logs"


@dataclass
class Ledger:
    """What clients know: numbers that were answered, and numbers whose request was never answered."""

    answered: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    again: list[list[int]] = field(default_factory=list)
    """Requests without an answer that are to be sent again, as they were."""
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def numbers(self, count: int) -> list[int]:
        with self._lock:
            first, self._next = self._next, self._next + count
            return list(range(first, first + count))

    def note(self, numbers: list[int], answered: bool) -> None:
        with self._lock:
            (self.answered if answered else self.unknown).update(numbers)
            if answered:
                self.unknown.difference_update(numbers)

    def to_repeat(self) -> list[int] | None:
        with self._lock:
            return self.again.pop() if self.again else None


def logs(numbers: list[int]) -> Message:
    """Log records whose text is a number, spread over three days."""
    made = ExportLogsServiceRequest()
    scope = made.resource_logs.add().scope_logs.add()
    for number in numbers:
        record = scope.log_records.add()
        record.time_unix_nano = BASE_NS + number % 3 * DAY_NS + number
        record.body.string_value = str(number)
    return made


def metrics(numbers: list[int]) -> Message:
    """Points whose value is a number, spread over three days; many have one series and one time."""
    made = ExportMetricsServiceRequest()
    points = made.resource_metrics.add().scope_metrics.add().metrics.add(name="numbers").gauge.data_points
    for number in numbers:
        points.add(time_unix_nano=BASE_NS + number % 3 * DAY_NS + number // 100, as_double=number)
    return made


class Way(NamedTuple):
    """How requests of a signal are made and sent."""

    request: Callable[[list[int]], Message]
    stub: Callable[[grpc.Channel], Any]
    path: str
    failed: str


WAYS = {
    "logs": Way(logs, LogsServiceStub, "/v1/logs", "exporter_send_failed_log_records"),
    "metrics": Way(metrics, MetricsServiceStub, "/v1/metrics", "exporter_send_failed_metric_points"),
}


@dataclass(frozen=True)
class Summary:
    """What rounds came to in which nothing was lost or doubled."""

    died_at: Counter[str] = field(default_factory=Counter[str])
    answered: int = 0
    unknown: int = 0
    unknown_stored: int = 0

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            self.died_at + other.died_at,
            self.answered + other.answered,
            self.unknown + other.unknown,
            self.unknown_stored + other.unknown_stored,
        )

    def __str__(self) -> str:
        deaths = ", ".join(f"{times} {place}" for place, times in sorted(self.died_at.items()))
        return (
            f"{self.died_at.total()} rounds ({deaths}), {self.answered} rows answered, 0 lost, 0 doubled; "
            f"{self.unknown} never answered, of which {self.unknown_stored} stored once"
        )


class Rounds:
    """A daemon's lives, one after another."""

    def __init__(self, store: Stored, folder: Path, seed: int, *, resend: bool = False) -> None:
        self.store = store
        self.resend = resend
        self.way = WAYS[store.signal]
        self.folder = folder
        self.random = random.Random(seed)
        self.ledger = Ledger()
        self.died_at: Counter[str] = Counter()
        self.config = otlp_config(
            store.config(),
            processors={"unify": {}},
            extensions={"file_storage": {"directory": "./log", "create_directory": True} | (DEDUP if resend else {})},
            signals=(store.signal,),
        )
        pipelines = self.config["service"]["pipelines"]
        first, second = store.exporters
        pipelines[store.signal] = {**pipelines[store.signal], "exporters": [first]}
        pipelines[f"{store.signal}/second"] = {**pipelines[store.signal], "exporters": [second]}

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self._one()

    def _one(self) -> None:
        place = self.random.choice((*PLACES, "", "", ""))
        armed = {"COLONNADE_DIE_AT": f"{place}:{self.random.randint(1, 12)}"} if place else {}
        try:
            daemon = Daemon.start(self.config, self.folder, env=armed, module="tests.durable.small")
        except AssertionError as died:
            if not place or "Error" in str(died):
                raise
            self.died_at[place] += 1
            return
        try:
            by_itself = self._load(daemon, 3.0 if place else self.random.uniform(0.05, 1.0))
        finally:
            daemon.kill()
        self.died_at[place if by_itself else "killed"] += 1
        assert "Traceback" not in daemon.output(), daemon.output()

    def _load(self, daemon: Daemon, seconds: float) -> bool:
        """Clients until the daemon has died, or is killed after so long while they send. Whether it died by itself."""
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS + 1) as threads:
            clients = [threads.submit(self._client, daemon, stop, n % 2 == 0, n) for n in range(CLIENTS)]
            disturbed = threads.submit(self.store.disturb, random.Random(self.random.random()))
            by_itself = daemon._ended.wait(seconds)
            daemon.kill()
            stop.set()
            for client in clients:
                client.result()
            disturbed.result()
        return by_itself

    def _client(self, daemon: Daemon, stop: threading.Event, over_grpc: bool, seed: int) -> None:
        mine = random.Random(f"{seed} {len(self.ledger.answered)}")
        send = self._grpc(daemon) if over_grpc else self._http(daemon)
        while not stop.is_set():
            numbers = self.ledger.to_repeat() or self.ledger.numbers(mine.choice((1, 10, 40, 300)))
            answered = send(self.way.request(numbers))
            self.ledger.note(numbers, answered)
            if not answered:
                if self.resend:
                    self.ledger.again.append(numbers)
                if daemon.process.poll() is not None:
                    return
                stop.wait(0.02)
                send = self._grpc(daemon) if over_grpc else self._http(daemon)

    def _grpc(self, daemon: Daemon) -> Callable[[Message], bool]:
        stub = self.way.stub(grpc.insecure_channel(daemon.grpc_endpoint))

        def send(request: Message) -> bool:
            try:
                answer = stub.Export(request, timeout=ANSWER_WITHIN_S)
            except grpc.RpcError:
                return False
            return not answer.HasField("partial_success")

        return send

    def _http(self, daemon: Daemon) -> Callable[[Message], bool]:
        connection = http.client.HTTPConnection(daemon.http_endpoint, timeout=ANSWER_WITHIN_S)
        headers = {"Content-Type": "application/x-protobuf"}

        def send(request: Message) -> bool:
            try:
                connection.request("POST", self.way.path, request.SerializeToString(), headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return False
            return answer.status == 200

        return send

    def check(self) -> Summary:
        """Lets a last daemon finish, and compares."""
        daemon = Daemon.start(self.config, self.folder, module="tests.durable.small")
        try:
            while (numbers := self.ledger.to_repeat()) is not None:
                assert self._http(daemon)(self.way.request(numbers))
                self.ledger.note(numbers, answered=True)
            daemon.wait_until(
                lambda: not daemon.metric("exporter_lag_rows"), RECOVERED_WITHIN_S, "everything is stored"
            )
            for counter in ("exporter_dead_letter_rows", "file_storage_lost_rows", self.way.failed):
                assert not daemon.metric(counter), (counter, daemon.output())
            assert daemon.drain() == 0, daemon.output()
        finally:
            daemon.kill()
        found = [self.store.rows(exporter) for exporter in self.store.exporters]
        lost = [sorted(self.ledger.answered - set(rows)) for rows in found]
        doubled = [sorted(number for number, times in rows.items() if times > 1) for rows in found]
        apart = sorted(set(found[0]) ^ set(found[1]))
        assert (lost, doubled, apart) == ([[], []], [[], []], []), self._told(lost, doubled, apart)
        strangers = set(found[0]) - self.ledger.answered - self.ledger.unknown
        assert not strangers
        left = [path.name for path in (self.folder / "log").glob("segment-*")]
        assert not left, f"drained, but {left} are left"
        unknown = self.ledger.unknown
        return Summary(self.died_at, len(self.ledger.answered), len(unknown), len(unknown & set(found[0])))

    def _told(self, lost: list[list[int]], doubled: list[list[int]], apart: list[int]) -> str:
        kept = self.folder.parent / f"{self.folder.name}-failed"
        shutil.copytree(self.folder, kept, dirs_exist_ok=True)
        short: Callable[[Any], Any] = lambda numbers: numbers[:20]  # noqa: E731
        return f"lost {[*map(short, lost)]}, doubled {[*map(short, doubled)]}, apart {apart[:20]}; see {kept}"
