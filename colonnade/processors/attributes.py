"""Changes attributes of spans, log records and data points.

    processors:
      attributes:
        include:
          match_type: strict
          services: [checkout]
        actions:
          - key: environment
            value: production
            action: insert
          - key: user.email
            action: hash
          - pattern: ^debug\\.
            action: delete
          - key: url.path
            pattern: ^/api/v(?P<api_version>\\d+)/
            action: extract

Actions are taken in order. An attribute is addressed by its OTel key, wherever it lives: in a column, in the map. What
an attribute feeds follows it, so a hashed `enduser.id` leaves no plain `actor_id` behind. It holds no rows and refuses
none. Put it before `unify`: what that derives (host, path and campaign of a URL) is made of what is left.

Hashes are SHA-1 in hex, as the Collector's: of a text its bytes, of a number its eight bytes, little end first.

Specification: the Collector's `attributes` processor. Differences: expressions run in linear time (no look-around, no
back-references); `from_context` knows `metadata.NAME` only, which needs `include_metadata` at the receiver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from colonnade.native import AttributeEdit
from colonnade.pipeline.attribute_actions import Action, Match
from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Processor, signals
from colonnade.pipeline.settings import Settings

if TYPE_CHECKING:
    from colonnade.native import Batch


class Config(Settings):
    """The processor's section."""

    actions: tuple[Action, ...] = Field(min_length=1, description="What is done, in this order.")
    include: Match | None = Field(default=None, description="Only these rows are changed.")
    exclude: Match | None = Field(default=None, description="These rows are not changed.")


class Attributes(Processor):
    """One native edit per batch."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self._edit = AttributeEdit(
            "record",
            [action.native() for action in config.actions],
            include=config.include.native() if config.include else None,
            exclude=config.exclude.native() if config.exclude else None,
        )

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        return self._edit.apply(batch)


factory = Factory(
    type="attributes",
    kind="processor",
    config=Config,
    create=Attributes,
    signals=signals("traces", "metrics", "logs", "events"),
)
