"""`auth.authenticator`: that it names an extension which is started, and one for that end of a connection."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from colonnade.daemon.configuration.pipelines import References
from colonnade.daemon.configuration.sections import canonical
from colonnade.daemon.configuration.tree import Mapping, Node, Place, at
from colonnade.pipeline.authentication import ClientAuthenticator, ServerAuthenticator
from colonnade.pipeline.component import ComponentId, Extension
from colonnade.pipeline.settings import ClientAuth, ServerAuth

KINDS: dict[type[BaseModel], tuple[type[Extension], str]] = {
    ServerAuth: (ServerAuthenticator, "server"),
    ClientAuth: (ClientAuthenticator, "client"),
}


def check_authenticators(extensions: tuple[ComponentId, ...], references: References) -> None:
    """Tells what is wrong, at the key."""
    for (kind, id), component in references.components.items():
        for path, name, wanted in _named(component.settings, (f"{kind}s", str(id))):
            wrong = _what_is_wrong(name, wanted, extensions, references)
            if wrong:
                place = _place(references.root, path) or component.place
                references.findings.wrong(f"{'::'.join(path)}: {wrong}", place)


def _named(model: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, type[BaseModel]]]:
    """Where authenticators are named, their names, and for which end."""
    for name, info in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, info.alias or name)
        if isinstance(value, ServerAuth | ClientAuth):
            yield (*here, "authenticator"), value.authenticator, type(value)
        elif isinstance(value, BaseModel):
            yield from _named(value, here)
        elif name == "additional_auth" and value:
            yield here, value, ClientAuth


def _what_is_wrong(
    name: str, wanted: type[BaseModel], extensions: tuple[ComponentId, ...], references: References
) -> str:
    """As the Collector says it, and what to do."""
    failed = f'failed to resolve authenticator "{name}"'
    target = canonical(name, ("extension",), references.ids, references.registry)
    if target is None:
        return f"{failed}: authenticator not found: write it under extensions, and name it in service::extensions"
    if target[1] not in extensions:
        return f"{failed}: it is not started: add it to service::extensions"
    component = references.components.get(target)
    cls, end = KINDS[wanted]
    if component is not None and not isinstance(component.factory.create(target[1], component.settings), cls):
        return f"{failed}: requested extension is not a {end} authenticator"
    return ""


def _place(root: Node, path: tuple[str, ...]) -> Place | None:
    parent = at(root, path[:-1])
    entry = parent.entries.get(path[-1]) if isinstance(parent, Mapping) else None
    return entry.node.place if entry else None
