"""An archive in a bucket of a real S3 server: published once, whole, whatever is cut off; and what is told when not."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from colonnade.exporters.parquet import ParquetConfig, ParquetExporter, factory
from colonnade.exporters.parquet import bucket as bucket_module
from colonnade.exporters.parquet.bucket import TROUBLES, Bucket, BucketError, meaning
from colonnade.pipeline import faults
from colonnade.pipeline.component import ComponentId
from colonnade.pipeline.errors import ColonnadeError, Permanent
from tests.daemon.test_requests import spans
from tests.daemon_process import Daemon, otlp_config
from tests.parquet.kit import Rig, files, numbers, slice_of
from tests.parquet.test_rolling import rows
from tests.pipeline.kit import FAST_RETRY, FakeHost, until
from tests.servers.s3 import S3Server, require_s3

OWN_KEY = "own-secret-of-the-test"


def exporter_of(section: dict[str, Any], **more: Any) -> ParquetExporter:
    config = ParquetConfig.model_validate({"retry_on_failure": FAST_RETRY, **section, **more})
    made = factory.create(ComponentId.parse("parquet"), config)
    assert isinstance(made, ParquetExporter)
    return made


async def started(section: dict[str, Any], folder: Path, **more: Any) -> ParquetExporter:
    exporter = exporter_of(section, **more)
    await exporter.start(FakeHost("parquet", folder))
    return exporter


def hidden(archive: Path) -> list[Path]:
    return [path for path in archive.glob(".unpublished/**/*") if path.is_file()]


def spooled(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is large: it goes in parts, under a hidden key first."""
    monkeypatch.setattr(bucket_module, "WHOLE_MAX_BYTES", 0)


@pytest.fixture(params=["whole", "parts"])
def either(request: pytest.FixtureRequest) -> None:
    """Files that go at once, and files that go in parts."""
    if request.param == "parts":
        request.getfixturevalue("parts")


