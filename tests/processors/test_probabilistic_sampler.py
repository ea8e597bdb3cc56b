"""The processor `probabilistic_sampler`: what is kept and what it says of that, beside the Collector's."""

from __future__ import annotations

import json
import math
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from colonnade import native
from colonnade.pipeline.component import BatchContext, ComponentId
from colonnade.processors import probabilistic_sampler
from colonnade.processors.probabilistic_sampler import Config, ProbabilisticSampler
from tests.daemon_process import Daemon, otlp_config
from tests.differential.messages import seeded
from tests.pipeline.kit import FakeHost

from .attribute_model import any_of, records
from .test_attributes import decoded, encoded

GO_SAMPLER = Path(__file__).with_name("go_sampler")
VECTORS = Path(__file__).with_name("cases") / "probabilistic_sampler.json"
MODES = ("hash_seed", "proportional", "equalizing")
# Kept at 50 % and no less: its last 56 bits are just the threshold `8`.
HALF = "fefefefefefefefefe80000000000000"
NO_ID = "0" * 32

Item = dict[str, Any]


def sampled(batch: native.Batch, **section: Any) -> tuple[native.Batch | None, FakeHost, dict[Any, int]]:
    """What is kept, what was counted, and what was accounted for as left out."""
    processor = ProbabilisticSampler(ComponentId("probabilistic_sampler"), Config.model_validate(section))
    ctx = BatchContext(batch.signal, 0, b"i" * 16, FakeHost("probabilistic_sampler", kind="processor"))
    kept = processor.process(batch, ctx)
    assert batch.rows == (kept.rows if kept else 0) + sum(ctx.dropped.values())
    return kept, ctx.host, ctx.dropped  # pyright: ignore[reportReturnType]


def message(signal: str, items: Sequence[Item]) -> Any:
    """One record per item: `trace_id` in hex, `state` of a span, `attributes`. Its number tells it from others."""
    request: Any = ExportTraceServiceRequest() if signal == "traces" else ExportLogsServiceRequest()
    if signal == "traces":
        group = request.resource_spans.add().scope_spans.add().spans
    else:
        group = request.resource_logs.add().scope_logs.add().log_records
    for number, item in enumerate(items):
        record = group.add(trace_id=bytes.fromhex(item.get("trace_id", HALF)), span_id=(number + 1).to_bytes(8, "big"))
        if signal == "traces":
            record.trace_state = item.get("state", "")
        for key, value in item.get("attributes", {}).items():
            record.attributes.add(key=key).value.CopyFrom(any_of(value))
    return request


def told(signal: str, items: Sequence[Item], **section: Any) -> list[Any]:
    """What each item says after the sampler: a span its trace state, a log record threshold and randomness; None for
    what is left out."""
    kept, *_ = sampled(decoded(signal, message(signal, items)), **section)
    return said(signal, len(items), encoded(signal, kept) if kept else None)


def said(signal: str, count: int, request: Any) -> list[Any]:
    found: list[Any] = [None] * count
    for record in records(request) if request is not None else ():
        attributes = {pair.key: pair.value.string_value for pair in record.attributes}
        pair = [attributes.get("sampling.threshold", ""), attributes.get("sampling.randomness", "")]
        found[int.from_bytes(record.span_id, "big") - 1] = record.trace_state if signal == "traces" else pair
    return found


# --- what the Collector documents, by OpenTelemetry's rules

