"""The processor `resource_detection`: what each detector finds, who wins, and what happens when one fails."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from colonnade.pipeline.component import BatchContext, ComponentId
from colonnade.pipeline.errors import ColonnadeError
from colonnade.processors import resource_detection
from colonnade.processors.resource_detection import Config, ResourceDetection
from tests.pipeline.kit import FakeHost, until

from .test_attributes import encoded, spans


@asynccontextmanager
async def running(**section: Any) -> AsyncIterator[ResourceDetection]:
    processor = ResourceDetection(ComponentId("resource_detection"), Config.model_validate(section))
    await processor.start(FakeHost("resource_detection", kind="processor"))
    try:
        yield processor
    finally:
        await processor.shutdown()


def resource_of(processor: ResourceDetection) -> dict[str, str]:
    """The attributes of a resource (`service.name: shop`, `cluster: west`) after the processor."""
    ctx = BatchContext("traces", 0, b"i" * 16, FakeHost("resource_detection", kind="processor"))
    batch = processor.process(spans("a"), ctx)
    assert batch is not None
    told = encoded("traces", batch).resource_spans[0].resource.attributes
    return {pair.key: pair.value.string_value for pair in told}


async def test_the_environment_names_attributes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=check%20out, cluster=east,host.name=me ,")
    async with running() as processor:
        assert resource_of(processor) == {
            "service.name": "shop",
            "cluster": "east",
            "team": "check out",
            "host.name": "me",
        }
    async with running(override=False) as processor:
        assert resource_of(processor)["cluster"] == "west"


async def test_the_first_detector_wins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=from-env")
    for detectors, name in ((["env", "system"], "from-env"), (["system", "env"], socket.gethostname())):
        async with running(detectors=detectors, system={"hostname_sources": ["os"]}) as processor:
            assert resource_of(processor)["host.name"] == name


async def test_the_system_says_what_is_switched_on():
    async with running(detectors=["system"], system={"hostname_sources": ["os"]}) as processor:
        assert processor.found == {"host.name": socket.gethostname(), "os.type": "linux"}
    switches = {key: {"enabled": True} for key in resource_detection.SYSTEM}
    switches["host.name"] = {"enabled": False}
    async with running(detectors=["system"], system={"resource_attributes": switches}) as processor:
        found = processor.found
    assert "host.name" not in found
    assert found["os.type"] == "linux"
    assert found["host.arch"] in ("amd64", "arm64")
    assert not any(address.startswith("127.") for address in found.get("host.ip", []))
    assert {"os.name", "os.description"} <= set(found)


async def test_the_process_is_this_one():
    switches = {"process.command_args": {"enabled": True}}
    async with running(detectors=["process"], process={"resource_attributes": switches}) as processor:
        assert processor.found["process.pid"] == os.getpid()
        assert processor.found["process.command_args"] == list(sys.orig_argv)
        assert processor.found["process.executable.path"] == sys.executable


@contextmanager
def docker_engine(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """An engine that answers one request."""
    asked: list[bytes] = []
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        thread.join()
        listening.close()


async def test_docker_names_its_host(tmp_path: Path):
    body = b'{"Name":"node-7","OSType":"Linux"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with docker_engine(tmp_path / "docker.sock", answer) as asked:
        async with running(detectors=["docker"], docker={"socket": str(tmp_path / "docker.sock")}) as processor:
            assert processor.found == {"host.name": "node-7", "os.type": "linux"}
    assert asked[0].startswith(b"GET /info HTTP/1.1\r\n")


async def test_a_pod_is_told_by_variables_and_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in (name for names in resource_detection.VARIABLES.values() for name in names):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"POD_NAME": "shop-1", "K8S_NODE_NAME": "node-7", "POD_NAMESPACE": "prod"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "labels").write_text('app="shop"\nwith="quotes \\"x\\" and \\\\"\nbroken\n')
    (tmp_path / "annotations").write_text('note="n"\n')
    async with running(detectors=["k8s_downward_api"], k8s_downward_api={"volume": str(tmp_path)}) as processor:
        assert processor.found == {
            "k8s.pod.name": "shop-1",
            "k8s.node.name": "node-7",
            "k8s.namespace.name": "prod",
            "k8s.pod.label.app": "shop",
            "k8s.pod.label.with": 'quotes "x" and \\',
        }


async def test_a_detector_that_fails_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch, caplog: Any):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "nonsense")
    async with running(
        detectors=["docker", "env", "system"], docker={"socket": "/nowhere"}, system={"hostname_sources": ["os"]}
    ) as processor:
        assert set(processor.found) == {"host.name", "os.type"}
    assert "detector docker failed: [Errno 2] No such file or directory" in caplog.text
    assert "detector env failed: OTEL_RESOURCE_ATTRIBUTES must be key=value" in caplog.text


async def test_a_detector_that_fails_may_keep_the_daemon_down():
    with pytest.raises(ColonnadeError, match="detector docker failed"):
        async with running(detectors=["docker"], docker={"socket": "/nowhere"}, fail_on_missing_metadata=True):
            pass


async def test_findings_are_refreshed_and_survive_a_failure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "cluster=one")
    async with running(refresh_interval="1ms") as processor:
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "cluster=two")
        await until(lambda: processor.found == {"cluster": "two"})
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "nonsense")
        for _ in range(20):
            await asyncio.sleep(0)
        assert resource_of(processor)["cluster"] == "two"


async def test_nothing_found_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    async with running() as processor:
        batch = spans("a")
        ctx = BatchContext("traces", 0, b"i" * 16, FakeHost("resource_detection", kind="processor"))
        assert processor.process(batch, ctx) is batch
    await processor.shutdown()


def test_the_docstrings_sample_is_valid():
    sample = yaml.safe_load(resource_detection.__doc__.split("\n\n")[1])  # type: ignore[union-attr]
    assert Config.model_validate(sample["processors"]["resource_detection"]).override is False


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"detectors": ["gcp"]}, "detectors"),
        ({"detectors": []}, "detectors"),
        ({"system": {"resource_attributes": {"host.nam": {"enabled": True}}}}, "unknown attribute 'host.nam'"),
        ({"system": {"hostname_sources": ["dhcp"]}}, "hostname_sources"),
        ({"timeout": "0s"}, "timeout"),
        ({"overrides": True}, "overrides"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(section: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(section)
