"""One file that is being made: rows wait in memory, become row groups, and reach the disk as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow
import pyarrow.parquet

from colonnade.exporters.parquet.folders import Spool, SpooledFile, Target, Unwritable
from colonnade.exporters.parquet.rows import schema_of, table
from colonnade.native import Batch
from colonnade.unified_schema.parquet import BLOOM_COLUMNS, BLOOM_FALSE_POSITIVES, encoding

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow
pq: Any = pyarrow.parquet


@dataclass(frozen=True, slots=True)
class Format:
    """How files are written."""

    compression: str
    compression_level: int | None
    row_group_rows: int
    row_group_bytes: int


class _Outbox:
    """What pyarrow has written and the disk does not have yet."""

    closed = False

    def __init__(self) -> None:
        self.data = bytearray()
        self._before = 0

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)

    def tell(self) -> int:
        return self._before + len(self.data)

    def flush(self) -> None: ...

    def sent(self) -> None:
        self._before += len(self.data)
        self.data = bytearray()


class _Output:
    """Row groups of one schema on their way to the disk."""

    def __init__(self, spool: Spool, format: Format, schema: Any, blooms: dict[str, dict[str, float]]) -> None:
        self.schema = schema
        self.blooms = blooms
        self.outbox = _Outbox()
        self.spooled: SpooledFile | None = None
        self._spool = spool
        how = encoding(schema)
        self._writer: Any = pq.ParquetWriter(
            self.outbox,
            schema,
            compression=format.compression,
            compression_level=format.compression_level,
            use_dictionary=list(how.dictionary),
            column_encoding=how.other,
            write_statistics=list(how.ranges),
            write_page_index=True,
            write_page_checksum=True,
            # Readers need no Arrow schema: everything that it would say, types of Parquet say.
            store_schema=False,
            bloom_filter_options=blooms,
        )

    def write(self, rows: Any, groups: int = 1) -> None:
        """A table as so many row groups."""
        self._writer.write_table(rows, row_group_size=-(-rows.num_rows // groups))

    def send(self) -> None:
        """What was written is on the disk. Raises OSError, Unwritable."""
        data = self.outbox.data
        if data:
            self.spooled = self.spooled or self._spool.new()
            with memoryview(data) as view:
                self.spooled.append(view)
            self.outbox.sent()

    def close(self) -> None:
        """Writes the footer; idempotent."""
        self._writer.close()

    def discard(self) -> None:
        if self.spooled is not None:
            self.spooled.remove()


class ParquetFile:
    """A file of one folder. Every step that fails can be repeated: rows and bytes leave memory after they went on.

    Attributes:
        rows, nbytes: rows that wait in memory, and their size there.
        total_rows: all rows.
    """

    def __init__(self, spool: Spool, format: Format, extensions: dict[str, Any]) -> None:
        self.rows = self.nbytes = self.total_rows = 0
        self._spool = spool
        self._format = format
        self._extensions = extensions
        self._batches: list[Batch] = []
        self._output: _Output | None = None
        self._visible = False

    @property
    def begun(self) -> bool:
        """Whether rows have left memory."""
        return self._output is not None

    @property
    def file_bytes(self) -> int:
        """Bytes of the file so far."""
        return 0 if self._output is None else self._output.outbox.tell()

    def add(self, batches: list[Batch], rows: int, nbytes: int) -> None:
        """Takes rows. Never fails."""
        self._batches += batches
        self.rows += rows
        self.nbytes += nbytes
        self.total_rows += rows

    def is_due(self) -> bool:
        """Whether something should go to the disk: a row group, or what did not get there before."""
        limits = self._format
        unsent = self._output is not None and bool(self._output.outbox.data)
        return unsent or self.rows >= limits.row_group_rows or self.nbytes >= limits.row_group_bytes

    def flush(self) -> None:
        """Rows in memory become a row group on the disk. Raises OSError, Unwritable."""
        self._encode()
        if self._output is not None:
            self._output.send()

    def finish(self) -> None:
        """The whole file is on the disk. Raises OSError, Unwritable."""
        self._encode()
        if self._output is not None:
            self._output.close()
            self._output.send()

    def publish(self, target: Target, key: str) -> None:
        """Makes the finished file visible. Raises OSError, Unwritable."""
        if not self._visible and self._output is not None and self._output.spooled is not None:
            target.publish(self._output.spooled, key)
            self._visible = True

    def discard(self) -> None:
        """Throws everything away; idempotent."""
        self._batches = []
        self.rows = self.nbytes = 0
        if self._output is not None:
            self._output.discard()

    def _encode(self) -> None:
        if not self._batches:
            return
        try:
            output = self._output = self._widened(self._output) if self._output is not None else self._begin()
            output.write(table(self._batches, output.schema), max(1, self.rows // self._format.row_group_rows))
        except (pa.ArrowException, ValueError, TypeError) as error:
            # The text may hold values of rows.
            raise Unwritable("encode_failed", f"rows can not be written as Parquet ({type(error).__name__})") from error
        self._batches = []
        self.rows = self.nbytes = 0

    def _begin(self) -> _Output:
        present = {name for batch in self._batches for name in batch.column_names}
        blooms = {name: {"ndv": self.rows, "fpp": BLOOM_FALSE_POSITIVES} for name in BLOOM_COLUMNS if name in present}
        return _Output(self._spool, self._format, schema_of(self._batches, self._extensions), blooms)

    def _widened(self, output: _Output) -> _Output:
        """The output itself; where columns showed up late that it lacks, one that has them, and its rows copied."""
        late = [pa.field(name, type) for name, type in self._extensions.items() if name not in output.schema.names]
        if not late:
            return output
        output.close()
        output.send()
        assert output.spooled is not None
        wide = _Output(self._spool, self._format, pa.schema([*output.schema, *late]), output.blooms)
        try:
            terms = [field.name for field in output.schema if pa.types.is_dictionary(field.type)]
            with pq.ParquetFile(output.spooled.path, read_dictionary=terms) as source:
                for group in range(source.num_row_groups):
                    rows = source.read_row_group(group).cast(output.schema)
                    for field in late:
                        rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
                    wide.write(rows)
                    wide.send()
        except BaseException:
            wide.discard()
            raise
        output.discard()
        return wide
