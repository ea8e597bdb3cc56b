"""What was sent is what the tables hold, once, however often it is sent."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from colonnade.pipeline.errors import Permanent
from tests.questdb_exporter.kit import BASE_NS, config_of, metric, rows_of, running, slice_of
from tests.servers.questdb import QuestDBServer

SHOP = {"service_name": "shop", "service_instance_id": "a-1", "host_name": "web 1"}
CUMULATIVE, DELTA = 2, 1
TIME = "2026-09-21T14:13:20.000000007Z"


def gauges(count: int, **resource: str) -> ExportMetricsServiceRequest:
    """Points of one gauge, a second apart."""
    request = ExportMetricsServiceRequest()
    made = metric(request, "temperature", **(resource or SHOP))
    made.unit, made.description = "Cel", "how warm it is"
    for number in range(count):
        point = made.gauge.data_points.add(time_unix_nano=BASE_NS + number * 10**9 + 7, as_double=number + 0.5)
        point.attributes.add(key="room").value.string_value = f"room {number % 3}"
    return request


async def test_gauges_and_sums_arrive_as_they_were_sent(questdb_server: QuestDBServer, questdb_prefix: str) -> None:
    request = gauges(5)
    sums = metric(request, "orders", **SHOP).sum
    sums.aggregation_temporality, sums.is_monotonic = CUMULATIVE, True
    point = sums.data_points.add(time_unix_nano=BASE_NS + 7, start_time_unix_nano=BASE_NS - 5, as_int=42)
    point.attributes.add(key="vip").value.bool_value = True
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        await exporter.export(slice_of(rows_of(request)))
    found = questdb_server.rows(
        f"{questdb_prefix}gauge",
        "timestamp, metric_name, service_name, service_instance, ns, metric_unit, metric_type, started_at, "
        "metric_value, labels, resource, attributes",
    )
    assert [row[8] for row in found] == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert found[0][:9] == [TIME, "temperature", "shop", "a-1", "shop", "Cel", "gauge", None, 0.5]
    assert [json.loads(row[9])["room"] for row in found] == ["room 0", "room 1", "room 2", "room 0", "room 1"]
    assert json.loads(found[0][10])["host_name"] == "web 1"
    assert json.loads(found[0][11]) == {"$otlp.description": "how warm it is"}
    found = questdb_server.rows(
        f"{questdb_prefix}sum", "timestamp, metric_name, temporality, metric_type, started_at, metric_value, labels"
    )
    started = "2026-09-21T14:13:19.999999995Z"
    assert [row[:6] for row in found] == [[TIME, "orders", "cumulative", "counter", started, 42.0]]
    assert json.loads(found[0][6]) == {"vip": "true", "$otlp.types": "vip=2"}


async def test_histograms_and_summaries_become_arrays(questdb_server: QuestDBServer, questdb_prefix: str) -> None:
    request = ExportMetricsServiceRequest()
    histogram = metric(request, "latency", **SHOP).histogram
    histogram.aggregation_temporality = DELTA
    histogram.data_points.add(
        time_unix_nano=BASE_NS, count=6, sum=1.5, min=0.01, max=0.9, explicit_bounds=[0.1, 0.5], bucket_counts=[3, 2, 1]
    )
    exponential = metric(request, "sizes", **SHOP).exponential_histogram
    exponential.aggregation_temporality = CUMULATIVE
    point = exponential.data_points.add(time_unix_nano=BASE_NS, count=9, sum=-2, scale=-3, zero_count=4)
    point.zero_threshold = 0.25
    point.positive.offset, point.negative.offset = 2, -7
    point.positive.bucket_counts.extend([1, 0, 3])
    point.negative.bucket_counts.extend([1])
    summary = metric(request, "waits", **SHOP).summary.data_points.add(time_unix_nano=BASE_NS, count=3, sum=6)
    for quantile, value in ((0.0, 1.0), (0.5, 2.0), (1.0, 3.0)):
        summary.quantile_values.add(quantile=quantile, value=value)
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        await exporter.export(slice_of(rows_of(request)))
    totals = "metric_count, metric_sum, metric_min, metric_max"
    found = questdb_server.rows(f"{questdb_prefix}histogram", f"temporality, {totals}, bounds, counts")
    assert found == [["delta", 6, 1.5, 0.01, 0.9, [0.1, 0.5], [3.0, 2.0, 1.0]]]
    found = questdb_server.rows(
        f"{questdb_prefix}exponential_histogram",
        "temporality, metric_count, metric_sum, metric_min, scale, zero_count, zero_threshold, "
        "positive_offset, positive_counts, negative_offset, negative_counts",
    )
    assert found == [["cumulative", 9, -2.0, None, -3, 4, 0.25, 2, [1.0, 0.0, 3.0], -7, [1.0]]]
    found = questdb_server.rows(f"{questdb_prefix}summary", f"{totals}, quantiles, quantile_values")
    assert found == [[3, 6.0, 1.0, 3.0, [0.0, 0.5, 1.0], [1.0, 2.0, 3.0]]]


async def test_a_slice_sent_again_changes_nothing(questdb_server: QuestDBServer, questdb_prefix: str) -> None:
    rows = rows_of(gauges(50))
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        for _ in range(3):
            await exporter.export(slice_of(rows, start=100))
        whole = questdb_server.rows(f"{questdb_prefix}gauge")
        # In other pieces, as after halves: what tells a row is its place in the log.
        for start, end in ((0, 20), (20, 50)):
            part = slice_of(rows.slice(start, end - start), start=100)
            part.offset = start
            await exporter.export(part)
    assert len(whole) == 50
    assert questdb_server.rows(f"{questdb_prefix}gauge") == whole


async def test_two_points_of_one_series_and_time_stay_two(questdb_server: QuestDBServer, questdb_prefix: str) -> None:
    request = gauges(1)
    request.MergeFrom(gauges(1))
    rows = rows_of(request)
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        await exporter.export(slice_of(rows, start=0))
        await exporter.export(slice_of(rows, start=2))
        await exporter.export(slice_of(rows, start=0, log="another"))
        await exporter.export(slice_of(rows, start=2))
    found = questdb_server.rows(f"{questdb_prefix}gauge", "timestamp, series, occurrence")
    assert len(found) == 6
    assert len({(row[0], row[1]) for row in found}) == 1
    assert len({row[2] for row in found}) == 6


async def test_a_series_is_what_its_source_says_in_whatever_order(
    questdb_server: QuestDBServer, questdb_prefix: str
) -> None:
    request = ExportMetricsServiceRequest()

    def add(name: str, pairs: dict[str, str], resource: dict[str, str]) -> None:
        point = metric(request, name, **resource).gauge.data_points.add(time_unix_nano=BASE_NS, as_double=1)
        for key, value in pairs.items():
            point.attributes.add(key=key).value.string_value = value

    same = [("m", {"a": "1", "b": "2"}, SHOP), ("m", {"b": "2", "a": "1"}, SHOP)]
    others: list[Any] = [
        ("n", {"a": "1", "b": "2"}, SHOP),
        ("m", {"a": "2", "b": "1"}, SHOP),
        ("m", {"a": "1"}, SHOP),
        ("m", {"a": "1", "b": "2"}, {**SHOP, "host_name": "web 2"}),
        ("m", {"a": "1", "b": "2"}, {**SHOP, "team": "x"}),
    ]
    for told in (*same, *others):
        add(*told)
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        await exporter.export(slice_of(rows_of(request)))
    found = [row[0] for row in questdb_server.rows(f"{questdb_prefix}gauge", "series", "ORDER BY occurrence")]
    assert found[0] == found[1]
    assert len(set(found)) == 1 + len(others)


async def test_symbols_hold_columns_and_attributes_wherever_they_live(
    questdb_server: QuestDBServer, questdb_prefix: str
) -> None:
    request = ExportMetricsServiceRequest()
    point = metric(request, "m", **SHOP).gauge.data_points.add(time_unix_nano=BASE_NS, as_double=1)
    for key, value in {"http.request.method": "GET", "room": "a, b=c\n", "other": "x"}.items():
        point.attributes.add(key=key).value.string_value = value
    config = config_of(questdb_server.url, questdb_prefix, symbols=["host.name", "http.request.method", "room"])
    async with running(config) as exporter:
        await exporter.export(slice_of(rows_of(request)))
    columns = "host_name, http_method, room, labels, resource"
    ((host, method, room, labels, resource),) = questdb_server.rows(f"{questdb_prefix}gauge", columns)
    assert (host, method, room) == ("web 1", "GET", "a, b=c\n")
    assert json.loads(labels) == {"other": "x"}
    assert "host_name" not in json.loads(resource)


async def test_numbers_that_questdb_does_not_have_are_told_beside(
    questdb_server: QuestDBServer, questdb_prefix: str
) -> None:
    request = ExportMetricsServiceRequest()
    values = [math.nan, math.inf, -math.inf, 1.7976931348623157e308, 5e-324, -0.0]
    for number, value in enumerate(values):
        metric(request, "m", **SHOP).gauge.data_points.add(time_unix_nano=BASE_NS + number, as_double=value)
    metric(request, "h", **SHOP).histogram.data_points.add(time_unix_nano=BASE_NS, count=1, bucket_counts=[2**53 + 1])
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        await exporter.export(slice_of(rows_of(request)))
    found = questdb_server.rows(f"{questdb_prefix}gauge", "metric_value, attributes")
    told = [json.loads(row[1])["$metric_value"] if row[1] else None for row in found]
    assert told == ["NaN", "Infinity", "-Infinity", None, None, None]
    assert [row[0] for row in found] == [None, None, None, *values[3:]]
    ((attributes,),) = questdb_server.rows(f"{questdb_prefix}histogram", "attributes")
    assert json.loads(json.loads(attributes)["$metric_buckets"])["counts"] == [2**53 + 1]


@pytest.mark.parametrize("time", [-1, 9_214_646_400_000_000_000])
async def test_times_that_questdb_does_not_have_are_refused(
    time: int, questdb_server: QuestDBServer, questdb_prefix: str
) -> None:
    request = ExportMetricsServiceRequest()
    metric(request, "m", **SHOP).gauge.data_points.add(time_unix_nano=time % 2**64, as_double=1)
    rows = rows_of(request)
    async with running(config_of(questdb_server.url, questdb_prefix)) as exporter:
        if time < 0:
            # OTLP has no such time: it reads as none, and `unify` gives the time of arrival.
            await exporter.export(slice_of(rows))
            assert questdb_server.rows(f"{questdb_prefix}gauge", "count()") == [[1]]
            return
        with pytest.raises(Permanent) as refused:
            await exporter.export(slice_of(rows))
    assert refused.value.splits
    assert refused.value.code == "questdb_400"
    assert str(time) not in refused.value.message
