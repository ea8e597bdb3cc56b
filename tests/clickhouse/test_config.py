"""The section: the Collector's keys are honoured, or refused by name with what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from colonnade.exporters.clickhouse import ClickHouseConfig, check, embedded, factory
from colonnade.exporters.clickhouse.endpoint import servers
from colonnade.pipeline import embedded_engine
from colonnade.pipeline.embedded_engine import EngineUnavailable
from colonnade.unified_schema import clickhouse as ddl
from tests.clickhouse.kit import running
from tests.clickhouse.rows import COLUMNS


def config(**keys: Any) -> ClickHouseConfig:
    return ClickHouseConfig.model_validate({"endpoint": "http://localhost:8123", **keys})


def test_the_collectors_keys_are_taken() -> None:
    made = config(
        endpoint="tcp://a:9000,b:9000/telemetry?dial=x",
        connection_open_strategy="round_robin",
        username="u",
        password=123,
        database="ignored",
        connection_params={"max_threads": 4, "insert_quorum": "auto", "flag": True},
        ttl="72h",
        create_schema=True,
        compress="zstd",
        async_insert=True,
        json=False,
        tls={"insecure_skip_verify": True},
        cluster_name="main",
        table_engine={"name": "ReplicatedMergeTree", "params": "'/x', '{replica}'"},
        logs_table_name="l",
        traces_table_name="t",
        metrics_tables={"gauge": {"name": "g"}},
        timeout="10s",
        sending_queue={"batch": {"min_size": 5000}},
        retry_on_failure={"max_elapsed_time": "5m"},
    )
    assert [s.url for s in made.servers()] == ["http://a:8123", "http://b:8123"]
    assert made.database_name == "telemetry"
    assert made.connection_params == {"max_threads": "4", "insert_quorum": "auto", "flag": "1"}
    assert (made.ttl, made.views["gauge"], made.views["sum"]) == (259200, "g", "otel_metrics_sum")
    assert len(made.warnings()) == 2
    assert "123" not in repr(made)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"json": True}, "attributes are Map"),
        ({"compress": "br"}, "use zstd"),
        ({"ttl_days": 3}, "write ttl"),
        ({"dsn": "tcp://x"}, "write endpoint"),
        ({"profiles_table_name": "p"}, "profiles are not stored"),
        ({"connection_params": {"dial_timeout": "1s"}}, "write timeout"),
        ({"table_engine": {"name": "Log"}}, "MergeTree"),
        ({"endpoint": "localhost:8123"}, "has no scheme"),
        ({"endpoint": "ftp://x"}, "'ftp' is not known"),
        ({"endpoint": "embedded:"}, "needs a folder"),
        ({"endpoint": "embedded:x", "cluster_name": "c"}, "has no cluster"),
        ({"nonsense": 1}, "nonsense"),
        ({"tls": {"ca_pem": "x"}}, "use ca_file"),
    ],
)
def test_what_can_not_be_honoured_is_refused_with_what_to_write(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(**keys)


def test_urls_are_read() -> None:
    one = servers("https://me:p%40ss@ch.example:443/proxy?max_threads=2")[0]
    assert (one.url, one.username, one.password) == ("https://ch.example:443/proxy", "me", "p@ss")
    assert one.params == (("max_threads", "2"),)
    assert servers("https://ch")[0].port == 8443
    assert servers("clickhouse://ch:9440/db?secure=true")[0].url == "https://ch:8443"
    assert servers("http://[::1]:8123")[0].url == "http://[::1]:8123"
    assert servers("http://[::1]:8123")[0].is_loopback


def test_two_embedded_paths_in_one_file_are_an_error() -> None:
    one, same, two = (config(endpoint=f"embedded:{p}") for p in ("a", "./a", "b"))
    assert check({"clickhouse": one, "clickhouse/x": same, "clickhouse/y": config()}) == []
    problems = check({"clickhouse": one, "clickhouse/x": two})
    assert len(problems) == 1
    assert "clickhouse/x" in problems[0]
    assert embedded({"clickhouse": one})
    assert not embedded({"clickhouse": config()})


async def test_the_engine_is_handed_over_and_another_path_is_refused(tmp_path: Path) -> None:
    old = running({"endpoint": f"embedded:{tmp_path}/a"})
    first = await old.__aenter__()
    async with running({"endpoint": f"embedded:{tmp_path}/a", "table": "other"}) as new:
        assert new._engine is first._engine
        with pytest.raises(EngineUnavailable, match="restart to change it"):
            async with running({"endpoint": f"embedded:{tmp_path}/b"}):
                pass
        await old.__aexit__(None, None, None)
        await new._ready()
        assert embedded_engine.current() is new._engine
    assert embedded_engine.current() is None
    async with running({"endpoint": f"embedded:{tmp_path}/b"}) as again:
        await again._ready()


def test_the_ddl_has_every_column_of_the_schema() -> None:
    columns = ddl.columns()
    assert [column.name for column in columns] == list(COLUMNS)
    assert {column.name for column in columns if column.alias} == {"timestamp_ns"}
    assert {c.name for c in columns if c.type.startswith("Nullable")} == ddl.NULLABLE
    assert not [c.name for c in columns if "String" in c.type and "Nullable" in c.type]


def test_the_ddl_follows_the_options() -> None:
    options = config(
        ttl="1h", cluster_name="c", table_engine={"name": "ReplicatedMergeTree", "params": "'/p', '{replica}'"}
    ).table_options
    text = ddl.create_table(options)
    assert "CREATE TABLE IF NOT EXISTS `default`.`events` ON CLUSTER `c`" in text
    assert "ENGINE = ReplicatedMergeTree('/p', '{replica}')" in text
    assert "TTL toDateTime(ingested_at) + toIntervalSecond(3600)" in text
    assert "replicated_deduplication_window = 10000" in text
    assert "idx_trace_id" not in ddl.create_table(config(trace_index=False).table_options)


def test_the_factory_takes_all_signals() -> None:
    assert factory.signals == {"traces", "metrics", "logs", "events"}
    assert "embedded:./data" in factory.doc or "embedded" in factory.doc
