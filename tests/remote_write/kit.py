"""Requests of both versions out of one description of series, their rows, and what rows say about series."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import snappy
from google.protobuf.message import Message

from colonnade.native import Batch, decode_remote_write

from .messages import ONE, TWO

STALE_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
TYPES = ("unknown", "counter", "gauge", "histogram", "gauge_histogram", "summary", "info", "stateset")
NOW_MS = 1_772_600_767_123
MAX_BYTES = 10 << 20
Labels = dict[str, str]


@dataclass
class Series:
    """A series of a request. `samples`: (value, time in ms) or with a start; `exemplars`: (labels, value, time in ms);
    `histograms`: fields of the message."""

    labels: Labels
    samples: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    histograms: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    exemplars: list[tuple[Labels, float, int]] = field(default_factory=list[tuple[Labels, float, int]])
    type: int = 0
    unit: str = ""
    help: str = ""


def histogram(message: Any, fields: dict[str, Any], version: int) -> None:
    """Fills a `Histogram`; spans are pairs."""
    for name, value in fields.items():
        if name == "start_timestamp" and version == 1:
            continue
        if name.endswith("_spans"):
            for offset, length in value:
                getattr(message, name).add(offset=offset, length=length)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)


def request_one(series: list[Series]) -> Any:
    """`prometheus.WriteRequest`; starts are left out."""
    request = ONE["WriteRequest"]()
    for one in series:
        made = request.timeseries.add()
        for name, value in one.labels.items():
            made.labels.add(name=name, value=value)
        for value, time_ms, *_ in one.samples:
            made.samples.add(value=value, timestamp=time_ms)
        for fields in one.histograms:
            histogram(made.histograms.add(), fields, 1)
        for labels, value, time_ms in one.exemplars:
            exemplar = made.exemplars.add(value=value, timestamp=time_ms)
            for name, text in labels.items():
                exemplar.labels.add(name=name, value=text)
        if one.type or one.unit or one.help:
            request.metadata.add(
                type=one.type, unit=one.unit, help=one.help, metric_family_name=one.labels.get("__name__", "")
            )
    return request


def request_two(series: list[Series]) -> Any:
    """`io.prometheus.write.v2.Request`."""
    request, places = TWO["Request"](symbols=[""]), {"": 0}

    def ref(text: str) -> int:
        if text not in places:
            places[text] = len(request.symbols)
            request.symbols.append(text)
        return places[text]

    for one in series:
        made = request.timeseries.add()
        made.labels_refs.extend(ref(text) for pair in one.labels.items() for text in pair)
        for value, time_ms, *start in one.samples:
            made.samples.add(value=value, timestamp=time_ms, start_timestamp=start[0] if start else 0)
        for fields in one.histograms:
            histogram(made.histograms.add(), fields, 2)
        for labels, value, time_ms in one.exemplars:
            refs = [ref(text) for pair in labels.items() for text in pair]
            made.exemplars.add(labels_refs=refs, value=value, timestamp=time_ms)
        if one.type or one.unit or one.help:
            made.metadata.type = one.type
            made.metadata.unit_ref, made.metadata.help_ref = ref(one.unit), ref(one.help)
    return request


def request(version: int, series: list[Series]) -> Any:
    return (request_one if version == 1 else request_two)(series)


@dataclass
class Decoded:
    """What a request became."""

    batch: Batch
    written: tuple[int, int, int]
    duplicates: int
    rejected: dict[str, int]
    messages: list[str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return rows_of(self.batch)


def decoded(version: Any, message: Message | bytes | list[Series], **options: Any) -> Decoded:
    """The rows of a request."""
    if isinstance(message, list):
        message = request(version, message)
    body = message if isinstance(message, bytes) else message.SerializeToString()
    packed = snappy.compress(body)
    batch, written, duplicates, rejected, messages = decode_remote_write(
        version, packed, **{"max_bytes": MAX_BYTES, **options}
    )
    return Decoded(batch, written, duplicates, dict(rejected), messages)


def rows_of(batch: Batch) -> list[dict[str, Any]]:
    """The rows without what is absent; times in nanoseconds, maps as dicts."""
    table = pa.table(pa.record_batch(batch))
    for number, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            table = table.set_column(number, column.name, table.column(number).cast(pa.int64()))
    return [
        {name: _plain(value) for name, value in row.items() if value not in (None, "", [])} for row in table.to_pylist()
    ]


def _plain(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return {key: entry["text"] if isinstance(entry, dict) else entry for key, entry in value}


# --- what rows say


def same(value: float) -> Any:
    """A value that equals itself: NaN by its bits."""
    return struct.pack("<d", value) if math.isnan(value) else value


def number(value: Any) -> Any:
    """A number of JSON, where it may be none of JSON's."""
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return special[value["$f"]] if isinstance(value, dict) else value


def undoubled(labels: Labels) -> tuple[Labels, Labels]:
    """The sender's labels and ours."""
    ours = {key: text for key, text in labels.items() if key.startswith("$") and not key.startswith("$$")}
    return {key[1:] if key.startswith("$$") else key: text for key, text in labels.items() if key not in ours}, ours