SPANS: list[tuple[float, str, str, str | None, str | None]] = [
    # Percentage, trace id, trace state; what is told where earlier sampling is multiplied, and where it is equalized.
    (100, HALF, "", "ot=th:0", "ot=th:0"),
    (50, HALF, "", "ot=th:8", "ot=th:8"),
    (49, HALF, "", None, None),
    (25, "dddddddddddddddddd" + "c0000000000000", "", "ot=th:c", "ot=th:c"),
    (25, "dddddddddddddddddd" + "b0000000000000", "", None, None),
    (1, "1" * 18 + "f" * 14, "", "ot=th:fd70a", "ot=th:fd70a"),
    # Explicit randomness wins over the trace id.
    (25, HALF, "ot=rv:c0000000000000", "ot=rv:c0000000000000;th:c", "ot=rv:c0000000000000;th:c"),
    (25, "1" * 18 + "f" * 14, "ot=rv:00000000000000", None, None),
    # Sampled before, at a half and at a quarter.
    (50, "1" * 18 + "f" * 14, "ot=th:8", "ot=th:c", "ot=th:8"),
    (50, HALF, "ot=th:8", None, "ot=th:8"),
    (50, "1" * 18 + "f" * 14, "ot=th:c", "ot=th:e", "ot=th:c"),
    (100, HALF, "ot=th:8", "ot=th:8", "ot=th:8"),
    # What others said stays, ours comes first.
    (50, HALF, "rojo=00f067aa, ot=a:b", "ot=th:8;a:b,rojo=00f067aa", "ot=th:8;a:b,rojo=00f067aa"),
    # Nothing to decide by; unreadable; a threshold that would have left it out.
    (100, NO_ID, "", None, None),
    (100, NO_ID, "ot=rv:80000000000000", "ot=rv:80000000000000;th:0", "ot=rv:80000000000000;th:0"),
    (100, HALF, "ot=th:nothing", None, None),
    (100, HALF, "!", None, None),
    (100, HALF, "ot=rv:8", None, None),
    (100, HALF, "ot=th:9", None, None),
    (0, "1" * 18 + "f" * 14, "", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("percentage", "trace_id", "state", "proportional", "equalizing"), SPANS)
def test_spans_say_how_they_were_chosen(
    percentage: float, trace_id: str, state: str, proportional: str | None, equalizing: str | None
):
    for mode, wanted in (("proportional", proportional), ("equalizing", equalizing)):
        item = {"trace_id": trace_id, "state": state}
        assert told("traces", [item], mode=mode, sampling_percentage=percentage) == [wanted], mode


OPEN: list[tuple[str, Item, Any]] = [
    # What cannot be decided is kept as it is, but for a threshold that cannot be.
    ("traces", {"trace_id": NO_ID}, "ot=th:0"),
    ("traces", {"state": "ot=th:nothing"}, "ot=th:nothing"),
    ("traces", {"state": "ot=th:9;a:b"}, "ot=th:0;a:b"),
    ("logs", {"trace_id": NO_ID}, ["0", ""]),
    ("logs", {"attributes": {"sampling.threshold": "nothing"}}, ["nothing", ""]),
    ("logs", {"attributes": {"sampling.randomness": "8"}}, ["", "8"]),
    ("logs", {"attributes": {"sampling.threshold": "9"}}, ["0", ""]),
]


@pytest.mark.parametrize(("signal", "item", "wanted"), OPEN)
def test_what_can_not_be_decided_is_left_out_or_kept_as_the_file_says(signal: str, item: Item, wanted: Any):
    section = {"mode": "equalizing", "sampling_percentage": 50}
    assert told(signal, [item], fail_closed=False, **section) == [wanted]
    assert told(signal, [item], **section) == [None]


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_a_hash_does_not_decide_over_what_was_sampled_by_the_specification(signal: str):
    for state, attribute in (("ot=th:8", "sampling.threshold"), ("ot=rv:80000000000000", "sampling.randomness")):
        text = state.partition(":")[2]
        item = {"state": state, "attributes": {} if signal == "traces" else {attribute: text}}
        assert told(signal, [item], sampling_percentage=100) == [None]
        (kept,) = told(signal, [item], sampling_percentage=100, fail_closed=False)
        assert kept == state if signal == "traces" else text in kept


PRIORITIES: list[tuple[Any, bool, bool]] = [
    # Value, whether a span is kept at 0 %, and at 100 %.
    (0, False, False),
    (0.0, False, False),
    ("0", False, False),
    ("0.0", False, False),
    (1, True, True),
    (0.5, True, True),
    ("2", True, True),
    (-1, False, True),
    (math.nan, False, True),
    ("high", False, True),
    (True, False, True),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("value", "at_0", "at_100"), PRIORITIES)
def test_the_priority_of_a_span_overrules(value: Any, at_0: bool, at_100: bool, mode: str):
    item = {"attributes": {"sampling.priority": value}}
    for percentage, kept in ((0, at_0), (100, at_100)):
        (state,) = told("traces", [item], mode=mode, sampling_percentage=percentage)
        assert (state is not None) == kept
        assert state is None or state.endswith("th:0")


@pytest.mark.parametrize(
    ("value", "threshold"),
    [(0, None), (0.0, None), (100, "0"), (250.5, "0"), (50, "8"), (25.0, "c"), (-5, "e"), ("50", "e"), (None, "e")],
)
def test_the_priority_of_a_log_record_is_a_percentage_of_its_own(value: Any, threshold: str | None):
    attributes = {} if value is None else {"priority": value}
    section = {"mode": "proportional", "sampling_percentage": 12.5, "sampling_priority": "priority"}
    (pair,) = told("logs", [{"trace_id": "f" * 32, "attributes": attributes}], **section)
    assert pair == (threshold and [threshold, ""])


def test_a_priority_keeps_what_can_not_be_decided():
    spans = [{"trace_id": NO_ID, "attributes": {"sampling.priority": 1}}]
    assert told("traces", spans, mode="equalizing", sampling_percentage=10) == ["ot=th:0"]
    records = [{"trace_id": NO_ID, "attributes": {"mine": 10}}]
    assert told("logs", records, sampling_percentage=10, sampling_priority="mine") == [["e666", ""]]


def test_a_log_record_is_decided_by_its_attribute_where_the_trace_id_is_not_to():
    items = [{"trace_id": trace_id, "attributes": {"id": value}} for trace_id in (HALF, NO_ID) for value in ("a", b"a")]
    of_record = told("logs", items, sampling_percentage=100, attribute_source="record", from_attribute="id")
    assert len({randomness for _, randomness in of_record}) == 1, "text and bytes hash alike"
    with_id, _, without_id, _ = told("logs", items, sampling_percentage=100, from_attribute="id")
    assert with_id != without_id == of_record[0]
    assert told("logs", [{"trace_id": NO_ID}], sampling_percentage=100, from_attribute="id") == [None]
    # By the specification only trace ids decide.
    spec = {"mode": "proportional", "sampling_percentage": 100, "attribute_source": "record", "from_attribute": "id"}
    assert told("logs", items, **spec) == [["0", ""], ["0", ""], None, None]


def test_an_attribute_decides_wherever_it_lives():
    """`user.id` has a column of its own."""
    items = [{"trace_id": NO_ID, "attributes": {key: "someone"}} for key in ("user.id", "mine")]
    batch = decoded("logs", message("logs", items))
    assert "actor_id" in batch.column_names
    pairs = [
        told("logs", items, sampling_percentage=100, from_attribute=key, attribute_source="record")[number]
        for number, key in enumerate(("user.id", "mine"))
    ]
    assert pairs[0] == pairs[1]
    assert pairs[0][1]


# --- what is kept stays what it was


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_what_is_kept_stays_as_it_was_but_for_how_it_was_chosen(signal: str, mode: str):
    rows = kept_rows = 0
    for seed in range(150):
        given = seeded(signal, seed)
        batch = decoded(signal, given)
        kept, *_ = sampled(batch, mode=mode, sampling_percentage=60, fail_closed=False)
        if kept is None:
            continue
        left = Counter(_untold(record) for record in records(encoded(signal, kept)))
        assert not left - Counter(_untold(record) for record in records(encoded(signal, batch))), seed
        rows, kept_rows = rows + batch.rows, kept_rows + kept.rows
        assert kept.rows == len(pa.record_batch(kept)) == sum(left.values())
    assert rows > kept_rows > rows / 4


def _untold(record: Any) -> bytes:
    copy = type(record)()
    copy.CopyFrom(record)
    if hasattr(copy, "trace_state"):
        copy.trace_state = ""
    pairs = sorted((p.key, p.SerializeToString()) for p in copy.attributes if not p.key.startswith("sampling."))
    del copy.attributes[:]
    return copy.SerializeToString(deterministic=True) + repr(pairs).encode()


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_completed_rows_are_decided_alike(signal: str):
    items = _items(random.Random(7), signal, 200)
    batch = decoded(signal, message(signal, items))
    completed, _ = native.Unify().complete(batch, 1_800_000_000_000_000_000, b"i" * 16)
    for mode in MODES:
        before, *_ = sampled(batch, mode=mode, sampling_percentage=40)
        after, *_ = sampled(completed, mode=mode, sampling_percentage=40)
        assert before is not None
        assert after is not None
        finished, _ = native.Unify().complete(before, 1_800_000_000_000_000_000, b"i" * 16)
        assert pa.record_batch(after).to_pylist() == pa.record_batch(finished).to_pylist()


def test_a_request_that_needs_no_change_keeps_its_bytes():
    items = [{"state": "ot=th:8"}, {"state": "ot=th:c", "trace_id": "f" * 32}]
    batch = decoded("traces", message("traces", items))
    kept, *_ = sampled(batch, mode="equalizing", sampling_percentage=60)
    assert kept is not None
    assert kept.payloads == batch.payloads
    changed, *_ = sampled(batch, mode="equalizing", sampling_percentage=40)
    assert changed is not None
    assert changed.payloads is None


# --- properties


def _of_ids(ids: Sequence[bytes]) -> native.Batch:
    return decoded("traces", message("traces", [{"trace_id": one.hex()} for one in ids]))


def _kept_ids(batch: native.Batch, **section: Any) -> set[str]:
    kept, *_ = sampled(batch, **section)
    return {row["trace_id"] for row in pa.record_batch(kept).select(["trace_id"]).to_pylist()} if kept else set()


@given(seed=st.integers(0, 2**32 - 1), percentage=st.floats(0.5, 99.5), mode=st.sampled_from(MODES))
def test_the_share_that_is_kept_lies_within_the_bounds_of_chance(seed: int, percentage: float, mode: str):
    rng, count = random.Random(seed), 4000
    batch = _of_ids([rng.randbytes(16) for _ in range(count)])
    kept = _kept_ids(batch, mode=mode, sampling_percentage=percentage, hash_seed=seed)
    share = percentage / 100
    # Six standard deviations: once in half a billion.
    assert abs(len(kept) - count * share) <= 6 * math.sqrt(count * share * (1 - share)) + 1


@given(
    ids=st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=60),
    percentages=st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)).map(sorted),
    mode=st.sampled_from(MODES),
    cut=st.integers(0, 60),
)
def test_instances_agree_and_a_higher_percentage_keeps_what_a_lower_one_does(
    ids: list[bytes], percentages: list[float], mode: str, cut: int
):
    low, high = ({"mode": mode, "sampling_percentage": percentage, "hash_seed": 5} for percentage in percentages)
    whole = _kept_ids(_of_ids(ids), **low)
    parts = [part for part in (ids[:cut], ids[cut:]) if part]
    assert whole == set().union(*(_kept_ids(_of_ids(part[::-1]), **low) for part in parts))
    assert whole <= _kept_ids(_of_ids(ids), **high)


