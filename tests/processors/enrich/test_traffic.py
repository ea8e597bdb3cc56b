"""Referrer class, channel, source and click ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from colonnade.pipeline.errors import ColonnadeError
from tests.processors.enrich.kit import completed, enriched, rows_of, running

HOME = "https://shop.example/"


@pytest.mark.parametrize(
    ("referrer", "query", "wanted"),
    [
        ("https://www.google.de/", "", ("search", "organic_search", "google")),
        ("https://google.com", "gclid=abc", ("search", "paid_search", "google")),
        ("https://duckduckgo.com/?q=shoes", "", ("search", "organic_search", "duckduckgo")),
        ("https://m.facebook.com/", "", ("social", "organic_social", "facebook")),
        ("https://l.facebook.com/", "fbclid=x&utm_source=fb&utm_medium=paid", ("social", "paid_social", "facebook")),
        ("https://news.example.org/story", "", ("other", "referral", "news.example.org")),
        ("https://shop.example/cart", "", ("internal", None, None)),
        ("https://help.shop.example/", "", ("internal", None, None)),
        ("https://chatgpt.com/", "", ("other", "ai_assistants", "chatgpt")),
        ("", "utm_source=newsletter&utm_medium=email", ("direct", "email", "newsletter")),
        ("", "utm_source=google&utm_medium=cpc&utm_campaign=spring", ("direct", "paid_search", "google")),
        ("", "utm_source=bing&msclkid=1", ("direct", "paid_search", "bing")),
        ("", "utm_source=partner&utm_medium=affiliate", ("direct", "affiliates", "partner")),
        ("", "utm_source=who&utm_medium=what", ("direct", "unassigned", "who")),
        ("", "utm_campaign=cross-network", ("direct", "cross_network", None)),
        ("https://mail.google.com/mail/u/0", "", ("email", "email", "gmail")),
        ("https://www.youtube.com/watch?v=1", "", ("other", "organic_video", "youtube")),
        ("android-app://com.slack/", "", ("social", "organic_social", "slack")),
        ("http://[broken", "", ("direct", "direct", None)),
    ],
)
async def test_where_a_visit_came_from(referrer: str, query: str, wanted: tuple[str, str | None, str | None]) -> None:
    url = f"{HOME}?{query}" if query else HOME
    attributes = {"url.full": url, "http.request.header.referer": referrer} if referrer else {"url.full": url}
    (row,) = await enriched(attributes)
    said = row["$enrich"]
    assert (said.get("referrer_class"), said.get("channel"), said.get("source")) == wanted


async def test_click_ids_are_kept_by_name() -> None:
    (row,) = await enriched({"url.full": f"{HOME}?gclid=a%2Bb&x=1&fbclid=c&utm_source=google"})
    assert row["$enrich"]["click_ids"] == {"gclid": "a+b", "fbclid": "c"}


async def test_only_visits_are_direct() -> None:
    async with running() as processor:
        span, page = rows_of(processor, completed({"url.full": HOME}, {"url.full": HOME}))
        assert span["$enrich"] == page["$enrich"] == {}


async def test_own_hosts_are_internal() -> None:
    attributes = {"url.full": HOME, "http.request.header.referer": "https://blog.other.example/"}
    (row,) = await enriched(attributes, traffic={"internal": ["other.example"]})
    assert row["$enrich"]["referrer_class"] == "internal"


async def test_an_own_table_comes_first(tmp_path: Path) -> None:
    table = tmp_path / "traffic.yaml"
    table.write_text(
        "sources: {social: {forum: [forum.example]}}\n"
        "click_ids: {pid: {source: forum, paid: true}}\n"
        "channels: [{channel: partners, medium: '^partner$'}]\n"
    )
    told = await enriched(
        {"url.full": HOME, "http.request.header.referer": "https://forum.example/"},
        {"url.full": f"{HOME}?pid=7"},
        {"url.full": f"{HOME}?utm_medium=partner"},
        traffic={"table": str(table)},
    )
    assert [row["$enrich"]["channel"] for row in told] == ["organic_social", "paid_social", "partners"]
    assert told[1]["$enrich"]["click_ids"] == {"pid": "7"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sources: [", "while parsing"),
        ("chanels: []", "chanels"),
        ("channels: [{channel: a, medium: '('}]", "medium"),
    ],
)
async def test_a_bad_table_is_an_error_at_start(tmp_path: Path, text: str, told: str) -> None:
    table = tmp_path / "traffic.yaml"
    table.write_text(text)
    with pytest.raises(ColonnadeError, match=told) as caught:
        async with running(traffic={"table": str(table)}):
            pass
    assert str(table) in caught.value.message


async def test_explosive_patterns_take_linear_time(tmp_path: Path) -> None:
    table = tmp_path / "traffic.yaml"
    table.write_text("channels: [{channel: a, medium: '^(a+)+$'}]\n")
    (row,) = await enriched({"url.full": f"{HOME}?utm_medium={'a' * 5_000}!"}, traffic={"table": str(table)})
    assert row["$enrich"]["channel"] == "unassigned"
