"""The benchmarks run, and count honestly. How fast anything is, no test asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench import check, flame, load, table
from bench.__main__ import main
from bench.cases import CASES, chosen
from bench.goals import GOALS
from bench.measure import Result, Round
from bench.plot import svg
from colonnade import native
from tests.daemon_process import Daemon, otlp_config


@pytest.fixture(scope="module")
def program() -> Path:
    """The load generator as `cargo test` builds it."""
    return load.build("dev")


def test_the_names_of_cases_differ_and_every_goal_is_of_a_case():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) > 140
    assert set(GOALS) <= set(names)


def test_cases_are_chosen_by_beginning_and_by_pattern():
    assert {case.name for case in chosen(["nop.http.logs"])} == {
        f"nop.http.logs.{rows}.{encoding}" for rows in (512, 10) for encoding in ("none", "gzip", "zstd")
    }
    assert {case.store for case in chosen(["*.grpc.metrics.10.zstd"])} == {"nop", "clickhouse", "embedded", "parquet"}
    assert chosen(["no"]) == []


@pytest.mark.parametrize(
    ("protocol", "signal", "rows", "encoding"),
    [
        ("http", "traces", 512, "none"),
        ("http", "logs", 10, "gzip"),
        ("grpc", "metrics", 10, "none"),
        ("grpc", "traces", 10, "zstd"),
    ],
)
def test_a_case_prints_what_it_cost_and_loses_nothing(
    protocol: str,
    signal: str,
    rows: int,
    encoding: str,
    program: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    case = f"nop.{protocol}.{signal}.{rows}.{encoding}"
    report = tmp_path / "report.json"
    few = ["--rounds", "1", "--seconds", "0.2", "--load", str(program), "--json", str(report)]
    assert main(["--only", case, *few]) == 0
    (result,) = json.loads(report.read_text())["cases"]
    assert result["sent"] == result["accepted"] > 0
    assert result["sent"] % rows == 0
    assert result["figures"]["cpu_s_per_m"] >= 0
    line = next(line for line in capsys.readouterr().out.splitlines() if case in line)
    assert "colonnade" in line


@pytest.mark.parametrize("rows", [1, 10, 512])
def test_the_load_is_what_the_official_library_reads(program: Path, rows: int):
    traces = ExportTraceServiceRequest.FromString(load.dump(program, "--rows", str(rows)))
    spans = [span for r in traces.resource_spans for scope in r.scope_spans for span in scope.spans]
    assert len(spans) == len({span.span_id for span in spans}) == rows
    assert all(len(span.trace_id) == 16 and span.start_time_unix_nano < span.end_time_unix_nano for span in spans)
    ids = {span.span_id: span.trace_id for span in spans}
    assert all(ids[span.parent_span_id] == span.trace_id for span in spans if span.parent_span_id)

    logs = ExportLogsServiceRequest.FromString(load.dump(program, "--signal", "logs", "--rows", str(rows)))
    records = [record for r in logs.resource_logs for scope in r.scope_logs for record in scope.log_records]
    assert len(records) == rows
    assert all(len(record.attributes) == 4 for record in records)

    for signal in ("metrics", "gauges"):
        body = load.dump(program, "--signal", signal, "--rows", str(rows))
        metrics = ExportMetricsServiceRequest.FromString(body)
        found = [m for r in metrics.resource_metrics for scope in r.scope_metrics for m in scope.metrics]
        kinds = {metric.WhichOneof("data") for metric in found}
        assert sum(len(getattr(metric, str(metric.WhichOneof("data"))).data_points) for metric in found) == rows
        if signal == "gauges":
            assert kinds == {"gauge"}
        elif rows == 512:
            assert kinds == {"gauge", "sum", "histogram", "exponential_histogram", "summary"}


def test_a_span_of_the_load_weighs_what_services_send(program: Path):
    assert 600 < len(load.dump(program, "--rows", "512")) / 512 < 680
    assert 220 < len(load.dump(program, "--signal", "logs", "--rows", "512")) / 512 < 260


def test_requests_of_a_run_have_no_id_in_common(program: Path):
    ids: set[bytes] = set()
    for seed in range(8):
        traces = ExportTraceServiceRequest.FromString(load.dump(program, "--rows", "100", "--seed", str(seed)))
        ids |= {span.span_id for r in traces.resource_spans for scope in r.scope_spans for span in scope.spans}
    assert len(ids) == 800


def test_more_attributes_are_more_columns(program: Path):
    def present(attributes: int) -> int:
        body = load.dump(program, "--signal", "logs", "--rows", "5", "--attributes", str(attributes))
        batch, refused = native.decode("logs", [body])
        assert not refused
        return len(batch.column_names)

    counts = [present(n) for n in (0, 10, 30, 50)]
    assert all(few < more for few, more in pairwise(counts))


def test_refusals_are_repeated_and_count_only_when_they_succeed(start_daemon: Callable[..., Daemon], program: Path):
    """A daemon whose log is full for ever: nothing but the first requests is taken, and nothing else is counted."""
    stuck = {"clickhouse": {"endpoint": "http://127.0.0.1:1", "sending_queue": {"sizer": "items", "queue_size": 64}}}
    daemon = start_daemon(otlp_config(stuck))
    for protocol, address in (("http", daemon.http_endpoint), ("grpc", daemon.grpc_endpoint)):
        before = daemon.metric("receiver_accepted_spans")
        generator = load.Load(program, address, ["--protocol", protocol, "--rows", "10", "--connections", "4"])
        done = generator.run(0.5)
        generator.close()
        assert done["rows"] == daemon.metric("receiver_accepted_spans") - before
        assert sum(done["refused"].values()) >= done["given_up"] == 4
        assert done["refused_without_delay"] == 0
        assert set(done["refused"]) == {"503" if protocol == "http" else "14"}


def _result(**more: object) -> Result:
    one = Round(1000, 10, 1.0, 0.002, None, 1.0, 2.0, 0, 0, 0.001)
    return Result(chosen(["nop.http.traces.512.none"])[0], "colonnade", [one], sent=1000, **more)  # type: ignore[arg-type]


def test_a_case_that_lost_rows_has_no_figures():
    assert table.figures(_result(accepted=1000))["cpu_s_per_m"] == pytest.approx(2.0)
    assert table.figures(_result(accepted=1000, stored=999)) == {}
    assert "1 of 1,000" in table.render([_result(accepted=1000, stored=999)])


def test_a_missed_goal_is_marked():
    assert "2.00 (<= 0.95 !)" in table.render([_result(accepted=1000)])


def test_a_kernel_that_takes_more_than_a_tenth_more_instructions_is_a_regression():
    assert not check.is_regression(110, 100)
    assert check.is_regression(111, 100)
    assert check.is_regression(1, None)
    assert "REGRESSION" in check.verdict("decode", 111, 100)
    assert "ok" in check.verdict("decode", 95, 100)
    assert set(json.loads(check.FILE.read_text())) == set(check.KERNELS)


def test_a_plot_is_an_image_with_every_point():
    picture = ElementTree.fromstring(svg("t", "x", "y <us>", {"a": [(1, 0.5), (10_000, 40.0), (1e6, 7.0)]}))
    circles = picture.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3
    assert len({circle.get("cx") for circle in circles}) == 3


SCRIPT = """\
listen-0 12 1.0: 1 cpu-clock:ppp:
\t          10 hyper::proto::read+0x1 (/x/_native.abi3.so)
\t          20 start_thread+0x304 (/usr/lib/libc.so.6)

python 11 1.0: 1 cpu-clock:ppp:
\t          10 _native::decode::build+0x1 (/x/_native.abi3.so)
\t          20 _PyEval_EvalFrameDefault+0x35 (/x/libpython3.11.so.1.0)
\t          30 _PyEval_Vector+0xcf (/x/libpython3.11.so.1.0)

python 11 2.0: 1 cpu-clock:ppp:
\t          10 [unknown] (/x/libchdb.so)
"""


def test_a_flame_graph_stacks_functions_by_thread():
    stacks = list(flame.stacks(SCRIPT))
    assert stacks == [
        ["listen-0", "start_thread", "hyper::proto::read"],
        ["python", "python interpreter", "_native::decode::build"],
        ["python", "libchdb.so"],
    ]
    root = flame.Frame("all")
    for stack in stacks:
        root.add(stack)
    picture = ElementTree.fromstring(flame.render(root, "a <case>"))
    titles = [title.text for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert "python: 66.7%" in titles
    assert "_native::decode::build: 33.3%" in titles
