"""The intake: takes what waits at one entry of the listener, and answers it.

One per (receiver, signal, transport). Everything that waits is one group: one request when idle, hundreds under load;
no code here runs per request. A small group is decoded and processed where it stands, a large one on an executor
thread with the interpreter's lock released (a hop costs more than decoding a small group). Requests are looked at
one by one only when a processor refused the group, to find the one it is about, or when a processor rejects rows, to
tell each sender its count.

A group whose handling fails in an unforeseen way is answered as internal error, logged, and the next one is served.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from colonnade import native
from colonnade.pipeline.component import NOUNS, Entry, Host
from colonnade.pipeline.errors import ColonnadeError, Retryable
from colonnade.pipeline.fanout import Fanout, Prepared
from colonnade.pipeline.log import Overflow, Receipt
from colonnade.pipeline.outcome import ACCEPTED, Outcome, of_error, partial, status

if TYPE_CHECKING:
    from colonnade.native import Listener, RequestGroup

# Decoding this much takes about as long as a hop to an executor thread and back.
INLINE_BYTES = 64 << 10
# Groups of one entry that may wait for a disk, a store or room at once.
GROUPS_UNDER_WAY = 32


@dataclass(slots=True)
class Work:
    """A group, decoded and processed. `exceptions`: verdicts of single requests, by their number in the group."""

    rows: int = 0
    prepared: list[Prepared] = field(default_factory=list[Prepared])
    exceptions: dict[int, Outcome] = field(default_factory=dict[int, Outcome])
    refused_rows: int = 0


class Intake:
    """Serves one entry. `fanout` may be exchanged at any time (reload): groups under way finish on the old one."""

    def __init__(self, number: int, entry: Entry, fanout: Fanout, host: Host, listener: Listener) -> None:
        self.number = number
        self.entry = entry
        self.fanout = fanout
        self.host = host
        self._listener = listener
        self._waiting = asyncio.Event()
        self._slots = asyncio.Semaphore(GROUPS_UNDER_WAY)
        self._task: asyncio.Task[None] | None = None
        self._groups: set[asyncio.Task[None]] = set()
        self._noun = NOUNS[entry.signal]

    def wake(self) -> None:
        """Something waits at the entry."""
        self._waiting.set()

    def start(self) -> None:
        self._task = self._task or asyncio.create_task(self._serve(), name=f"intake {self.host.id} {self.entry.signal}")
        self.wake()

    async def stop(self, deadline_s: float) -> None:
        """Answers what it has taken, until the deadline; the rest is answered by the listener as unavailable."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._groups:
            _, late = await asyncio.wait(self._groups, timeout=deadline_s)
            for group in late:
                group.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while True:
                await self._slots.acquire()
                group = self._listener.take(self.number)
                if group is None:
                    self._slots.release()
                    break
                if not self._at_once(group):
                    self._spawn(group)

    def _spawn(self, group: RequestGroup) -> None:
        task = asyncio.create_task(self._see_through(group))
        self._groups.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._groups.discard(task)
        self._slots.release()

    def _at_once(self, group: RequestGroup) -> bool:
        """Handles a small group without a task where nothing has to be waited for; False = it needs one."""
        if group.nbytes > INLINE_BYTES or self.entry.handler is not None:
            return False
        work: Work | None = None
        try:
            self.fanout.admit(group.nbytes)
            work = self._work(group, self.fanout)
            receipts = self.fanout.try_commit(work.prepared)
        except ColonnadeError as error:
            if isinstance(error, Overflow) and error.blocks and work is not None:
                self._spawn_delivery(group, work, self.fanout)
                return True
            self._refuse(group, work, error)
        except Exception as error:
            self._refuse(group, work, error)
        else:
            if receipts is None or not all(receipt.settled for receipt in receipts):
                self._spawn_delivery(group, work, self.fanout, receipts)
                return True
            self._accept(group, work)
        self._slots.release()
        return True

    def _spawn_delivery(
        self, group: RequestGroup, work: Work, fanout: Fanout, receipts: list[Receipt] | None = None
    ) -> None:
        task = asyncio.create_task(self._deliver(group, work, fanout, receipts))
        self._groups.add(task)
        task.add_done_callback(self._ended)

    async def _see_through(self, group: RequestGroup) -> None:
        if self.entry.handler is not None:
            await asyncio.gather(*(self._handle(request) for request in group.requests()))
            return
        fanout, work = self.fanout, None
        try:
            fanout.admit(group.nbytes)
            work = await self.host.compute(self._work, group, fanout)
        except Exception as error:
            self._refuse(group, work, error)
            return
        await self._deliver(group, work, fanout)

    async def _handle(self, request: native.Request) -> None:
        """A request for a Python handler, which answers it; an unanswered one gets an internal error."""
        assert self.entry.handler is not None
        try:
            await self.entry.handler(request)
        except Exception as error:
            log_unforeseen(self.host, error)
            request.respond(500, [("content-type", "text/plain")], b"internal error\n")

    async def _deliver(
        self, group: RequestGroup, work: Work, fanout: Fanout, receipts: list[Receipt] | None = None
    ) -> None:
        try:
            for receipt in receipts if receipts is not None else await fanout.commit(work.prepared):
                await receipt.wait()
        except Exception as error:
            self._refuse(group, work, error)
        else:
            self._accept(group, work)

    def _work(self, group: RequestGroup, fanout: Fanout) -> Work:
        """Decodes and processes; on an executor thread for large groups. Malformed requests are answered by the
        listener, and leave no rows."""
        self.host.observe("receiver_group_size", group.count, transport=self.entry.transport)
        batch = group.decode(keep_payload=fanout.keeps_payloads, whole=fanout.wants_whole, columns=fanout.needs_columns)
        work = Work(batch.rows)
        if not batch.rows:
            return work
        now_ns = self.host.clock_ns()
        requests = batch.requests
        if not fanout.rejects:
            try:
                work.prepared = fanout.process(batch, now_ns, requests)
                return work
            except Exception as error:
                if requests == 1 or isinstance(error, Retryable):
                    raise
        self._work_each(group, batch, fanout, now_ns, work)
        return work

    def _work_each(self, group: RequestGroup, batch: native.Batch, fanout: Fanout, now_ns: int, work: Work) -> None:
        """Request by request: what one of them breaks or has rejected is its own affair."""
        order, row = group.order, 0
        for index, (rows, _, _) in enumerate(batch.runs):
            piece = batch.slice(row, rows)
            row += rows
            try:
                prepared = fanout.process_more(piece, now_ns, work.prepared)
            except Exception as error:
                if not isinstance(error, ColonnadeError):
                    log_unforeseen(self.host, error)
                work.exceptions[order[index]] = of_error(error)
                work.refused_rows += rows
                continue
            rejected = max((p.rejected for p in prepared), default=0)
            if rejected:
                reasons = "; ".join(p.reasons() for p in prepared if p.rejected)
                work.exceptions[order[index]] = partial(rejected, reasons)
            work.prepared = fanout.merge(work.prepared, prepared)

    def _accept(self, group: RequestGroup, work: Work) -> None:
        self._answer(group, ACCEPTED, work.exceptions)
        count, receiver = self.host.count, {"transport": self.entry.transport}
        count(f"receiver_accepted_{self._noun}", work.rows - work.refused_rows, **receiver)
        if work.refused_rows:
            count(f"receiver_refused_{self._noun}", work.refused_rows, **receiver)
        undecoded = self._count_undecoded(group)
        failed = sum(not outcome.ok for outcome in work.exceptions.values())
        self._count_requests("success", group.count - undecoded - failed)
        self._count_requests("refused", failed)

    def _refuse(self, group: RequestGroup, work: Work | None, error: Exception) -> None:
        """The whole group, but for those with a verdict of their own."""
        outcome = of_error(error)
        foreseen = isinstance(error, ColonnadeError)
        if not foreseen:
            log_unforeseen(self.host, error)
        exceptions = {n: o for n, o in work.exceptions.items() if not o.ok} if work else {}
        self._answer(group, outcome, exceptions)
        verb = "refused" if foreseen else "failed"
        rows = work.rows if work else 0
        if rows:
            self.host.count(f"receiver_{verb}_{self._noun}", rows, transport=self.entry.transport)
        undecoded = self._count_undecoded(group)
        self._count_requests("refused" if foreseen else "failure", group.count - undecoded)

    def _answer(self, group: RequestGroup, outcome: Outcome, exceptions: dict[int, Outcome]) -> None:
        group.answer(self.render(outcome), [(number, self.render(o)) for number, o in exceptions.items()])

    def render(self, outcome: Outcome) -> native.Answer:
        """The outcome as this entry's protocol tells it."""
        code = status(outcome.kind, self.entry.protocol)
        return native.Answer(
            http_status=code.http,
            grpc_code=code.grpc,
            message=outcome.message,
            retry_after_s=outcome.delay_s if code.retryable else None,
            rejected=outcome.rejected,
        )

    def _count_undecoded(self, group: RequestGroup) -> int:
        """Requests that the listener answered itself while decoding."""
        total = 0
        for number, code in group.refused:
            total += number
            self.host.count("receiver_requests_refused_undecoded", number, transport=self.entry.transport, code=code)
        self._count_requests("refused", total)
        return total

    def _count_requests(self, outcome: str, number: int) -> None:
        if number:
            self.host.count("receiver_requests", number, transport=self.entry.transport, outcome=outcome)


def log_unforeseen(host: Host, error: Exception) -> None:
    """A receiver's fault. The text of a foreign exception may hold rows: only its kind is logged above debug level."""
    host.logger.error("receiver %s: unforeseen error: %s", host.id, type(error).__name__)
    host.logger.debug("receiver %s: details", host.id, exc_info=error)
