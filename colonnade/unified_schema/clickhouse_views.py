"""Views of the wide table with the names and shapes of the Collector's tables, for readers that expect those."""

from __future__ import annotations

from colonnade.unified_schema.clickhouse import TableOptions


def create_views(options: TableOptions, views: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of name and statement for the wanted views (kind to name; an empty name: none)."""
    return []
