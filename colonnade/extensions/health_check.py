"""Answers health probes: 200 while the daemon serves and its exporters store, else 503 or 500.

    extensions:
      health_check:
        endpoint: localhost:13133

The first form answers on `path`: 200 when the pipelines are ready and no exporter has been failing for longer than
`recovery_duration`, else 503; the body says which component is in trouble. The second (`use_v2: true`) answers on
`http.status.path` with the state of every component:

    extensions:
      health_check:
        use_v2: true
        http:
          endpoint: localhost:13133
          status: {enabled: true, path: /status}
        component_health:
          include_permanent_errors: true
          include_recoverable_errors: true
          recovery_duration: 5m

There, `?pipeline=traces` asks for one pipeline. Starting 503, ok 200, recoverable error 200 (500 after
`recovery_duration` where included), permanent error 200 (500 where included), fatal 500, stopping and stopped 503.

With `?verbose`, both forms list every component; an exporter shows how far behind its pipeline's log it is: `lag`
(rows, bytes, age of the oldest in seconds), `position` (the row up to which all are done) and `last_error`.

Differences from the Collector's component: exporters that fail count. `path` of the first form answers 503 once an
exporter has been failing for `recovery_duration`; in the second, `include_recoverable_errors` is on by default. `grpc`
is refused: use `http`.
"""

from __future__ import annotations

import json
from typing import Any, Literal, Protocol, cast

from aiohttp import web
from pydantic import Field, model_validator

from colonnade.pipeline.component import ComponentId, Extension, Factory, Host
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import Duration, OptionalSection, Settings

SHUTDOWN_TIMEOUT_S = 1.0

Answer = tuple[int, dict[str, Any]]


class ResponseBody(Settings):
    """`response_body`: fixed texts instead of the JSON of the first form."""

    healthy: str = Field(default="", description="Body of 200.")
    unhealthy: str = Field(default="", description="Body of 503.")


class StatusPage(Settings):
    """`http.status`."""

    enabled: bool = Field(default=True, description="Serve it.")
    path: str = Field(default="/status", pattern="^/", description="Where.")


class ConfigPage(Settings):
    """`http.config`: the Collector shows its configuration here; this one does not."""

    enabled: Literal[False] = Field(default=False, description="Only false; use `colonnade print-config`.")
    path: str = Field(default="/config", description="Accepted.")


class HTTPPages(Settings):
    """`http` of the second form."""

    endpoint: str = Field(default="localhost:13133", pattern=r":\d+$", description="host:port to listen on.")
    status: StatusPage = Field(default_factory=lambda: StatusPage(), description="The page of component states.")
    config: ConfigPage = Field(default_factory=lambda: ConfigPage(), description="Not offered.")


class ComponentHealth(Settings):
    """`component_health`: which states make a probe fail."""

    include_permanent_errors: bool = Field(default=False, description="A permanent error answers 500.")
    include_recoverable_errors: bool = Field(
        default=True, description="An error that lasts for recovery_duration answers 500."
    )
    recovery_duration: Duration = Field(default=300.0, description="How long an error may last.")


