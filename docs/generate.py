"""Writes the reference pages under docs/reference from the program itself: `make docs`.

Nothing here is a list of its own: components come from the registry, keys from the configuration models' JSON Schema,
columns from the unified schema, errors from the exception tree and the calls that raise them, metrics from the
instruments, commands from the command line. `tests/docs/test_reference.py` holds the folder to it, both ways.
"""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import colonnade
from colonnade.daemon.command import cli
from colonnade.daemon.configuration.schema import json_schema
from colonnade.pipeline import outcome
from colonnade.pipeline.component import KINDS, SIGNALS, Factory
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.instruments import PREFIX, TABLE
from colonnade.pipeline.registry import registry
from colonnade.pipeline.settings import ExporterSettings
from colonnade.unified_schema import Column, columns, otel_attributes
from colonnade.unified_schema.clickhouse import columns as stored_columns

TOP = Path(__file__).resolve().parents[1]
REFERENCE = TOP / "docs" / "reference"
NOTE = "<!-- Written by docs/generate.py from the program. Change the program, then run `make docs`. -->\n\n"
Schema = dict[str, Any]

# Codes that are put together where they are raised: the expression, and what it gives.
COMPOSED_CODES = {
    "f'encode_{error.code}'": ("encode_*", "the native encoder's own code"),
    "error.label": ("clickhouse_*", "ClickHouse's error number, or `unreachable`"),
}
# Keys of every exporter, shown after an exporter's own.
SHARED_KEYS = frozenset(ExporterSettings.model_fields)
# Calls that pass on the code of another error.
PASSED_ON_CODES = {"code", "outcome.code", "error.code"}


def pages() -> dict[str, str]:
    """Every page by its path under docs/reference."""
    factories = own_components()
    schema = json_schema()
    found = {f"components/{page_name(factory)}": component_page(factory, schema) for factory in factories}
    return {
        "components/README.md": components_page(factories),
        **found,
        "service.md": service_page(schema),
        "columns.md": columns_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
        "command_line.md": command_line_page(),
        "configuration.schema.json": json.dumps(schema, indent=1) + "\n",
    }


# --- text


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar or a line break in a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def code(text: object) -> str:
    return f"`{text}`"


def codes(texts: Iterable[object]) -> str:
    return ", ".join(map(code, texts))


def prose(docstring: str) -> str:
    """A docstring as Markdown: its indented samples become YAML blocks."""

    def fence(match: re.Match[str]) -> str:
        return f"```yaml\n{textwrap.dedent(match[0]).strip()}\n```\n"

    return re.sub(r"(?m)(^ {4}.*\n(?:\n(?= {4}))?)+", fence, inspect.cleandoc(docstring) + "\n")


# --- components


def own_components() -> list[Factory]:
    """What this package brings; another package that is installed has pages of its own."""
    own = (factory for factory in registry() if factory.module.startswith(f"{colonnade.__name__}."))
    return sorted(own, key=lambda factory: (KINDS.index(factory.kind), factory.type))


def page_name(factory: Factory) -> str:
    return f"{factory.kind}-{factory.type}.md"


def source_of(module: str) -> str:
    path = Path(inspect.getfile(import_module(module))).relative_to(TOP)
    return str(path.parent if path.name == "__init__.py" else path)


def signals_of(factory: Factory) -> str:
    if factory.connects:
        return ", ".join(f"{taken} to {given}" for taken, given in sorted(factory.connects))
    return ", ".join(signal for signal in SIGNALS if signal in factory.signals) or "none"


def components_page(factories: list[Factory]) -> str:
    rows = [
        (
            factory.kind,
            f"[{code(factory.type)}]({page_name(factory)})",
            factory.doc.partition("\n")[0],
            signals_of(factory),
            factory.stability,
        )
        for factory in factories
    ]
    return NOTE + "# Components\n\n" + table(("Kind", "Type", "What it does", "Signals", "Stability"), rows)


def component_page(factory: Factory, schema: Schema) -> str:
    facts = [("Signals", signals_of(factory)), ("Stability", factory.stability)]
    if factory.aliases:
        facts.append(("Older spellings", codes(factory.aliases)))
    facts.append(("Source", code(source_of(factory.module))))
    keys = keys_table(schema["$defs"][f"{factory.kind}.{factory.type}"], schema["$defs"])
    return (
        f"{NOTE}# {factory.kind.capitalize()} {code(factory.type)}\n\n"
        + "".join(f"- {name}: {value}\n" for name, value in facts)
        + f"\n{prose(factory.doc)}\n## Keys\n\n{keys or 'None.'}"
    )


