"""Who is let in: real clients of the SDK against a daemon, with and without what they should bring."""

from __future__ import annotations

import base64
import copy
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import grpc
import pytest
import yaml
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GRPCSpans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPSpans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from tests.daemon.test_requests import spans
from tests.daemon_process import Daemon, free_port, otlp_config
from tests.servers.programs import collector

TOKEN = "token-of-the-test-8f2c"
PASSWORD = "password-of-the-test-5d1a"
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
BEARER = {"bearertokenauth": {"token": TOKEN}}
BASIC = {"basicauth": {"htpasswd": {"inline": f"agent:{BCRYPT}\n"}}}

Start = Callable[..., Daemon]


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


RIGHT = {"bearertokenauth": f"Bearer {TOKEN}", "basicauth": basic("agent", PASSWORD)}
WRONG = {"bearertokenauth": "Bearer another", "basicauth": basic("agent", "another")}
SECTIONS = {"bearertokenauth": BEARER, "basicauth": BASIC}
every_authenticator = pytest.mark.parametrize("name", SECTIONS)


def guarded(extensions: dict[str, Any], **more: Any) -> dict[str, Any]:
    auth = {"auth": {"authenticator": next(iter(extensions))}}
    config = otlp_config({"nop": None}, extensions=extensions, signals=("traces",), http=auth, grpc=auth)
    return copy.deepcopy(config) | more


def sent(daemon: Daemon, protocol: str, credential: str) -> SpanExportResult:
    """What the SDK's exporter makes of the answer to one span."""
    headers = {"authorization": credential} if credential else {}
    if protocol == "grpc":
        exporter: Any = GRPCSpans(f"http://{daemon.grpc_endpoint}", insecure=True, headers=headers, timeout=5)
    else:
        exporter = HTTPSpans(f"http://{daemon.http_endpoint}/v1/traces", headers=headers, timeout=5)
    span = TracerProvider().get_tracer("test").start_span("work")
    span.end()
    try:
        return exporter.export([span])
    finally:
        exporter.shutdown()


@every_authenticator
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_sdk_clients_with_a_credential_are_let_in_and_others_are_not(
    name: str, protocol: str, start_daemon: Start
) -> None:
    daemon = start_daemon(guarded(SECTIONS[name]))
    assert sent(daemon, protocol, RIGHT[name]) is SpanExportResult.SUCCESS
    assert sent(daemon, protocol, WRONG[name]) is SpanExportResult.FAILURE
    assert sent(daemon, protocol, "") is SpanExportResult.FAILURE
    assert sent(daemon, protocol, RIGHT[name]) is SpanExportResult.SUCCESS
    daemon.wait_metric("exporter_sent_spans", 2)
    assert daemon.metric("receiver_accepted_spans") == 2
    assert daemon.metric("listener_refusals", reason="unauthenticated") == 2
    assert daemon.drain() == 0
    for secret in (TOKEN, PASSWORD, BCRYPT, "another"):
        assert secret not in daemon.output()


@pytest.mark.parametrize(
    ("name", "credential", "message"),
    [
        ("bearertokenauth", "", "missing or empty authorization header: Authorization"),
        ("bearertokenauth", "Bearer no", "provided authorization does not match expected scheme or token"),
        ("bearertokenauth", TOKEN, "provided authorization does not match expected scheme or token"),
        ("basicauth", "", "no basic auth provided"),
        ("basicauth", "Bearer x", "invalid authorization scheme prefix"),
        ("basicauth", "Basic %%%", "invalid authorization format"),
        ("basicauth", "Basic " + base64.b64encode(b"nocolon").decode(), "invalid authorization format"),
        ("basicauth", basic("nobody", PASSWORD), "invalid credentials"),
        ("basicauth", basic("agent", ""), "invalid credentials"),
    ],
)
def test_a_refusal_is_told_as_the_collector_tells_it(
    name: str, credential: str, message: str, start_daemon: Start
) -> None:
    daemon = start_daemon(guarded(SECTIONS[name]))
    given = {"Authorization": credential} if credential else {}
    answer = daemon.post("traces", spans(1), **given)
    assert answer.status == 401
    told = Status.FromString(answer.body)
    assert (answer.headers["content-type"], told.code, told.message) == ("application/x-protobuf", 16, message)
    answer = daemon.post("traces", b"{}", "application/json", **given)
    assert (answer.status, yaml.safe_load(answer.body)) == (401, {"code": 16, "message": message})
    metadata = [("authorization", credential)] if credential else []
    with grpc.insecure_channel(daemon.grpc_endpoint) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(METHOD)(b"", timeout=10, metadata=metadata)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, message)


def test_another_header_and_no_scheme(start_daemon: Start) -> None:
    daemon = start_daemon(guarded({"bearertokenauth": {"tokens": ["a1", "b2"], "scheme": "", "header": "X-Key"}}))
    assert [daemon.post("traces", spans(1), X_Key=key).status for key in ("a1", "b2", "c3")] == [200, 200, 401]
    # Not remembered, and judged each time.
    assert [daemon.post("traces", spans(1), X_Key="c3" * 2000).status for _ in range(2)] == [401, 401]


