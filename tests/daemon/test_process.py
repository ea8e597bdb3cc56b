"""`colonnade` as a process of its own: exit statuses, the ready line, drain, reload, what it prints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.daemon_process import Daemon, free_port, otlp_config

READY_WITHIN_S = 10.0


def colonnade(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "colonnade", *arguments], capture_output=True, text=True, cwd=folder, timeout=60
    )


@pytest.fixture
def nop(start_daemon: Callable[..., Daemon]) -> Daemon:
    config = otlp_config({"nop": None}, extensions={"health_check": {"endpoint": f"127.0.0.1:{free_port()}"}})
    return start_daemon(config)


def reload(daemon: Daemon, config: object, says: str) -> None:
    (daemon.folder / "pipeline.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    daemon.signal(signal.SIGHUP)
    daemon.wait_until(lambda: says in daemon.output(), what=says)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("version",), 0, "colonnade version"),
        (("--version",), 0, "colonnade version"),
        (("run",), 1, "Error: invalid configuration: at least one config flag must be provided"),
        (("run", "--config", "nowhere.yaml"), 1, "Error: invalid configuration: cannot read nowhere.yaml"),
        (("run", "--confg", "x"), 1, "Error: No such option"),
        (("validate", "--config", "yaml:a: b"), 1, "'' has invalid keys: a"),
        (("rum",), 1, "Error: No such command 'rum'"),
    ],
)
def test_exit_status_and_error_told_once(arguments: tuple[str, ...], status: int, says: str, tmp_path: Path) -> None:
    ended = colonnade(*arguments, folder=tmp_path)
    assert ended.returncode == status, ended
    assert (ended.stdout + ended.stderr).count(says) == 1
    assert (ended.stderr == "") == (status == 0)


def test_configuration_is_checked_before_anything_is_started(tmp_path: Path) -> None:
    config = otlp_config({"nop": None})
    config["exporters"]["nop/unused"] = {"nope": 1}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(config))
    ended = colonnade("run", "--config", "p.yaml", folder=tmp_path)
    assert ended.returncode == 1
    assert "'exporters::nop/unused' has invalid keys: nope" in ended.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["p.yaml"]


def test_one_endpoint_for_two_protocols_is_told_by_validate(tmp_path: Path) -> None:
    config = otlp_config({"nop": None}, grpc={"endpoint": "localhost:4317"}, http={"endpoint": "localhost:4317"})
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(config))
    ended = colonnade("validate", "--config", "p.yaml", folder=tmp_path)
    assert ended.returncode == 1
    assert "endpoint localhost:4317 is used twice" in ended.stderr


def test_start_says_where_it_listens_and_sigterm_ends_with_0(nop: Daemon) -> None:
    assert nop.ready_after_s < READY_WITHIN_S
    line = next(line for line in nop.lines if "Everything is ready" in line)
    for place in (nop.http_endpoint, nop.grpc_endpoint, nop.metrics_endpoint):
        assert place in line
    health = nop.config["extensions"]["health_check"]["endpoint"]
    assert f"health on http://{health}" in line
    assert nop.request("GET", "/", endpoint=health).status == 200
    assert nop.metric("process_uptime") > 0
    assert nop.request("GET", "/nothing/here").status == 404
    assert nop.metric("listener_requests", answer="http 404") == 1
    assert nop.drain() == 0


def test_one_interrupt_that_arrives_twice_drains(nop: Daemon) -> None:
    """As behind a wrapper that passes Ctrl-C on."""
    nop.signal(signal.SIGINT)
    nop.signal(signal.SIGINT)
    assert nop.process.wait(10) == 0
    assert "Shutdown complete." in nop.output()


def test_port_that_is_taken_ends_with_1_and_one_error(nop: Daemon, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(nop.config))
    ended = colonnade("run", "--config", "again.yaml", folder=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.count("Error: ") == 1
    assert "can not listen on" in ended.stderr


def test_reload_with_a_bad_file_leaves_the_old_one_running(nop: Daemon) -> None:
    reload(nop, "receivers: [", "reload refused, the old configuration keeps running")
    health = nop.config["extensions"]["health_check"]["endpoint"]
    assert nop.request("GET", "/", endpoint=health).status == 200
    assert nop.drain() == 0


def test_reload_whose_component_fails_to_start_leaves_the_old_one_running(nop: Daemon) -> None:
    other = {**nop.config, "extensions": {"health_check": {"endpoint": nop.metrics_endpoint}}}
    reload(nop, other, "can not listen on")
    health = nop.config["extensions"]["health_check"]["endpoint"]
    assert nop.request("GET", "/", endpoint=health).status == 200
    assert nop.drain() == 0


def test_reload_changes_exporters_and_keeps_ports(nop: Daemon) -> None:
    changed = yaml.safe_load(yaml.safe_dump(nop.config))
    changed["exporters"]["nop/two"] = None
    for pipeline in changed["service"]["pipelines"].values():
        pipeline["exporters"] = ["nop/two"]
    reload(nop, changed, "reloaded; listening")
    assert nop.metric("exporter_queue_capacity", exporter="nop/two") > 0
    assert nop.metric("exporter_queue_capacity", exporter="nop") == 0
    assert nop.drain() == 0


def test_print_config_blacks_secrets_out(tmp_path: Path) -> None:
    endpoint = "http://me:hunter2@127.0.0.1:8123?password=hunter2"
    config = otlp_config({"clickhouse": {"endpoint": endpoint, "password": "hunter2hunter2"}})
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(config))
    redacted = colonnade("print-config", "--config", "p.yaml", "--no-validate", folder=tmp_path)
    assert "hunter2" not in redacted.stdout
    assert "[REDACTED]" in redacted.stdout
    full = colonnade("print-config", "--config", "p.yaml", "--mode", "unredacted", "--no-validate", folder=tmp_path)
    assert yaml.safe_load(full.stdout) == config


def test_checked_print_config_blacks_out_what_the_models_say_is_secret(tmp_path: Path) -> None:
    config = otlp_config({"nop": None})
    config["exporters"]["clickhouse"] = {"endpoint": "http://127.0.0.1:8123", "password": "hunter2"}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(config))
    printed = colonnade(
        "print-config", "--config", "p.yaml", "--set", "exporters.clickhouse.username=u", folder=tmp_path
    )
    shown = yaml.safe_load(printed.stdout)["exporters"]["clickhouse"]
    assert shown == {"endpoint": "http://127.0.0.1:8123", "password": "[REDACTED]", "username": "u"}


def test_json_form_of_the_log_is_json(start_daemon: Callable[..., Daemon]) -> None:
    config = otlp_config({"nop": None})
    config["service"]["telemetry"]["logs"] = {"encoding": "json", "initial_fields": {"site": "a"}}
    daemon = start_daemon(config)
    assert daemon.drain() == 0
    lines = [json.loads(line) for line in daemon.lines]
    assert lines
    assert all(line["site"] == "a" and line["level"] == "info" for line in lines)


def test_run_loads_nothing_that_is_not_used(tmp_path: Path) -> None:
    config = yaml.safe_dump(otlp_config({"nop": None}))
    (tmp_path / "p.yaml").write_text(config)
    unused = ("chdb", "clickhouse_connect", "pyarrow", "aiohttp", "rich", "colonnade.exporters.clickhouse")
    code = (
        "import sys; from colonnade.daemon.configuration import load; load(['p.yaml']); "
        f"print([m for m in {unused} if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert ended.stdout.strip() == "[]", ended
