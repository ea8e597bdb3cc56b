"""Hour and weekday where the client is, by its time zone."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow
import pyarrow.compute

from colonnade.processors.enrich.rows import Rows, Terms

pa: Any = pyarrow
pc: Any = pyarrow.compute

# Offsets of zones are multiples of this.
STEP_S = 900
NS_PER_STEP = STEP_S * 1_000_000_000
ZONES_MAX = 1 << 16
CACHED = 100_000


class LocalTimes:
    """Says `context.$enrich.time`: hour (0 to 23), weekday (1 = Monday to 7), and whether these are business hours.

    Args:
        begins, ends: hours of business, the last one excluded.
        days: weekdays of business, 1 to 7.
    """

    def __init__(self, begins: int, ends: int, days: frozenset[int]) -> None:
        self._begins, self._ends, self._days = begins, ends, days
        self._time = lru_cache(CACHED)(self._of)

    def __call__(self, rows: Rows) -> None:
        zones = rows.terms("geo_timezone")
        if not zones.any or not rows.has("timestamp") or len(zones.texts) >= ZONES_MAX:
            return
        steps = pc.floor_temporal(rows.column("timestamp"), STEP_S // 60, unit="minute").cast(pa.int64())
        steps = pc.divide(steps, pa.scalar(NS_PER_STEP, pa.int64())).fill_null(0)
        key = pc.add(pc.multiply(steps, pa.scalar(ZONES_MAX, pa.int64())), zones.places.cast(pa.int64()))
        encoded = key.dictionary_encode()
        keys: list[int] = encoded.dictionary.to_pylist()
        found = [self._time(value // ZONES_MAX, zones.texts[value % ZONES_MAX]) for value in keys]
        rows.say("time", Terms(encoded.indices, []), found)

    def _of(self, step: int, zone: str) -> dict[str, Any] | None:
        if not zone:
            return None
        try:
            local = datetime.fromtimestamp(step * STEP_S, ZoneInfo(zone))
        except (KeyError, ValueError, OSError, OverflowError):
            return None
        weekday = local.isoweekday()
        business = weekday in self._days and self._begins <= local.hour < self._ends
        return {"hour": local.hour, "weekday": weekday, "business_hours": business}
