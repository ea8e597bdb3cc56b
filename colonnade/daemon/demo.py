"""`colonnade demo`: a small believable shop, sent as OTLP/JSON over HTTP, and its visitors (`demo_events.py`).

Three services (storefront, checkout, payments) serve visitors: traces that cross services, logs that carry their
trace, metrics of all five kinds. Only the standard library and plain dicts, so that what is sent can be read here.
The same `--seed` makes the same shop; only the times are new.
"""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

import click

from colonnade.daemon import demo_events

Json = dict[str, Any]

SIGNALS: Final = ("traces", "metrics", "logs")
TIMEOUT_S: Final = 30.0
# Receivers of other sources, by name: where each listens unless the file says otherwise.
OTHERS: Final = {"segment": 8080, "beacon": 8081, "events": 8082, "prometheus_remote_write": 9090}
MS: Final = 1_000_000
SECOND: Final = 1_000 * MS

INTERNAL, SERVER, CLIENT, PRODUCER = 1, 2, 3, 4
OK, ERROR = 1, 2
INFO, WARN, SEVERE = (9, "INFO"), (13, "WARN"), (17, "ERROR")
DELTA, CUMULATIVE = 1, 2

# Service: version, host, language.
SERVICES: Final[dict[str, tuple[str, str, str]]] = {
    "storefront": ("5.2.0", "web-1", "nodejs"),
    "checkout": ("2.4.1", "app-3", "python"),
    "payments": ("1.9.7", "app-5", "go"),
}
PRODUCTS: Final = ("walnut-desk", "reading-lamp", "oak-shelf", "wool-rug", "clay-vase")
BROWSERS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.5 Safari/605.1.15",
)


