"""`unify` completes rows: what is absent is derived, what is there stays."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from colonnade import native
from colonnade.pipeline.component import BatchContext, ComponentId
from colonnade.processors.unify import Config, Unify
from colonnade.unified_schema import columns

NOW_NS = 1_772_600_800_000_000_000
DAY_NS = 86_400_000_000_000
APPEND = uuid.UUID("01890000-0000-7000-8000-000000000001").bytes
TRACE, SPAN = "0AF7651916CD43DD8448EB211C80319C", "B7AD6B7169203331"


class CountingHost:
    """Keeps what is counted, by name and labels."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], float] = {}

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        self.counts[(name, *labels.values())] = self.counts.get((name, *labels.values()), 0) + n


def value(of: Any) -> dict[str, Any]:
    match of:
        case bool():
            return {"boolValue": of}
        case int():
            return {"intValue": str(of)}
        case float():
            return {"doubleValue": of}
        case _:
            return {"stringValue": of}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(of)} for key, of in attributes.items()]


def span(attributes: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    own = {"traceId": TRACE, "spanId": SPAN, "name": "GET /", "startTimeUnixNano": str(NOW_NS - 10**9)}
    return {**own, "attributes": pairs(attributes or {}), **fields}


def traces(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> bytes:
    scope = {"scope": {}, "spans": list(spans)}
    document = {"resourceSpans": [{"resource": {"attributes": pairs(resource or {})}, "scopeSpans": [scope]}]}
    return json.dumps(document).encode()


def logs(*records: dict[str, Any]) -> bytes:
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}).encode()


def unified(
    body: bytes, signal: str = "traces", *, tenant: str = "", host: CountingHost | None = None, **settings: Any
) -> pa.RecordBatch:
    batch, refused = native.decode(signal, [body], json=True, tenant=tenant)
    assert not refused
    processor = Unify(ComponentId("unify"), Config.model_validate(settings))
    ctx = BatchContext("traces", NOW_NS, APPEND, host or CountingHost())  # type: ignore[arg-type]
    completed = processor.process(batch, ctx)
    assert completed is not None
    assert completed.completed
    return pa.record_batch(completed)


def row(table: pa.RecordBatch, at: int = 0) -> dict[str, Any]:
    """Text, numbers and booleans of a row; times as they are stored."""
    arrays = zip(table.schema.names, table.columns, strict=True)
    return {name: (a.cast(pa.int64()) if pa.types.is_timestamp(a.type) else a)[at].as_py() for name, a in arrays}


def uuid8(name: bytes) -> uuid.UUID:
    raw = bytearray(xxhash.xxh3_128_digest(name))
    raw[6] = 0x80 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return uuid.UUID(bytes=bytes(raw))


def test_columns_that_are_not_nullable_are_there_and_in_the_tables_order() -> None:
    table = unified(traces(span()))
    names = table.schema.names
    order = [column.name for column in columns()]
    assert names == [name for name in order if name in names]
    assert {column.name for column in columns() if not column.nullable} <= set(names)
    for name in names:
        assert table.column(name).null_count == 0 or next(c for c in columns() if c.name == name).nullable


def test_constants_say_when_and_how_the_row_came() -> None:
    found = row(unified(traces(span())))
    assert found["ingested_at"] == NOW_NS
    assert found["batch_id"] == APPEND
    assert (found["schema_version"], found["visibility"], found["ns"]) == (1, "user", "default")
    assert found["timestamp_ns"] == found["timestamp"] == NOW_NS - 10**9


def test_a_span_is_named_by_its_ids_within_its_name_space() -> None:
    first, again, other = (row(unified(traces(span()), tenant=ns))["id"] for ns in ("a", "a", "b"))
    space = uuid8(uuid.NAMESPACE_URL.bytes + b"a").bytes
    name = "\x1f".join(["otel.span", TRACE.lower(), SPAN.lower()])
    assert uuid.UUID(bytes=first) == uuid8(space + name.encode())
    assert first == again != other


