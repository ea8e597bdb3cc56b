"""`service.pipelines` and `service.extensions`: references, signals, what is missing, cycles.

The texts are the Collector's (otelcol 1.3) where it has one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from colonnade.daemon.configuration.coerce import coerce
from colonnade.daemon.configuration.model import ComponentConfig, Components, PipelineConfig
from colonnade.daemon.configuration.sections import Ids, canonical
from colonnade.daemon.configuration.service import PipelineSettings, Service
from colonnade.daemon.configuration.tree import Entry, Findings, Mapping, Node, Place, Sequence, at
from colonnade.pipeline.component import SIGNALS, ComponentId, Kind, Signal
from colonnade.pipeline.registry import Registry

_KINDS: dict[str, tuple[Kind, ...]] = {
    "receivers": ("receiver", "connector"),
    "processors": ("processor",),
    "exporters": ("exporter", "connector"),
    "extensions": ("extension",),
}
_SINGULAR = {"receivers": "receiver", "processors": "processor", "exporters": "exporter", "extensions": "extension"}


@dataclass(slots=True)
class References:
    """Resolves ids of the `service` section."""

    root: Node
    ids: Ids
    components: Components
    registry: Registry
    findings: Findings

    def read(
        self, names: Iterable[str], role: str, path: tuple[str, ...], place: Place
    ) -> list[tuple[Kind, ComponentId]]:
        """The components that a list names; unknown and repeated ones are told."""
        found: list[tuple[Kind, ComponentId]] = []
        where = "::".join(path)
        for index, name in enumerate(names):
            here = _item_place(self.root, (*path, *(() if role == "extensions" else (role,))), index, place)
            target = canonical(name, _KINDS[role], self.ids, self.registry)
            if target is None:
                known = [str(id) for kind in _KINDS[role] for id in self.ids.defined(kind)]
                close = difflib.get_close_matches(name, known, n=1)
                nearest = f"; did you mean {close[0]!r}?" if close else ""
                listed = f" (configured: {', '.join(known)})" if known else ""
                self.findings.wrong(
                    f'{where}: references {_SINGULAR[role]} "{name}" which is not configured{nearest}{listed}', here
                )
            elif target in found:
                self.findings.wrong(f'{where}: references {_SINGULAR[role]} "{name}" multiple times', here)
            else:
                found.append(target)
        return found


def read_service(root: Mapping, findings: Findings) -> Service | None:
    """The section as a whole; pipelines' lists are read again with `read_pipelines`."""
    entry = root.entries.get("service")
    place = entry.place if entry else root.place
    return coerce(entry.node if entry else None, Service, ("service",), place, findings)


def read_lists(root: Mapping) -> Service | None:
    """What can be read of a section that has errors elsewhere, so that its references are checked all the same."""
    entry = root.entries.get("service")
    if entry is None or not isinstance(entry.node, Mapping):
        return None
    kept = {key: e for key, e in entry.node.entries.items() if key in ("extensions", "pipelines")}
    return coerce(Mapping(kept, entry.node.place), Service, ("service",), entry.place, Findings())


def read_pipelines(service: Service, references: References) -> dict[str, PipelineConfig]:
    """Pipelines whose references resolve and whose components fit."""
    findings, root = references.findings, references.root
    if not service.pipelines:
        findings.wrong("service must have at least one pipeline", at(root, ("service",)).place)
    pipelines: dict[str, PipelineConfig] = {}
    for text, settings in service.pipelines.items():
        entry = _entry(root, ("service", "pipelines"), text)
        place = entry.place if entry else root.place
        signal = _signal(text, place, findings)
        pipeline = _pipeline(text, signal, settings, place, references)
        if pipeline is not None:
            pipelines[text] = pipeline
    return pipelines


def _signal(text: str, place: Place, findings: Findings) -> Signal | None:
    signal, slash, name = text.partition("/")
    if signal not in SIGNALS or (slash and not name.strip()):
        close = difflib.get_close_matches(signal, SIGNALS, n=1)
        nearest = f"; did you mean {close[0]!r}?" if close and close[0] != signal else ""
        findings.wrong(
            f"service::pipelines: invalid pipeline id {text!r}{nearest}: "
            f"write SIGNAL or SIGNAL/NAME (valid signals: {', '.join(SIGNALS)})",
            place,
        )
        return None
    return next(known for known in SIGNALS if known == signal)


