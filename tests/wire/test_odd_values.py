"""Values at the edge of what OTLP can say: taken, kept by both stores as they are, harmless to the next request."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.wire.payloads import METHODS, nested, request, spans
from tests.wire.stores import Row, Stores, filled, time_text

NS = 10**9
DAY_NS = 86_400 * NS
I64_MAX, I64_MIN, U64_MAX = 2**63 - 1, -(2**63), 2**64 - 1
protocols = pytest.mark.parametrize("protocol", ["http", "grpc"])


@pytest.fixture(autouse=True)
def next_request_is_served(stores: Stores) -> Iterator[None]:
    yield
    assert stores.daemon.post("traces", spans(1, "next")).status == 200


def send(stores: Stores, protocol: str, signal: str, message: Any) -> None:
    """Sends a request, which must be accepted whole and counted."""
    body = message if isinstance(message, bytes) else message.SerializeToString()
    if protocol == "http":
        answer = stores.daemon.post(signal, body)
        assert (answer.status, answer.body) == (200, b"")
    else:
        with grpc.insecure_channel(stores.daemon.grpc_endpoint) as channel:
            assert channel.unary_unary(METHODS[signal])(body, timeout=10) == b""


def typed(row: Row) -> dict[str, Any]:
    """The attributes of a row with the types that were sent, without those of ours."""
    types = dict(pair.rpartition("=")[::2] for pair in row["attributes"].get("$otlp.types", "").split(",") if pair)
    return {
        key: (text, int(types.get(key, "1"))) for key, text in row["attributes"].items() if not key.startswith("$otlp.")
    }


@protocols
def test_numbers_that_are_none_and_numbers_without_end(stores: Stores, protocol: str) -> None:
    name, now_ns = f"floats-{protocol}", time.time_ns()
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]
    message, records = request("metrics", name)
    for index, value in enumerate(values):
        records.add(name=f"m{index}").gauge.data_points.add(time_unix_nano=now_ns, as_double=value)
    send(stores, protocol, "metrics", message)
    stores.rows(f"service_name = '{name}'", len(values))
    for read in (stores.embedded, stores.remote):
        found = read(
            f"SELECT toString(metric_value) AS v FROM events WHERE service_name = '{name}' ORDER BY metric_name"
        )
        assert [row["v"] for row in found] == ["nan", "inf", "-inf", "-0", "5e-324", "1.7976931348623157e308"]


@protocols
def test_integers_of_64_bits(stores: Stores, protocol: str) -> None:
    name, now_ns = f"integers-{protocol}", time.time_ns()
    message, records = request("logs", name)
    record = records.add(
        time_unix_nano=now_ns, severity_number=2**31 - 1, flags=2**32 - 1, dropped_attributes_count=2**32 - 1
    )
    record.attributes.add(key="max").value.int_value = I64_MAX
    record.attributes.add(key="min").value.int_value = I64_MIN
    record.attributes.add(key="http.response.status_code").value.int_value = I64_MAX
    send(stores, protocol, "logs", message)
    (row,) = stores.rows(f"service_name = '{name}'", 1)
    assert typed(row) == {
        "max": (str(I64_MAX), 3),
        "min": (str(I64_MIN), 3),
        "http.response.status_code": (str(I64_MAX), 3),
    }
    assert row["http_status"] is None
    assert row["attributes"]["$otlp.flags"] == row["attributes"]["$otlp.dropped_attributes_count"] == str(2**32 - 1)
    assert row["attributes"]["$otlp.severity_number"] == str(2**31 - 1)


@protocols
def test_metric_integers_and_counts_of_64_bits(stores: Stores, protocol: str) -> None:
    name, now_ns = f"counts-{protocol}", time.time_ns()
    message, records = request("metrics", name)
    for index, value in enumerate((I64_MAX, I64_MIN)):
        records.add(name=f"i{index}").gauge.data_points.add(time_unix_nano=now_ns, as_int=value)
    point = records.add(name="h").histogram.data_points.add(time_unix_nano=now_ns, count=U64_MAX, sum=math.nan)
    point.bucket_counts.extend([U64_MAX, 0])
    point.explicit_bounds.append(math.inf)
    send(stores, protocol, "metrics", message)
    rows = {row["metric_name"]: row for row in stores.rows(f"service_name = '{name}'", 3)}
    assert rows["i0"]["attributes"]["$otlp.as_int"] == str(I64_MAX)
    assert rows["i1"]["attributes"]["$otlp.as_int"] == str(I64_MIN)
    assert rows["h"]["attributes"]["$otlp.count"] == str(U64_MAX)
    assert json.loads(rows["h"]["metric_buckets"]) == {"bounds": [{"$f": "Infinity"}], "counts": [U64_MAX, 0]}


@protocols
def test_times_of_1970_and_2262_and_beyond(stores: Stores, protocol: str) -> None:
    name, now_ns = f"times-{protocol}", time.time_ns()
    stored = [1, NS, now_ns, 4_102_444_800 * NS, I64_MAX]
    beyond = [I64_MAX + 1, U64_MAX]
    message, records = request("logs", name)
    for time_ns in (0, *stored, *beyond):
        records.add(time_unix_nano=time_ns, observed_time_unix_nano=0).body.string_value = str(time_ns)
    send(stores, protocol, "logs", message)
    rows = {int(row["log_message"]): row for row in stores.rows(f"service_name = '{name}'", 8)}
    assert {t: rows[t]["timestamp"] for t in stored} == {t: time_text(t) for t in stored}
    arrival = rows[0]["ingested_at"]
    assert {t: rows[t]["timestamp"] for t in (0, *beyond)} == dict.fromkeys((0, *beyond), arrival)
    assert {t: rows[t]["attributes"]["$otlp.time_ns"] for t in (0, *beyond)} == {t: str(t) for t in (0, *beyond)}
    assert {row["day"] for row in rows.values()} == {arrival[:10]}


def test_10_000_days_make_at_most_10_partitions(stores: Stores) -> None:
    name = "days"
    message, records = request("logs", name)
    today = time.time_ns() // DAY_NS
    for day in range(today - 9_990, today + 10):
        records.add(time_unix_nano=day * DAY_NS + 1)
    send(stores, "http", "logs", message)
    stores.await_rows(f"service_name = '{name}'", 10_000)
    for read in (stores.embedded, stores.remote):
        sql = f"SELECT uniqExact(timestamp) AS times, uniqExact(day) AS days FROM events WHERE service_name = '{name}'"
        (found,) = read(sql)
        assert found["times"] == 10_000
        # Seven days back, today and tomorrow are believed; what lies before or after them is filed under today.
        assert 8 <= found["days"] <= 10
    parts = stores.server.rows(
        "SELECT uniqExact(partition) FROM system.parts "
        f"WHERE database = '{stores.database}' AND table = 'events' AND active"
    )
    assert parts[0][0] <= 10


@protocols
def test_of_duplicate_keys_the_last_counts(stores: Stores, protocol: str) -> None:
    name = f"duplicates-{protocol}"
    message, records = request("logs", name)
    record = records.add(time_unix_nano=time.time_ns())
    for text in ("a", "b"):
        record.attributes.add(key="k").value.string_value = text
    record.attributes.add(key="k").value.int_value = 3
    for user in ("u1", "u2"):
        record.attributes.add(key="user.id").value.string_value = user
    record.attributes.add(key="").value.string_value = "no name"
    send(stores, protocol, "logs", message)
    (row,) = stores.rows(f"service_name = '{name}'", 1)
    assert typed(row) == {"k": ("3", 3), "": ("no name", 1)}
    assert row["actor_id"] == "u2"


def test_keys_that_look_like_ours_stay_the_senders(stores: Stores) -> None:
    message, records = request("logs", "reserved")
    record = records.add(time_unix_nano=time.time_ns())
    for key in ("$otlp.types", "$otlp.flags", "$", "$$x"):
        record.attributes.add(key=key).value.string_value = "mine"
    send(stores, "http", "logs", message)
    (row,) = stores.rows("service_name = 'reserved'", 1)
    assert {key for key, text in row["attributes"].items() if text == "mine"} == {
        "$$otlp.types",
        "$$otlp.flags",
        "$$",
        "$$$x",
    }


@protocols
def test_10_000_attributes(stores: Stores, protocol: str) -> None:
    name = f"attributes-{protocol}"
    message, records = request("logs", name)
    record = records.add(time_unix_nano=time.time_ns())
    for index in range(10_000):
        record.attributes.add(key=f"k{index}").value.int_value = index
    send(stores, protocol, "logs", message)
    (row,) = stores.rows(f"service_name = '{name}'", 1)
    assert typed(row) == {f"k{index}": (str(index), 3) for index in range(10_000)}


@protocols
def test_values_of_every_type(stores: Stores, protocol: str) -> None:
    name = f"types-{protocol}"
    message, records = request("logs", name)
    record = records.add(time_unix_nano=time.time_ns())
    record.body.double_value = math.nan
    record.attributes.add(key="bytes").value.bytes_value = b"\0\xff"
    record.attributes.add(key="nan").value.double_value = math.nan
    record.attributes.add(key="text").value.string_value = "\0ä\U0001f600\t'\\"
    record.attributes.add(key="nothing")
    items = record.attributes.add(key="list").value.array_value
    items.values.add().double_value = math.inf
    items.values.add().bytes_value = b"x"
    record.attributes.add(key="empty list").value.array_value.SetInParent()
    record.attributes.add(key="pairs").value.kvlist_value.values.add(key="a").value.bool_value = False
    send(stores, protocol, "logs", message)
    (row,) = stores.rows(f"service_name = '{name}'", 1)
    found = typed(row)
    assert found.pop("text") == ("\0ä\U0001f600\t'\\", 1)
    assert found == {
        "bytes": ("AP8=", 7),
        "nan": ("NaN", 4),
        "nothing": ("", 0),
        "list": ('[{"$f":"Infinity"},{"$b64":"eA=="}]', 5),
        "empty list": ("[]", 5),
        "pairs": ('{"a":false}', 6),
    }
    assert json.loads(row["data"]) == {"body": {"$f": "NaN"}}


@protocols
def test_spans_that_end_before_they_start_or_never_start(stores: Stores, protocol: str) -> None:
    name, now_ns = f"backwards-{protocol}", time.time_ns()
    message, records = request("traces", name)
    ids = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8}
    records.add(name="backwards", start_time_unix_nano=now_ns, end_time_unix_nano=now_ns - NS, **ids)
    records.add(name="timeless", trace_id=bytes(16), span_id=bytes(8))
    records.add(
        name="beyond",
        start_time_unix_nano=U64_MAX,
        end_time_unix_nano=U64_MAX,
        kind=77,
        trace_id=b"\1" * 3,
        span_id=b"\2" * 20,
    )
    send(stores, protocol, "traces", message)
    rows = {row["event_name"]: row for row in stores.rows(f"service_name = '{name}'", 3)}
    assert rows["backwards"]["duration_ms"] == -1000
    assert filled(rows["timeless"]).keys() & {"started_at", "ended_at", "duration_ms", "trace_id", "span_id"} == set()
    assert rows["beyond"]["attributes"]["$otlp.start_time_ns"] == str(U64_MAX)
    assert rows["beyond"]["attributes"]["$otlp.kind"] == "77"
    assert (rows["beyond"]["trace_id"], rows["beyond"]["span_id"]) == ("010101", "02" * 20)


@protocols
def test_nesting_and_texts_as_large_as_the_limits_allow(stores: Stores, protocol: str) -> None:
    send(stores, protocol, "traces", nested(40))
    name = f"large-{protocol}"
    message, records = request("logs", name)
    record = records.add(time_unix_nano=time.time_ns())
    record.body.string_value = "x" * (3 << 20)
    record.attributes.add(key="k" * 60_000).value.string_value = "v"
    send(stores, protocol, "logs", message)
    (row,) = stores.rows(f"service_name = '{name}'", 1)
    assert row["log_message"] == "x" * (3 << 20)
    assert "k" * 60_000 in row["attributes"]
