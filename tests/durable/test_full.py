"""A full disk: requests are refused with a delay, nothing is lost, and all is well again once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.daemon_process import Config, Daemon, otlp_config
from tests.durable.rounds import Ledger, logs, quiet_port
from tests.servers.clickhouse import ClickHouseServer

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"needs a small disk, and may not mount one: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=False)


def send(daemon: Daemon, ledger: Ledger, rows: int = 2000) -> int:
    """The status of one request; what was answered is noted."""
    numbers = ledger.numbers(rows)
    answer = daemon.post("logs", logs(numbers).SerializeToString())
    ledger.note(numbers, answer.status == 200)
    if answer.status != 200:
        assert answer.status == 503, answer
        assert int(answer.headers["retry-after"]) >= 1, answer
    return answer.status


def config(disk: Path, port: int, **storage: object) -> Config:
    exporter = {
        "endpoint": f"http://127.0.0.1:{port}",
        "database": "d",
        "retry_on_failure": {"initial_interval": "50ms", "max_interval": "100ms"},
        "sending_queue": {"storage": "file_storage", "batch": {"min_size": 5000, "flush_timeout": "100ms"}},
    }
    extensions = {"file_storage": {"directory": str(disk / "log"), "create_directory": True, **storage}}
    return otlp_config({"clickhouse": exporter}, processors={"unify": {}}, extensions=extensions, signals=("logs",))


def fill(daemon: Daemon, ledger: Ledger) -> None:
    while send(daemon, ledger) == 200:
        assert len(ledger.answered) < 10_000_000
    assert ledger.answered


def stored(server: ClickHouseServer) -> list[list[object]]:
    return server.rows("SELECT count(), uniqExact(log_message) FROM d.events")


def recovers(daemon: Daemon, ledger: Ledger, server: ClickHouseServer, filler: Path) -> None:
    daemon.wait_until(lambda: not daemon.metric("exporter_lag_rows"), 60, "everything is stored")
    assert stored(server) == [[len(ledger.answered)] * 2]
    filler.unlink(missing_ok=True)
    daemon.wait_until(lambda: send(daemon, ledger, 1) == 200, 30, "requests are taken again")
    daemon.wait_until(lambda: not daemon.metric("exporter_lag_rows"), 20, "everything is stored")
    assert stored(server) == [[len(ledger.answered)] * 2]
    daemon.wait_until(lambda: "has room again" in daemon.output())
    assert daemon.drain() == 0


@pytest.mark.parametrize("hungry", [False, True], ids=["the log fills it", "somebody else fills the rest"])
def test_a_full_disk_refuses_loses_nothing_and_recovers(
    start_daemon: Callable[..., Daemon], small_disk: Path, tmp_path: Path, hungry: bool
) -> None:
    port, ledger = quiet_port(), Ledger()
    daemon = start_daemon(config(small_disk, port))
    fill(daemon, ledger)
    assert send(daemon, ledger, 1) == 503
    filler = small_disk / "filler"
    if hungry:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1024)):
                pass
    daemon.wait_until(lambda: "requests are refused until it can" in daemon.output())
    server = ClickHouseServer.start("--data", str(tmp_path / "clickhouse"), "--http-port", str(port))
    try:
        recovers(daemon, ledger, server, filler)
    finally:
        server.stop()


def test_a_bound_of_the_folder_refuses_and_recovers(start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    port, ledger = quiet_port(), Ledger()
    daemon = start_daemon(config(tmp_path, port, max_size="4MiB"))
    fill(daemon, ledger)
    held = sum(path.stat().st_size for path in (tmp_path / "log").glob("segment-*") if "shm" not in path.name)
    assert held < 6 * MIB
    server = ClickHouseServer.start("--data", str(tmp_path / "clickhouse"), "--http-port", str(port))
    try:
        recovers(daemon, ledger, server, tmp_path / "filler")
    finally:
        server.stop()
