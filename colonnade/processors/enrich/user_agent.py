"""Client, device and operating system, by user agent and client hints; crawlers are flagged, and kept."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow

from colonnade.processors.enrich.rows import Rows, joined

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow

HEADER = "http.request.header.sec-ch-ua"
HINTS = (
    (f"{HEADER}-platform", "context.userAgentData.platform"),
    (f"{HEADER}-platform-version", "context.userAgentData.platformVersion"),
    (f"{HEADER}-model", "context.userAgentData.model"),
    (f"{HEADER}-mobile", "context.userAgentData.mobile"),
    (f"{HEADER}-full-version-list", HEADER),
)
COLUMNS = (
    *("client_type", "client_name", "client_version", "device_type", "device_model", "device_brand"),
    *("os_name", "os_version", "bot_verified"),
)
_CLIS = frozenset({"curl", "Wget", "HTTPie"})
_SDKS = frozenset(
    {
        *("Python Requests", "Python aiohttp", "Python Urllib", "python-httpx", "okhttp", "Go-http-client", "axios"),
        *("Java", "Apache-HttpClient", "node-fetch", "Guzzle", "PHP", "Ruby", "got", "undici", "Dart"),
    }
)
_DESKTOPS = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "Debian", "FreeBSD", "macOS"})
_TVS = re.compile(r"TV|Roku|BRAVIA|CrKey|AFT[A-Z]|Tizen.*SmartHub|NetCast|WebOS", re.IGNORECASE)
_BRAND = re.compile(r'"([^"]+)"\s*;\s*v="([^"]+)"')
_WINDOWS_11 = 13


class Agent(NamedTuple):
    """What a user agent says, column by column (`COLUMNS`); empty for unknown."""

    client_type: str = ""
    client_name: str = ""
    client_version: str = ""
    device_type: str = ""
    device_model: str = ""
    device_brand: str = ""
    os_name: str = ""
    os_version: str = ""
    bot_verified: bool | None = None


class UserAgents:
    """Parses each distinct user agent once while it is remembered.

    Args:
        cache_size: how many are; one that is not costs about 15 us.
    """

    def __init__(self, cache_size: int) -> None:
        self._parse: Any = _parser()
        self._crawlers: Any = _crawlers()
        self._cache_size = cache_size
        self._known = _Known({}, [])

    def __call__(self, rows: Rows) -> None:
        """Fills client, device and operating system."""
        agents = rows.terms("http_user_agent")
        if not agents.any:
            return
        hints = rows.attributes(*HINTS)
        if any(hint.any for hint in hints):
            terms, texts = joined(agents, *hints)
        else:
            terms, texts = agents, agents.texts
        for column, values in zip(COLUMNS, self.columns(texts), strict=True):
            rows.fill_array(column, terms, values)

    def columns(self, texts: Sequence[str | tuple[str, ...]]) -> list[Any]:
        """Per column an array with what each text says (with its hints, where it is a tuple)."""
        known = self._known
        places = [known.places.get(text, -1) for text in texts]
        if -1 not in places:
            ids = pa.array(places, pa.int32())
            return [column.take(ids) for column in known.columns]
        if len(known.places) + len(texts) > self._cache_size:
            known = _Known({}, [])
        found = [
            known.agents[place] if (place := known.places.get(text, -1)) >= 0 else self._of(text) for text in texts
        ]
        # Other threads go on with what they have; what two of them find at once is kept of one.
        fresh = [(text, agent) for text, agent in zip(texts, found, strict=True) if text not in known.places]
        fresh = fresh[: max(self._cache_size - len(known.places), 0)]
        places_of = known.places | {text: len(known.agents) + n for n, (text, _) in enumerate(fresh)}
        self._known = _Known(places_of, known.agents + [agent for _, agent in fresh])
        return _columns(found)

    def _of(self, text: str | tuple[str, ...]) -> Agent:
        return self._agent(text) if isinstance(text, str) else self._agent(*text)

    def _agent(self, text: str, *hints: str) -> Agent:
        """`hints` are those of `HINTS`, or none."""
        agent = self._of_text(text) if text else Agent()
        if not text or not any(hints):
            return agent
        platform, version, model, mobile, brands = hints
        return _hinted(agent, _header(platform), _header(version), _header(model), _header(mobile), brands)

    def _of_text(self, text: str) -> Agent:
        parsed = self._parse(text)
        client, os, device = parsed.user_agent, parsed.os, parsed.device
        is_bot = self._crawlers.matches(text) or (device is not None and device.family == "Spider")
        name = client.family if client and client.family != "Other" else ""
        system = os.family if os and os.family != "Other" else ""
        brand, model = _device(device)
        return Agent(
            client_type=_client_type(name, is_bot),
            client_name=name,
            client_version=_version(client) if name else "",
            device_type="other" if is_bot else _device_type(text, system),
            device_model=model,
            device_brand=brand,
            os_name=system,
            os_version=_version(os) if system else "",
            bot_verified=True if is_bot else None,
        )


class _Known:
    """What is remembered; never changed.

    Args:
        places: of texts among `agents`.
    """

    def __init__(self, places: dict[Any, int], agents: list[Agent]) -> None:
        self.places, self.agents = places, agents

    @cached_property
    def columns(self) -> list[Any]:
        """Per column an array of all agents; made once nothing new has come for a while."""
        return _columns(self.agents)


def _columns(agents: list[Agent]) -> list[Any]:
    *texts, bots = zip(*agents, strict=True)
    return [*(pa.array(column, pa.utf8()).dictionary_encode() for column in texts), pa.array(bots, pa.bool_())]


def _client_type(name: str, is_bot: bool) -> str:
    if name in _CLIS or name in _SDKS:
        return "cli" if name in _CLIS else "sdk"
    return "browser" if name and not is_bot else ""


def _device(device: Any) -> tuple[str, str]:
    """Brand and model, of devices that have them."""
    if device is None or device.family in ("Other", "Spider") or not device.brand or device.brand.startswith("Generic"):
        return "", ""
    return device.brand, device.model or ""


def _device_type(text: str, system: str) -> str:
    if _TVS.search(text):
        return "tv"
    if "iPad" in text or "Tablet" in text or (system == "Android" and "Mobile" not in text):
        return "tablet"
    if "Mobi" in text or "iPhone" in text or system in ("iOS", "Android"):
        return "mobile"
    return "desktop" if system in _DESKTOPS else ""


def _version(part: Any) -> str:
    numbers = [part.major, part.minor, part.patch, getattr(part, "patch_minor", None)]
    return ".".join(number for number in numbers if number)


def _header(text: str) -> str:
    """A hint as a browser's header, an attribute (a list of one) or JavaScript has it."""
    return text.strip('[]"\\ ')