def test_tokens_of_a_file_change_at_once_for_those_who_were_let_in(start_daemon: Start, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("one  # of the first agent\n\ntwo\n")
    daemon = start_daemon(guarded({"bearertokenauth": {"filename": str(file)}}))

    def status(token: str) -> int:
        return daemon.post("traces", spans(1), Authorization=f"Bearer {token}").status

    assert [status(token) for token in ("one", "two", "three", "#")] == [200, 200, 401, 401]
    file.write_text("three\n")
    daemon.wait_until(lambda: status("one") == 401)
    assert [status(token) for token in ("two", "three")] == [401, 200]
    file.unlink()
    daemon.wait_until(lambda: "can not be read, what it held stays" in daemon.output())
    assert status("three") == 200


def test_a_file_that_is_not_there_yet_is_waited_for(start_daemon: Start, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    section = {"filename": str(file), "retry_on_failure": {"enabled": True, "interval": "50ms"}}
    daemon = start_daemon(guarded({"bearertokenauth": section}))
    answer = daemon.post("traces", spans(1), Authorization="Bearer one")
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    file.write_text("one")
    daemon.wait_until(lambda: daemon.post("traces", spans(1), Authorization="Bearer one").status == 200)


def test_a_reload_is_the_end_of_what_was_said_before(start_daemon: Start) -> None:
    config = guarded(BEARER)
    daemon = start_daemon(config)

    def status(token: str) -> int:
        return daemon.post("traces", spans(1), Authorization=f"Bearer {token}").status

    assert [status(TOKEN), status("new")] == [200, 401]
    config["extensions"]["bearertokenauth"]["token"] = "new"
    (daemon.folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
    daemon.signal(signal.SIGHUP)
    daemon.wait_until(lambda: status("new") == 200)
    assert status(TOKEN) == 401


def test_pages_of_browsers_may_ask_whether_they_may_send(start_daemon: Start) -> None:
    at = f"127.0.0.1:{free_port()}"
    config = guarded(BEARER, receivers={"segment": {"endpoint": at, "auth": {"authenticator": "bearertokenauth"}}})
    config["service"]["pipelines"] = {"events": {"receivers": ["segment"], "exporters": ["nop"]}}
    daemon = start_daemon(config)
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    event, right = b'{"userId": "u", "event": "order", "type": "track"}', {"Authorization": f"Bearer {TOKEN}"}
    assert daemon.request("OPTIONS", "/v1/track", headers=asked, endpoint=at).status == 204
    assert daemon.request("POST", "/v1/track", event, endpoint=at).status == 401
    assert daemon.request("POST", "/v1/track", event, right, endpoint=at).status == 200


@pytest.mark.peer
@pytest.mark.timeout(900)
@pytest.mark.parametrize("end", ["client", "server"])
def test_the_collectors_own_bearertokenauth_at_the_other_end(end: str, start_daemon: Start, tmp_path: Path) -> None:
    theirs = f"127.0.0.1:{free_port()}"
    program = collector(Path(__file__).with_name("collector.yaml"))
    guard = {"auth": {"authenticator": "bearertokenauth"}}
    if end == "client":
        ours = guarded(BEARER)
        target = ours["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
        exporter, receiver = {"endpoint": f"http://{target}", **guard}, {"endpoint": theirs}
    else:
        to_them = {"otlp_http": {"endpoint": f"http://{theirs}", **guard}}
        ours = otlp_config(to_them, extensions=BEARER, signals=("traces",))
        exporter, receiver = {"endpoint": "http://127.0.0.1:1"}, {"endpoint": theirs, **guard}
    section = {
        "extensions": {"bearertokenauth": {"token": TOKEN}},
        "receivers": {"otlp": {"protocols": {"http": receiver}}},
        "exporters": {"otlp_http": exporter, "debug": {"verbosity": "basic"}},
        "service": {
            "extensions": ["bearertokenauth"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["otlp_http" if end == "client" else "debug"]}
            },
        },
    }
    (tmp_path / "their.yaml").write_text(yaml.safe_dump(section))
    daemon = start_daemon(ours)
    their = subprocess.Popen([program, "--config", tmp_path / "their.yaml"], stderr=subprocess.PIPE, text=True)
    try:
        assert their.stderr is not None
        said: list[str] = []
        assert any("Everything is ready" in (said.append(line) or line) for line in their.stderr), said
        if end == "client":
            protobuf = {"Content-Type": "application/x-protobuf"}
            assert daemon.request("POST", "/v1/traces", spans(3), protobuf, endpoint=theirs).status == 200
            daemon.wait_metric("receiver_accepted_spans", 3)
        else:
            assert daemon.post("traces", spans(3)).status == 200
            daemon.wait_metric("exporter_sent_spans", 3)
    finally:
        their.kill()
        their.communicate()
