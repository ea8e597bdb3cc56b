"""Prometheus itself scrapes a small target and writes to the daemon: what is stored is what its own API says.

3.x writes 2.0 and 1.0, Debian's 2.42 knows 1.0 alone.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.daemon_process import free_port
from tests.events.kit import EventDaemon

from .kit import undoubled

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs/prometheus_remote_write.md"
PEERS = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "colonnade-peers"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLES_PER_SERIES = 4
EXPOSITION = """\
# HELP shop_orders Orders that were placed.
# TYPE shop_orders counter
shop_orders_total{{kind="new"}} {n} # {{trace_id="{trace}",user="u-1"}} 1
shop_orders_created{{kind="new"}} 1772600000
# TYPE shop_temperature_celsius gauge
# UNIT shop_temperature_celsius celsius
shop_temperature_celsius{{place="söuth \\"1\\""}} -{n}.25
shop_temperature_celsius{{place="nowhere"}} NaN
shop_temperature_celsius{{place="hell"}} +Inf
# TYPE shop_latency_seconds histogram
shop_latency_seconds_bucket{{le="0.1"}} {n}
shop_latency_seconds_bucket{{le="1.0"}} {n}
shop_latency_seconds_bucket{{le="+Inf"}} {more}
shop_latency_seconds_count {more}
shop_latency_seconds_sum 3.5
# TYPE shop_size_bytes summary
shop_size_bytes{{quantile="0.5"}} 12
shop_size_bytes_count {n}
shop_size_bytes_sum 144
{gone}# EOF
"""


class Target:
    """A program that is scraped: each time its numbers have grown. `gone` is what it says no more in the end."""

    def __init__(self) -> None:
        target, self.scrapes, self.gone = self, 0, "shop_gone 1\n"

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                target.scrapes += 1
                text = EXPOSITION.format(n=target.scrapes, more=target.scrapes + 2, trace=TRACE, gone=target.gone)
                self.send_response(200)
                self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
                self.end_headers()
                with suppress(BrokenPipeError):
                    self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Peer(NamedTuple):
    """A program and how it is told to write."""

    program: Path
    version: int
    is_new: bool


def _program(name: str) -> Path:
    """One of the programs that peers are; the test is skipped where it is not there."""
    places = {
        "3": [PEERS / "prometheus"],
        "2.42": [PEERS / "prometheus-debian" / "prometheus", Path(os.environ.get("PROMETHEUS_DEBIAN", "/nowhere"))],
    }[name]
    if name == "2.42" and (found := shutil.which("prometheus")):
        places.append(Path(found))
    for place in places:
        if place.is_file():
            said = subprocess.run([place, "--version"], capture_output=True, text=True, check=True)
            if f"version {name}" in said.stdout + said.stderr:
                return place
    pytest.skip(f"there is no Prometheus {name} at {', '.join(map(str, places))}")


@pytest.fixture(params=["3.x writes 2.0", "3.x writes 1.0", "2.42 writes 1.0"])
def peer(request: pytest.FixtureRequest) -> Peer:
    is_new = request.param.startswith("3")
    return Peer(_program("3" if is_new else "2.42"), 2 if request.param.endswith("2.0") else 1, is_new)


class Prometheus:
    """A running one that scrapes the target and itself."""

    def __init__(self, peer: Peer, target: Target, url: str, folder: Path) -> None:
        self.port, folder = free_port(), folder / "prometheus"
        folder.mkdir()
        scrapes: list[dict[str, Any]] = [
            {"job_name": "shop/web", "static_configs": [{"targets": [f"127.0.0.1:{target.server.server_port}"]}]},
            {"job_name": "itself", "static_configs": [{"targets": [f"127.0.0.1:{self.port}"]}]},
        ]
        (snippet,) = re.findall(r"(?ms)^```yml\n(.*?)^```", PAGE.read_text())
        (write,) = yaml.safe_load(snippet)["remote_write"]
        write |= {
            "url": f"{url}/api/v1/write",
            "queue_config": {"batch_send_deadline": "200ms"},
            "metadata_config": {"send_interval": "1s"},
        }
        features = ["exemplar-storage"]
        if peer.is_new:
            scrapes[1]["scrape_native_histograms"] = True
            features += ["metadata-wal-records", "st-storage"]
        else:
            features.append("native-histograms")
        if peer.version == 1:
            del write["protobuf_message"]
        else:
            # Prometheus leaves histograms with bounds of their own out of 1.0.
            custom = {"job_name": "custom", "convert_classic_histograms_to_nhcb": True}
            scrapes.append({**scrapes[0], **custom})
        document = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": scrapes,
            "remote_write": [write],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(document))
        self.log = (folder / "log").open("w+")
        command = [
            peer.program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--enable-feature={','.join(features)}",
        ]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    def series(self, selector: str) -> list[dict[str, Any]]:
        """Series with all their samples."""
        return self.ask("query", query=f"{selector}[10m]")["result"]

    def exemplars(self) -> list[dict[str, Any]]:
        return self.ask("query_exemplars", query="shop_orders_total", start="0", end="9999999999")

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


Key = tuple[tuple[tuple[str, str], ...], int]


def _samples(series: list[dict[str, Any]]) -> dict[Key, float]:
    return {
        (tuple(sorted(one["metric"].items())), round(time_s * 1000)): float(text)
        for one in series
        for time_s, text in one.get("values", [])
    }


def _histograms(series: list[dict[str, Any]]) -> dict[Key, tuple[float, float, float]]:
    """Count, sum, and observations in all buckets."""
    return {
        (tuple(sorted(one["metric"].items())), round(time_s * 1000)): (
            float(shape["count"]),
            float(shape["sum"]),
            sum(float(bucket[3]) for bucket in shape.get("buckets", [])),
        )
        for one in series
        for time_s, shape in one.get("histograms", [])
    }


class Stored:
    """The daemon's rows, as Prometheus says its samples."""

    def __init__(self, daemon: EventDaemon) -> None:
        self.daemon = daemon

    def _rows(self, columns: str, where: str) -> Iterator[tuple[Key, list[Any]]]:
        fields = f"metric_name, labels, toUnixTimestamp64Milli(timestamp), {columns}"
        for name, labels, time_ms, *rest in self.daemon.rows(fields, where):
            own = {"__name__": name, **undoubled(labels)[0]}
            yield (tuple(sorted(own.items())), int(time_ms)), rest

    def samples(self) -> dict[Key, float]:
        text = "if(isNaN(metric_value), 'nan', toString(metric_value))"
        return {key: float(value) for key, (value,) in self._rows(text, "metric_value IS NOT NULL")}

    def histograms(self) -> dict[Key, tuple[float, float, float]]:
        found = {}
        for key, (count, total, text) in self._rows("metric_count, metric_sum, metric_buckets", "metric_buckets != ''"):
            shape = json.loads(text)
            if "bounds" in shape:
                observed = sum(shape["counts"])
            else:
                observed = shape["zero_count"] + sum(shape["positive"]["counts"]) + sum(shape["negative"]["counts"])
            found[key] = (float(count), float(total), float(observed))
        return found


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)


