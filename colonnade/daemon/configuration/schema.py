"""JSON Schema of configuration files, from the models of every installed component: for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from colonnade.daemon.configuration.model import SECTIONS
from colonnade.daemon.configuration.service import Service
from colonnade.pipeline.component import Factory, Kind
from colonnade.pipeline.registry import BadRegistration, Registry, registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(components: Registry | None = None) -> dict[str, Any]:
    """The schema; `$defs` has one entry per component and one per shared model."""
    installed = components or registry()
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {section: _section(kind, installed, definitions) for section, kind in SECTIONS.items()}
    properties["service"] = _reference("service", Service, definitions)
    return {
        "$schema": DIALECT,
        "title": "Colonnade configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": ["receivers", "exporters", "service"],
        "$defs": definitions,
    }


def _section(kind: Kind, installed: Registry, definitions: dict[str, Any]) -> dict[str, Any]:
    """Ids `type` and `type/name`, older spellings included."""
    patterns: dict[str, Any] = {}
    for type in installed.types(kind):
        try:
            factory, _ = installed.get(kind, type)
        except BadRegistration:
            # `colonnade components` names it; the schema of the others is still of use.
            continue
        reference = _reference(f"{kind}.{type}", factory.config, definitions)
        for spelling in (type, *factory.aliases):
            patterns[f"^{spelling}(/.+)?$"] = {
                "anyOf": [reference, {"type": "null"}],
                "description": _first_line(factory),
                **({"deprecated": True} if spelling != type else {}),
            }
    return {"type": ["object", "null"], "additionalProperties": False, "patternProperties": patterns}


def _first_line(factory: Factory) -> str:
    return factory.doc.partition("\n")[0]


def _reference(name: str, model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Puts the model into the definitions, its own inner models under names that can not clash."""
    # As written out, because a default of 5.0 would be read as nanoseconds where "5s" is meant.
    schema = model.model_json_schema(mode="serialization", ref_template=f"#/$defs/{name}.{{model}}")
    for inner, definition in schema.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = definition
    definitions[name] = schema
    return {"$ref": f"#/$defs/{name}"}