def service_page(schema: Schema) -> str:
    keys = keys_table(schema["$defs"]["service"], schema["$defs"])
    return f"{NOTE}# The section `service`\n\n[Configuration](../configuration.md) says how a file is read.\n\n{keys}"


# --- keys of a configuration model


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
    """A type; null is no choice of its own, since a key with null keeps its default."""
    if not isinstance(form, dict):
        return "anything"
    return " or ".join(plain_type(one) for one in form.get("anyOf", [form]) if one.get("type") != "null")


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


# --- columns


def columns_page() -> str:
    stored = {column.name: column for column in stored_columns()}
    groups: dict[str, list[Column]] = {}
    for column in columns():
        groups.setdefault(column.group, []).append(column)
    head = ("#", "Column", "Schema", "In flight (Arrow)", "ClickHouse", "OpenTelemetry attributes", "Meaning")
    text = f"{NOTE}# Columns\n\n{COLUMNS_INTRODUCTION}"
    for group, members in groups.items():
        rows = [
            (
                str(column.position),
                code(column.name),
                code(column.type),
                code(column.arrow_type),
                code(f"ALIAS {alias}" if (alias := stored[column.name].alias) else stored[column.name].type),
                attributes_of(column),
                column.description,
            )
            for column in members
        ]
        text += f"## {group}\n\n{table(head, rows)}\n"
    return text.rstrip("\n") + "\n"


def attributes_of(column: Column) -> str:
    """The attributes that feed a column; in bold the one whose values have it as their home."""
    fed = {a.key: a.role for a in otel_attributes() if a.column == column.name}
    return ", ".join(f"**{code(key)}**" if fed.get(key) == "canonical" else code(key) for key in column.otel_attributes)


COLUMNS_INTRODUCTION = f"""\
Every row of every signal has these {len(columns())} columns: the event's own, and at the end those of the group
`PartitionInternal`, which say where and when it was stored. A batch in flight holds only the columns that its rows use.
Text is empty where a value is absent; numbers, booleans and times are null.

An attribute in bold has the column as its one home: its value is stored there and not among `attributes`. Any other
attribute named here feeds the column and stays in `attributes` as well. `colonnade/unified_schema/unified_schema.csv`
is the source of this page, of the table in ClickHouse and of the Arrow schema.

Where the daemon does otherwise than a description says: a deterministic `id` is a UUIDv8 with an XXH3-128 digest,
not a UUIDv5; `day` and `hour` follow `ingested_at` where `timestamp` lies too far from it (`day_window` of `unify`);
for OTLP `context` holds what of resource and scope has no column.

"""


# --- errors


def errors_page() -> str:
    retried = {True: "yes", False: "no"}
    head = ("Outcome", "HTTP", "gRPC", "Try again", "Differs for")
    kinds = [
        (code(kind), str(s.http), str(s.grpc), retried[s.retryable], special_answers(kind))
        for kind, s in outcome.TABLE.items()
    ]
    rows = [(code(name), code(cls.kind), code(cls.__name__), meaning) for name, cls, meaning in error_codes()]
    composed = [(code(name), meaning) for name, meaning in COMPOSED_CODES.values()]
    return (
        f"{NOTE}# Outcomes and error codes\n\n{ERRORS_INTRODUCTION}{table(head, kinds)}"
        f"\n## Codes\n\n{CODES_INTRODUCTION}{table(('Code', 'Outcome', 'Error', 'Meaning'), rows)}"
        f"\n## Codes of stores\n\n{table(('Code', 'Star stands for'), composed)}"
    )


def special_answers(kind: str) -> str:
    return ", ".join(f"{protocol} ({rows[kind].http})" for protocol, rows in outcome.PROTOCOLS.items() if kind in rows)


def error_codes() -> list[tuple[str, type[ColonnadeError], str]]:
    """(code, class, meaning) of whatever the package constructs of the tree; the longest message that goes with it.

    Raises ValueError for a code that can not be read and that COMPOSED_CODES does not know.
    """
    found: dict[tuple[str, type[ColonnadeError]], str] = {}
    composed: set[str] = set()
    for module in modules():
        for cls, argument, message in codes_in(module):
            expression = ast.unparse(argument)
            if isinstance(argument, ast.Constant):
                key = (argument.value, cls)
                found[key] = max(found.get(key, ""), message, key=len)
            elif expression in COMPOSED_CODES:
                composed.add(expression)
            elif expression not in PASSED_ON_CODES:
                raise ValueError(f"{module.__name__}: docs/generate.py can not read the code {expression}")
    if gone := COMPOSED_CODES.keys() - composed:
        raise ValueError(f"nothing raises {', '.join(gone)} any more: take it out of COMPOSED_CODES")
    rows = [(name, cls, message or first_line(cls)) for (name, cls), message in found.items()]
    return sorted(rows, key=lambda row: (row[0], row[1].__name__))


