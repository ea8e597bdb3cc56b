"""The collectors that people use today, on the same load: the Go Collector and Rotel.

They are built or fetched on first use into a folder outside the repository. What can not be had is said and left out.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.cases import NOUNS, Case
from bench.products import Product, Running, Stores, Unavailable
from bench.stores import Server, Store, wait_rows
from tests.daemon_process import free_port

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "colonnade-peers"
HERE = Path(__file__).parent
COLLECTOR_VERSION = "0.161.0"
BUILDER = f"go.opentelemetry.io/collector/cmd/builder@v{COLLECTOR_VERSION}"
ROTEL_VERSION = "0.0.1a15"

READY_WITHIN_S = 20.0
ENDS_WITHIN_S = 30.0
POLL_S = 0.002
# Longer than either peer holds a batch back.
BATCH_LEAVES_WITHIN_S = 1.5

METRIC_TABLES = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def available() -> Iterator[Product]:
    """The peers that this machine can run; says loudly which it can not."""
    for name, fetch, product in (("the Go Collector", collector, GoCollector), ("Rotel", rotel, Rotel)):
        try:
            yield product(fetch())
        except (Unavailable, OSError, subprocess.CalledProcessError) as reason:
            print(f"SKIPPED: {name} can not be measured: {reason}", file=sys.stderr)


def collector() -> Path:
    """The Go Collector with what its configurations here need. Raises Unavailable without Go."""
    folder = CACHE / f"otelcol-{COLLECTOR_VERSION}"
    program = folder / "otelcol"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise Unavailable("building it needs Go 1.25 or newer (https://go.dev/dl/), and it is not on the PATH")
    print("building the Go Collector, a few minutes, once", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
    subprocess.run(["go", "install", BUILDER], check=True, env=env, stdout=sys.stderr)
    builder = [folder / "builder", "--config", HERE / "otelcol-builder.yaml"]
    subprocess.run(builder, check=True, env=env, cwd=folder, stdout=sys.stderr)
    (folder / "source" / "otelcol").rename(program)
    return program


def rotel() -> Path:
    """Rotel's agent, from its wheel. Raises CalledProcessError where there is none for this machine."""
    folder = CACHE / f"rotel-{ROTEL_VERSION}"
    program = folder / "rotel-agent"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--pre", "--dest", folder]
    subprocess.run([*pip, f"rotel=={ROTEL_VERSION}"], check=True, stdout=sys.stderr)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        program.write_bytes(wheel.read("rotel/rotel-agent"))
    program.chmod(0o755)
    return program


class RunningPeer(Running):
    """A peer's process."""

    def __init__(self, command: Sequence[str | Path], folder: Path, http: int, grpc: int, store: Store) -> None:
        """Raises Unavailable when it does not open its ports."""
        folder.mkdir(parents=True, exist_ok=True)
        self.http, self.grpc, self.store = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", store
        self._log = folder / "output.log"
        begun = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.pid = self._process.pid
        while not (_open(http) and _open(grpc)):
            if self._process.poll() is not None or time.monotonic() - begun > READY_WITHIN_S:
                self.stop()
                raise Unavailable(f"{command[0]} did not start: {self._log.read_text()[-1000:]}")
            time.sleep(POLL_S)
        self.ready_after_s = time.monotonic() - begun

    def accepted(self, case: Case) -> int | None:
        return None

    def settle(self, case: Case, rows: int) -> None:
        if isinstance(self.store, Server):
            wait_rows(self.store, rows)
        else:
            time.sleep(BATCH_LEAVES_WITHIN_S)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


