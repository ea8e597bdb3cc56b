"""`colonnade/_native.pyi` says what the binary is: same names, same members, same parameters, both ways."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
STUB = TOP / "colonnade/_native.pyi"
# Made by Python or pyo3 for every class, whatever the stub says.
IMPLIED = {
    *("__new__", "__init__", "__doc__", "__module__", "__dict__", "__weakref__", "__repr__", "__str__", "__eq__"),
    *("__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__len__", "__slots__", "__qualname__", "__name__"),
    *("__getitem__", "__iter__", "__next__", "__bool__", "__int__", "__index__", "__static_attributes__"),
    # Python 3.11 does not show it on classes of the binary.
    "__buffer__",
}
Parameters = list[tuple[str, str, bool]]
native: Any = importlib.import_module("colonnade._native")


def _own(names: set[str]) -> set[str]:
    """Names that the stub must say; what Python implies and what begins with one underscore is nobody's business."""
    return {
        n for n in names if n not in IMPLIED and (not n.startswith("_") or (n.startswith("__") and n.endswith("__")))
    }


def _stub_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> Parameters:
    """Name, kind, whether it has a default; without self or cls."""
    spec = function.args
    positional = [*spec.posonlyargs, *spec.args]
    optional = len(positional) - len(spec.defaults)
    found = [(a.arg, "positional", i >= optional) for i, a in enumerate(positional)]
    if spec.vararg:
        found.append((spec.vararg.arg, "varargs", False))
    found += [(a.arg, "keyword", d is not None) for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    return found[1:] if bound else found


def _binary_parameters(function: Any) -> Parameters | None:
    """The same of the binary; None where it has no text signature (a special method)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return None
    kinds = {
        inspect.Parameter.POSITIONAL_ONLY: "positional",
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
        inspect.Parameter.VAR_POSITIONAL: "varargs",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
        inspect.Parameter.VAR_KEYWORD: "varargs",
    }
    found = [(p.name, kinds[p.kind], p.default is not p.empty) for p in parameters]
    return [one for one in found if one[0] not in ("self", "$self", "cls", "$cls")]


def _module() -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for statement in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            found[statement.name] = statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement
    # Type aliases and type variables exist for the checker alone.
    return {name: s for name, s in found.items() if not name.startswith("_") or name == "__version__"}


MODULE = _module()
CLASSES = sorted(name for name, s in MODULE.items() if isinstance(s, ast.ClassDef))
FUNCTIONS = sorted(name for name, s in MODULE.items() if isinstance(s, ast.FunctionDef))


def test_the_stub_names_what_the_binary_has_and_no_more() -> None:
    binary = {name for name in vars(native) if not name.startswith("_")}
    assert FUNCTIONS, "the stub was not read"
    assert CLASSES, "the stub was not read"
    assert {name for name in MODULE if not name.startswith("_")} == binary


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_what_the_stub_says(name: str) -> None:
    statement = MODULE[name]
    assert isinstance(statement, ast.FunctionDef)
    assert _binary_parameters(getattr(native, name)) == _stub_parameters(statement, bound=False)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_the_members_that_the_stub_says(name: str) -> None:
    statement, actual = MODULE[name], getattr(native, name)
    assert isinstance(statement, ast.ClassDef)
    methods = {s.name: s for s in statement.body if isinstance(s, ast.FunctionDef)}
    fields = {s.target.id for s in statement.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}
    if issubclass(actual, BaseException):
        # Attributes of an exception are set on its instances.
        assert _own(set(methods)) <= set(dir(actual))
        return
    assert _own(set(methods) | fields) == _own(set(vars(actual)))
    for method, declared in methods.items():
        member = inspect.getattr_static(actual, method, None)
        decorators = {d.id for d in declared.decorator_list if isinstance(d, ast.Name)}
        if method == "__init__":
            taken = _binary_parameters(actual)
            assert taken is None or taken == _stub_parameters(declared, bound=True), method
        elif "property" in decorators:
            assert inspect.isgetsetdescriptor(member), f"{name}.{method} is not a property in the binary"
        elif not method.startswith("__"):
            bound = "staticmethod" not in decorators
            assert _binary_parameters(getattr(actual, method)) == _stub_parameters(declared, bound=bound), method
