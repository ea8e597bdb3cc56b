"""Rows of one batch while they are enriched: distinct values out, and what was found for each of them in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import pyarrow
import pyarrow.compute

from colonnade.native import Batch, attribute_terms, say_in_context
from colonnade.unified_schema.columns import LOW_CARDINALITY_TEXT, columns

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow
pc: Any = pyarrow.compute


class Terms(NamedTuple):
    """A text per row, as the distinct ones.

    Args:
        places: int32 array, per row the place of its text in `texts`.
        texts: distinct texts; the empty one stands for none.
    """

    places: Any
    texts: list[str]

    @property
    def any(self) -> bool:
        return any(self.texts)

    def spread(self, values: Any) -> Any:
        """One value per text (an array) as one per row."""
        return values.take(self.places)


class Rows:
    """Reads columns of a batch, and fills them where they are absent (`overwrite`: wherever there is a value)."""

    def __init__(self, batch: Batch, overwrite: bool) -> None:
        self.batch = batch
        self._overwrite = overwrite
        self._names = frozenset(batch.column_names)
        self._table: Any = None
        self._changed: dict[str, Any] = {}
        self._filled: list[str] = []
        self._bits: Any = pa.scalar(0, pa.int64())
        self._bits_by_text: list[tuple[Any, Any]] = []
        self._words: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        return name in self._names or name in self._changed

    def column(self, name: str) -> Any:
        """A column that is there."""
        if name in self._changed:
            return self._changed[name]
        if self._table is None:
            self._table = pa.record_batch(self.batch)
        return self._table.column(name)

    def terms(self, name: str) -> Terms:
        """The distinct texts of a column (numbers as text); all rows have none where it is absent."""
        if not self.has(name):
            return nothing(self.batch.rows)
        array = self.column(name)
        if not pa.types.is_dictionary(array.type):
            array = array if pa.types.is_string(array.type) else array.cast(pa.utf8())
            array = (array.fill_null("") if array.null_count else array).dictionary_encode()
        return Terms(array.indices, array.dictionary.to_pylist())

    def attributes(self, *places: Sequence[str]) -> list[Terms]:
        """Per list of places (keys of attributes, or `context.` and a path), what each row has at the first it has."""
        found = pa.record_batch(attribute_terms(self.batch, [list(keys) for keys in places]))
        return [Terms(column.indices, column.dictionary.to_pylist()) for column in found.columns]

    def fill(self, name: str, terms: Terms, values: list[Any]) -> None:
        """Gives rows a column's value by their text; `values` has one per text, None for none."""
        kind = _types()[name]
        if kind in (LOW_CARDINALITY_TEXT, pa.utf8()):
            array = pa.array([value or "" for value in values], pa.utf8()).dictionary_encode()
        else:
            array = pa.array(values, kind)
        self.fill_array(name, terms, array)

    def fill_array(self, name: str, terms: Terms, values: Any) -> None:
        """The same with an array that has one value per text: text as a dictionary, or the column's type."""
        if pa.types.is_string(values.type):
            values = values.dictionary_encode()
        if pa.types.is_dictionary(values.type):
            self._fill_text(name, terms, values)
        elif values.null_count < len(values):
            self._fill_number(name, terms, values)

    def _fill_text(self, name: str, terms: Terms, values: Any) -> None:
        empty = values.dictionary.index("").as_py()
        told = pc.not_equal(values.indices, empty)
        if empty >= 0 and not pc.any(told).as_py():
            return
        new = pa.DictionaryArray.from_arrays(values.indices.take(terms.places), values.dictionary)
        is_dictionary = _types()[name] == LOW_CARDINALITY_TEXT
        if not self.has(name):
            self._changed[name] = new if is_dictionary else new.cast(pa.utf8())
            self._note_texts(name, terms, told)
            return
        old, given = self.column(name).cast(pa.utf8()), new.cast(pa.utf8())
        wanted = pc.not_equal(given, "")
        wanted = wanted if self._overwrite else pc.and_(wanted, pc.equal(old, ""))
        merged = pc.if_else(wanted, given, old)
        self._changed[name] = merged.dictionary_encode() if is_dictionary else merged
        self._note_rows(name, wanted)

    def _fill_number(self, name: str, terms: Terms, values: Any) -> None:
        new = terms.spread(values)
        if not self.has(name):
            self._changed[name] = new
            self._note_texts(name, terms, values.is_valid())
            return
        old = self.column(name)
        wanted = new.is_valid() if self._overwrite else pc.and_(new.is_valid(), old.is_null())
        self._changed[name] = pc.if_else(wanted, new, old)
        self._note_rows(name, wanted)

    def _note_texts(self, name: str, terms: Terms, filled: Any) -> None:
        """A column that no row had was filled by text."""
        bits = pc.multiply(filled.cast(pa.int64()), pa.scalar(self._bit(name), pa.int64()))
        for number, (places, known) in enumerate(self._bits_by_text):
            if places is terms.places:
                self._bits_by_text[number] = (places, pc.bit_wise_or(known, bits))
                return
        self._bits_by_text.append((terms.places, bits))

    def _note_rows(self, name: str, filled: Any) -> None:
        """A column that some rows had was filled in these."""
        bit = pa.scalar(self._bit(name), pa.int64())
        self._bits = pc.bit_wise_or(self._bits, pc.multiply(filled.cast(pa.int64()), bit))

    def _bit(self, name: str) -> int:
        if name not in self._filled:
            self._filled.append(name)
        return 1 << self._filled.index(name)

    def say(self, word: str, terms: Terms, values: list[Any]) -> None:
        """Puts a JSON value by text under `context.$enrich`; None for nothing."""
        texts = ["" if value is None else json.dumps(value, separators=(",", ":")) for value in values]
        if any(texts):
            self._words[word] = pa.DictionaryArray.from_arrays(terms.places, pa.array(texts, pa.utf8()))

    def finish(self) -> Batch:
        """The batch with all that was found; the same one where nothing was."""
        if not self._changed and not self._words:
            return self.batch
        batch = self.batch
        if self._changed:
            self._say_columns()
            table = self._table if self._table is not None else pa.record_batch(batch)
            held = {name: table.column(name) for name in table.schema.names} | self._changed
            order = [name for name in _types() if name in held] + [name for name in held if name not in _types()]
            fields = [pa.field(name, held[name].type, held[name].null_count > 0) for name in order]
            changed = pa.RecordBatch.from_arrays([held[name] for name in order], schema=pa.schema(fields))
            batch = Batch.from_arrow(changed, batch.signal, like=batch)
        return say_in_context(batch, pa.record_batch(self._words)) if self._words else batch

    def _say_columns(self) -> None:
        """Which columns each row had filled, so that what came can be told from what was added."""
        bits = self._bits
        for places, by_text in self._bits_by_text:
            bits = pc.bit_wise_or(bits, by_text.take(places))
        encoded = bits.dictionary_encode()
        values = [
            [name for number, name in enumerate(self._filled) if held >> number & 1] or None
            for held in encoded.dictionary.to_pylist()
        ]
        self.say("columns", Terms(encoded.indices, []), values)


def nothing(rows: int) -> Terms:
    """No text in any row."""
    return Terms(pa.nulls(rows, pa.int32()).fill_null(0), [""])


def joined(*parts: Terms) -> tuple[Terms, list[tuple[str, ...]]]:
    """Distinct combinations: rows by combination, and the texts of each."""
    key = parts[0].places.cast(pa.int64())
    for part in parts[1:]:
        # Renumbered each time, so that the product of many long lists stays within 64 bits.
        key = key.dictionary_encode().indices.cast(pa.int64())
        key = pc.add(pc.multiply(key, pa.scalar(len(part.texts), pa.int64())), part.places.cast(pa.int64()))
    encoded = key.dictionary_encode()
    # One row that has each combination tells its texts.
    firsts = pc.index_in(encoded.dictionary, value_set=key)
    texts: list[list[str]] = []
    for part in parts:
        places: list[int] = part.places.take(firsts).to_pylist()
        texts.append([part.texts[place] for place in places])
    return Terms(encoded.indices, []), list(zip(*texts, strict=True))


@cache
def _types() -> dict[str, Any]:
    return {column.name: column.arrow_type for column in columns()}
