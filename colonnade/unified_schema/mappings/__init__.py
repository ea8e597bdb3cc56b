"""Mapping files: what the events of a source become.

One YAML file per `event_source` and form. Ours stand in this folder; a user's own may stand anywhere and extend them.
The same file is compiled for the native part (`plan`), makes the inverse and the reference page.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from colonnade.unified_schema.mappings.file import MappingError, Place, nearest
from colonnade.unified_schema.mappings.model import Mapping
from colonnade.unified_schema.mappings.plan import format_plan
from colonnade.unified_schema.mappings.reading import FOLDER, load

__all__ = ["Mapping", "MappingError", "Place", "builtin", "find", "format_plan", "load", "names"]


@cache
def names() -> tuple[str, ...]:
    """Names of the built-in mappings; files that others extend, which begin with `_`, are none."""
    return tuple(sorted(file.stem for file in FOLDER.glob("[!_]*.yaml")))


@cache
def builtin(name: str) -> Mapping:
    """A mapping of ours. Raises KeyError."""
    if name not in names():
        raise KeyError(name)
    return load(FOLDER / f"{name}.yaml")


def find(name: str, folder: Path) -> Mapping:
    """A mapping by its name or by its file, relative to `folder`.

    Raises:
        MappingError: the file is wrong.
        FileNotFoundError: there is neither; the text says what there is.
    """
    path = folder / name
    if path.is_file():
        return load(path)
    if name in names():
        return builtin(name)
    raise FileNotFoundError(
        f"no mapping {name!r}{nearest(name, names())}: neither a file nor one of {', '.join(names())}"
    )
