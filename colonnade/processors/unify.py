"""Completes rows, so that they can be stored in the wide table: name space, ids, times, URL parts, partition columns.

    processors:
      unify:
        default_ns: acme-prod
        ns_attribute: service.namespace
        columns:
          resource_id: [order.id, app.order_id]
        extension_columns: [span_kind, deployment_environment]

Decoding yields rows in unified columns; this is where what the sender did not state is derived and the user's choices
are carried out. What a row states itself is never changed. Rows keep their order and number, and a request's own bytes
stay with them. Exporters that write the wide table need completed rows: where a file names no `unify`, one with
defaults is added at the end of the processors.

What it fills, where absent: `ns` (the request's tenant, else `ns_attribute`, else `default_ns`, as a slug), `id`
(deterministic: a request sent again makes the same rows), `timestamp`, `timestamp_ns`, `http_host`, `http_path`,
`http_query`, `page_search` and `campaign_*` out of `http_url`, `resource_ns`, `day`, `hour`, `visibility`,
`ingested_at`, `batch_id`, `schema_version`, and what `columns` says. `day` and `hour` follow `timestamp` within
`day_window` of `ingested_at`, else `ingested_at`, so that wrong clocks do not make a partition each. A column that
`columns` fills is like any other: rows that are sent on as OTLP have the attribute of that column as well.

Soft checks: rows that lack what their event type should have (a span its ids, a log its level), or lie more than a day
ahead of the clock, are counted in `otelcol_processor_unify_soft_violations`, and kept.

Specification: the unified schema, reference page "Columns". The Collector has no component of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Processor, signals
from colonnade.pipeline.settings import Duration, Settings
from colonnade.unified_schema import columns

if TYPE_CHECKING:
    from colonnade.native import Batch

DAY_S = 86_400.0
NS_PER_S = 1_000_000_000
# The types of columns that an attribute may feed.
_FED_TYPES = {"lc_string", "string", "int64", "int32", "uint32", "uint16", "uint8", "float64", "bool"}
_OWN_GROUPS = {"PartitionInternal"}

ExtensionColumn = Literal["span_kind", "deployment_environment", "client_ip"]
Visibility = Literal["user", "team", "org", "public", "unlisted"]


def _fed_column(name: str) -> str:
    known = {c.name for c in columns() if c.type in _FED_TYPES and c.group not in _OWN_GROUPS} - {"timestamp_ns", "ns"}
    if name not in known:
        from difflib import get_close_matches

        near = get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is no column that an attribute can feed (text, number or boolean){hint}")
    return name


def _slug(name: str) -> str:
    from colonnade.native import slug

    if slug(name) != name:
        raise ValueError(f"{name!r} is no name space: lower-case letters, digits, '.', '_', '-', at most 63 of them")
    return name


FedColumn = Annotated[str, AfterValidator(_fed_column)]
AttributeKeys = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class DayWindow(Settings):
    """`day_window`."""

    before: Duration = Field(default=7 * DAY_S, description="How far before ingestion `timestamp` decides the day.")
    after: Duration = Field(default=DAY_S, description="How far after it.")


class Config(Settings):
    """The processor's section."""

    default_ns: Annotated[str, AfterValidator(_slug)] = Field(
        default="default", min_length=1, description="Name space of rows that nothing else gives one."
    )
    ns_attribute: str = Field(
        default="", description="Resource attribute that names the name space where the request's tenant does not."
    )
    attributes: Literal["residual", "whole"] = Field(
        default="residual",
        description="whole: `attributes` and `context` also hold what has a column; residual: one home for each value. "
        "Pipelines that share a receiver all get whole where one of them asks for it.",
    )
    columns: dict[FedColumn, AttributeKeys] = Field(
        default_factory=dict[str, tuple[str, ...]],
        description="Column to attribute keys that fill it where it is absent; the first that a row has.",
    )
    extension_columns: tuple[ExtensionColumn, ...] = Field(
        default=(), description="Columns outside of the table to fill."
    )
    visibility: Visibility = Field(default="user", description="Who may read rows that do not say so.")
    day_window: DayWindow = Field(
        default_factory=lambda: DayWindow(), description="Where `day` and `hour` follow `timestamp`."
    )


class Unify(Processor):
    """One native kernel over columns."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        from colonnade.native import Unify as Kernel

        super().__init__(id)
        self.config = config
        self.wants_whole = config.attributes == "whole"
        self._kernel = Kernel(
            default_ns=config.default_ns,
            ns_attribute=config.ns_attribute,
            visibility=config.visibility,
            day_before_ns=round(config.day_window.before * NS_PER_S),
            day_after_ns=round(config.day_window.after * NS_PER_S),
            columns=[(column, list(keys)) for column, keys in config.columns.items()],
            extensions=list(config.extension_columns),
        )

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        """Columns in: what a decoder made. Columns out: those and all that are not nullable, in the table's order."""
        completed, violations = self._kernel.complete(batch, ctx.received_at_ns, ctx.append_id)
        for source, check, rows in violations:
            ctx.host.count("processor_unify_soft_violations", rows, event_source=source, check=check)
        return completed


factory = Factory(
    type="unify",
    kind="processor",
    config=Config,
    create=Unify,
    signals=signals("traces", "metrics", "logs", "events"),
    stability="beta",
)