def test_tiers_with_seeds_of_their_own_decide_independently():
    rng = random.Random(1)
    batch = _of_ids([rng.randbytes(16) for _ in range(4000)])
    one, other = (_kept_ids(batch, sampling_percentage=50, hash_seed=seed) for seed in (1, 2))
    assert 800 < len(one & other) < 1200


# --- counting


def test_what_is_left_out_is_counted_by_what_decided():
    items = [
        {"trace_id": "f" * 32},
        {"trace_id": "1" * 32},
        {"trace_id": NO_ID},
        {"state": "ot=rv:00000000000000"},
        {"attributes": {"sampling.priority": 1}},
    ]
    kept, host, dropped = sampled(
        decoded("traces", message("traces", items)), mode="proportional", sampling_percentage=25
    )
    assert kept is not None
    name = "processor_probabilistic_sampler_count_traces_sampled"
    counted = {
        (labels["policy"], labels["sampled"]): rows
        for (counted, told), rows in host.labelled.items()
        if counted == name and (labels := dict(told))
    }
    assert counted == {
        ("trace_id_w3c", "true"): 1,
        ("trace_id_w3c", "false"): 1,
        ("missing_randomness", "false"): 1,
        ("sampling_randomness", "false"): 1,
        ("sampling_priority", "true"): 1,
    }
    assert dropped == {
        ("sampled", policy): 1 for policy in ("trace_id_w3c", "missing_randomness", "sampling_randomness")
    }
    _, host, dropped = sampled(
        decoded("logs", message("logs", [{"attributes": {"id": "x"}}])),
        attribute_source="record",
        from_attribute="id",
        sampling_percentage=100,
    )
    assert host.labelled_of("processor_probabilistic_sampler_count_logs_sampled", policy="id", sampled="true") == 1
    assert not dropped


