"""Requests that pass through: whole in the log, undecoded where nobody needs columns, and from daemon to daemon."""

from __future__ import annotations

import select
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from colonnade import native
from colonnade.pipeline.component import SliceLimits
from colonnade.pipeline.dead_letter import DeadLetters
from colonnade.pipeline.errors import Permanent
from colonnade.pipeline.forwarding import requests
from colonnade.pipeline.log import Append, MemoryLog
from colonnade.pipeline.settings import DeadLetterSettings, SendingQueue
from tests.daemon_process import Daemon, free_port, otlp_config
from tests.listener.kit import OK, TRACES, Serving, open_and_accept, routes, serving

from .kit import grpc_server, request, slice_of


def undecoded(*bodies: bytes) -> native.Batch:
    """The batch that the intake makes where every exporter forwards, of requests that waited together."""

    listener = native.Listener()
    server = listener.serve("127.0.0.1:0")
    server.set_routes(routes())
    at = Serving(listener, server, open_and_accept)
    clients = [threading.Thread(target=at.post, args=(body,)) for body in bodies]
    for client in clients:
        client.start()
        assert select.select([listener.fileno()], [], [], 10)[0]
        listener.ready()
    group = listener.take(TRACES)
    assert group is not None
    batch = group.decode(columns=False)
    group.answer(OK)
    for client in clients:
        client.join()
    listener.close(0)
    return batch


def span_ids(bodies: list[bytes]) -> Counter[tuple[str, bytes]]:
    """How often each span is in these requests, by service and id."""
    found: Counter[tuple[str, bytes]] = Counter()
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = resource.resource.attributes[0].value.string_value
            found.update((service, span.span_id) for scope in resource.scope_spans for span in scope.spans)
    return found


# --- the log


@given(
    sizes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=6),
    max_rows=st.integers(1, 9),
)
def test_slices_end_with_requests_where_one_fits(sizes: list[list[int]], max_rows: int):
    log = MemoryLog("traces", "traces", lambda: 0.0)
    cursor = log.open_cursor("a", SendingQueue())
    ends, row = set(), 0
    for append in sizes:
        bodies = [request(spans) for spans in append]
        batch, _ = native.decode("traces", bodies, keep_payload=True)
        log.append(log.reserve(Append(b"i" * 16, [batch], batch.rows, batch.nbytes, len(bodies))))
        for spans in append:
            ends.add(row := row + spans)
    start = 0
    limits = SliceLimits(max_rows=max_rows, max_bytes=0, whole_requests=True)
    while start < log.end:
        part, _ = log.cut_in_memory(cursor, limits)
        assert start < part.end <= start + max_rows
        fitting = [end for end in ends if start < end <= start + max_rows]
        assert part.end == max(fitting, default=start + max_rows)
        assert sum(batch.rows for batch in part.batches) == part.rows
        start = cursor.next = part.end


# --- batches without columns


def test_an_undecoded_batch_is_its_payloads():
    bodies = [request(2), request(3)]
    batch = undecoded(*bodies)
    assert batch.rows == 5
    assert batch.column_names == []
    assert batch.payloads == bodies
    assert batch.nbytes >= sum(map(len, bodies))
    assert [r.parts for r in requests(slice_of([batch]), 0)] == [[batch]]


def test_whoever_needs_columns_gets_them():
    bodies = [request(2, "one"), request(3, "two")]
    expected, _ = native.decode("traces", bodies, keep_payload=True)
    batch = undecoded(*bodies)
    assert pa.record_batch(batch).equals(pa.record_batch(expected))
    cut = batch.slice(1, 3)
    assert pa.record_batch(cut)["span_id"].to_pylist() == pa.record_batch(expected)["span_id"].to_pylist()[1:4]
    assert cut.payloads is None
    whole = batch.slice(2, 3)
    assert whole.column_names == []
    assert whole.payloads == bodies[1:]
    assert pa.record_batch(native.take(batch, [4]))["span_id"].to_pylist() == ["0000000000000003"]


def test_a_malformed_request_is_refused_alone_without_columns():
    refused: list[Any] = []

    def handle(group: native.RequestGroup) -> None:
        batch = group.decode(columns=False)
        refused.append((batch.rows, group.refused, group.order))
        group.answer(OK)

    with serving(handle) as at:
        assert at.post(b"\x0a\x05x")[0] == 400
    assert refused == [(0, [(1, "malformed")], [])]


