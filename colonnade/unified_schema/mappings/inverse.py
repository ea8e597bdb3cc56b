"""Rows back to the events they came from: the lossless contract (specification 2.8).

A row is a plain dictionary of its columns: texts, numbers, booleans, `bytes`; times as nanoseconds since 1970; `id` as
16 bytes; JSON columns as their text; `labels` text to text; `attributes` key to (kind, text) with the kinds of
`ValueKind` in the native part. Absent columns may be missing, None or empty.

What comes back is the input up to key order, the print form of numbers and what a mapping says it leaves out: secrets,
removed control characters, what a request for privacy took away, credentials in URLs.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

from colonnade.unified_schema.columns import columns
from colonnade.unified_schema.mappings.model import Field, Home, Mapping, Part, path_keys

Row = dict[str, Any]
Event = dict[str, Any]

_MISSING: Final = object()
_TYPES: Final = {column.name: column.type for column in columns()}
_NANOS: Final = 1_000_000_000


def choose(row: Row, mappings: Iterable[Mapping]) -> Mapping:
    """The mapping that made a row. Raises KeyError."""
    source, form = row["event_source"], _notes(row).get("form")
    for mapping in mappings:
        if mapping.source == source and mapping.form == form:
            return mapping
    raise KeyError(f"no mapping makes rows of event_source {source!r}" + (f", form {form!r}" if form else ""))


def restore(mapping: Mapping, rows: Sequence[Row]) -> Event:
    """The event that these rows came from: one row, or all rows of a fan-out in order."""
    return _Restoring(mapping, rows).event()


def _loads(text: str) -> Any:
    return json.loads(text)


def _notes(row: Row) -> dict[str, Any]:
    context = row.get("context")
    value: Any = _loads(context) if context else {}
    return cast("dict[str, dict[str, Any]]", value).get("$src", {}) if isinstance(value, dict) else {}


class _Restoring:
    """One event's rows while it is put together."""

    def __init__(self, mapping: Mapping, rows: Sequence[Row]) -> None:
        self.mapping = mapping
        self.rows = rows
        self.row = dict(rows[0])
        context = self.row.get("context")
        self.context: dict[str, Any] = _loads(context) if context else {}
        self.notes: dict[str, Any] = self.context.pop("$src", {})
        self.absent = set(self.notes.get("absent", ()))
        for name in self.context.pop("$enrich", {}).get("columns", ()):
            column, _, key = name.partition(".")
            self.context.pop(key, None) if key else self.row.pop(column, None)
        self.restored: Event = {}

    def event(self) -> Event:
        later: list[Field] = []
        for field in self.mapping.fields:
            if field.plus or field.until or field.between or field.default or field.home.kind == "same":
                later.append(field)
            else:
                self.field(field, self.row)
        for field in later:
            self.field(field, self.row)
        self.fan_in()
        if self.mapping.rest:
            self.unnamed(self.mapping.rest)
        return _over(self.restored, self.notes.get("extra", {}))

    def field(self, field: Field, row: Row, notes: dict[str, Any] | None = None, into: Event | None = None) -> None:
        """Puts one value where it came from."""
        if field.home.kind in ("none", "within", "rows"):
            return
        notes = self.notes if notes is None else notes
        event = self.restored if into is None else into
        if field.src in notes:
            value = notes[field.src]
        elif (field.label or field.path) in notes.get("absent", ()):
            return
        else:
            value = self.value(field, row)
            if value is _MISSING:
                if field.empty is None:
                    return
                value = _loads(field.empty)
        _put(event, path_keys(field.path), value)

    def value(self, field: Field, row: Row) -> Any:
        home = field.home
        match home.kind:
            case "column":
                return self.column(field, row)
            case "member":
                return _dig(self.column_object(home.name), home.path)
            case "bag":
                return self.bag(home)
            case "label":
                return _entries(row, "labels").get(home.name, _MISSING)
            case "labels":
                return self.entries("labels", home) or _MISSING
            case "attribute":
                entry = _entries(row, "attributes").get(home.name)
                return _MISSING if entry is None else _typed(*entry)
            case "attributes":
                return self.entries("attributes", home) or _MISSING
            case "same":
                return _dig(self.restored, path_keys(home.name))
            case "ns":
                return _MISSING if home.optional else row.get("ns") or _MISSING
            case "id":
                return str(uuid.UUID(bytes=bytes(row["id"])))
            case "source":
                return home.name
            case _:
                return _MISSING

    def column(self, field: Field, row: Row) -> Any:
        stored = row.get(field.home.name)
        if stored is None or stored == "":
            return _MISSING
        if field.time:
            return stored // 1_000_000 if field.time == "ms" else print_time(stored)
        if field.words:
            back = {ours: theirs for theirs, ours in reversed(field.words)}
            word: Any = back.get(stored, _MISSING)
            return int(word) if word is not _MISSING and field.is_ == "integer" else word
        if field.default and stored == _dig(self.restored, path_keys(field.default)):
            return _MISSING
        if field.between and stored == self.distance(field.between):
            return _MISSING
        if field.plus:
            return stored + _dig(self.restored, path_keys(field.plus))
        if field.until:
            return _dig(self.restored, path_keys(field.until)) - stored
        if isinstance(stored, str) and field.made_of and field.made_of["op"] == "canonical" and stored[:1] in "{[":
            return _loads(stored)
        return stored

    def distance(self, between: tuple[str, str]) -> float | None:
        homes = {field.path: field.home.name for field in self.mapping.fields}
        start, end = (self.row.get(homes[path]) for path in between)
        return None if start is None or end is None else (end - start) / 1e6

    def column_object(self, name: str) -> dict[str, Any]:
        if name == "context":
            return self.context
        text = self.row.get(name)
        return _loads(text) if text else {}

    def bag(self, home: Home) -> Any:
        if home.name == "context":
            bag = {_undoubled(key): value for key, value in self.context.items()}
            return bag or (_MISSING if self.notes or not self.row.get("context") else {})
        stored = self.row.get(home.name)
        if not stored:
            return _MISSING
        if home.name == "replay_data":
            import zstandard

            return _loads(zstandard.ZstdDecompressor().decompress(stored).decode())
        return _loads(stored)

    def entries(self, column: str, home: Home) -> dict[str, Any]:
        """The source's own entries of a map: those with a home of their own left out."""
        named = {field.home.name for field in self.mapping.fields if field.home.kind in ("label", "attribute")}
        found = _entries(self.row, column)
        own = {key: value for key, value in found.items() if not key.startswith("$") or key.startswith("$$")}
        typed = {k: _typed(*v) if column == "attributes" else v for k, v in own.items() if k not in named}
        return {_undoubled(key): value for key, value in typed.items()}

    def unnamed(self, column: str) -> None:
        """Members that no field names, at the event's top level."""
        named = {
            field.home.path[0]
            for field in self.mapping.fields
            if field.home.kind == "member" and field.home.name == column
        }
        for key, value in self.column_object(column).items():
            if key not in named:
                self.restored[key] = value

    def fan_in(self) -> None:
        if self.mapping.each:
            path, part = self.mapping.each
            items = [self.item(part, row) for row in self.rows if "i" in _notes(row)]
            _put(self.restored, path_keys(path), items)
        for part in self.mapping.fixed:
            made = [row for row in self.rows if _made_by(part, row)]
            for field in part.fields:
                for row in made:
                    self.field(field, row, _notes(row))
                # A part that made no row is told by the first one.
                if not made and field.src in self.notes:
                    _put(self.restored, path_keys(field.path), self.notes[field.src])

    def item(self, part: Part, row: Row) -> Event:
        item: Event = {}
        notes = _notes(row)
        for field in part.fields:
            self.field(field, row, notes, item)
        return _over(item, notes.get("item", {}))


