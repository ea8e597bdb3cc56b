"""The visitors of the demo's shop, as their browsers, the shop's backend and its Prometheus tell of them.

Segment calls, browser beacons (page events, web vitals, resource timings, session replay), JSON events and remote write
1.0, each to the default endpoint of its receiver, with the keys that the shipped `pipeline.yaml` has for trying out.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import struct
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import click

Json = dict[str, Any]

TIMEOUT_S: Final = 30.0
SEGMENT_KEY, BEACON_KEY, EVENTS_TOKEN = "try-segment", "try-beacon", "try-events"
PRODUCTS: Final = {"walnut-desk": 420.0, "reading-lamp": 49.0, "oak-shelf": 130.0, "wool-rug": 210.0, "clay-vase": 35.0}
CAMPAIGNS: Final = ("", "?utm_source=newsletter&utm_medium=email&utm_campaign=autumn", "?gclid=demo-click")
AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari",
)
ORIGIN: Final = "https://shop.example"


class Post(NamedTuple):
    """One request. `rows`: what it becomes."""

    source: str
    url: str
    body: bytes
    headers: dict[str, str]
    rows: int


class Visitor(NamedTuple):
    """Who comes, when, and what they do."""

    user: str
    anonymous: str
    session: str
    agent: str
    landing: str
    at_s: float
    products: tuple[str, ...]
    orders: bool


def visitors(seed: int, visits: int, now_s: float, minutes: int = 10) -> list[Visitor]:
    """The same for the same seed, but for ids and times."""
    chance = random.Random(f"events {seed}")
    found: list[Visitor] = []
    for number in range(visits):
        products = tuple(chance.sample(sorted(PRODUCTS), chance.randint(1, 3)))
        landing = f"{ORIGIN}/products/{products[0]}{chance.choice(CAMPAIGNS)}"
        user, agent = f"u-{chance.randrange(200)}", chance.choice(AGENTS)
        at_s = now_s - minutes * 60 + number * minutes * 60 / max(visits, 1)
        orders = chance.random() < 0.5
        found.append(Visitor(user, uuid.uuid4().hex, f"s-{uuid.uuid4()}", agent, landing, at_s, products, orders))
    return found


def posts(endpoints: dict[str, str], who: list[Visitor], seed: int, now_s: float) -> Iterator[Post]:
    """What is sent to whom; `endpoints` by receiver."""
    chance = random.Random(f"measures {seed}")
    if url := endpoints.get("segment"):
        yield from _segment(url, who)
    if url := endpoints.get("beacon"):
        yield from _beacons(url, who, chance)
    if url := endpoints.get("events"):
        yield from _events(url, who, chance)
    if url := endpoints.get("prometheus_remote_write"):
        yield _remote_write(url, now_s, chance)


def send(post: Post) -> str:
    """Gives why it was not taken, or nothing. Raises OSError where nobody is there."""
    request = urllib.request.Request(post.url, post.body, post.headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            said: Json = json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return f"{post.url} answered {error.code}: {error.read(300).decode(errors='replace')}"
    return json.dumps(said["errors"][:1]) if said.get("rejected") else ""


def tell(endpoints: dict[str, str], seed: int, visits: int, now_s: float) -> Iterator[str]:
    """Sends everything; gives a line per source. Raises click.ClickException where something is refused."""
    nouns = {"prometheus_remote_write": "samples"}
    sent, nobody = dict.fromkeys(endpoints, 0), dict[str, str]()
    for post in posts(endpoints, visitors(seed, visits, now_s), seed, now_s):
        if post.source in nobody:
            continue
        try:
            refused = send(post)
        except OSError:
            nobody[post.source] = endpoints[post.source]
            continue
        if refused:
            raise click.ClickException(refused)
        sent[post.source] += post.rows
    for source, rows in sent.items():
        if source in nobody:
            yield f"left out {source}: nobody takes it at {nobody[source]}"
        else:
            yield f"sent {rows:>5} {nouns.get(source, 'events')} ({source})"


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


# --- product analytics


def _segment(url: str, who: list[Visitor]) -> Iterator[Post]:
    headers = {
        "Content-Type": "application/json",
        "Authorization": "Basic " + base64.b64encode(f"{SEGMENT_KEY}:".encode()).decode(),
    }
    for visitor in who:
        calls = [*_calls(visitor)]
        last_s = visitor.at_s + 20 * len(calls)
        body = _json({"batch": calls, "sentAt": _time(last_s)})
        yield Post("segment", f"{url}/v1/batch", body, headers, len(calls))


def _calls(visitor: Visitor) -> Iterator[Json]:
    at_s = visitor.at_s

    def call(type: str, **more: Any) -> Json:
        nonlocal at_s
        at_s += 20
        return {
            "type": type,
            "messageId": f"demo-{uuid.uuid4()}",
            "anonymousId": visitor.anonymous,
            "userId": visitor.user,
            "timestamp": _time(at_s),
            "context": {
                "library": {"name": "colonnade-demo", "version": "1"},
                "userAgent": visitor.agent,
                "locale": "en-GB",
                "page": {"url": visitor.landing, "path": f"/products/{visitor.products[0]}"},
            },
            **more,
        }

    yield call("identify", traits={"email": f"{visitor.user}@mail.example", "plan": "guest"})
    yield call("page", name="Product", properties={"url": visitor.landing, "title": visitor.products[0]})
    for product in visitor.products:
        yield call("track", event="Product Viewed", properties={"product_id": product, "price": PRODUCTS[product]})
    if visitor.orders:
        total = sum(PRODUCTS[product] for product in visitor.products)
        yield call("track", event="Order Completed", properties={"revenue": total, "currency": "EUR"})


# --- browsers


def _beacons(url: str, who: list[Visitor], chance: random.Random) -> Iterator[Post]:
    def post(path: str, visitor: Visitor, body: Any, rows: int, packed: bool = False) -> Post:
        headers = {"Content-Type": "text/plain;charset=UTF-8", "User-Agent": visitor.agent, "Origin": ORIGIN}
        data = gzip.compress(_json(body)) if packed else _json(body)
        return Post("beacon", f"{url}{path}?key={BEACON_KEY}", data, headers, rows)

    for number, visitor in enumerate(who):
        views = [_page_event(visitor, "page_view", 0, {"title": visitor.products[0]})]
        views.append(_page_event(visitor, "click", 9, {"tag": "BUTTON", "id": "buy", "text": "Buy"}))
        yield post("/batch", visitor, {"events": views}, len(views))
        vitals = [_vital(visitor, name, value) for name, value in _measures(chance)]
        yield post("/vitals", visitor, vitals, len(vitals))
        timing = {
            "name": f"{ORIGIN}/assets/shop.js",
            "initiatorType": "script",
            "startTime": 12.5,
            "duration": chance.uniform(5, 80),
            "sessionId": visitor.session,
        }
        yield post("/timing", visitor, [timing], 1)
        if number % 10 == 0:
            chunk = _replay(visitor)
            yield post("/replay", visitor, chunk, len(chunk["events"]), packed=True)


def _page_event(visitor: Visitor, type: str, after_s: float, properties: Json) -> Json:
    return {
        "eventId": str(uuid.uuid4()),
        "eventType": type,
        "timestamp": round((visitor.at_s + after_s) * 1000),
        "tenantId": BEACON_KEY,
        "sessionId": visitor.session,
        "userId": visitor.user,
        "pageUrl": visitor.landing,
        "referrer": None,
        "deviceInfo": _device(visitor),
        "properties": properties,
    }


def _device(visitor: Visitor) -> Json:
    if "iPhone" in visitor.agent:
        return {"deviceType": "mobile", "os": "iOS", "browser": "Safari"}
    return {"deviceType": "desktop", "os": "Windows", "browser": "Chrome"}


def _measures(chance: random.Random) -> list[tuple[str, float]]:
    return [
        ("LCP", chance.lognormvariate(7.4, 0.4)),
        ("INP", chance.lognormvariate(4.6, 0.6)),
        ("CLS", abs(chance.gauss(0.04, 0.05))),
    ]


def _vital(visitor: Visitor, name: str, value: float) -> Json:
    metric = {
        "name": name,
        "value": value,
        "delta": value,
        "rating": "good" if value < {"LCP": 2500, "INP": 200, "CLS": 0.1}[name] else "needs-improvement",
        "id": f"v5-{uuid.uuid4()}",
        "navigationType": "navigate",
    }
    return {"metric": metric, "context": {"sessionId": visitor.session, "pageUrl": visitor.landing}}


def _replay(visitor: Visitor) -> Json:
    at_ms = round(visitor.at_s * 1000)
    document: Json = {"type": 0, "id": 1, "childNodes": []}
    recorded: list[Json] = [
        {"type": 4, "data": {"href": visitor.landing, "width": 1280, "height": 800}, "timestamp": at_ms},
        {"type": 2, "data": {"node": document, "initialOffset": {"left": 0, "top": 0}}, "timestamp": at_ms + 80},
        {"type": 3, "data": {"source": 3, "id": 1, "x": 0, "y": 640}, "timestamp": at_ms + 900},
    ]
    context = {"sessionId": visitor.session, "sequence": 0, "pageUrl": visitor.landing}
    return {"context": context, "events": recorded}


# --- the backend


def _events(url: str, who: list[Visitor], chance: random.Random) -> Iterator[Post]:
    events: list[Json] = []
    for visitor in who:
        if not visitor.orders:
            continue
        events.append(
            {
                "log_id": str(uuid.uuid4()),
                "timestamp": _time(visitor.at_s + 120),
                "service": "warehouse",
                "level": "info",
                "message": f"packed {', '.join(visitor.products)}",
                "logger_name": "packing",
                "context": {"user_id": visitor.user},
                "metadata": {},
            }
        )
    events.append(
        {
            "metric_id": str(uuid.uuid4()),
            "timestamp": _time(who[-1].at_s if who else 0),
            "service": "warehouse",
            "environment": "demo",
            "metric_type": "gauge",
            "name": "shelf.free",
            "value": chance.randrange(100),
            "labels": {},
            "host_info": {"hostname": "wh-1", "ip": "10.0.0.1", "region": "eu"},
        }
    )
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {EVENTS_TOKEN}"}
    yield Post("events", f"{url}/api/v1/events", _json(events), headers, len(events))


# --- Prometheus


def _remote_write(url: str, now_s: float, chance: random.Random) -> Post:
    """A `prometheus.WriteRequest`: three series of ten samples."""
    import pyarrow

    written, samples = b"", 0
    for instance in ("web-1", "app-3", "app-5"):
        labels = {"__name__": "process_cpu_seconds_total", "instance": instance, "job": "shop"}
        series = b"".join(_field(1, _field(1, k.encode()) + _field(2, v.encode())) for k, v in labels.items())
        seconds = chance.uniform(10, 500)
        for back in range(9, -1, -1):
            seconds += chance.uniform(0, 3)
            at_ms = round((now_s - 15 * back) * 1000)
            series += _field(2, b"\x09" + struct.pack("<d", seconds) + b"\x10" + _varint(at_ms))
            samples += 1
        written += _field(1, series)
    body: bytes = pyarrow.compress(written, codec="snappy", asbytes=True)  # pyright: ignore
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    return Post("prometheus_remote_write", f"{url}/api/v1/write", body, headers, samples)


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
