"""When two OTLP requests say the same.

Everything here that makes two different messages equal has its reason beside it; what has none must be equal.
"""

from __future__ import annotations

import struct
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

Canonical = Any


def canonical(request: Message) -> Canonical:
    """A request as nested dictionaries that compare equal when the requests say the same."""
    groups: dict[Any, dict[Any, Any]] = {}
    for resource_group in next(iter(repeated(request))):
        scopes = groups.setdefault(freeze(outer(resource_group, "resource")), {})
        for scope_group in next(iter(repeated(resource_group))):
            records = next(iter(repeated(scope_group)))
            # Equal resources, scopes and metrics are one group however often they are written down.
            key = freeze(outer(scope_group, "scope"))
            if scope_group.DESCRIPTOR.name == "ScopeMetrics":
                metrics = scopes.setdefault(key, {})
                for metric in records:
                    add_points(metrics, metric)
            else:
                scopes.setdefault(key, []).extend(value(record) for record in records)
    # A group without a record is no telemetry.
    return {
        resource: kept
        for resource, scopes in groups.items()
        if (kept := {scope: records for scope, records in scopes.items() if records})
    }


def repeated(message: Message) -> list[Any]:
    return [getattr(message, f.name) for f in message.DESCRIPTOR.fields if f.is_repeated]


def outer(group: Any, name: str) -> dict[str, Any]:
    """Resource or scope with the schema of their group."""
    return {name: value(getattr(group, name)), "schema_url": group.schema_url}


def add_points(metrics: dict[Any, list[Any]], metric: Any) -> None:
    kind = metric.WhichOneof("data")
    if kind is None:
        return  # A metric without points is no telemetry.
    identity = value(metric)
    data = getattr(metric, kind)
    identity[kind] = {k: v for k, v in value(data).items() if k != "data_points"}
    identity["kind"] = kind
    points = [value(point) for point in data.data_points]
    if points:
        metrics.setdefault(freeze(identity), []).extend(points)


def value(message: Message) -> dict[str, Any]:
    """The fields of a message that say something."""
    said: dict[str, Any] = {}
    for field, content in message.ListFields():
        if (
            field.message_type is not None
            and field.message_type.name == "KeyValue"
            and message.DESCRIPTOR.name != "KeyValueList"
        ):
            said[field.name] = attributes(content)
        elif field.is_repeated:
            said[field.name] = [
                value(item) if field.message_type is not None else scalar(field, item) for item in content
            ]
        elif field.message_type is not None:
            inner = value(content)
            # A message of defaults alone says what its absence says, unless it is the choice of a oneof.
            if inner or field.containing_oneof is not None:
                said[field.name] = inner
        else:
            said[field.name] = scalar(field, content)
    return said


def attributes(pairs: Any) -> dict[str, Any]:
    """Keys are unique by the protocol: of duplicates the last one counts. Their order means nothing."""
    # No value and an empty value are both the empty value.
    return {pair.key: value(pair.value) for pair in pairs}


def scalar(field: FieldDescriptor, content: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        # NaN has many bit patterns that JSON text cannot tell apart; zero has two that it can.
        return "NaN" if content != content else struct.pack("<d", content)
    return content


def freeze(content: Any) -> Any:
    """A hashable form."""
    if isinstance(content, dict):
        return tuple(sorted((key, freeze(item)) for key, item in content.items()))
    if isinstance(content, list):
        return tuple(freeze(item) for item in content)
    return (type(content).__name__, content)


def difference(left: Canonical, right: Canonical, path: str = "") -> str:
    """The first place where two canonical forms differ, for people."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(k for k in right if k not in left)]:
            if key not in left:
                return f"{path}/{key} only on the right: {right[key]!r}"
            if key not in right:
                return f"{path}/{key} only on the left: {left[key]!r}"
            if found := difference(left[key], right[key], f"{path}/{key}"):
                return found
        return ""
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            if found := difference(a, b, f"{path}[{index}]"):
                return found
        return ""
    return "" if left == right else f"{path}: {left!r} != {right!r}"
