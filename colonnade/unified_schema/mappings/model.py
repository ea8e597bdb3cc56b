"""A mapping as objects: what the file says, checked against the table of columns.

Every field of the input has one home; what is computed besides (`columns`) is for querying, and the inverse leaves it
out. A path that is read without having a home would be lost, so it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Mapping as Table
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from colonnade.unified_schema.columns import Column, columns
from colonnade.unified_schema.mappings import expressions
from colonnade.unified_schema.mappings.expressions import Plain
from colonnade.unified_schema.mappings.file import Entry, Place, Problems, nearest

HomeKind = Literal[
    "column",
    "member",
    "bag",
    "label",
    "labels",
    "attribute",
    "attributes",
    "src",
    "none",
    "same",
    "ns",
    "id",
    "source",
    "rows",
    "within",
]
TIMES: Final = ("iso", "ms", "iso_or_epoch")
TYPES: Final = ("any", "text", "uuid", "number", "integer", "boolean", "object", "list")
BAGS: Final = ("context", "data", "properties", "traits", "db_before", "db_after", "metric_buckets", "metric_quantiles")
# Keys of `$src` that the engine itself writes.
OWN_KEYS: Final = ("extra", "absent", "of", "i", "item", "tz", "clock", "skew_ms", "computed_ms", "form")
_COLUMNS: Final[dict[str, Column]] = {column.name: column for column in columns()}
# Columns that `unify` makes of what the others say.
_NOT_MAPPED: Final = frozenset(
    {"id", "ns", "timestamp_ns", "hour", "day", "event_source", "ingested_at", "batch_id", "schema_version"}
)
_STEP = r'(?:[^."\[\]]+|"[^"]+")(?:\[(?:0|-1)\])*'
_PATH: Final = re.compile(rf"{_STEP}(?:\.{_STEP})*")
_TYPE_OF: Final = {
    "float64": "number",
    "int64": "integer",
    "int32": "integer",
    "uint32": "integer",
    "uint16": "integer",
    "uint8": "integer",
    "bool": "boolean",
    "bytes": "any",
}


@dataclass(frozen=True, slots=True)
class Home:
    """Where a value lives. `name`: column, key or other path; `path`: keys within a JSON column; `rest`: a bag of what
    no other path names; `optional`: a namespace that most events do not name."""

    kind: HomeKind
    name: str = ""
    path: tuple[str, ...] = ()
    rest: bool = False
    optional: bool = False

    @property
    def shown(self) -> str:
        """As the file writes it."""
        match self.kind:
            case "member":
                return ".".join((self.name, *self.path))
            case "label":
                return f"labels.{self.name}"
            case "attribute":
                return f"attributes.{self.name}"
            case "src":
                return "context.$src"
            case "same":
                return f"={self.name}"
            case "source":
                return "event_source"
            case _:
                return self.name or self.kind


@dataclass(frozen=True, slots=True)
class Field:
    """A value of the input. `empty`: the JSON that an empty home stands for, None = nothing; `made_of`: the expression
    whose value is stored; `words`: source's word to ours; `plus`, `until`: the stored number is the value less that
    path's, or that path's less the value; `between`, `default`: what stands for an absent value."""

    path: str
    home: Home
    place: Place
    is_: str = "any"
    required: bool = False
    empty: str | None = None
    one_of: tuple[str, ...] = ()
    time: str | None = None
    src: str = ""
    made_of: Plain | None = None
    words: tuple[tuple[str, str], ...] = ()
    plus: str | None = None
    until: str | None = None
    between: tuple[str, str] | None = None
    default: str | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Derived:
    """A value computed for querying. `home` is a column, a label, an attribute or a member."""

    home: Home
    made_of: Plain
    place: Place


@dataclass(frozen=True, slots=True)
class Part:
    """Fields and computed columns of one row of a fan-out; `where`: without a value there, there is no row."""

    fields: tuple[Field, ...]
    derived: tuple[Derived, ...]
    where: str | None = None


@dataclass(frozen=True, slots=True)
class KeyPart:
    """A part of the natural key: an expression, or the digest of values."""

    made_of: Plain | None
    digest: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """What a top-level member must be for the mapping to be chosen."""

    name: str
    test: Literal["in", "present", "absent"]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mapping:
    """One event source."""

    name: str
    source: str
    file: str
    title: str = ""
    description: str = ""
    form: str | None = None
    strict: bool = False
    sanitise: bool = False
    when: tuple[Condition, ...] = ()
    fields: tuple[Field, ...] = ()
    derived: tuple[Derived, ...] = ()
    require: tuple[tuple[str, tuple[str, ...]], ...] = ()
    keys: tuple[tuple[KeyPart, ...], ...] = ()
    undigested: tuple[str, ...] = ()
    rest: str | None = None
    each: tuple[str, Part] | None = None
    fixed: tuple[Part, ...] = ()
    fill: Table[str, Any] = field(default_factory=dict[str, Any])
    clock: Table[str, str] | None = None
    personal: tuple[tuple[str, ...], ...] = ()
    lists: tuple[tuple[str, ...], ...] = ()

    @property
    def all_fields(self) -> Iterable[Field]:
        """Fields of the event and of fixed rows; those of a list's items have paths of their own."""
        yield from self.fields
        for part in self.fixed:
            yield from part.fields

    @property
    def columns(self) -> frozenset[str]:
        """The columns that rows may fill."""
        parts = [*self.fixed, *([self.each[1]] if self.each else [])]
        homes = [f.home for f in self.fields] + [d.home for d in self.derived]
        for part in parts:
            homes += [f.home for f in part.fields] + [d.home for d in part.derived]
        names = {"id", "event_source", "context"} | {name for home in homes if (name := column_of(home))}
        return frozenset(names | ({self.rest} if self.rest else set()))