def test_equal_log_records_of_one_request_stay_two_rows_and_repeat_as_the_same_two() -> None:
    body = logs({"body": {"stringValue": "x"}}, {"body": {"stringValue": "x"}}, {"body": {"stringValue": "y"}})
    first, again = (unified(body, "logs").column("id").to_pylist() for _ in range(2))
    assert first == again
    assert len(set(first)) == 3


@pytest.mark.parametrize(
    ("uid", "id"),
    [
        ("01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("URN:UUID:01890A5D-AC96-774B-BCCE-B302099A8057", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "01563e3a-b5d3-d676-4c61-efb99302bd5b"),
    ],
)
def test_a_records_own_uuid_or_ulid_is_its_id(uid: str, id: str) -> None:
    found = row(unified(logs({"attributes": pairs({"log.record.uid": uid})}), "logs"))
    assert uuid.UUID(bytes=found["id"]) == uuid.UUID(id)


def test_another_own_id_is_a_natural_key() -> None:
    ids = [
        row(unified(logs({"attributes": pairs({"log.record.uid": "r-1"}), "severityNumber": n}), "logs"))["id"]
        for n in (9, 10)
    ]
    assert ids[0] == ids[1]


def test_the_doors_tenant_wins_over_the_attribute_and_that_over_the_default() -> None:
    body = traces(span(), resource={"service.namespace": "shop", "team.name": "Blue Team"})
    assert row(unified(body, tenant="door", ns_attribute="service.namespace"))["ns"] == "door"
    assert row(unified(body, ns_attribute="service.namespace"))["ns"] == "shop"
    assert row(unified(body, ns_attribute="team.name"))["ns"] == "blue-team"
    assert row(unified(body, ns_attribute="absent", default_ns="rest"))["ns"] == "rest"
    assert row(unified(body))["service_namespace"] == "shop"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("acme-prod", "acme-prod"),
        ("https://Acme.Example/Shop", "acme.example-shop"),
        ("Über Straße", "ber-stra-e"),
        ("-_.x", "x"),
        ("!!!", ""),
        ("x" * 80, "x" * 63),
    ],
)
def test_name_spaces_are_slugs(name: str, slug: str) -> None:
    assert native.slug(name) == slug


@given(st.text())
def test_a_slug_is_its_own_slug(name: str) -> None:
    slug = native.slug(name)
    assert native.slug(slug) == slug
    assert len(slug) <= 63


def test_urls_give_parts_that_nobody_stated() -> None:
    url = "https://me:pw@Shop.Example:8443/cart/9?x=1&q=red+shoes&utm_source=n%C3%A9ws&utm_id=7#top"
    found = row(unified(traces(span({"url.full": url}))))
    assert found["http_url"] == url.replace("me:pw@", "")
    assert (found["http_host"], found["http_path"]) == ("shop.example", "/cart/9")
    assert found["http_query"] == "x=1&q=red+shoes&utm_source=n%C3%A9ws&utm_id=7"
    assert (found["page_search"], found["campaign_source"], found["campaign_id"]) == ("red shoes", "néws", "7")


def test_stated_parts_win_over_the_urls() -> None:
    stated = {"url.full": "https://a.example/one?x=1", "server.address": "b.example", "url.path": "/two"}
    found = row(unified(traces(span(stated))))
    assert (found["http_host"], found["http_path"], found["http_query"]) == ("b.example", "/two", "x=1")


@given(st.text(max_size=60))
def test_no_text_is_refused_as_a_url(url: str) -> None:
    table = unified(traces(span({"url.full": url}), span({"url.full": "http://a/b"})))
    assert table.num_rows == 2
    assert table.column("http_path")[1].as_py() == "/b"


