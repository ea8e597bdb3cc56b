"""What exporters of OTLP share: requests are made of a slice, and each is sent once.

Rows that nobody changed leave as the bytes they came in: OTLP requests of one signal may be joined end to end. Rows
that were changed, or whose request was cut, are encoded anew. A slice becomes one request where it fits `max_bytes`;
where it takes several, a repeat begins with the first that the server has not answered.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from colonnade import native
from colonnade.native import Batch
from colonnade.pipeline.authentication import Credentials
from colonnade.pipeline.component import NOUNS, ComponentId, Exporter, Host, Slice, SliceLimits
from colonnade.pipeline.settings import MIB, ClientAuth, ExporterSettings

# Slices that are remembered as sent in part; each is under way or waits for its repeat.
REMEMBERED_MAX: Final = 1000
# Compressing less than this takes no longer than a hop to an executor thread and back.
INLINE_BYTES: Final = 64 << 10


@dataclass(slots=True)
class Request:
    """One OTLP request in parts: batches stand for their payloads."""

    parts: list[Batch | bytes] = field(default_factory=list[Batch | bytes])
    nbytes: int = 0


class ForwardingExporter(Exporter):
    """Sends slices as OTLP requests of at most `max_bytes` before compression."""

    wants_completed = False
    forwards_payloads = True

    def __init__(
        self, id: ComponentId, config: ExporterSettings, max_bytes: int, auth: ClientAuth | None = None
    ) -> None:
        super().__init__(id)
        self.credentials = Credentials(auth)
        self.retry = config.retry_on_failure
        self.queue = config.sending_queue
        self.dead_letter = config.dead_letter
        self.slice = SliceLimits(max_bytes=min(max_bytes, 3 * MIB), whole_requests=True)
        self.max_bytes = max_bytes
        self._sent: OrderedDict[tuple[str, int, int, int], int] = OrderedDict()

    async def start(self, host: Host) -> None:
        self.host = host

    async def export(self, part: Slice) -> None:
        """Sends what the server does not have of the slice."""
        key = (part.log_id, part.start, part.end, part.pieces_done)
        sent = self._sent.get(key, 0)
        for number, request in enumerate(requests(part, self.max_bytes), 1):
            if number > sent:
                await self.send(part.signal, request, self.credentials.headers(self.given_headers, part))
                self._sent[key] = number
        self._sent.pop(key, None)
        while len(self._sent) > REMEMBERED_MAX:
            self._sent.popitem(last=False)

    @property
    def apart_by(self) -> tuple[str, ...]:
        return self.credentials.needs

    @property
    @abstractmethod
    def given_headers(self) -> dict[str, str]:
        """The headers of every request, names in lower case."""

    @abstractmethod
    async def send(self, signal: str, request: Request, headers: dict[str, str]) -> None:
        """Sends one request with these headers. Raises Retryable, Permanent."""

    def count_rejected(self, signal: str, rejected: int, message: str) -> None:
        """The server took a request, but for some rows of it: sending them again would not help."""
        if rejected > 0:
            self.host.count(f"exporter_rejected_{NOUNS[signal]}", rejected)
        if rejected > 0 or message:
            self.host.logger.warning(
                "exporter %s: the server left out %d %s: %s",
                *(self.id, rejected, NOUNS[signal].replace("_", " "), message[:300]),
            )


def requests(part: Slice, max_bytes: int) -> Iterator[Request]:
    """The requests that a slice becomes, always the same for the same slice."""
    current = Request()
    for piece, nbytes in _pieces(part, max_bytes):
        if current.parts and max_bytes and current.nbytes + nbytes > max_bytes:
            yield current
            current = Request()
        current.parts.append(piece)
        current.nbytes += nbytes
    if current.parts:
        yield current


def _pieces(part: Slice, max_bytes: int) -> Iterator[tuple[Batch | bytes, int]]:
    """Payloads, or what stands in for them, and their sizes."""
    for batch in part.batches:
        sizes = batch.payload_sizes
        if sizes is None:
            yield from ((body, len(body)) for body in native.encode_otlp(part.signal, [batch], max_bytes=max_bytes))
        elif not max_bytes or sum(sizes) <= max_bytes:
            yield batch, sum(sizes)
        else:
            yield from _single(batch, sizes, max_bytes)


def _single(batch: Batch, sizes: list[int], max_bytes: int) -> Iterator[tuple[Batch | bytes, int]]:
    """Payload by payload; one that is too large alone is encoded anew in parts."""
    row = 0
    for (rows, _, _), size in zip(batch.runs, sizes, strict=True):
        one = batch.slice(row, rows)
        row += rows
        if size <= max_bytes:
            yield one, size
        else:
            yield from ((body, len(body)) for body in native.encode_otlp(batch.signal, [one], max_bytes=max_bytes))
