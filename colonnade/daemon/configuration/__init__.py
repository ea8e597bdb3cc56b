"""Reading the configuration: sources, merge, expansion, validation; every error at once, with file, line and column.

    configuration = load(["pipeline.yaml"], ["receivers.otlp.protocols.http.endpoint=localhost:4319"])

Clauses: otelcol 1.1 to 1.3.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as Env
from collections.abc import Sequence

from colonnade.daemon.configuration.authenticators import check_authenticators
from colonnade.daemon.configuration.complete import complete
from colonnade.daemon.configuration.expand import expand
from colonnade.daemon.configuration.model import ComponentConfig, Configuration, PipelineConfig
from colonnade.daemon.configuration.pipelines import (
    References,
    check_connectors,
    read_lists,
    read_pipelines,
    read_service,
)
from colonnade.daemon.configuration.sections import by_factory, check_together, read_sections
from colonnade.daemon.configuration.sources import documents
from colonnade.daemon.configuration.storage import check_storage
from colonnade.daemon.configuration.tree import ConfigError, Findings, Mapping, Place, Problem
from colonnade.pipeline.registry import Registry, registry

__all__ = ["ComponentConfig", "ConfigError", "Configuration", "PipelineConfig", "Problem", "by_factory", "load"]


def load(
    uris: Sequence[str],
    sets: Sequence[str] = (),
    *,
    env: Env[str, str] | None = None,
    components: Registry | None = None,
) -> Configuration:
    """Reads and checks a configuration; nothing is created, nothing is started.

    Args:
        uris: values of `--config`, in order.
        sets: values of `--set`, over all of those.
        env: the environment; default: the process's.
        components: what is installed; default: the registry.

    Raises:
        ConfigError: all that is wrong.
    """
    if not uris:
        raise ConfigError([Problem("at least one config flag must be provided, for example --config pipeline.yaml")])
    findings, env = Findings(), os.environ if env is None else env
    installed = components or registry()
    root, sources = documents(uris, sets, findings, env)
    if not isinstance(root, Mapping):
        if not findings.problems:
            findings.wrong("empty configuration file", Place(sources[0] if sources else "--config"))
        findings.raise_if_wrong()
        raise AssertionError
    expanded = expand(root, findings, env)
    assert isinstance(expanded, Mapping)
    found, ids = read_sections(expanded, installed, findings)
    for kind in ("receiver", "exporter"):
        if not ids.defined(kind):
            findings.wrong(f"no {kind} configuration specified in config", Place(sources[0]) if sources else None)
    service = read_service(expanded, findings) or read_lists(expanded)
    references = References(expanded, ids, found, installed, findings)
    pipelines: dict[str, PipelineConfig] = {}
    extensions = ()
    if service is not None:
        pipelines = read_pipelines(service, references)
        check_connectors(pipelines, references)
        named = references.read(service.extensions, "extensions", ("service", "extensions"), expanded.place)
        extensions = tuple(id for _, id in named)
        check_storage(pipelines, extensions, references)
        check_authenticators(extensions, references)
    check_together(found, findings)
    findings.raise_if_wrong()
    assert service is not None
    read = Configuration(found, pipelines, extensions, service, expanded, sources, findings.warnings)
    return complete(read, installed)
