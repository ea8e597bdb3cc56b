"""Where visits come from: class of the referrer, channel, and the ids that advertisers add."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import yaml
from pydantic import AfterValidator, Field

from colonnade.native import Patterns
from colonnade.pipeline.settings import Settings
from colonnade.processors.enrich.rows import Rows, joined

COLUMNS = ("http_referrer", "http_host", "http_query", "campaign_source", "campaign_medium", "campaign_name")
# Of these rows is known that somebody came; those of other types came from nowhere.
VISITS = frozenset({"page", "screen"})
CACHED = 100_000
PAID_MEDIUM = re.compile(r"^(.*cp.*|ppc|retargeting|paid.*)$")
# The words of the specification; everything else that has a referrer is `other`.
CLASSES = frozenset({"search", "social", "email"})


def _expression(text: str) -> str:
    Patterns([text])
    return text


Pattern = Annotated[str, AfterValidator(_expression)]


class ClickId(Settings):
    """A parameter that an advertiser adds."""

    source: str = Field(description="Whose it is.")
    paid: bool = Field(default=False, description="Whether it says that the visit was paid for.")


class Channel(Settings):
    """One rule; all conditions that it has must fit."""

    channel: str = Field(min_length=1, description="What fits belongs to.")
    kind: tuple[str, ...] = Field(default=(), description="Kinds of the source.")
    source: Pattern = Field(default="", description="An expression that the source fits.")
    medium: Pattern = Field(default="", description="An expression that the campaign's medium fits.")
    campaign: Pattern = Field(default="", description="An expression that the campaign's name fits.")
    paid: bool | None = Field(default=None, description="Whether it is paid.")
    referrer: bool | None = Field(default=None, description="Whether there is a referrer of another site.")


class TrafficTable(Settings):
    """A table of one's own (`traffic.table`); what it names is added to, and wins over, what comes with this."""

    sources: dict[str, dict[str, tuple[str, ...]]] = Field(
        default_factory=dict[str, dict[str, tuple[str, ...]]], description="Kind to source to its hosts."
    )
    aliases: dict[str, str] = Field(default_factory=dict[str, str], description="Other names of sources.")
    click_ids: dict[str, ClickId] = Field(default_factory=dict[str, ClickId], description="Parameters.")
    channels: tuple[Channel, ...] = Field(default=(), description="Rules, which come before those of this.")


def read_table(path: Path) -> TrafficTable:
    """Raises OSError, or ValueError with what is wrong."""
    try:
        return TrafficTable.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def own_table() -> TrafficTable:
    """What comes with this."""
    text = files("colonnade.processors.enrich").joinpath("traffic.yaml").read_text("utf-8")
    return TrafficTable.model_validate(yaml.safe_load(text))


class _Known:
    """A table, ready to be asked."""

    def __init__(self, *tables: TrafficTable) -> None:
        self.kinds: dict[str, str] = {}
        self.hosts: dict[str, tuple[str, str]] = {}
        self.aliases: dict[str, str] = {}
        self.click_ids: dict[str, ClickId] = {}
        self.rules = [rule for table in reversed(tables) for rule in table.channels]
        for table in tables:
            for kind, sources in table.sources.items():
                for source, hosts in sources.items():
                    self.kinds[source] = kind
                    self.hosts |= dict.fromkeys(hosts, (kind, source))
            self.aliases |= table.aliases
            self.click_ids |= table.click_ids

    def of_host(self, host: str) -> tuple[str, str]:
        """Kind and name of the source at a host; empty for one that is not listed."""
        labels = host.split(".")
        for start in range(len(labels)):
            found = self.hosts.get(".".join(labels[start:]))
            found = found or (self.hosts.get(f"{labels[start]}.*") if 1 < len(labels) - start <= 3 else None)
            if found:
                return found
        return "", ""

    def of_name(self, name: str) -> tuple[str, str]:
        """The same of what a campaign calls its source."""
        name = self.aliases.get(name, name)
        return (self.kinds[name], name) if name in self.kinds else self.of_host(name)


