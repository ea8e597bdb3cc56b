"""Certificates that change under a running daemon, tenants by header, and credentials that nobody checks."""

from __future__ import annotations

import http.client
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from tests.daemon_process import Config, Daemon, otlp_config
from tests.listener.test_tls import HERE as CERTIFICATES
from tests.servers.clickhouse import ClickHouseServer
from tests.wire.payloads import METHODS, payload, spans
from tests.wire.stores import EAGER

Start = Callable[..., Daemon]


def install(folder: Path, name: str) -> None:
    """Puts the certificate and key of that name where the daemon looks for them."""
    for part in ("pem", "key"):
        shutil.copy(CERTIFICATES / f"{name}.{part}", folder / f"live.{part}")


def tls(folder: Path, **more: Any) -> Config:
    return {"tls": {"cert_file": str(folder / "live.pem"), "key_file": str(folder / "live.key"), **more}}


def served_by(daemon: Daemon) -> str:
    """The common name of the certificate that an accepted request met."""
    host, _, port = daemon.http_endpoint.rpartition(":")
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    connection = http.client.HTTPSConnection(host, int(port), timeout=10, context=context)
    try:
        connection.request("POST", "/v1/traces", payload("good"), {"Content-Type": "application/x-protobuf"})
        name = connection.sock.getpeercert()["subject"][0][0][1]  # type: ignore[union-attr]
        assert connection.getresponse().status == 200
        return name
    finally:
        connection.close()


def reload(daemon: Daemon, says: str) -> None:
    before = daemon.output().count(says)
    daemon.signal(signal.SIGHUP)
    daemon.wait_until(lambda: daemon.output().count(says) > before, what=says)


def test_reload_reads_changed_certificates_though_the_file_names_the_same(start_daemon: Start, tmp_path: Path) -> None:
    install(tmp_path, "server")
    daemon = start_daemon(otlp_config({"nop": None}, http=tls(tmp_path), grpc=tls(tmp_path), signals=("traces",)))
    assert served_by(daemon) == "server"
    install(tmp_path, "other")
    assert served_by(daemon) == "server"
    reload(daemon, "reloaded; listening")
    assert served_by(daemon) == "other"
    credentials = grpc.ssl_channel_credentials((CERTIFICATES / "ca.pem").read_bytes())
    with grpc.secure_channel(daemon.grpc_endpoint, credentials) as channel:
        assert channel.unary_unary(METHODS["traces"])(payload("good"), timeout=10) == b""


def test_reload_with_a_broken_certificate_is_refused_and_changes_nothing(start_daemon: Start, tmp_path: Path) -> None:
    install(tmp_path, "server")
    config = otlp_config({"nop": None}, http=tls(tmp_path), signals=("traces",))
    daemon = start_daemon(config)
    (tmp_path / "live.pem").write_text("not PEM")
    changed = yaml.safe_load(yaml.safe_dump(config))
    changed["exporters"] = {"nop/new": None}
    changed["service"]["pipelines"]["traces"]["exporters"] = ["nop/new"]
    (daemon.folder / "pipeline.yaml").write_text(yaml.safe_dump(changed))
    reload(daemon, "reload refused, the old configuration keeps running: cannot start pipelines: TLS on")
    assert served_by(daemon) == "server"
    daemon.wait_metric("exporter_sent_spans", 1, exporter="nop")
    assert daemon.metric("exporter_sent_spans", exporter="nop/new") == 0
    assert daemon.drain() == 0


def test_certificates_are_read_again_by_themselves(start_daemon: Start, tmp_path: Path) -> None:
    install(tmp_path, "server")
    config = otlp_config({"nop": None}, http=tls(tmp_path, reload_interval="1ms"), signals=("traces",))
    daemon = start_daemon(config)
    assert served_by(daemon) == "server"
    install(tmp_path, "other")
    daemon.wait_until(lambda: served_by(daemon) == "other", 10)


def test_tenants_come_from_the_header_else_the_default(
    start_daemon: Start, clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    store = {"clickhouse": {"endpoint": clickhouse_server.url, "database": clickhouse_database, **EAGER}}
    config = otlp_config(store, signals=("traces",))
    config["receivers"]["otlp"]["tenant"] = {"header": "X-Scope-OrgID", "default": "house"}
    daemon = start_daemon(config)
    assert daemon.post("traces", spans(1, name="http"), X_Scope_OrgID="acme").status == 200
    assert daemon.post("traces", spans(1, name="none")).status == 200
    assert daemon.post("traces", spans(1, name="odd"), X_Scope_OrgID="Acme Corp/EU").status == 200
    with grpc.insecure_channel(daemon.grpc_endpoint) as channel:
        call = channel.unary_unary(METHODS["traces"])
        assert call(spans(1, name="grpc"), timeout=10, metadata=[("x-scope-orgid", "globex")]) == b""
    daemon.wait_metric("exporter_sent_spans", 4)
    found = clickhouse_server.rows(f"SELECT event_name, ns FROM {clickhouse_database}.events ORDER BY 1")
    assert found == [["grpc", "globex"], ["http", "acme"], ["none", "house"], ["odd", "acme-corp-eu"]]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_credentials_that_nobody_would_check_are_a_configuration_error(tmp_path: Path, protocol: str) -> None:
    config = otlp_config({"nop": None}, **{protocol: {"auth": {"authenticator": "bearertokenauth"}}})  # type: ignore[arg-type]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "colonnade", "validate", "--config", "p.yaml"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert ended.returncode == 1
    assert f"receivers::otlp::protocols::{protocol}::auth::authenticator: failed to resolve" in ended.stderr
