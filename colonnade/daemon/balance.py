"""The balance: what came in is stored, left out on purpose, given up (counted) or still in the log.

Per pipeline and exporter:
`accepted + added + recovered = filtered + sampled + rejected + stored + failed + in the log`.
The parts are metrics (`pipeline_*_items`); this is the equality itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from colonnade.daemon.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Account:
    """One pipeline's rows as one exporter sees them."""

    pipeline: str
    exporter: str
    accepted: int
    left_out: int
    stored: int
    failed: int
    in_log: int

    @property
    def missing(self) -> int:
        """Rows that nobody accounts for; 0 when the balance holds, less when rows are counted twice."""
        return self.accepted - self.left_out - self.stored - self.failed - self.in_log


def accounts(metrics: Metrics) -> list[Account]:
    """Every pipeline and exporter. A pipeline whose exporters changed by a reload balances from then on only."""
    entered: dict[str, float] = {}
    for name in ("accepted", "added"):
        for (pipeline, _), rows in metrics.read(f"pipeline_{name}_items").items():
            entered[pipeline] = entered.get(pipeline, 0) + rows
    left_out: dict[str, float] = {}
    for name in ("filtered", "sampled", "rejected"):
        for (pipeline, _), rows in metrics.read(f"pipeline_{name}_items").items():
            left_out[pipeline] = left_out.get(pipeline, 0) + rows
    recovered = metrics.read("pipeline_recovered_items")
    parts = {name: metrics.read(f"pipeline_{name}_items") for name in ("stored", "failed", "in_log")}
    keys = sorted({key for part in parts.values() for key in part})
    return [
        Account(
            pipeline=key[1],
            exporter=key[0],
            accepted=int(entered.get(key[1], 0) + recovered.get(key, 0)),
            left_out=int(left_out.get(key[1], 0)),
            **{name: int(part.get(key, 0)) for name, part in parts.items()},
        )
        for key in keys
    ]
