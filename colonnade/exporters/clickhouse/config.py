"""The section of a `clickhouse` exporter."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from colonnade.exporters.clickhouse.endpoint import Server, embedded_path, servers
from colonnade.pipeline.settings import ByteSize, Duration, ExporterSettings, Secret, Settings, TLSClient
from colonnade.unified_schema.clickhouse import TABLE, TableOptions

EMBEDDED_DATABASE = "colonnade"
Compression = Literal["none", "lz4", "zstd", "gzip", "deflate"]

# Keys of older Collectors, and keys that can not be honoured: what to write in their place.
REPLACED = {
    "dsn": "write endpoint: http://host:8123 (with username, password and database as keys)",
    "ttl_days": "write ttl: 72h",
    "profiles_table_name": "remove it: profiles are not stored",
}

# Parameters of the Go driver that name no setting of the server.
DRIVER_PARAMS = {
    "dial_timeout": "write timeout: 10s beside it",
    "read_timeout": "write timeout: 10s beside it",
    "connection_open_strategy": "write connection_open_strategy beside it",
    "skip_verify": "write tls: {insecure_skip_verify: true}",
    "compress": "write compress beside it",
    "block_buffer_size": "remove it: blocks are built whole",
    "http_proxy": "remove it: the standard environment variables HTTP_PROXY and HTTPS_PROXY are read",
}


class TableEngine(Settings):
    """`table_engine`."""

    name: str = Field(default="MergeTree", pattern=r"^\w*MergeTree$", description="A table engine of this family.")
    params: str = Field(
        default="", description="Its arguments, as SQL: `'/clickhouse/tables/{shard}/events', '{replica}'`."
    )


class MetricsTable(Settings):
    """A view's name."""

    name: str = Field(default="", description="Name of the view.")


class MetricsTables(Settings):
    """`metrics_tables`: names of the views that look like the Collector's metric tables."""

    gauge: MetricsTable = Field(default=MetricsTable(name="otel_metrics_gauge"), description="Gauges.")
    sum: MetricsTable = Field(default=MetricsTable(name="otel_metrics_sum"), description="Sums.")
    summary: MetricsTable = Field(default=MetricsTable(name="otel_metrics_summary"), description="Summaries.")
    histogram: MetricsTable = Field(default=MetricsTable(name="otel_metrics_histogram"), description="Histograms.")
    exponential_histogram: MetricsTable = Field(
        default=MetricsTable(name="otel_metrics_exp_histogram"), description="Exponential histograms."
    )


