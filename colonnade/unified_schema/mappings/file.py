"""YAML with places: what a mapping file says, and where it says it."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import yaml


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class MappingError(ValueError):
    """A mapping file that says something it may not say; the message begins with `file:line:column`."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message

    @property
    def all(self) -> list[MappingError]:
        return [self]


class MappingErrors(MappingError):
    """All that is wrong with a mapping file, by place; the message has a line for each."""

    def __init__(self, errors: Iterable[MappingError]) -> None:
        found = sorted(
            {str(e): e for error in errors for e in error.all}.values(), key=lambda e: (e.place.file, e.place.line)
        )
        super().__init__(found[0].place, found[0].message)
        self.args = ("\n".join(map(str, found)),)
        self._found = found

    @property
    def all(self) -> list[MappingError]:
        return self._found


class Problems:
    """What was found wrong so far: a file's author is told everything at once."""

    def __init__(self) -> None:
        self.found: list[MappingError] = []

    @contextmanager
    def here(self) -> Generator[None]:
        """What is raised within is kept, and what comes after goes on."""
        try:
            yield
        except MappingError as error:
            self.found.append(error)

    def end(self) -> None:
        """Raises MappingError if anything was found."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            raise MappingErrors(self.found)


@dataclass(frozen=True, slots=True)
class Entry:
    """A node of the file: a scalar, a list of entries or a dictionary of entries."""

    value: Any
    place: Place

    def wrong(self, message: str) -> MappingError:
        return MappingError(self.place, message)

    def text(self, what: str = "a text") -> str:
        if not isinstance(self.value, str):
            raise self.wrong(f"expected {what}, got {self.shown}")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong(f"expected true or false, got {self.shown}")
        return self.value

    def number(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 0:
            raise self.wrong(f"expected a number, got {self.shown}")
        return self.value

    def items(self, what: str = "a list") -> list[Entry]:
        value: object = self.value
        if not isinstance(value, list):
            raise self.wrong(f"expected {what}, got {self.shown}")
        return cast("list[Entry]", value)

    def texts(self, what: str = "a list of texts") -> list[str]:
        """The texts of a list, or the one text."""
        return [item.text() for item in (self.items(what) if isinstance(self.value, list) else [self])]

    def members(self, what: str = "a mapping") -> dict[str, Entry]:
        value: object = self.value
        if not isinstance(value, dict):
            raise self.wrong(f"expected {what}, got {self.shown}")
        return cast("dict[str, Entry]", value)

    def section(self, allowed: Iterable[str], what: str) -> dict[str, Entry]:
        """The members, unknown keys refused."""
        members, names, problems = self.members(), list(allowed), Problems()
        for key, entry in members.items():
            if key not in names:
                text = f"{what} has no key {key!r}{nearest(key, names)}; allowed: {', '.join(names)}"
                problems.found.append(entry.wrong(text))
        problems.end()
        return members

    @property
    def shown(self) -> str:
        kinds: dict[type, str] = {dict: "a mapping", list: "a list", type(None): "nothing"}
        return kinds.get(type(self.value)) or repr(self.value)  # pyright: ignore[reportUnknownArgumentType]


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, where some name is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def read(text: str, file: str) -> Entry:
    """The document of a file.

    Raises:
        MappingError: it is no YAML, or a key comes twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        raise MappingError(place, f"not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise MappingError(Place(file, 1, 1), f"not valid YAML: {error}") from error
    if node is None:
        raise MappingError(Place(file, 1, 1), "the file is empty")
    return _entry(node, file, yaml.SafeLoader(""))


def _entry(node: yaml.Node, file: str, loader: yaml.SafeLoader) -> Entry:
    place = Place(file, node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.SequenceNode):
        return Entry([_entry(item, file, loader) for item in node.value], place)
    if not isinstance(node, yaml.MappingNode):
        return Entry(cast(Any, loader).construct_object(node), place)
    members: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        if key in members:
            raise MappingError(
                Place(file, key_node.start_mark.line + 1, key_node.start_mark.column + 1),
                f"the key {key!r} comes twice",
            )
        value = _entry(value_node, file, loader)
        # A member's place is where its key stands: that is where a reader looks.
        mark = key_node.start_mark
        members[key] = Entry(value.value, Place(file, mark.line + 1, mark.column + 1))
    return Entry(members, place)
