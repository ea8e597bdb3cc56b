"""Markdown out of plain values."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence

from colonnade.daemon.configuration.model import SECTIONS


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
    """A docstring as Markdown: its indented samples become blocks, of YAML where they begin with a section."""

    def fence(match: re.Match[str]) -> str:
        sample = textwrap.dedent(match[0]).strip()
        language = "yaml" if sample.partition(":")[0] in (*SECTIONS, "service") else "text"
        return f"```{language}\n{sample}\n```\n"

    return re.sub(r"(?m)(^ {4}.*\n(?:\n(?= {4}))?)+", fence, inspect.cleandoc(docstring) + "\n")
