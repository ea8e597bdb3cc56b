"""Changes attributes of resources.

    processors:
      resource:
        attributes:
          - key: deployment.environment.name
            value: production
            action: upsert
          - key: host.name
            from_attribute: k8s.node.name
            action: insert
          - key: process.command_args
            action: delete

Actions are taken in order, once per distinct resource of a batch. An attribute is addressed by its OTel key, wherever
it lives: in a column or in the context. A column that a record's own attribute fills stays the record's. It holds no
rows and refuses none.

Specification: the Collector's `resource` processor. Differences: expressions run in linear time; `from_context` knows
`metadata.NAME` only, which needs `include_metadata` at the receiver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from colonnade.native import AttributeEdit
from colonnade.pipeline.attribute_actions import Action
from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Processor, signals
from colonnade.pipeline.settings import Settings

if TYPE_CHECKING:
    from colonnade.native import Batch


class Config(Settings):
    """The processor's section."""

    attributes: tuple[Action, ...] = Field(min_length=1, description="What is done, in this order.")


class Resource(Processor):
    """One native edit per batch."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self._edit = AttributeEdit("resource", [action.native() for action in config.attributes])

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        return self._edit.apply(batch)


factory = Factory(
    type="resource",
    kind="processor",
    config=Config,
    create=Resource,
    signals=signals("traces", "metrics", "logs", "events"),
)