class ClickHouseConfig(ExporterSettings):
    """Keys of the exporter; the Collector's where it has them."""

    endpoint: str = Field(
        min_length=1,
        description="Servers (`http://host:8123`, several with commas), or `embedded:PATH`: the engine in process.",
    )
    connection_open_strategy: Literal["in_order", "round_robin", "random"] = Field(
        default="in_order", description="Which of several servers is tried first."
    )
    username: str = Field(default="default", description="User name; one in the endpoint wins.")
    password: Secret = Field(default=Secret(""), description="Password; one in the endpoint wins.")
    database: str = Field(
        default="", description="Database; created when missing. Default: `default` on a server, `colonnade` embedded."
    )
    connection_params: dict[str, str] = Field(
        default_factory=dict[str, str], description="ClickHouse settings that go with every statement."
    )
    ttl: Duration = Field(default=0.0, description="Rows live this long after they came in; 0 = for ever.")
    create_schema: bool = Field(
        default=True, description="Create and complete database, table and views; off: take the table as it is."
    )
    compress: Compression | None = Field(
        default=None, description="Packing of blocks on the wire. Default: none on loopback, lz4 elsewhere."
    )
    async_insert: bool | None = Field(
        default=None, description="Taken for compatibility: always off, since blocks are large and named."
    )
    json_type: Literal[False] = Field(
        default=False, alias="json", description="Only false: attributes are Map(LowCardinality(String), String)."
    )
    tls: TLSClient = Field(default=TLSClient(), description="TLS to the servers.")
    cluster_name: str = Field(default="", description="DDL goes ON CLUSTER of this name.")
    table_engine: TableEngine = Field(default=TableEngine(), description="Engine of the table.")
    table: str = Field(default=TABLE, min_length=1, description="The wide table.")
    table_settings: dict[str, str] = Field(
        default_factory=dict[str, str], description="MergeTree settings of the table, when it is created."
    )
    trace_index: bool = Field(default=True, description="A bloom filter on trace_id, when the table is created.")
    logs_table_name: str = Field(default="otel_logs", description="Name of the view that looks like the Collector's.")
    traces_table_name: str = Field(default="otel_traces", description="Name of the view for spans.")
    metrics_tables: MetricsTables = Field(default=MetricsTables(), description="Names of the views for metrics.")
    timeout: Duration = Field(default=30.0, gt=0, description="Bound of one statement.")
    memory_limit: ByteSize = Field(
        default=0, description="Memory of the embedded engine; 0 = a quarter of the machine's, 512 MiB to 4 GiB."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_by_name(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for key, hint in REPLACED.items():
                if key in value:
                    raise ValueError(f"{key} is not supported: {hint}")
        return value  # pyright: ignore[reportUnknownVariableType]

    @field_validator("connection_params", "table_settings", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        """YAML reads `max_threads: 4` as a number and `true` as a bool."""
        if not isinstance(value, dict):
            return value
        found: dict[str, Any] = {}
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            found[str(key)] = str(int(item)) if isinstance(item, bool) else str(item)  # pyright: ignore[reportUnknownArgumentType]
        return found

    @field_validator("json_type", mode="before")
    @classmethod
    def _no_json(cls, value: Any) -> Any:
        if value is not False:
            raise ValueError("json: true is not supported: attributes are Map(LowCardinality(String), String)")
        return value

    @field_validator("compress", mode="before")
    @classmethod
    def _no_brotli(cls, value: Any) -> Any:
        if value == "br":
            raise ValueError("compress: br is not supported: use zstd, which packs as well at a tenth of the cost")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, hint in DRIVER_PARAMS.items():
            if key in self.connection_params:
                raise ValueError(f"connection_params.{key} is not supported: {hint}")
        if self.tls.ca_pem or self.tls.cert_pem or self.tls.key_pem:
            raise ValueError("tls: keys given as PEM text are not supported here: use ca_file, cert_file, key_file")
        if embedded_path(self.endpoint) is None:
            self.servers()
        elif not embedded_path(self.endpoint):
            raise ValueError("endpoint embedded: needs a folder, for example embedded:./data")
        elif self.cluster_name:
            raise ValueError("cluster_name does not go with an embedded store: it has no cluster")
        return self

    def servers(self) -> list[Server]:
        """The servers of `endpoint`."""
        return servers(self.endpoint)

    @property
    def embedded(self) -> str | None:
        """The folder of an embedded store."""
        return embedded_path(self.endpoint)

    @property
    def database_name(self) -> str:
        named = next((s.database for s in self.servers() if s.database), "") if self.embedded is None else ""
        return named or self.database or ("default" if self.embedded is None else EMBEDDED_DATABASE)

    @property
    def table_options(self) -> TableOptions:
        # The engine in process is a laptop's store: nobody else keeps a copy of what it acknowledged.
        safe = {"fsync_after_insert": "1", "fsync_part_directory": "1"} if self.embedded is not None else {}
        return TableOptions(
            database=self.database_name,
            table=self.table,
            ttl_s=int(self.ttl),
            engine=self.table_engine.name,
            engine_params=self.table_engine.params,
            cluster=self.cluster_name,
            trace_index=self.trace_index,
            settings=safe | self.table_settings,
        )

    @property
    def views(self) -> dict[str, str]:
        """Kind of view to its name; an empty name means no such view."""
        metrics = self.metrics_tables
        return {
            "logs": self.logs_table_name,
            "traces": self.traces_table_name,
            "gauge": metrics.gauge.name,
            "sum": metrics.sum.name,
            "summary": metrics.summary.name,
            "histogram": metrics.histogram.name,
            "exponential_histogram": metrics.exponential_histogram.name,
        }

    def warnings(self) -> list[str]:
        """What is taken, but not as it was written."""
        found: list[str] = []
        if self.async_insert or self.connection_params.get("async_insert", "0") not in ("0", "false"):
            found.append("async_insert: true is taken as false: blocks are large already, and named against repeats")
        if self.embedded is None and any(s.native for s in self.servers()):
            urls = ", ".join(s.url for s in self.servers())
            found.append(f"the native protocol is not spoken: trying HTTP at {urls}; write http:// to say so")
        return found
