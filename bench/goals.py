"""What a case may cost at most; the table shows it beside what was measured."""

from __future__ import annotations

from typing import NamedTuple


class Goal(NamedTuple):
    """Upper bounds, in the table's units. None: no goal."""

    cpu_s_per_m: float | None = None
    us_per_request: float | None = None
    store_cpu_s_per_m: float | None = None
    sum_cpu_s_per_m: float | None = None
    peak_rss_mib: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    rows_per_s_at_least: float | None = None


GOALS: dict[str, Goal] = {
    "nop.http.traces.512.none": Goal(cpu_s_per_m=0.95),
    "nop.http.traces.512.gzip": Goal(cpu_s_per_m=1.3),
    "nop.grpc.traces.512.none": Goal(cpu_s_per_m=1.1),
    "nop.http.logs.512.none": Goal(cpu_s_per_m=0.6),
    "nop.http.traces.10.none": Goal(us_per_request=35),
    "nop.grpc.traces.10.none": Goal(us_per_request=40),
    "nop.http.gauges.512.none": Goal(cpu_s_per_m=0.7),
    "passthrough.http.traces.512.none": Goal(cpu_s_per_m=0.4),
    "passthrough.grpc.traces.512.none": Goal(cpu_s_per_m=0.6),
    "passthrough.http.traces.10.none": Goal(us_per_request=15),
    "passthrough.grpc.traces.10.none": Goal(us_per_request=25),
    "clickhouse.http.traces.512.none": Goal(
        cpu_s_per_m=2.0, store_cpu_s_per_m=6, sum_cpu_s_per_m=8, peak_rss_mib=250, rows_per_s_at_least=300_000
    ),
    "clickhouse.http.logs.512.none": Goal(cpu_s_per_m=1.2, store_cpu_s_per_m=3, sum_cpu_s_per_m=4.2),
    "clickhouse.http.traces.10.none": Goal(cpu_s_per_m=5),
    "clickhouse.http.gauges.512.none": Goal(cpu_s_per_m=1.2),
    "questdb.http.gauges.512.none": Goal(cpu_s_per_m=2.5),
    "questdb.http.metrics.512.none": Goal(cpu_s_per_m=2.5),
    "parquet.http.traces.512.none": Goal(cpu_s_per_m=4.5),
    "durable.http.traces.512.none": Goal(cpu_s_per_m=3.0),
    "durable.http.traces.10.none": Goal(cpu_s_per_m=7),
    "latency.http.traces.10.none": Goal(p50_ms=1.5, p99_ms=4),
    "latency.grpc.traces.10.none": Goal(p50_ms=1.5, p99_ms=4),
}
