"""Requests that are refused, through a running daemon: exact status and body, the counter that moves, and the next
request is served. The cases are in `cases/refused.yaml`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.rpc import status_pb2

from tests.daemon_process import Answer, Daemon, otlp_config
from tests.wire.payloads import METHODS, payload

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cases" / "refused.yaml").read_text())
MEDIA = {"protobuf": "application/x-protobuf", "json": "application/json"}
NOUNS = {"traces": "spans", "metrics": "metric_points", "logs": "log_records"}


def cases(protocol: str) -> Any:
    chosen = [case for case in CASES if protocol in case]
    assert chosen
    return pytest.mark.parametrize("case", chosen, ids=[case["name"] for case in chosen])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon.start(otlp_config({"nop": None}, processors={"unify": None}), tmp_path_factory.mktemp("refused"))
    yield daemon
    assert daemon.drain() == 0, daemon.output()


class Counters:
    """What moved since."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.before = self.read()

    def read(self) -> dict[tuple[str, str], float]:
        """Requests refused and answered, and rows taken."""
        found: dict[tuple[str, str], float] = {}
        for name, labels, value in self.daemon.samples():
            if name in ("listener_refusals", "listener_requests", "receiver_requests_refused_undecoded"):
                key = name, labels.get("reason") or labels.get("answer") or labels["code"]
                found[key] = found.get(key, 0) + value
            elif name.startswith("receiver_accepted_") or name == "pipeline_accepted_items":
                found["rows", ""] = found.get(("rows", ""), 0) + value
        return found

    def moved(self) -> dict[tuple[str, str], float]:
        return {
            key: value - self.before.get(key, 0)
            for key, value in self.read().items()
            if value != self.before.get(key, 0)
        }


def expected_counts(case: dict[str, Any], answer: str) -> dict[tuple[str, str], float]:
    counts = {("listener_requests", answer): 1.0, ("listener_refusals", case["reason"]): 1.0}
    if "counted" in case:
        counts["receiver_requests_refused_undecoded", case["counted"]] = 1.0
    return counts


def served(daemon: Daemon) -> bool:
    """Whether an ordinary request is answered, over both protocols."""
    with grpc.insecure_channel(daemon.grpc_endpoint) as channel:
        accepted = channel.unary_unary(METHODS["traces"])(payload("good"), timeout=10) == b""
    return accepted and daemon.post("traces", payload("good")).status == 200


def send_http(daemon: Daemon, case: dict[str, Any]) -> Answer:
    media = MEDIA.get(case.get("as", "protobuf"), case.get("as"))
    headers = {"Content-Type": media} if media else {}
    if "encoding" in case:
        headers["Content-Encoding"] = case["encoding"]
    path = case.get("path") or f"/v1/{case.get('signal', 'traces')}"
    return daemon.request(case.get("method", "POST"), path, payload(case["send"]), headers)


@cases("http")
def test_http(daemon: Daemon, case: dict[str, Any]) -> None:
    counters, expected = Counters(daemon), case["http"]
    answer = send_http(daemon, case)
    assert (answer.status, told(answer)) == (expected["status"], expected["says"])
    assert "retry-after" not in answer.headers
    counts = expected_counts(case, f"http {expected['status']}")
    daemon.wait_until(lambda: counters.moved() == counts, 10, f"{counts}, not {counters.moved()}")
    assert served(daemon)


def told(answer: Answer) -> str:
    """The message of an answer in its own encoding; a refusal in protobuf or JSON is INVALID_ARGUMENT."""
    media = answer.headers["content-type"]
    if media == "text/plain":
        return answer.body.decode()
    if media == "application/json":
        status = json.loads(answer.body)
        assert status == {"code": 3, "message": status["message"]}
        return status["message"]
    assert media == "application/x-protobuf"
    status = status_pb2.Status.FromString(answer.body)
    assert (status.code, len(status.details)) == (3, 0)
    return status.message


@cases("grpc")
def test_grpc(daemon: Daemon, case: dict[str, Any], h2_request: Any) -> None:
    counters, expected = Counters(daemon), case["grpc"]
    packed = "encoding" in case
    body = payload(case["send"])
    headers = {"content-type": case.get("as", "application/grpc"), "te": "trailers"}
    if packed:
        headers["grpc-encoding"] = case["encoding"]
    port = int(daemon.grpc_endpoint.rpartition(":")[2])
    path = case.get("path") or METHODS[case.get("signal", "traces")]
    answer = h2_request(port, path, bytes([packed]) + len(body).to_bytes(4, "big") + body, headers)
    if "says" not in expected:
        assert answer[":status"] == str(expected["status"])
        kind = f"http {expected['status']}"
    else:
        code = getattr(grpc.StatusCode, expected["status"]).value[0]
        assert (answer[":status"], answer["grpc-status"]) == ("200", str(code))
        assert answer["grpc-message"] == expected["says"]
        kind = f"grpc {code}"
    counts = expected_counts(case, kind)
    daemon.wait_until(lambda: counters.moved() == counts, 10, f"{counts}, not {counters.moved()}")
    assert served(daemon)


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_empty_requests_are_accepted_and_bring_nothing(daemon: Daemon, signal: str) -> None:
    counters = Counters(daemon)
    for body, media in [(b"", "application/x-protobuf"), (b"{}", "application/json")]:
        answer = daemon.post(signal, body, media)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, body, media)
    with grpc.insecure_channel(daemon.grpc_endpoint) as channel:
        assert channel.unary_unary(METHODS[signal])(b"", timeout=10) == b""
    counts = {("listener_requests", "http 200"): 2.0, ("listener_requests", "grpc 0"): 1.0}
    daemon.wait_until(lambda: counters.moved() == counts, 10)
