"""`enrich` fills what is absent, says so, and leaves what rows say themselves."""

from __future__ import annotations

import pyarrow as pa
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from colonnade.native import encode_otlp
from tests.processors.enrich.kit import (
    CHROME,
    GOOGLEBOT,
    IPHONE,
    completed,
    context_of,
    enriched,
    rows_of,
    running,
)

HEADER = "http.request.header.sec-ch-ua"


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        (
            {"user_agent.original": IPHONE},
            {
                "client_type": "browser",
                "client_name": "Mobile Safari",
                "client_version": "17.1",
                "device_type": "mobile",
                "device_brand": "Apple",
                "device_model": "iPhone",
                "os_name": "iOS",
                "os_version": "17.1",
            },
        ),
        ({"user_agent.original": CHROME}, {"client_name": "Chrome", "os_name": "Windows", "device_type": "desktop"}),
        ({"user_agent.original": GOOGLEBOT}, {"client_name": "Googlebot", "bot_verified": True}),
        ({"user_agent.original": "curl/8.4.0"}, {"client_type": "cli", "client_name": "curl"}),
        ({"user_agent.original": "python-requests/2.32.0"}, {"client_type": "sdk"}),
        ({"user_agent.original": "nothing that anybody knows"}, {}),
    ],
)
async def test_user_agents_fill_client_device_and_system(
    attributes: dict[str, str], wanted: dict[str, str | bool]
) -> None:
    (row,) = await enriched(attributes)
    assert {name: row.get(name) for name in wanted} == wanted
    assert set(wanted) <= set(row["$enrich"].get("columns", []))
    if not wanted:
        assert "$enrich" not in row["context"]


async def test_client_hints_win_over_what_browsers_froze() -> None:
    frozen, hinted = await enriched(
        {"user_agent.original": CHROME},
        {
            "user_agent.original": CHROME,
            f"{HEADER}-platform": '"Windows"',
            f"{HEADER}-platform-version": '"15.0.0"',
            f"{HEADER}-full-version-list": '"Not-A.Brand";v="99", "Chromium";v="124", "Microsoft Edge";v="124.0.2478"',
        },
    )
    assert (frozen["client_name"], frozen["os_version"]) == ("Chrome", "10")
    assert (hinted["client_name"], hinted["client_version"]) == ("Microsoft Edge", "124.0.2478")
    assert (hinted["os_name"], hinted["os_version"]) == ("Windows", "11")


async def test_hints_of_a_phone_name_its_model() -> None:
    (row,) = await enriched(
        {
            "user_agent.original": "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/124.0.0.0 Mobile",
            f"{HEADER}-model": '"Pixel 8"',
            f"{HEADER}-platform": '"Android"',
            f"{HEADER}-platform-version": '"14.0.0"',
            f"{HEADER}-mobile": "?1",
        }
    )
    assert (row["device_model"], row["device_type"], row["os_version"]) == ("Pixel 8", "mobile", "14.0.0")


async def test_what_a_row_says_itself_stays_unless_it_is_to_be_overwritten() -> None:
    said = {"user_agent.original": IPHONE, "os.name": "My own"}
    (kept,) = await enriched(said)
    assert (kept["os_name"], kept["os_version"]) == ("My own", "17.1")
    assert "os_name" not in kept["$enrich"]["columns"]
    (other,) = await enriched(said, overwrite=True)
    assert other["os_name"] == "iOS"
    assert "os_name" in other["$enrich"]["columns"]
    mixed, plain = await enriched(said, {"user_agent.original": IPHONE})
    assert (mixed["os_name"], plain["os_name"]) == ("My own", "iOS")
    assert "os_name" not in mixed["$enrich"]["columns"]
    assert "os_name" in plain["$enrich"]["columns"]


async def test_rows_that_nothing_is_known_of_stay_the_same_batch() -> None:
    batch = completed({"a": 1}, {"b": 2})
    async with running() as processor:
        assert processor.process(batch, context_of()) is batch


async def test_more_user_agents_than_are_remembered_are_read_all_the_same() -> None:
    agents = [CHROME.replace("124.0", f"{n}.0") for n in range(1, 40)]
    async with running(user_agent={"cache_size": 7}) as processor:
        for _ in range(3):
            rows = rows_of(processor, completed(*({"user_agent.original": agent} for agent in agents)))
            assert [row["client_version"] for row in rows] == [f"{n}.0.0.0" for n in range(1, 40)]


async def test_what_was_added_goes_on_as_attributes() -> None:
    async with running() as processor:
        batch = processor.process(completed({"user_agent.original": IPHONE}), context_of())
    assert batch is not None
    (body,) = encode_otlp("traces", [batch])
    (found,) = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
    sent = {pair.key: pair.value.string_value for pair in found.attributes}
    assert sent["user_agent.original"] == IPHONE
    assert sent["user_agent.name"] == "Mobile Safari"


async def test_parts_that_are_off_say_nothing() -> None:
    off = {"enabled": False}
    (row,) = await enriched(
        {"user_agent.original": IPHONE, "http.request.header.referer": "https://google.com/"},
        user_agent=off,
        traffic=off,
        local_time=off,
    )
    assert row["$enrich"] == {}
    assert "client_name" not in row


def test_every_column_keeps_its_type() -> None:
    from colonnade.processors.enrich.user_agent import COLUMNS, UserAgents
    from colonnade.unified_schema import columns

    types = {column.name: column.arrow_type for column in columns()}
    for name, array in zip(COLUMNS, UserAgents(10).columns([IPHONE, GOOGLEBOT]), strict=True):
        expected = types[name]
        assert array.type == expected or (pa.types.is_dictionary(array.type) and pa.types.is_string(expected))
