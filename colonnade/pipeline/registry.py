"""The registry: every component factory that is installed, ours and a user's own package's alike.

A package registers a component by an entry point of the group `colonnade.components`, named `<kind>.<type>`, whose
value is the module's factory: `"receiver.otlp" = "colonnade.receivers.otlp:factory"`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from colonnade.pipeline.component import KINDS, Factory, Kind
from colonnade.pipeline.errors import ColonnadeError

GROUP = "colonnade.components"


class UnknownComponent(ColonnadeError):
    """No factory of that kind and type; `nearest` is the closest known type, if any."""

    def __init__(self, kind: str, type: str, known: list[str]) -> None:
        match = difflib.get_close_matches(type, known, n=1)
        self.nearest = match[0] if match else None
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        super().__init__("unknown_component", f"unknown {kind} type {type!r}{hint} (known: {', '.join(known)})")


class BadRegistration(ColonnadeError):
    """An installed entry point that does not lead to a factory."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__("bad_registration", f"component entry point {name!r}: {reason}")


class Registry:
    """Factories by kind and type; loaded on first use, because importing a component may be slow."""

    def __init__(self, points: dict[str, EntryPoint | Factory]) -> None:
        self._points = points
        self._aliases: dict[tuple[str, str], str] | None = None

    def types(self, kind: Kind) -> list[str]:
        """Known types of a kind, sorted."""
        return sorted(name.partition(".")[2] for name in self._points if name.startswith(f"{kind}."))

    def get(self, kind: Kind, type: str) -> tuple[Factory, bool]:
        """The factory, and whether `type` was an older spelling. Raises UnknownComponent, BadRegistration."""
        if f"{kind}.{type}" in self._points:
            return self._load(f"{kind}.{type}"), False
        canonical = self.aliases().get((kind, type))
        if canonical is None:
            raise UnknownComponent(kind, type, self.types(kind))
        return self._load(f"{kind}.{canonical}"), True

    def aliases(self) -> dict[tuple[str, str], str]:
        """(kind, older spelling) to type. Loads every component, so only asked when a type is not known; a broken one
        has none, which is told where it is used."""
        if self._aliases is None:
            self._aliases = {}
            for name in sorted(self._points):
                with suppress(BadRegistration):
                    factory = self._load(name)
                    self._aliases |= {(factory.kind, alias): factory.type for alias in factory.aliases}
        return self._aliases

    def __iter__(self) -> Iterator[Factory]:
        return (self._load(name) for name in sorted(self._points))

    def _load(self, name: str) -> Factory:
        point = self._points[name]
        if not isinstance(point, Factory):
            try:
                loaded = point.load()
            except Exception as error:  # whatever a stranger's module does while it is imported
                reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
                raise BadRegistration(name, f"{point.value} can not be imported: {reason}") from error
            if not isinstance(loaded, Factory):
                raise BadRegistration(name, f"{point.value} is a {type(loaded).__name__}, not a Factory")
            self._points[name] = point = loaded
        if name != f"{point.kind}.{point.type}" or point.kind not in KINDS:
            raise BadRegistration(name, f"its factory says {point.kind}.{point.type}")
        return point


@cache
def registry() -> Registry:
    """The installed components."""
    return Registry({point.name: point for point in entry_points(group=GROUP)})