class Traffic:
    """Says `context.$enrich.referrer_class`, `.channel`, `.source` and `.click_ids`.

    Args:
        internal: hosts of one's own, with their subdomains; a page's own host is one.
    """

    def __init__(self, internal: tuple[str, ...], table: TrafficTable | None = None) -> None:
        self._internal = frozenset(host.lower() for host in internal)
        self._known = _Known(own_table(), *([table] if table else []))
        self._wanted = re.compile("|".join(map(re.escape, self._known.click_ids)))
        self._told = lru_cache(CACHED)(self._tell)
        self._clicks = lru_cache(CACHED)(self._click_ids)

    def __call__(self, rows: Rows) -> None:
        if not any(rows.has(name) for name in COLUMNS):
            return
        referrer, host, query, *campaign = [rows.terms(name) for name in COLUMNS]
        kinds = rows.terms("event_type")
        if not (referrer.any or any(part.any for part in campaign) or query.any or VISITS & set(kinds.texts)):
            return
        clicks = [",".join(self._clicks(text)) for text in query.texts]
        terms, texts = joined(referrer, host, query._replace(texts=clicks), *campaign, kinds)
        found = [self._told(*text) for text in texts]
        for word in ("referrer_class", "channel", "source"):
            rows.say(word, terms, [told.get(word) for told in found])
        rows.say("click_ids", query, [self._clicks(text) or None for text in query.texts])

    def _click_ids(self, query: str) -> Mapping[str, str]:
        if not query or self._wanted.search(query) is None:
            return {}
        return {name: value for name, value in parse_qsl(query) if name in self._known.click_ids}

    def _tell(
        self, referrer: str, host: str, clicks: str, source: str, medium: str, campaign: str, kind: str
    ) -> dict[str, str]:
        if not (referrer or clicks or source or medium or campaign or kind in VISITS):
            return {}
        origin = _host(referrer)
        internal = bool(origin) and self._is_internal(origin, host)
        named = [self._known.click_ids[name] for name in clicks.split(",") if name]
        of_host = ("", "") if internal or not origin else self._known.of_host(origin)
        of_name = self._known.of_name(source.lower()) if source else ("", "")
        of_click = self._known.of_name(named[0].source) if named else ("", "")
        kind_of, name = next((found for found in (of_name, of_host, of_click) if found[0]), ("", ""))
        name = name or self._known.aliases.get(source.lower(), source.lower()) or ("" if internal else origin)
        paid = PAID_MEDIUM.match(medium.lower()) is not None or any(click.paid for click in named)
        told = {"referrer_class": "internal" if internal else _class(origin, of_host[0])}
        if name:
            told["source"] = name
        if internal and not (source or medium or campaign or named):
            return told
        facts = {"kind": kind_of, "source": name, "medium": medium.lower(), "campaign": campaign.lower()}
        told["channel"] = self._channel(facts, paid, bool(origin) and not internal)
        return told

    def _channel(self, facts: dict[str, str], paid: bool, referrer: bool) -> str:
        rules = self._known.rules
        fits = (rule.channel for rule in rules if _fits(rule, facts, paid, referrer))
        given = any(facts[name] for name in ("source", "medium", "campaign"))
        return next(fits, "unassigned" if given else "direct")

    def _is_internal(self, origin: str, host: str) -> bool:
        host = host.lower().removeprefix("www.").partition(":")[0]
        return any(origin == own or origin.endswith(f".{own}") for own in (host, *self._internal) if own)


def _fits(rule: Channel, facts: dict[str, str], paid: bool, referrer: bool) -> bool:
    if rule.paid not in (None, paid) or rule.referrer not in (None, referrer):
        return False
    if rule.kind and facts["kind"] not in rule.kind:
        return False
    wanted = {"source": rule.source, "medium": rule.medium, "campaign": rule.campaign}
    return all(not pattern or _compiled(pattern).matches(facts[name]) for name, pattern in wanted.items())


@lru_cache
def _compiled(pattern: str) -> Patterns:
    return Patterns([pattern])


def _class(origin: str, kind: str) -> str:
    if not origin:
        return "direct"
    return kind if kind in CLASSES else "other"


def _host(url: str) -> str:
    """The host of a referrer in lower case, without `www.`."""
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.")