def _hinted(agent: Agent, platform: str, platform_version: str, model: str, mobile: str, brands: str) -> Agent:
    """Hints win: browsers freeze the user agent, and say there what they no longer say here."""
    changed: dict[str, Any] = {}
    if platform and platform != "Unknown":
        changed["os_name"] = "Mac OS X" if platform == "macOS" else platform
    if platform_version:
        changed["os_version"] = _windows(platform_version) if platform == "Windows" else platform_version
    if model:
        changed["device_model"] = model
    if mobile in ("?1", "true"):
        changed["device_type"] = "mobile"
    name, version = _brand(brands)
    if name:
        changed["client_name"], changed["client_version"] = name, version
        changed["client_type"] = agent.client_type or "browser"
    return agent._replace(**changed)


def _windows(version: str) -> str:
    major = int(version.split(".")[0]) if version.split(".")[0].isdigit() else 0
    return "11" if major >= _WINDOWS_11 else "10" if major > 0 else ""


def _brand(brands: str) -> tuple[str, str]:
    """The most telling of a list of brands: not the made-up one, and not the engine where the browser is named."""
    if brands.startswith("["):
        try:
            brands = ", ".join(map(str, json.loads(brands)))
        except ValueError:
            return "", ""
    listed = [(name, version) for name, version in _BRAND.findall(brands) if not re.search(r"not.*brand", name, re.I)]
    told = [brand for brand in listed if brand[0] != "Chromium"] or listed
    return told[0] if told else ("", "")


def _parser() -> Any:
    from ua_parser import Parser
    from ua_parser.loaders import load_builtins
    from ua_parser.regex import Resolver

    return Parser(Resolver(load_builtins())).parse


def _crawlers() -> Any:
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA

    from colonnade.native import Patterns

    return Patterns([str(entry["pattern"]) for entry in CRAWLER_USER_AGENTS_DATA])