def value_of(value: bool | int | float | str | list[Any]) -> Json:
    """An OTLP/JSON AnyValue; 64-bit integers are written as strings there."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [value_of(one) for one in value]}}
    return {"stringValue": value}


def attributes_of(values: dict[str, Any]) -> list[Json]:
    """A list of OTLP/JSON KeyValue."""
    return [{"key": key, "value": value_of(value)} for key, value in values.items()]


def resource_of(service: str) -> Json:
    """The resource that all records of a service share."""
    version, host, language = SERVICES[service]
    return {
        "attributes": attributes_of(
            {
                "service.name": service,
                "service.namespace": "shop",
                "service.version": version,
                "service.instance.id": f"{service}-{host}",
                "deployment.environment.name": "demo",
                "host.name": host,
                "cloud.region": "eu-central-1",
                "telemetry.sdk.language": language,
            }
        )
    }


@dataclass
class Shop:
    """Records by service, as they come; `request(signal)` makes one export request of them."""

    seed: int
    now_ns: int
    spans: dict[str, list[Json]] = field(default_factory=lambda: {name: [] for name in SERVICES})
    logs: dict[str, list[Json]] = field(default_factory=lambda: {name: [] for name in SERVICES})
    metrics: dict[str, list[Json]] = field(default_factory=lambda: {name: [] for name in SERVICES})
    durations_s: list[float] = field(default_factory=list[float])
    orders: int = 0
    declined: int = 0

    def __post_init__(self) -> None:
        # Two streams: what happens is the seed's alone, ids are new with every run so that runs add up.
        self.random = random.Random(self.seed)
        self.ids = random.Random(f"{self.seed}/{self.now_ns}")

    # --- spans and logs

    def span(
        self,
        service: str,
        name: str,
        kind: int,
        start_ns: int,
        took_ms: float,
        trace_id: str,
        parent: str = "",
        **more: Any,
    ) -> str:
        """Adds a span and returns its id. `more`: attributes, events, failed (a text)."""
        span_id = f"{self.ids.getrandbits(64):016x}"
        record: Json = {
            "traceId": trace_id,
            "spanId": span_id,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(start_ns),
            "endTimeUnixNano": str(start_ns + int(took_ms * MS)),
            "attributes": attributes_of(more.get("attributes", {})),
        }
        if parent:
            record["parentSpanId"] = parent
        if more.get("events"):
            record["events"] = more["events"]
        if more.get("failed"):
            record["status"] = {"code": ERROR, "message": more["failed"]}
        self.spans[service].append(record)
        return span_id

    def log(
        self, service: str, level: tuple[int, str], time_ns: int, body: str, trace_id: str, span_id: str, **values: Any
    ) -> None:
        """Adds a log record that belongs to a span."""
        self.logs[service].append(
            {
                "timeUnixNano": str(time_ns),
                "observedTimeUnixNano": str(time_ns),
                "severityNumber": level[0],
                "severityText": level[1],
                "body": value_of(body),
                "attributes": attributes_of({key.replace("__", "."): value for key, value in values.items()}),
                "traceId": trace_id,
                "spanId": span_id,
            }
        )

    def visit(self, number: int, start_ns: int) -> None:
        """One visitor: looks at products, and two of three order."""
        user, browser = f"u-{self.random.randrange(200)}", self.random.choice(BROWSERS)
        session = f"s-{self.seed}-{number}"
        at = start_ns
        for product in self.random.sample(PRODUCTS, self.random.randint(1, 3)):
            at += self.look(at, product, {"user.id": user, "session.id": session, "user_agent.original": browser})
        if self.random.random() < 0.67:
            self.order(at, {"user.id": user, "session.id": session, "user_agent.original": browser})

    def look(self, at: int, product: str, visitor: Json) -> int:
        """A product page: one server span, one query. Returns how long the visitor stayed, in ns."""
        trace_id = f"{self.ids.getrandbits(128):032x}"
        took_ms = self.random.lognormvariate(2.8, 0.5)
        found = self.random.random() > 0.03
        root = self.span(
            *("storefront", "GET /products/{id}", SERVER, at, took_ms, trace_id),
            attributes={
                "http.request.method": "GET",
                "http.route": "/products/{id}",
                "url.full": f"https://shop.example/products/{product}?ref=home",
                "http.response.status_code": 200 if found else 404,
                "client.address": f"203.0.113.{self.random.randrange(1, 255)}",
                **visitor,
            },
        )
        self.span(
            *("storefront", "SELECT products", CLIENT, at + 2 * MS, took_ms * 0.6, trace_id, root),
            attributes={
                "db.system.name": "postgresql",
                "db.namespace": "shop",
                "db.collection.name": "products",
                "db.operation.name": "SELECT",
                "db.response.returned_rows": int(found),
            },
        )
        level, said = (INFO, f"showed {product}") if found else (WARN, f"no product {product}")
        self.log("storefront", level, at + 3 * MS, said, trace_id, root, product__id=product)
        self.durations_s.append(took_ms / 1e3)
        return int(self.random.uniform(2, 20) * SECOND)

    def order(self, at: int, visitor: Json) -> None:
        """Storefront calls checkout calls payments; now and then the card is declined or the bank is slow."""
        trace_id = f"{self.ids.getrandbits(128):032x}"
        fate = self.random.random()
        failed = "card declined" if fate < 0.08 else "bank did not answer" if fate < 0.11 else ""
        pay_ms = 2_000.0 if failed.startswith("bank") else self.random.lognormvariate(4.2, 0.4)
        status = 201 if not failed else 402 if failed == "card declined" else 504
        root = self.span(
            *("storefront", "POST /checkout", SERVER, at, pay_ms + 60, trace_id),
            attributes={
                "http.request.method": "POST",
                "http.route": "/checkout",
                "url.full": "https://shop.example/checkout",
                "http.response.status_code": status,
                "http.request.body.size": self.random.randint(200, 900),
                **visitor,
            },
            failed="" if status < 500 else failed,
        )
        called = {"http.request.method": "POST", "server.address": "checkout", "http.response.status_code": status}
        call = self.span(
            *("storefront", "POST checkout", CLIENT, at + 5 * MS, pay_ms + 50, trace_id, root), attributes=called
        )
        self.place(at + 8 * MS, pay_ms, trace_id, call, failed)

    def place(self, at: int, pay_ms: float, trace_id: str, parent: str, failed: str) -> None:
        """Checkout's side of an order."""
        total = round(self.random.uniform(20, 900), 2)
        placed = self.span(
            *("checkout", "place order", SERVER, at, pay_ms + 42, trace_id, parent),
            attributes={"order.total": total, "order.currency": "EUR", "order.items": self.random.randint(1, 5)},
            failed=failed,
        )
        self.log("checkout", INFO, at + MS, "placing order", trace_id, placed, order__total=total)
        self.pay(at + 7 * MS, pay_ms, trace_id, placed, failed)
        if failed:
            self.declined += 1
            return
        self.orders += 1
        self.span(
            *("checkout", "INSERT orders", CLIENT, at + int((pay_ms + 12) * MS), 6, trace_id, placed),
            attributes={"db.system.name": "postgresql", "db.collection.name": "orders", "db.operation.name": "INSERT"},
        )
        self.span(
            *("checkout", "send orders", PRODUCER, at + int((pay_ms + 20) * MS), 3, trace_id, placed),
            attributes={
                "messaging.system": "kafka",
                "messaging.destination.name": "orders",
                "messaging.operation.type": "send",
            },
        )
        self.durations_s.append((pay_ms + 60) / 1e3)

    def pay(self, at: int, took_ms: float, trace_id: str, parent: str, failed: str) -> None:
        """The call from checkout and payments' side of it."""
        code = "DEADLINE_EXCEEDED" if failed.startswith("bank") else "FAILED_PRECONDITION" if failed else "OK"
        rpc = {"rpc.system.name": "grpc", "rpc.method": "shop.Payments/Charge", "rpc.response.status_code": code}
        call = self.span(
            *("checkout", "shop.Payments/Charge", CLIENT, at, took_ms, trace_id, parent),
            attributes=rpc,
            failed=failed,
        )
        events: list[Json] = []
        if failed:
            kind = "BankTimeout" if failed.startswith("bank") else "CardDeclined"
            trace = f"{kind}: {failed}\n  at charge (payments/charge.go:88)"
            values = {"exception.type": kind, "exception.message": failed, "exception.stacktrace": trace}
            events = [{"timeUnixNano": str(at + 9 * MS), "name": "exception", "attributes": attributes_of(values)}]
        served = self.span(
            *("payments", "shop.Payments/Charge", SERVER, at + MS, took_ms - 2, trace_id, call),
            attributes=rpc,
            events=events,
            failed=failed,
        )
        self.span(
            *("payments", "ask bank", CLIENT, at + 4 * MS, took_ms - 8, trace_id, served),
            attributes={
                "server.address": "bank.example",
                "peer.service": "bank",
                "retry.attempts": [1, 2] if failed else [1],
            },
        )
        if failed:
            self.log("payments", SEVERE, at + 10 * MS, f"charge failed: {failed}", trace_id, served, card__brand="visa")

    # --- metrics

    def measure(self, minutes: int) -> None:
        """One data point a minute of a metric of each of OTLP's five kinds."""
        begin = self.now_ns - minutes * 60 * SECOND
        counted: Json = {"dataPoints": list[Json](), "aggregationTemporality": CUMULATIVE, "isMonotonic": True}
        level: Json = {"dataPoints": list[Json]()}
        spread: Json = {"dataPoints": list[Json](), "aggregationTemporality": DELTA}
        exponential: Json = {"dataPoints": list[Json](), "aggregationTemporality": DELTA}
        quantiles: Json = {"dataPoints": list[Json]()}
        share = max(1, len(self.durations_s) // minutes)
        for minute in range(1, minutes + 1):
            at = {"startTimeUnixNano": str(begin), "timeUnixNano": str(begin + minute * 60 * SECOND)}
            seen = self.durations_s[(minute - 1) * share : minute * share] or [0.01]
            place = {"attributes": attributes_of({"region": "eu", "vip": minute % 2 == 0})}
            counted["dataPoints"].append({**at, **place, "asInt": str(self.orders * minute // minutes)})
            level["dataPoints"].append(
                {"timeUnixNano": at["timeUnixNano"], "asDouble": round(40 + 20 * self.random.random(), 1)}
            )
            spread["dataPoints"].append({**at, **_histogram(seen)})
            exponential["dataPoints"].append({**at, **_exponential(seen)})
            quantiles["dataPoints"].append({**at, **_summary(seen)})
        self.metrics["checkout"].append({"name": "orders.placed", "unit": "{order}", "sum": counted})
        self.metrics["payments"].append({"name": "system.memory.utilization", "unit": "%", "gauge": level})
        self.metrics["payments"].append({"name": "charge.duration", "unit": "s", "exponentialHistogram": exponential})
        self.metrics["storefront"].append({"name": "http.server.request.duration", "unit": "s", "histogram": spread})
        self.metrics["storefront"].append({"name": "render.duration", "unit": "s", "summary": quantiles})

    # --- requests

    def request(self, signal: str) -> Json:
        """One ExportServiceRequest as OTLP/JSON."""
        plural, scoped, records, by_service = {
            "traces": ("resourceSpans", "scopeSpans", "spans", self.spans),
            "metrics": ("resourceMetrics", "scopeMetrics", "metrics", self.metrics),
            "logs": ("resourceLogs", "scopeLogs", "logRecords", self.logs),
        }[signal]
        return {
            plural: [
                {
                    "resource": resource_of(service),
                    scoped: [{"scope": {"name": f"shop.{service}", "version": SERVICES[service][0]}, records: items}],
                }
                for service, items in by_service.items()
                if items
            ]
        }

    def rows(self, signal: str) -> int:
        """How many rows the request becomes: one per span, log record or data point."""
        if signal == "traces":
            return sum(map(len, self.spans.values()))
        if signal == "logs":
            return sum(map(len, self.logs.values()))
        kinds = ("sum", "gauge", "histogram", "exponentialHistogram", "summary")
        metrics = [metric for items in self.metrics.values() for metric in items]
        return sum(len(metric[kind]["dataPoints"]) for metric in metrics for kind in kinds if kind in metric)


BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def _histogram(seen: list[float]) -> Json:
    counts = [0] * (len(BOUNDS_S) + 1)
    for one in seen:
        counts[sum(one > bound for bound in BOUNDS_S)] += 1
    return {
        "count": str(len(seen)),
        "sum": sum(seen),
        "min": min(seen),
        "max": max(seen),
        "explicitBounds": list(BOUNDS_S),
        "bucketCounts": [str(count) for count in counts],
    }


def _exponential(seen: list[float]) -> Json:
    """Scale 0: a bucket per power of two; all values are below 8 s and above 2**-8 s."""
    counts = [0] * 11
    for one in seen:
        counts[min(10, max(0, sum(one > 2.0**power for power in range(-7, 3))))] += 1
    positive = {"offset": -8, "bucketCounts": [str(count) for count in counts]}
    return {"count": str(len(seen)), "sum": sum(seen), "scale": 0, "zeroCount": "0", "positive": positive}


def _summary(seen: list[float]) -> Json:
    ordered = sorted(seen)
    quantiles = [{"quantile": q, "value": ordered[int(q * (len(ordered) - 1))]} for q in (0.0, 0.5, 0.9, 1.0)]
    return {"count": str(len(seen)), "sum": sum(seen), "quantileValues": quantiles}


def open_shop(seed: int, visits: int, now_ns: int, minutes: int = 10) -> Shop:
    """The shop of a seed: `visits` visitors spread over the last `minutes`."""
    shop = Shop(seed, now_ns)
    step_ns = minutes * 60 * SECOND // max(1, visits)
    for number in range(visits):
        # No visit reaches beyond now: three pages take at most a minute.
        shop.visit(number, now_ns - minutes * 60 * SECOND - 90 * SECOND + number * step_ns)
    shop.measure(minutes)
    return shop


def send(endpoint: str, signal: str, request: Json, headers: dict[str, str]) -> str:
    """Posts one request. Returns what the receiver says of rows that it did not take, normally nothing.

    Raises:
        click.ClickException: it did not take the request, or is not there.
    """
    url = f"{endpoint.rstrip('/')}/v1/{signal}"
    body = json.dumps(request, separators=(",", ":")).encode()
    sent = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers}, method="POST")
    try:
        with urllib.request.urlopen(sent, timeout=TIMEOUT_S) as answer:
            partial: Json = json.loads(answer.read() or b"{}").get("partialSuccess") or {}
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace")
        raise click.ClickException(f"{url} answered {error.code}: {said}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(f"nobody takes OTLP/HTTP at {url}: {reason}. Is `colonnade run` up?") from None
    return str(partial.get("errorMessage", ""))


NEXT: Final = """
Look at it (a few seconds later, when the rows have been stored):
  colonnade query "SELECT event_type, service_name, count() FROM events GROUP BY ALL ORDER BY ALL"
  colonnade query "SELECT event_name, quantile(0.95)(duration_ms) AS p95_ms, countIf(outcome = 'error') AS errors
                   FROM events WHERE event_type = 'trace' GROUP BY event_name ORDER BY p95_ms DESC"
  colonnade query "SELECT timestamp, service_name, log_level, log_message FROM events WHERE event_type = 'log'
                   AND trace_id IN (SELECT trace_id FROM events WHERE error_type = 'CardDeclined') ORDER BY timestamp"
"""


@click.command("demo")
@click.option("--endpoint", default="http://localhost:4318", show_default=True, help="Where OTLP/HTTP is taken.")
@click.option("--visits", type=click.IntRange(1, 100_000), default=60, show_default=True, help="Visitors of the shop.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same shop.")
@click.option(
    "--source",
    "sources",
    type=click.Choice(["otlp", *OTHERS]),
    multiple=True,
    default=["otlp", *OTHERS],
    help="What to send; repeatable. Default: all that somebody takes on this host, at its receiver's usual port.",
)
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Header to send along; repeatable.")
def demo_command(endpoint: str, visits: int, seed: int, sources: tuple[str, ...], headers: tuple[str, ...]) -> None:
    """Send a small believable shop to a running daemon: traces, metrics and logs, and what its visitors do."""
    sent = {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    where = endpoint if "://" in endpoint else f"http://{endpoint}"
    shop = open_shop(seed, visits, time.time_ns())
    nouns = {"traces": "spans", "metrics": "data points", "logs": "log records"}
    for signal in SIGNALS if "otlp" in sources else ():
        warning = send(where, signal, shop.request(signal), sent)
        click.echo(f"sent {shop.rows(signal):>5} {nouns[signal]}" + (f" (not all taken: {warning})" if warning else ""))
    host = urllib.parse.urlsplit(where).hostname
    others = {source: f"http://{host}:{OTHERS[source]}" for source in sources if source in OTHERS}
    for line in demo_events.tell(others, seed, visits, time.time()):
        click.echo(line)
    click.echo(f"the shop: {visits} visitors, {shop.orders} orders, {shop.declined} failed payments")
    click.echo(NEXT)
