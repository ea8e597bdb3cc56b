"""Tells what comes in, on the daemon's log or on a file: for trying a pipeline out.

    exporters:
      debug:
        verbosity: detailed
        sampling_initial: 5
        sampling_thereafter: 200
      debug/file:
        verbosity: normal
        use_internal_logger: false
        output_paths: [stdout, ./debug.txt]

`basic` writes a line for each batch: how many resources and records it has. `normal` adds about a line for each
record, `detailed` every field of it, word for word as the Collector's component of version 0.161 prints them. Rows that
no processor changed are told from the request's own bytes; others in the order in which their attributes are kept.
Rows of other sources than OTLP are told by their columns.

It never refuses anything: what is not sampled, or can not be written, is dropped, and counted as sent all the same.
It puts payloads into the log, which nothing else does: take it out where that must not be.

Specification: the Collector's `debug` exporter. Differences: a batch is what waited in the log, so that many small
requests make one line under load; the internal logger's lines have the daemon's own head; the older spelling of this
component, `logging`, is accepted.
"""

from __future__ import annotations

from colonnade.exporters.debug.exporter import Debug, DebugConfig
from colonnade.pipeline.component import ComponentId, Factory, signals

__all__ = ["Debug", "DebugConfig", "factory"]


def _create(id: ComponentId, config: DebugConfig) -> Debug:
    return Debug(id, config)


factory = Factory(
    type="debug",
    kind="exporter",
    config=DebugConfig,
    create=_create,
    signals=signals("traces", "metrics", "logs", "events"),
    aliases=("logging",),
)
