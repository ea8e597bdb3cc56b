"""The demo's shop is valid OTLP, the same for a seed, and believable enough to show every kind of row."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from colonnade.daemon.demo import SECOND, SERVICES, SIGNALS, demo_command, open_shop
from tests.daemon_process import free_port

NOW_NS = 1_772_600_767 * SECOND
REQUESTS = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}


@pytest.mark.parametrize("signal", SIGNALS)
def test_requests_are_otlp_by_the_official_schema(signal: str) -> None:
    request = json_format.ParseDict(open_shop(1, 20, NOW_NS).request(signal), REQUESTS[signal]())
    assert request.ByteSize() > 1000


def test_the_same_seed_makes_the_same_shop() -> None:
    assert open_shop(7, 30, NOW_NS).request("traces") == open_shop(7, 30, NOW_NS).request("traces")
    assert open_shop(7, 30, NOW_NS).request("traces") != open_shop(8, 30, NOW_NS).request("traces")


def test_spans_of_three_services_share_a_trace_and_lie_in_the_past() -> None:
    shop = open_shop(1, 60, NOW_NS)
    assert shop.rows("traces") > 300
    assert shop.orders > 20
    assert shop.declined > 0
    services: dict[str, set[str]] = {}
    for service, spans in shop.spans.items():
        for span in spans:
            services.setdefault(span["traceId"], set()).add(service)
            assert int(span["startTimeUnixNano"]) < int(span["endTimeUnixNano"]) <= NOW_NS
    assert set(SERVICES) in services.values()


def test_metrics_are_of_all_five_kinds() -> None:
    kinds = {kind for items in open_shop(1, 10, NOW_NS).metrics.values() for metric in items for kind in metric} - {
        "name",
        "unit",
    }
    assert kinds == {"sum", "gauge", "histogram", "exponentialHistogram", "summary"}


def test_every_bucket_count_adds_up() -> None:
    for items in open_shop(3, 50, NOW_NS).metrics.values():
        for metric in items:
            for point in metric.get("histogram", {}).get("dataPoints", []):
                assert sum(map(int, point["bucketCounts"])) == int(point["count"])
            for point in metric.get("exponentialHistogram", {}).get("dataPoints", []):
                assert sum(map(int, point["positive"]["bucketCounts"])) == int(point["count"])


OTLP = ("--source", "otlp")


class Sink(BaseHTTPRequestHandler):
    """Takes OTLP/HTTP and keeps it in `server.taken`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, self.headers, json.loads(body)))  # type: ignore[attr-defined]
        status, answer = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.taken, server.answer = [], (200, b"{}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_command_sends_three_signals_and_says_what_to_ask_next(sink: ThreadingHTTPServer) -> None:
    arguments = [
        "--endpoint",
        f"127.0.0.1:{sink.server_port}",
        "--visits",
        "5",
        "--header",
        "X-Tenant: acme",
        "--source",
        "otlp",
    ]
    result = CliRunner().invoke(demo_command, arguments)
    assert result.exit_code == 0, result.output
    assert [path for path, _, _ in sink.taken] == ["/v1/traces", "/v1/metrics", "/v1/logs"]  # type: ignore[attr-defined]
    assert sink.taken[0][1]["X-Tenant"] == "acme"  # type: ignore[attr-defined]
    assert "colonnade query" in result.output


def test_command_says_what_was_not_taken(sink: ThreadingHTTPServer) -> None:
    sink.answer = (200, b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "two were odd"}}')  # type: ignore[attr-defined]
    result = CliRunner().invoke(
        demo_command, ["--endpoint", f"127.0.0.1:{sink.server_port}", "--visits", "2", "--source", "otlp"]
    )
    assert "two were odd" in result.output


def test_command_names_a_refusal(sink: ThreadingHTTPServer) -> None:
    sink.answer = (503, b'{"message": "full"}')  # type: ignore[attr-defined]
    result = CliRunner().invoke(
        demo_command, ["--endpoint", f"127.0.0.1:{sink.server_port}", "--visits", "2", "--source", "otlp"]
    )
    assert result.exit_code == 1
    assert "answered 503" in result.output


def test_command_says_that_nobody_listens() -> None:
    result = CliRunner().invoke(
        demo_command, ["--endpoint", f"127.0.0.1:{free_port()}", "--visits", "2", "--source", "otlp"]
    )
    assert result.exit_code == 1
    assert "colonnade run" in result.output
