"""`${env:NAME}`, `${NAME}`, `${env:NAME:-default}`, `${file:path}`, `${yaml:text}`, and `$$` for a dollar sign.

Clause: otelcol 1.2, Expansion. A value that is one expansion as a whole is read as YAML and keeps its text for fields
that are texts; inside a longer text, the text is put in. Differences from the Collector, on purpose: what a variable or
a file with a single value holds is never expanded again and its `$` stay as they are (secrets hold dollar signs); a
file that holds a mapping or a list is configuration, and is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as Env
from dataclasses import replace

from colonnade.daemon.configuration.parse import parse
from colonnade.daemon.configuration.sources import SourceError, read_file
from colonnade.daemon.configuration.tree import Entry, Findings, Mapping, Node, Place, Scalar, Sequence

DEPTH_MAX = 20
EXPANSIONS_MAX = 10_000

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_OPEN = re.compile(r"\$+\{|\$\$+")


class _Refused(Exception):
    """An expansion that can not be done; already told."""


class Expander:
    """Expands one tree."""

    def __init__(self, findings: Findings, env: Env[str, str]) -> None:
        self.findings = findings
        self.env = env
        self.count = 0

    def expand(self, node: Node, depth: int = 0) -> Node:
        """The node with everything in it expanded; what can not be is told and stays as it was."""
        if isinstance(node, Mapping):
            entries = {key: Entry(e.place, self.expand(e.node, depth)) for key, e in node.entries.items()}
            return replace(node, entries=entries)
        if isinstance(node, Sequence):
            return replace(node, items=[self.expand(item, depth) for item in node.items])
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        try:
            return self._scalar(node, depth)
        except _Refused:
            return node

    def _scalar(self, node: Scalar, depth: int) -> Node:
        text = str(node.value)
        if text.startswith("${") and _closing(text, 2) == len(text) - 1:
            content = self._text(text[2:-1], node.place, depth)
            return self._whole(content, text, node, depth)
        expanded = self._text(text, node.place, depth)
        origin = text if "${" in text else ""
        return Scalar(expanded, expanded, node.place, quoted=True, origin=origin)

    def _text(self, text: str, place: Place, depth: int) -> str:
        """A text with every expansion in it replaced by its text."""
        out, position = "", 0
        while match := _OPEN.search(text, position):
            out += text[position : match.start()]
            dollars = match.group().rstrip("{")
            opens = match.group().endswith("{")
            escaped = opens and len(dollars) % 2 == 0
            if not opens or escaped:
                # An even run of dollars stands for half of them, and the brace after it is a plain brace.
                out += "$" * (len(dollars) // 2 + len(dollars) % 2) + ("{" if opens else "")
                position = match.end()
                continue
            out += "$" * (len(dollars) // 2)
            end = _closing(text, match.end())
            if end < 0:
                out, position = out + "${", match.end()
                continue
            content = self._text(text[match.end() : end], place, depth)
            out += self._fetch(content, place)[0]
            position = end + 1
        return out + text[position:]

    def _whole(self, content: str, origin: str, node: Scalar, depth: int) -> Node:
        """The value of a scalar that is one expansion."""
        text, source = self._fetch(content, node.place)
        findings = Findings()
        parsed = parse(text, source or node.place.source, findings)
        if findings.problems or (isinstance(parsed, Scalar) and isinstance(parsed.value, str)):
            # What is not YAML is a text as it stands, and so is what YAML reads as one: quotes in it are part of it.
            return Scalar(text, text, node.place, quoted=True, origin=origin)
        if parsed is None:
            return Scalar(None, text, node.place, origin=origin)
        if isinstance(parsed, Scalar):
            return Scalar(parsed.value, text, node.place, origin=origin)
        if not source:
            parsed = _moved(parsed, node.place, origin)
        elif depth >= DEPTH_MAX:
            self.findings.wrong(f"{origin}: files include each other more than {DEPTH_MAX} deep", node.place)
            raise _Refused
        else:
            parsed = self.expand(parsed, depth + 1)
        assert not isinstance(parsed, Scalar)
        return replace(parsed, text=text, origin=origin)

    def _fetch(self, content: str, place: Place) -> tuple[str, str]:
        """Text of one expansion, and the file's name when it came from one."""
        self.count += 1
        if self.count > EXPANSIONS_MAX:
            self.findings.wrong(f"more than {EXPANSIONS_MAX} expansions", place)
            raise _Refused
        match = _SCHEME.fullmatch(content)
        scheme, rest = (match[1], match[2]) if match and not _is_default(content) else ("env", content)
        fetchers: dict[str, Callable[[str, Place], tuple[str, str]]] = {
            "env": self._fetch_env,
            "file": self._fetch_file,
            "yaml": lambda text, _: (text, ""),
        }
        if scheme not in fetchers:
            self.findings.wrong(f"scheme {scheme!r} in ${{{content}}} is not known (valid: env, file, yaml)", place)
            raise _Refused
        return fetchers[scheme](rest, place)

    def _fetch_env(self, content: str, place: Place) -> tuple[str, str]:
        name, has_default, default = content.partition(":-")
        if not _ENV_NAME.fullmatch(name):
            self.findings.wrong(
                f"environment variable {name!r} has an invalid name: it must match {_ENV_NAME.pattern}", place
            )
            raise _Refused
        value = self.env.get(name)
        if value is None and not has_default:
            self.findings.warn(f"environment variable {name} is not set, an empty text is used", place)
        return (default if value is None else value), ""

    def _fetch_file(self, path: str, place: Place) -> tuple[str, str]:
        try:
            text = read_file(path)
        except SourceError as error:
            self.findings.wrong(str(error), place)
            raise _Refused from None
        # Editors end files with a newline, and a secret in a file must not end with one.
        return text.removesuffix("\n").removesuffix("\r"), path


def _is_default(content: str) -> bool:
    """`NAME:-default` has a colon and no scheme."""
    return bool(re.match(r"[A-Za-z_][A-Za-z0-9_]*:-", content))


def _closing(text: str, start: int) -> int:
    """Index of the brace that closes the expansion whose content starts at `start`; -1 when none does."""
    depth, index = 1, start
    while index < len(text):
        if text.startswith("${", index):
            depth, index = depth + 1, index + 2
            continue
        if text[index] == "}":
            depth -= 1
            if not depth:
                return index
        index += 1
    return -1


def _moved(node: Node, place: Place, origin: str) -> Node:
    """The node as if all of it stood at one place: the inside of a variable has no lines that a user could open."""
    if isinstance(node, Mapping):
        entries = {key: Entry(place, _moved(e.node, place, origin)) for key, e in node.entries.items()}
        return Mapping(entries, place, origin=origin)
    if isinstance(node, Sequence):
        return Sequence([_moved(item, place, origin) for item in node.items], place, origin=origin)
    return replace(node, place=place, origin=origin)


def expand(root: Node, findings: Findings, env: Env[str, str]) -> Node:
    """The tree with all expansions done."""
    return Expander(findings, env).expand(root)
