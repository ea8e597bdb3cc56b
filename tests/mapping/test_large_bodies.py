"""What an event costs does not depend on how many stand beside it."""

from __future__ import annotations

import json
import time

from colonnade.native import Format
from colonnade.unified_schema import mappings


def seconds_per_event(format: Format, events: int) -> float:
    """The best of some tries."""
    event = {"type": "track", "event": "e", "userId": "u", "properties": {"a": "x" * 100}}
    body = json.dumps({"batch": [event] * events, "sentAt": "2026-03-04T05:06:07Z", "context": {"ip": "::1"}}).encode()
    tries: list[float] = []
    for _ in range(5):
        begun = time.process_time()
        assert format.map(body, received_ns=1)[1] == events
        tries.append(time.process_time() - begun)
    return min(tries) / events


def test_an_event_costs_the_same_among_many_as_among_few() -> None:
    """A search through the whole body for each event would make it many times as much."""
    shared, given = ("context", "integrations"), ("sentAt",)
    track = mappings.builtin("segment.track")
    plan = mappings.format_plan([track], lists=[("batch",)], single=False, merge=shared, inherit=given)
    format = Format(plan)
    assert seconds_per_event(format, 2_500) < 4 * seconds_per_event(format, 50)