@pytest.mark.usefixtures("either")
async def test_rows_become_objects_that_readers_of_folders_read(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    archive = s3_server.folder(f"{bucket}/a b/archive")
    exporter = await started(s3_server.section(f"{bucket}/a b/archive/"), tmp_path)
    rig = Rig(exporter, tmp_path)
    rig.append(rows(100, types=("log", "trace", "a/b")))
    await rig.drain()
    assert numbers(archive) == list(range(100))
    assert {name.split("/")[1] for name in files(archive)} == {
        "event_type=log",
        "event_type=trace",
        "event_type=a%2Fb",
    }
    assert hidden(archive) == spooled(tmp_path) == []
    await exporter.shutdown()


async def test_a_file_of_several_parts_arrives_whole(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: None
) -> None:
    # The least that S3 takes of a part that is not the last.
    monkeypatch.setattr(bucket_module, "PART_BYTES", 5 << 20)
    exporter = await started(s3_server.section(bucket), tmp_path, compression="none")
    part = slice_of(rows(120_000))
    await exporter.export(part)
    (name,) = files(s3_server.folder(bucket))
    assert (s3_server.folder(bucket) / name).stat().st_size > 2 * (5 << 20)
    assert numbers(s3_server.folder(bucket)) == list(range(120_000))
    await exporter.shutdown()


@pytest.mark.usefixtures("either")
async def test_a_range_that_was_published_before_a_crash_is_left_as_it_is(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    archive = s3_server.folder(bucket)
    for life in range(2):
        exporter = await started(s3_server.section(bucket), tmp_path / str(life), row_group={"max_rows": 7 + life})
        await exporter.export(slice_of(rows(40), start=10))
        (name,) = files(archive)
        if life == 0:
            before = (archive / name).stat()
        await exporter.shutdown()
    assert numbers(archive) == list(range(40))
    assert (archive / name).stat().st_ino == before.st_ino
    assert hidden(archive) == []


@pytest.mark.usefixtures("either")
async def test_a_key_that_has_rows_of_somebody_else_is_told_and_not_replaced(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    first = await started(s3_server.section(bucket), tmp_path / "a")
    await first.export(slice_of(rows(40)))
    second = await started(s3_server.section(bucket), tmp_path / "copy")
    with pytest.raises(Permanent, match="give each daemon a data folder of its own") as told:
        await second.export(slice_of(rows(40, 1000)))
    assert told.value.code == "name_taken"
    assert numbers(s3_server.folder(bucket)) == list(range(40))
    for exporter in (first, second):
        await exporter.shutdown()


def foreign() -> bytes:
    """A Parquet file of other columns."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": range(40)}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("what", [b"", b"abc", b"PAR1 is how it begins, and it is nothing else", foreign()])
async def test_a_key_that_has_something_else_is_told(
    what: bytes, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    key = s3_server.folder(bucket) / "day=2024-10-04/event_type=log/log-000000000000-000000000040.parquet"
    key.parent.mkdir(parents=True)
    key.write_bytes(what)
    exporter = await started(s3_server.section(bucket), tmp_path)
    with pytest.raises(Permanent, match="has rows of somebody else"):
        await exporter.export(slice_of(rows(40)))
    assert key.read_bytes() == what
    await exporter.shutdown()


async def test_what_a_crash_left_between_its_parts_and_its_key_is_removed_at_the_next_start(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: None
) -> None:
    archive = s3_server.folder(bucket)

    class Killed(BaseException):
        """The process ends here."""

    def die(place: str) -> None:
        if place == "upload":
            raise Killed

    monkeypatch.setattr(faults, "reached", die)
    crashed = await started(s3_server.section(bucket), tmp_path)
    with pytest.raises(Killed):
        await crashed.export(slice_of(rows(40)))
    assert len(hidden(archive)) == 1
    assert files(archive) == []
    monkeypatch.setattr(faults, "reached", lambda place: None)

    stranger = await started(s3_server.section(bucket), tmp_path / "another daemon")
    assert len(hidden(archive)) == 1, "it belongs to a daemon that may be running"
    beside = await started(s3_server.section(bucket), tmp_path)
    assert len(hidden(archive)) == 1, "a reload starts beside the exporter that it replaces"
    for exporter in (crashed, stranger, beside):
        await exporter.shutdown()

    exporter = await started(s3_server.section(bucket), tmp_path)
    assert hidden(archive) == spooled(tmp_path) == []
    await exporter.export(slice_of(rows(40)))
    assert numbers(archive) == list(range(40))
    await exporter.shutdown()


async def test_an_upload_whose_parts_stop_half_way_is_not_visible_and_is_begun_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: None
) -> None:
    monkeypatch.setattr(bucket_module, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(bucket_module, "PARTS_AT_ONCE", 1)
    # The server gives each part a second, so that it can be killed in the midst of them.
    arguments = ["--data", str(tmp_path / "s3"), "--bucket", "half"]
    slow = S3Server.start(*arguments, "--set", "s3proxy.latency-blobstore.upload-multipart-part.latency=1000")
    archive = slow.folder("half")
    exporter = await started(slow.section("half"), tmp_path, compression="none")
    await exporter.write(slice_of(rows(120_000)))
    publishing = asyncio.create_task(exporter.publish("log", 0, 120_000))
    await until(lambda: any(path.is_file() for path in archive.rglob("*")))
    assert files(archive) == []
    slow.kill()
    with pytest.raises(BucketError, match="the store can not be reached, or does not answer"):
        await publishing
    port = slow.info["port"]
    again = S3Server.start(*arguments, "--port", str(port))
    try:
        assert files(archive) == []
        await exporter.publish("log", 0, 120_000)
        assert numbers(archive) == list(range(120_000))
    finally:
        await exporter.shutdown()
        again.stop()


# --- what is told


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ({"path": "s3://not-there/x"}, "no_bucket", "there is no such bucket: make it, or correct path"),
        ({"access_key_id": "nobody"}, "bad_credentials", "correct access_key_id and secret_access_key"),
        ({"secret_access_key": OWN_KEY}, "bad_credentials", "correct access_key_id and secret_access_key"),
    ],
)
async def test_what_somebody_has_to_mend_is_an_error_at_start(
    wrong: dict[str, str], code: str, said: str, s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    section = s3_server.section(f"{bucket}/archive") | wrong
    exporter = exporter_of(section)
    with pytest.raises(ColonnadeError, match=said) as told:
        await exporter.start(FakeHost("parquet", tmp_path))
    assert (told.value.code, told.value.permanent) == (code, True)
    assert told.value.message.startswith(f"{section['path']} at {section['endpoint']}: the bucket can not be used: ")
    for secret in (OWN_KEY, s3_server.info["secret_key"]):
        assert secret not in told.value.message + repr(exporter.config) + exporter.config.model_dump_json()
    # It holds nothing: the spool can be opened by itself again.
    await (await started(s3_server.section(bucket), tmp_path)).shutdown()


async def test_without_any_credentials_the_start_says_where_they_can_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(
            ColonnadeError, match="set access_key_id and secret_access_key, or the environment's"
        ) as told:
            await started({"path": "s3://bucket"}, tmp_path)
    assert told.value.code == "no_credentials"


@pytest.mark.parametrize("by", ["environment", "file"])
async def test_credentials_come_from_where_other_programs_find_them(
    by: str, s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = s3_server.info["access_key"], s3_server.info["secret_key"]
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    if by == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    else:
        monkeypatch.setenv("AWS_PROFILE", "archive")
        (tmp_path / "credentials").write_text(
            f"[default]\naws_access_key_id=x\naws_secret_access_key=y\n"
            f"[archive]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        )
    exporter = await started({"path": f"s3://{bucket}", "endpoint": s3_server.info["endpoint"]}, tmp_path)
    await exporter.export(slice_of(rows(5)))
    assert numbers(s3_server.folder(bucket)) == list(range(5))
    await exporter.shutdown()


async def test_keys_of_the_section_go_without_a_session_of_the_environment(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another account")
    await (await started(s3_server.section(bucket), tmp_path)).shutdown()


async def test_a_store_that_is_down_at_start_or_goes_away_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require_s3()
    arguments = ["--data", str(tmp_path / "s3"), "--bucket", "later"]
    server = S3Server.start(*arguments)
    section, port = server.section("later"), str(server.info["port"])
    server.kill()
    with caplog.at_level(logging.WARNING):
        exporter = await started(section, tmp_path, roll={"max_rows": 50})
    assert "the store can not be reached, or does not answer; rows wait until it does" in caplog.text
    rig = Rig(exporter, tmp_path)
    for turn in range(2):
        failures = rig.host.counts["exporter_retries"]
        rig.append(rows(50, 50 * turn))
        await until(lambda: rig.host.counts["exporter_retries"] > failures)  # noqa: B023
        server = S3Server.start(*arguments, "--port", port)
        # Not as soon as the object is there: the server, too, leaves something where it is killed just then.
        await until(lambda: rig.host.counts["exporter_sent_spans"] == 50 * (turn + 1))  # noqa: B023
        server.kill()
    assert numbers(server.folder("later")) == list(range(100))
    assert rig.host.counts["exporter_dead_letter_rows"] == 0
    await rig.drain()
    await exporter.shutdown()


@pytest.mark.parametrize("trouble", ["bucket", "credentials"])
async def test_what_goes_wrong_while_it_runs_is_told_and_waited_for(
    trouble: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_s3()
    monkeypatch.setattr(bucket_module, "LASTING_DELAY_S", 0.1)
    arguments = ["--data", str(tmp_path / "s3"), "--bucket", "archive"]
    server = S3Server.start(*arguments)
    again = [*arguments, "--port", str(server.info["port"])]
    exporter = await started(server.section("archive"), tmp_path, roll={"max_rows": 50})
    rig = Rig(exporter, tmp_path)
    archive, aside = server.folder("archive"), tmp_path / "aside"
    if trouble == "bucket":
        archive.rename(aside)
    else:
        server.stop()
        server = S3Server.start(*again, "--secret-key", "another")
    rig.append(rows(50))
    await until(lambda: rig.host.counts["exporter_retries"] > 0)
    said = {"bucket": "there is no such bucket", "credentials": "the store refuses the credentials"}[trouble]
    assert said in caplog.text
    assert "testsecret" not in caplog.text
    assert "StringToSign" not in caplog.text
    if trouble == "bucket":
        aside.rename(archive)
    else:
        server.stop()
        server = S3Server.start(*again)
    await until(lambda: rig.host.counts["exporter_sent_spans"] == 50)
    assert numbers(archive) == list(range(50))
    await rig.drain()
    await exporter.shutdown()
    server.stop()


def test_a_daemon_does_not_start_on_a_bucket_that_is_not_there_and_says_so(
    start_daemon: Callable[..., Daemon], s3_server: S3Server
) -> None:
    config = otlp_config({"parquet": s3_server.section("not-there/x")})
    with pytest.raises(AssertionError, match="there is no such bucket: make it, or correct path") as ended:
        start_daemon(config)
    assert 'failed to start "parquet" exporter: s3://not-there/x at http://' in str(ended.value)
    assert s3_server.info["secret_key"] not in str(ended.value)


def test_a_reload_under_load_and_a_drain_leave_every_row_in_the_bucket_once(
    start_daemon: Callable[..., Daemon], s3_server: S3Server, bucket: str
) -> None:
    section = {**s3_server.section(bucket), "roll": {"max_rows": 300}}
    config = otlp_config({"parquet": section}, processors={"unify": None}, signals=("traces",))
    daemon = start_daemon(config)
    accepted = 0
    for turn in range(3):
        for _ in range(100):
            accepted += 5 * (daemon.post("traces", spans(5)).status == 200)
        section["roll"] = {"max_rows": 100 + turn}
        (daemon.folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
        daemon.signal(signal.SIGHUP)
    assert daemon.drain() == 0
    archive = s3_server.folder(bucket)
    assert sum(pq.read_metadata(archive / name).num_rows for name in files(archive)) == accepted == 1500
    assert hidden(archive) == spooled(daemon.folder) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("status code: 503 Slow Down: <Error><Code>SlowDown</Code>", "store_busy"),
        ("status code: 403 Forbidden: <Error><Code>AccessDenied</Code>", "not_allowed"),
        ("status code: 403 Forbidden: ", "not_allowed"),
        ("status code: 301 Moved: <Error><Code>PermanentRedirect</Code>", "wrong_region"),
        ("status code: 403: <Error><Code>RequestTimeTooSkewed</Code>", "wrong_clock"),
        ("status code: 400: <Error><Code>ExpiredToken</Code>", "bad_credentials"),
        ("status code: 501 Not Implemented: <Error><Code>NotImplemented</Code>", "not_offered"),
        ("status code: 418: <Error><Code>Teapot</Code>", "store_refused"),
        ("HTTP error: error sending request", "store_unreachable"),
    ],
)
def test_an_answer_of_the_store_says_what_to_do(text: str, code: str) -> None:
    trouble, _ = meaning(text)
    assert trouble.code == code
    assert trouble.advice


def test_every_trouble_says_what_is_wrong() -> None:
    assert all(trouble.code and trouble.advice for trouble in TROUBLES.values())


def test_a_bucket_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(ColonnadeError, match=r"pip install 'colonnade\[s3\]'"):
        Bucket(ParquetConfig.model_validate({"path": "s3://bucket"}), "owner", True)