class Config(Settings):
    """Keys of both forms."""

    endpoint: str = Field(default="localhost:13133", pattern=r":\d+$", description="host:port to listen on.")
    path: str = Field(default="/", pattern="^/", description="Path of the first form.")
    response_body: OptionalSection[ResponseBody] = Field(default=None, description="Fixed bodies.")
    use_v2: bool = Field(default=False, description="The second form.")
    http: OptionalSection[HTTPPages] = Field(default=None, description="Pages of the second form.")
    component_health: ComponentHealth = Field(
        default_factory=lambda: ComponentHealth(), description="Which states make a probe fail."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if isinstance(value, dict) and "grpc" in value:
            raise ValueError("grpc is not offered; use http")
        if isinstance(value, dict) and "check_collector_pipeline" in value:
            raise ValueError("check_collector_pipeline is not needed: failing exporters always count; remove it")
        return cast(Any, value)

    @property
    def address(self) -> tuple[str, int]:
        endpoint = self.http.endpoint if self.use_v2 and self.http else self.endpoint
        host, _, port = endpoint.rpartition(":")
        return host.strip("[]"), int(port)


class _Status(Protocol):
    state: str
    message: str


class _Report(Protocol):
    kind: str
    id: ComponentId
    status: _Status
    since_s: float
    pipelines: tuple[str, ...]

    def facts(self) -> dict[str, Any]: ...


class HealthCheck(Extension):
    """Serves the pages; the daemon's board of component states tells what is true."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config
        self._board: Any = None
        self._runner: web.AppRunner | None = None

    async def start(self, host: Host) -> None:
        self._board = getattr(host, "health", None)
        app = web.Application()
        if self.config.use_v2:
            pages = self.config.http or HTTPPages()
            if pages.status.enabled:
                app.router.add_get(pages.status.path, self._show_status)
        else:
            app.router.add_get(self.config.path, self._show_simple)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        name, port = self.config.address
        try:
            await web.TCPSite(self._runner, name or None, port).start()
        except OSError as error:
            await self.shutdown()
            text = f"extension {self.id} can not listen on {name}:{port}: {error.strerror or error}"
            raise ColonnadeError("address_in_use", text) from None

    @property
    def serves(self) -> list[str]:
        addresses = self._runner.addresses if self._runner else []
        return [f"health on http://{self.config.address[0]}:{addresses[0][1]}"] if addresses else []

    async def shutdown(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _show_simple(self, request: web.Request) -> web.Response:
        status, body = self.simple(_verbose(request))
        texts = self.config.response_body
        text = (texts.healthy if status == 200 else texts.unhealthy) if texts else ""
        if texts:
            return web.Response(status=status, text=text)
        return web.json_response(body, status=status)

    async def _show_status(self, request: web.Request) -> web.Response:
        status, body = self.states(request.query.get("pipeline", ""), _verbose(request))
        return web.Response(status=status, text=json.dumps(body), content_type="application/json")

    def simple(self, verbose: bool = False) -> Answer:
        """Status and body of the first form."""
        phase, reports = self._phase(), self._reports()
        everybody = _components(reports) if verbose else {}
        if phase != "ready":
            return 503, {"status": "Server not available", "phase": phase} | everybody
        if failing := [r for r in reports if self._is_down(r)]:
            return 503, {"status": "Exporters failing"} | (everybody or _components(failing))
        return 200, {"status": "Server available"} | everybody

    def states(self, pipeline: str, verbose: bool) -> Answer:
        """Status and body of the second form; 404 for a pipeline that does not exist."""
        phase, reports = self._phase(), self._reports()
        if pipeline:
            reports = [r for r in reports if pipeline in r.pipelines]
            if not reports:
                return 404, {"error": f"no pipeline {pipeline!r}"}
        if phase != "ready":
            return 503, {"healthy": False, "status": "StatusStarting" if phase == "starting" else "StatusStopping"}
        worst = max(reports, key=self._weight, default=None)
        status = 200 if worst is None else self._http_status(worst)
        body: dict[str, Any] = {
            "healthy": status == 200,
            "status": _word(worst.status.state) if worst else "StatusOK",
        }
        if worst is not None and worst.status.message:
            body["error"] = worst.status.message
        return status, body | (_components(reports) if verbose else {})

    def _phase(self) -> str:
        return self._board.phase if self._board is not None else "starting"

    def _reports(self) -> list[_Report]:
        return self._board.reports() if self._board is not None else []

    def _lasting(self, report: _Report) -> bool:
        return self._board.clock() - report.since_s >= self.config.component_health.recovery_duration

    def _is_down(self, report: _Report) -> bool:
        state = report.status.state
        if state == "recoverable_error":
            return self._lasting(report)
        return state in ("permanent_error", "fatal_error")

    def _http_status(self, report: _Report) -> int:
        state, rules = report.status.state, self.config.component_health
        if state == "recoverable_error":
            return 500 if rules.include_recoverable_errors and self._lasting(report) else 200
        if state == "permanent_error":
            return 500 if rules.include_permanent_errors else 200
        return {"ok": 200, "fatal_error": 500}.get(state, 503)

    def _weight(self, report: _Report) -> tuple[int, int]:
        order = ("ok", "stopped", "stopping", "starting", "recoverable_error", "permanent_error", "fatal_error")
        state = report.status.state
        return self._http_status(report), order.index(state) if state in order else 0


def _verbose(request: web.Request) -> bool:
    return request.query.get("verbose", "false") not in ("false", "0", "no")


def _components(reports: list[_Report]) -> dict[str, Any]:
    return {"components": {_name(r): _state(r) for r in sorted(reports, key=_name)}}


def _name(report: _Report) -> str:
    where = f" ({', '.join(report.pipelines)})" if report.pipelines else ""
    return f"{report.kind}:{report.id}{where}"


def _word(state: str) -> str:
    return "StatusOK" if state == "ok" else "Status" + "".join(part.capitalize() for part in state.split("_"))


def _state(report: _Report) -> dict[str, Any]:
    body: dict[str, Any] = {"healthy": report.status.state == "ok", "status": _word(report.status.state)}
    if report.status.message:
        body["error"] = report.status.message
    return body | report.facts()


factory = Factory(
    type="health_check",
    kind="extension",
    config=Config,
    create=HealthCheck,
    aliases=("healthcheck", "healthcheckv2"),
    stability="beta",
)
