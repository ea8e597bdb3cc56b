"""The processor `rate_limit`: who is refused, for how long, and that nobody else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from colonnade import native
from colonnade.pipeline.bucket import Bucket
from colonnade.pipeline.component import BatchContext, ComponentId
from colonnade.pipeline.errors import QuotaExceeded
from colonnade.processors import rate_limit
from colonnade.processors.rate_limit import Config, RateLimit
from tests.daemon_process import Daemon, otlp_config
from tests.exporters.kit import request
from tests.pipeline.kit import FakeHost


class Limited:
    """A processor with a clock that stands still until it is told."""

    def __init__(self, **section: Any) -> None:
        self.now_s = 0.0
        self.host = FakeHost("rate_limit", kind="processor")
        self._processor = RateLimit(ComponentId("rate_limit"), Config.model_validate(section), lambda: self.now_s)

    def wait_s(self, tenant: str = "", rows: int = 1) -> float:
        """0 where the request passes, else how long it is to wait."""
        batch, _ = native.decode("traces", [request(rows)], tenant=tenant, keep_payload=True)
        try:
            passed = self._processor.process(batch, BatchContext("traces", 0, b"i" * 16, self.host))
        except QuotaExceeded as refused:
            return refused.delay_s or -1.0
        assert passed is batch
        return 0.0


def test_requests_beyond_the_rate_wait_for_their_token():
    limited = Limited(rate=2, burst=3)
    assert [limited.wait_s() for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    limited.now_s = 0.25
    assert limited.wait_s() == 0.25
    limited.now_s = 0.5
    assert [limited.wait_s(), limited.wait_s()] == [0, 0.5]


def test_tenants_have_buckets_of_their_own():
    limited = Limited(rate=1, overrides={"large": {"rate": 10, "burst": 2}})
    assert [limited.wait_s("a"), limited.wait_s("a"), limited.wait_s("b"), limited.wait_s()] == [0, 1, 0, 0]
    assert [limited.wait_s("large") for _ in range(3)] == [0, 0, 0.1]


def test_records_are_counted_and_a_large_request_passes_when_the_bucket_is_full():
    limited = Limited(rate=10, burst=20, strategy="records")
    assert limited.wait_s(rows=50) == 0
    assert limited.wait_s() == pytest.approx(3.1), "30 are owed, and one is wanted"
    limited.now_s = 3.2
    assert limited.wait_s() == 0
    assert limited.wait_s(rows=50) == pytest.approx(1.9)
    counts = limited.host.counts
    assert counts["processor_rate_limit_accepted_spans"] == 51
    assert counts["processor_rate_limit_refused_spans"] == 51


def test_buckets_are_bounded_and_full_ones_forgotten():
    limited = Limited(rate=1, metadata_cardinality_limit=2)
    assert [limited.wait_s(tenant) for tenant in ("a", "b", "c", "d")] == [0, 0, 0, 1], "c and d share one"
    limited.now_s = 1.0
    assert [limited.wait_s(tenant) for tenant in ("c", "d")] == [0, 0]


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 100),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 150)), max_size=60),
)
def test_no_more_passes_than_burst_and_rate_allow(rate: float, burst: int, steps: list[tuple[float, int]]):
    now_s, passed, largest = 0.0, 0, 0
    bucket = Bucket(rate, burst, lambda: now_s)
    for pause_s, count in steps:
        now_s += pause_s
        wait_s = bucket.take(count)
        if wait_s:
            now_s += wait_s * (1 + 1e-9) + 1e-9
            assert bucket.take(count) == 0, "it can be taken when it was said"
        passed, largest = passed + count, max(largest, count)
        assert passed <= (burst + now_s * rate) * (1 + 1e-6) + max(largest - burst, 0)


def test_a_daemon_refuses_the_request_that_is_too_much_and_no_other(start_daemon: Callable[..., Daemon]):
    section = {"rate": 0.001, "burst": 2, "metadata_keys": ["X-Key"]}
    config = otlp_config(
        {"nop": None}, processors={"rate_limit": section}, http={"include_metadata": True}, signals=("traces",)
    )
    daemon = start_daemon(config)
    answers = [daemon.post("traces", request(3), x_key=key) for key in ("a", "a", "a", "b")]
    assert [answer.status for answer in answers] == [200, 200, 429, 200]
    assert int(answers[2].headers["retry-after"]) > 900
    assert b"more than 0.001 requests per second" in answers[2].body
    daemon.wait_metric("pipeline_stored_items", 9)
    assert daemon.metric("receiver_refused_spans") == 3
    assert daemon.metric("processor_rate_limit_refused_spans") == 3
    assert daemon.metric("pipeline_accepted_items") == daemon.metric("pipeline_stored_items") == 9


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"rate": 0},
        {"rate": float("inf")},
        {"rate": 1, "burst": -1},
        {"rate": 1, "strategy": "bytes"},
        {"rate": 1, "limit": 2},
        {"rate": 1, "overrides": {"a": {"burst": 1}}},
    ],
)
def test_wrong_sections_are_refused(section: dict[str, Any]):
    with pytest.raises(ValidationError):
        Config.model_validate(section)


def test_the_sample_of_the_documentation_loads():
    sample = (rate_limit.__doc__ or "").split("\n\n")[1]
    Config.model_validate(yaml.safe_load(sample)["processors"]["rate_limit"])
