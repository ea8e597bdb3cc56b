"""Every folder of examples/ run end to end: started on free ports, sent to, asked, drained."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.daemon_process import Answer, Daemon, free_port
from tests.docs.kit import TOP
from tests.servers.clickhouse import ClickHouseServer

EXAMPLES = TOP / "examples"
CERTIFICATES = TOP / "tests/listener/certificates"

Start = Callable[..., Daemon]


def test_every_example_is_run_here_and_says_what_it_is() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    source = Path(__file__).read_text()
    assert len(folders) >= 6
    for name in folders:
        assert (EXAMPLES / name / "README.md").is_file(), name
        assert f"def test_{name}_" in source, f"no test runs examples/{name}"
        assert f"(examples/{name}" in (TOP / "README.md").read_text(), f"README.md does not name examples/{name}"


class Example:
    """One example's daemon, on ports of its own."""

    def __init__(self, start: Start, name: str, *args: str, **env: str) -> None:
        text = (EXAMPLES / name / "pipeline.yaml").read_text()
        document = yaml.safe_load(text)
        self.ports: dict[str, int] = {}
        sets = [f"{key}={self._endpoint(key)}" for key in _endpoints(document)]
        reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self._port("metrics")}}}}
        sets.append(f"service.telemetry.metrics.readers={json.dumps([reader])}")
        flags = [flag for setting in sets for flag in ("--set", setting)]
        self.daemon = start(text, args=(*args, *flags), env=env)
        self.daemon.config["service"].setdefault("telemetry", {})["metrics"] = {"readers": [reader]}

    def _port(self, key: str) -> int:
        return self.ports.setdefault(key, free_port())

    def _endpoint(self, key: str) -> str:
        return f"127.0.0.1:{self._port(key.removesuffix('.endpoint').rpartition('.')[2])}"

    def post(self, signal: str, request: dict[str, Any], **headers: str) -> Answer:
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.daemon.request("POST", f"/v1/{signal}", json.dumps(request).encode(), sent, self.at("http"))

    def at(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    def command(self, *arguments: str) -> str:
        """Output of a `colonnade` command."""
        ended = subprocess.run(
            [sys.executable, "-m", "colonnade", *arguments],
            cwd=self.daemon.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended
        return ended.stdout

    def demo(self, *arguments: str) -> None:
        self.command("demo", "--endpoint", self.at("http"), "--visits", "5", *arguments)

    def stored(self, signal: str, exporter: str = "clickhouse") -> float:
        return self.daemon.metric("pipeline_stored_items", pipeline=signal, exporter=exporter)

    def wait_until_stored(self, exporter: str = "clickhouse") -> None:
        """What was accepted is in the store: the balance, with nothing left in the log."""
        for signal in ("traces", "metrics", "logs"):
            accepted = self.daemon.metric("pipeline_accepted_items", pipeline=signal)
            assert accepted > 0
            self.daemon.wait_until(lambda s=signal, n=accepted: self.stored(s, exporter) >= n, what=f"{signal} stored")

    def is_healthy(self) -> bool:
        return self.daemon.request("GET", "/", endpoint=self.at("health_check")).status == 200


def _endpoints(document: dict[str, Any]) -> list[str]:
    protocols = document["receivers"]["otlp"]["protocols"]
    found = [f"receivers.otlp.protocols.{name}.endpoint" for name in protocols]
    extensions = document.get("extensions", {})
    return found + [f"extensions.{name}.endpoint" for name, section in extensions.items() if "endpoint" in section]


def span(name: str, **attributes: str | int) -> dict[str, Any]:
    """A request of one span; integers as OTLP/JSON writes them."""
    values = [
        {"key": key, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
        for key, v in attributes.items()
    ]
    one = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": os.urandom(8).hex(),
        "name": name,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
        "attributes": values,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}


def test_sidecar_hands_on_to_a_gateway(
    start_daemon: Start, clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    store = {"CLICKHOUSE_URL": clickhouse_server.url, "CLICKHOUSE_DATABASE": clickhouse_database}
    gateway = Example(start_daemon, "gateway", **store)
    sidecar = Example(start_daemon, "sidecar", TENANT="acme", GATEWAY_ENDPOINT=f"http://{gateway.at('grpc')}")
    sidecar.demo()
    sidecar.wait_until_stored("otlp_grpc")
    assert sidecar.is_healthy()
    assert sidecar.daemon.drain() == 0
    assert gateway.daemon.drain() == 0
    (found,) = clickhouse_server.rows(
        f"SELECT uniqExact(event_type), groupUniqArray(ns) FROM {clickhouse_database}.events"
    )
    assert found == [3, ["acme"]]


def test_gateway_tells_tenants_apart(
    start_daemon: Start, clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    store = {"CLICKHOUSE_URL": clickhouse_server.url, "CLICKHOUSE_DATABASE": clickhouse_database}
    gateway = Example(start_daemon, "gateway", **store)
    for tenant in ("acme", "globex"):
        gateway.demo("--header", f"X-Scope-OrgID:{tenant}")
    assert gateway.post("traces", span("whose?")).status == 200
    assert gateway.is_healthy()
    assert gateway.daemon.drain() == 0
    rows = clickhouse_server.rows(f"SELECT ns, count() FROM {clickhouse_database}.events GROUP BY ns ORDER BY ns")
    assert [ns for ns, _ in rows] == ["acme", "globex", "unnamed"]
    assert rows[0][1] == rows[1][1] > rows[2][1] == 1


def test_gateway_with_tls_wants_a_clients_certificate(start_daemon: Start) -> None:
    # The store is nobody's: what counts here is the door.
    store = {"CLICKHOUSE_URL": f"http://127.0.0.1:{free_port()}", "GATEWAY_TLS": str(CERTIFICATES)}
    gateway = Example(start_daemon, "gateway", "--config", str(EXAMPLES / "gateway/tls.yaml"), **store)
    stranger = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    known = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    known.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client.key")

    def post(context: ssl.SSLContext) -> int:
        connection = http.client.HTTPSConnection("127.0.0.1", gateway.ports["http"], timeout=10, context=context)
        connection.request("POST", "/v1/traces", json.dumps(span("x")), {"Content-Type": "application/json"})
        return connection.getresponse().status

    assert post(known) == 200
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        post(stranger)
    gateway.daemon.kill()


def test_single_node_answers_queries_while_it_runs(start_daemon: Start) -> None:
    node = Example(start_daemon, "single_node", QUERY_PASSWORD="letmein")
    node.demo()
    node.wait_until_stored()
    config = str(EXAMPLES / "single_node/pipeline.yaml")
    endpoint = f"http://default:letmein@{node.at('clickhouse_query')}"
    sql = "SELECT event_type, count() FROM events GROUP BY ALL ORDER BY ALL FORMAT JSONCompact"
    answer = json.loads(node.command("query", "--config", config, "--endpoint", endpoint, sql))
    assert [row[0] for row in answer["data"]] == ["log", "metric", "trace"]
    assert node.daemon.request("GET", "/?query=SELECT+1", endpoint=node.at("clickhouse_query")).status == 401
    assert node.is_healthy()
    assert node.daemon.drain() == 0


def test_archive_stores_twice(
    start_daemon: Start, clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    import duckdb

    store = {"CLICKHOUSE_URL": clickhouse_server.url, "CLICKHOUSE_DATABASE": clickhouse_database}
    archive = Example(start_daemon, "archive", **store)
    archive.demo()
    archive.wait_until_stored()
    assert archive.daemon.drain() == 0
    sql = "SELECT event_type, count() FROM {} GROUP BY event_type ORDER BY event_type"
    in_server = [tuple(row) for row in clickhouse_server.rows(sql.format(f"{clickhouse_database}.events"))]
    files = archive.daemon.folder / "archive/**/*.parquet"
    in_archive = duckdb.sql(sql.format(f"read_parquet('{files}', hive_partitioning = true)")).fetchall()
    assert len(in_server) == 3
    assert in_archive == in_server


def test_own_component_is_found_once_its_package_is_installed(start_daemon: Start, tmp_path: Path) -> None:
    # A build leaves files beside its sources.
    source = shutil.copytree(EXAMPLES / "own_component", tmp_path / "source")
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([sys.executable, *install, str(tmp_path / "installed"), str(source)], check=True, timeout=120)
    path = os.pathsep.join([str(tmp_path / "installed"), os.environ.get("PYTHONPATH", "")])
    own = Example(start_daemon, "own_component", PYTHONPATH=path)
    for name, target, status in (
        ("probe", "/healthz", 200),
        ("failed probe", "/healthz", 503),
        ("sale", "/buy", 200),
    ):
        attributes = {"url.path": target, "http.response.status_code": status}
        assert own.post("traces", span(name, **attributes)).status == 200
    metric = own.daemon.metric
    assert metric("receiver_accepted_spans") == 3
    assert metric("processor_dropped_items", processor="drop_probes", outcome="filtered", reason="probe") == 1
    own.daemon.wait_metric("exporter_sent_spans", 2)
    assert metric("pipeline_accepted_items") == metric("pipeline_filtered_items") + metric("pipeline_stored_items")
    assert own.daemon.drain() == 0


def test_hello_sdk_sends_all_three_signals(start_daemon: Start) -> None:
    node = Example(start_daemon, "single_node")
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{node.at('http')}", "OTEL_SERVICE_NAME": "shop"}
    hello = subprocess.run(
        [sys.executable, EXAMPLES / "hello_sdk/hello.py"], env=env, capture_output=True, text=True, timeout=60
    )
    assert hello.returncode == 0, hello.stderr
    assert hello.stderr == ""
    trace_id = hello.stdout.split()[-1]
    node.wait_until_stored()
    query = urllib.parse.quote(
        f"SELECT event_type, service_name FROM events WHERE trace_id = '{trace_id}' ORDER BY ALL"
    )
    found = node.daemon.request("GET", f"/?query={query}", endpoint=node.at("clickhouse_query"))
    assert found.body.decode().split() == ["log", "shop", "trace", "shop"]
    assert node.daemon.metric("receiver_accepted_metric_points") == 1
    assert node.daemon.drain() == 0
