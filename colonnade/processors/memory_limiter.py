"""Refuses requests, with a delay for the sender, before the process runs out of memory.

    processors:
      memory_limiter:
        check_interval: 1s
        limit_percentage: 80
        spike_limit_percentage: 20

Measures the process's resident memory, at most every `check_interval`, and asks before anything is decoded: what waits
is added to what is used. Above the soft limit (limit minus spike limit) requests are refused with UNAVAILABLE / 503 and
a delay; above the limit Arrow is also asked to give unused memory back. Percentages are of the memory that the process
may use: its control group's, else the machine's.

On overload: this is what happens. Nothing that was taken before is dropped.

Specification: the Collector's `memory_limiter` processor. Differences: it measures resident memory, not a heap, and
refuses before decoding; `check_interval` defaults to 1s; the intervals of garbage collection are accepted and mean
nothing here.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Host, Processor, Status, signals
from colonnade.pipeline.errors import MemoryLimited
from colonnade.pipeline.settings import MIB, Duration, Settings

if TYPE_CHECKING:
    from colonnade.native import Batch

SPIKE_SHARE = 0.2
RECLAIM_INTERVAL_S = 10.0
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Config(Settings):
    """The processor's section."""

    check_interval: Duration = Field(default=1.0, gt=0, description="Memory is read at most this often.")
    limit_mib: int = Field(default=0, ge=0, description="The limit in MiB.")
    limit_percentage: int = Field(default=0, ge=0, le=100, description="The limit in percent of what may be used.")
    spike_limit_mib: int = Field(default=0, ge=0, description="Room below the limit; default: 20% of it.")
    spike_limit_percentage: int = Field(default=0, ge=0, le=100, description="The same in percent.")
    min_gc_interval_when_soft_limited: Duration = Field(default=10.0, description="Accepted.")
    min_gc_interval_when_hard_limited: Duration = Field(default=0.0, description="Accepted.")
    max_gc_interval_when_soft_limited: Duration = Field(default=30.0, description="Accepted.")
    max_gc_interval_when_hard_limited: Duration = Field(default=30.0, description="Accepted.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.limit_mib and not self.limit_percentage:
            raise ValueError("limit_mib or limit_percentage must be set, for example limit_percentage: 80")
        if self.limit_mib and self.spike_limit_mib >= self.limit_mib:
            raise ValueError(f"spike_limit_mib ({self.spike_limit_mib}) must be below limit_mib ({self.limit_mib})")
        if not self.limit_mib and self.spike_limit_percentage >= self.limit_percentage:
            raise ValueError(
                f"spike_limit_percentage ({self.spike_limit_percentage}) must be below limit_percentage "
                f"({self.limit_percentage})"
            )
        return self

    def limits(self, total_bytes: int) -> tuple[int, int]:
        """Soft and hard limit in bytes; `limit_mib` wins over the percentage, as in the Collector."""
        if self.limit_mib:
            hard, spike = self.limit_mib * MIB, self.spike_limit_mib * MIB
        else:
            hard, spike = total_bytes * self.limit_percentage // 100, total_bytes * self.spike_limit_percentage // 100
        return hard - (spike or round(hard * SPIKE_SHARE)), hard


class MemoryLimiter(Processor):
    """Stands first in a pipeline; looks at bytes, never at rows."""

    changes = False

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config
        self.soft, self.hard = config.limits(total_bytes())
        self._host: Host | None = None
        self._used = 0
        self._read_at_s = -1e9
        self._reclaimed_at_s = -1e9
        self._limited = False

    async def start(self, host: Host) -> None:
        self._host = host

    def admit(self, nbytes: int) -> None:
        now_s = time.monotonic()
        if now_s - self._read_at_s >= self.config.check_interval:
            self._read_at_s, self._used = now_s, used_bytes()
            self._reclaim(now_s)
        over = self._used + nbytes > self.soft
        if over != self._limited:
            self._tell(over)
        if over:
            if self._host is not None:
                self._host.count("processor_memory_limiter_refused_bytes", nbytes)
            raise MemoryLimited(delay_s=max(self.config.check_interval, 1.0))

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        noun = {"traces": "spans", "metrics": "metric_points", "logs": "log_records"}.get(batch.signal, "events")
        ctx.host.count(f"processor_memory_limiter_accepted_{noun}", batch.rows)
        return batch

    def _reclaim(self, now_s: float) -> None:
        """Memory that Arrow keeps for later goes back to the machine, not more often than it can help."""
        arrow: Any = sys.modules.get("pyarrow")
        if self._used > self.hard and arrow is not None and now_s - self._reclaimed_at_s >= RECLAIM_INTERVAL_S:
            self._reclaimed_at_s = now_s
            arrow.default_memory_pool().release_unused()
            self._used = used_bytes()

    def _tell(self, over: bool) -> None:
        self._limited = over
        if self._host is None:
            return
        used_mib, soft_mib = self._used // MIB, self.soft // MIB
        if over:
            self._host.report(Status("recoverable_error", "data refused due to high memory usage"))
            self._host.logger.warning(
                "memory limit: %d MiB of %d MiB are used, requests are refused", used_mib, soft_mib
            )
        else:
            self._host.report(Status("ok"))
            self._host.logger.info("memory limit: %d MiB of %d MiB are used, requests are taken", used_mib, soft_mib)


def used_bytes() -> int:
    """Resident memory of this process, Arrow's and the native part's included."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def total_bytes() -> int:
    """Memory that this process may use: its control group's limit where there is one, else the machine's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            return min(machine, int(text))
    return machine


factory = Factory(
    type="memory_limiter",
    kind="processor",
    config=Config,
    create=MemoryLimiter,
    signals=signals("traces", "metrics", "logs", "events"),
    stability="stable",
)
