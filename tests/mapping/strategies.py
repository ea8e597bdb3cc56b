"""Events of a mapping, as its sender may write them: fields absent, null, empty, zero, of another type, and unknown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from hypothesis import strategies as st

from colonnade.unified_schema.mappings import Mapping
from colonnade.unified_schema.mappings.model import Field, Part, path_keys

Json = Any
# Fields that an event does not have; those whose member at another place stands for them come back by themselves.
ABSENT: Final = object()

_EXTREMES: Final = (0, -0.0, 0.0, 1, 0.1, 100.0, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**30, 5e-324, 1.7e308)
_WILD = st.text(st.characters(), max_size=12)
NUMBERS = st.one_of(
    st.sampled_from(_EXTREMES), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False)
)
_ODD_TEXTS = st.sampled_from(["", "null", "{}", "[1]", '"', "http://", "//x?y#z", "not a url", "\ud800", "0", "é/😀"])
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, _WILD, _ODD_TEXTS)
KEYS = st.one_of(st.sampled_from(["$src", "$", "$$x", "$enrich", "a.b", "", "é", "ip", "0"]), _WILD)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
_MOMENTS = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))
_ENDS = st.sampled_from(["Z", "", "+00:00", "+05:30", "-0800", "z"])
ISO = st.builds(lambda moment, end: f"{moment.isoformat()}{end}", _MOMENTS, _ENDS)
MILLISECONDS = st.one_of(st.integers(-8_000_000_000_000, 8_000_000_000_000), st.just(0), st.just(1772600767123.5))

# Seconds below 10^11, milliseconds from there on.
EPOCHS = st.one_of(st.integers(-8_000_000_000, 8_000_000_000), st.integers(10**11, 8 * 10**12), st.just(1772600767.123))


def _valid(field: Field) -> st.SearchStrategy[Json]:
    """Values that the field's own checks let through."""
    if field.home.kind == "source":
        return st.just(field.home.name)
    if field.one_of:
        return st.sampled_from(field.one_of)
    if field.time:
        return {"iso": ISO, "ms": MILLISECONDS, "iso_or_epoch": st.one_of(ISO, EPOCHS)}[field.time]
    number = field.is_ == "number" or field.is_ == "integer"
    if field.words and not number:
        return st.one_of(st.sampled_from([word for word, _ in field.words]), _WILD)
    match field.is_:
        case "uuid":
            return st.one_of(st.uuids().map(str), st.uuids().map(lambda value: str(value).upper()))
        case "number":
            return NUMBERS
        case "integer":
            return st.one_of(st.integers(-(2**64), 2**64), st.integers(0, 20))
        case "boolean":
            return st.booleans()
        case "object":
            return OBJECTS
        case "list":
            return st.lists(VALUES, max_size=3)
        case "text":
            return st.one_of(_WILD, _ODD_TEXTS)
        case _:
            return VALUES


def _values(mapping: Mapping, field: Field, needed: bool) -> st.SearchStrategy[Json]:
    """What may stand at a field's place; a needed one is present."""
    valid = _valid(field)
    if needed:
        return valid.filter(_is_present)
    if field.required:
        return st.one_of(valid, st.none()) if field.empty == "null" else valid
    absent = st.one_of(st.just(ABSENT), st.none())
    checked = mapping.strict or field.time or field.is_ == "uuid" or field.one_of or field.home.kind == "source"
    return st.one_of(valid, absent) if checked else st.one_of(valid, absent, VALUES)


def _is_present(value: Json) -> bool:
    return value is not None and value != ""


def events(mapping: Mapping) -> st.SearchStrategy[dict[str, Json]]:
    """Events that the mapping takes."""
    return _event(mapping).map(_sanitised) if mapping.sanitise else _event(mapping)


def _sanitised(value: Json) -> Json:
    """Without the control characters that such a mapping takes out."""
    match value:
        case str():
            return "".join(character for character in value if character >= " " or character in "\t\n")
        case dict():
            return {_sanitised(key): _sanitised(inner) for key, inner in value.items()}
        case list():
            return [_sanitised(inner) for inner in value]
        case _:
            return value


@st.composite
def _event(draw: st.DrawFn, mapping: Mapping) -> dict[str, Json]:
    needed = {paths[draw(st.integers(0, len(paths) - 1))] for _, paths in mapping.require}
    fields = [field for field in mapping.all_fields if field.home.kind != "none"]
    read = _read_paths(mapping)
    event: dict[str, Json] = {}
    # What stands within others comes after them.
    for field in sorted(fields, key=lambda field: len(path_keys(field.path))):
        if field.home.kind == "rows" and mapping.each and field.path == mapping.each[0]:
            value: Json = draw(_items(mapping, mapping.each[1]))
        else:
            value = draw(_values(mapping, field, field.path in needed))
        if field.home.kind == "within":
            value = draw(_valid(field))
        _put(event, path_keys(field.path), value)
    for path in draw(st.lists(st.sampled_from(read), max_size=6)) if read else ():
        _add(event, path_keys(path), draw(VALUES))
    _extras(draw, event, fields)
    return event


@st.composite
def _items(draw: st.DrawFn, mapping: Mapping, part: Part) -> list[dict[str, Json]]:
    items: list[dict[str, Json]] = []
    for _ in range(draw(st.integers(0, 3))):
        item: dict[str, Json] = {}
        for field in part.fields:
            _put(item, path_keys(field.path), draw(_values(mapping, field, needed=False)))
        _extras(draw, item, part.fields)
        items.append(item)
    return items


def _read_paths(mapping: Mapping) -> list[str]:
    """Paths of bags that computed columns read."""
    homes = {field.path for field in mapping.all_fields}
    found = {path for derived in mapping.derived for path in _paths(derived.made_of)}
    return sorted(path for path in found - homes if "[" not in path)


def _paths(plain: Any) -> Iterator[str]:
    if isinstance(plain, dict):
        if plain.get("op") == "path":
            yield plain["path"]
        for value in plain.values():
            yield from _paths(value)
    elif isinstance(plain, list):
        for item in plain:
            yield from _paths(item)


def _put(event: dict[str, Json], path: Sequence[str], value: Json) -> None:
    """Places a value; beneath what is no object, it can not stand."""
    if value is ABSENT:
        return
    for key in path[:-1]:
        inner = event.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = event[key] = {}
        event = inner
    event[path[-1]] = value


def _add(event: dict[str, Json], path: Sequence[str], value: Json) -> None:
    """Places a value within a bag that is there."""
    bag = event.get(path[0])
    if isinstance(bag, dict) and len(path) > 1 and path[-1] not in bag:
        for key in path[1:-1]:
            inner = bag.setdefault(key, {})
            if not isinstance(inner, dict):
                return
            bag = inner
        bag.setdefault(path[-1], value)


def _extras(draw: st.DrawFn, event: dict[str, Json], fields: Iterable[Field]) -> None:
    """Members that no field names, beside those that are named."""
    paths = [path_keys(field.path) for field in fields]
    named = {path[0] for path in paths}
    for key, value in draw(st.dictionaries(KEYS, VALUES, max_size=2)).items():
        if key not in named:
            event.setdefault(key, value)
    for path in paths:
        parent = event.get(path[0])
        if len(path) > 1 and isinstance(parent, dict) and draw(st.integers(0, 5)) == 0:
            parent.setdefault("unnamed", draw(SCALARS))
