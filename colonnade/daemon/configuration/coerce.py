"""A section of the tree to an instance of its pydantic model, with errors that say where.

The tree is walked beside the model first, because only the model knows whether `0123` is wanted as a number or as a
text, and whether a value is a secret. Then pydantic validates, and its errors are told with the place in the file,
what was given, and what is allowed or the nearest valid key.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from colonnade.daemon.configuration.tree import Findings, Mapping, Node, Path, Place, Scalar, Sequence, at, spell
from colonnade.pipeline.settings import Secret

GIVEN_MAX_CHARACTERS = 60

M = TypeVar("M", bound=BaseModel)
_EXPECTED = {
    "missing": "is required",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a text",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
}


class _Walk:
    """Values of one section, as its model wants them."""

    def __init__(self, path: Path, findings: Findings) -> None:
        self.base = path
        self.findings = findings
        self.secret_paths: set[Path] = set()
        self.failed: set[Path] = set()

    def value(self, node: Node, wanted: Any, path: Path) -> Any:
        kinds = _kinds(wanted)
        if Secret in kinds | _kinds(_item(wanted, Mapping)) | _kinds(_item(wanted, Sequence)):
            self.secret_paths.add(path)
        if isinstance(node, Scalar):
            return self._scalar(node, kinds, path)
        if node.text is not None and Secret in kinds | {str} and kinds <= {str, Secret, type(None)}:
            self._remember(kinds, node.text)
            return node.text
        if isinstance(node, Sequence):
            item = _item(wanted, Sequence)
            return [self.value(child, item, (*path, i)) for i, child in enumerate(node.items)]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        fields = _fields(model) if model else {}
        every = _item(wanted, Mapping)
        return {
            key: self.value(entry.node, fields.get(key, every), (*path, key)) for key, entry in node.entries.items()
        }

    def _scalar(self, node: Scalar, kinds: set[Any], path: Path) -> Any:
        text_wanted = bool(kinds & {str, Secret}) or any(_is_text_literal(kind) for kind in kinds)
        value = node.value
        as_text = isinstance(value, bool | int | float) or (value is None and bool(node.origin))
        if text_wanted and as_text and (value is None or type(value) not in kinds):
            self._remember(kinds, node.text)
            return node.text
        self._remember(kinds, value)
        if bool in kinds and not isinstance(value, bool) and value is not None and not text_wanted and len(kinds) == 1:
            self._wrong(node, path, "must be true or false")
        elif isinstance(value, bool) and kinds and kinds <= {int, float}:
            self._wrong(node, path, "must be a number")
        return value

    def _remember(self, kinds: set[Any], value: Any) -> None:
        if Secret in kinds and isinstance(value, str):
            self.findings.secrets.add(value)

    def _wrong(self, node: Scalar, path: Path, expected: str) -> None:
        self.failed.add(path)
        given = "" if path in self.secret_paths else given_text(node)
        self.findings.wrong(f"{spell((*self.base, *path))}: {expected}{given}", node.place)


def coerce(node: Node | None, model: type[M], path: Path, place: Place, findings: Findings) -> M | None:
    """The validated section; None when something is wrong with it, told to `findings`.

    Args:
        node: the section; None when its key has no value.
        path: of the section, for messages.
        place: of the section's key, for what has no place of its own.
    """
    walk = _Walk(path, findings)
    value: Any = {} if node is None else walk.value(node, model, ())
    try:
        section = model.model_validate({} if value is None else value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _tell(detail, node, model, walk, place, findings)
        return None
    return None if walk.failed else section


def _tell(
    detail: ErrorDetails, node: Node | None, model: type[BaseModel], walk: _Walk, place: Place, findings: Findings
) -> None:
    path = _real_path(detail["loc"], node)
    if path in walk.failed:
        return
    kind = detail["type"]
    if kind == "extra_forbidden":
        _tell_unknown_key(path, node, model, walk.base, place, findings)
        return
    where = at(node, path) if node is not None else None
    full = (*walk.base, *path)
    if kind == "missing":
        key = str(detail["loc"][-1])
        findings.wrong(f"{spell((*full, key))}: is required", where.place if where and path else place)
        return
    message = _message(detail)
    secret = any(path[:n] in walk.secret_paths for n in range(len(path) + 1))
    given = "" if secret or not isinstance(where, Scalar) else given_text(where)
    if given and given.removeprefix(", got ") in message:
        given = ""
    findings.wrong(f"{spell(full)}: {message}{given}", where.place if where is not None and path else place)


def _message(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind == "literal_error":
        return f"must be one of {context.get('expected', '')}"
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        return detail["msg"].replace("Input should be", "must be")
    return detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def _tell_unknown_key(
    path: Path, node: Node | None, model: type[BaseModel], base: Path, place: Place, findings: Findings
) -> None:
    """`invalid keys`, with the nearest valid one."""
    *parents, key = path
    parent = at(node, tuple(parents)) if node is not None else None
    entry = parent.entries.get(str(key)) if isinstance(parent, Mapping) else None
    valid = sorted(_fields(_model_at(model, tuple(parents))))
    findings.wrong(
        f"'{spell((*base, *parents))}' has invalid keys: {key}{hint(str(key), valid)}",
        entry.place if entry else place,
    )


def hint(given: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'? (valid keys: ...)`."""
    known = list(valid)
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    nearest = f"; did you mean {close[0]!r}?" if close else ""
    return f"{nearest} (valid: {', '.join(known)})" if known else f"{nearest} (no keys are valid here)"


