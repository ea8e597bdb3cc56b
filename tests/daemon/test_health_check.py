"""The pages of `health_check`, by the states of otelcol 1.11."""

from __future__ import annotations

from typing import Any

import pytest

from colonnade.daemon.health import Health
from colonnade.extensions.health_check import Config, HealthCheck
from colonnade.pipeline.component import ComponentId, Status


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def page(settings: dict[str, Any], state: str = "", age_s: float = 0.0, phase: str = "ready") -> HealthCheck:
    clock = Clock()
    health = Health(lambda _: None, clock)
    health.phase = phase
    health.report("extension", ComponentId("door"), "", Status("ok"))
    health.report("exporter", ComponentId("store"), "traces", Status("ok"))
    if state:
        health.report("exporter", ComponentId("store"), "logs", Status(state, "the store is down"))
    clock.now_s = age_s
    check = HealthCheck(ComponentId("health_check"), Config.model_validate(settings))
    check._board = health
    return check


@pytest.mark.parametrize(
    ("state", "age_s", "rules", "status"),
    [
        ("ok", 0, {}, 200),
        ("starting", 0, {}, 503),
        ("recoverable_error", 10, {}, 200),
        ("recoverable_error", 400, {}, 500),
        ("recoverable_error", 400, {"include_recoverable_errors": False}, 200),
        ("permanent_error", 0, {}, 200),
        ("permanent_error", 0, {"include_permanent_errors": True}, 500),
        ("fatal_error", 0, {}, 500),
        ("stopping", 0, {}, 503),
        ("stopped", 0, {}, 503),
    ],
)
def test_status_of_the_second_form(state: str, age_s: float, rules: dict[str, Any], status: int) -> None:
    check = page({"use_v2": True, "component_health": rules}, state, age_s)
    answer = check.states("", True)
    assert answer[0] == status
    assert answer[1]["components"]["exporter:store (traces)"]["healthy"]
    assert check.states("traces", False)[0] == 200
    assert check.states("logs", False)[0] == status
    assert check.states("none", False)[0] == 404


@pytest.mark.parametrize("phase", ["starting", "stopping"])
def test_not_ready_is_503_in_both_forms(phase: str) -> None:
    assert page({}, phase=phase).simple()[0] == 503
    assert page({"use_v2": True}, phase=phase).states("", False)[0] == 503


def test_first_form_tells_an_exporter_that_keeps_failing() -> None:
    assert page({}, "recoverable_error", 10).simple()[0] == 200
    status, body = page({}, "recoverable_error", 301).simple()
    assert status == 503
    assert body["components"]["exporter:store (logs)"]["error"] == "the store is down"


def test_both_forms_show_where_a_cursor_is_when_asked_for_everybody() -> None:
    check, lag = page({}), {"rows": 3}
    check._board.show("exporter", ComponentId("store"), "traces", lambda: {"lag": dict(lag)})
    check._board.report("exporter", ComponentId("store"), "traces", Status("ok"))
    lag["rows"] = 4
    assert "components" not in check.simple()[1]
    for _, body in (check.simple(True), check.states("", True)):
        assert body["components"]["exporter:store (traces)"] == {
            "healthy": True,
            "status": "StatusOK",
            "lag": {"rows": 4},
        }
    check._board.forget("exporter", ComponentId("store"), "traces")
    check._board.report("exporter", ComponentId("store"), "traces", Status("ok"))
    assert "lag" not in check.simple(True)[1]["components"]["exporter:store (traces)"]


def test_grpc_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="grpc is not offered; use http"):
        Config.model_validate({"grpc": {}})
