"""The attributes and resource processors, told again over official messages and plain dictionaries."""

from __future__ import annotations

import hashlib
import random
import re
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.differential.messages import KEYS, ODD_KEYS, TEXTS

Pairs = dict[str, AnyValue]
PATTERNS = [r"^http\.", r"\.id$", "user", r"^\$", "^$", "db|rpc"]


def records(request: Any) -> Iterator[Any]:
    """Everything that the `attributes` processor changes."""
    for group in next(iter(_lists(request))):
        for scope in next(iter(_lists(group))):
            for record in next(iter(_lists(scope))):
                kind = record.WhichOneof("data") if record.DESCRIPTOR.name == "Metric" else None
                yield from (
                    getattr(record, kind).data_points if kind else [record] if not hasattr(record, "gauge") else []
                )


def resources(request: Any) -> Iterator[Any]:
    for group in next(iter(_lists(request))):
        yield group.resource


def _lists(message: Any) -> Iterator[Any]:
    return (getattr(message, f.name) for f in message.DESCRIPTOR.fields if f.is_repeated)


def pairs_of(record: Any) -> Pairs:
    """The last value of a repeated key wins, in the place where the key came first."""
    found: Pairs = {}
    for pair in record.attributes:
        found[pair.key] = pair.value
    return {key: AnyValue.FromString(value.SerializeToString()) for key, value in found.items()}


def change(record: Any, actions: list[dict[str, Any]]) -> None:
    """Takes the actions on one record or resource."""
    pairs = pairs_of(record)
    for action in actions:
        take(pairs, **action)
    del record.attributes[:]
    for key, value in pairs.items():
        record.attributes.add(key=key).value.CopyFrom(value)


def take(pairs: Pairs, action: str, key: str = "", **given: Any) -> None:
    pattern = given.get("pattern", "")
    named = [name for name in pairs if re.search(pattern, name)] if pattern else []
    named += [key] if key else []
    match action:
        case "insert" | "update" | "upsert":
            wanted = {"insert": key not in pairs, "update": key in pairs, "upsert": True}[action]
            source = any_of(given["value"]) if "value" in given else pairs.get(given["from_attribute"])
            if source is None and "default_value" in given:
                source = any_of(given["default_value"])
            if wanted and source is not None:
                pairs[key] = AnyValue.FromString(source.SerializeToString())
        case "delete":
            for name in named:
                pairs.pop(name, None)
        case "hash":
            for name in named:
                if name in pairs:
                    pairs[name] = any_of(hashed(pairs[name]))
        case "extract":
            found = re.search(pattern, pairs[key].string_value) if _kind(pairs.get(key)) == "string_value" else None
            for name, text in (found.groupdict() if found else {}).items():
                pairs[name] = any_of(text or "")
        case "convert":
            if key in pairs and (value := converted(pairs[key], given["converted_type"])) is not None:
                pairs[key] = value


def any_of(value: Any) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case _:
            return AnyValue(string_value=value)


def _kind(value: AnyValue | None) -> str | None:
    return value.WhichOneof("value") if value is not None else None


def hashed(value: AnyValue) -> str:
    match _kind(value):
        case "string_value":
            data = value.string_value.encode()
        case "bool_value":
            data = bytes([value.bool_value])
        case "int_value":
            data = struct.pack("<q", value.int_value)
        case "double_value":
            data = struct.pack("<d", value.double_value)
        case _:
            data = b""
    return hashlib.sha1(data).hexdigest() if data else ""


def converted(value: AnyValue, to: str) -> AnyValue | None:
    kind = _kind(value)
    plain = getattr(value, kind) if kind else None
    if to == "string" and kind is None:
        return any_of("")
    if to == "string" and kind in ("bool_value", "int_value"):
        return any_of(str(plain).lower())
    if to == "string" and kind == "double_value":
        return any_of(go_double(value.double_value))
    if to == "int" and kind == "bool_value":
        return any_of(int(value.bool_value))
    if to == "int" and kind == "double_value":
        return any_of(saturated(value.double_value))
    if to == "int" and kind == "string_value" and re.fullmatch(r"[+-]?\d+", value.string_value, re.ASCII):
        number = int(value.string_value)
        return any_of(number) if -(2**63) <= number < 2**63 else None
    if to == "double" and kind in ("bool_value", "int_value"):
        return any_of(float(plain))
    if to == "double" and kind == "string_value":
        return double_of(value.string_value)
    return None


def double_of(text: str) -> AnyValue | None:
    if not re.fullmatch(
        r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|nan|inf|infinity)", text, re.I | re.ASCII
    ):
        return None
    return any_of(float(text))


def saturated(value: float) -> int:
    if value != value:
        return 0
    return max(-(2**63), min(2**63 - 1, int(value))) if abs(value) < 2**80 else (2**63 - 1 if value > 0 else -(2**63))


def go_double(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if str(value).startswith("-") else "0"
    if 1e-6 <= abs(value) < 1e21:
        text = format(Decimal(repr(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = repr(value).split("e") if "e" in repr(value) else (repr(value), "0")
    return f"{mantissa.removesuffix('.0')}e{'+' if int(exponent) > 0 else '-'}{abs(int(exponent))}"


def random_actions(seed: int, request: Any, targets: list[Any]) -> list[dict[str, Any]]:
    """A few actions on keys that are there, that share a column with those, or that are strange."""
    source = random.Random(seed)
    there = sorted({pair.key for target in targets for pair in target.attributes})
    lists = {
        pair.key
        for target in targets
        for pair in target.attributes
        if _kind(pair.value) in ("array_value", "kvlist_value", "bytes_value", None)
    }

    def key() -> str:
        # Our own keys are no user's: none begins with a single dollar.
        return source.choice(there) if there and source.random() < 0.6 else source.choice([*KEYS, *ODD_KEYS])

    def value() -> Any:
        return source.choice([*TEXTS, "GET", "get", 200, -1, 2.5, True, False, "https://a.example/b?c=d", "x" * 300])

    actions = []
    for _ in range(source.randint(1, 6)):
        action = source.choice(["insert", "update", "upsert", "upsert", "delete", "hash", "extract", "convert"])
        made: dict[str, Any] = {"action": action, "key": key()}
        if action in ("insert", "update", "upsert"):
            if source.random() < 0.5:
                made["value"] = value()
            else:
                made["from_attribute"] = key() or "k"
                if source.random() < 0.3:
                    made["default_value"] = "fallback"
        elif action == "extract":
            made["pattern"] = r"(?P<user_part>\w+)\W*(?P<http_route>\w*)"
        elif action == "convert":
            made["converted_type"] = source.choice(["int", "double", "string"])
            if made["key"] in lists or made["key"] not in there:
                continue
        elif source.random() < 0.4:
            made["pattern"] = source.choice(PATTERNS)
            if source.random() < 0.5:
                del made["key"]
        if not made.get("key") and "pattern" not in made:
            continue
        if not made.get("key") and action not in ("delete", "hash"):
            continue
        actions.append(made)
    return actions
