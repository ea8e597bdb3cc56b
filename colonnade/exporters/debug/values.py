"""Values as Go's `fmt`, `time` and `encoding/json` print them, because the Collector is written in it."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from colonnade.exporters.debug.otlp import Message

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NS_PER_S = 1_000_000_000

_TYPE_NAMES = {
    "string": "Str",
    "bool": "Bool",
    "int": "Int",
    "double": "Double",
    "array": "Slice",
    "map": "Map",
    "bytes": "Bytes",
}


def kind_of(value: Message) -> str:
    """The one member that an AnyValue has; empty for none."""
    return next(iter(value), "")


def typed(value: Message) -> str:
    """`Str(text)`, `Int(42)`, `Map({...})`, `Empty()`."""
    return f"{_TYPE_NAMES.get(kind_of(value), 'Empty')}({plain(value)})"


def plain(value: Message) -> str:
    """An AnyValue as text."""
    kind = kind_of(value)
    held: Any = value.get(kind)
    match kind:
        case "":
            return ""
        case "string":
            return held
        case "bool":
            return "true" if held else "false"
        case "int":
            return str(held)
        case "double":
            return _json_number(held)
        case "bytes":
            return base64.b64encode(held).decode()
        case _:
            try:
                return _json(value)
            except ValueError:
                # Go's encoder refuses what JSON has no number for, and the Collector prints nothing then.
                return ""


def _json(value: Message) -> str:
    kind = kind_of(value)
    held: Any = value.get(kind)
    match kind:
        case "":
            return "null"
        case "string":
            return _json_text(held)
        case "bytes":
            return _json_text(base64.b64encode(held).decode()) if held else "null"
        case "double":
            if not math.isfinite(held):
                raise ValueError("not a number of JSON")
            return _json_number(held)
        case "array":
            return "[" + ",".join(_json(item) for item in held["values"]) + "]"
        case "map":
            entries = {entry["key"]: entry["value"] for entry in held["values"]}
            keys = sorted(entries, key=str.encode)
            return "{" + ",".join(f"{_json_text(key)}:{_json(entries[key])}" for key in keys) + "}"
        case _:
            return plain(value)


def _json_text(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _json_number(number: float) -> str:
    """As JavaScript prints numbers."""
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")
    if number and not 1e-6 <= abs(number) < 1e21:
        return _exponential(number, 1)
    return _positional(number)


def shortest(number: float) -> str:
    """Verb `%v`: the shortest text that reads back the same."""
    if not math.isfinite(number):
        return _not_finite(number)
    exponent = Decimal(repr(number)).adjusted() if number else 0
    return _positional(number) if -4 <= exponent < 6 else _exponential(number, 2)


def fixed(number: float) -> str:
    """Verb `%f`: six decimals."""
    return f"{number:.6f}" if math.isfinite(number) else _not_finite(number)


def _not_finite(number: float) -> str:
    return "NaN" if math.isnan(number) else ("+Inf" if number > 0 else "-Inf")


def _positional(number: float) -> str:
    text = format(Decimal(repr(number)), "f")
    return text.removesuffix(".0")


def _exponential(number: float, digits: int) -> str:
    """With at least so many digits of exponent."""
    sign, figures, _ = Decimal(repr(number)).normalize().as_tuple()
    exponent = Decimal(repr(number)).adjusted()
    mantissa = str(figures[0]) + ("." + "".join(map(str, figures[1:])) if len(figures) > 1 else "")
    return f"{'-' * sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):0{digits}d}"


def timestamp(unix_ns: int) -> str:
    """`2026-03-04 05:06:07.123456789 +0000 UTC`, of 64 bits of nanoseconds."""
    seconds, ns = divmod(unix_ns - (1 << 64) if unix_ns >> 63 else unix_ns, NS_PER_S)
    fraction = f".{ns:09d}".rstrip("0") if ns else ""
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def identifier(data: bytes) -> str:
    """Lower hex of a trace or span id; empty where it is none."""
    return data.hex() if any(data) else ""


def growth(scale: int) -> float:
    """The logarithm of what bounds of an exponential histogram grow by from bucket to bucket."""
    try:
        return math.ldexp(math.log(2), -scale)
    except OverflowError:
        return math.inf


def bound(index: int, growth: float) -> float:
    """The lower bound of a bucket; infinite beyond the range of floats."""
    try:
        return math.exp(index * growth)
    except OverflowError:
        return math.inf
