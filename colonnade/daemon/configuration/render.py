"""A configuration as text, and the list of installed components."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from typing import Any, cast

import yaml
from pydantic import BaseModel

from colonnade import __version__
from colonnade.daemon.configuration import load
from colonnade.daemon.configuration.coerce import secret_paths
from colonnade.daemon.configuration.expand import expand
from colonnade.daemon.configuration.model import SECTIONS, Configuration
from colonnade.daemon.configuration.sources import documents
from colonnade.daemon.configuration.tree import Findings, Mapping, plain, redact
from colonnade.pipeline.component import SIGNALS, Kind
from colonnade.pipeline.registry import BadRegistration, registry
from colonnade.pipeline.settings import REDACTED


def render(uris: Sequence[str], sets: Sequence[str], *, redacted: bool, form: str, checked: bool) -> str:
    """The merged and expanded document, with what was added. Raises ConfigError."""
    if checked:
        configuration = load(uris, sets)
        document = plain(configuration.root)
        _add(document, configuration)
        if redacted:
            _black_out(document, configuration)
        notes = [f"# {sentence}\n" for sentence in configuration.added]
    else:
        document, notes = _unchecked(uris, sets), []
        if redacted:
            document = _black_out_guess(document)
    if form == "json":
        text = json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"
    else:
        text = "".join(notes) + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)
    return redact(text, set()) if redacted else text


def _unchecked(uris: Sequence[str], sets: Sequence[str]) -> Any:
    findings = Findings()
    root, _ = documents(uris, sets, findings, os.environ)
    findings.raise_if_wrong()
    expanded = expand(root, findings, os.environ) if isinstance(root, Mapping) else None
    findings.raise_if_wrong()
    return plain(expanded) or {}


def _add(document: dict[str, Any], configuration: Configuration) -> None:
    """What the file does not say, in the place where it would stand."""
    for (kind, id), component in configuration.components.items():
        if component.place is None:
            section = next(name for name, known in SECTIONS.items() if known == kind)
            added = cast(Any, component.settings).model_dump(mode="json", exclude_unset=True)
            document[section] = {**(document.get(section) or {}), str(id): added or None}
    for id, pipeline in configuration.pipelines.items():
        if pipeline.added:
            section = document["service"]["pipelines"][id]
            section["processors"] = [str(processor) for processor in pipeline.processors]
    named: list[str] = document["service"].get("extensions") or []
    if len(named) < len(configuration.extensions):
        document["service"]["extensions"] = [str(id) for id in configuration.extensions]


def _black_out(document: dict[str, Any], configuration: Configuration) -> None:
    for (kind, id), component in configuration.components.items():
        section: dict[str, Any] = document.get(next(name for name, known in SECTIONS.items() if known == kind)) or {}
        for key in section:
            # An older spelling of the type names the same component.
            same_name = key.partition("/")[2].strip() == id.name
            older = key.partition("/")[0].strip() in (id.type, *component.factory.aliases)
            if same_name and older and section[key]:
                section[key] = _covered(section[key], type(component.settings))


def _covered(values: Any, model: type[BaseModel]) -> Any:
    for path in secret_paths(model, values):
        holder = values
        for part in path[:-1]:
            holder = holder[part]
        if holder[path[-1]]:
            holder[path[-1]] = REDACTED
    return values


def _black_out_guess(value: Any, key: str = "") -> Any:
    """Without models only the keys' names say what is secret."""
    if isinstance(value, dict):
        items = cast(dict[str, Any], value).items()
        inside = key if key == "headers" else ""
        return {k: _black_out_guess(v, inside or str(k)) for k, v in items}
    if isinstance(value, list):
        return [_black_out_guess(item, key) for item in cast(list[Any], value)]
    telling = ("password", "token", "secret", "api_key", "apikey", "_pem", "headers", "credential")
    return REDACTED if value and any(word in key.lower() for word in telling) else value


def describe_components(form: str) -> str:
    """What is installed, in the shape of the Collector's `components`."""
    listed: dict[str, Any] = {
        "buildinfo": {
            "command": "colonnade",
            "description": "OpenTelemetry Collector-compatible telemetry daemon",
            "version": __version__,
            "python": platform.python_version(),
        }
    }
    for section, kind in SECTIONS.items():
        listed[section] = [_describe(kind, type) for type in registry().types(kind)]
    listed["providers"] = [{"scheme": scheme} for scheme in ("env", "file", "yaml")]
    if form == "json":
        return json.dumps(listed, indent=2) + "\n"
    return yaml.safe_dump(listed, sort_keys=False)


def _describe(kind: Kind, type: str) -> dict[str, Any]:
    try:
        factory, _ = registry().get(kind, type)
    except BadRegistration as error:
        # One broken package must not hide the others.
        return {"name": type, "error": str(error)}
    stability: Any = {signal: factory.stability for signal in SIGNALS if signal in factory.signals}
    if factory.kind == "connector":
        stability = {f"{a}-to-{b}": factory.stability for a, b in sorted(factory.connects)}
    if factory.kind == "extension":
        stability = {"extension": factory.stability}
    described: dict[str, Any] = {"name": factory.type, "module": factory.module, "stability": stability}
    if factory.aliases:
        described["aliases"] = list(factory.aliases)
    return described
