"""Libraries of the tracking API, fetched when they are needed: Segment's for Node, and an old one for Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.events.kit import EventDaemon
from tests.servers.programs import node_folder, python_folder

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
KEY = "wk-1"
SENT = [
    ["page", "app.screen_view", "shop"],
    ["page", "docs.page_view", "shop"],
    *[["track", name, "shop"] for name in ("Bought", "alias", "group", "identify")],
]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventDaemon]:
    section = {"write_keys": [{"key": KEY, "ns": "shop"}]}
    made = EventDaemon("segment", section, tmp_path_factory.mktemp("segment"))
    yield made
    assert made.daemon.drain() == 0, made.daemon.output()


def stored(events: EventDaemon, user: str) -> list[list[str]]:
    return events.rows("event_type, event_name, ns", f"actor_id = '{user}'")


def test_the_node_library_sends_every_call_once(events: EventDaemon) -> None:
    user = f"node {uuid.uuid4()}"
    ended = subprocess.run(
        [shutil.which("node") or "node", "send.mjs", events.url, KEY, user],
        cwd=node_folder(HERE / "node_segment"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "[]"), ended.stderr
    assert stored(events, user) == SENT


@pytest.mark.parametrize("version", ["2.3.4", "2.4.0"])
def test_the_python_libraries_send_every_call_once(events: EventDaemon, version: str) -> None:
    """The older takes only 200 for an answer, and names its key in the body alone."""
    user, before = f"python {uuid.uuid4()}", events.daemon.metric("receiver_duplicate_events")
    ended = subprocess.run(
        [sys.executable, str(HERE / "python_segment.py"), events.url, KEY, user],
        env={**os.environ, "PYTHONPATH": str(python_folder(f"segment-analytics-python=={version}"))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"version": version, "failed": []}
    assert stored(events, user) == SENT
    assert events.daemon.metric("receiver_duplicate_events") == before
