"""`batch` changes slices only where the file sets a value; `memory_limiter` refuses before decoding."""

from __future__ import annotations

from typing import Any

import pytest

from colonnade.pipeline.component import ComponentId, SliceLimits
from colonnade.pipeline.errors import MemoryLimited
from colonnade.processors import batch, memory_limiter
from tests.pipeline.kit import FakeHost

MIB = 1 << 20
OWN = SliceLimits(min_rows=100_000, max_rows=200_000, min_bytes=0, max_bytes=0, max_age_s=5)


@pytest.mark.parametrize(
    ("settings", "slices"),
    [
        ({}, OWN),
        ({"timeout": "1s"}, SliceLimits(100_000, 200_000, 0, 0, 1.0)),
        ({"send_batch_size": 10}, SliceLimits(10, 200_000, 0, 0, 5)),
        ({"send_batch_max_size": 50}, SliceLimits(50, 50, 0, 0, 5)),
        ({"send_batch_size": 10, "send_batch_max_size": 20, "timeout": "0"}, SliceLimits(10, 20, 0, 0, 0)),
    ],
)
def test_batch_changes_what_is_set(settings: dict[str, Any], slices: SliceLimits) -> None:
    processor = batch.BatchSizes(ComponentId("batch"), batch.Config.model_validate(settings))
    assert processor.slices(OWN) == slices


@pytest.mark.parametrize(
    "settings", [{"send_batch_size": 10, "send_batch_max_size": 5}, {"metadata_keys": ["x"]}, {"timeout": "-1s"}]
)
def test_batch_refuses(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  pydantic's own
        batch.Config.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "soft", "hard"),
    [
        ({"limit_mib": 100}, 80, 100),
        ({"limit_mib": 100, "spike_limit_mib": 30}, 70, 100),
        ({"limit_percentage": 50}, 400, 500),
        ({"limit_percentage": 50, "spike_limit_percentage": 25}, 250, 500),
        ({"limit_mib": 100, "limit_percentage": 50}, 80, 100),
    ],
)
def test_limits(settings: dict[str, Any], soft: int, hard: int) -> None:
    limits = memory_limiter.Config.model_validate(settings).limits(1000 * MIB)
    assert limits == (soft * MIB, hard * MIB)


@pytest.mark.parametrize("settings", [{}, {"limit_mib": 10, "spike_limit_mib": 10}, {"limit_percentage": 101}])
def test_limiter_refuses_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  pydantic's own
        memory_limiter.Config.model_validate(settings)


async def test_limiter_refuses_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    used = [10 * MIB]
    monkeypatch.setattr(memory_limiter, "used_bytes", lambda: used[0])
    config = memory_limiter.Config.model_validate({"limit_mib": 100, "check_interval": "1ns"})
    limiter, host = (
        memory_limiter.MemoryLimiter(ComponentId("memory_limiter"), config),
        FakeHost("memory_limiter", kind="processor"),
    )
    await limiter.start(host)
    limiter.admit(MIB)
    with pytest.raises(MemoryLimited) as refused:
        limiter.admit(71 * MIB)
    assert refused.value.delay_s
    used[0] = 90 * MIB
    with pytest.raises(MemoryLimited):
        limiter.admit(1)
    used[0] = 10 * MIB
    limiter.admit(1)
    assert [status.state for status in host.statuses] == ["recoverable_error", "ok"]
