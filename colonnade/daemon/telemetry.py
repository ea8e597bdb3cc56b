"""The daemon's own metrics: the instruments of `pipeline/instruments.py`, and the page that Prometheus scrapes.

Names as the Collector's: prefix `otelcol_`, no `_total` unless `without_type_suffix: false` (otelcol 1.10). Written out
here and not by prometheus-client, which can not leave `_total` out.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.instruments import BY_NAME, PREFIX, TABLE, Instrument

if TYPE_CHECKING:
    from aiohttp import web

    from colonnade.daemon.configuration.service import PrometheusReader

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LEVELS = {"none": 0, "basic": 1, "normal": 2, "detailed": 3}

Labels = tuple[str, ...]


@dataclass(slots=True)
class _Histogram:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class _Series:
    """All label combinations of one instrument."""

    values: dict[Labels, float] = field(default_factory=dict[Labels, float])
    functions: dict[Labels, Callable[[], float]] = field(default_factory=dict[Labels, Callable[[], float]])
    histograms: dict[Labels, _Histogram] = field(default_factory=dict[Labels, _Histogram])


class Metrics:
    """Values of every instrument that the level has. Any thread may count."""

    def __init__(self, level: str = "normal") -> None:
        self._lock = threading.Lock()
        self._series: dict[str, _Series] = {}
        self._owned: dict[object, set[tuple[str, Labels]]] = {}
        self.before_scrape: list[Callable[[], None]] = []
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Instruments above the level do not exist; what was counted stays. The balance is always kept."""
        height = max(_LEVELS[level], 1)
        for instrument in TABLE:
            if _LEVELS[instrument.level] <= height:
                self._series.setdefault(instrument.name, _Series())
            else:
                self._series.pop(instrument.name, None)

    def count(self, name: str, n: float, labels: dict[str, str]) -> None:
        """Adds to a counter. KeyError for a name that the table does not have."""
        self.add(name, n, label_values(name, labels))

    def add(self, name: str, n: float, key: Labels) -> None:
        """Adds to a counter, its label values known."""
        series = self._series.get(name)
        if series is not None:
            with self._lock:
                series.values[key] = series.values.get(key, 0.0) + n

    def set(self, name: str, value: float, labels: dict[str, str]) -> None:
        """Sets a gauge, or a counter whose value is known elsewhere."""
        series = self._series.get(name)
        if series is not None:
            with self._lock:
                series.values[label_values(name, labels)] = value

    def clear(self, name: str) -> None:
        """Takes all values of an instrument away."""
        if name in self._series:
            with self._lock:
                self._series[name].values.clear()

    def gauge(self, name: str, value: float | Callable[[], float], labels: dict[str, str], owner: object) -> None:
        """Sets a gauge or what reads it; it disappears with its owner."""
        series = self._series.get(name)
        if series is None:
            return
        key = label_values(name, labels)
        with self._lock:
            for others in self._owned.values():
                others.discard((name, key))
            self._owned.setdefault(owner, set()).add((name, key))
            if callable(value):
                series.functions[key] = value
            else:
                series.values[key] = value

    def observe(self, name: str, value: float, key: Labels) -> None:
        """Adds to a histogram, its label values known."""
        series = self._series.get(name)
        if series is None:
            return
        instrument = BY_NAME[name]
        with self._lock:
            histogram = series.histograms.get(key)
            if histogram is None:
                histogram = series.histograms[key] = _Histogram([0] * (len(instrument.buckets) + 1))
            histogram.counts[bisect_left(instrument.buckets, value)] += 1
            histogram.total += value

    def forget(self, owner: object) -> None:
        """Takes the owner's gauges away."""
        with self._lock:
            for name, key in self._owned.pop(owner, set()):
                series = self._series.get(name)
                if series is not None:
                    series.functions.pop(key, None)
                    series.values.pop(key, None)

    def read(self, name: str) -> dict[Labels, float]:
        """Present values of a counter or gauge by label values."""
        series = self._series.get(name)
        if series is None:
            return {}
        with self._lock:
            values, functions = dict(series.values), dict(series.functions)
        return values | {key: float(function()) for key, function in functions.items()}

    def page(self, reader: PrometheusReader | None, attributes: dict[str, str]) -> str:
        """The page in Prometheus's text format."""
        for refresh in self.before_scrape:
            refresh()
        suffix = "_total" if reader is not None and not reader.without_type_suffix else ""
        constant = _constant_labels(reader, attributes)
        lines = [
            "# HELP target_info Target metadata",
            "# TYPE target_info gauge",
            f"target_info{_braces([(_label(k), v) for k, v in attributes.items()])} 1",
        ]
        for instrument in TABLE:
            lines += self._lines(instrument, suffix, constant)
        return "\n".join(lines) + "\n"

    def _lines(self, instrument: Instrument, suffix: str, constant: list[tuple[str, str]]) -> Iterator[str]:
        series = self._series.get(instrument.name)
        if series is None:
            return
        name = PREFIX + instrument.name + (suffix if instrument.type == "counter" else "")
        values = self.read(instrument.name)
        if not values and not series.histograms:
            return
        yield f"# HELP {name} {instrument.help}"
        yield f"# TYPE {name} {instrument.type}"
        for key, value in sorted(values.items()):
            labels = [*zip(instrument.labels, key, strict=True), *constant]
            yield f"{name}{_braces(labels)} {_number(value)}"
        for key, histogram in sorted(series.histograms.items()):
            labels = [*zip(instrument.labels, key, strict=True), *constant]
            yield from _histogram_lines(name, instrument, labels, histogram)