def _made_by(part: Part, row: Row) -> bool:
    """Whether a fixed row says of itself that this part made it."""
    constants = [d for d in part.derived if d.made_of["op"] == "text" and d.home.kind == "column"]
    return all(row.get(derived.home.name) == derived.made_of["value"] for derived in constants)


def _entries(row: Row, column: str) -> dict[str, Any]:
    return cast("dict[str, Any]", row.get(column) or {})


def _typed(kind: int, text: str) -> Any:
    """An attribute's value; the kinds are those of `ValueKind`."""
    match kind:
        case 0:
            return None
        case 2 | 3 | 4 | 5 | 6:
            return _loads(text)
        case _:
            return text


def _undoubled(key: str) -> str:
    return key[1:] if key.startswith("$$") else key


def _dig(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _MISSING
        value = cast("dict[str, Any]", value)[key]
    return value


def _put(event: Event, path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        inner = event.get(key)
        if not isinstance(inner, dict):
            inner = event[key] = {}
        event = cast(Event, inner)
    known = event.get(path[-1])
    # A bag may come after members that were taken out of it.
    both = isinstance(known, dict) and isinstance(value, dict)
    event[path[-1]] = {**cast(Event, value), **cast(Event, known)} if both else value


def _over(event: Event, extra: Event) -> Event:
    """What no path named, back in the objects it came in."""
    for key, value in extra.items():
        known = event.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            _over(cast(Event, known), cast(Event, value))
        else:
            event[key] = value
    return event


def print_time(ns: int) -> str:
    """ISO 8601, UTC, with as few fraction digits of 0, 3, 6 and 9 as say everything."""
    seconds, nanos = divmod(ns, _NANOS)
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    for digits in (3, 6, 9):
        if nanos and nanos % 10 ** (9 - digits) == 0:
            text += f".{nanos // 10 ** (9 - digits):0{digits}d}"
            break
    return text + "Z"
