"""Rows say what the request said, and a request is one where the official protobuf package takes it for one."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from colonnade.native import NativeError

from .kit import NOW_MS, STALE_NAN, Series, decoded, exemplars_told, request, said, same, told
from .messages import REQUESTS
from .test_rows import CUSTOM, LABELS, NATIVE

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name != "__name__"
)
times = st.integers(-(2**43), 2**43)
values = st.floats() | st.just(STALE_NAN)
samples = st.lists(st.tuples(values, times, times), max_size=3, unique_by=lambda one: one[1])
exemplars = st.lists(st.tuples(st.dictionaries(names, texts, max_size=3), st.floats(), times), max_size=3)
series = st.builds(
    lambda number, labels, samples, exemplars, type, unit, help: Series(
        {"__name__": f"metric-{number}", **labels}, samples, [], exemplars, type, unit, help
    ),
    st.integers(),
    st.dictionaries(names, texts, max_size=4),
    samples,
    exemplars,
    st.integers(0, 7),
    texts,
    texts,
)
requests = st.lists(series, max_size=4, unique_by=lambda one: one.labels["__name__"])
versions = pytest.mark.parametrize("version", [1, 2])


@versions
@settings(deadline=None, max_examples=150)
@given(requests)
def test_rows_say_what_the_request_said(version: int, sent: list[Series]) -> None:
    found = decoded(version, sent, help=True)
    rows = found.rows
    of_samples = [told(row) for row in rows if "metric_value" in row or "$stale" in row.get("labels", {})]
    assert of_samples == said(version, sent, help=True)
    every = {
        repr((sorted(one.labels.items()), sorted(labels.items()), same(value) if value == value else "NaN", time_ms))
        for one in sent
        for labels, value, time_ms in one.exemplars
    }
    there = {
        repr((labels, own, "NaN" if isinstance(value, bytes) else value, time_ms))
        for labels, own, value, time_ms in exemplars_told(rows)
    }
    assert there == every
    assert found.rejected == {}


@versions
def test_histograms_say_what_the_request_said(version: int) -> None:
    floats = {"count_float": 1.5, "sum": -1.0, "positive_spans": [(-2, 1), (3, 1)], "positive_counts": [0.5, 1.0]}
    every = [NATIVE, CUSTOM, floats | {"timestamp": NOW_MS, "start_timestamp": 5, "reset_hint": 3}]
    sent = [Series({"__name__": f"h{at}"}, histograms=[one], type=3) for at, one in enumerate(every)]
    assert [told(row) for row in decoded(version, sent).rows] == said(version, sent)


@versions
def test_a_request_that_is_cut_or_changed_is_one_where_protobuf_says_so(version: int) -> None:
    sent = [Series(LABELS, [(1.0, NOW_MS)], [NATIVE], [({"a": "b"}, 1.0, NOW_MS)], 1, "s", "h")]
    whole = request(version, sent).SerializeToString()
    bodies = [whole[:end] for end in range(len(whole))]
    bodies += [
        whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at in range(len(whole)) for bit in (1, 8, 128)
    ]
    wrong = 0
    for body in bodies:
        try:
            REQUESTS[version].FromString(body)
            is_one = True
        except DecodeError:
            is_one, wrong = False, wrong + 1
        try:
            decoded(version, body)
            taken = True
        except NativeError:
            taken = False
        assert taken == is_one, body
    assert 10 < wrong < len(bodies)
