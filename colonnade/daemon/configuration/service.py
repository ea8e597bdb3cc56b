"""The `service` section: extensions, pipelines, and the daemon's own telemetry.

Clauses: otelcol 1.2, 1.10. Keys of the Collector that have no meaning here are refused by name with what to use.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from colonnade.pipeline.settings import Duration, OptionalSection, Settings

METRICS_PORT = 8888
LEVELS = ("debug", "info", "warn", "error")


class LogSampling(Settings):
    """`logs.sampling`: of lines with one text, the first few per tick are written and then every n-th."""

    enabled: bool = Field(default=True, description="Leave repeated lines out.")
    tick: Duration = Field(default=10.0, gt=0, description="Length of the interval in which lines are counted.")
    initial: int = Field(default=10, ge=0, description="Lines of one text that are written per tick.")
    thereafter: int = Field(default=100, ge=0, description="After those, every n-th is written; 0 = none.")


class LogSettings(Settings):
    """`telemetry.logs`: the daemon's own log."""

    level: Literal["debug", "info", "warn", "error"] = Field(default="info", description="Least level written.")
    encoding: Literal["console", "json"] = Field(default="console", description="One line for people, or JSON.")
    output_paths: tuple[str, ...] = Field(default=("stderr",), description="stderr, stdout, or files.")
    error_output_paths: tuple[str, ...] = Field(default=("stderr",), description="Accepted; the log has one output.")
    sampling: LogSampling = Field(default_factory=lambda: LogSampling(), description="What happens to repeated lines.")
    development: bool = Field(default=False, description="Write the traceback of every error.")
    disable_caller: bool = Field(default=False, description="Leave out which module wrote the line.")
    disable_stacktrace: bool = Field(default=False, description="Never write tracebacks.")
    initial_fields: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="Fields that every JSON line carries."
    )

    @field_validator("level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        """The Collector writes INFO; `warning` and `fatal` are spellings of its logger."""
        if not isinstance(value, str):
            return value
        level = value.lower()
        return {"warning": "warn", "fatal": "error", "panic": "error", "dpanic": "error"}.get(level, level)

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("processors"):  # pyright: ignore[reportUnknownMemberType]
            raise ValueError("processors (sending the own log by OTLP) is not offered; use output_paths")
        return value  # pyright: ignore[reportUnknownVariableType]


class LabelSelection(Settings):
    """`with_resource_constant_labels`."""

    included: tuple[str, ...] = Field(default=(), description="Resource attributes that become labels.")
    excluded: tuple[str, ...] = Field(default=(), description="Resource attributes that do not.")


class PrometheusReader(Settings):
    """`pull.exporter.prometheus`: a page for Prometheus to scrape."""

    host: str = Field(default="localhost", description="Address to listen on.")
    port: int = Field(default=METRICS_PORT, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    without_type_suffix: bool = Field(default=True, description="Counters have no `_total`.")
    without_units: bool = Field(default=True, description="Names have no unit.")
    without_scope_info: bool = Field(default=True, description="No labels of the instrumentation scope.")
    with_resource_constant_labels: LabelSelection | None = Field(
        default=None, description="Resource attributes as labels; default: service_name, _instance_id, _version."
    )


class PullExporter(Settings):
    """`pull.exporter`."""

    prometheus: OptionalSection[PrometheusReader] = Field(default=None, description="The scrape page.")


class PullReader(Settings):
    """`pull`."""

    exporter: PullExporter = Field(default_factory=lambda: PullExporter(), description="How to be read.")


class Reader(Settings):
    """One of `metrics.readers`."""

    pull: OptionalSection[PullReader] = Field(default=None, description="A page that others read.")

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if isinstance(value, dict) and "periodic" in value:
            raise ValueError("periodic readers are not offered; use pull.exporter.prometheus and scrape it")
        return value  # pyright: ignore[reportUnknownVariableType]


class MetricsSettings(Settings):
    """`telemetry.metrics`: the daemon's own metrics."""

    level: Literal["none", "basic", "normal", "detailed"] = Field(default="normal", description="How many there are.")
    readers: tuple[Reader, ...] | None = Field(default=None, description="Default: a page on localhost:8888/metrics.")

    @field_validator("level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if isinstance(value, dict) and "address" in value:
            raise ValueError("address is ignored by the Collector since v0.123; use readers: [{pull: {exporter: ...}}]")
        if isinstance(value, dict) and value.get("views"):  # pyright: ignore[reportUnknownMemberType]
            raise ValueError("views is not offered; choose a level")
        return value  # pyright: ignore[reportUnknownVariableType]

    @property
    def prometheus(self) -> tuple[PrometheusReader, ...]:
        """The pages to serve."""
        if self.level == "none":
            return ()
        if self.readers is None:
            return (PrometheusReader(),)
        pages = (reader.pull.exporter.prometheus for reader in self.readers if reader.pull)
        return tuple(page for page in pages if page)


class TracesSettings(Settings):
    """`telemetry.traces`: the daemon makes no traces of itself."""

    level: Literal["none", "basic", "normal", "detailed"] = Field(default="none", description="Accepted.")
    propagators: tuple[str, ...] = Field(default=(), description="Accepted.")

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("processors"):  # pyright: ignore[reportUnknownMemberType]
            raise ValueError("processors is not offered: the daemon makes no traces of itself")
        return value  # pyright: ignore[reportUnknownVariableType]


class Telemetry(Settings):
    """`service.telemetry`."""

    logs: LogSettings = Field(default_factory=lambda: LogSettings(), description="The own log.")
    metrics: MetricsSettings = Field(default_factory=lambda: MetricsSettings(), description="The own metrics.")
    traces: TracesSettings = Field(default_factory=lambda: TracesSettings(), description="None are made.")
    resource: dict[str, str | None] = Field(
        default_factory=dict[str, str | None],
        description="Resource attributes of the own telemetry; null takes a default one away.",
    )

    @field_validator("resource", mode="before")
    @classmethod
    def _declarative(cls, value: Any) -> Any:
        """Both forms: a mapping, and `attributes: [{name: , value: }]`."""
        if not isinstance(value, dict) or not isinstance(value.get("attributes"), list):  # pyright: ignore[reportUnknownMemberType]
            return value  # pyright: ignore[reportUnknownVariableType]
        own: dict[str, Any] = {k: v for k, v in value.items() if k not in ("attributes", "schema_url")}  # pyright: ignore
        for item in value["attributes"]:  # pyright: ignore[reportUnknownVariableType]
            if not isinstance(item, dict) or not isinstance(item.get("name"), str):  # pyright: ignore
                raise ValueError("attributes takes a list of {name: , value: }")
            own[item["name"]] = None if item.get("value") is None else str(item["value"])  # pyright: ignore
        return own


class PipelineSettings(Settings):
    """One of `service.pipelines`."""

    receivers: tuple[str, ...] = Field(default=(), description="Ids of receivers (or connectors); at least one.")
    processors: tuple[str, ...] = Field(default=(), description="Ids of processors, in order.")
    exporters: tuple[str, ...] = Field(default=(), description="Ids of exporters (or connectors); at least one.")


class Service(Settings):
    """`service`."""

    extensions: tuple[str, ...] = Field(default=(), description="Ids of the extensions to start, in order.")
    telemetry: Telemetry = Field(default_factory=lambda: Telemetry(), description="The daemon's own telemetry.")
    pipelines: dict[str, PipelineSettings] = Field(
        default_factory=dict[str, PipelineSettings], description="What receives, processes and exports which signal."
    )
    shutdown_timeout: Duration = Field(
        default=30.0, gt=0, description="How long a stop or reload may drain before what is left is given up (counted)."
    )
