"""Where documents come from: `--config` and `--set`, in the order given, `--set` last.

`--config` takes a path, `file:PATH`, `env:NAME` (the variable holds YAML) or `yaml:TEXT` (`yaml:a::b: 1`). Paths are
relative to the working directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping as Env
from collections.abc import Sequence
from pathlib import Path

from colonnade.daemon.configuration.merge import merge
from colonnade.daemon.configuration.parse import parse
from colonnade.daemon.configuration.tree import Entry, Findings, Mapping, Node, Place, Scalar

SCHEMES = ("env", "file", "yaml")
FILE_SIZE_MAX_BYTES = 16 << 20

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SourceError(Exception):
    """A source that can not be read; the text says why."""


def read_file(path: str) -> str:
    """The text of a file. Raises SourceError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > FILE_SIZE_MAX_BYTES:
        raise SourceError(f"cannot read {path}: larger than {FILE_SIZE_MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"cannot read {path}: not UTF-8 (byte {error.start})") from None


def read_env(name: str, env: Env[str, str]) -> str:
    """The text of a variable for `--config env:NAME`. Raises SourceError."""
    if not _ENV_NAME.fullmatch(name):
        raise SourceError(f"environment variable {name!r} has an invalid name: it must match {_ENV_NAME.pattern}")
    if name not in env:
        raise SourceError(f"environment variable {name} is not set")
    return env[name]


def split_uri(uri: str) -> tuple[str, str]:
    """Scheme and rest; a bare path is a file."""
    match = _SCHEME.fullmatch(uri)
    return (match[1], match[2]) if match else ("file", uri)


def fetch(uri: str, env: Env[str, str]) -> tuple[str, str]:
    """Text and the source's name for messages. Raises SourceError."""
    scheme, rest = split_uri(uri)
    if scheme == "file":
        return read_file(rest), rest
    if scheme == "env":
        return read_env(rest, env), f"env:{rest}"
    if scheme == "yaml":
        return rest, "yaml:"
    if os.path.exists(uri):
        return read_file(uri), uri
    raise SourceError(
        f"scheme {scheme!r} of --config {uri} is not known (valid: {', '.join(SCHEMES)}, or a plain path)"
    )


def documents(
    uris: Sequence[str], sets: Sequence[str], findings: Findings, env: Env[str, str]
) -> tuple[Node | None, tuple[str, ...]]:
    """All sources merged, and their names."""
    root: Node | None = None
    names: list[str] = []
    for uri in uris:
        try:
            text, source = fetch(uri, env)
        except SourceError as error:
            findings.wrong(str(error))
            continue
        names.append(source)
        root = merge(root, _document(parse(text, source, findings), source, findings))
    for setting in sets:
        root = merge(root, _setting(setting, findings))
    return root, tuple(names)


def _document(root: Node | None, source: str, findings: Findings) -> Node | None:
    if root is None or isinstance(root, Mapping):
        return root
    # A file of comments only is empty, and so is one with a lone `null`.
    if getattr(root, "value", "") is not None:
        findings.wrong("a configuration is a mapping with keys such as receivers, exporters and service", root.place)
    return None


def _setting(setting: str, findings: Findings) -> Node | None:
    """`a.b=c` or `a::b=c` as a document."""
    key, equal, value = setting.partition("=")
    source = f"--set {key}"
    if not equal:
        findings.wrong(f"--set {setting!r}: missing equal sign", None)
        return None
    parts = [part.strip() for part in (key.split("::") if "::" in key else key.split("."))]
    if not all(parts):
        findings.wrong(f"--set {setting!r}: a level of the key is empty")
        return None
    place = Place(source)
    node = parse(value, source, findings)
    for part in reversed(parts):
        node = Mapping({part: Entry(place, node or Scalar(None, "", place))}, place)
    return node
