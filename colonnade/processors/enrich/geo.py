"""Where addresses are, from files in MaxMind's format; files are read again when they change."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow

from colonnade.native import GeoDatabase, locate_addresses
from colonnade.processors.enrich.rows import Rows, Terms

pa: Any = pyarrow


class Geo:
    """Country, region, city, coordinates, time zone, postal code and network of addresses.

    Args:
        paths: files; what one does not say of an address, the next one may.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths
        self._databases: dict[Path, GeoDatabase] = {}

    def load(self, path: Path) -> None:
        """Reads a file. Raises OSError, or ValueError where it is no such file, or damaged."""
        path.stat()
        try:
            self._databases = self._databases | {path: GeoDatabase(path)}
        except ValueError as error:
            raise ValueError(f"not a MaxMind database, or damaged: {error}") from None

    def age_s(self, path: Path) -> float:
        """How long ago a file was made, by its own word."""
        database = self._databases.get(path)
        return time.time() - database.built_at if database else 0.0

    def __call__(self, rows: Rows, addresses: Terms) -> None:
        """Fills what is known of each row's address."""
        databases = [self._databases[path] for path in self.paths if path in self._databases]
        if not databases or not addresses.any:
            return
        found = pa.record_batch(locate_addresses(databases, addresses.texts))
        for name, column in zip(found.schema.names, found.columns, strict=True):
            rows.fill_array(name, addresses, column)