def test_a_daemon_accounts_for_every_row(start_daemon: Callable[..., Daemon]):
    rng, sent = random.Random(3), 400
    sampler = {"probabilistic_sampler": {"sampling_percentage": 30}}
    daemon = start_daemon(otlp_config({"nop": None}, processors=sampler, signals=("traces", "logs")))
    for signal in ("traces", "logs"):
        items = [{"trace_id": rng.randbytes(16).hex()} for _ in range(sent)]
        assert daemon.post(signal, message(signal, items).SerializeToString()).status == 200
        kept = sum(one is not None for one in told(signal, items, sampling_percentage=30))
        daemon.wait_metric("pipeline_stored_items", kept, pipeline=signal)
        assert daemon.metric("pipeline_stored_items", pipeline=signal) == kept
        assert daemon.metric("pipeline_sampled_items", pipeline=signal) == sent - kept
        assert daemon.metric("pipeline_accepted_items", pipeline=signal) == sent
        name = f"processor_probabilistic_sampler_count_{signal}_sampled"
        assert daemon.metric(name, policy="trace_id_hash", sampled="true") == kept
        assert daemon.metric(name, policy="trace_id_hash", sampled="false") == sent - kept


# --- configuration


@pytest.mark.parametrize(
    "section",
    [
        {"sampling_percentage": -1},
        {"sampling_percentage": math.nan},
        {"sampling_percentage": math.inf},
        {"sampling_percentage": 1e-20},
        {"sampling_percentage": 10, "sampling_precision": 0},
        {"sampling_percentage": 10, "sampling_precision": 15},
        {"sampling_percentage": 10, "mode": "random"},
        {"sampling_percentage": 10, "hash_seed": 2**32},
        {"sampling_percentage": 10, "hash_seed": -1},
        {"sampling_percentage": 10, "attribute_source": "resource"},
        {"sampling_percentage": 10, "sampling_rate": 3},
    ],
)
def test_wrong_sections_are_refused(section: dict[str, Any]):
    with pytest.raises(ValidationError) as refused:
        Config.model_validate(section)
    assert refused.value.errors()[0]["loc"][0] in section


