"""Columns from a table of one's own, by any column's value; the file is read again when it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from colonnade.processors.enrich.rows import Rows

pa: Any = pyarrow
csv: Any = pyarrow.csv
pq: Any = pyarrow.parquet


class Lookup:
    """One table: rows of it are found by a key, and give columns.

    Args:
        path: a `.parquet` file, or CSV with a line of names.
        column: of our rows, whose text is the key.
        key: the table's column to find it in; of several rows the last one counts.
        gives: our columns, and the table's that fill them.
    """

    def __init__(self, path: Path, column: str, key: str, gives: dict[str, str]) -> None:
        self.path = path
        self._column, self._key, self._gives = column, key, gives
        self._table: tuple[dict[str, int], dict[str, list[Any]]] = ({}, {})

    def load(self) -> None:
        """Reads the file. Raises OSError, or ValueError with what is wrong with it."""
        try:
            table = pq.read_table(self.path) if self.path.suffix == ".parquet" else csv.read_csv(self.path)
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise ValueError(str(error)) from None
        lacking = [name for name in (self._key, *self._gives.values()) if name not in table.column_names]
        if lacking:
            raise ValueError(f"no column {', '.join(lacking)}; there are {', '.join(table.column_names)}")
        keys = table.column(self._key).cast(pa.utf8()).to_pylist()
        held = {ours: self._values(ours, table.column(theirs)) for ours, theirs in self._gives.items()}
        self._table = ({key: row for row, key in enumerate(keys) if key}, held)

    def _values(self, name: str, column: Any) -> list[Any]:
        from colonnade.unified_schema.columns import columns

        kind: Any = next(c for c in columns() if c.name == name).arrow_type
        plain = pa.utf8() if pa.types.is_dictionary(kind) else kind
        try:
            return column.cast(plain).to_pylist()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(f"column {name} can not hold this: {error}") from None

    def __call__(self, rows: Rows) -> None:
        """Fills what the table says."""
        places, held = self._table
        terms = rows.terms(self._column)
        found = [places.get(text) for text in terms.texts]
        if all(row is None for row in found):
            return
        for name, values in held.items():
            rows.fill(name, terms, [None if row is None else values[row] for row in found])
