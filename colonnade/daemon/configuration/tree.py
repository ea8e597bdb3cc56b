"""A configuration document as a tree that remembers where everything stood, and what can be wrong with it.

A scalar keeps its text beside its value, because `0123` is 83 for an integer field and stays `0123` for a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from colonnade.pipeline.errors import ColonnadeError


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written. Line and column count from 1; 0 = the source as a whole."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(slots=True)
class Scalar:
    """A leaf. `origin` is the expansion that it came from (`${env:X}`), empty when it was written out."""

    value: str | int | float | bool | None
    text: str
    place: Place
    quoted: bool = False
    origin: str = ""


@dataclass(slots=True)
class Entry:
    """One key of a mapping."""

    place: Place
    node: Node


@dataclass(slots=True)
class Mapping:
    """Keys in order. `text` and `origin` are set where the whole came from one expansion."""

    entries: dict[str, Entry]
    place: Place
    text: str | None = None
    origin: str = ""


@dataclass(slots=True)
class Sequence:
    """A list; `text` and `origin` as for a mapping."""

    items: list[Node]
    place: Place
    text: str | None = None
    origin: str = ""


Node = Scalar | Mapping | Sequence
Path = tuple[str | int, ...]


def spell(path: Path) -> str:
    """A path as the Collector writes it, with `::` between levels."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"::{part}" if text else part
    return text


def at(node: Node, path: Path) -> Node:
    """The deepest node that the path leads to; parts that lead nowhere are passed over."""
    for part in path:
        if isinstance(node, Mapping) and part in node.entries:
            node = node.entries[str(part)].node
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
    return node


def plain(node: Node | None) -> Any:
    """The values alone."""
    if isinstance(node, Mapping):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return None if node is None else node.value


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    message: str
    place: Place | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class ConfigError(ColonnadeError):
    """Everything that is wrong with a configuration, at once."""

    def __init__(self, problems: list[Problem], warnings: tuple[Problem, ...] = ()) -> None:
        self.problems = problems
        self.warnings = warnings
        head = "invalid configuration: "
        body = "\n  ".join(str(problem) for problem in problems)
        several = f"{len(problems)} errors\n  " if len(problems) > 1 else ""
        super().__init__("invalid_configuration", head + several + body)


@dataclass(slots=True)
class Findings:
    """Collects problems and warnings while a configuration is read, so that all are told at once."""

    problems: list[Problem] = field(default_factory=list[Problem])
    warnings: list[Problem] = field(default_factory=list[Problem])
    secrets: set[str] = field(default_factory=set[str])

    def wrong(self, message: str, place: Place | None = None) -> None:
        problem = Problem(message, place)
        if problem not in self.problems:
            self.problems.append(problem)

    def warn(self, message: str, place: Place | None = None) -> None:
        problem = Problem(message, place)
        if problem not in self.warnings:
            self.warnings.append(problem)

    def raise_if_wrong(self) -> None:
        """Raises ConfigError, secrets blacked out."""
        if self.problems:
            raise ConfigError(
                [replace(p, message=redact(p.message, self.secrets)) for p in self.problems], tuple(self.warnings)
            )


def redact(text: str, secrets: set[str]) -> str:
    """The text without known secrets, and without the user part and telling parameters of URLs."""
    for secret in sorted(secrets, key=len, reverse=True):
        # Shorter ones would black out letters of the message itself, and say nothing alone.
        if len(secret) > 3:
            text = text.replace(secret, "[REDACTED]")
    text = re.sub(r"(\w+://)[^\s/@'\"]+@", r"\1[REDACTED]@", text)
    return re.sub(r"([?&](?:password|token|secret|api_key)=)[^&\s'\"]+", r"\1[REDACTED]", text)
