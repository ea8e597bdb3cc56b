"""The exporter: what comes in is told, and forgotten."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal, Self, TextIO

import pyarrow
from pydantic import Field, field_validator, model_validator

from colonnade.exporters.debug import detailed, normal
from colonnade.exporters.debug.otlp import parse, wire
from colonnade.native import Batch, encode_otlp, store_attributes
from colonnade.pipeline.component import ComponentId, Exporter, Host, Slice, SliceLimits
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import ExporterSettings

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow

SAMPLING_TICK_S = 1.0
SAMPLING_SLOTS = 4096
SLICE = SliceLimits(min_rows=0, max_rows=8192, max_bytes=4 << 20, max_age_s=0, whole_requests=True)

_TITLES = {"traces": "Traces", "metrics": "Metrics", "logs": "Logs", "events": "Events"}
_LISTS = {"traces": "resource_spans", "metrics": "resource_metrics", "logs": "resource_logs"}
_STREAMS: dict[str, Callable[[], TextIO]] = {"stdout": lambda: sys.stdout, "stderr": lambda: sys.stderr}
_TELL = {
    "normal": {"traces": normal.traces, "metrics": normal.metrics, "logs": normal.logs},
    "detailed": {"traces": detailed.traces, "metrics": detailed.metrics, "logs": detailed.logs},
}


class DebugConfig(ExporterSettings):
    """Keys of the exporter; the Collector's."""

    verbosity: Literal["basic", "normal", "detailed"] = Field(
        default="basic", description="A line for each batch, about a line for each record, or every field."
    )
    sampling_initial: int = Field(default=2, ge=0, description="Messages of one text written in each second.")
    sampling_thereafter: int = Field(
        default=1, ge=0, description="After those every n-th is written; 1 = all, 0 = none."
    )
    use_internal_logger: bool = Field(default=True, description="Write to the daemon's own log, at level info.")
    output_paths: tuple[str, ...] | None = Field(
        default=None, description="Files, `stdout` or `stderr`, without the internal logger. Default: stdout."
    )

    @field_validator("verbosity", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.use_internal_logger and self.output_paths is not None:
            raise ValueError("output_paths is not supported when use_internal_logger is true")
        if self.output_paths is not None and not self.output_paths:
            raise ValueError("output_paths must not be empty when use_internal_logger is false")
        return self


class Debug(Exporter):
    """See the package's text."""

    wants_completed = False
    forwards_payloads = True
    slice = SLICE

    def __init__(self, id: ComponentId, config: DebugConfig) -> None:
        super().__init__(id)
        self.config = config
        self.retry = config.retry_on_failure
        self.queue = config.sending_queue
        self.dead_letter = config.dead_letter
        self._sampler = Sampler(config.sampling_initial, config.sampling_thereafter)
        self._outputs: list[TextIO] = []
        self._open = ExitStack()
        self._writing = asyncio.Lock()

    async def start(self, host: Host) -> None:
        """Opens the files. Raises ColonnadeError."""
        self._host = host
        if not self.config.use_internal_logger:
            await host.run(self._open_outputs)

    async def shutdown(self) -> None:
        self._outputs = []
        # What an output would not take before, it does not take now.
        with suppress(OSError):
            self._open.close()

    async def export(self, part: Slice) -> None:
        """Tells the slice. Never fails: a text that can not be written is dropped, with a warning."""
        async with self._writing:
            await self._host.run(self._tell, part)

    def _tell(self, part: Slice) -> None:
        verbosity = self.config.verbosity
        requests = [] if part.signal == "events" else _requests(part)
        summary = _summary(part, requests) if requests else {"events": part.rows}
        about = {
            "otelcol.component.id": str(self.id),
            "otelcol.component.kind": "exporter",
            "otelcol.signal": part.signal,
        }
        title = _TITLES[part.signal]
        self._write(title, summary, about)
        if verbosity == "basic":
            return
        if requests:
            kind, field = f"{title}Request", _LISTS[part.signal]
            lines = _TELL[verbosity][part.signal](r for request in requests for r in parse(kind, request)[field])
        else:
            lines = _events(part.batches, verbosity)
        self._write("".join(f"{line}\n" for line in lines), {}, about)

    def _write(self, message: str, fields: dict[str, int], about: dict[str, str]) -> None:
        if not self._sampler.lets_through(message, self._host.clock_ns() / 1e9):
            return
        if self.config.use_internal_logger:
            self._host.logger.info(f"{message}\t{json.dumps(about | fields)}")
            return
        line = f"{message}\t{json.dumps(fields)}\n" if fields else f"{message}\n"
        for output in self._outputs:
            try:
                output.write(line)
                output.flush()
            except (OSError, ValueError) as error:
                self._host.logger.warning("exporter %s: output was dropped: %s", self.id, type(error).__name__)

    def _open_outputs(self) -> None:
        for path in self.config.output_paths or ("stdout",):
            if path in _STREAMS:
                self._outputs.append(_STREAMS[path]())
                continue
            try:
                file = Path(path.removeprefix("file://")).open("a", encoding="utf-8")  # noqa: SIM115
            except OSError as error:
                raise ColonnadeError("not_writable", f"output_paths: can not open {path}: {error.strerror}") from None
            self._outputs.append(self._open.enter_context(file))


class Sampler:
    """Of messages of one text the first `initial` in a second, then every `thereafter`-th (0 = none)."""

    def __init__(self, initial: int, thereafter: int) -> None:
        self._initial = initial
        self._thereafter = thereafter
        # Texts share slots by their hashes, so that any number of them takes the same memory.
        self._slots: dict[int, tuple[float, int]] = {}

    def lets_through(self, message: str, now_s: float) -> bool:
        slot = hash(message) % SAMPLING_SLOTS
        ends_s, count = self._slots.get(slot, (0.0, 0))
        if now_s >= ends_s:
            ends_s, count = now_s + SAMPLING_TICK_S, 0
        self._slots[slot] = ends_s, count + 1
        over = count + 1 - self._initial
        return over <= 0 or (bool(self._thereafter) and over % self._thereafter == 0)


def _requests(part: Slice) -> list[bytes]:
    """OTLP requests of all rows: as they came where nobody changed them, else encoded anew."""
    found: list[bytes] = []
    for batch in part.batches:
        payloads = batch.payloads
        found += encode_otlp(part.signal, [batch]) if payloads is None else payloads
    return found


def _summary(part: Slice, requests: list[bytes]) -> dict[str, int]:
    """What the line of a batch counts; records are passed over, not read."""
    resources = [resource for request in requests for resource in _pieces(request, 1)]
    match part.signal:
        case "traces":
            return {"resource spans": len(resources), "spans": part.rows}
        case "logs":
            return {"resource logs": len(resources), "log records": part.rows}
        case _:
            scopes = [scope for resource in resources for scope in _pieces(resource, 2)]
            metrics = sum(1 for scope in scopes for _ in _pieces(scope, 2))
            return {"resource metrics": len(resources), "metrics": metrics, "data points": part.rows}


def _pieces(message: bytes, field: int) -> Iterator[bytes]:
    """The messages in one field of another."""
    return (value for number, value in wire(message) if number == field and isinstance(value, bytes))


def _events(batches: list[Batch], verbosity: str) -> Iterator[str]:
    """Rows that are not OTLP: what their columns say, on a line or on lines of their own."""
    for batch in batches:
        for number, row in enumerate(pa.record_batch(store_attributes(batch)).to_pylist()):
            held = {name: value for name, value in row.items() if value not in (None, "", [])}
            if verbosity == "normal":
                head = [str(held.pop("event_type", "")), str(held.pop("event_name", ""))]
                yield " ".join([*head, *(f"{name}={value}" for name, value in held.items())])
                continue
            yield f"Event #{number}"
            yield from (f"    {name:<15}: {value}" for name, value in held.items())