def buckets(first: int, counts: list[Any]) -> dict[int, Any]:
    """Buckets with observations, by Prometheus' index."""
    return {first + at: count for at, count in enumerate(counts) if count}


def told(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says, as `said` says it of a request."""
    labels, ours = undoubled(row.get("labels", {}))
    notes = row.get("attributes", {})
    out: dict[str, Any] = {
        "labels": {"__name__": row["metric_name"], **labels},
        "time_ms": row["timestamp"] // 1_000_000,
        "start_ms": row.get("started_at", 0) // 1_000_000 or int(notes.get("$prometheus.start_ms", 0)),
        "unit": row.get("metric_unit", ""),
        "help": ours.get("$help", ""),
    }
    kind = row["metric_type"]
    shape = json.loads(row["metric_buckets"]) if "metric_buckets" in row else None
    if shape is None and "metric_sum" not in row and kind != "exponential_histogram":
        out["type"] = kind
        if "$stale" in ours:
            out["value"] = same(STALE_NAN)
        elif "metric_value" in row:
            out["value"] = same(row["metric_value"])
        return out
    out["type"] = notes.get("$prometheus.type", "histogram")
    out["sum"] = same(STALE_NAN if "$stale" in ours else row["metric_sum"])
    out["hint"] = int(notes.get("$prometheus.reset_hint", 0))
    count = notes.get("$prometheus.count")
    out["count"] = row.get("metric_count", 0) if count is None else float(count) if "." in count else int(count)
    if shape and "bounds" in shape:
        out |= {"bounds": [number(bound) for bound in shape["bounds"]], "positive": buckets(0, shape["counts"])}
    elif shape:
        sides = {name: buckets(shape[name]["offset"] + 1, shape[name]["counts"]) for name in ("positive", "negative")}
        out |= {"schema": shape["scale"], "zero": (shape["zero_threshold"], shape["zero_count"]), **sides}
    return out


def exemplars_told(rows: list[dict[str, Any]]) -> list[Any]:
    """Every exemplar of these rows: labels of its series, its own, value, time."""
    found = []
    for row in rows:
        labels = {"__name__": row["metric_name"], **undoubled(row.get("labels", {}))[0]}
        for one in json.loads(row["data"])["exemplars"] if "data" in row else ():
            ids = {name: one[name] for name in ("trace_id", "span_id") if name in one}
            own = undoubled_keys(one.get("attributes", {})) | ids
            found.append(
                (sorted(labels.items()), sorted(own.items()), same(number(one["value"])), one["time_ns"] // 10**6)
            )
    return sorted(found, key=repr)


def undoubled_keys(labels: Labels) -> Labels:
    return {key.removeprefix("$") if key.startswith("$$") else key: text for key, text in labels.items()}


def said(version: int, series: list[Series], *, help: bool = False) -> list[dict[str, Any]]:
    """What a request says of each sample and histogram, in the order of its rows."""
    # What 1.0 says about a name holds for all series of it: the last one counts.
    by_name = {one.labels["__name__"]: one for one in series if one.type or one.unit or one.help}
    out: list[dict[str, Any]] = []
    for one in series:
        known = by_name.get(one.labels["__name__"], one) if version == 1 else one
        common = {
            "labels": one.labels,
            "unit": known.unit,
            "help": known.help if help else "",
            "type": TYPES[known.type],
        }
        for value, time_ms, *start in one.samples:
            start_ms = start[0] if start and version == 2 else 0
            out.append({**common, "value": same(value), "time_ms": time_ms, "start_ms": start_ms})
        for fields in one.histograms:
            out.append({**common, **histogram_said(fields, version)})
    return out


def histogram_said(fields: dict[str, Any], version: int) -> dict[str, Any]:
    out: dict[str, Any] = {
        "time_ms": fields["timestamp"],
        "start_ms": fields.get("start_timestamp", 0) if version == 2 else 0,
        "sum": same(fields["sum"]),
        "hint": fields.get("reset_hint", 0),
        "count": fields.get("count_float", fields.get("count_int", 0)),
    }
    if out["sum"] == same(STALE_NAN):
        return out
    sides = {}
    for side in ("positive", "negative"):
        counts, total = list(fields.get(f"{side}_counts", ())), 0
        for delta in fields.get(f"{side}_deltas", ()):
            total += delta
            counts.append(total)
        index, places = 0, []
        for offset, length in fields.get(f"{side}_spans", ()):
            index += offset
            places += range(index, index + length)
            index += length
        sides[side] = {place: count for place, count in zip(places, counts, strict=True) if count}
    if fields.get("schema") == -53:
        return out | {"bounds": fields["custom_values"], "positive": sides["positive"]}
    zero = fields.get("zero_count_float", fields.get("zero_count_int", 0))
    return out | {"schema": fields.get("schema", 0), "zero": (fields.get("zero_threshold", 0.0), zero), **sides}
