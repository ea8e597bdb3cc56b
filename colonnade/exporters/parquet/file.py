"""One file that is being made: rows wait in memory, become row groups, and reach the disk as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow
import pyarrow.parquet

from colonnade.exporters.parquet.folders import Spool, SpooledFile, Target
from colonnade.exporters.parquet.rows import schema_of, table
from colonnade.native import Batch
from colonnade.pipeline.errors import Permanent
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
        self._outbox = _Outbox()
        self._writer: Any = None
        self._schema: Any = None
        self._whole = self._visible = False
        self._spooled: SpooledFile | None = None

    @property
    def begun(self) -> bool:
        """Whether rows have left memory: then the file's columns can not change any more."""
        return self._writer is not None

    @property
    def file_bytes(self) -> int:
        """Bytes of the file so far."""
        return self._outbox.tell()

    def add(self, batches: list[Batch], rows: int, nbytes: int) -> None:
        """Takes rows. Never fails."""
        self._batches += batches
        self.rows += rows
        self.nbytes += nbytes
        self.total_rows += rows

    def is_due(self) -> bool:
        """Whether something should go to the disk: a row group, or what did not get there before."""
        limits = self._format
        return bool(self._outbox.data) or self.rows >= limits.row_group_rows or self.nbytes >= limits.row_group_bytes

    def flush(self) -> None:
        """Rows in memory become a row group on the disk. Raises OSError, Permanent."""
        self._encode()
        self._send()

    def finish(self) -> None:
        """The whole file is on the disk. Raises OSError, Permanent."""
        if not self._whole:
            self._encode()
            self._writer.close()
            self._whole = True
        self._send()

    def publish(self, target: Target, key: str) -> None:
        """Makes the finished file visible. Raises OSError, Permanent."""
        if not self._visible and self._spooled is not None:
            target.publish(self._spooled, key)
            self._visible = True

    def discard(self) -> None:
        """Throws everything away; idempotent."""
        self._batches = []
        self.rows = self.nbytes = 0
        if self._spooled is not None:
            self._spooled.remove()

    def _encode(self) -> None:
        if not self._batches:
            return
        try:
            writer = self._writer = self._writer or self._open()
            rows = table(self._batches, self._schema)
            groups = max(1, self.rows // self._format.row_group_rows)
            writer.write_table(rows, row_group_size=-(-self.rows // groups))
        except (pa.ArrowException, ValueError, TypeError) as error:
            # The text may hold values of rows.
            raise Permanent("encode_failed", f"rows can not be written as Parquet ({type(error).__name__})") from error
        self._batches = []
        self.rows = self.nbytes = 0

    def _open(self) -> Any:
        self._schema = schema = schema_of(self._batches, self._extensions)
        how = encoding(schema)
        present = {name for batch in self._batches for name in batch.column_names}
        return pq.ParquetWriter(
            self._outbox,
            schema,
            compression=self._format.compression,
            compression_level=self._format.compression_level,
            use_dictionary=list(how.dictionary),
            column_encoding=how.other,
            write_statistics=list(how.ranges),
            write_page_index=True,
            write_page_checksum=True,
            # Readers need no Arrow schema: everything that it would say, types of Parquet say.
            store_schema=False,
            bloom_filter_options={
                name: {"ndv": self.rows, "fpp": BLOOM_FALSE_POSITIVES} for name in BLOOM_COLUMNS if name in present
            },
        )

    def _send(self) -> None:
        data = self._outbox.data
        if data:
            if self._spooled is None:
                self._spooled = self._spool.new()
            with memoryview(data) as view:
                self._spooled.append(view)
            self._outbox.sent()
