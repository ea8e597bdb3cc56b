"""Every worked example of the specification, forwards and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from colonnade.unified_schema import mappings
from tests.mapping.kit import NS, back, read, run, shown

CASES = yaml.safe_load(read("worked_examples.yaml"))
# What `unify` makes of the other columns.
BY_UNIFY = {"http_host", "http_path", "http_query", "page_search", "campaign_name", "resource_ns", "ns", "id"}


def _time(text: str) -> str:
    whole, _, fraction = text.removesuffix("Z").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction.ljust(-(-len(fraction) // 3) * 3, '0')}Z" if fraction else f"{whole}Z"


def _expected(row: dict[str, Any]) -> dict[str, Any]:
    row = {name: value for name, value in row.items() if name not in BY_UNIFY}
    for name in ("timestamp", "started_at", "ended_at"):
        if name in row:
            row[name] = _time(row[name])
    if "replay_data" in row:
        row["replay_data"] = json.loads(row["replay_data"].removeprefix("zstd('").removesuffix("')"))
    return row


def _rows(output: dict[str, Any]) -> list[dict[str, Any]]:
    if "rows" in output:
        return [output["shared"] | row for row in output["rows"]]
    return [output]


def _made(case: dict[str, Any]) -> list[dict[str, Any]]:
    ns = json.loads(case["output"]).get("ns", NS)
    return [row | {"ns": ns} for row in run(case["mapping"], case["input"], tenant=ns)]


@pytest.mark.parametrize("case", CASES, ids=[case["title"] for case in CASES])
def test_the_example_becomes_these_rows(case: dict[str, Any]) -> None:
    made = _made(case)
    rows = [{k: v for k, v in shown(row).items() if k not in BY_UNIFY and not k.startswith("$")} for row in made]
    assert rows == [_expected(row) for row in _rows(json.loads(case["output"]))]


@pytest.mark.parametrize("case", CASES, ids=[case["title"] for case in CASES])
def test_the_example_comes_back(case: dict[str, Any]) -> None:
    made = _made(case)
    assert back(mappings.builtin(case["mapping"]), made) == json.loads(case["input"])
