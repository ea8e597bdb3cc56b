"""Verbosity `normal`: about one line for each record, as the Collector's debug exporter writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

from colonnade.exporters.debug.otlp import Message
from colonnade.exporters.debug.values import bound, fixed, growth, identifier, plain, shortest


def traces(resources: Iterable[Message]) -> Iterator[str]:
    """Lines of ResourceSpans."""
    for number, resource in enumerate(resources):
        yield f"ResourceTraces #{number}{_resource(resource)}"
        for inner, scope in enumerate(resource["scope_spans"]):
            yield f"ScopeTraces #{inner}{_scope(scope)}"
            for span in scope["spans"]:
                head = f"{span['name']} {identifier(span['trace_id'])} {identifier(span['span_id'])}"
                yield " ".join([head, *_attributes(span["attributes"])])


def logs(resources: Iterable[Message]) -> Iterator[str]:
    """Lines of ResourceLogs."""
    for number, resource in enumerate(resources):
        yield f"ResourceLog #{number}{_resource(resource)}"
        for inner, scope in enumerate(resource["scope_logs"]):
            yield f"ScopeLog #{inner}{_scope(scope)}"
            for record in scope["log_records"]:
                yield f"{plain(record['body'])} {' '.join(_attributes(record['attributes']))}"


def metrics(resources: Iterable[Message]) -> Iterator[str]:
    """Lines of ResourceMetrics."""
    for number, resource in enumerate(resources):
        yield f"ResourceMetrics #{number}{_resource(resource)}"
        for inner, scope in enumerate(resource["scope_metrics"]):
            yield f"ScopeMetrics #{inner}{_scope(scope)}"
            for metric in scope["metrics"]:
                for point, value in _points(metric):
                    yield f"{metric['name']}{{{','.join(_attributes(point['attributes']))}}} {value}"


def _points(metric: Message) -> Iterator[tuple[Message, str]]:
    """Each point of a metric, and what it says."""
    kinds = {
        "gauge": _number,
        "sum": _number,
        "histogram": _histogram,
        "exponential_histogram": _exponential_histogram,
        "summary": _summary,
    }
    for kind, told in kinds.items():
        for point in metric.get(kind, {}).get("points", []):
            yield point, " ".join(told(point))


def _number(point: Message) -> Iterator[str]:
    if "as_int" in point:
        yield str(point["as_int"])
    elif "as_double" in point:
        yield shortest(point["as_double"])
    else:
        yield ""


def _totals(point: Message) -> Iterator[str]:
    yield f"count={point['count']}"
    for name in ("sum", "min", "max"):
        if name in point:
            yield f"{name}={shortest(point[name])}"


def _histogram(point: Message) -> Iterator[str]:
    yield from _totals(point)
    bounds = point["explicit_bounds"][: len(point["bucket_counts"])]
    for count, upper in zip_longest(point["bucket_counts"], bounds):
        yield f"{count}" if upper is None else f"le{shortest(upper)}={count}"


def _exponential_histogram(point: Message) -> Iterator[str]:
    yield from _totals(point)
    factor = growth(point["scale"])
    negative, positive = point["negative"], point["positive"]
    below: list[int] = negative["bucket_counts"]
    for at, count in reversed(list(enumerate(below))):
        yield f"le{shortest(-bound(negative['offset'] + at, factor))}={count}"
    if point["zero_count"]:
        yield f"zero={point['zero_count']}"
    for at, count in enumerate(positive["bucket_counts"]):
        yield f"le{shortest(bound(positive['offset'] + at + 1, factor))}={count}"


def _summary(point: Message) -> Iterator[str]:
    yield f"count={point['count']}"
    yield f"sum={fixed(point['sum'])}"
    for quantile in point["quantiles"]:
        yield f"q{shortest(quantile['quantile'])}={shortest(quantile['value'])}"


def _resource(resource: Message) -> str:
    url = resource["schema_url"]
    return "".join(
        f" {text}" for text in [f"[{url}]" if url else "", *_attributes(resource["resource"]["attributes"])] if text
    )


def _scope(scope: Message) -> str:
    inner, url = scope["scope"], scope["schema_url"]
    name = inner["name"] + (f"@{inner['version']}" if inner["version"] else "")
    return "".join(f" {text}" for text in [name, f"[{url}]" if url else "", *_attributes(inner["attributes"])] if text)


def _attributes(attributes: Iterable[Message]) -> list[str]:
    return [f"{attribute['key']}={plain(attribute['value'])}" for attribute in attributes]
