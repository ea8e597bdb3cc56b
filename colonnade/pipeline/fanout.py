"""From decoded rows to the logs of every pipeline they enter: all of them, or none.

A receiver that stands in several pipelines of one signal hands the same immutable batch to each. Each pipeline's
processors run first (they may refuse), then room is reserved in every log, then everything is appended: so no caller is
told to send again what one pipeline has taken already.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from colonnade.native import Batch
from colonnade.pipeline.component import NOUNS, BatchContext, Fault, Host, Processor
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.log import Append, HandoverLog, LogStore, Overflow, Receipt, Reservation
from colonnade.pipeline.sender import Sender

Dropped = dict[tuple[Fault, str], int]


@dataclass(frozen=True, slots=True)
class Stage:
    """A processor in one pipeline."""

    processor: Processor
    host: Host


@dataclass(slots=True)
class Prepared:
    """What one group of requests becomes in one pipeline, after its processors and before its log."""

    pipeline: Pipeline
    append: Append
    rows_in: int
    added: int = 0
    dropped: Dropped = field(default_factory=Dropped)

    @property
    def rejected(self) -> int:
        return sum(rows for (fault, _), rows in self.dropped.items() if fault == "rejected")

    def reasons(self) -> str:
        """Why rows were rejected, for the sender."""
        return ", ".join(f"{rows} {reason}" for (fault, reason), rows in self.dropped.items() if fault == "rejected")


def new_append_id(now_ns: int) -> bytes:
    """A UUIDv7: appends sort by time, and no two are alike."""
    tail = bytearray(os.urandom(10))
    tail[0] = 0x70 | (tail[0] & 0x0F)
    tail[2] = 0x80 | (tail[2] & 0x3F)
    return (now_ns // 1_000_000).to_bytes(6, "big") + bytes(tail)


class Pipeline:
    """Processors, one log, and a sender per exporter."""

    def __init__(
        self, id: str, signal: str, stages: Sequence[Stage], log: HandoverLog, senders: Sequence[Sender], host: Host
    ) -> None:
        self.id = id
        self.signal = signal
        self.stages = tuple(stages)
        self.log = log
        self.senders = {sender.name: sender for sender in senders}
        self.host = host
        forwards = [sender.exporter.forwards_payloads for sender in senders]
        self.keeps_payloads = any(forwards)
        self.needs_columns = not all(forwards) or any(s.processor.changes for s in stages)
        self.rejects = any(stage.processor.rejects for stage in stages)
        self.wants_whole = any(stage.processor.wants_whole for stage in stages)
        self._labels = {"pipeline": id, "otel_signal": signal}

    def admit(self, nbytes: int) -> None:
        """Asks every processor whether that many bytes may be decoded. Raises Retryable."""
        for stage in self.stages:
            stage.processor.admit(nbytes)

    def process(self, batch: Batch, received_at_ns: int, requests: int, append_id: bytes | None = None) -> Prepared:
        """Runs the processors. Thread-safe as far as they are. Raises what a processor raises."""
        append_id = append_id or new_append_id(received_at_ns)
        prepared = Prepared(self, Append(append_id, [], 0, 0, requests), batch.rows)
        current: Batch | None = batch
        for stage in self.stages:
            if current is None or not current.rows:
                break
            current = self._pass(stage, current, received_at_ns, prepared)
        if current is not None and current.rows:
            prepared.append.batches = [current]
            prepared.append.rows, prepared.append.nbytes = current.rows, current.nbytes
        return prepared

    def _pass(self, stage: Stage, batch: Batch, received_at_ns: int, prepared: Prepared) -> Batch | None:
        """One processor: run, and its rows accounted for."""
        ctx = BatchContext(self.id, received_at_ns, prepared.append.append_id, stage.host)
        started_ns = time.perf_counter_ns()
        result = stage.processor.process(batch, ctx)
        stage.host.observe("processor_internal_duration", (time.perf_counter_ns() - started_ns) / 1e9, **self._labels)
        out = 0 if result is None else result.rows
        unstated = batch.rows - out - sum(ctx.dropped.values())
        if unstated > 0:
            ctx.drop(unstated, "filtered", "unstated")
        prepared.added += max(-unstated, 0)
        stage.host.count("processor_incoming_items", batch.rows, **self._labels)
        stage.host.count("processor_outgoing_items", out, **self._labels)
        for (fault, reason), rows in ctx.dropped.items():
            stage.host.count("processor_dropped_items", rows, outcome=fault, reason=reason, **self._labels)
            prepared.dropped[fault, reason] = prepared.dropped.get((fault, reason), 0) + rows
        return result

    def settle(self, prepared: Prepared) -> None:
        """Counts a group that was appended: the pipeline's side of the balance."""
        count, labels = self.host.count, self._labels
        count("pipeline_accepted_items", prepared.rows_in, **labels)
        if prepared.append.rows:
            count("pipeline_appended_items", prepared.append.rows, **labels)
            where = {"pipeline": self.id, "data_type": self.signal}
            self.host.observe("exporter_enqueue_size", prepared.append.rows, **where)
            self.host.observe("exporter_enqueue_size_bytes", prepared.append.nbytes, **where)
        if prepared.append.repeated:
            count("pipeline_filtered_items", prepared.append.repeated, **labels)
        if prepared.added:
            count("pipeline_added_items", prepared.added, **labels)
        for (fault, _), rows in prepared.dropped.items():
            count(f"pipeline_{fault}_items", rows, **labels)

    def count_overflow(self, prepared: Prepared, overflow: Overflow) -> None:
        """Counts rows refused because a log was full, at the exporters whose share was."""
        for name in overflow.exporters:
            if sender := self.senders.get(name):
                sender.host.count(f"exporter_enqueue_failed_{NOUNS[self.signal]}", prepared.append.rows)


