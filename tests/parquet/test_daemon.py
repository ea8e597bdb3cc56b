"""The exporter in a running daemon: drained, reloaded, and configured by its own documentation."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import yaml

from colonnade.exporters import parquet
from colonnade.exporters.parquet import ParquetConfig
from tests.daemon.test_requests import balances, spans
from tests.daemon_process import Daemon, otlp_config
from tests.decode.test_decode import logs, metrics
from tests.parquet.kit import spooled


def asked(archive: Path, sql: str) -> list[tuple[object, ...]]:
    return duckdb.sql(sql.format(f"read_parquet('{archive}/**/*.parquet', hive_partitioning = true)")).fetchall()


def test_a_drained_daemon_leaves_every_row_of_every_signal_in_the_archive(start_daemon: Callable[..., Daemon]) -> None:
    daemon: Daemon = start_daemon(otlp_config({"parquet": {"path": "./archive"}}, processors={"unify": None}))
    point = {
        "name": "m",
        "gauge": {"dataPoints": [{"asInt": 1, "timeUnixNano": 1}, {"asDouble": 2, "timeUnixNano": 2}]},
    }
    assert daemon.post("traces", spans(10)).status == 200
    assert daemon.post("logs", logs({"body": {"stringValue": "hello"}})).status == 200
    assert daemon.post("metrics", metrics(point)).status == 200
    daemon.wait_metric("exporter_unpublished_rows", 13)
    assert daemon.metric("exporter_files") == 0
    assert daemon.drain() == 0
    archive = daemon.folder / "archive"
    counts = asked(archive, "SELECT event_type, count(*), count(DISTINCT id) FROM {} GROUP BY 1 ORDER BY 1")
    assert counts == [("log", 1, 1), ("metric", 2, 2), ("trace", 10, 10)]
    assert asked(archive, "SELECT log_message, service_name FROM {} WHERE event_type = 'log'") == [
        ("hello", "checkout")
    ]
    assert spooled(archive) == []


def test_reloads_under_load_lose_and_double_nothing(start_daemon: Callable[..., Daemon]) -> None:
    exporters = {"parquet": {"path": "./archive", "roll": {"max_rows": 1000}}}
    daemon: Daemon = start_daemon(otlp_config(exporters, processors={"unify": None}, signals=("traces",)))
    stop, accepted = threading.Event(), [0]

    def load() -> None:
        body = spans(5)
        while not stop.is_set():
            accepted[0] += 5 * (daemon.post("traces", body).status == 200)

    thread = threading.Thread(target=load)
    thread.start()
    for turn in range(3):
        begun = daemon.metric("exporter_files")
        config = yaml.safe_load(yaml.safe_dump(daemon.config))
        config["exporters"]["parquet"]["roll"]["max_rows"] = 100 + turn
        (daemon.folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
        daemon.signal(signal.SIGHUP)
        daemon.wait_metric("exporter_files", begun + 3)
    stop.set()
    thread.join()
    daemon.wait_until(lambda: balances(daemon))
    assert daemon.drain() == 0
    assert asked(daemon.folder / "archive", "SELECT count(*) FROM {}") == [(accepted[0],)]


def test_the_sample_of_the_documentation_is_a_configuration() -> None:
    doc = parquet.factory.doc
    sample = yaml.safe_load(doc[doc.index("    exporters:") : doc.index("Files are")])
    config = ParquetConfig.model_validate(sample["exporters"]["parquet"])
    assert config == ParquetConfig(path="./archive"), "the sample shows the defaults"