def column_of(home: Home) -> str:
    """The column a home lies in; empty for none."""
    match home.kind:
        case "label" | "labels":
            return "labels"
        case "attribute" | "attributes":
            return "attributes"
        case "src":
            return "context"
        case "none" | "same" | "source" | "rows" | "within":
            return ""
        case "ns" | "id":
            return home.kind
        case _:
            return home.name


def path_keys(path: str) -> tuple[str, ...]:
    """The keys of a path without list places."""
    return tuple(part.strip('"') for part in re.findall(r'"[^"]+"|[^."\[\]]+', re.sub(r"\[-?\d\]", "", path)))


def check_path(entry: Entry) -> str:
    """A path of the input. Raises MappingError."""
    text = entry.text("a path such as context.page.url")
    if not _PATH.fullmatch(text):
        raise entry.wrong(f'{text!r} is no path: write a.b, list[0].c, list[-1] or a."key with . inside"')
    return text


class Reader:
    """Reads the sections of one file. Paths that expressions read are remembered, to be checked at the end."""

    def __init__(self, problems: Problems) -> None:
        self.read: dict[str, Entry] = {}
        self.problems = problems
        self.failed: list[str] = []

    def path(self, entry: Entry) -> str:
        text = check_path(entry)
        self.read.setdefault(text, entry)
        return text

    def fields(self, entry: Entry | None, label: str = "") -> tuple[Field, ...]:
        """`fields`, in the file's order; `label` is put before paths in messages."""
        found: list[Field] = []
        for path, spec in entry.members("fields").items() if entry else ():
            self.failed.append(path)
            with self.problems.here():
                check_path(Entry(path, spec.place))
                found.append(self.field(path, spec, label))
                self.failed.pop()
        return tuple(found)

    def checks(self, entry: Entry | None) -> tuple[Field, ...]:
        """`check`: what values within bags must be."""
        found: list[Field] = []
        for path, spec in entry.members("check").items() if entry else ():
            with self.problems.here():
                self.path(Entry(path, spec.place))
                given = spec.section(("is", "required", "in"), f"check {path}")
                is_ = _type(given, Home("within"), None, None)
                required = "required" in given and given["required"].flag()
                one_of = tuple(given["in"].texts()) if "in" in given else ()
                found.append(Field(path, Home("within"), spec.place, is_, required, None, one_of, src=path, label=path))
        return tuple(found)

    def field(self, path: str, spec: Entry, label: str) -> Field:
        if isinstance(spec.value, str):
            spec = Entry({"to": spec}, spec.place)
        allowed = (
            *("to", "is", "required", "empty", "in", "time", "src", "as", "words", "else", "plus", "until", "between"),
            *("default", "rest"),
        )
        given = spec.section(allowed, f"field {path}")
        if "to" not in given:
            raise spec.wrong(f"field {path} needs to: where it lives (a column, src, none)")
        home = read_home(given["to"], rest="rest" in given and given["rest"].flag(), value=_last(path))
        column = _COLUMNS.get(home.name) if home.kind == "column" else None
        time = self.time(given, column, spec, path)
        words = tuple(expressions.word_pairs(given["words"])) if "words" in given else ()
        return Field(
            path=path,
            home=home,
            place=spec.place,
            is_=_type(given, home, column, time),
            required="required" in given and given["required"].flag(),
            empty=_empty(given.get("empty")),
            one_of=tuple(given["in"].texts()) if "in" in given else (),
            time=time,
            src=given["src"].text() if "src" in given else _src_name(path, home),
            made_of=self.made_of(path, given, words),
            words=words,
            plus=self.path(given["plus"]) if "plus" in given else None,
            until=self.path(given["until"]) if "until" in given else None,
            between=self.pair(given["between"]) if "between" in given else None,
            default=self.path(given["default"]) if "default" in given else None,
            label=f"{label}{path}",
        )

    def time(self, given: dict[str, Entry], column: Column | None, spec: Entry, path: str) -> str | None:
        if "time" in given:
            if given["time"].value not in TIMES:
                raise given["time"].wrong(f"time is one of {', '.join(TIMES)}, not {given['time'].shown}")
            return given["time"].text()
        if column is not None and column.type == "timestamp_ns":
            raise spec.wrong(f"field {path} lives in the time column {column.name}: say how it is written, time: iso")
        return None

    def made_of(self, path: str, given: dict[str, Entry], words: tuple[tuple[str, str], ...]) -> Plain | None:
        own: Plain = {"op": "path", "path": path}
        if "as" in given:
            return expressions.compile(given["as"], self.path)
        if "plus" in given:
            return {"op": "minus", "a": own, "b": expressions.compile(given["plus"], self.path)}
        if "until" in given:
            return {"op": "minus", "a": expressions.compile(given["until"], self.path), "b": own}
        if words and "else" in given:
            other = expressions.compile(given["else"], self.path)
            return {"op": "words", "of": own, "table": [*words], "else": other}
        return None

    def pair(self, entry: Entry) -> tuple[str, str]:
        items = entry.items("a list of two paths")
        if len(items) != 2:
            raise entry.wrong(f"expected two paths, got {len(items)}")
        return self.path(items[0]), self.path(items[1])

    def derived(self, entry: Entry | None) -> tuple[Derived, ...]:
        """`columns`."""
        found: list[Derived] = []
        for name, spec in entry.members("columns").items() if entry else ():
            with self.problems.here():
                home = read_home(Entry(name, spec.place))
                if home.kind not in ("column", "bag", "label", "attribute", "member"):
                    raise spec.wrong(f"columns computes columns, labels.x, attributes.x and members, not {name!r}")
                found.append(Derived(home, expressions.compile(spec, self.path), spec.place))
        return tuple(found)