def test_what_prometheus_has_is_stored(peer: Peer, tmp_path: Path) -> None:
    target = Target()
    daemon = EventDaemon("prometheus_remote_write", {}, tmp_path, signal="metrics")
    prometheus, stored = Prometheus(peer, target, daemon.url, tmp_path), Stored(daemon)
    wait = daemon.daemon.wait_until
    try:
        wait(lambda: target.scrapes >= SAMPLES_PER_SERIES, what=f"scrapes\n{prometheus.output()}")
        target.gone = ""
        wait(lambda: daemon.count("metric_name = 'shop_gone' AND labels['$stale'] = '1'") >= 1, what="a stale marker")
        series = prometheus.series('{job=~".+"}')
        said, shapes = _samples(series), _histograms(series)
        wait(lambda: said.keys() <= stored.samples().keys(), what="samples are stored")
        wait(lambda: shapes.keys() <= stored.histograms().keys(), what="histograms are stored")
        there, there_shapes = stored.samples(), stored.histograms()
        assert len({key[0] for key in said}) > 100
        assert [key for key, value in said.items() if not _same(there[key], value)] == []
        first = min(time_ms for _, time_ms in said)
        last = min(max(t for labels, t in said if dict(labels)["job"] == job) for job in ("shop/web", "itself"))
        assert {key for key in there if first <= key[1] <= last} <= said.keys(), "what Prometheus does not have"
        assert {key: there_shapes[key] for key in shapes} == shapes
        assert bool(shapes) or not peer.is_new
        _columns(peer, daemon)
        _exemplars(prometheus, daemon)
        assert daemon.daemon.metric("receiver_rejected_metric_points") == 0
        assert daemon.daemon.metric("receiver_requests", outcome="refused") == 0
    finally:
        prometheus.close()
        target.close()
        assert daemon.daemon.drain() == 0, daemon.daemon.output()


def _columns(peer: Peer, daemon: EventDaemon) -> None:
    """What else stands in the rows of an order and of a temperature."""
    columns = "service_namespace, service_name, service_instance = labels['instance'], event_type, event_source"
    where = "metric_name = 'shop_orders_total' AND metric_value IS NOT NULL AND labels['job'] = 'shop/web'"
    assert daemon.rows(f"DISTINCT {columns}", where) == [["shop", "web", 1, "metric", "prometheus.sample"]]
    kinds = {
        (name, kind) for name, kind in daemon.rows("DISTINCT metric_name, metric_type", "metric_name LIKE 'shop_%'")
    }
    assert ("shop_temperature_celsius", "gauge") in kinds
    assert ("shop_latency_seconds_bucket", "histogram") in kinds
    if peer.is_new:
        assert daemon.count("metric_type = 'exponential_histogram' AND metric_name LIKE 'prometheus_%'") > 0
    if peer.version == 2:
        assert ("shop_latency_seconds", "histogram") in kinds
        units = daemon.rows("DISTINCT metric_unit", "metric_name = 'shop_temperature_celsius' AND metric_unit != ''")
        assert units == [["celsius"]]
        assert daemon.count("metric_name = 'shop_orders_total' AND started_at = '2026-03-04 04:53:20'") > 0


def _exemplars(prometheus: Prometheus, daemon: EventDaemon) -> None:
    """Every exemplar of an order is there."""
    said = {
        (one["seriesLabels"]["job"], round(own["timestamp"] * 1000), own["labels"]["trace_id"], own["labels"]["user"])
        for one in prometheus.exemplars()
        for own in one["exemplars"]
    }
    assert said

    def there() -> set[tuple[str, int, str, str]]:
        where = "metric_name = 'shop_orders_total' AND data != ''"
        return {
            (job, own["time_ns"] // 1_000_000, own["trace_id"], own["attributes"]["user"])
            for job, data in daemon.rows("labels['job'], data", where)
            for own in json.loads(data)["exemplars"]
        }

    daemon.daemon.wait_until(lambda: said <= there(), what="exemplars are stored")