def test_sections_of_the_documentation_load():
    documented = (probabilistic_sampler.__doc__ or "").split("\n\n")[1]
    section = yaml.safe_load(documented)["processors"]["probabilistic_sampler"]
    assert Config.model_validate(section).sampling_percentage == 50
    for more in ({"mode": ""}, {"sampling_percentage": 0}, {"sampling_percentage": 250}, {"sampling_precision": 14}):
        Config.model_validate({**section, **more})


# --- the Collector's own program

SECTIONS: dict[str, list[dict[str, Any]]] = {
    "traces": [
        {"sampling_percentage": percentage, "mode": mode, **more}
        for mode in MODES
        for percentage in (0, 0.003, 7.3, 33.3, 50, 99.97, 120)
        for more in ({}, {"fail_closed": False}, {"hash_seed": 22, "sampling_precision": 6})
    ],
    "logs": [
        {"sampling_percentage": percentage, "mode": mode, **more}
        for mode in MODES
        for percentage in (0, 12.5, 66.6, 100)
        for more in (
            {},
            {"fail_closed": False, "sampling_priority": "mine"},
            {"hash_seed": 4294967295, "from_attribute": "id"},
            {"attribute_source": "record", "from_attribute": "id", "sampling_precision": 1},
        )
    ],
}
STATES = ("", "", "", "ot=th:8", "ot=th:c;rv:{rv}", "ot=rv:{rv}", "a=1,ot=th:4;x:y", "ot=th:z", "x=y", "!")