def read_home(entry: Entry, rest: bool = False, value: str = "") -> Home:
    """Where a value lives. Raises MappingError."""
    text = entry.text("a column, src, none, id, ns, source or =other.path")
    if text == "ns?":
        return Home("ns", optional=True)
    if text in ("src", "none", "ns", "id", "rows"):
        return Home(text)
    if text == "source" or text.startswith("source "):
        return Home("source", text.removeprefix("source").strip() or value)
    if text.startswith("="):
        return Home("same", check_path(Entry(text[1:].strip(), entry.place)))
    name, dot, inner = text.partition(".")
    column = _COLUMNS.get(name)
    if column is None:
        raise entry.wrong(f"no column {name!r}{nearest(name, _COLUMNS)}")
    if name in _NOT_MAPPED:
        raise entry.wrong(f"{name} is not a mapping's to fill: it is made of the other columns")
    if name in ("labels", "attributes"):
        kind: HomeKind = "labels" if name == "labels" else "attributes"
        return Home("label" if name == "labels" else "attribute", inner) if dot else Home(kind, name, rest=rest)
    if dot:
        if name not in BAGS:
            raise entry.wrong(f"{name} has no members: it is of type {column.type}")
        return Home("member", name, path_keys(inner))
    return Home("bag" if name in BAGS or name == "replay_data" else "column", name, rest=rest)


def _last(path: str) -> str:
    return path_keys(path)[-1]


def _src_name(path: str, home: Home) -> str:
    if home.kind == "id":
        return "id"
    return "timestamp" if home.kind == "column" and home.name == "timestamp" else _last(path)


def _type(given: dict[str, Entry], home: Home, column: Column | None, time: str | None) -> str:
    if "is" in given:
        if given["is"].value not in TYPES:
            raise given["is"].wrong(f"is: one of {', '.join(TYPES)}, not {given['is'].shown}")
        return given["is"].text()
    if time == "ms":
        return "number"
    if column is not None:
        return "any" if time == "iso_or_epoch" else _TYPE_OF.get(column.type, "text")
    if home.kind == "bag":
        return "any" if home.name in ("data", "replay_data") else "object"
    return {"labels": "object", "attributes": "object", "label": "text", "id": "text"}.get(home.kind, "any")


def _empty(entry: Entry | None) -> str | None:
    """`empty: null`, `empty: []`, `empty: {}`."""
    if entry is None:
        return None
    match entry.value:
        case None:
            return "null"
        case []:
            return "[]"
        case value if value == {}:
            return "{}"
        case _:
            raise entry.wrong("empty is null, [] or {}")