def _open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class GoCollector(Product):
    """`otelcol`: its own schema, the settings of its README."""

    name = "go collector"

    def __init__(self, program: Path) -> None:
        self._program = program

    def start(self, case: Case, stores: Stores, folder: Path) -> Running:
        if case.store in ("nop", "forget"):
            return self._run({}, {"nop": None}, {}, folder, Store())
        if case.store != "clickhouse":
            raise Unavailable(f"it has no such store: {case.store}")
        tables = ["otel_traces", "otel_logs", *(f"otel_metrics_{kind}" for kind in METRIC_TABLES)]
        store = Server(stores.clickhouse(self.name), "bench", tables)
        exporter: dict[str, Any] = {
            "endpoint": f"tcp://127.0.0.1:{store.tcp_port}",
            "database": store.database,
            "create_schema": True,
            "async_insert": False,
        }
        if not case.durable:
            return self._run(
                {"batch": {"send_batch_size": 8192, "timeout": "1s"}}, {"clickhouse": exporter}, {}, folder, store
            )
        # Its `batch` processor answers before the queue on disk has the rows, so the queue makes the batches.
        exporter["sending_queue"] = {"storage": "file_storage", "batch": {"min_size": 8192, "flush_timeout": "1s"}}
        extensions = {"file_storage": {"directory": str(folder / "log"), "create_directory": True, "fsync": True}}
        return self._run({}, {"clickhouse": exporter}, extensions, folder, store)

    def start_sidecar(self, folder: Path) -> Running:
        processors = {"memory_limiter": {"check_interval": "1s", "limit_mib": 512}, "batch": None}
        return self._run(processors, {"nop": None}, {}, folder, Store())

    def _run(
        self,
        processors: dict[str, Any],
        exporters: dict[str, Any],
        extensions: dict[str, Any],
        folder: Path,
        store: Store,
    ) -> Running:
        http, grpc, metrics = free_port(), free_port(), free_port()
        pipeline = {"receivers": ["otlp"], "processors": [*processors], "exporters": [*exporters]}
        protocols = {"http": {"endpoint": f"127.0.0.1:{http}"}, "grpc": {"endpoint": f"127.0.0.1:{grpc}"}}
        prometheus = {"host": "127.0.0.1", "port": metrics}
        config = {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": processors,
            "exporters": exporters,
            "extensions": extensions,
            "service": {
                "extensions": [*extensions],
                "telemetry": {
                    "logs": {"level": "error"},
                    "metrics": {"readers": [{"pull": {"exporter": {"prometheus": prometheus}}}]},
                },
                "pipelines": dict.fromkeys(("traces", "metrics", "logs"), pipeline),
            },
        }
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "otelcol.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        return RunningCollector([self._program, "--config", file], folder, http, grpc, store, metrics)


class RunningCollector(RunningPeer):
    def __init__(
        self, command: Sequence[str | Path], folder: Path, http: int, grpc: int, store: Store, metrics: int
    ) -> None:
        super().__init__(command, folder, http, grpc, store)
        self._metrics = f"http://127.0.0.1:{metrics}/metrics"

    def accepted(self, case: Case) -> int:
        wanted = f"otelcol_receiver_accepted_{NOUNS[case.signal]}"
        with urllib.request.urlopen(self._metrics, timeout=30) as reply:
            page = reply.read().decode()
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return int(sum(sample.value for sample in samples if sample.name.removesuffix("_total") == wanted))


class Rotel(Product):
    """`rotel-agent` with its defaults. It has no counters of its own: its answers are taken at their word."""

    name = "rotel"

    def __init__(self, program: Path) -> None:
        self._program = program

    def start(self, case: Case, stores: Stores, folder: Path) -> Running:
        if case.store in ("nop", "forget"):
            return self.start_sidecar(folder)
        if case.store != "clickhouse" or case.durable:
            raise Unavailable("it has no such store" if not case.durable else "it has no log on disk")
        if case.signal not in ("traces", "logs"):
            raise Unavailable("its tables for metrics are not set up here")
        store = Server(stores.clickhouse(self.name), "bench", ["otel_traces", "otel_logs"])
        for statement in _statements(HERE / "rotel_tables.sql"):
            store.query(statement)
        prefix = "--clickhouse-exporter-"
        options = {"endpoint": f"http://127.0.0.1:{store.http_port}", "database": store.database}
        return self._run(
            ["--exporter", "clickhouse", *(text for key, value in options.items() for text in (prefix + key, value))],
            folder,
            store,
        )

    def start_sidecar(self, folder: Path) -> Running:
        return self._run(["--exporter", "blackhole"], folder, Store())

    def _run(self, options: list[str], folder: Path, store: Store) -> Running:
        http, grpc = free_port(), free_port()
        files = ["--pid-file", folder / "rotel.pid", "--log-file", folder / "rotel.log"]
        addresses = ["--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"]
        return RunningPeer([self._program, "start", *files, *addresses, *options], folder, http, grpc, store)


def _statements(file: Path) -> list[str]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("--")]
    return [statement for statement in "\n".join(lines).split(";") if statement.strip()]