def _histogram_lines(
    name: str, instrument: Instrument, labels: list[tuple[str, str]], histogram: _Histogram
) -> Iterator[str]:
    seen = 0
    for bound, count in zip((*map(_number, instrument.buckets), "+Inf"), histogram.counts, strict=True):
        seen += count
        yield f"{name}_bucket{_braces([*labels, ('le', bound)])} {seen}"
    yield f"{name}_sum{_braces(labels)} {_number(histogram.total)}"
    yield f"{name}_count{_braces(labels)} {seen}"


def label_values(name: str, labels: dict[str, str]) -> Labels:
    """Values in the order that the table declares the labels in; one that is not given is empty. KeyError for a name
    that the table does not have."""
    return tuple(str(labels.get(label, "")) for label in BY_NAME[name].labels)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _label(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _braces(labels: list[tuple[str, str]]) -> str:
    quoted = ('{}="{}"'.format(k, v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for k, v in labels)
    return "{" + ",".join(quoted) + "}" if labels else ""


def _constant_labels(reader: PrometheusReader | None, attributes: dict[str, str]) -> list[tuple[str, str]]:
    chosen = reader.with_resource_constant_labels if reader else None
    if chosen is None:
        return [(_label(k), v) for k, v in attributes.items() if k.startswith("service.")]
    return [(_label(k), v) for k, v in attributes.items() if k in chosen.included and k not in chosen.excluded]


def resource_attributes(given: dict[str, str | None], version: str, instance_id: str) -> dict[str, str]:
    """Resource of the own telemetry: the defaults, and what the file adds or takes away."""
    defaults = {"service.name": "colonnade", "service.version": version, "service.instance.id": instance_id}
    return {key: value for key, value in {**defaults, **given}.items() if value is not None}


class Process:
    """Reads what the operating system knows of this process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started_s = time.monotonic()
        self._peak_bytes = 0

    def refresh(self) -> None:
        """Sets the process metrics; called before each scrape."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        virtual, resident = _memory_bytes()
        # Only where rows came in is Arrow loaded; loading it to report a zero would cost more than it tells.
        arrow: Any = sys.modules.get("pyarrow")
        allocated = int(arrow.total_allocated_bytes()) if arrow is not None else 0
        self._peak_bytes = max(self._peak_bytes, allocated)
        values = {
            "process_uptime": time.monotonic() - self._started_s,
            "process_cpu_seconds": usage.ru_utime + usage.ru_stime,
            "process_memory_rss": resident,
            "process_runtime_heap_alloc_bytes": allocated,
            "process_runtime_total_alloc_bytes": self._peak_bytes,
            "process_runtime_total_sys_memory_bytes": virtual,
        }
        for name, value in values.items():
            self._metrics.set(name, value, {})


def _memory_bytes() -> tuple[int, int]:
    """Virtual and resident."""
    try:
        with open("/proc/self/statm") as file:
            pages = file.read().split()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return 0, peak if sys.platform == "darwin" else peak * 1024
    size = os.sysconf("SC_PAGE_SIZE")
    return int(pages[0]) * size, int(pages[1]) * size


class MetricsPages:
    """The scrape pages; they belong to the daemon and outlive reloads."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._runners: dict[tuple[str, int], web.AppRunner] = {}
        self._readers: dict[tuple[str, int], PrometheusReader] = {}
        self._attributes: dict[str, str] = {}

    async def apply(self, readers: tuple[PrometheusReader, ...], attributes: dict[str, str]) -> None:
        """Serves exactly these pages. Raises ColonnadeError when an address is taken."""
        wanted = {(reader.host, reader.port): reader for reader in readers}
        fresh: dict[tuple[str, int], web.AppRunner] = {}
        try:
            for address, reader in wanted.items():
                if address not in self._runners:
                    fresh[address] = await self._serve(reader)
        except ColonnadeError:
            for runner in fresh.values():
                await runner.cleanup()
            raise
        for address in [a for a in self._runners if a not in wanted]:
            await self._runners.pop(address).cleanup()
        self._runners |= fresh
        self._readers, self._attributes = wanted, attributes

    async def _serve(self, reader: PrometheusReader) -> web.AppRunner:
        from aiohttp import web

        async def show(request: web.Request) -> web.Response:
            text = self._metrics.page(self._readers.get((reader.host, reader.port)), self._attributes)
            return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

        app = web.Application()
        app.router.add_get("/metrics", show)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, reader.host or None, reader.port).start()
        except OSError as error:
            await runner.cleanup()
            raise ColonnadeError(
                "address_in_use",
                f"service::telemetry::metrics: can not listen on {reader.host}:{reader.port}: {error.strerror}",
            ) from None
        return runner

    @property
    def addresses(self) -> list[str]:
        """URLs of the pages."""
        return [f"http://{host}:{port}/metrics" for host, port in self._runners]

    async def close(self) -> None:
        """Stops serving; idempotent."""
        runners, self._runners = self._runners, {}
        for runner in runners.values():
            await runner.cleanup()
