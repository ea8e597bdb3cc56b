"""A daemon that takes events into the embedded ClickHouse, and what it has then."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from tests.daemon_process import Daemon, free_port


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def own_metrics() -> dict[str, Any]:
    """`telemetry` with a port of its own."""
    prometheus = {"host": "127.0.0.1", "port": free_port()}
    return {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": prometheus}}}]}}


class EventDaemon:
    """One receiver, one pipeline, one embedded store that can be asked."""

    def __init__(
        self, receiver: str, section: dict[str, Any], folder: Path, signal: str = "events", **exporter: Any
    ) -> None:
        self.port, self.query_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        store = {
            "endpoint": f"embedded:{folder}/data",
            "sending_queue": {"batch": {"flush_timeout": "100ms"}},
        } | exporter
        self.daemon = Daemon.start(
            {
                "receivers": {receiver: {"endpoint": f"127.0.0.1:{self.port}", **section}},
                "processors": {"unify": None},
                "exporters": {"clickhouse": store},
                "extensions": {"clickhouse_query": {"endpoint": f"127.0.0.1:{self.query_port}"}},
                "service": {
                    "telemetry": own_metrics(),
                    "extensions": ["clickhouse_query"],
                    "pipelines": {
                        signal: {"receivers": [receiver], "processors": ["unify"], "exporters": ["clickhouse"]}
                    },
                },
            },
            folder,
        )

    def send(
        self, path: str, body: bytes | str | Any = None, key: str = "", method: str = "POST", **headers: str
    ) -> Reply:
        """One request; a body that is no text is sent as JSON."""
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        data = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            named["authorization"] = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
        request = urllib.request.Request(self.url + path, data, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return Reply(reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def rows(self, columns: str, where: str = "1") -> list[list[Any]]:
        """What is stored, once everything that was taken is."""
        self.daemon.wait_until(lambda: self.daemon.metric("exporter_lag_rows") == 0, what="everything is stored")
        sql = f"SELECT {columns} FROM events WHERE {where} ORDER BY ALL FORMAT JSONCompactEachRow"
        request = urllib.request.Request(f"http://127.0.0.1:{self.query_port}/", sql.encode(), method="POST")
        with urllib.request.urlopen(request, timeout=20) as reply:
            return [json.loads(line) for line in reply.read().splitlines()]

    def count(self, where: str = "1") -> int:
        return int(self.rows("count()", where)[0][0])


def gzipped(value: Any) -> bytes:
    return gzip.compress(json.dumps(value).encode())
