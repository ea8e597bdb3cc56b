"""The expressions of mapping files: what a column is made of.

An expression is a path, a number, or a mapping whose keys are applied in the order they are written:

    context.page.url
    {value: browser}
    {first: [properties.url, context.page.url]}
    {join: [context.screen.width, context.screen.height], by: x}
    {of: actor, before: /, case: lower, words: {human: user, agent: agent}}
    {if: {of: event_name, in: [page_view, screen_view]}, then: {value: page}, else: {value: track}}
    {minus: [responseStart, requestStart]}

`compile` gives its plain form, which the native part reads, and tells every path that it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from colonnade.unified_schema.mappings.file import Entry, nearest

Plain = dict[str, Any]
Paths = Callable[[Entry], str]
"""Checks a path and gives it."""

_OPERATIONS = (
    "words",
    "contains",
    "case",
    "strip",
    "before",
    "after",
    "part",
    "replace",
    "letters",
    "hex",
    "as",
)
_HELPERS = {"words": ("else",), "contains": ("else",), "before": ("strict",), "part": ("by",)}
_CONVERSIONS = {
    "number": "to_number",
    "text": "to_text",
    "canonical": "canonical",
    "http_outcome": "http_outcome",
    "http_reason": "http_reason",
    "extension": "extension",
}
_TESTS = ("present", "of", "less", "equal", "all", "any", "not")


def compile(entry: Entry, path: Paths) -> Plain:
    """The plain form of an expression.

    Raises:
        MappingError: it is none.
    """
    value = entry.value
    if isinstance(value, str):
        return {"op": "path", "path": path(entry)}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"op": "number", "value": value}
    if not isinstance(value, dict) or not value:
        raise entry.wrong(f"expected a path or an expression, got {entry.shown}")
    members = entry.members()
    head = next(iter(members))
    match head:
        case "value":
            _only(members, entry, "value")
            return _constant(members["value"])
        case "first":
            _only(members, entry, "first")
            return {"op": "first", "list": [compile(item, path) for item in members["first"].items()]}
        case "join":
            _only(members, entry, "join", "by")
            by = members["by"].text() if "by" in members else ""
            return {"op": "join", "by": by, "list": [compile(item, path) for item in members["join"].items()]}
        case "minus" | "rating":
            _only(members, entry, head)
            a, b = _pair(members[head])
            return {"op": head, "a": compile(a, path), "b": compile(b, path)}
        case "between":
            _only(members, entry, "between")
            a, b = _pair(members["between"])
            return {"op": "between", "a": path(a), "b": path(b)}
        case "if":
            return _condition(members, entry, path)
        case "of":
            return _chain(members, entry, path)
        case _:
            known = ("value", "first", "join", "minus", "rating", "between", "if", "of")
            raise members[head].wrong(
                f"an expression begins with one of {', '.join(known)}, not {head!r}{nearest(head, known)}"
            )


def _constant(entry: Entry) -> Plain:
    if isinstance(entry.value, str):
        return {"op": "text", "value": entry.value}
    if isinstance(entry.value, (int, float)) and not isinstance(entry.value, bool):
        return {"op": "number", "value": entry.value}
    raise entry.wrong(f"a constant is a text or a number, not {entry.shown}")


def _condition(members: dict[str, Entry], entry: Entry, path: Paths) -> Plain:
    _only(members, entry, "if", "then", "else")
    if "then" not in members:
        raise entry.wrong("if needs then")
    plain = {"op": "if", "test": compile_test(members["if"], path), "then": compile(members["then"], path)}
    return plain | ({"else": compile(members["else"], path)} if "else" in members else {})


def _chain(members: dict[str, Entry], entry: Entry, path: Paths) -> Plain:
    plain = compile(members["of"], path)
    names = list(members)[1:]
    helpers = {helper for name in names for helper in _HELPERS.get(name, ())}
    operations = [name for name in names if name not in helpers]
    if not operations:
        raise entry.wrong(f"of needs an operation: {', '.join(_OPERATIONS)}")
    for name in operations:
        if name not in _OPERATIONS:
            raise members[name].wrong(
                f"no operation {name!r}{nearest(name, _OPERATIONS)}; there are {', '.join(_OPERATIONS)}"
            )
        plain = _operation(name, members, plain, path)
    return plain


def _operation(name: str, members: dict[str, Entry], of: Plain, path: Paths) -> Plain:
    given = members[name]
    match name:
        case "words" | "contains":
            plain = {"op": name, "of": of, "table": word_pairs(given, lower=name == "contains")}
            return plain | ({"else": compile(members["else"], path)} if "else" in members else {})
        case "case":
            if given.value not in ("upper", "lower"):
                raise given.wrong(f"case is upper or lower, not {given.shown}")
            return {"op": given.value, "of": of}
        case "strip":
            return {"op": "strip", "of": of, "list": given.texts()}
        case "before":
            strict = "strict" in members and members["strict"].flag()
            return {"op": "before", "of": of, "mark": given.text(), "strict": strict}
        case "after":
            return {"op": "after", "of": of, "mark": given.text()}
        case "part":
            if "by" not in members:
                raise given.wrong("part needs by: the text between parts")
            return {"op": "part", "of": of, "number": given.number(), "by": members["by"].text()}
        case "replace":
            pairs = word_pairs(given)
            for old, new in pairs:
                of = {"op": "replace", "of": of, "from": old, "to": new}
            return of
        case "letters" | "hex":
            return {"op": name, "of": of, "count": given.number()}
        case _:
            if given.value not in _CONVERSIONS:
                raise given.wrong(f"as is one of {', '.join(_CONVERSIONS)}, not {given.shown}")
            return {"op": _CONVERSIONS[given.value], "of": of}


def word_pairs(entry: Entry, lower: bool = False) -> list[tuple[str, str]]:
    """A table of words; YAML's numbers and booleans among them are their own spelling."""
    return [(key.lower() if lower else key, _word(value)) for key, value in entry.members("a table of words").items()]