def _pipeline(
    text: str, signal: Signal | None, settings: PipelineSettings, place: Place, references: References
) -> PipelineConfig | None:
    path = ("service", "pipelines", text)
    findings, before = references.findings, len(references.findings.problems)
    found = {
        role: references.read(getattr(settings, role), role, path, place)
        for role in ("receivers", "processors", "exporters")
    }
    for role in ("receivers", "exporters"):
        if not getattr(settings, role):
            findings.wrong(f"{'::'.join(path)}: must have at least one {_SINGULAR[role]}", place)
    if signal is None:
        return None
    for role, targets in found.items():
        for target in targets:
            component = references.components.get(target)
            if component is not None:
                _check_signal(component, role, signal, text, place, findings)
    if len(findings.problems) > before:
        return None
    ids = {role: tuple(id for _, id in targets) for role, targets in found.items()}
    return PipelineConfig(text, signal, ids["receivers"], ids["processors"], ids["exporters"], place)


def _check_signal(
    component: ComponentConfig, role: str, signal: Signal, pipeline: str, place: Place, findings: Findings
) -> None:
    """A component that does not know the pipeline's signal, or not as it is configured."""
    factory, id = component.factory, component.id
    signals = factory.signals
    if factory.kind == "connector":
        signals = frozenset(pair[1 if role == "receivers" else 0] for pair in factory.connects)
    if signal not in signals:
        verb = {"receivers": "give", "processors": "process", "exporters": "take"}[role]
        findings.wrong(
            f"service::pipelines::{pipeline}: {factory.kind} {str(id)!r} does not {verb} {signal} "
            f"(it does: {', '.join(s for s in SIGNALS if s in signals) or 'nothing'})",
            place,
        )
    elif factory.lacks and (why := factory.lacks(component.settings, signal)):
        findings.wrong(
            f"service::pipelines::{pipeline}: {factory.kind} {str(id)!r} does not take {signal}: {why}", place
        )


def check_connectors(pipelines: dict[str, PipelineConfig], references: References) -> None:
    """Ids that clash, connectors with one end only, cycles."""
    findings, ids = references.findings, references.ids
    for (kind, id), entry in ids.places.items():
        if kind != "connector":
            continue
        if any((other, id) in ids.places for other in ("receiver", "exporter")):
            findings.wrong(
                f"connectors::{id}: ambiguous ID: Found both {str(id)!r} receiver or exporter and connector. "
                f"Change one of the components' IDs to eliminate ambiguity (e.g. rename connector {str(id)!r} to "
                f"'{id}/connector')",
                entry.place,
            )
        starts = [p.id for p in pipelines.values() if id in p.receivers]
        ends = [p.id for p in pipelines.values() if id in p.exporters]
        if bool(starts) != bool(ends):
            missing = "receiver" if ends else "exporter"
            findings.wrong(
                f"connectors::{id}: must be used as both receiver and exporter but is not used as {missing}",
                entry.place,
            )
    _check_cycles(pipelines, references)


def _check_cycles(pipelines: dict[str, PipelineConfig], references: References) -> None:
    connectors = set(references.ids.defined("connector"))
    follows = {
        p.id: [q.id for q in pipelines.values() if connectors & set(p.exporters) & set(q.receivers)]
        for p in pipelines.values()
    }
    done: set[str] = set()

    def visit(id: str, way: tuple[str, ...]) -> None:
        if id in way:
            loop = (*way[way.index(id) :], id)
            references.findings.wrong(f"cycle detected: pipelines {' -> '.join(loop)}", pipelines[id].place)
        elif id not in done:
            for following in follows[id]:
                visit(following, (*way, id))
            done.add(id)

    for id in follows:
        visit(id, ())


def _entry(root: Node, path: tuple[str, ...], key: str) -> Entry | None:
    node = at(root, path)
    return node.entries.get(key) if isinstance(node, Mapping) else None


def _item_place(root: Node, path: tuple[str, ...], index: int, default: Place) -> Place:
    node = at(root, path)
    return node.items[index].place if isinstance(node, Sequence) and index < len(node.items) else default