def test_dead_letters_of_undecoded_rows_have_columns(tmp_path: Path):
    letters = DeadLetters(lambda: tmp_path, DeadLetterSettings())
    letters.park(slice_of([undecoded(request(2))]), "otlp_grpc", Permanent("no", "no"), 1_800_000_000.0)
    (file,) = tmp_path.glob("*.parquet")
    table = pq.read_table(file)
    assert table.num_rows == 2
    assert table["service_name"].to_pylist() == ["checkout"] * 2


# --- daemons


def sidecar(exporter: dict[str, Any], *, processors: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A daemon that sends traces on to another."""
    retry = {"initial_interval": "20ms", "max_interval": "100ms"}
    exporter = {name: {"retry_on_failure": retry, **section} for name, section in exporter.items()}
    return otlp_config(exporter, signals=("traces",), processors=processors, **more)


def to_grpc(endpoint: str) -> dict[str, Any]:
    return {"otlp_grpc": {"endpoint": endpoint, "tls": {"insecure": True}}}


def test_bytes_pass_through_a_daemon_unchanged(start_daemon: Callable[..., Daemon]):
    with grpc_server() as store:
        daemon = start_daemon(sidecar(to_grpc(store.endpoint), processors={"memory_limiter": {"limit_mib": 4000}}))
        bodies = [request(n + 1, f"service{n}") for n in range(5)]
        for body in bodies:
            assert daemon.post("traces", body).status == 200
        assert daemon.post("traces", b"\xff\xff").status == 400
        daemon.wait_metric("exporter_sent_spans", 15)
        assert daemon.metric("pipeline_accepted_items") == daemon.metric("pipeline_stored_items") == 15
        assert daemon.drain() == 0
    assert b"".join(store.requests) == b"".join(bodies)


def test_older_names_of_the_exporters_are_taken(start_daemon: Callable[..., Daemon]):
    with grpc_server() as store:
        config = sidecar({})
        config["exporters"] = {
            "otlp": {"endpoint": store.endpoint, "tls": {"insecure": True}},
            "otlphttp": {"traces_endpoint": "http://127.0.0.1:1/x", "sending_queue": {"enabled": True}},
        }
        config["service"]["pipelines"]["traces"]["exporters"] = ["otlp", "otlphttp"]
        daemon = start_daemon(config)
        assert daemon.post("traces", request()).status == 200
        daemon.wait_metric("exporter_sent_spans", 2, exporter="otlp_grpc")
        assert daemon.metric("exporter_lag_rows", exporter="otlp_http") == 2
    assert store.requests == [request()]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_gateway_that_restarts_loses_no_row_of_its_sidecars(start_daemon: Callable[..., Daemon], protocol: str):
    with grpc_server() as store:
        config = sidecar(to_grpc(store.endpoint))
        gateway = start_daemon(config)
        exporters = {
            "grpc": to_grpc(gateway.grpc_endpoint),
            "http": {"otlp_http": {"endpoint": f"http://{gateway.http_endpoint}"}},
        }
        daemon = start_daemon(sidecar(exporters[protocol]))
        sent: list[bytes] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                body = request(3, f"service{len(sent)}")
                assert daemon.post("traces", body).status == 200
                sent.append(body)
                stop.wait(0.002)

        thread = threading.Thread(target=load)
        thread.start()
        for _ in range(2):
            gateway.wait_metric("receiver_accepted_spans", 30)
            assert gateway.drain() == 0
            gateway = start_daemon(config)
        gateway.wait_metric("receiver_accepted_spans", 30)
        stop.set()
        thread.join()
        daemon.wait_until(lambda: daemon.metric("exporter_lag_rows") == 0)
        assert daemon.metric("pipeline_stored_items") == 3 * len(sent)
        assert daemon.drain() == 0
        assert gateway.drain() == 0
    stored = span_ids(store.requests)
    assert set(stored) == set(span_ids(sent))
    assert len(sent) > 30


def test_rows_are_parked_when_a_server_refuses_them_for_good(start_daemon: Callable[..., Daemon], tmp_path: Path):
    port = free_port()
    exporter = {
        "otlp_http": {"endpoint": f"http://127.0.0.1:{port}", "dead_letter": {"directory": str(tmp_path / "d")}}
    }
    with serving(address=f"127.0.0.1:{port}", route={"max_body_bytes": 10}):
        daemon = start_daemon(sidecar(exporter))
        assert daemon.post("traces", request(7)).status == 200
        daemon.wait_metric("exporter_dead_letter_rows", 7)
        assert daemon.metric("exporter_send_failed_spans") == 7
    (file,) = (tmp_path / "d").glob("*.parquet")
    assert pq.read_metadata(file).num_rows == 7