def _word(entry: Entry) -> str:
    if isinstance(entry.value, bool) or not isinstance(entry.value, (str, int)):
        raise entry.wrong(f"a word is a text, not {entry.shown}")
    return str(entry.value)


def compile_test(entry: Entry, path: Paths) -> Plain:
    """The plain form of a condition. Raises MappingError."""
    members = entry.members("a condition such as {present: user_id}")
    head = next(iter(members), "")
    match head:
        case "present":
            _only(members, entry, "present")
            return {"op": "present", "of": compile(members["present"], path)}
        case "of":
            _only(members, entry, "of", "in")
            if "in" not in members:
                raise entry.wrong("a condition on a value needs in: the values that hold")
            return {"op": "in", "of": compile(members["of"], path), "list": [_word(i) for i in members["in"].items()]}
        case "less" | "equal":
            _only(members, entry, head)
            a, b = _pair(members[head])
            return {"op": head, "a": compile(a, path), "b": compile(b, path)}
        case "all" | "any":
            _only(members, entry, head)
            return {"op": head, "list": [compile_test(item, path) for item in members[head].items()]}
        case "not":
            _only(members, entry, "not")
            return {"op": "not", "of": compile_test(members["not"], path)}
        case _:
            raise entry.wrong(f"a condition begins with one of {', '.join(_TESTS)}{nearest(head, _TESTS)}")


def _pair(entry: Entry) -> tuple[Entry, Entry]:
    items = entry.items("a list of two")
    if len(items) != 2:
        raise entry.wrong(f"expected a list of two, got {len(items)}")
    return items[0], items[1]


def _only(members: dict[str, Entry], entry: Entry, *allowed: str) -> None:
    for key in members:
        if key not in allowed:
            raise members[key].wrong(f"{allowed[0]} goes with {', '.join(allowed[1:]) or 'nothing else'}, not {key!r}")
