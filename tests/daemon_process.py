"""A real daemon in a process of its own, for tests: start it with a configuration, ask its metrics, drain it, kill it.

The fixture is `start_daemon` of `conftest.py`:

    def test_x(start_daemon):
        daemon = start_daemon(otlp_config({"nop": None}))
        daemon.post("traces", body)
        assert daemon.metric("receiver_accepted_spans") == 10
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

READY_LINE = "Everything is ready"
READY_WITHIN_S = 40.0
DRAIN_WITHIN_S = 40.0
POLL_S = 0.02

Config = dict[str, Any]


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def otlp_config(
    exporters: Config,
    *,
    processors: Config | None = None,
    extensions: Config | None = None,
    http: Config | None = None,
    grpc: Config | None = None,
    signals: tuple[str, ...] = ("traces", "metrics", "logs"),
) -> Config:
    """OTLP on free ports into every exporter given, with the daemon's own metrics on a free port.

    Args:
        http, grpc: keys added to the receiver's `protocols.http` and `protocols.grpc`.
    """
    protocols = {
        "grpc": {"endpoint": f"127.0.0.1:{free_port()}", **(grpc or {})},
        "http": {"endpoint": f"127.0.0.1:{free_port()}", **(http or {})},
    }
    pipeline = {"receivers": ["otlp"], "processors": [*(processors or {})], "exporters": [*exporters]}
    return {
        "receivers": {"otlp": {"protocols": protocols}},
        "processors": processors or {},
        "exporters": exporters,
        "extensions": extensions or {},
        "service": {
            "extensions": [*(extensions or {})],
            "telemetry": {
                "logs": {"level": "info"},
                "metrics": {
                    "level": "detailed",
                    "readers": [
                        {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": free_port()}}}},
                    ],
                },
            },
            "pipelines": dict.fromkeys(signals, pipeline),
        },
    }


@dataclass(frozen=True)
class Answer:
    """What an HTTP request came back with."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Daemon:
    """A running `colonnade run`. `lines` is what it last printed."""

    config: Config
    folder: Path
    process: subprocess.Popen[str]
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=400))
    ready_after_s: float = 0.0
    _ready: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def start(
        cls,
        config: Config | str,
        folder: Path,
        env: dict[str, str] | None = None,
        args: tuple[str, ...] = (),
        module: str = "colonnade",
    ) -> Daemon:
        """Starts the daemon in `folder` and returns when it says that it is ready.

        Args:
            config: the configuration as a document, or as the text of a YAML file.
            module: what is run; one that changes the program for a test and then runs it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "pipeline.yaml"
        file.write_text(config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False))
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", module, "run", "--config", str(file), *args],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        daemon = cls(yaml.safe_load(config) if isinstance(config, str) else config, folder, process)
        threading.Thread(target=daemon._read, daemon=True).start()
        if not daemon._ready.wait(READY_WITHIN_S) or daemon._ended.is_set():
            daemon.kill()
            raise AssertionError(f"the daemon did not become ready:\n{daemon.output()}")
        daemon.ready_after_s = time.monotonic() - begun
        return daemon

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if READY_LINE in line:
                self._ready.set()
        self._ended.set()
        self._ready.set()

    def output(self) -> str:
        """What it printed, from the last lines back."""
        return "".join(self.lines)

    # --- where it listens

    @property
    def http_endpoint(self) -> str:
        """`host:port` of OTLP/HTTP."""
        return self.config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]

    @property
    def grpc_endpoint(self) -> str:
        """`host:port` of OTLP/gRPC."""
        return self.config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]

    @property
    def metrics_endpoint(self) -> str:
        """`host:port` of the daemon's own metrics."""
        readers = self.config["service"]["telemetry"]["metrics"]["readers"]
        prometheus = readers[0]["pull"]["exporter"]["prometheus"]
        return f"{prometheus['host']}:{prometheus['port']}"

    # --- requests

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        endpoint: str | None = None,
        timeout_s: float = 30.0,
    ) -> Answer:
        """One request on a connection of its own, to OTLP/HTTP unless `endpoint` says otherwise."""
        connection = http.client.HTTPConnection(endpoint or self.http_endpoint, timeout=timeout_s)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(
        self, signal_name: str, body: bytes, content_type: str = "application/x-protobuf", **headers: str
    ) -> Answer:
        """An OTLP/HTTP export request; `content_encoding="gzip"` becomes the header of that name."""
        sent = {"Content-Type": content_type, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.request("POST", f"/v1/{signal_name}", body, sent)

    # --- own metrics

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """Every sample of its own metrics; names without `otelcol_` and `_total`."""
        answer = self.request("GET", "/metrics", endpoint=self.metrics_endpoint)
        assert answer.status == 200, answer
        return [
            (sample.name.removeprefix("otelcol_").removesuffix("_total"), sample.labels, sample.value)
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        ]

    def metric(self, metric_name: str, **labels: str) -> float:
        """Sum of the samples of that name with these labels; 0 where there is none."""
        return sum(
            value
            for name, has, value in self.samples()
            if name == metric_name and all(has.get(k) == v for k, v in labels.items())
        )

    def wait_until(self, holds: Callable[[], bool], within_s: float = 30.0, what: str = "") -> None:
        """Asks again until `holds()`; AssertionError with the daemon's output when it never does."""
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"not within {within_s} s: {what or holds}\n{self.output()}")
            self._ended.wait(POLL_S)

    def wait_metric(self, metric_name: str, at_least: float, within_s: float = 30.0, **labels: str) -> None:
        """Returns once the metric has reached a value."""
        self.wait_until(
            lambda: self.metric(metric_name, **labels) >= at_least, within_s, f"{metric_name}{labels} >= {at_least}"
        )

    # --- its process

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return psutil.Process(self.process.pid).memory_info().rss

    def signal(self, number: int) -> None:
        """Sends a signal, for example SIGHUP for a reload."""
        self.process.send_signal(number)

    def drain(self) -> int:
        """SIGTERM; the exit status once it ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(DRAIN_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the daemon did not drain within {DRAIN_WITHIN_S} s:\n{self.output()}") from None
        self._ended.wait(5)
        return status

    def kill(self) -> None:
        """SIGKILL, as a power cut for the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._ended.wait(5)
