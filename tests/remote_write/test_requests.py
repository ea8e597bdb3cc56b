"""The receiver `prometheus_remote_write` in a daemon: answers, counters, tenants, overload."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import snappy

from tests.daemon_process import Answer, Daemon, free_port
from tests.events.kit import own_metrics

from .kit import NOW_MS, Series, request

PATH = "/api/v1/write"
TYPES = {
    1: "application/x-protobuf;proto=prometheus.WriteRequest",
    2: "application/x-protobuf;proto=io.prometheus.write.v2.Request",
}
WRITTEN = [f"x-prometheus-remote-write-{what}-written" for what in ("samples", "histograms", "exemplars")]
GOOD = Series({"__name__": "up", "job": "a"}, [(1.0, NOW_MS)])
NAMELESS = Series({"job": "a"}, [(1.0, NOW_MS), (1.0, NOW_MS + 1)])
LIMIT = 200_000
versions = pytest.mark.parametrize("version", [1, 2])


class Receiver:
    """A daemon with the receiver and one exporter."""

    def __init__(self, folder: Path, exporters: dict[str, Any] | None = None, **section: Any) -> None:
        self.port = free_port()
        own = own_metrics()
        own["metrics"]["level"] = "detailed"
        receiver = {"endpoint": f"127.0.0.1:{self.port}", **section}
        exporters = exporters or {"nop": None}
        pipeline = {"receivers": ["prometheus_remote_write"], "processors": ["unify"], "exporters": [*exporters]}
        self.daemon = Daemon.start(
            {
                "receivers": {"prometheus_remote_write": receiver},
                "processors": {"unify": None},
                "exporters": exporters,
                "service": {"telemetry": own, "pipelines": {"metrics": pipeline}},
            },
            folder,
        )

    def post(self, body: bytes, headers: dict[str, str], path: str = PATH, method: str = "POST") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def write(self, version: int, *series: Series, **headers: str) -> Answer:
        body = snappy.compress(request(version, list(series)).SerializeToString())
        return self.post(body, {"content-type": TYPES[version], "content-encoding": "snappy", **headers})

    def counted(self, name: str, **labels: str) -> Callable[[], float]:
        """How much a counter has grown since now."""
        before = self.daemon.metric(name, **labels)
        return lambda: self.daemon.metric(name, **labels) - before


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    made = Receiver(tmp_path_factory.mktemp("receiver"), max_request_body_size=LIMIT)
    yield made
    assert made.daemon.drain() == 0, made.daemon.output()


def written(answer: Answer) -> list[str | None]:
    return [answer.headers.get(name) for name in WRITTEN]


@versions
def test_a_request_is_answered_204_and_2_0_is_told_how_much_was_written(receiver: Receiver, version: int) -> None:
    accepted = receiver.counted("receiver_accepted_metric_points", receiver="prometheus_remote_write")
    series = [Series({"__name__": "up", "n": str(n)}, [(1.0, NOW_MS)], exemplars=[({}, 1.0, 1)]) for n in range(3)]
    answer = receiver.write(version, *series)
    assert (answer.status, answer.body) == (204, b"")
    assert written(answer) == (["3", "0", "3"] if version == 2 else [None] * 3)
    assert accepted() == 3


@versions
def test_good_parts_are_stored_and_bad_ones_told(receiver: Receiver, version: int) -> None:
    accepted = receiver.counted("receiver_accepted_metric_points")
    rejected = receiver.counted("receiver_rejected_metric_points", code="invalid_labels")
    refused = receiver.counted("receiver_requests", outcome="refused")
    answer = receiver.write(version, NAMELESS, GOOD)
    assert answer.status == 400
    assert b"left out: 2 invalid_labels; the others are stored\nthere is no label __name__" in answer.body
    assert written(answer) == (["1", "0", "0"] if version == 2 else [None] * 3)
    assert (accepted(), rejected(), refused()) == (1, 2, 1)


@versions
def test_a_sample_that_stands_twice_is_counted(receiver: Receiver, version: int) -> None:
    accepted = receiver.counted("receiver_accepted_metric_points")
    duplicates = receiver.counted("receiver_duplicate_metric_points")
    assert receiver.write(version, GOOD, GOOD).status == 204
    other = Series(GOOD.labels, [(2.0, NOW_MS)])
    answer = receiver.write(version, GOOD, other)
    assert (answer.status, b"1 duplicate_sample" in answer.body) == (400, True)
    assert (accepted(), duplicates()) == (2, 1)


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({}, 1),
        ({"content-encoding": "snappy"}, 1),
        ({"content-type": "application/x-protobuf"}, 1),
        ({"content-type": "Application/X-Protobuf; charset=utf-8", "content-encoding": "Snappy"}, 1),
        ({"content-type": 'application/x-protobuf; proto="io.prometheus.write.v2.Request"'}, 2),
    ],
)
def test_what_is_left_out_of_the_headers_is_1_0_and_snappy(
    receiver: Receiver, headers: dict[str, str], version: int
) -> None:
    answer = receiver.post(snappy.compress(request(version, [GOOD]).SerializeToString()), headers)
    assert (answer.status, written(answer)[0]) == (204, "1" if version == 2 else None)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-type": "application/json"}, "unsupported_media_type"),
        ({"content-type": "image/png"}, "unsupported_media_type"),
        ({"content-type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}, "unsupported_media_type"),
        ({"content-type": TYPES[1], "content-encoding": "gzip"}, "unsupported_encoding"),
        ({"content-type": TYPES[2], "content-encoding": "deflate"}, "unsupported_encoding"),
        ({"content-type": TYPES[2], "content-encoding": "identity"}, "unsupported_encoding"),
    ],
)
def test_other_types_and_encodings_are_answered_415(receiver: Receiver, headers: dict[str, str], code: str) -> None:
    refused = receiver.counted("receiver_requests_refused_undecoded", code=code)
    answer = receiver.post(b"0", headers)
    assert answer.status == 415
    assert b"expected" in answer.body
    assert refused() == 1


@versions
def test_bytes_that_are_no_request_are_answered_400(receiver: Receiver, version: int) -> None:
    headers = {"content-type": TYPES[version]}
    plain = request(version, [GOOD]).SerializeToString()
    corrupt = receiver.counted("receiver_requests_refused_undecoded", code="corrupt")
    malformed = receiver.counted("receiver_requests_refused_undecoded", code="malformed")
    accepted = receiver.counted("receiver_accepted_metric_points")
    bad = [b"", b"0" + snappy.compress(plain)[1:], plain, snappy.compress(plain)[:-1]]
    for body in bad:
        answer = receiver.post(body, headers)
        assert (answer.status, written(answer)[0]) == (400, "0" if version == 2 else None), body
    answer = receiver.post(snappy.compress(plain[:-1]), headers)
    assert (answer.status, b" at byte " in answer.body) == (400, True)
    assert (corrupt(), malformed(), accepted()) == (len(bad), 1, 0)


@versions
def test_bodies_beyond_the_limit_are_answered_413(receiver: Receiver, version: int) -> None:
    """As they come, decompressed, and in what their rows would repeat."""
    headers = {"content-type": TYPES[version]}
    assert receiver.post(bytes(LIMIT + 1), headers).status == 413
    bomb = snappy.compress(bytes(LIMIT + 1))
    assert len(bomb) < LIMIT / 10
    too_large = receiver.counted("receiver_requests_refused_undecoded", code="too_large")
    assert receiver.post(bomb, headers).status == 413
    repeats = Series({"__name__": "up", "long": "x" * 60_000}, [(1.0, time_ms) for time_ms in range(5_000)])
    answer = receiver.write(version, repeats)
    assert (answer.status, b"repeat" in answer.body) == (413, True)
    assert too_large() == 2


def test_other_paths_and_methods_are_told(receiver: Receiver) -> None:
    assert receiver.post(b"", {}, path="/api/v1/read").status == 404
    answer = receiver.post(b"", {}, method="GET")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@versions
def test_a_full_log_is_answered_503(tmp_path: Path, version: int) -> None:
    """Prometheus sends again what is answered 503, and throws away what is answered 429."""
    store = {"endpoint": f"http://127.0.0.1:{free_port()}", "sending_queue": {"sizer": "items", "queue_size": 3}}
    receiver = Receiver(tmp_path, {"clickhouse": store})
    try:
        refused = receiver.counted("receiver_refused_metric_points")
        answers = [receiver.write(version, GOOD, Series(GOOD.labels, [(1.0, 1)])) for _ in range(3)]
        assert answers[0].status == 204
        assert (answers[-1].status, int(answers[-1].headers["retry-after"]) >= 1) == (503, True)
        assert written(answers[-1])[0] == ("0" if version == 2 else None)
        assert refused() >= 2
    finally:
        receiver.daemon.kill()
