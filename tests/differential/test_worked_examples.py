"""The mapping's worked examples, column by column and back again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.message import Message

from colonnade.native import Batch, json_to_protobuf

from .kit import assert_says, completed, decoded, rows_of
from .messages import REQUESTS

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "worked_examples.yaml").read_text(encoding="utf-8"))
EXAMPLES = pytest.mark.parametrize("case", CASES["examples"], ids=lambda case: case["name"])
LISTS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}
JSON_COLUMNS = {"context", "data", "metric_buckets", "metric_quantiles"}
TIMES = {"timestamp", "started_at", "ended_at"}
# How `kind` of an attribute reads its text; the others are JSON.
TEXT_KINDS = {0: lambda _: None, 1: str}


def request(case: dict[str, Any]) -> Message:
    """The example's parts as a request, through the reader of OTLP/JSON."""
    resources, scopes, records = LISTS[case["signal"]]
    given = case["input"]
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in given["resource"].items()]
    scope = {"scope": given.get("scope", {}), records: [given["record"]]}
    text = json.dumps({resources: [{"resource": {"attributes": attributes}, scopes: [scope]}]})
    return REQUESTS[case["signal"]].FromString(json_to_protobuf(case["signal"], text.encode()))


def row_of(batch: Batch) -> dict[str, Any]:
    """The columns of the only row that say something, as the examples write them."""
    [row] = rows_of(batch)
    return {name: written(name, cell) for name, cell in row.items() if cell not in (None, "", [])}


def written(name: str, cell: Any) -> Any:
    if name in JSON_COLUMNS:
        return json.loads(cell)
    if name == "attributes":
        return {key: TEXT_KINDS.get(value["kind"], json.loads)(value["text"]) for key, value in cell}
    if name == "labels":
        return dict(cell)
    if name in TIMES:
        second, nanosecond = divmod(cell, 10**9)
        return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{nanosecond:09}Z"
    return str(cell) if name == "day" else cell


def without_kept(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row, and what its maps hold under reserved keys."""
    kept: dict[str, Any] = {}
    for name in ("attributes", "labels"):
        cell = row.pop(name, {})
        kept |= {key: value for key, value in cell.items() if key.startswith("$otlp.")}
        if own := {key: value for key, value in cell.items() if not key.startswith("$otlp.")}:
            row[name] = own
    return row, kept


@EXAMPLES
def test_the_example_makes_this_row(case: dict[str, Any]) -> None:
    row, kept = without_kept(row_of(completed(decoded(case["signal"], [request(case)], whole=True))))
    unshown = [name for name in CASES["left_out"] if name not in case["output"]]
    assert set(unshown) <= set(row)
    assert {name: cell for name, cell in row.items() if name not in unshown} == case["output"]
    assert kept == case["kept"]


@EXAMPLES
@pytest.mark.parametrize("whole", [False, True], ids=["residual", "whole"])
def test_the_row_makes_the_example(case: dict[str, Any], whole: bool) -> None:
    message = request(case)
    batch = decoded(case["signal"], [message], whole=whole)
    assert_says(case["signal"], batch, [message])
    assert_says(case["signal"], completed(batch), [message])
