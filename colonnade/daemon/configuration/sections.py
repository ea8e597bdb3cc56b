"""The component sections: ids, types and aliases, each section validated by its component's model."""

from __future__ import annotations

import difflib
import sys
from typing import Any, cast

from colonnade.daemon.configuration.coerce import coerce, hint
from colonnade.daemon.configuration.model import SECTIONS, ComponentConfig, Components
from colonnade.daemon.configuration.tree import Entry, Findings, Mapping, Node, Scalar
from colonnade.pipeline.component import ComponentId, Factory, Kind
from colonnade.pipeline.registry import BadRegistration, Registry, UnknownComponent

TOP_LEVEL = (*SECTIONS, "service")


class Ids:
    """Which ids the file defines, by kind; known also where the section itself is wrong."""

    def __init__(self) -> None:
        self.places: dict[tuple[Kind, ComponentId], Entry] = {}

    def defined(self, kind: Kind) -> list[ComponentId]:
        return [id for known, id in self.places if known == kind]


def read_sections(root: Mapping, registry: Registry, findings: Findings) -> tuple[Components, Ids]:
    """All components of the file; wrong ones are told and left out."""
    components: Components = {}
    ids = Ids()
    for key, entry in root.entries.items():
        if key not in TOP_LEVEL:
            findings.wrong(f"'' has invalid keys: {key}{hint(key, TOP_LEVEL)}", entry.place)
    for section, kind in SECTIONS.items():
        if section in root.entries:
            _read_section(section, kind, root.entries[section], registry, findings, components, ids)
    return components, ids


def _read_section(
    section: str,
    kind: Kind,
    entry: Entry,
    registry: Registry,
    findings: Findings,
    components: Components,
    ids: Ids,
) -> None:
    if not isinstance(entry.node, Mapping):
        if not (isinstance(entry.node, Scalar) and entry.node.value is None):
            findings.wrong(f"{section}: must be a mapping of ids to settings", entry.place)
        return
    for text, child in entry.node.entries.items():
        factory = _factory(section, kind, text, child, registry, findings)
        if factory is None:
            _remember_wrong(kind, text, child, ids)
            continue
        id = ComponentId(factory.type, ComponentId.parse(text).name)
        if (kind, id) in ids.places:
            first = ids.places[kind, id].place
            findings.wrong(f"{section}::{text}: duplicate id, {id} is defined at {first} already", child.place)
            continue
        ids.places[kind, id] = child
        node = None if isinstance(child.node, Scalar) and child.node.value is None else child.node
        settings = coerce(node, factory.config, (section, text), child.place, findings)
        if settings is not None:
            components[kind, id] = ComponentConfig(id, factory, settings, child.place)


def _remember_wrong(kind: Kind, text: str, entry: Entry, ids: Ids) -> None:
    """It stands in the file: references to it are not wrong as well."""
    try:
        ids.places.setdefault((kind, ComponentId.parse(text)), entry)
    except ValueError:
        return


def _factory(
    section: str, kind: Kind, text: str, entry: Entry, registry: Registry, findings: Findings
) -> Factory | None:
    try:
        id = ComponentId.parse(text)
    except ValueError as error:
        findings.wrong(f"{section}: {error}", entry.place)
        return None
    try:
        factory, older = registry.get(kind, id.type)
    except (UnknownComponent, BadRegistration) as error:
        if id.type in registry.types(kind):
            findings.wrong(f"{section}::{text}: {error}", entry.place)
            return None
        known = registry.types(kind)
        close = difflib.get_close_matches(id.type, known, n=1)
        nearest = f"; did you mean {close[0]!r}?" if close else ""
        findings.wrong(
            f'{section}: unknown type: "{id.type}" for id: "{text}"{nearest} (valid values: [{" ".join(known)}])',
            entry.place,
        )
        return None
    if older:
        findings.warn(f"{section}::{text}: {id.type!r} is an older name, write {factory.type!r}", entry.place)
    return factory


def canonical(text: str, kinds: tuple[Kind, ...], ids: Ids, registry: Registry) -> tuple[Kind, ComponentId] | None:
    """The component that a reference means; None when none is defined."""
    try:
        id = ComponentId.parse(text)
    except ValueError:
        return None
    for kind in kinds:
        if (kind, id) in ids.places:
            return kind, id
    for kind in kinds:
        renamed = registry.aliases().get((kind, id.type)) if ids.defined(kind) else None
        if renamed and (kind, ComponentId(renamed, id.name)) in ids.places:
            return kind, ComponentId(renamed, id.name)
    return None


def check_together(components: Components, findings: Findings) -> None:
    """What is wrong between sections of one type: asked from the component's module, where it has `check`."""
    for factory, configs in by_factory(components):
        check: Any = getattr(sys.modules.get(factory.module), "check", None)
        if not callable(check):
            continue
        for message in cast(list[str], check(configs)):
            place = next((c.place for c in components.values() if c.factory is factory), None)
            findings.wrong(f"{factory.kind}s: {message}", place)


def by_factory(components: Components) -> list[tuple[Factory, dict[ComponentId, Any]]]:
    """Settings by id, per factory."""
    grouped: dict[tuple[Kind, str], tuple[Factory, dict[ComponentId, Any]]] = {}
    for (kind, id), component in components.items():
        grouped.setdefault((kind, id.type), (component.factory, {}))[1][id] = component.settings
    return list(grouped.values())


def node_of(root: Node, section: str, key: str) -> Entry | None:
    """The entry of one component."""
    entry = root.entries.get(section) if isinstance(root, Mapping) else None
    inner = entry.node if entry else None
    return inner.entries.get(key) if isinstance(inner, Mapping) else None
