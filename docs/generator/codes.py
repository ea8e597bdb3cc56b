"""Every error code that the package can raise, read from its sources: the calls that construct errors of the tree."""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import colonnade
from colonnade.pipeline.errors import ColonnadeError

# Codes that are looked up where they are raised: module and expression, and what it gives. Names without a star must
# stand in the program.
LOOKED_UP_CODES = {
    ("colonnade.exporters.clickhouse.exporter", "error.label"): ("clickhouse_*", "clickhouse_unreachable"),
    ("colonnade.exporters.questdb.errors", "self.label"): ("questdb_*", "questdb_unreachable"),
    ("colonnade.exporters.parquet.exporter", "code"): ("disk_full", "file_too_large", "not_writable", "io_error"),
    ("colonnade.exporters.parquet.bucket", "trouble.code"): (
        *("no_bucket", "bad_credentials", "no_credentials", "not_allowed", "wrong_region", "wrong_clock"),
        *("not_offered", "store_busy", "store_unreachable", "store_refused"),
    ),
}
# Expressions that pass on the code of another error, or a constructor's own parameter.
PASSED_ON_CODES = {"outcome.code", "error.code", "super:code"}


def error_codes() -> list[tuple[str, type[ColonnadeError], str]]:
    """(code, class, meaning) of whatever the package constructs of the tree; the longest message that goes with it.

    Raises ValueError for a code that can not be read and that LOOKED_UP_CODES does not know.
    """
    found: dict[tuple[str, type[ColonnadeError]], str] = {}
    unused = dict(LOOKED_UP_CODES)
    for module in modules():
        for cls, argument, message in codes_in(module):
            place = (module.__name__, ast.unparse(argument))
            if name := text_of(argument, "*"):
                found[name, cls] = max(found.get((name, cls), ""), message, key=len)
            elif place in LOOKED_UP_CODES:
                unused.pop(place, None)
            elif place[1] not in PASSED_ON_CODES:
                raise ValueError(f"docs/generate.py can not read the code {place[1]} of {place[0]}")
    sources = "".join(inspect.getsource(module) for module in modules())
    gone = [name for names in LOOKED_UP_CODES.values() for name in names if "*" not in name and name not in sources]
    if unused or gone:
        raise ValueError(f"nothing raises these any more: {unused or gone}")
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
                for code in choices(node.args[0]):
                    yield cls, code, text_of(node.args[1], "…")
        elif isinstance(node, ast.ClassDef) and (cls := error_class(module, node.name)):
            for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
                if ast.unparse(call.func) == "super().__init__" and takes_code(cls.__base__):
                    own = call.args[0]
                    yield cls, ast.Name(f"super:{own.id}") if isinstance(own, ast.Name) else own, ""
            default = inspect.signature(cls).parameters.get("code")
            if default is not None and default.default is not default.empty:
                yield cls, ast.Constant(default.default), ""


def choices(expression: ast.expr) -> Iterator[ast.expr]:
    """Both sides of a conditional expression, else the expression."""
    if isinstance(expression, ast.IfExp):
        yield from choices(expression.body)
        yield from choices(expression.orelse)
    else:
        yield expression


def first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def text_of(expression: ast.expr, gap: str) -> str:
    """A text as it stands in the program, with `gap` for what is put in; empty where it is no text."""
    if isinstance(expression, ast.Constant):
        return str(expression.value)
    if isinstance(expression, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else gap for part in expression.values)
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
