"""Requests through a running daemon: answered after the rows are in the log, counted, and lost by no reload."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from colonnade.native import RequestGroup
from tests.daemon_process import Daemon, otlp_config

pytestmark = pytest.mark.skipif(
    not hasattr(RequestGroup, "decode"), reason="this build's listener does not decode requests"
)


def spans(number: int) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for index in range(1, number + 1):
        span = scope.spans.add(name="s", trace_id=bytes([1] * 16), start_time_unix_nano=1, end_time_unix_nano=2)
        span.span_id = index.to_bytes(8, "big")
    return request.SerializeToString()


@pytest.fixture
def daemon(start_daemon: Callable[..., Daemon]) -> Daemon:
    return start_daemon(otlp_config({"nop": None}, signals=("traces",)))


def balances(daemon: Daemon) -> bool:
    """accepted = stored + in the log, for the one exporter at a time."""
    accepted = daemon.metric("pipeline_accepted_items")
    return accepted == daemon.metric("pipeline_stored_items") + daemon.metric("pipeline_in_log_items")


def test_request_is_answered_counted_and_stored(daemon: Daemon) -> None:
    assert daemon.post("traces", spans(10)).status == 200
    assert daemon.metric("receiver_accepted_spans", transport="http") == 10
    daemon.wait_metric("exporter_sent_spans", 10)
    assert balances(daemon)
    assert daemon.post("traces", b"\xff\xff").status == 400
    assert daemon.post("logs", b"").status == 404
    assert daemon.drain() == 0


def test_reloads_under_load_lose_nothing(daemon: Daemon) -> None:
    stop, accepted, refused = threading.Event(), [0], [0]

    def load() -> None:
        body = spans(5)
        while not stop.is_set():
            if daemon.post("traces", body).status == 200:
                accepted[0] += 5
            else:
                refused[0] += 1

    thread = threading.Thread(target=load)
    thread.start()
    for turn in range(6):
        config = yaml.safe_load(yaml.safe_dump(daemon.config))
        config["exporters"] = {f"nop/{turn}": None}
        config["service"]["pipelines"]["traces"]["exporters"] = [f"nop/{turn}"]
        (daemon.folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
        daemon.signal(signal.SIGHUP)
        daemon.wait_metric("exporter_sent_spans", 5, exporter=f"nop/{turn}")
    stop.set()
    thread.join()
    assert refused[0] == 0
    assert daemon.metric("receiver_accepted_spans") == accepted[0]
    daemon.wait_metric("exporter_sent_spans", accepted[0])
    # Rows of the moment of change may reach the exporter that leaves as well as the one that comes: two stores.
    assert daemon.metric("exporter_sent_spans") >= accepted[0]
    assert daemon.drain() == 0
