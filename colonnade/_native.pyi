"""What the binary module holds; checked against it by a test."""

from typing import Any, Literal, Self

Signal = Literal["traces", "metrics", "logs", "events"]

class NativeError(Exception):
    """What the native part refuses. `code` names the reason, `offset` and `path` say where in the input."""

    code: str
    offset: int | None
    path: str

class Batch:
    """Rows in unified columns, opaque; `pyarrow.record_batch(batch)` imports them without copying."""

    @staticmethod
    def from_arrow(
        data: Any,
        signal: str,
        *,
        like: Batch | None = None,
        tenant: str = "",
        completed: bool | None = None,
    ) -> Batch: ...
    @property
    def signal(self) -> Signal: ...
    @property
    def rows(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def completed(self) -> bool: ...
    @property
    def column_names(self) -> list[str]: ...
    @property
    def tenants(self) -> list[tuple[str, int]]: ...
    @property
    def runs(self) -> list[tuple[int, str, list[tuple[str, str]]]]: ...
    @property
    def payloads(self) -> list[bytes] | None: ...
    def slice(self, offset: int, length: int) -> Self: ...
    def __len__(self) -> int: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

def json_to_protobuf(signal: str, json: bytes) -> bytes:
    """The OTLP protobuf request that an OTLP/JSON request means. Raises NativeError (`malformed`)."""

def decompress(encoding: str, body: bytes, max_bytes: int) -> bytes:
    """A request body without its content coding. Raises NativeError (`too_large`, `corrupt`)."""

def store_attributes(batch: Batch) -> Batch:
    """The batch with `attributes` as stores keep them: text to text, types under `$otlp.types`."""

def concat(batches: list[Batch]) -> Batch:
    """The rows of all batches, in order, in the union of their columns; what a batch lacks is empty."""

def take(batch: Batch, indices: list[int]) -> Batch:
    """The rows at `indices`, in that order. Payloads are gone."""

class NativeBlock:
    """The bytes of a block: `memoryview(block)` reads them without copying."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def encode_native(
    batches: list[Batch], table: list[tuple[str, str]], *, sort: bool = True, compression: str = "none"
) -> list[tuple[int, int, NativeBlock]]:
    """ClickHouse Native blocks, one per day: (days since 1970-01-01, rows, bytes).

    `table` is what DESCRIBE says (name, type). Raises NativeError (`no_columns`, `unexpected_type`, `too_many_rows`).
    """