def modules() -> list[ModuleType]:
    names = [module.name for module in pkgutil.walk_packages(colonnade.__path__, "colonnade.")]
    return [import_module(name) for name in names if not name.endswith(("__main__", "_native"))]


def codes_in(module: ModuleType) -> Iterator[tuple[type[ColonnadeError], ast.expr, str]]:
    """Classes of the tree, an expression of a code, and the message that goes with it: what they are called with, what
    their own constructor passes to the base's, and what it has as default."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and (cls := error_class(module, ast.unparse(node.func))):
            if takes_code(cls):
                yield cls, node.args[0], message_of(node.args[1])
        elif isinstance(node, ast.ClassDef) and (cls := error_class(module, node.name)):
            for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
                if ast.unparse(call.func) == "super().__init__" and takes_code(cls.__base__):
                    yield cls, call.args[0], ""
            default = inspect.signature(cls).parameters.get("code")
            if default is not None and default.default is not default.empty:
                yield cls, ast.Constant(default.default), ""


def first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def message_of(expression: ast.expr) -> str:
    """The text of a message as it stands in the program, with dots for what is put in."""
    if isinstance(expression, ast.Constant):
        return str(expression.value)
    if isinstance(expression, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in expression.values)
    return ""


def error_class(module: ModuleType, name: str) -> type[ColonnadeError] | None:
    named = vars(module).get(name)
    return named if isinstance(named, type) and issubclass(named, ColonnadeError) else None


def takes_code(cls: type | None) -> bool:
    """Whether the constructor of a class of the tree takes the code, and then the message."""
    return (
        cls is not None
        and issubclass(cls, ColonnadeError)
        and list(inspect.signature(cls).parameters)[:2] == ["code", "message"]
    )


ERRORS_INTRODUCTION = """\
Whatever goes wrong becomes one outcome, and one table says how each protocol's client is told. A refusal that may be
tried again carries a delay (`Retry-After`, `RetryInfo`).

"""

CODES_INTRODUCTION = """\
Each error has a stable code: it is the label `code` of metrics, and stands in the metadata of dead letters.

"""


# --- metrics and commands


def metrics_page() -> str:
    rows = [
        (code(PREFIX + i.name), i.type, codes(i.labels), i.level, i.help)
        for i in sorted(TABLE, key=lambda instrument: instrument.name)
    ]
    return f"{NOTE}# Own metrics\n\n{METRICS_INTRODUCTION}{table(('Name', 'Type', 'Labels', 'Level', 'Meaning'), rows)}"


METRICS_INTRODUCTION = """\
Served at `http://localhost:8888/metrics` unless `service.telemetry.metrics` says otherwise, under the Collector's names
where it has them. Each also carries `service_name`, `service_instance_id` and `service_version`. Level is the lowest
`service.telemetry.metrics.level` that has the metric. [Operations](../operations.md) says which to watch.

"""


def command_line_page() -> str:
    text = f"{NOTE}# Command line\n\n{COMMANDS_INTRODUCTION}"
    context = click.Context(cli, info_name="colonnade", terminal_width=100)
    for name in ("", *cli.list_commands(context)):
        command = cli.get_command(context, name) if name else cli
        assert command is not None, name
        inner = click.Context(command, info_name=name, parent=context, terminal_width=100) if name else context
        text += f"\n## `{inner.command_path}`\n\n```text\n{command.get_help(inner).rstrip()}\n```\n"
    return text


COMMANDS_INTRODUCTION = """\
`colonnade` and `python -m colonnade` are the same. Exit status: 0 after a clean end, 1 after any error, which is told
once, as `Error: ...`, on standard error.
"""


def main() -> int:
    """Writes what differs and removes what no page has any more; says which."""
    wanted = pages()
    there = {str(path.relative_to(REFERENCE)) for path in REFERENCE.rglob("*") if path.is_file()}
    for name in sorted(there - wanted.keys()):
        (REFERENCE / name).unlink()
        print(f"removed docs/reference/{name}")
    for name, text in wanted.items():
        path = REFERENCE / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