def given_text(node: Node) -> str:
    """`, got 5`; for an expansion its spelling and not what it held, which may be a secret."""
    if node.origin:
        return f", got {node.origin}"
    if not isinstance(node, Scalar):
        return ""
    text = repr(node.value) if isinstance(node.value, str) else node.text or "nothing"
    return f", got {text if len(text) <= GIVEN_MAX_CHARACTERS else text[:GIVEN_MAX_CHARACTERS] + '...'}"


def _real_path(location: tuple[int | str, ...], node: Node | None) -> Path:
    """The part of pydantic's location that is a path in the file: names of union members and functions are left out."""
    path: list[int | str] = []
    for part in location:
        if isinstance(node, Mapping) and part in node.entries:
            node = node.entries[str(part)].node
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            continue
        path.append(part)
    return tuple(path)


# --- what an annotation wants


def _members(wanted: Any) -> list[Any]:
    """The alternatives of an annotation, `Annotated` taken off."""
    while get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    if get_origin(wanted) in (Union, types.UnionType):
        return [kind for member in get_args(wanted) for kind in _members(member)]
    return [wanted]


def _kinds(wanted: Any) -> set[Any]:
    """Plain types of an annotation; a list or mapping counts as its origin."""
    if wanted is None or wanted is Any:
        return set()
    return {k if _is_text_literal(k) else get_origin(k) or k for k in _members(wanted)} - {type(None)}


def _is_text_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal and all(isinstance(value, str) for value in get_args(kind))


def _item(wanted: Any, kind: type) -> Any:
    """What the items of a list, or the values of a mapping, are wanted as."""
    for member in _members(wanted):
        origin, arguments = get_origin(member), get_args(member)
        if kind is Sequence and origin in (list, tuple, set, frozenset) and arguments:
            return arguments[0]
        if kind is Mapping and origin is dict and len(arguments) == 2:
            return arguments[1]
    return None


def _fields(model: type[BaseModel] | None) -> dict[str, Any]:
    """Keys of a model and what each wants."""
    if model is None:
        return {}
    return {info.alias or name: _wanted(info) for name, info in model.model_fields.items()}


def _wanted(info: FieldInfo) -> Any:
    # A validator that runs before (durations, sizes) reads the value itself: leave the value as YAML has it.
    if any(type(mark).__name__ in ("BeforeValidator", "PlainValidator") for mark in info.metadata):
        members = [m for m in _members(info.annotation) if m not in (int, float, bool)]
        return Union[tuple(members)] if members else None  # noqa: UP007  made at run time
    return cast(Any, info.annotation)


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model of the section at a path."""
    wanted: Any = model
    for part in path:
        kinds = _kinds(wanted)
        found = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if found is not None:
            wanted = _fields(found).get(str(part))
        else:
            wanted = _item(wanted, Sequence if isinstance(part, int) else Mapping)
    return next((k for k in _kinds(wanted) if isinstance(k, type) and issubclass(k, BaseModel)), None)


def secret_paths(model: type[BaseModel], values: Any) -> list[Path]:
    """Where in a section's plain values there are secrets."""
    found: list[Path] = []

    def look(value: Any, wanted: Any, path: Path) -> None:
        kinds = _kinds(wanted)
        if Secret in kinds:
            found.append(path)
        elif isinstance(value, list):
            for index, item in enumerate(cast(list[Any], value)):
                look(item, _item(wanted, Sequence), (*path, index))
        elif isinstance(value, dict):
            inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
            fields, every = _fields(inner), _item(wanted, Mapping)
            for key, item in cast(dict[str, Any], value).items():
                look(item, fields.get(key, every), (*path, key))

    look(values, model, ())
    return found