def _items(rng: random.Random, signal: str, count: int) -> list[Item]:
    """Spans or log records that were sampled before, or not, or badly."""
    items: list[Item] = []
    for _ in range(count):
        item: Item = {"trace_id": rng.choice((rng.randbytes(16).hex(),) * 9 + (NO_ID,)), "attributes": {}}
        randomness = rng.randbytes(7).hex()
        if signal == "traces":
            item["state"] = rng.choice(STATES).format(rv=randomness)
            if rng.random() < 0.1:
                item["attributes"]["sampling.priority"] = rng.choice((0, 1, -1, 0.5, "0", "1", "x", True))
        else:
            said = {"sampling.threshold": rng.choice(("8", "c", "z", "", 8)), "sampling.randomness": randomness}
            item["attributes"].update((key, value) for key, value in said.items() if rng.random() < 0.15)
            if rng.random() < 0.3:
                item["attributes"]["mine"] = rng.choice((1, 50.5, 100, "7"))
            if rng.random() < 0.8:
                item["attributes"]["id"] = rng.choice((rng.randbytes(4).hex(), rng.random(), rng.randrange(99), b"xyz"))
        items.append(item)
    return items


def _is_readable(signal: str, item: Item) -> bool:
    return item.get("state") not in ("ot=th:z", "!") and item["attributes"].get("sampling.threshold") != "z"


def _collectors(program: Path, signal: str, section: dict[str, Any], items: Sequence[Item]) -> list[Any]:
    """What the Collector's processor makes of the items."""
    body = message(signal, items).SerializeToString()
    done = subprocess.run(
        [str(program), signal, json.dumps(section)],
        input=len(body).to_bytes(4, "big") + body,
        stdout=subprocess.PIPE,
        check=True,
    )
    request = type(message(signal, []))()
    request.ParseFromString(done.stdout[4:])
    return said(signal, len(items), request)


def _vectors(program: Path) -> list[dict[str, Any]]:
    """What the Collector keeps of trace ids by seed and percentage, and the thresholds and randomness that it tells."""
    rng = random.Random(42)
    items = [{"trace_id": rng.randbytes(16).hex()} for _ in range(60)]
    sections = [
        {"sampling_percentage": percentage, "mode": mode, "hash_seed": seed}
        for mode in MODES
        for percentage in (3, 50, 90.5)
        for seed in ((0, 22, 4294967295) if mode == "hash_seed" else (0,))
    ]
    return [
        {"section": section, "told": dict(zip((i["trace_id"] for i in items), answers, strict=True))}
        for section in sections
        if (answers := _collectors(program, "traces", section, items))
    ]


def test_the_traces_that_the_collector_keeps_are_kept():
    vectors = json.loads(VECTORS.read_text())
    assert len(vectors) == 15
    for vector in vectors:
        items = [{"trace_id": trace_id} for trace_id in vector["told"]]
        assert told("traces", items, **vector["section"]) == list(vector["told"].values()), vector["section"]


@pytest.fixture(scope="module")
def go_sampler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("go") / "go_sampler"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=GO_SAMPLER, check=True)
    return program


@pytest.mark.peer
@pytest.mark.timeout(600)
@pytest.mark.parametrize("signal", SECTIONS)
def test_the_collector_decides_alike_and_says_the_same(go_sampler: Path, signal: str):
    kept = 0
    for number, section in enumerate(SECTIONS[signal]):
        items = _items(random.Random(number), signal, 300)
        wanted = _collectors(go_sampler, signal, section, items)
        found = told(signal, items, **section)
        for item, ours, theirs in zip(items, found, wanted, strict=True):
            if section["sampling_percentage"] > 0.01 or _is_readable(signal, item):
                assert ours == theirs, (section, item)
            else:
                # At 0 %, as far as it can tell, it writes over what it could not read.
                assert (ours is None) == (theirs is None), (section, item)
        kept += sum(one is not None for one in wanted)
    assert kept > 1000


@pytest.mark.peer
@pytest.mark.timeout(600)
def test_the_vectors_are_the_collectors(go_sampler: Path):
    assert json.loads(VECTORS.read_text()) == _vectors(go_sampler)
