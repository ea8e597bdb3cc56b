"""`colonnade map FILE --mapping X`: what an input becomes under a mapping, column by column, and what is refused."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from colonnade.native import Batch
    from colonnade.unified_schema.mappings import Mapping

Row = dict[str, Any]
_NONE: tuple[Any, ...] = (None, "", {}, b"")


@click.command("map")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--mapping", "name", required=True, metavar="X", help="A mapping file, or the name of one of ours.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def map_command(file: Path, name: str, form: str) -> int:
    """Show what the JSON events of FILE become: one event, a list of them, or one a line; - is standard input.

    Each row is shown with the columns that it fills. Events that are refused say why, and make the exit status 1.
    """
    mapping = _mapping(name)
    body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    batch, rejected = _mapped(mapping, body)
    for number, row in enumerate(rows_of(batch)):
        click.echo(json.dumps(row, ensure_ascii=False) if form == "json" else print_row(number, row))
    for index, _, code, _, message in rejected:
        click.echo(f"event {index}: refused: {code}: {message}", err=form == "json")
    return 1 if rejected else 0


def _mapping(name: str) -> Mapping:
    from colonnade.unified_schema import mappings

    try:
        return mappings.find(name, Path.cwd())
    except (mappings.MappingError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from None


def _mapped(mapping: Mapping, body: bytes) -> tuple[Batch, list[tuple[int, str, str, str, str]]]:
    from colonnade.native import Format, NativeError
    from colonnade.unified_schema import mappings

    lines = body.strip().splitlines()
    if len(lines) > 1 and all(line.startswith(b"{") and line.endswith(b"}") for line in map(bytes.strip, lines)):
        body = b"[" + b",".join(lines) + b"]"
    format = Format(mappings.format_plan([mapping], lists=mapping.lists))
    try:
        batch, *_, rejected = format.map(body, received_ns=time.time_ns(), mapping=0)
    except NativeError as error:
        raise click.ClickException(f"{error.code}: {error}") from None
    return batch, rejected


def rows_of(batch: Batch) -> Iterator[Row]:
    """Columns that a row fills; times as text, attributes as values."""
    import pyarrow as pa

    from colonnade.unified_schema.mappings.inverse import print_time

    table: Any = pa.record_batch(batch)
    columns: list[list[Any]] = []
    for column in table.columns:
        if pa.types.is_timestamp(column.type):
            texts = column.cast(pa.int64()).to_pylist()
            columns.append([None if ns is None else print_time(ns) for ns in texts])
        else:
            columns.append([_plain(value) for value in column.to_pylist()])
    for values in zip(*columns, strict=True):
        named = zip(table.schema.names, values, strict=True)
        yield {name: value for name, value in named if value not in _NONE and not name.startswith("$")}


def _plain(value: Any) -> Any:
    """Maps are lists of pairs in Arrow, and bytes are no JSON."""
    if isinstance(value, list):
        pairs = cast("list[tuple[str, str | dict[str, str]]]", value)
        return {key: inner["text"] if isinstance(inner, dict) else inner for key, inner in pairs}
    return f"{len(value)} bytes" if isinstance(value, bytes) else value


def print_row(number: int, row: Row) -> str:
    """A row for people: a line per column."""
    width = max(map(len, row), default=0)
    lines = [
        f"  {name:{width}}  {value if isinstance(value, str) else json.dumps(value)}" for name, value in row.items()
    ]
    return "\n".join([f"row {number}", *lines])