@pytest.mark.parametrize(
    ("offset_ns", "follows"),
    [(-7 * DAY_NS, True), (-7 * DAY_NS - 1, False), (DAY_NS, True), (DAY_NS + 1, False), (-NOW_NS + 1, False)],
)
def test_the_day_follows_the_time_within_the_window(offset_ns: int, follows: bool) -> None:
    time_ns = NOW_NS + offset_ns
    found = row(unified(traces(span(startTimeUnixNano=str(time_ns)))))
    chosen = datetime.fromtimestamp((time_ns if follows else NOW_NS) // 10**9, UTC)
    assert (found["day"], found["hour"]) == (chosen.date(), chosen.hour)
    assert found["timestamp"] == time_ns


def test_ten_thousand_days_make_few_partitions() -> None:
    spans = [span(startTimeUnixNano=str(day * DAY_NS + 1)) for day in range(10_000, 20_000)]
    days = set(unified(traces(*spans)).column("day").to_pylist())
    assert len(days) <= 10
    assert date(2026, 3, 4) in days


def test_a_row_without_any_time_is_of_now() -> None:
    found = row(unified(logs({"body": {"stringValue": "x"}}), "logs"))
    assert found["timestamp"] == NOW_NS


def test_own_rules_fill_columns_and_leave_attributes() -> None:
    settings = {"columns": {"resource_id": ["order.id", "cart.id"], "db_version": ["schema"], "cpu_time_ms": ["cpu"]}}
    body = traces(
        span({"order.id": 42, "schema": "7", "cpu": 1.5}), span({"cart.id": "c"}), resource={"cart.id": "of-resource"}
    )
    table = unified(body, **settings)
    assert table.column("resource_id").to_pylist() == ["42", "c"]
    assert table.column("db_version").to_pylist() == [7, None]
    assert table.column("cpu_time_ms").to_pylist() == [1.5, None]
    assert table.column("resource_ns").to_pylist() == ["default", "default"]
    assert [key for key, _ in row(table)["attributes"]] == ["order.id", "schema", "cpu"]
    assert row(unified(traces(span(), resource={"cart.id": "of-resource"}), **settings))["resource_id"] == "of-resource"


def test_own_rules_do_not_overwrite() -> None:
    found = row(unified(traces(span({"user.id": "u", "order.id": "o"})), columns={"actor_id": ["order.id"]}))
    assert found["actor_id"] == "u"


def test_extension_columns_stand_after_the_table() -> None:
    body = traces(span({"client.address": "10.0.0.1"}, kind=3), resource={"deployment.environment.name": "prod"})
    table = unified(body, extension_columns=["client_ip", "span_kind", "deployment_environment"])
    assert table.schema.names[-3:] == ["client_ip", "span_kind", "deployment_environment"]
    assert [table.column(name)[0].as_py() for name in table.schema.names[-3:]] == ["10.0.0.1", "client", "prod"]


def test_soft_checks_are_counted_and_refuse_nothing() -> None:
    host = CountingHost()
    future = str(NOW_NS + 2 * DAY_NS)
    table = unified(traces(span(traceId=""), span(name=""), span(startTimeUnixNano=future)), host=host)
    assert table.num_rows == 3
    name = "processor_unify_soft_violations"
    assert host.counts == {(name, "otel.span", check): 1 for check in ("trace_id", "event_name", "future_timestamp")}


def test_a_completed_batch_passes_untouched() -> None:
    batch, _ = native.decode("traces", [traces(span())], json=True)
    kernel = native.Unify()
    once, _ = kernel.complete(batch, NOW_NS, APPEND)
    twice, _ = kernel.complete(once, NOW_NS + 1, bytes(16))
    assert pa.record_batch(twice).equals(pa.record_batch(once))


def test_request_bytes_stay_with_the_rows() -> None:
    body = native.json_to_protobuf("traces", traces(span({"url.full": "http://a/b"})))
    batch, _ = native.decode("traces", [body], keep_payload=True)
    completed, _ = native.Unify().complete(batch, NOW_NS, APPEND)
    assert completed.payloads == [body]


def test_an_empty_batch_stays_empty() -> None:
    batch, _ = native.decode("traces", [b""])
    completed, violations = native.Unify().complete(batch, NOW_NS, APPEND)
    assert (completed.rows, violations) == (0, [])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"columns": {"resource_idd": ["x"]}}, "did you mean 'resource_id'"),
        ({"columns": {"attributes": ["x"]}}, "no column that an attribute can feed"),
        ({"columns": {"day": ["x"]}}, "no column that an attribute can feed"),
        ({"columns": {"resource_id": []}}, "at least 1"),
        ({"default_ns": "Not A Slug"}, "no name space"),
        ({"extension_columns": ["depth"]}, "span_kind"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Config.model_validate(settings)
