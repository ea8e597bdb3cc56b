"""What exporters add to their requests, and how it changes: against real servers that say what came."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.daemon.test_requests import spans
from tests.daemon_process import Daemon, otlp_config
from tests.exporters.kit import grpc_server

from .test_receivers import BASIC, BEARER, PASSWORD, TOKEN, guarded

Start = Callable[..., Daemon]
LOGIN = {"basicauth/client": {"client_auth": {"username": "agent", "password": PASSWORD}}}


def sender(to: str, extensions: dict[str, Any], auth: str, protocol: str = "grpc", **keys: Any) -> dict[str, Any]:
    """A daemon that keeps request headers and forwards spans."""
    target = {"endpoint": to, "tls": {"insecure": True}, "auth": {"authenticator": auth}, **keys}
    kept = {"include_metadata": True}
    name = f"otlp_{protocol}"
    return otlp_config({name: target}, extensions=extensions, signals=("traces",), http=kept, grpc=kept)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    ("theirs", "ours", "name"), [(BEARER, BEARER, "bearertokenauth"), (BASIC, LOGIN, "basicauth/client")]
)
def test_a_sidecar_is_let_in_by_its_gateway(
    theirs: dict[str, Any], ours: dict[str, Any], name: str, protocol: str, start_daemon: Start
) -> None:
    gateway = start_daemon(guarded(theirs))
    to = gateway.grpc_endpoint if protocol == "grpc" else f"http://{gateway.http_endpoint}"
    sidecar = start_daemon(sender(to, ours, name, protocol))
    assert sidecar.post("traces", spans(5)).status == 200
    gateway.wait_metric("exporter_sent_spans", 5)
    sidecar.wait_metric("exporter_sent_spans", 5)
    assert "without encryption" not in sidecar.output()
    printed = sidecar.output() + gateway.output()
    assert TOKEN not in printed
    assert PASSWORD not in printed


def test_a_gateway_that_refuses_the_credential_parks_rows_and_says_so(start_daemon: Start) -> None:
    gateway = start_daemon(guarded(BEARER))
    sidecar = start_daemon(sender(gateway.grpc_endpoint, {"bearertokenauth": {"token": "x"}}, "bearertokenauth"))
    assert sidecar.post("traces", spans(5)).status == 200
    sidecar.wait_metric("exporter_dead_letter_rows", 5)
    assert "UNAUTHENTICATED: provided authorization does not match expected scheme or token" in sidecar.output()


def test_a_password_in_a_file_changes_without_a_restart(start_daemon: Start, tmp_path: Path) -> None:
    (tmp_path / "name").write_text("me\n")
    (tmp_path / "password").write_text("first\n")
    login = {"username_file": str(tmp_path / "name"), "password_file": str(tmp_path / "password"), "username": "no"}
    with grpc_server() as server:
        daemon = start_daemon(sender(server.endpoint, {"basicauth": {"client_auth": login}}, "basicauth"))

        def arrived(password: str) -> bool:
            daemon.post("traces", spans(1))
            wanted = base64.b64encode(f"me:{password}".encode()).decode()
            return any(found["authorization"] == f"Basic {wanted}" for found in server.metadata)

        daemon.wait_until(lambda: arrived("first"))
        (tmp_path / "password").write_text("second\n")
        daemon.wait_until(lambda: arrived("second"))
    assert "second" not in daemon.output()


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_rows_of_different_tenants_go_apart_each_with_its_own_header(
    storage: str, start_daemon: Start, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("of-a-file\n")
    headers = [
        {"key": "X-Scope-OrgID", "from_context": "X-Tenant", "default_value": "nobody"},
        {"key": "X-Key", "value_file": str(tmp_path / "key"), "action": "insert"},
        {"key": "X-Given", "value": "another", "action": "insert"},
        {"key": "X-Changed", "value": "changed", "action": "update"},
        {"key": "X-Absent", "value": "no", "action": "update"},
        {"key": "X-Gone", "action": "delete"},
    ]
    section: dict[str, Any] = {"headers_setter": {"headers": headers, "additional_auth": "bearertokenauth"}}
    given = {"x-given": "as it is", "x-changed": "before", "x-gone": "soon"}
    with grpc_server() as server:
        config = sender(server.endpoint, section | BEARER, "headers_setter", headers=given)
        if storage == "disk":
            config["extensions"]["file_storage"] = {"directory": "./log", "create_directory": True}
            config["service"]["extensions"].append("file_storage")
            queue = {"storage": "file_storage", "batch": {"flush_timeout": "500ms", "min_size": 100}}
            config["exporters"]["otlp_grpc"]["sending_queue"] = queue
        daemon = start_daemon(config)
        for tenant in ("acme", "globex", "acme"):
            assert daemon.post("traces", spans(2), X_Tenant=tenant).status == 200
        assert daemon.post("traces", spans(1)).status == 200
        daemon.wait_metric("exporter_sent_spans", 7)
        assert daemon.drain() == 0
    rows: dict[str, int] = {}
    for body, metadata in zip(server.requests, server.metadata, strict=True):
        message = ExportTraceServiceRequest.FromString(body)
        count = sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)
        rows[metadata["x-scope-orgid"]] = rows.get(metadata["x-scope-orgid"], 0) + count
        assert metadata["authorization"] == f"Bearer {TOKEN}"
        assert (metadata["x-key"], metadata["x-given"], metadata["x-changed"]) == ("of-a-file", "as it is", "changed")
        assert not {"x-absent", "x-gone"} & set(metadata)
    assert rows == {"acme": 4, "globex": 2, "nobody": 1}


def test_an_exporter_uses_the_authenticator_that_a_reload_brought(start_daemon: Start) -> None:
    with grpc_server() as server:
        config = sender(server.endpoint, {"bearertokenauth": {"token": "one"}}, "bearertokenauth")
        daemon = start_daemon(config)

        def arrived(token: str) -> bool:
            daemon.post("traces", spans(1))
            return any(found["authorization"] == f"Bearer {token}" for found in server.metadata)

        daemon.wait_until(lambda: arrived("one"))
        config["extensions"]["bearertokenauth"]["token"] = "two"
        (daemon.folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
        daemon.signal(1)
        daemon.wait_until(lambda: arrived("two"))
