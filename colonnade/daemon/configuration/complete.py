"""What the daemon adds to what a file says, so that it works as meant; `validate` and `print-config` tell it.

`unify` at the end of a pipeline whose exporters want completed rows and that names none; the extension
`clickhouse_query` where an exporter has an embedded store.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from colonnade.daemon.configuration.model import ComponentConfig, Configuration, PipelineConfig
from colonnade.daemon.configuration.sections import by_factory
from colonnade.pipeline.component import ComponentId, Exporter, Kind
from colonnade.pipeline.registry import Registry

UNIFY = "unify"
QUERY = "clickhouse_query"


def complete(configuration: Configuration, registry: Registry) -> Configuration:
    """The configuration with what was added, told in `added`."""
    for id, pipeline in configuration.pipelines.items():
        if _needs_unify(configuration, pipeline):
            unify = ComponentId(UNIFY)
            _ensure(configuration, registry, "processor", unify, {})
            configuration.pipelines[id] = replace(pipeline, processors=(*pipeline.processors, unify), added=(unify,))
            configuration.added.append(f"service::pipelines::{id}: processor unify added at the end of its processors")
    if _has_embedded_store(configuration) and not any(id.type == QUERY for id in configuration.extensions):
        query = ComponentId(QUERY)
        if QUERY in registry.types("extension"):
            _ensure(configuration, registry, "extension", query, {"required": False})
            configuration.extensions = (*configuration.extensions, query)
            configuration.added.append("service::extensions: clickhouse_query added, to read the embedded store")
    return configuration


def _needs_unify(configuration: Configuration, pipeline: PipelineConfig) -> bool:
    if any(id.type == UNIFY for id in pipeline.processors):
        return False
    return any(_wants_completed(configuration, id) for id in pipeline.exporters)


def _wants_completed(configuration: Configuration, id: ComponentId) -> bool:
    config = configuration.components.get(("exporter", id))
    if config is None:
        return False
    exporter = config.factory.create(id, config.settings)
    return isinstance(exporter, Exporter) and exporter.wants_completed


def _has_embedded_store(configuration: Configuration) -> bool:
    used = {id for pipeline in configuration.pipelines.values() for id in pipeline.exporters}
    components = {key: c for key, c in configuration.components.items() if key[0] == "exporter" and key[1] in used}
    for factory, configs in by_factory(components):
        asks: Any = getattr(sys.modules.get(factory.module), "embedded", None)
        if callable(asks) and asks(configs):
            return True
    return False


def _ensure(
    configuration: Configuration, registry: Registry, kind: Kind, id: ComponentId, settings: dict[str, Any]
) -> None:
    if (kind, id) not in configuration.components:
        factory, _ = registry.get(kind, id.type)
        configuration.components[kind, id] = ComponentConfig(id, factory, factory.config.model_validate(settings))
