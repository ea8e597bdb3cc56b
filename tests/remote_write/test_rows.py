"""What becomes of the parts of a request (specification 3.17)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from colonnade.native import NativeError, Unify

from .kit import NOW_MS, STALE_NAN, Series, decoded, request, request_two, rows_of

LABELS = {"__name__": "http_requests_total", "code": "200", "instance": "web-1:80", "job": "shop/web"}
NATIVE: dict[str, Any] = {
    "count_int": 12,
    "sum": 18.4,
    "schema": 1,
    "zero_threshold": 0.001,
    "zero_count_int": 2,
    "positive_spans": [(0, 2), (1, 1)],
    "positive_deltas": [1, 2, -1],
    "negative_spans": [(-3, 1)],
    "negative_deltas": [4],
    "timestamp": NOW_MS,
}
CUSTOM: dict[str, Any] = {
    "count_int": 5,
    "sum": 3.0,
    "schema": -53,
    "custom_values": [0.1, 0.5],
    "positive_spans": [(0, 1), (1, 1)],
    "positive_deltas": [2, 1],
    "timestamp": NOW_MS,
}
versions = pytest.mark.parametrize("version", [1, 2])


@versions
def test_a_sample_is_a_row(version: int) -> None:
    found = decoded(version, [Series(LABELS, [(42.0, NOW_MS)], type=1, unit="requests")])
    (row,) = found.rows
    assert len(row.pop("id")) == 16
    row.pop("$occurrence", None)
    assert row == {
        "event_type": "metric",
        "event_name": "http_requests_total",
        "event_source": "prometheus.sample",
        "timestamp": NOW_MS * 1_000_000,
        "service_namespace": "shop",
        "service_name": "web",
        "service_instance": "web-1:80",
        "metric_name": "http_requests_total",
        "metric_unit": "requests",
        "metric_type": "counter",
        "metric_value": 42.0,
        "labels": {"code": "200", "instance": "web-1:80", "job": "shop/web"},
    }
    assert (found.written, found.duplicates, found.rejected) == ((1, 0, 0), 0, {})


@versions
def test_every_sample_of_every_series_is_a_row_in_any_order(version: int) -> None:
    series = [Series(LABELS | {"code": str(code)}, [(1.0, NOW_MS), (0.0, NOW_MS - 5)]) for code in range(3)]
    found = decoded(version, series)
    assert [row["timestamp"] // 1_000_000 - NOW_MS for row in found.rows] == [0, -5] * 3
    assert [row["metric_value"] for row in found.rows] == [1.0, 0.0] * 3
    assert [row["metric_type"] for row in found.rows] == ["unknown"] * 6


@versions
def test_a_stale_marker_is_a_row_without_a_value(version: int) -> None:
    row, other = decoded(version, [Series(LABELS, [(STALE_NAN, NOW_MS), (math.nan, NOW_MS + 1)])]).rows
    assert "metric_value" not in row
    assert row["labels"]["$stale"] == "1"
    assert math.isnan(other["metric_value"])
    assert "$stale" not in other["labels"]


def test_a_start_is_when_the_series_was_created() -> None:
    (row,) = decoded(2, [Series(LABELS, [(1.0, NOW_MS, NOW_MS - 60_000)])]).rows
    assert row["started_at"] == (NOW_MS - 60_000) * 1_000_000
    message = request_two([Series(LABELS, [(1.0, NOW_MS)])])
    message.timeseries[0].created_timestamp = NOW_MS - 1
    (row,) = decoded(2, message).rows
    assert row["started_at"] == (NOW_MS - 1) * 1_000_000


@versions
def test_help_is_kept_where_it_is_asked_for(version: int) -> None:
    series = [Series(LABELS, [(1.0, NOW_MS)], type=2, help="All of them.")]
    assert "$help" not in decoded(version, series).rows[0]["labels"]
    assert decoded(version, series, help=True).rows[0]["labels"]["$help"] == "All of them."


def test_metadata_of_a_family_holds_for_the_series_of_its_histogram() -> None:
    message = request(1, [Series({"__name__": f"latency{end}"}, [(1.0, NOW_MS)]) for end in ("_bucket", "_sum", "_x")])
    message.metadata.add(type=3, metric_family_name="latency", unit="s")
    assert [row["metric_type"] for row in decoded(1, message).rows] == ["histogram", "histogram", "unknown"]


@versions
def test_a_native_histogram_has_the_buckets_of_otlp(version: int) -> None:
    found = decoded(version, [Series({"__name__": "latency"}, histograms=[NATIVE], type=3)])
    (row,) = found.rows
    assert (row["metric_type"], row["metric_count"], row["metric_sum"]) == ("exponential_histogram", 12, 18.4)
    assert json.loads(row["metric_buckets"]) == {
        "scale": 1,
        "zero_count": 2,
        "zero_threshold": 0.001,
        "positive": {"offset": -1, "counts": [1, 3, 0, 2]},
        "negative": {"offset": -4, "counts": [4]},
    }
    assert "attributes" not in row
    assert found.written == (0, 1, 0)


@versions
def test_a_native_histogram_with_its_own_bounds_is_a_histogram(version: int) -> None:
    (row,) = decoded(version, [Series({"__name__": "latency"}, histograms=[CUSTOM])]).rows
    assert row["metric_type"] == "histogram"
    assert json.loads(row["metric_buckets"]) == {"bounds": [0.1, 0.5], "counts": [2, 0, 3]}
    assert row["attributes"] == {"$prometheus.type": "unknown"}


@versions
def test_a_native_histogram_of_floats_says_so(version: int) -> None:
    fields = {
        "count_float": 1.5,
        "sum": 2.0,
        "zero_count_float": 0.25,
        "positive_spans": [(4, 1)],
        "positive_counts": [1.25],
        "reset_hint": 3,
        "timestamp": NOW_MS,
    }
    (row,) = decoded(version, [Series({"__name__": "latency"}, histograms=[fields], type=4)]).rows
    assert "metric_count" not in row
    assert row["attributes"] == {
        "$prometheus.type": "gauge_histogram",
        "$prometheus.reset_hint": "3",
        "$prometheus.count": "1.5",
    }
    assert json.loads(row["metric_buckets"])["positive"] == {"offset": 3, "counts": [1.25]}


@versions
def test_a_stale_histogram_has_no_values(version: int) -> None:
    (row,) = decoded(version, [Series({"__name__": "h"}, histograms=[{"sum": STALE_NAN, "timestamp": NOW_MS}])]).rows
    assert row["labels"] == {"$stale": "1"}
    assert row["metric_type"] == "exponential_histogram"
    assert not {"metric_sum", "metric_count", "metric_buckets", "metric_value"} & row.keys()


@versions
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"count_int": 13}, "the buckets have 12 observations, and the histogram 13"),
        ({"positive_deltas": [1, 2]}, "the spans have 3 buckets, and 2 are there"),
        ({"positive_deltas": [1, -2, 3]}, "a bucket has -1 observations"),
        ({"positive_spans": [(0, 2), (-1, 1)]}, "span 1 begins 1 buckets before the end of the one before it"),
        ({"positive_spans": [(0, 2), (70_000, 1)]}, "the spans reach over more than 65536 buckets"),
        ({"positive_spans": [(0, 2**32 - 1)]}, "the spans reach over more than 65536 buckets"),
        ({"schema": 60}, "there is no schema 60"),
        ({"custom_values": [1.0]}, "a histogram of schema 1 has no bounds of its own"),
        ({"schema": -53, "custom_values": [1.0]}, "neither a zero bucket nor negative ones"),
    ],
)
def test_a_histogram_that_is_none_is_left_out_alone(version: int, changes: dict[str, Any], why: str) -> None:
    found = decoded(version, [Series({"__name__": "bad"}, histograms=[NATIVE | changes]), Series(LABELS, [(1.0, 1)])])
    assert [row["metric_name"] for row in found.rows] == ["http_requests_total"]
    assert found.rejected == {"invalid_histogram": 1}
    assert why in found.messages[0]


@versions
def test_exemplars_go_with_the_last_row_of_their_series(version: int) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    exemplars = [({"trace_id": trace, "span_id": "short", "user": "u"}, 0.5, NOW_MS - 1), ({}, math.inf, NOW_MS)]
    found = decoded(version, [Series(LABELS, [(1.0, NOW_MS - 1), (2.0, NOW_MS)], exemplars=exemplars)])
    first, last = found.rows
    assert "data" not in first
    assert json.loads(last["data"]) == {
        "exemplars": [
            {
                "time_ns": (NOW_MS - 1) * 1_000_000,
                "value": 0.5,
                "trace_id": trace,
                "attributes": {"span_id": "short", "user": "u"},
            },
            {"time_ns": NOW_MS * 1_000_000, "value": {"$f": "Infinity"}},
        ]
    }
    assert found.written == (2, 0, 2)


@versions
def test_exemplars_that_come_alone_are_rows_of_their_own(version: int) -> None:
    exemplars = [({"user": "a"}, 1.0, NOW_MS), ({"user": "b"}, 1.0, NOW_MS), ({"user": "a"}, 1.0, NOW_MS)]
    found = decoded(version, [Series(LABELS, [(1.0, NOW_MS)]), Series(LABELS, exemplars=exemplars)])
    assert (found.batch.rows, found.written, found.duplicates) == (3, (1, 0, 3), 1)
    rows = rows_of(Unify().complete(found.batch, 1, bytes(16))[0])
    assert len({row["id"] for row in rows}) == 3
    assert all("metric_value" not in row and row["timestamp"] == NOW_MS * 1_000_000 for row in rows[1:])


@versions
def test_a_sample_that_stands_twice_is_a_row_once(version: int) -> None:
    again = dict(reversed(LABELS.items()))
    found = decoded(version, [Series(LABELS, [(1.0, NOW_MS)]), Series(again, [(1.0, NOW_MS), (2.0, NOW_MS)])])
    assert (found.batch.rows, found.written, found.duplicates) == (1, (2, 0, 0), 1)
    assert found.rejected == {"duplicate_sample": 1}
    assert "different values" in found.messages[0]


@versions
def test_ids_are_made_of_labels_and_time(version: int) -> None:
    def ids(*series: Series) -> list[bytes]:
        completed = Unify().complete(decoded(version, list(series)).batch, 1, bytes(16))[0]
        return [row["id"] for row in rows_of(completed)]

    one = ids(Series(LABELS, [(1.0, NOW_MS), (1.0, NOW_MS + 1)]))
    assert one == ids(Series(dict(reversed(LABELS.items())), [(5.0, NOW_MS), (6.0, NOW_MS + 1)], type=1))
    assert len(set(one + ids(Series(LABELS | {"code": "500"}, [(1.0, NOW_MS)])))) == 3


@versions
@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"job": "x"}, "there is no label __name__"),
        ({"__name__": "", "job": "x"}, "there is no label __name__"),
        ({"__name__": "up", "": "x"}, "a label has no name"),
    ],
)
def test_series_without_a_name_are_left_out_alone(version: int, labels: dict[str, str], why: str) -> None:
    found = decoded(version, [Series(labels, [(1.0, 1), (2.0, 2)]), Series(LABELS, [(1.0, 1)])])
    assert (found.batch.rows, found.rejected) == (1, {"invalid_labels": 2})
    assert why in found.messages[0]


def test_a_label_that_stands_twice_is_told() -> None:
    message = request(1, [Series(LABELS, [(1.0, 1)])])
    message.timeseries[0].labels.add(name="job", value="x")
    found = decoded(1, message)
    assert (found.batch.rows, found.messages) == (0, ['label "job" stands there twice'])


def test_references_beyond_the_symbols_are_told() -> None:
    message = request_two([Series(LABELS, [(1.0, 1)], exemplars=[({"a": "b"}, 1.0, 1)]) for _ in range(4)])
    message.timeseries[0].labels_refs[1] = 99
    message.timeseries[1].labels_refs.append(1)
    message.timeseries[2].exemplars[0].labels_refs[0] = 77
    message.timeseries[3].metadata.unit_ref = 55
    found = decoded(2, message)
    assert (found.batch.rows, found.written) == (1, (1, 0, 0))
    assert found.rejected == {"invalid_reference": 7}
    assert [word in " ".join(found.messages) for word in ("99", "pairs", "77", "55")] == [True] * 4


def test_the_first_symbol_is_the_empty_text_for_metadata() -> None:
    (row,) = decoded(2, [Series(LABELS, [(1.0, 1)], type=2)]).rows
    assert (row["metric_type"], "metric_unit" in row) == ("gauge", False)


@versions
def test_times_that_rows_can_not_have_are_told(version: int) -> None:
    found = decoded(version, [Series(LABELS, [(1.0, 2**62), (1.0, 0), (1.0, -5)])])
    assert [row["timestamp"] for row in found.rows] == [0, -5_000_000]
    assert found.rejected == {"bad_timestamp": 1}


@versions
def test_reserved_names_are_doubled(version: int) -> None:
    (row,) = decoded(version, [Series({"__name__": "up", "$stale": "x", "$$": "y"}, [(1.0, 1)])]).rows
    assert row["labels"] == {"$$stale": "x", "$$$": "y"}


@versions
def test_a_request_that_would_become_too_large_is_refused(version: int) -> None:
    series = Series({"__name__": "up", "long": "x" * 300_000}, [(1.0, time_ms) for time_ms in range(2000)])
    with pytest.raises(NativeError, match="repeat more than") as raised:
        decoded(version, [series])
    assert raised.value.code == "too_large"


def test_nothing_is_no_row() -> None:
    for version in (1, 2):
        found = decoded(version, [])
        assert (found.batch.rows, found.written, found.rejected) == (0, (0, 0, 0), {})
    (metadata_alone,) = [decoded(2, [Series({"__name__": "up"}, type=1)])]
    assert (metadata_alone.batch.rows, metadata_alone.rejected) == (0, {})
