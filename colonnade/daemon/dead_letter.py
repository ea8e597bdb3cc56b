"""`colonnade dead-letter list|show|retry`: what stores refused for good, why, and another attempt at it.

Works on the folders alone, so that it also does where no daemon runs. One that runs takes what `retry` gives back
within seconds, any other at its next start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from colonnade.pipeline.dead_letter import RETRY, SUFFIX, UNREADABLE, describe, load
from colonnade.pipeline.disk import sync

DEFAULT_FOLDER = Path("data/dead_letter")
SHOWN_ROWS = 5
UNWRAPPED = 10_000

_folders = click.option(
    "--folder",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help=f"Where to look, below it too (default: {DEFAULT_FOLDER}; an exporter's dead_letter.directory). Repeatable.",
)


@click.group("dead-letter")
def dead_letter_command() -> None:
    """Rows that a store refused for good: list them, look at them, have them tried again."""


@dead_letter_command.command("list")
@_folders
def list_command(folders: tuple[Path, ...]) -> int:
    """List dead letters, the oldest first: one line per file, with the reason."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("file", "time", "rows", "pipeline", "exporter", "code", "reason"):
        table.add_column(heading, justify="right" if heading == "rows" else "left", no_wrap=heading != "reason")
    rows = 0
    for path in _files(folders):
        said = _said(path)
        rows += int(said.get("rows", 0))
        waits = " (to be tried again)" if path.parent.name == RETRY else ""
        reason = said.get("reason", "")
        cells = (path.stem, _time(said), *(said.get(key, "") for key in ("rows", "pipeline", "exporter", "code")))
        table.add_row(*(Text(cell) for cell in (*cells, reason + waits)))
    if not table.row_count:
        click.echo(f"no dead letters below {', '.join(map(str, folders or (DEFAULT_FOLDER,)))}", err=True)
        return 0
    # A program reads it line by line.
    width = None if sys.stdout.isatty() else UNWRAPPED
    Console(highlight=False, width=width).print(table)
    click.echo(f"{rows} rows in {table.row_count} files", err=True)
    return 0


@dead_letter_command.command("show")
@click.argument("names", nargs=-1, required=True, metavar="FILE...")
@click.option("--rows", "shown", default=SHOWN_ROWS, show_default=True, help="How many rows of each file; 0 = all.")
@_folders
def show_command(names: tuple[str, ...], shown: int, folders: tuple[Path, ...]) -> int:
    """Show why rows were refused, and the rows themselves, column by column."""
    from colonnade.daemon.map import print_row, rows_of

    for path in _named(names, folders):
        try:
            said, part = describe(path), load(path)
        except UNREADABLE as error:
            raise click.ClickException(f"{path} can not be read: {error}") from None
        click.echo(f"{path}")
        for key in ("exporter", "pipeline", "code", "reason", "rows"):
            click.echo(f"  {key:8}  {said.get(key, '')}")
        click.echo(f"  {'time':8}  {_time(said)}")
        rows = (row for batch in part.batches for row in rows_of(batch))
        for number, row in enumerate(rows):
            if shown and number == shown:
                click.echo(f"... and {part.rows - shown} more rows (--rows 0 shows all)")
                break
            click.echo(print_row(number, row))
    return 0


@dead_letter_command.command("retry")
@click.argument("names", nargs=-1, metavar="FILE...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--code", help="Those with this code.")
@_folders
def retry_command(names: tuple[str, ...], everything: bool, code: str | None, folders: tuple[Path, ...]) -> int:
    """Have rows tried again, by the exporter that was refused: FILE... as `list` names them, --code, or --all.

    Rows that are refused again are parked again. A pipeline or exporter that is gone takes nothing.
    """
    if not names and not everything and code is None:
        raise click.UsageError("name the files that are to be tried again, or say --all or --code CODE")
    paths = [*_named(names, folders)] if names else [*_files(folders)]
    files = rows = 0
    for path in paths:
        said = _said(path)
        if path.parent.name == RETRY or (code is not None and said.get("code") != code):
            continue
        _give_back(path)
        files, rows = files + 1, rows + int(said.get("rows", 0))
    click.echo(f"{rows} rows in {files} files will be tried again by a daemon that runs, or at its next start")
    return 0


def _give_back(path: Path) -> None:
    """Raises ClickException."""
    target = path.parent / RETRY / path.name
    try:
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
        sync(target.parent)
        sync(path.parent)
    except OSError as error:
        raise click.ClickException(f"{path} can not be moved to {target.parent}: {error.strerror}") from None


def _files(folders: tuple[Path, ...]) -> Iterator[Path]:
    """Oldest first."""
    found = {path for folder in folders or (DEFAULT_FOLDER,) for path in folder.rglob(f"*{SUFFIX}")}
    yield from sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def _named(names: tuple[str, ...], folders: tuple[Path, ...]) -> Iterator[Path]:
    """Files by path, or by name with or without suffix. Raises ClickException."""
    known = {path.stem: path for path in _files(folders)}
    for name in names:
        path = Path(name)
        if path.suffix == SUFFIX and path.is_file():
            yield path
        elif (found := known.get(name.removesuffix(SUFFIX))) is not None:
            yield found
        else:
            raise click.ClickException(f"no dead letter is called {name}; `colonnade dead-letter list` names them")


def _said(path: Path) -> dict[str, str]:
    try:
        return describe(path)
    except UNREADABLE as error:
        return {"reason": f"can not be read: {type(error).__name__}"}


def _time(said: dict[str, str]) -> str:
    at_s = float(said.get("time", 0))
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at_s else ""
