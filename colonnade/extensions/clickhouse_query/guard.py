"""What a statement may say before it reaches the engine.

The engine itself runs statements with `readonly = 1`, which refuses writes, DDL and most table functions; measured
against it, that leaves open: `INTO OUTFILE` (writes any file), the function `file` (reads any file), object-store
table functions that connect before they check, several statements in one text, and KILL. Those are refused here. The
text that is looked at is the engine's own rendering of its own parse (`formatQuery`), and it is that text that runs,
so no trick of quotes or comments can make the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

ACCESS_DENIED = 497
SYNTAX_ERROR = 62

STATEMENTS = frozenset({"select", "with", "show", "describe", "desc", "explain", "exists"})
# Table functions that read nothing but the statement itself or the engine's own tables.
TABLE_FUNCTIONS = frozenset(
    {
        *("numbers", "numbers_mt", "zeros", "zeros_mt", "primes", "values", "view", "viewexplain", "null", "format"),
        *("generate_series", "generateseries", "generaterandom", "merge", "mergetreeindex", "mergetreeprojection"),
        *("mergetreeanalyzeindexes", "mergetreetextindex", "dictionary"),
    }
)
# Functions that reach outside although they are no table functions.
FUNCTIONS = frozenset({"file", "catboostevaluate", "python", "filesystemavailable", "filesystemcapacity"})

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<text>'(?:[^'\\]|\\.|'')*')"
    r"|(?P<quoted>`(?:[^`\\]|\\.|``)*`|\"(?:[^\"\\]|\\.|\"\")*\")"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<number>\d[\w.]*)"
    r"|(?P<other>.)",
    re.DOTALL,
)


class Forbidden(Exception):
    """A statement that is not run. `code` is the number that ClickHouse would give."""

    def __init__(self, message: str, code: int = ACCESS_DENIED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a quoted name (`text` in lower case, without quotes; `raw` as written), or anything else."""

    kind: str
    text: str
    raw: str = field(default="", compare=False)


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of a statement, without white space."""
    for match in _TOKEN.finditer(sql):
        kind, text = match.lastgroup or "other", match[0]
        if kind == "word":
            yield Token("word", text.lower(), text)
        elif kind == "quoted":
            name = re.sub(r"\\(.)", r"\1", text[1:-1])
            yield Token("quoted", name.lower(), name)
        elif kind != "space":
            yield Token(kind, text)


def check(sql: str, table_functions: frozenset[str]) -> None:
    """Raises Forbidden for what a reader must not do.

    Args:
        sql: one statement, as the engine renders it.
        table_functions: every table function that the engine knows, lower case.
    """
    found = list(tokens(sql))
    first = next((token.text for token in found if token.text != "("), "")
    if first not in STATEMENTS:
        raise Forbidden(f"only statements that read are answered here: {', '.join(sorted(STATEMENTS)).upper()}")
    denied = (table_functions - TABLE_FUNCTIONS) | FUNCTIONS
    for token, after in zip(found, [*found[1:], Token("end", "")], strict=True):
        if token.kind == "word" and token.text == "into" and after.text == "outfile":
            raise Forbidden("INTO OUTFILE is not allowed here")
        if token.kind in ("word", "quoted") and after == Token("other", "(") and token.text in denied:
            raise Forbidden(f"the function {token.text} is not allowed here: it reaches outside of the store")


def format_of(sql: str) -> str | None:
    """The name in the statement's own FORMAT clause, if it has one."""
    found = list(tokens(sql))
    name, depth = None, 0
    for token, after in pairwise(found):
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "other" else 0
        if depth == 0 and token == Token("word", "format") and after.kind in ("word", "quoted"):
            name = after.raw
    return name
