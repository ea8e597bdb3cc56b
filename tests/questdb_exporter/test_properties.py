"""Any text and number comes back from the real server as it was sent; lines are spelled as the official client does."""

from __future__ import annotations

import json
import math
import struct
from functools import cache
from typing import Any

import pyarrow as pa
import questdb as client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colonnade.native import Batch, encode_lines
from tests.questdb_exporter.kit import BASE_NS, config_of, running, slice_of
from tests.servers.questdb import QuestDBServer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(
    st.sampled_from(" ,=\\\"'\n\r\t\0/{}[]:ä€🎉\x7f\x1b"), max_size=12
)
# The server refuses a bare NUL: we quote such a symbol, and the client does not.
BARE = TEXT.filter(lambda text: text and "\0" not in text)
DOUBLE = st.floats(width=64)
LONG = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0])
LABELS = st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=3, unique_by=lambda pair: pair[0])
ROW = st.tuples(TEXT, TEXT, LABELS, DOUBLE, LONG)
Row = tuple[str, str, list[tuple[str, str]], float, int]


def batch_of(rows: list[Row]) -> Batch:
    """Histogram points: texts as a dictionary and plain, labels, a sum and a count."""
    names, texts, labels, doubles, longs = (list(column) for column in zip(*rows, strict=True))
    text = pa.dictionary(pa.int32(), pa.utf8())
    columns: dict[str, Any] = {
        "event_type": pa.array(["metric"] * len(rows)).cast(text),
        "timestamp": pa.array([BASE_NS + n for n in range(len(rows))], pa.timestamp("ns", "UTC")),
        "service_name": pa.array(names).cast(text),
        "service_instance": pa.array(texts),
        "metric_type": pa.array(["histogram"] * len(rows)).cast(text),
        "metric_count": pa.array(longs, pa.int64()),
        "metric_sum": pa.array(doubles, pa.float64()),
        "labels": pa.array(labels, pa.map_(pa.utf8(), pa.utf8())),
        "context": pa.array([json.dumps({"t": text}) for text in texts]).cast(text),
    }
    return Batch.from_arrow(pa.record_batch(columns), "metrics", completed=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=1, max_size=30))
async def test_what_is_written_reads_back(questdb_server: QuestDBServer, questdb_prefix: str, rows: list[Row]) -> None:
    config = config_of(questdb_server.url, questdb_prefix, symbols=["service_name", "service_instance"])
    table = f"{questdb_prefix}histogram"
    async with running(config) as exporter:
        await exporter._ready()
        questdb_server.query(f'TRUNCATE TABLE "{table}"')
        await exporter.export(slice_of(batch_of(rows)))
    columns = "service_name, service_instance, labels, resource, metric_sum, metric_count, attributes"
    found = questdb_server.rows(table, columns, "ORDER BY timestamp")
    assert len(found) == len(rows)
    for (name, text, labels, double, long), got in zip(rows, found, strict=True):
        assert (got[0] or "", got[1] or "") == (name, text)
        assert json.loads(got[2] or "{}") == dict(labels)
        assert json.loads(got[3])["context"] == {"t": text}
        told = json.loads(got[6] or "{}")
        assert same(double, got[4] if "$metric_sum" not in told else float(told["$metric_sum"].replace("inity", "")))
        assert long == (got[5] if "$metric_count" not in told else int(told["$metric_count"]))
        assert ("$metric_sum" in told, "$metric_count" in told) == (not math.isfinite(double), long == -(2**63))


def same(one: float, other: float) -> bool:
    return struct.pack("<d", one) == struct.pack("<d", other) or (math.isnan(one) and math.isnan(other))


@cache
def official_client() -> Any:
    """Nothing is sent with it, and nobody connected to."""
    sender = client.Sender(client.Protocol.Http, "127.0.0.1", 1, auto_flush=False, protocol_version=2)
    sender.establish()
    return sender


@settings(max_examples=200, deadline=None)
@given(BARE, TEXT.filter(bool), DOUBLE, LONG, st.integers(0, 2**63 - 1))
def test_lines_are_spelled_as_the_official_client_does(
    name: str, text: str, double: float, long: int, time: int
) -> None:
    buffer = official_client().new_buffer()
    columns: dict[str, Any] = {"text": text, "double": double, "long": long}
    buffer.row("a table", symbols={"name": name}, columns=columns, at=client.TimestampNanos(time))
    data: dict[str, Any] = {
        "timestamp": pa.array([time], pa.timestamp("ns", "UTC")),
        "service_name": pa.array([name]),
        "log_message": pa.array([text]),
        "metric_sum": pa.array([double], pa.float64()),
        "metric_count": pa.array([long], pa.int64()),
    }
    batch = Batch.from_arrow(pa.record_batch(data), "logs", completed=True)
    targets = [
        ("name", "service_name", "SYMBOL"),
        ("text", "log_message", "VARCHAR"),
        ("double", "metric_sum", "DOUBLE"),
        ("long", "metric_count", "LONG"),
    ]
    block, counts = encode_lines([batch], [("events", "a table", targets)], 0)
    # The client says the unit of the time; we say it for the whole request.
    assert bytes(memoryview(block)) == bytes(buffer).removesuffix(b"n\n") + b"\n"
    assert counts == [1]
