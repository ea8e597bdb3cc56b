"""`sending_queue.storage`: that it names an extension which keeps logs, and that a pipeline has one log."""

from __future__ import annotations

from colonnade.daemon.configuration.model import PipelineConfig
from colonnade.daemon.configuration.pipelines import References
from colonnade.daemon.configuration.sections import canonical
from colonnade.daemon.configuration.tree import Mapping, Node, Place, at
from colonnade.pipeline.component import ComponentId
from colonnade.pipeline.log import Storage


def check_storage(
    pipelines: dict[str, PipelineConfig], extensions: tuple[ComponentId, ...], references: References
) -> None:
    """Tells what is wrong, at the key."""
    named: dict[ComponentId, ComponentId] = {}
    for (kind, id), component in references.components.items():
        name = getattr(getattr(component.settings, "sending_queue", None), "storage", None)
        if kind not in ("exporter", "connector") or not name:
            continue
        path = (f"{kind}s", str(id), "sending_queue", "storage")
        place = _place(references.root, path) or component.place
        target = canonical(name, ("extension",), references.ids, references.registry)
        wrong = _what_is_wrong(name, target[1] if target else None, extensions, references)
        if wrong:
            references.findings.wrong(f"{'::'.join(path)}: {wrong}", place)
        elif target:
            named[id] = target[1]
    for pipeline in pipelines.values():
        storages = sorted({str(named[id]) for id in pipeline.exporters if id in named})
        if len(storages) > 1:
            references.findings.wrong(
                f"service::pipelines::{pipeline.id}: its exporters name {' and '.join(storages)} as storage, "
                "but a pipeline has one log: name the same in all of them",
                pipeline.place,
            )


def _what_is_wrong(
    name: str, target: ComponentId | None, extensions: tuple[ComponentId, ...], references: References
) -> str:
    if target is None:
        example = f"extensions: {{{name}: {{directory: ./log, create_directory: true}}}}"
        return f"references extension {name!r} which is not configured: write {example}"
    if target not in extensions:
        return f"extension {name!r} is not started: add it to service::extensions"
    component = references.components.get(("extension", target))
    if component is not None and not isinstance(component.factory.create(target, component.settings), Storage):
        return f"extension {name!r} keeps no logs: name a file_storage"
    return ""


def _place(root: Node, path: tuple[str, ...]) -> Place | None:
    parent = at(root, path[:-1])
    entry = parent.entries.get(path[-1]) if isinstance(parent, Mapping) else None
    return entry.node.place if entry else None