class Fanout:
    """Every pipeline that rows of one receiver and signal enter."""

    def __init__(self, pipelines: Iterable[Pipeline]) -> None:
        self.pipelines = tuple(pipelines)
        self.keeps_payloads = any(p.keeps_payloads for p in self.pipelines)
        self.needs_columns = any(p.needs_columns for p in self.pipelines)
        self.rejects = any(p.rejects for p in self.pipelines)
        self.wants_whole = any(p.wants_whole for p in self.pipelines)

    def admit(self, nbytes: int) -> None:
        """Raises Retryable when any pipeline must not take more."""
        for pipeline in self.pipelines:
            pipeline.admit(nbytes)

    def process(self, batch: Batch, received_at_ns: int, requests: int) -> list[Prepared]:
        """The group in every pipeline; one processor's refusal is everybody's."""
        return [pipeline.process(batch, received_at_ns, requests) for pipeline in self.pipelines]

    def process_more(self, batch: Batch, received_at_ns: int, into: list[Prepared]) -> list[Prepared]:
        """One more request for the appends of `into` (empty: new ones), without touching them: see `merge`."""
        ids = [group.append.append_id for group in into] or [None] * len(self.pipelines)
        return [
            pipeline.process(batch, received_at_ns, 1, append_id)
            for pipeline, append_id in zip(self.pipelines, ids, strict=True)
        ]

    def merge(self, into: list[Prepared], more: Sequence[Prepared]) -> list[Prepared]:
        """One append per pipeline of groups that were processed apart."""
        if not into:
            return list(more)
        for group, other in zip(into, more, strict=True):
            group.append.batches += other.append.batches
            group.append.rows += other.append.rows
            group.append.nbytes += other.append.nbytes
            group.append.requests += other.append.requests
            group.rows_in += other.rows_in
            group.added += other.added
            for key, rows in other.dropped.items():
                group.dropped[key] = group.dropped.get(key, 0) + rows
        return into

    def try_commit(self, prepared: Sequence[Prepared]) -> list[Receipt] | None:
        """Appends at once where every log is in memory; None where a log on disk needs `commit`. Raises Overflow,
        ShuttingDown."""
        if any(p.pipeline.log.store is not None for p in prepared):
            return None
        return self._append(self._reserve(prepared), prepared)

    async def commit(self, prepared: Sequence[Prepared]) -> list[Receipt]:
        """Appends to all logs or none; waits for room where every full exporter says `block_on_overflow`.

        Raises Overflow, ShuttingDown, Retryable of a disk.
        """
        while True:
            try:
                reservations = self._reserve(prepared)
            except Overflow as overflow:
                if not overflow.blocks:
                    raise
                await overflow.log.room()
                continue
            return await self._commit(reservations, prepared)

    async def consume(self, batches: Sequence[Batch], clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Takes rows that the listener did not decode (a connector's, a scraper's, events); returns once they are safe.

        Raises what `admit`, `process` and `commit` raise.
        """
        self.admit(sum(batch.nbytes for batch in batches))
        for batch in batches:
            receipts = await self.commit(self.process(batch, clock_ns(), 1))
            for receipt in receipts:
                await receipt.wait()

    def _reserve(self, prepared: Sequence[Prepared]) -> list[Reservation]:
        reservations: list[Reservation] = []
        for group in prepared:
            try:
                reservations.append(group.pipeline.log.reserve(group.append))
            except ColonnadeError as error:
                for reservation in reservations:
                    reservation.cancel()
                if isinstance(error, Overflow) and not error.blocks:
                    group.pipeline.count_overflow(group, error)
                raise
        return reservations

    def _append(self, reservations: Sequence[Reservation], prepared: Sequence[Prepared]) -> list[Receipt]:
        receipts = [reservation.log.append(reservation) for reservation in reservations]
        for group in prepared:
            group.pipeline.settle(group)
        return receipts

    async def _commit(self, reservations: list[Reservation], prepared: Sequence[Prepared]) -> list[Receipt]:
        """Logs on disk first: they can fail, and then nothing is in any log; those in memory can not."""
        by_store: dict[int, tuple[LogStore, list[Reservation]]] = {}
        in_memory: list[Reservation] = []
        for reservation in reservations:
            if (store := reservation.log.store) is not None:
                by_store.setdefault(id(store), (store, []))[1].append(reservation)
            else:
                in_memory.append(reservation)
        receipts: list[Receipt] = []
        waiting = [*by_store.values()]
        try:
            while waiting:
                store, group = waiting.pop(0)
                receipts += await store.commit(group)
        except BaseException:
            for reservation in (*in_memory, *(r for _, group in waiting for r in group)):
                reservation.cancel()
            raise
        return receipts + self._append(in_memory, prepared)
