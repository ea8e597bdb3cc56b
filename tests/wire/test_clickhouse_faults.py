"""A ClickHouse server that dies, hangs or is slow under load; reloads and drains under load. Nothing that was answered
is lost or doubled while the process lives, and one store's trouble is nobody else's."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.test_delivery import server_that
from tests.daemon_process import Config, Daemon, free_port, otlp_config
from tests.servers.clickhouse import ClickHouseServer
from tests.wire.load import Load

FAST: Config = {
    "sending_queue": {"batch": {"flush_timeout": "20ms", "min_size": 1000}},
    "retry_on_failure": {"initial_interval": "100ms", "max_interval": "500ms"},
}
Start = Callable[..., Daemon]


def stored(server: ClickHouseServer, database: str, service: str) -> list[int]:
    """Ids of the spans in the store, doubles included."""
    sql = f"SELECT reinterpretAsUInt64(reverse(unhex(span_id))) FROM {database}.events WHERE service_name = '{service}'"
    return [id for (id,) in server.rows(sql)]


def assert_exactly_once(load: Load, ids: list[int]) -> None:
    """Every accepted span is there once; of those without an answer any may be there, once."""
    assert len(ids) == len(set(ids)), "doubled"
    assert load.accepted - set(ids) == set(), "lost"
    assert set(ids) - load.accepted <= load.unanswered, "refused, and stored all the same"


def clickhouse(server: ClickHouseServer, database: str, **more: Any) -> Config:
    return {"endpoint": server.url, "database": database, **FAST, **more}


def settled(daemon: Daemon) -> None:
    """Until no exporter lags behind."""
    daemon.wait_until(lambda: daemon.metric("exporter_lag_rows") == 0, 60, "every exporter has every row")


def test_a_server_killed_under_load_loses_and_doubles_nothing(start_daemon: Start, tmp_path: Path) -> None:
    port, tcp_port = free_port(), free_port()
    where = ("--data", str(tmp_path / "clickhouse"), "--http-port", str(port), "--tcp-port", str(tcp_port))
    server = ClickHouseServer.start(*where)
    queue = FAST["sending_queue"] | {"sizer": "bytes", "queue_size": "1MiB"}
    exporters = {"clickhouse": clickhouse(server, "killed", sending_queue=queue), "nop": None}
    daemon = start_daemon(otlp_config(exporters, signals=("traces",)))
    try:
        with Load(daemon, "killed") as load:
            load.wait_for_more(2_000)
            server.kill()
            load.wait_for(lambda: {"http", "grpc"} <= {refusal[0] for refusal in load.refused})
            assert {refusal[:2] for refusal in load.refused} == {("http", "503"), ("grpc", "UNAVAILABLE")}
            assert all(wait is not None and wait >= 1 for _, _, wait in load.refused)
            assert daemon.metric("exporter_enqueue_failed_spans", exporter="clickhouse") > 0
            daemon.wait_until(lambda: f"ClickHouse does not answer at {server.url}: " in daemon.output())
            # The other exporter has all that was accepted while this one stands still.
            daemon.wait_until(lambda: daemon.metric("exporter_lag_rows", exporter="nop") == 0)
            server = ClickHouseServer.start(*where)
            load.wait_for_more(2_000)
        settled(daemon)
        assert not load.unanswered
        ids = stored(server, "killed", "killed")
        assert_exactly_once(load, ids)
        assert daemon.metric("receiver_accepted_spans") == len(load.accepted) == len(ids)
        assert daemon.metric("pipeline_failed_items") == 0
        assert daemon.drain() == 0
    finally:
        server.stop()


@pytest.fixture
def pair(start_daemon: Start, clickhouse_server: ClickHouseServer, clickhouse_database: str) -> Daemon:
    """OTLP traces into a real server and nop."""
    exporters = {"clickhouse": clickhouse(clickhouse_server, clickhouse_database), "nop": None}
    return start_daemon(otlp_config(exporters, signals=("traces",)))


def test_reloads_under_load_store_everything_once(
    pair: Daemon, clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    with Load(pair, "reloaded") as load:
        for turn in range(5):
            load.wait_for_more(1_000)
            config = yaml.safe_load(yaml.safe_dump(pair.config))
            config["exporters"]["clickhouse"]["sending_queue"]["batch"]["min_size"] = 500 + turn
            config["service"]["pipelines"]["traces"]["processors"] = ["batch"] if turn % 2 else []
            config["processors"] = {"batch": {"timeout": "10ms"}}
            (pair.folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
            reloads = pair.output().count("reloaded;")
            pair.signal(signal.SIGHUP)
            pair.wait_until(lambda reloads=reloads: pair.output().count("reloaded;") > reloads, what="reloaded")
        load.wait_for_more(1_000)
    settled(pair)
    assert (load.refused, load.unanswered) == ([], set())
    assert_exactly_once(load, stored(clickhouse_server, clickhouse_database, "reloaded"))
    assert pair.drain() == 0


def test_sigterm_under_load_stores_everything_that_was_answered(
    pair: Daemon, clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    with Load(pair, "drained") as load:
        load.wait_for_more(3_000)
        assert pair.drain() == 0, pair.output()
        load.stop()
    assert len(load.accepted) >= 3_000
    assert_exactly_once(load, stored(clickhouse_server, clickhouse_database, "drained"))


def test_an_exporter_that_hangs_stops_no_other(
    start_daemon: Start, clickhouse_server: ClickHouseServer, clickhouse_database: str
) -> None:
    with server_that("is silent") as address:
        hanging = {f"clickhouse/{n}": {"endpoint": f"http://{address}", "timeout": "60s", **FAST} for n in range(8)}
        exporters = {"clickhouse": clickhouse(clickhouse_server, clickhouse_database), **hanging}
        daemon = start_daemon(otlp_config(exporters, signals=("traces",)))
        with Load(daemon, "hanging") as load:
            load.wait_for_more(2_000)
        daemon.wait_until(lambda: daemon.metric("exporter_lag_rows", exporter="clickhouse") == 0)
        assert_exactly_once(load, stored(clickhouse_server, clickhouse_database, "hanging"))
        assert daemon.metric("exporter_lag_rows", exporter="clickhouse/7") == len(load.accepted)


def test_a_store_that_hangs_does_not_hold_the_process(start_daemon: Start) -> None:
    with server_that("is silent") as address:
        config = otlp_config(
            {"clickhouse": {"endpoint": f"http://{address}", "timeout": "60s", **FAST}}, signals=("traces",)
        )
        config["service"]["shutdown_timeout"] = "1s"
        daemon = start_daemon(config)
        with Load(daemon, "held") as load:
            load.wait_for_more(500)
        begun = time.monotonic()
        assert daemon.drain() == 1
        assert time.monotonic() - begun < 10
        parked = re.findall(r"(\d+) rows of pipeline traces parked as dead letter", daemon.output())
        assert sum(map(int, parked)) == len(load.accepted)


def test_what_was_parked_at_a_stop_is_stored_by_the_next_daemon_that_is_asked_to(
    start_daemon: Start, clickhouse_server: ClickHouseServer, clickhouse_database: str, tmp_path: Path
) -> None:
    with server_that("refuses") as address:
        config = otlp_config({"clickhouse": {"endpoint": f"http://{address}", **FAST}}, signals=("traces",))
        config["service"]["shutdown_timeout"] = "1s"
        daemon = start_daemon(config)
        with Load(daemon, "parked") as load:
            load.wait_for_more(2_000)
        assert daemon.drain() == 1
    config["exporters"]["clickhouse"] = clickhouse(clickhouse_server, clickhouse_database)
    command = (sys.executable, "-m", "colonnade", "dead-letter")
    asked = subprocess.run([*command, "retry", "--all"], cwd=daemon.folder, capture_output=True, text=True, check=True)
    assert asked.stdout.startswith(f"{len(load.accepted)} rows in ")
    again = start_daemon(config, folder=daemon.folder)
    again.wait_until(lambda: again.metric("exporter_sent_spans") == len(load.accepted), 60)
    assert_exactly_once(load, stored(clickhouse_server, clickhouse_database, "parked"))
    assert again.metric("pipeline_recovered_items") == len(load.accepted)
    assert again.drain() == 0
    assert not [*daemon.folder.rglob("dead_letter/**/*.parquet")]
