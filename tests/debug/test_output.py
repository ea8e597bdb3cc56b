"""What the exporter prints is what the Collector's prints (`go_peer` runs that; `cases/*.txt` is what it said)."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from colonnade import native
from colonnade.exporters import debug
from colonnade.exporters.debug import DebugConfig
from colonnade.pipeline.errors import ColonnadeError
from tests.clickhouse.rows import batch
from tests.daemon_process import Daemon, otlp_config
from tests.debug.kit import SIGNALS, VERBOSITIES, collectors, decoded, running, slice_of, told
from tests.differential.messages import ID_BYTES, FromSeed, Maker
from tests.pipeline.kit import FakeHost

CASES = Path(__file__).with_name("cases")
GO_PEER = Path(__file__).with_name("go_peer")
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[+-]\d+)?")


def request(signal: str) -> bytes:
    """The request of a case."""
    return native.json_to_protobuf(signal, (CASES / f"{signal}.json").read_bytes())


def case(signal: str, verbosity: str) -> str:
    return (CASES / f"{signal}.{verbosity}.txt").read_text()


@pytest.mark.parametrize("verbosity", VERBOSITIES)
@pytest.mark.parametrize("signal", SIGNALS)
async def test_a_request_is_told_word_for_word_as_the_collector_does(
    signal: str, verbosity: str, tmp_path: Path
) -> None:
    assert await told(signal, decoded(signal, request(signal)), folder=tmp_path, verbosity=verbosity) == case(
        signal, verbosity
    )


@pytest.mark.parametrize("signal", SIGNALS)
async def test_rows_whose_request_is_gone_are_told_with_the_same_lines(signal: str, tmp_path: Path) -> None:
    rows = decoded(signal, request(signal), keep_payload=False)
    assert rows.payloads is None
    found = await told(signal, rows, folder=tmp_path, verbosity="detailed")
    wanted = case(signal, "detailed")
    # Resources, scopes and attributes may come in another order; a metric without points leaves no row behind.
    assert set(found.splitlines()) >= {
        line for line in wanted.splitlines() if not re.search(r"#\d|\"|\{|: empty$|DataType: Empty", line)
    }


async def test_requests_that_waited_together_are_one_batch(tmp_path: Path) -> None:
    rows = decoded("logs", request("logs"), request("logs"))
    found = await told("logs", rows, folder=tmp_path, verbosity="normal")
    assert found.startswith('Logs\t{"resource logs": 2, "log records": 8}\nResourceLog #0 ')
    assert "\nResourceLog #1 " in found


async def test_rows_of_other_sources_are_told_by_their_columns(tmp_path: Path) -> None:
    names = ["event_type", "event_name", "correlation_id", "service_name", "duration_ms", "attributes"]
    rows = batch(2, 1, names, event_type=["track", "page"], event_name=["Order", ""], service_name=["shop", ""])
    normal = await told("events", rows, folder=tmp_path, verbosity="normal")
    assert normal.splitlines()[:2] == [
        'Events\t{"events": 2}',
        "track Order correlation_id=00000001 duration_ms=-1.5 service_name=shop "
        "attributes=[('app.name', 'shop 1'), ('app.count', '1'), ('$otlp.types', 'app.count=3')]",
    ]
    detailed = await told("events", rows, folder=tmp_path, verbosity="detailed")
    assert "Event #1\n    event_type     : page\n    correlation_id : 00000002\n" in detailed


async def test_messages_of_one_text_are_sampled_within_a_second(tmp_path: Path) -> None:
    file = tmp_path / "debug.txt"
    config: dict[str, Any] = {"sampling_initial": 2, "sampling_thereafter": 3}
    async with running(use_internal_logger=False, output_paths=[str(file)], **config) as exporter:
        host: Any = exporter._host
        for _ in range(10):
            await exporter.export(slice_of("logs", decoded("logs", request("logs"))))
        # The first two, then the third and the sixth of the others.
        assert file.read_text() == case("logs", "basic") * 4
        host.now_ns += 1_000_000_000
        await exporter.export(slice_of("logs", decoded("logs", request("logs"))))
        assert file.read_text() == case("logs", "basic") * 5


async def test_without_thereafter_only_the_first_messages_are_written(tmp_path: Path) -> None:
    rows = [decoded("logs", request("logs"))] * 5
    found = await told("logs", *rows, folder=tmp_path, sampling_initial=1, sampling_thereafter=0)
    assert found == case("logs", "basic")


async def test_the_internal_logger_is_written_to_at_level_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with running(verbosity="normal") as exporter:
            await exporter.export(slice_of("traces", decoded("traces", request("traces"))))
    about = '"otelcol.component.id": "debug", "otelcol.component.kind": "exporter", "otelcol.signal": "traces"'
    summary, text = case("traces", "normal").split("\n", 1)
    assert [record.getMessage() for record in caplog.records] == [
        summary.replace("{", f"{{{about}, "),
        f"{text[:-1]}\t{{{about}}}",
    ]


async def test_an_output_that_fails_is_told_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = ["/dev/full", str(tmp_path / "debug.txt")]
    async with running(use_internal_logger=False, output_paths=paths) as exporter:
        await exporter.export(slice_of("logs", decoded("logs", request("logs"))))
    assert (tmp_path / "debug.txt").read_text() == case("logs", "basic")
    assert "output was dropped: OSError" in caplog.text


async def test_a_file_that_can_not_be_opened_is_an_error_at_start(tmp_path: Path) -> None:
    config = DebugConfig(use_internal_logger=False, output_paths=(f"{tmp_path}/no/debug.txt",))
    exporter = debug.factory.create(FakeHost("debug").id, config)
    with pytest.raises(ColonnadeError, match=r"output_paths: can not open .*: No such file or directory"):
        await exporter.start(FakeHost("debug"))
    await exporter.shutdown()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"output_paths": ["stdout"]}, "output_paths is not supported when use_internal_logger is true"),
        ({"output_paths": [], "use_internal_logger": False}, "output_paths must not be empty"),
        ({"verbosity": "none"}, "Input should be 'basic', 'normal' or 'detailed'"),
        ({"sampling_initial": -1}, "greater than or equal to 0"),
        ({"loglevel": "debug"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DebugConfig.model_validate(config)


def test_the_sample_of_the_documentation_is_a_configuration() -> None:
    doc = debug.factory.doc
    sample = yaml.safe_load(doc[doc.index("    exporters:") : doc.index("`basic` writes")])
    one, other = (DebugConfig.model_validate(section) for section in sample["exporters"].values())
    assert (one.verbosity, one.sampling_thereafter, other.output_paths) == ("detailed", 200, ("stdout", "./debug.txt"))
    assert DebugConfig.model_validate({"verbosity": "Detailed"}).verbosity == "detailed"


@pytest.mark.parametrize(("verbosity", "use_internal_logger"), [("detailed", True), ("normal", False)])
def test_a_running_daemon_tells_what_comes_in(
    start_daemon: Callable[..., Daemon], verbosity: str, use_internal_logger: bool
) -> None:
    exporters = {"debug": {"use_internal_logger": use_internal_logger, "verbosity": verbosity}}
    daemon: Daemon = start_daemon(otlp_config(exporters, processors={"unify": None}))
    for signal in SIGNALS:
        body = (CASES / f"{signal}.json").read_bytes()
        assert daemon.post(signal, body, content_type="application/json").status == 200
        daemon.wait_metric(
            "exporter_sent_" + {"traces": "spans", "logs": "log_records"}.get(signal, "metric_points"), 1
        )
    assert daemon.drain() == 0
    said = daemon.output()
    for signal in SIGNALS:
        _, records = case(signal, verbosity).split("\n", 1)
        assert records.removesuffix("\n") in said


class ValidIds(Maker):
    """The Collector refuses requests whose ids have other lengths than ids have."""

    def identity(self, name: str) -> bytes:
        size = ID_BYTES.get(name)
        if size is None:
            return super().identity(name)
        return self.choice([bytes(size), b"", bytes([self.source.below(250) + 1]) * size])


def same(mine: str, theirs: str) -> bool:
    """Equal, but for the last digits of bounds: Go's exponential function is another than the C library's."""
    if mine == theirs:
        return True
    pairs = zip(NUMBER.findall(mine), NUMBER.findall(theirs), strict=False)
    return NUMBER.sub("", mine) == NUMBER.sub("", theirs) and all(
        a == b or abs(float(a) - float(b)) <= 1e-12 * abs(float(b)) for a, b in pairs
    )


@pytest.mark.peer
@pytest.mark.timeout(900)
async def test_requests_with_anything_in_them_are_told_as_the_collector_does(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("needs Go to build the Collector's exporter")
    peer = tmp_path / "go_peer"
    subprocess.run(["go", "build", "-o", str(peer), "."], cwd=GO_PEER, check=True)  # noqa: ASYNC221
    compared = 0
    for signal in SIGNALS:
        body = request(signal)
        for verbosity in VERBOSITIES:
            assert collectors(peer, signal, verbosity, body) == case(signal, verbosity)
        for seed in range(150):
            body = ValidIds(FromSeed(seed)).request(signal).SerializeToString()
            rows, _ = native.decode(signal, [body], keep_payload=True)
            if not rows.rows:
                continue
            for verbosity in VERBOSITIES:
                mine = await told(signal, rows, folder=tmp_path, verbosity=verbosity)
                assert same(mine, collectors(peer, signal, verbosity, body)), (signal, seed, verbosity)
                compared += 1
    assert compared > 500
    # Sampling, of a line that comes ten times.
    body = request("logs")
    found = await told(
        "logs", *[decoded("logs", body)] * 10, folder=tmp_path, sampling_initial=2, sampling_thereafter=3
    )
    assert found == collectors(peer, "logs", "basic", *[body] * 10, initial=2, each=3)


def test_cases_are_whole() -> None:
    names = {f"{signal}.{verbosity}.txt" for signal in SIGNALS for verbosity in VERBOSITIES}
    assert {file.name for file in CASES.iterdir()} == names | {f"{signal}.json" for signal in SIGNALS}
    assert all(json.loads((CASES / f"{signal}.json").read_text()) for signal in SIGNALS)
