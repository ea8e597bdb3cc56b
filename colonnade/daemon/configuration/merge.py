"""Several documents become one: maps deep-merge, scalars and lists of the later replace, null overrides.

Clause: otelcol 1.2, Merging.
"""

from __future__ import annotations

from colonnade.daemon.configuration.tree import Entry, Mapping, Node


def merge(earlier: Node | None, later: Node | None) -> Node | None:
    """The later document over the earlier one; an empty document changes nothing. Neither is altered."""
    if later is None or earlier is None:
        return earlier if later is None else later
    if not (isinstance(earlier, Mapping) and isinstance(later, Mapping)):
        return later
    entries = dict(earlier.entries)
    for key, entry in later.entries.items():
        before = entries.get(key)
        if before is None:
            entries[key] = entry
        else:
            merged = merge(before.node, entry.node)
            entries[key] = Entry(entry.place, merged if merged is not None else entry.node)
    return Mapping(entries, earlier.place, earlier.text, earlier.origin)
