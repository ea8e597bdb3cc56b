"""JSON Schema of configuration files, from the models of every installed component: for editors."""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel

from colonnade.daemon.configuration.model import SECTIONS
from colonnade.daemon.configuration.service import Service
from colonnade.pipeline.component import Factory, Kind
from colonnade.pipeline.registry import BadRegistration, Registry, registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What may stand in the place of a number, a switch or a word: a text with a variable in it.
EXPANSION: dict[str, Any] = {"type": "string", "pattern": r"\$\{"}
_ANNOTATIONS = ("title", "description", "default", "deprecated")


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
        definitions[f"{name}.{inner}"] = _expandable(definition)
    definitions[name] = _expandable(schema)
    return {"$ref": f"#/$defs/{name}"}


def _expandable(schema: Any) -> Any:
    """The same, where every value that is no text may also be an expansion."""
    if isinstance(schema, list):
        return [_expandable(item) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    fields = cast(dict[str, Any], schema)
    if fields.get("type") in ("integer", "number", "boolean") or isinstance(fields.get("enum"), list):
        said = {key: fields[key] for key in _ANNOTATIONS if key in fields}
        value = {key: item for key, item in fields.items() if key not in said}
        return {**said, "anyOf": [value, EXPANSION]}
    return {key: item if key == "default" else _expandable(item) for key, item in fields.items()}
