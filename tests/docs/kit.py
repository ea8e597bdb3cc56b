"""Markdown files of the project, as a Markdown parser reads them, and configurations completed from fragments."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from colonnade.daemon.configuration.model import SECTIONS
from colonnade.pipeline.component import SIGNALS, ComponentId, Factory
from colonnade.pipeline.registry import registry

TOP = Path(__file__).resolve().parents[2]


def script(path: str) -> Any:
    """A script of the project as a module. Its folder is no package, and comes first on the path, as Python does it."""
    sys.path.insert(0, str((TOP / path).parent))
    spec = importlib.util.spec_from_file_location(Path(path).stem, TOP / path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Document = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """A fenced block: which file, which line, which language."""

    file: Path
    line: int
    language: str
    text: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.file.relative_to(TOP)}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    file: Path
    blocks: list[Block]
    links: list[str]
    anchors: set[str]
    code: list[str]
    tables: list[list[list[str]]]

    def table(self, *head: str) -> list[list[str]]:
        """The rows of the one table with that head; code spans without their backticks."""
        (found,) = (table for table in self.tables if table[0] == list(head))
        return found[1:]


def files() -> list[Path]:
    """Every Markdown file that the project has."""
    found = [*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md"), *(TOP / "examples").rglob("*.md")]
    return sorted(found)


@cache
def read(file: Path) -> Page:
    tokens = MarkdownIt("commonmark").enable("table").parse(file.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    return Page(
        file,
        list(_blocks(file, tokens)),
        [str(t.attrs["href"]) for t in inline if t.type == "link_open"],
        {_anchor(tokens[i + 1]) for i, t in enumerate(tokens) if t.type == "heading_open"},
        [t.content for t in inline if t.type == "code_inline"],
        list(_tables(tokens)),
    )


def _blocks(file: Path, tokens: list[Token]) -> Iterator[Block]:
    """Fenced blocks; indented ones are text."""
    for token in tokens:
        if token.type in ("fence", "code_block"):
            language = token.info.strip() if token.type == "fence" else "text"
            yield Block(file, (token.map or [0])[0] + 1, language, token.content)


def pages() -> list[Page]:
    return [read(file) for file in files()]


def blocks(language: str) -> list[Block]:
    return [block for page in pages() for block in page.blocks if block.language == language]


def _text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or ())


def _anchor(heading: Token) -> str:
    """As forges make anchors of headings."""
    return re.sub(r"[^\w\- ]", "", _text(heading).lower()).replace(" ", "-")


def _tables(tokens: list[Token]) -> Iterator[list[list[str]]]:
    rows: list[list[str]] = []
    for index, token in enumerate(tokens):
        if token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append(_text(tokens[index + 1]))
        elif token.type == "table_close":
            yield rows


def commands(block: Block) -> list[list[str]]:
    """The commands of a console block: lines that begin with `$ `, with their continuation lines; as words."""
    text = re.sub(r"\\\n", " ", block.text)
    lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines]


# --- configurations


def completed(fragment: Document) -> Document:
    """A configuration around a fragment: what it defines stands in pipelines of every signal that it knows."""
    document = {"receivers": {"otlp": {"protocols": {"http": None}}}, "exporters": {"nop": None}} | fragment
    service = dict(document.get("service") or {})
    if "pipelines" not in service:
        pipelines = {signal: _pipeline(document, signal) for signal in SIGNALS}
        service["pipelines"] = {s: p for s, p in pipelines.items() if p["receivers"] and p["exporters"]}
    service.setdefault("extensions", [*(document.get("extensions") or {})])
    return document | {"service": service}


def _pipeline(document: Document, signal: str) -> Document:
    roles = ("receivers", "processors", "exporters")
    return {
        role: [id for id, settings in (document.get(role) or {}).items() if _knows(role, id, settings, signal)]
        for role in roles
    }


def _knows(section: str, id: str, settings: Any, signal: str) -> bool:
    factory, _ = registry().get(SECTIONS[section], ComponentId.parse(id).type)
    if signal not in factory.signals:
        return False
    return factory.lacks is None or not factory.lacks(factory.config.model_validate(settings or {}), signal)


def factories() -> list[Factory]:
    """The project's own components."""
    return [factory for factory in registry() if factory.module.startswith("colonnade.")]
