"""The keys of a configuration model, read from its JSON Schema: what each is called, takes, and defaults to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from colonnade.daemon.configuration.schema import EXPANSION
from colonnade.pipeline.settings import ExporterSettings
from generator.markdown import code, table

# Keys of every exporter, shown after an exporter's own.
SHARED_KEYS = frozenset(ExporterSettings.model_fields)
Schema = dict[str, Any]
# Forms that every value may have: null keeps the default, and a variable stands for anything.
UNSAID = ({"type": "null"}, EXPANSION)


def keys_table(model: Schema, definitions: Schema) -> str:
    rows = list(key_rows(model, definitions, ""))
    return table(("Key", "Type", "Default", "Meaning"), rows) if rows else ""


def key_rows(model: Schema, definitions: Schema, prefix: str, given: Any = None) -> Iterator[list[str]]:
    """A row per key, sections before what is inside them. `given`: what the section around says of defaults."""
    for name, field in sorted(model.get("properties", {}).items(), key=lambda item: item[0] in SHARED_KEYS):
        inner, suffix = section_of(field, definitions)
        default = given[name] if given and name in given else field.get("default")
        if name in model.get("required", ()):
            shown = "required"
        elif inner is not None:
            shown = "off" if default is None and "default" in field else ""
        else:
            shown = default_of(size(default) if "64MiB" in field.get("examples", ()) else default)
        yield [code(prefix + name), type_of(field, inner, suffix), shown, field.get("description", "")]
        if inner is not None:
            yield from key_rows(inner, definitions, f"{prefix}{name}{suffix}.", None if suffix else default)


def section_of(field: Schema, definitions: Schema) -> tuple[Schema | None, str]:
    """The model of a section, and what stands between its key and the keys inside: `[]` in a list, `.ID` in a map."""
    for form in field.get("anyOf", [field]):
        if "$ref" in form:
            return definitions[form["$ref"].removeprefix("#/$defs/")], ""
        for part, suffix in (("items", "[]"), ("additionalProperties", ".ID")):
            if isinstance(form.get(part), dict) and "$ref" in form[part]:
                return definitions[form[part]["$ref"].removeprefix("#/$defs/")], suffix
    return None, ""


def type_of(field: Schema, inner: Schema | None, suffix: str) -> str:
    if inner is not None:
        return {"": "section", "[]": "list of sections", ".ID": "map of sections"}[suffix]
    return in_words(field)


def in_words(form: Any) -> str:
    """A type, without what holds for all of them."""
    if not isinstance(form, dict):
        return "anything"
    forms = form.get("anyOf", [form])
    return " or ".join(in_words(one) if "anyOf" in one else plain_type(one) for one in forms if one not in UNSAID)


def plain_type(form: Schema) -> str:
    """A type in words, with its bounds."""
    examples = form.get("examples", [])
    if "enum" in form or "const" in form:
        return ", ".join(code(written(value)) for value in form.get("enum", [form.get("const")]))
    if "5s" in examples:
        name = "duration"
    elif "64MiB" in examples:
        name = "size"
    elif form.get("format") == "password":
        name = "secret text"
    elif form.get("type") == "array":
        name = f"list of {in_words(form['items'])}"
    elif form.get("type") == "object":
        name = f"map to {in_words(form.get('additionalProperties'))}"
    else:
        name = {"string": "text", "boolean": "true or false"}.get(form.get("type", ""), form.get("type", "any"))
    return name + bounds_of(form)


def bounds_of(form: Schema) -> str:
    words = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
    words |= {"minLength": "not empty", "maxItems": "at most {}", "minItems": "at least {}", "pattern": "matches `{}`"}
    return "".join(f", {word.format(form[key])}" for key, word in words.items() if key in form)


def size(nbytes: int) -> Any:
    """A number of bytes in the largest unit that divides it."""
    units = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
    return next((f"{nbytes // unit}{name}" for unit, name in units if nbytes and nbytes % unit == 0), nbytes)


def written(value: Any) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def default_of(value: Any) -> str:
    return "" if value is None else code(written(value) or '""')
