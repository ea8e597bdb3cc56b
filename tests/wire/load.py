"""A steady load over both protocols that remembers what was answered: accepted, refused (how), or nothing at all."""

from __future__ import annotations

import http.client
import itertools
import threading
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2

from tests.daemon_process import Daemon
from tests.wire.payloads import METHODS, request

BATCH = 50
TIMEOUT_S = 10.0
# A refused sender comes again soon, so that a test sees the recovery; real ones wait as they are told.
PAUSE_S = 0.02


@dataclass
class Load:
    """Two senders until `stop`. Ids are those of spans; each is sent once."""

    daemon: Daemon
    service: str
    accepted: set[int] = field(default_factory=set)
    unanswered: set[int] = field(default_factory=set)
    refused: list[tuple[str, str, float | None]] = field(default_factory=list)
    """(protocol, status, least wait in seconds)."""

    def __post_init__(self) -> None:
        self._ids = itertools.count(1, BATCH)
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=(send,)) for send in (self._http, self._grpc)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends after the requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, holds: Any, within_s: float = 60.0) -> None:
        """Until `holds()`, which is asked after every answer."""
        with self._changed:
            assert self._changed.wait_for(holds, within_s), self.daemon.output()

    def wait_for_more(self, number: int) -> None:
        """Until that many more spans were accepted, counted from now."""
        aim = len(self.accepted) + number
        self.wait_for(lambda: len(self.accepted) >= aim)

    def _run(self, sender: Any) -> None:
        send = sender()
        while not self._stop.is_set():
            first = next(self._ids)
            ids = range(first, first + BATCH)
            refusal = None
            try:
                refusal = send(self._body(ids))
                (self.accepted if refusal is None else set()).update(ids)
            except (OSError, http.client.HTTPException):
                self.unanswered.update(ids)
                send = sender()
            with self._changed:
                if refusal is not None:
                    self.refused.append(refusal)
                self._changed.notify_all()
            if refusal is not None:
                self._stop.wait(PAUSE_S)

    def _body(self, ids: range) -> bytes:
        message, records = request("traces", self.service)
        for id in ids:
            records.add(name="load", trace_id=b"\1" * 16, span_id=id.to_bytes(8, "big"), start_time_unix_nano=id)
        return message.SerializeToString()

    def _http(self) -> Any:
        connection = http.client.HTTPConnection(self.daemon.http_endpoint, timeout=TIMEOUT_S)

        def send(body: bytes) -> tuple[str, str, float | None] | None:
            connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            wait = answer.getheader("retry-after")
            return None if answer.status == 200 else ("http", str(answer.status), float(wait) if wait else None)

        return send

    def _grpc(self) -> Any:
        call = grpc.insecure_channel(self.daemon.grpc_endpoint).unary_unary(METHODS["traces"])

        def send(body: bytes) -> tuple[str, str, float | None] | None:
            done: Any = call.future(body, timeout=TIMEOUT_S)
            code = done.code()
            if code is grpc.StatusCode.OK:
                return None
            trailers = dict(done.trailing_metadata() or ())
            if "grpc-status-details-bin" not in trailers:
                raise OSError(f"{code.name}: {done.details()}")
            return "grpc", code.name, _wait(trailers["grpc-status-details-bin"])

        return send


def _wait(details: Any) -> float | None:
    info = error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Unpack(info):
            return info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    return None
