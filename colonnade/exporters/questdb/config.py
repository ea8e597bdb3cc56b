"""The section of a `questdb` exporter."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from colonnade.pipeline.settings import Duration, ExporterSettings, Secret, Settings, TLSClient
from colonnade.unified_schema import questdb as ddl

# Characters that QuestDB does not have in names of tables, and that it takes for its own files.
_FORBIDDEN = frozenset("?,'\"\\/:()+*%~\r\n\0\t")
_HOUR_S = 3600


class MetricsTable(Settings):
    """A table's name."""

    name: str = Field(default="", min_length=1, description="Name of the table.")


class MetricsTables(Settings):
    """`metrics_tables`: the tables of metric points, by their kind."""

    gauge: MetricsTable = Field(default=MetricsTable(name=ddl.METRIC_TABLES["gauge"]), description="Gauges.")
    sum: MetricsTable = Field(default=MetricsTable(name=ddl.METRIC_TABLES["sum"]), description="Sums.")
    histogram: MetricsTable = Field(
        default=MetricsTable(name=ddl.METRIC_TABLES["histogram"]), description="Histograms."
    )
    exponential_histogram: MetricsTable = Field(
        default=MetricsTable(name=ddl.METRIC_TABLES["exponential_histogram"]), description="Exponential histograms."
    )
    summary: MetricsTable = Field(default=MetricsTable(name=ddl.METRIC_TABLES["summary"]), description="Summaries.")


class EventsTable(Settings):
    """`events_table`: the wide table, for rows that are no metric points."""

    name: str = Field(default="", description="Name of the table; empty: there is none.")
    columns: tuple[str, ...] = Field(
        default=(), description="Its columns: of the wide table, or attributes by their keys; none: all columns."
    )


class QuestDBConfig(ExporterSettings):
    """Keys of the exporter."""

    endpoint: str = Field(description="The server's HTTP port, as a URL: `http://127.0.0.1:9000`.")
    username: str = Field(default="", description="User name (basic authentication).")
    password: Secret = Field(default=Secret(""), description="Password.")
    token: Secret = Field(default=Secret(""), description="Token, in place of user name and password.")
    symbols: tuple[str, ...] = Field(
        default=("service_name", "service_instance", "ns"),
        description="Columns of type SYMBOL: columns of the wide table, or attributes by their keys.",
    )
    metrics_tables: MetricsTables = Field(default=MetricsTables(), description="Names of the tables for metrics.")
    events_table: EventsTable = Field(default=EventsTable(), description="The wide table, for all other rows.")
    partition_by: Literal["HOUR", "DAY", "WEEK", "MONTH", "YEAR"] = Field(
        default="DAY", description="Size of partitions, when tables are made; HOUR above 10 million rows a day."
    )
    ttl: Duration = Field(default=0.0, description="Partitions live this long, in whole hours; 0 = for ever.")
    create_schema: bool = Field(default=True, description="Make and complete tables; off: take them as they are.")
    tls: TLSClient = Field(default=TLSClient(), description="TLS to the server.")
    timeout: Duration = Field(default=30.0, gt=0, description="Bound of one request.")

    @field_validator("endpoint")
    @classmethod
    def _url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected a URL such as http://127.0.0.1:9000, got {url!r}")
        if parts.username or parts.password:
            raise ValueError("credentials do not go into the endpoint: write username and password beside it")
        if parts.query or parts.fragment:
            raise ValueError("the endpoint takes no parameters: write http://host:9000")
        return url.rstrip("/")

    @field_validator("ttl")
    @classmethod
    def _hours(cls, ttl: float) -> float:
        if ttl % _HOUR_S:
            raise ValueError(f"ttl must be whole hours, for example 720h; got {ttl:g}s")
        return ttl

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.token and self.username:
            raise ValueError("write token, or username and password, but not both")
        seen: set[str] = set()
        for table in self.tables():
            _check_names(table)
            if table.name.lower() in seen:
                raise ValueError(f"two tables have the name {table.name!r}")
            seen.add(table.name.lower())
        return self

    def tables(self) -> list[ddl.Table]:
        """The tables of the configuration. Raises ValueError where columns would have one name."""
        found = [
            ddl.metric_table(rows, getattr(self.metrics_tables, rows).name, self.symbols) for rows in ddl.METRIC_TABLES
        ]
        if self.events_table.name:
            found.append(ddl.events_table(self.events_table.name, self.events_table.columns, self.symbols))
        return found

    @property
    def table_options(self) -> ddl.TableOptions:
        return ddl.TableOptions(self.partition_by, int(self.ttl // _HOUR_S))


def _check_names(table: ddl.Table) -> None:
    """Raises ValueError for names that QuestDB does not take."""
    name = table.name
    if _FORBIDDEN & set(name) or ".." in name or name != name.strip(". ") or len(name.encode()) > ddl.NAME_MAX_BYTES:
        raise ValueError(f"QuestDB has no table of the name {name!r}: use letters, digits and _")
    for column in table.columns:
        if not column.name or len(column.name.encode()) > ddl.NAME_MAX_BYTES:
            raise ValueError(f"QuestDB has no column of the name {column.name!r}: shorten the attribute's key")
