"""A mapping's plain form, which the native part reads (`native/src/mapping/plan.rs`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from colonnade.unified_schema.mappings.expressions import Plain
from colonnade.unified_schema.mappings.model import Derived, Field, KeyPart, Mapping, Part


def format_plan(
    mappings: Sequence[Mapping],
    *,
    lists: Iterable[Sequence[str]] = (),
    single: bool = True,
    list: bool = True,
    merge: Iterable[str] = (),
    inherit: Iterable[str] = (),
    wrap: Plain | None = None,
    limits: dict[str, int] | None = None,
) -> str:
    """What `native.Format` takes: how bodies of a route are read, and the mappings that their events may choose.

    Args:
        mappings: the first whose conditions hold takes an event.
        lists: paths of the list of events in a body that is an object.
        single: whether a body may be one event.
        list: whether a body may be a list of events.
        merge: members of the object around the list that are merged under each event's own.
        inherit: members of that object which an event has where it lacks them.
        wrap: `{item, with, number}`: items become `{item: .., with: {.., number: n + place}}`.
        limits: `event_bytes`, `events`, `depth`, `members`.
    """
    return json.dumps(
        {
            "mappings": [plan(mapping) for mapping in mappings],
            "lists": [[*path] for path in lists],
            "single": single,
            "list": list,
            "merge": [*merge],
            "inherit": [*inherit],
            "wrap": wrap or {},
            "limits": limits or {},
        },
        ensure_ascii=False,
    )


def plan(mapping: Mapping) -> Plain:
    """One mapping."""
    return _without_nothing(
        {
            "source": mapping.source,
            "form": mapping.form,
            "strict": mapping.strict,
            "sanitise": mapping.sanitise,
            "when": [{"name": c.name, "test": c.test, "in": [*c.values]} for c in mapping.when],
            "require": [{"name": name, "any": [*paths]} for name, paths in mapping.require],
            "keys": [[_key(part) for part in parts] for parts in mapping.keys],
            "undigested": [*mapping.undigested],
            "templates": _templates(mapping),
            "rows": _rows(mapping),
            "fill": dict(mapping.fill),
            "clock": dict(mapping.clock) if mapping.clock else None,
            "personal": [[*path] for path in mapping.personal],
            **_part(mapping.fields, mapping.derived),
        }
    )


def _without_nothing(plain: Plain) -> Plain:
    return {key: value for key, value in plain.items() if value not in (None, [], {}, False, "")}


def _part(fields: Iterable[Field], derived: Iterable[Derived]) -> Plain:
    columns = [_derived(item) for item in derived if item.home.kind != "member"]
    return {"fields": [_field(field) for field in fields], "columns": columns}


def _field(field: Field) -> Plain:
    home = field.home
    return _without_nothing(
        {
            "path": field.path,
            "label": field.label,
            "is": field.is_,
            "required": field.required,
            "empty": field.empty,
            "in": [*field.one_of],
            "time": field.time,
            "to": _without_nothing(
                {"kind": home.kind, "name": home.name, "path": _same(home), "optional": home.optional}
            ),
            "src": field.src,
            "as": field.made_of,
            "words": [[*pair] for pair in field.words],
            "default": field.default,
            "plus": field.plus,
            "until": field.until,
            "between": {"a": field.between[0], "b": field.between[1]} if field.between else None,
        }
    )


def _same(home: Any) -> str | None:
    return home.name if home.kind == "same" else None


def _derived(item: Derived) -> Plain:
    key = {"label": "label", "attribute": "attribute"}.get(item.home.kind, "column")
    return {key: item.home.name, "from": item.made_of}


def _key(part: KeyPart) -> Plain:
    return _without_nothing({"of": part.made_of, "digest": [*part.digest], "required": part.required})


def _rows(mapping: Mapping) -> Plain:
    if mapping.each:
        path, part = mapping.each
        return {"each": path, **_part(part.fields, part.derived)}
    if mapping.fixed:
        return {"fixed": [_fixed(part) for part in mapping.fixed]}
    return {}


def _fixed(part: Part) -> Plain:
    return _without_nothing({"where": part.where}) | _part(part.fields, part.derived)


def _templates(mapping: Mapping) -> list[Plain]:
    """How JSON columns are put together; members of one object stand side by side, so that it is opened once."""
    templates: dict[str, Plain] = {}

    def template(column: str) -> Plain:
        return templates.setdefault(column, {"column": column, "members": []})

    for field in mapping.fields:
        if field.home.kind == "member":
            template(field.home.name)["members"].append({"path": [*field.home.path], "place": field.path})
        elif field.home.kind == "bag" and field.home.name != "replay_data":
            template(field.home.name)["rest" if field.home.rest else "base"] = field.path
    for item in mapping.derived:
        if item.home.kind == "member":
            template(item.home.name)["members"].append({"path": [*item.home.path], "from": item.made_of})
    if mapping.rest:
        template(mapping.rest)["rest"] = ""
    for plain in templates.values():
        plain["members"] = _grouped(plain["members"])
    return [*templates.values()]


def _grouped(members: list[Plain]) -> list[Plain]:
    """Members in the order in which their outermost keys, then the next ones, come first."""
    order: dict[tuple[str, ...], int] = {}
    for member in members:
        for length in range(1, len(member["path"]) + 1):
            order.setdefault(tuple(member["path"][:length]), len(order))

    def rank(member: Plain) -> list[int]:
        return [order[tuple(member["path"][:length])] for length in range(1, len(member["path"]) + 1)]

    return sorted(members, key=rank)
