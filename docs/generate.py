"""Writes the reference pages under docs/reference from the program itself: `make docs`.

Nothing here is a list of its own: components come from the registry, keys from the configuration models' JSON Schema,
columns from the unified schema, errors from the exception tree and the calls that raise them, metrics from the
instruments, commands from the command line. `tests/docs/test_reference.py` holds the folder to it, both ways.
"""

from __future__ import annotations

import inspect
import io
import json
import sys
from importlib import import_module
from pathlib import Path

import click
import pyarrow.parquet as parquet
from generator.codes import LOOKED_UP_CODES, error_codes
from generator.keys import Schema, keys_table
from generator.markdown import code, codes, prose, table

import colonnade
from colonnade.daemon.command import cli
from colonnade.daemon.configuration.schema import json_schema
from colonnade.pipeline import outcome
from colonnade.pipeline.component import KINDS, SIGNALS, Factory
from colonnade.pipeline.instruments import PREFIX, TABLE
from colonnade.pipeline.registry import registry
from colonnade.unified_schema import Column, columns, mappings, otel_attributes
from colonnade.unified_schema.clickhouse import columns as stored_columns
from colonnade.unified_schema.columns import LOW_CARDINALITY_TEXT
from colonnade.unified_schema.mappings.model import Field as MappingField
from colonnade.unified_schema.mappings.model import column_of
from colonnade.unified_schema.parquet import file_schema

TOP = Path(__file__).resolve().parents[1]
REFERENCE = TOP / "docs" / "reference"
NOTE = "<!-- Written by docs/generate.py from the program. Change the program, then run `make docs`. -->\n\n"


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
        "mappings.md": mappings_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
        "command_line.md": command_line_page(),
        "configuration.schema.json": json.dumps(schema, indent=1) + "\n",
    }


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


# --- columns


def columns_page() -> str:
    stored = {column.name: column for column in stored_columns()}
    groups: dict[str, list[Column]] = {}
    for column in columns():
        groups.setdefault(column.group, []).append(column)
    archived = parquet_types()
    head = ("#", "Column", "Schema", "Arrow", "ClickHouse", "Parquet", "OpenTelemetry attributes", "Meaning")
    text = f"{NOTE}# Columns\n\n{COLUMNS_INTRODUCTION}"
    for group, members in groups.items():
        rows = [
            (
                str(column.position),
                code(column.name),
                code(column.type),
                code(str(column.arrow_type).replace(str(LOW_CARDINALITY_TEXT), "dictionary<string>")),
                code(f"ALIAS {alias}" if (alias := stored[column.name].alias) else stored[column.name].type),
                archived.get(column.name, "folder"),
                attributes_of(column),
                column.description,
            )
            for column in members
        ]
        text += f"## {group}\n\n{table(head, rows)}\n"
    return text.rstrip("\n") + "\n"


def parquet_types() -> dict[str, str]:
    """Types of a file's columns as a file says them; the others are names of its folders."""
    file = io.BytesIO()
    parquet.write_table(file_schema().empty_table(), file)
    leaves = parquet.ParquetFile(file).schema
    found: dict[str, str] = {}
    for leaf in map(leaves.column, range(len(leaves))):
        name, _, inside = leaf.path.partition(".")
        logical = "MAP" if inside else leaf.logical_type.type
        found[name] = code(logical if inside else leaf.physical_type + (f" {logical}" if logical != "NONE" else ""))
    return found


def attributes_of(column: Column) -> str:
    """The attributes that feed a column; in bold the one whose values have it as their home."""
    fed = {a.key: a.role for a in otel_attributes() if a.column == column.name}
    return ", ".join(f"**{code(key)}**" if fed.get(key) == "canonical" else code(key) for key in column.otel_attributes)


COLUMNS_INTRODUCTION = f"""\
Every row of every signal has these {len(columns())} columns: the event's own, and at the end those of the group
`PartitionInternal`, which say where and when it was stored. A batch in flight (Arrow) holds only the columns that its
rows use. Where a value is absent, text is empty in flight and in ClickHouse, and null in Parquet; numbers, booleans and
times are null where zero is a value.

An attribute in bold has the column as its one home: its value is stored there and not among `attributes`. Any other
attribute named here feeds the column and stays in `attributes` as well. `colonnade/unified_schema/unified_schema.csv`
is the source of this page, of the table in ClickHouse and of the Arrow schema.

Where the daemon does otherwise than a description says: a deterministic `id` is a UUIDv8 with an XXH3-128 digest,
not a UUIDv5; `day` and `hour` follow `ingested_at` where `timestamp` lies too far from it (`day_window` of `unify`);
for OTLP `context` holds what of resource and scope has no column.

"""


# --- mappings


def mappings_page() -> str:
    """What every source's fields become: the files themselves, as tables."""
    text = f"{NOTE}# Mappings\n\n{MAPPINGS_INTRODUCTION}"
    for name in mappings.names():
        mapping = mappings.builtin(name)
        text += f"\n## `{name}`\n\n{mapping.description or mapping.title}\n\n"
        text += table(("Field", "Lives in", "Required", "Must be"), [field_row(field) for field in mapping.all_fields])
        if mapping.each:
            path, part = mapping.each
            text += f"\nOne row per item of `{path}`:\n\n"
            text += table(("Field", "Lives in", "Required", "Must be"), [field_row(field) for field in part.fields])
        computed = sorted(mapping.columns - {column_of(field.home) for field in mapping.all_fields})
        text += f"\nBesides, filled for querying: {codes(computed)}.\n"
    return text


def field_row(field: MappingField) -> tuple[str, str, str, str]:
    home = {"none": "nowhere", "within": "where it stands", "rows": "rows of its own"}.get(field.home.kind)
    wanted = ", ".join(field.one_of) or ("" if field.is_ == "any" else field.is_)
    return code(field.path), home or code(field.home.shown), "yes" if field.required else "", wanted


MAPPINGS_INTRODUCTION = """\
Each source of JSON events has a file in `colonnade/unified_schema/mappings/` that says where each of its fields lives.
A field that no row of a table names stands in `context`, under `$src`: nothing that was sent is lost.
[Mapping files](../mapping_files.md) says how one is written; `colonnade map FILE --mapping NAME` shows what an input
becomes.

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
    looked_up = [(code(source_of(module)), codes(names)) for (module, _), names in LOOKED_UP_CODES.items()]
    return (
        f"{NOTE}# Outcomes and error codes\n\n{ERRORS_INTRODUCTION}{table(head, kinds)}"
        f"\n## Codes\n\n{CODES_INTRODUCTION}{table(('Code', 'Outcome', 'Error', 'Meaning'), rows)}"
        f"\n## Codes that are looked up\n\n{table(('Raised in', 'Codes'), looked_up)}"
    )


def special_answers(kind: str) -> str:
    return ", ".join(f"{protocol} ({rows[kind].http})" for protocol, rows in outcome.PROTOCOLS.items() if kind in rows)


ERRORS_INTRODUCTION = """\
Whatever goes wrong becomes one outcome, and one table says how each protocol's client is told. A refusal that may be
tried again carries a delay (`Retry-After`, `RetryInfo`).

"""

CODES_INTRODUCTION = """\
Each error has a stable code: it is the label `code` of metrics, and stands in the metadata of dead letters. A star
stands for what a server or a store called it.

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
