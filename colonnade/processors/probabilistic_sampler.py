"""Keeps a share of spans and log records, the same traces everywhere.

    processors:
      probabilistic_sampler:
        mode: proportional
        sampling_percentage: 50

Every span or record is decided by itself, by what all of its trace share: instances with one configuration keep the
same traces, and what a lower percentage keeps, a higher one keeps, too. `mode` says by what:

- `hash_seed`: a hash of the trace id, or of an attribute (`from_attribute`, log records only), with the seed. Tiers
  that are to decide independently of each other need seeds of their own.
- `proportional`: the randomness that OpenTelemetry gives a trace (`rv` of its trace state, else the trace id's last 56
  bits). Of what comes, this percentage is kept, whatever earlier samplers left out.
- `equalizing`: the same randomness. What earlier samplers kept at this percentage or less passes; the rest is brought
  down to it.

What is kept says how it was chosen, so that it can be counted for what it stands for: a span in its trace state
(`ot=th:c` is one of four, as OpenTelemetry writes thresholds; `rv` where the randomness is not the trace id's), a log
record in the attributes `sampling.threshold` and `sampling.randomness`. What said so before keeps the lesser
probability.

The attribute `sampling.priority` overrules all of this for spans: 0 leaves out, more keeps. For log records an
attribute of the user's choice (`sampling_priority`) is a percentage of its own.

It holds no rows. What it leaves out is counted as sampled, by what decided; `fail_closed` says what becomes of rows
that can not be decided: without trace id or attribute, with a trace state that can not be read, with a threshold that
would have left them out, or, in mode `hash_seed`, sampled by OpenTelemetry's rules before.

Specification: the Collector's `probabilistic_sampler` processor; OpenTelemetry's "TraceState: Probability Sampling".
Differences: `sampling_priority` does what the Collector's documentation says also where its program does not: 0 leaves
a record out, and more than 100 keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from colonnade.native import ProbabilisticSampler as Kernel
from colonnade.pipeline.component import BatchContext, ComponentId, Factory, Processor, signals
from colonnade.pipeline.settings import Settings

if TYPE_CHECKING:
    from colonnade.native import Batch

# In percent; less can not be told in 56 bits.
MIN_PERCENTAGE = 100 / 2**56

Percentage = Annotated[float, Field(ge=MIN_PERCENTAGE, allow_inf_nan=False)]


class Config(Settings):
    """The processor's section."""

    mode: Literal["", "hash_seed", "proportional", "equalizing"] = Field(
        default="hash_seed", description="What decides; empty is hash_seed."
    )
    sampling_percentage: Literal[0] | Percentage = Field(
        default=0, description="How much is kept: 0 nothing, 100 and more everything."
    )
    hash_seed: int = Field(default=0, ge=0, lt=2**32, description="Of the hash; the same on all instances of a tier.")
    fail_closed: bool = Field(default=True, description="Whether what can not be decided is left out, or kept.")
    sampling_precision: int = Field(default=4, ge=1, le=14, description="Hexadecimal digits of thresholds.")
    attribute_source: Literal["traceID", "record"] = Field(
        default="traceID", description="Log records, hash_seed: traceID: from_attribute decides where there is none."
    )
    from_attribute: str = Field(default="", description="Log records, hash_seed: the attribute that decides.")
    sampling_priority: str = Field(
        default="", description="Log records: the attribute that holds a percentage of its own, 0 to 100."
    )


class ProbabilisticSampler(Processor):
    """One native pass per batch."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self._kernel = Kernel(
            config.mode or "hash_seed",
            config.sampling_percentage,
            hash_seed=config.hash_seed,
            fail_closed=config.fail_closed,
            precision=config.sampling_precision,
            by_trace_id=config.attribute_source == "traceID",
            attribute=config.from_attribute or None,
            priority=config.sampling_priority or None,
        )

    def process(self, batch: Batch, ctx: BatchContext) -> Batch | None:
        """Columns as they come, and in order; of those that are kept only trace state or two attributes are new."""
        kept, counts = self._kernel.sample(batch)
        for policy, sampled, rows in counts:
            ctx.host.count(
                f"processor_probabilistic_sampler_count_{batch.signal}_sampled",
                rows,
                policy=policy,
                sampled=str(sampled).lower(),
            )
            if not sampled:
                ctx.drop(rows, "sampled", policy)
        return kept


factory = Factory(
    type="probabilistic_sampler",
    kind="processor",
    config=Config,
    create=ProbabilisticSampler,
    signals=signals("traces", "logs"),
)
