"""Refuses what a tenant, or one of its keys, sends beyond its rate.

    processors:
      rate_limit:
        strategy: records
        rate: 50000
        burst: 100000
        metadata_keys: [x-api-key]
        overrides:
          largest-customer: {rate: 200000}

Every tenant has a bucket of tokens of its own; with `metadata_keys` every combination of a tenant and those headers'
values has (the receiver then needs `include_metadata`). A request takes one token, or one per row. Where there are too
few it is refused whole, alone and before anything is stored, with the time after which it can come again:
`RESOURCE_EXHAUSTED` with RetryInfo, HTTP 429 with `Retry-After`. Senders of OTLP wait for so long and send it again, so
nothing is lost; nobody else's requests are touched. A request of more rows than the bucket holds passes when that is
full; those after it wait until what it took in advance has come.

It holds no rows, and changes none. Put it before samplers and filters: what they leave out was sent, too. Buckets that
are full again are forgotten; when more than `metadata_cardinality_limit` are not, further keys share one. An instance
knows of its own requests only, and starts with full buckets.

Specification: none; the Collector has no component of that name. OTLP says what throttled senders are told.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from colonnade.pipeline.bucket import Bucket
from colonnade.pipeline.component import NOUNS, BatchContext, ComponentId, Factory, Processor, signals
from colonnade.pipeline.errors import QuotaExceeded
from colonnade.pipeline.settings import Settings

if TYPE_CHECKING:
    from colonnade.native import Batch

# Tenant, and the values of every header.
Key = tuple[str, ...]
DEFAULT_TENANT = "default"
OTHERS: Key = ()


class Rate(Settings):
    """A bucket's size and how fast it fills."""

    rate: float = Field(gt=0, allow_inf_nan=False, description="Requests or rows per second.")
    burst: int = Field(default=0, ge=0, description="How many may come at once; 0 = a second's worth.")


class Config(Rate):
    """The processor's section."""

    strategy: Literal["requests", "records"] = Field(default="requests", description="What is counted.")
    metadata_keys: tuple[str, ...] = Field(default=(), description="Headers whose values have buckets of their own.")
    metadata_cardinality_limit: int = Field(default=10_000, ge=1, description="How many buckets there are at most.")
    overrides: dict[str, Rate] = Field(default={}, description="Rates of single tenants.")

    @field_validator("metadata_keys")
    @classmethod
    def _lower(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(key.lower() for key in keys)


class RateLimit(Processor):
    """Looks at where requests are from, never at rows."""

    changes = False
    rejects = True

    def __init__(self, id: ComponentId, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(id)
        self.config = config
        self._clock = clock
        self._buckets: dict[Key, Bucket] = {}
        self._lock = threading.Lock()

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        wanted: Counter[Key] = Counter()
        for rows, tenant, metadata in batch.runs:
            wanted[self._key(tenant, metadata)] += rows if self.config.strategy == "records" else 1
        with self._lock:
            buckets = {key: self._bucket(key) for key in wanted}
            waits = {key: buckets[key].wait_s(count) for key, count in wanted.items()}
            if not any(waits.values()):
                for key, count in wanted.items():
                    buckets[key].take(count)
        noun = NOUNS[batch.signal]
        longest = max(waits, key=waits.__getitem__, default=OTHERS)
        if waits.get(longest):
            ctx.host.count(f"processor_rate_limit_refused_{noun}", batch.rows)
            tenant, rate = longest[0], self._rate(longest)
            raise QuotaExceeded(
                f"tenant {tenant} sends more than {rate.rate:g} {self.config.strategy} per second", waits[longest]
            )
        ctx.host.count(f"processor_rate_limit_accepted_{noun}", batch.rows)
        return batch

    def _key(self, tenant: str, metadata: list[tuple[str, str]]) -> Key:
        values = (";".join(value for name, value in metadata if name == key) for key in self.config.metadata_keys)
        return (tenant or DEFAULT_TENANT, *values)

    def _rate(self, key: Key) -> Rate:
        return self.config.overrides.get(key[0], self.config) if key else self.config

    def _bucket(self, key: Key) -> Bucket:
        """The key's own, or that of all others where there is no room for more."""
        known = self._buckets.get(key)
        if known is not None:
            return known
        if len(self._buckets) >= self.config.metadata_cardinality_limit:
            self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.is_full}
            if len(self._buckets) >= self.config.metadata_cardinality_limit:
                key = OTHERS
        rate = self._rate(key)
        return self._buckets.setdefault(key, Bucket(rate.rate, rate.burst, self._clock))


factory = Factory(
    type="rate_limit",
    kind="processor",
    config=Config,
    create=RateLimit,
    signals=signals("traces", "metrics", "logs", "events"),
)
