"""A mapping file to a `Mapping`: its sections, what it extends, and what can only be seen of the whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from colonnade.unified_schema.mappings import expressions
from colonnade.unified_schema.mappings.file import Entry, MappingError, Place, Problems, nearest, read
from colonnade.unified_schema.mappings.model import (
    BAGS,
    OWN_KEYS,
    Condition,
    Derived,
    Field,
    KeyPart,
    Mapping,
    Part,
    Reader,
    check_path,
    path_keys,
)

FOLDER: Final = Path(__file__).parent
_SECTIONS: Final = (
    "source", "form", "extends", "title", "description", "events", "when", "strict", "sanitise", "require", "id",
    "digest_without", "fields", "check", "columns", "rest", "rows", "fill", "clock", "personal",
)  # fmt: skip
_MERGED: Final = ("fields", "check", "columns")
_FILLS: Final = ("client_ip", "user_agent", "referer")
_CLOCK: Final = ("original", "timestamp", "sent", "received")
_SOURCE: Final = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*")


def load(path: Path) -> Mapping:
    """The mapping of a file.

    Raises:
        MappingError: the file, or what it extends, says something it may not; with file, line and column.
        OSError: a file can not be read.
    """
    return build(read(path.read_text(encoding="utf-8"), path.name), path)


def build(document: Entry, path: Path) -> Mapping:
    """The mapping of a document; `path` is where it stands, for what it extends."""
    sections = _extended(document, path, ())
    document = Entry(sections, document.place)
    problems = Problems()
    reader, given = Reader(problems), document.members()
    with problems.here():
        document.section(_SECTIONS, "a mapping")
    parts: dict[str, Any] = {}
    for key, read_section in _READERS.items():
        if key in given:
            with problems.here():
                parts |= read_section(given[key], reader)
    if "source" not in given:
        problems.found.append(
            document.wrong("a mapping needs source: the event_source of its rows, such as acme.order")
        )
    if "fields" not in given:
        problems.found.append(document.wrong("a mapping needs fields: the paths of the input and where they live"))
    checks = parts.pop("checks", ())
    parts = {"source": path.stem, "fields": (), **parts}
    parts["fields"] = (*parts["fields"], *checks)
    mapping = Mapping(name=path.stem, file=path.name, **parts)
    _check(mapping, reader)
    problems.end()
    return replace(mapping, title=mapping.title or mapping.source)


def _extended(document: Entry, path: Path, seen: tuple[str, ...]) -> dict[str, Entry]:
    """The sections of a file over those of the file it extends."""
    own = document.members("a mapping file: sections such as source, fields, columns")
    extends = own.get("extends")
    if extends is None:
        return own
    name = extends.text()
    if name in seen:
        raise extends.wrong(f"{name} extends itself")
    other = _find(name, path, extends)
    base = _extended(read(other.read_text(encoding="utf-8"), other.name), other, (*seen, name))
    sections = base | {key: entry for key, entry in own.items() if key != "extends"}
    for key in _MERGED:
        if key in base and key in own:
            both = base[key].members() | own[key].members()
            kept = {name: entry for name, entry in both.items() if entry.value is not None}
            sections[key] = Entry(kept, own[key].place)
    return sections


def _find(name: str, path: Path, entry: Entry) -> Path:
    for candidate in (path.parent / name, path.parent / f"{name}.yaml", FOLDER / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    raise entry.wrong(f"nothing to extend: no mapping {name!r}{nearest(name, known)}")


def _source(entry: Entry) -> str:
    source = entry.text()
    if not _SOURCE.fullmatch(source):
        raise entry.wrong(f"source is lower-case words with dots between, such as acme.order, not {source!r}")
    return source


def _paths(entries: list[Entry]) -> tuple[tuple[str, ...], ...]:
    return tuple(path_keys(check_path(entry)) for entry in entries)


def _listed(entry: Entry) -> list[Entry]:
    return entry.items() if isinstance(entry.value, list) else [entry]


def _condition(name: str, test: Entry) -> Condition:
    if isinstance(test.value, dict):
        given = test.section(("present",), f"when {name}")
        if "present" not in given:
            raise test.wrong(f"when {name} needs a value, a list of values or present: true")
        return Condition(name, "present" if given["present"].flag() else "absent")
    return Condition(name, "in", tuple(test.texts("a value or a list of values")))


def _required(item: Entry, reader: Reader) -> tuple[str, tuple[str, ...]]:
    paths = [reader.path(path) for path in _listed(item)]
    return " or ".join(paths), tuple(paths)


def _keys(entry: Entry, reader: Reader) -> tuple[tuple[KeyPart, ...], ...]:
    """`id`: parts of the natural key, or several lists of them, the first that is complete counting."""
    items = entry.items("a list of paths")
    alternatives = [item.items() for item in items] if items and isinstance(items[0].value, list) else [items]
    return tuple(tuple(_key_part(part, reader) for part in parts) for parts in alternatives)


def _key_part(entry: Entry, reader: Reader) -> KeyPart:
    if isinstance(entry.value, str):
        path = Entry(entry.value.removesuffix("?"), entry.place)
        return KeyPart({"op": "path", "path": reader.path(path)}, required=not entry.value.endswith("?"))
    if isinstance(entry.value, dict) and "digest" in entry.members():
        given = entry.section(("digest",), "a part of the id")
        return KeyPart(None, tuple(reader.path(path) for path in given["digest"].items()))
    return KeyPart(expressions.compile(entry, reader.path), required=True)


def _rest(entry: Entry) -> str:
    if entry.value not in ("data", "properties", "traits"):
        raise entry.wrong(f"rest is data, properties or traits, not {entry.shown}")
    return entry.text()


def _rows(entry: Entry, reader: Reader) -> dict[str, Any]:
    """`rows`: `each` item of a list, or a fixed list of rows."""
    if isinstance(entry.value, list):
        return {"fixed": tuple(_row(item, reader) for item in entry.items())}
    given = entry.section(("each", "fields", "columns"), "rows")
    if "each" not in given:
        raise entry.wrong("rows needs each: the path of a list; or it is a list of rows")
    path, inner = reader.path(given["each"]), Reader(reader.problems)
    part = Part(inner.fields(given.get("fields"), f"{path}[]."), inner.derived(given.get("columns")))
    _check_reads(part.fields, inner)
    return {"each": (path, part)}


def _row(entry: Entry, reader: Reader) -> Part:
    given = entry.section(("where", "fields", "columns"), "a row")
    where = reader.path(given["where"]) if "where" in given else None
    return Part(reader.fields(given.get("fields")), reader.derived(given.get("columns")), where)


def _fill(entry: Entry, reader: Reader) -> dict[str, Any]:
    fills: dict[str, Any] = {}
    for name, value in entry.section(_FILLS, "fill").items():
        fills[name] = reader.path(value) if isinstance(value.value, str) and name == "client_ip" else value.flag()
    return fills


def _clock(entry: Entry, reader: Reader) -> dict[str, str]:
    given = entry.section(_CLOCK, "clock")
    for name in _CLOCK:
        if name not in given:
            raise entry.wrong(f"clock needs {name}: a path")
    return {name: reader.path(value) for name, value in given.items()}


# Sections in the order in which they are read: each gives what it says of the `Mapping`.
_READERS: Final[dict[str, Callable[[Entry, Reader], dict[str, Any]]]] = {
    "source": lambda entry, _: {"source": _source(entry)},
    "form": lambda entry, _: {"form": entry.text() or None},
    "title": lambda entry, _: {"title": entry.text().strip()},
    "description": lambda entry, _: {"description": entry.text().strip()},
    "strict": lambda entry, _: {"strict": entry.flag()},
    "sanitise": lambda entry, _: {"sanitise": entry.flag()},
    "when": lambda entry, _: {"when": tuple(_condition(name, test) for name, test in entry.members().items())},
    "fields": lambda entry, reader: {"fields": reader.fields(entry)},
    "check": lambda entry, reader: {"checks": reader.checks(entry)},
    "columns": lambda entry, reader: {"derived": reader.derived(entry)},
    "rows": lambda entry, reader: _rows(entry, reader),
    "require": lambda entry, reader: {"require": tuple(_required(item, reader) for item in entry.items())},
    "id": lambda entry, reader: {"keys": _keys(entry, reader)},
    "digest_without": lambda entry, _: {"undigested": tuple(entry.texts())},
    "rest": lambda entry, _: {"rest": _rest(entry)},
    "fill": lambda entry, reader: {"fill": _fill(entry, reader)},
    "clock": lambda entry, reader: {"clock": _clock(entry, reader)},
    "personal": lambda entry, _: {"personal": _paths(entry.items())},
    "events": lambda entry, _: {"lists": _paths(_listed(entry))},
}


# --- what can only be seen of the whole


def _check(mapping: Mapping, reader: Reader) -> None:
    fields = [*mapping.all_fields]
    _check_reads(fields, reader, mapping.each[0] if mapping.each else None)
    inner = [*mapping.each[1].fields] if mapping.each else []
    _check_names([*fields, *inner], reader.problems)
    _check_homes(mapping, reader.problems)


def _check_reads(fields: list[Field] | tuple[Field, ...], reader: Reader, each: str | None = None) -> None:
    """A path that is read and lives nowhere would be lost. Fields that were found wrong are there all the same."""
    known = [*reader.failed, *(field.path for field in fields)]
    for path, entry in reader.read.items():
        failed = any(path == other or _within(path, other) or _within(other, path) for other in reader.failed)
        if failed or path == each or any(_covers(field, path) or _within(field.path, path) for field in fields):
            continue
        text = f"{path} is read but has no home{nearest(path, known)}: add it to fields (src keeps it)"
        reader.problems.found.append(entry.wrong(text))


def _covers(field: Field, path: str) -> bool:
    whole = field.home.kind in ("bag", "member", "src", "attribute", "column")
    return path == field.path or (whole and _within(path, field.path))


def _within(path: str, outer: str) -> bool:
    return path.startswith((f"{outer}.", f"{outer}["))


def _check_names(fields: list[Field], problems: Problems) -> None:
    """Each value needs a key of its own in `$src`."""
    seen: dict[str, Field] = {}
    for field in fields:
        if field.home.kind in ("none", "within", "rows"):
            continue
        other = seen.setdefault(field.src, field)
        if field.src in OWN_KEYS:
            text = f"field {field.path} needs src: another name than {field.src!r}, which is ours"
            problems.found.append(MappingError(field.place, text))
        elif other is not field:
            text = f"fields {other.path} and {field.path} share the name {field.src!r}: give one of them src: a name"
            problems.found.append(MappingError(field.place, text))


def _check_homes(mapping: Mapping, problems: Problems) -> None:
    """One home per value and one value per home."""
    for part in [Part(mapping.fields, mapping.derived), *mapping.fixed, *([mapping.each[1]] if mapping.each else [])]:
        outer = mapping.fields if part.fields is not mapping.fields else ()
        homes: dict[str, Place] = {}
        for field in (*outer, *part.fields):
            if field.home.kind in ("column", "bag", "label", "attribute", "member", "id"):
                if field.home.shown in homes:
                    text = f"{field.home.shown} is the home of two fields: one of them needs src"
                    problems.found.append(MappingError(field.place, text))
                homes[field.home.shown] = field.place
        for derived in part.derived:
            with problems.here():
                _check_derived(derived, homes)
        if part.fields is not mapping.fields:
            with problems.here():
                _check_row(part)
    with problems.here():
        _check_fixed(mapping.fixed)
    with problems.here():
        _check_bags(mapping)


def _check_derived(derived: Derived, homes: dict[str, Place]) -> None:
    if derived.home.shown in homes:
        raise MappingError(
            derived.place,
            f"{derived.home.shown} is a field's home: say there, with as:, what else it is made of",
        )


def _check_fixed(rows: tuple[Part, ...]) -> None:
    """What came from which row is told by the constants in its columns."""
    seen: set[frozenset[tuple[str, str]]] = set()
    for part in rows:
        constants = frozenset((d.home.name, d.made_of["value"]) for d in part.derived if d.made_of["op"] == "text")
        place = part.fields[0].place if part.fields else None
        if place and (not constants or constants in seen):
            raise MappingError(
                place, "rows must differ in a constant, such as columns: {metric_name: {value: load_time}}"
            )
        seen.add(constants)


def _check_row(part: Part) -> None:
    for item in (*part.fields, *part.derived):
        if item.home.kind in ("bag", "member", "labels", "attributes", "id", "ns", "same", "source"):
            raise MappingError(item.place, f"a row of its own fills columns and labels, not {item.home.shown}")


def _check_bags(mapping: Mapping) -> None:
    whole = {field.home.name: field for field in mapping.fields if field.home.kind == "bag"}
    for field in mapping.fields:
        if field.home.kind == "member" and field.home.name in whole:
            raise MappingError(field.place, f"{field.home.name} holds {whole[field.home.name].path} as a whole already")
    if mapping.rest in whole or (mapping.rest and mapping.rest not in BAGS):
        raise MappingError(whole[mapping.rest].place, f"{mapping.rest} is where the rest goes: it can hold no bag")
