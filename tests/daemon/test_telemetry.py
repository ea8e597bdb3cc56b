"""The own metrics' page and the own log."""

from __future__ import annotations

import logging
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from colonnade.daemon.configuration.service import LogSampling, PrometheusReader, Telemetry
from colonnade.daemon.logs import Sampler
from colonnade.daemon.telemetry import Metrics, Process, resource_attributes

ATTRIBUTES = {"service.name": "a", "service.version": "1", "host.name": 'q"uo\\te'}


def samples(metrics: Metrics, reader: PrometheusReader | None = None) -> dict[str, float]:
    page = metrics.page(reader, ATTRIBUTES)
    assert list(text_string_to_metric_families(page)), "Prometheus reads it"
    # Its parser puts `_total` behind counters that have none, so names are read from the lines.
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    return {re.split(r"[{ ]", line)[0]: float(line.rpartition(" ")[2]) for line in lines}


def counted(level: str) -> Metrics:
    metrics = Metrics(level)
    metrics.count("receiver_accepted_spans", 2, {"receiver": "otlp", "transport": "http"})
    metrics.count("receiver_requests", 1, {"receiver": "otlp", "transport": "http", "outcome": "success"})
    metrics.observe("exporter_send_duration", 0.2, ("nop",))
    return metrics


@pytest.mark.parametrize(
    ("level", "names"),
    [
        ("basic", {"otelcol_receiver_accepted_spans"}),
        ("normal", {"otelcol_receiver_accepted_spans", "otelcol_receiver_requests"}),
    ],
)
def test_level_decides_which_metrics_there_are(level: str, names: set[str]) -> None:
    assert set(samples(counted(level))) - {"target_info"} == names


def test_histogram_counts_up_to_its_bounds() -> None:
    page = counted("detailed").page(None, {})
    assert 'otelcol_exporter_send_duration_bucket{exporter="nop",le="0.1"} 0' in page
    assert 'otelcol_exporter_send_duration_bucket{exporter="nop",le="0.25"} 1' in page
    assert 'otelcol_exporter_send_duration_count{exporter="nop"} 1' in page


def test_counters_have_total_only_where_wished_for() -> None:
    reader = PrometheusReader.model_validate({"without_type_suffix": False})
    assert "otelcol_receiver_accepted_spans_total" in samples(counted("basic"), reader)


def test_labels_are_the_service_or_what_is_chosen() -> None:
    chosen = PrometheusReader.model_validate({"with_resource_constant_labels": {"included": ["host.name"]}})
    default = counted("basic").page(None, ATTRIBUTES)
    assert 'transport="http",service_name="a",service_version="1"} 2' in default
    assert 'transport="http",host_name="q\\"uo\\\\te"} 2' in counted("basic").page(chosen, ATTRIBUTES)


def test_gauges_leave_with_their_owner() -> None:
    metrics, owner = Metrics("normal"), object()
    labels = {"exporter": "a", "pipeline": "logs", "data_type": "logs"}
    metrics.gauge("exporter_queue_size", lambda: 5.0, labels, owner)
    assert metrics.read("exporter_queue_size") == {("a", "logs", "logs"): 5.0}
    metrics.forget(owner)
    assert metrics.read("exporter_queue_size") == {}


def test_process_metrics_are_read_from_the_system() -> None:
    metrics = Metrics("basic")
    Process(metrics).refresh()
    assert samples(metrics)["otelcol_process_memory_rss"] > 1 << 20


def test_resource_takes_both_forms_and_null_takes_away() -> None:
    plain = Telemetry.model_validate({"resource": {"service.name": "x", "service.version": None}})
    listed = Telemetry.model_validate({"resource": {"attributes": [{"name": "service.name", "value": "x"}]}})
    assert resource_attributes(plain.resource, "1", "id") == {"service.name": "x", "service.instance.id": "id"}
    assert resource_attributes(listed.resource, "1", "id")["service.name"] == "x"


def test_repeated_lines_are_sampled_and_others_are_not() -> None:
    sampler = Sampler(LogSampling.model_validate({"initial": 3, "thereafter": 5, "tick": "1h"}))

    def passes(text: str) -> bool:
        return bool(sampler.filter(logging.LogRecord("x", logging.INFO, "", 0, text, (), None)))

    assert [n for n in range(1, 20) if passes("same")] == [1, 2, 3, 8, 13, 18]
    assert passes("other")
