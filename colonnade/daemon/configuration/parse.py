"""YAML text to a tree with positions.

Scalars are read as Go's yaml.v3 reads them, not as YAML 1.1: `yes`, `on` and `12:30` are texts, `0123` is octal, dates
stay texts. A key twice in one mapping is an error. A key `a::b` means `b` inside `a`, as everywhere in the Collector.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from colonnade.daemon.configuration.tree import Entry, Findings, Mapping, Node, Place, Scalar, Sequence

# Aliases can make a small file a huge tree; no real configuration comes near this.
NODES_MAX = 200_000
DELIMITER = "::"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_TEXT = _TAG + "str"
_RESOLVER: Any = yaml.resolver.Resolver()
_PLAIN = (True, False)
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0[0-7_]+|[0-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")


def resolve(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if special := _SPECIAL.fullmatch(text):
        return float(special[1] + special[2])
    return text


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if re.fullmatch(r"0[0-7]+", digits):
        return sign * int(digits, 8)
    try:
        return sign * int(digits, 0) if digits[:2].lower() in ("0b", "0o", "0x") else sign * int(digits)
    except ValueError:
        return text


class _Parser:
    """One document."""

    def __init__(self, source: str, findings: Findings) -> None:
        self.source = source
        self.findings = findings
        self.nodes = 0

    def place(self, mark: Any) -> Place:
        return Place(self.source, mark.line + 1, mark.column + 1)

    def convert(self, node: Any) -> Node:
        self.nodes += 1
        if self.nodes > NODES_MAX:
            raise _TooLarge
        place = self.place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return Sequence([self.convert(item) for item in node.value], place)
        if not node.tag.startswith(_TAG):
            self.findings.wrong(f"the tag {node.tag} is not known here", place)
        # A plain scalar has style None in the Python loader and "" in the C one; `!!str 5` is as good as quotes.
        quoted = bool(node.style) or (
            node.tag == _TEXT and _RESOLVER.resolve(yaml.ScalarNode, node.value, _PLAIN) != _TEXT
        )
        value = node.value if quoted else resolve(node.value)
        return Scalar(value, node.value, place, quoted)

    def _mapping(self, node: Any, place: Place) -> Mapping:
        mapping = Mapping({}, place)
        merged: list[Mapping] = []
        for key_node, value_node in node.value:
            key_place = self.place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self.findings.wrong("a key must be a plain text", key_place)
                continue
            value = self.convert(value_node)
            if key_node.value == "<<" and not key_node.style:
                merged += self._sources_of_merge(value)
                continue
            self._put(mapping, str(key_node.value), key_place, value)
        for source in merged:
            for key, entry in source.entries.items():
                mapping.entries.setdefault(key, entry)
        return mapping

    def _sources_of_merge(self, value: Node) -> list[Mapping]:
        candidates = value.items if isinstance(value, Sequence) else [value]
        for candidate in candidates:
            if not isinstance(candidate, Mapping):
                self.findings.wrong("`<<` takes a mapping or a list of mappings", candidate.place)
        return [candidate for candidate in candidates if isinstance(candidate, Mapping)]

    def _put(self, mapping: Mapping, key: str, place: Place, value: Node) -> None:
        head, delimiter, tail = key.partition(DELIMITER)
        if delimiter and head and tail:
            inner = mapping.entries.setdefault(head, Entry(place, Mapping({}, place)))
            if isinstance(inner.node, Mapping):
                self._put(inner.node, tail, place, value)
            else:
                self.findings.wrong(f"key {head!r} is given as a value and as {key!r}", place)
            return
        if key in mapping.entries:
            first = mapping.entries[key].place
            self.findings.wrong(f"duplicate key {key!r}; the first is at line {first.line}", place)
            return
        mapping.entries[key] = Entry(place, value)


class _TooLarge(Exception):
    pass


def parse(text: str, source: str, findings: Findings) -> Node | None:
    """The tree of one document; None when it is empty. What is wrong goes to `findings`."""
    try:
        loader = _LOADER(text)
    except yaml.YAMLError as error:
        findings.wrong(f"not YAML: {error}", Place(source))
        return None
    try:
        root = loader.get_single_node()
        return None if root is None else _Parser(source, findings).convert(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(source, mark.line + 1, mark.column + 1) if mark else Place(source)
        detail = " ".join(part for part in (error.context, error.problem) if part)
        findings.wrong(f"not valid YAML: {detail}{_advice(text, place)}", place)
    except yaml.YAMLError as error:
        findings.wrong(f"not valid YAML: {str(error).splitlines()[0]}", Place(source))
    except (_TooLarge, RecursionError):
        findings.wrong(f"the document is too large or too deep (more than {NODES_MAX} values)", Place(source))
    finally:
        loader.dispose()
    return None


def _advice(text: str, place: Place) -> str:
    """What usually causes an error at such a line."""
    lines = text.splitlines()
    line = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "; indent with spaces, not tabs"
    return ""
