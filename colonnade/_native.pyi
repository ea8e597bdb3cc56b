"""What the binary module holds; checked against it by a test."""

from collections.abc import Callable, Sequence
from pathlib import Path
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
    def requests(self) -> int:
        """How many payloads the rows came in."""
    @property
    def runs(self) -> list[tuple[int, str, list[tuple[str, str]]]]: ...
    @property
    def payloads(self) -> list[bytes] | None: ...
    @property
    def payload_sizes(self) -> list[int] | None: ...
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

def partition(batches: list[Batch]) -> list[tuple[int, str, list[Batch]]]:
    """The rows of every day and event type, ascending: (days since 1970-01-01, event type, batches).

    The day is that of `timestamp` where `day` is absent. Raises ValueError where a column has not its type.
    """

def cluster(batches: list[Batch]) -> Batch:
    """As `concat`, but the rows of one service together: services by name, the rows of one in order."""

class Unify:
    """What the processor `unify` does. `columns`: (column, attribute keys). Raises ValueError for an unknown column."""

    def __init__(
        self,
        *,
        default_ns: str = "default",
        ns_attribute: str = "",
        visibility: str = "user",
        day_before_ns: int = 604800000000000,
        day_after_ns: int = 86400000000000,
        columns: list[tuple[str, list[str]]] = ...,
        extensions: list[str] = ...,
    ) -> None: ...
    def complete(self, batch: Batch, ingested_at_ns: int, append_id: bytes) -> tuple[Batch, list[tuple[str, str, int]]]:
        """The completed batch, and the rows that broke a soft check: (event source, check, rows)."""

def slug(name: str) -> str:
    """A name as a `ns` (`[a-z0-9][a-z0-9._-]{0,62}`); empty where nothing of it can be one."""

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

def encode_lines(
    batches: list[Batch], tables: list[tuple[str, str, list[tuple[str, str, str]]]], first: int
) -> tuple[NativeBlock, list[int]]:
    """Line protocol (version 2, times in ns) of all rows, table by table, and how many rows each table gets.

    A table is (rows, name, columns): `rows` is gauge, sum, histogram, exponential_histogram, summary or events. A
    column is (name, source, type of QuestDB): the source is a column in flight, `COLUMN=KEY` (the attribute of that
    key, in a map or else in that column, whose name may be empty), `$series`, `$occurrence`, `$rest` (columns that
    nothing else names, as JSON), or a part of a point's buckets and quantiles (`$bounds`, `$counts`, `$scale`,
    `$zero_count`, `$zero_threshold`, `$positive.offset`, `$positive.counts`, `$negative.offset`, `$negative.counts`,
    `$quantiles`, `$quantile_values`). The occurrence of row n is `first` + n.

    Raises NativeError (`no_table`, `no_time`, `unexpected_type`).
    """

def encode_otlp(signal: str, batches: list[Batch], *, max_bytes: int = 0) -> list[bytes]:
    """OTLP protobuf requests that hold all rows, equal resources and scopes together; none where there are no rows.

    A request has at most `max_bytes` (0: what protobuf allows), but a record that is larger goes alone. Columns may
    have any Arrow type that a store gives back. Raises NativeError (`unexpected_source`, `malformed`,
    `unexpected_type`); `offset` is the row, counted over all batches, `path` the column.
    """

def to_ipc(batches: list[Batch], place: int) -> NativeBlock:
    """Bytes that outlive the process, checksummed together with `place` (64 bits: where they will stand).

    Rows keep signal, sources and completeness; requests are kept only where no columns have been built of them.
    """

def from_ipc(packed: bytes, place: int) -> list[Batch]:
    """What `to_ipc` was given. Raises NativeError (`damaged`, `newer_format`)."""

def survey_wal(wal: bytes, page_bytes: int) -> tuple[int, int, int]:
    """Of a SQLite write-ahead log: commits that SQLite takes, commits after the first frame that does not hold, and
    frames that do not hold."""

def mend_wal(wal: bytes, page_bytes: int) -> bytes:
    """The log with a header and checksums that hold, so that SQLite also reads what comes after damaged frames."""

class Route:
    """Requests of a method and path, and how they are read.

    `kind`: `otlp_http`, `otlp_grpc` or `python`. `entry` names who takes them. `max_body_bytes` bounds the body as it
    comes and decompressed. With `auth_header` a request waits, its body unread, for the verdict on that header's value.
    `share_status`: of a tenant over its share of the queue.
    """

    def __init__(
        self,
        *,
        entry: int,
        method: str,
        path: str,
        kind: str,
        max_body_bytes: int,
        signal: str | None = None,
        tenant: str = "",
        tenant_header: str | None = None,
        auth_header: str | None = None,
        include_metadata: bool = False,
        share_status: int = 429,
    ) -> None: ...

class ServerOptions:
    """What may change while a port stays bound. A timeout of 0 is none."""

    def __init__(
        self,
        *,
        response_headers: list[tuple[str, str]] = ...,
        compression: list[str] | None = None,
        read_header_timeout_s: float = 60.0,
        read_timeout_s: float = 0.0,
        body_idle_timeout_s: float = 30.0,
        write_timeout_s: float = 60.0,
        idle_timeout_s: float = 0.0,
        keep_alive: bool = True,
        max_header_bytes: int = 65536,
        max_connections: int = 10000,
        max_concurrent_streams: int = 1000,
        ping_interval_s: float = 0.0,
        ping_timeout_s: float = 20.0,
        max_age_s: float = 0.0,
        max_age_grace_s: float = 0.0,
        cors_origins: list[str] = ...,
        cors_headers: list[str] = ...,
        cors_exposed: list[str] = ...,
        cors_max_age_s: int = 0,
    ) -> None: ...

class Answer:
    """The verdict on a request; rendered for each request's protocol."""

    def __init__(
        self,
        *,
        http_status: int,
        grpc_code: int,
        message: str = "",
        retry_after_s: float | None = None,
        rejected: int = 0,
    ) -> None: ...

class Request:
    """A request for a Python handler. Let go unanswered, it is told that the daemon is unavailable."""

    @property
    def entry(self) -> int: ...
    @property
    def tenant(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def body(self) -> bytes: ...
    def respond(self, status: int, headers: list[tuple[str, str]] = ..., body: bytes = b"") -> bool:
        """Answers it; False when it was answered before."""

class RequestGroup:
    """Requests of one entry that waited together. Let go unanswered, they are told that the daemon is unavailable."""

    @property
    def entry(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def signal(self) -> Signal: ...
    @property
    def tenants(self) -> list[str]: ...
    @property
    def refused(self) -> list[tuple[int, str]]:
        """(count, code) of requests that were refused alone."""
    @property
    def order(self) -> list[int]:
        """The request number of each run of the decoded batch."""
    def payloads(self) -> list[tuple[int, str, bytes]]:
        """Takes the bodies: (request number, tenant, protobuf). What can not be opened is refused alone."""
    def decode(self, *, keep_payload: bool = False, whole: bool = False, columns: bool = True) -> Batch:
        """The rows of every body that is a request; the others are answered and counted.

        Without `columns` requests are only validated: whoever needs the columns later builds them from the payloads.
        """
    def answer(self, answer: Answer, exceptions: list[tuple[int, Answer]] = ...) -> None:
        """Answers every request that is left; those of `exceptions` (by request number) otherwise."""
    def requests(self) -> list[Request]: ...

class Server:
    """A bound address."""

    @property
    def address(self) -> str: ...
    def set_routes(self, routes: list[Route], options: ServerOptions | None = None) -> None:
        """Serves these at once; requests that have begun keep what they began with."""
    def set_tls(self, settings: dict[str, Any] | None) -> None:
        """For new connections. Raises ValueError, and keeps the old."""
    def stop_accepting(self) -> None:
        """Frees the address; connections go on."""
    def close(self, deadline_s: float) -> None:
        """Lets requests in flight finish, then drops what is left. Blocks."""

class Listener:
    """Threads that read sockets, and the queue they fill (bounded in bytes, a share per tenant)."""

    def __init__(self, *, threads: int = 1, queue_bytes: int = 67108864, tenant_share: float = 0.5) -> None: ...
    def fileno(self) -> int:
        """Readable when something waits: requests or credentials."""
    def serve(self, address: str, *, protocols: Sequence[str] = ..., tls: dict[str, Any] | None = None) -> Server:
        """Binds `host:port` or `unix:/path` at once. Raises OSError, ValueError (certificates)."""
    def ready(self) -> list[int]:
        """Entries with something new; quiets the descriptor until the next burst."""
    def take(self, entry: int, *, max_requests: int = 512, max_bytes: int = 4194304) -> RequestGroup | None: ...
    def pending_credentials(self) -> list[tuple[int, str]]:
        """(entry, header value) that wait for `set_verdict`, each told once."""
    def set_verdict(
        self,
        entry: int,
        credential: str,
        allowed: bool,
        *,
        tenant: str | None = None,
        answer: Answer | None = None,
        ttl_s: float = 60.0,
    ) -> None: ...
    def forget_verdicts(self) -> None: ...
    def stats(self) -> dict[str, Any]:
        """Counters by name; `requests` by (entry, status), a status being `http 200` or `grpc 0`."""
    def close(self, deadline_s: float) -> None:
        """Drains every server until the deadline, then stops. Idempotent. Blocks."""

class Format:
    """How bodies of JSON events are read, and the mappings that their events may choose (`mappings.format_plan`).

    Raises ValueError for a plan that this module does not know how to run.
    """

    def __init__(self, plan: str) -> None: ...
    def map(
        self,
        body: bytes,
        *,
        received_ns: int,
        tenant: str = "",
        mapping: int | None = None,
        client_ip: str = "",
        user_agent: str = "",
        referer: str = "",
        privacy: str = "",
        window: EventWindow | None = None,
        bound: tuple[str, str] | None = None,
    ) -> tuple[Batch, int, int, EventKeys, list[tuple[int, str, str, str, str]]]:
        """The rows of one body, how many events they are of, how many came before, what to remember of the others, and
        the events refused: (index, id, code, path, message). `bound`: a member, and what it says where it is there.

        Raises NativeError (`malformed`, `bad_envelope`) where there are no events to read.
        """

class EventKeys:
    """Keys of events that are not safe yet."""

class EventWindow:
    """Keys of events that came within a span of time, at most so many; the oldest are forgotten first."""

    def __init__(self, span_ns: int, max_keys: int) -> None: ...
    def remember(self, keys: EventKeys, now_ns: int) -> None: ...
    def take_in(self, batch: Batch, now_ns: int) -> tuple[list[tuple[int, int]], EventKeys]:
        """Rows whose `id` did not come in a request before, as (first, how many), and their keys, which are remembered.
        All rows of a batch without the column `id`."""

    def forget(self, keys: EventKeys) -> None: ...
    def dump(self) -> bytes:
        """All keys, and when they came."""

    def load(self, dump: bytes) -> None:
        """Remembers what was dumped; a dump that is cut short, as far as it goes."""

    def __len__(self) -> int: ...

def text_at(body: bytes, path: list[str]) -> str | None:
    """The text at a path of a body, without reading what comes after it; `0` is the first of a list."""

def decode(
    signal: str,
    payloads: list[bytes],
    *,
    tenant: str = "",
    keep_payload: bool = False,
    json: bool = False,
    whole: bool = False,
) -> tuple[Batch, list[tuple[int, str, int, str]]]:
    """The rows of all OTLP requests, and those refused: (index, message, offset, path)."""

class MetricFamilies:
    """What requests of remote write 1.0 have said about families of metrics, by tenant; bounded."""

    def __init__(self) -> None: ...

def decode_remote_write(
    version: Literal[1, 2],
    body: bytes,
    *,
    max_bytes: int,
    tenant: str = "",
    metadata: list[tuple[str, str]] = ...,
    families: MetricFamilies | None = None,
    help: bool = False,
) -> tuple[Batch, tuple[int, int, int], int, list[tuple[str, int]], list[str]]:
    """The rows of a request of Prometheus remote write, packed by snappy: the samples, histograms and exemplars taken,
    how many of those came before in the request, how many were left out, by reason, and what was wrong with them.
    `families` is what requests before this one have said about types and units, and learns what this one says.

    Raises NativeError (`corrupt`, `too_large`, `malformed`) where the request is none.
    """

def validate(signal: str, payload: bytes) -> int:
    """How many rows an OTLP request has. Raises NativeError (`malformed`) where it is none."""

class AttributeEdit:
    """Actions on attributes of records or resources, taken in order; `include` and `exclude` say on which rows."""

    def __init__(
        self,
        target: Literal["record", "resource"],
        actions: list[dict[str, Any]],
        *,
        include: dict[str, Any] | None = None,
        exclude: dict[str, Any] | None = None,
    ) -> None: ...
    def apply(self, batch: Batch) -> Batch:
        """The changed batch; the same one, payloads and all, where nothing changed."""

class ProbabilisticSampler:
    """Keeps spans or log records by probability, and notes in what is kept how it was chosen."""

    def __init__(
        self,
        mode: Literal["hash_seed", "proportional", "equalizing"],
        percentage: float,
        *,
        hash_seed: int = 0,
        fail_closed: bool = True,
        precision: int = 4,
        by_trace_id: bool = True,
        attribute: str | None = None,
        priority: str | None = None,
    ) -> None: ...
    def sample(self, batch: Batch) -> tuple[Batch | None, list[tuple[str, bool, int]]]:
        """What is kept (None: nothing), and what decided: (policy, whether it was to keep them, rows)."""

class Columns:
    """Columns that are no batch; `pyarrow.record_batch(columns)` imports them without copying."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

def attribute_terms(batch: Batch, wanted: list[list[str]]) -> Columns:
    """A dictionary column per list of places: each row's text at the first place that it has, else empty. A place is an
    attribute's key, or `context.` and a dotted path."""

def say_in_context(batch: Batch, words: Any) -> Batch:
    """The batch with JSON texts (a record batch: a text column per word) under `context.$enrich`."""

def exchange_in_context(batch: Batch, key: str, by: dict[str, str | None]) -> Batch:
    """The batch with texts of a top-level key of the context exchanged, or null; what is not named stays."""

class GeoDatabase:
    """A file in MaxMind's format, read whole. Raises ValueError where it is none, or damaged."""

    def __init__(self, path: Path) -> None: ...
    @property
    def built_at(self) -> int:
        """Seconds since 1970, by the file's own word."""

def locate_addresses(databases: list[GeoDatabase], addresses: list[str]) -> Columns:
    """`geo_*` of each address, from the first database that says it."""

class Patterns:
    """Texts that match any of many regular expressions. Raises ValueError where one is none."""

    def __init__(self, patterns: list[str]) -> None: ...
    def matches(self, text: str) -> bool: ...

def regex_groups(pattern: str) -> list[str | None]:
    """The names of an expression's groups. Raises ValueError where it is none."""

def pack(parts: Sequence[Batch | bytes], encoding: str, level: int | None = None) -> bytes:
    """One body of all parts (a batch stands for its payloads), compressed. Raises ValueError."""

def protobuf_to_json(signal: str, body: bytes) -> bytes:
    """The OTLP/JSON request that an OTLP protobuf request means. Raises NativeError (`malformed`)."""

class Frame:
    """A gRPC message of all parts, ready to be sent any number of times; only what is compressed is copied."""

    def __init__(self, parts: Sequence[Batch | bytes], encoding: str = "", level: int | None = None) -> None: ...
    def __len__(self) -> int: ...

class ServerAnswer:
    """What an OTLP server said: gRPC status, delay, and what of a request it did not take."""

    @property
    def code(self) -> int: ...
    @property
    def message(self) -> str: ...
    @property
    def retry_after_s(self) -> float | None: ...
    @property
    def rejected(self) -> int: ...
    @property
    def rejected_message(self) -> str: ...

def read_export_response(body: bytes) -> tuple[int, str]:
    """`partial_success` of an export response: rejected rows and why."""

def read_status(body: bytes) -> ServerAnswer:
    """A `google.rpc.Status`."""

class Call:
    """A call under way."""

    def cancel(self) -> None:
        """Breaks it off; `done` may still be called when it has just ended."""

class Channel:
    """Connections to a gRPC server (`host:port` or `unix:/path`), opened when a call needs them."""

    def __init__(
        self,
        address: str,
        *,
        authority: str,
        tls: dict[str, Any] | None = None,
        round_robin: bool = True,
        connect_timeout_s: float = 20.0,
        ping_interval_s: float = 0.0,
        ping_timeout_s: float = 20.0,
        ping_idle: bool = False,
    ) -> None: ...
    def call(
        self,
        path: str,
        headers: list[tuple[str, str]],
        frame: Frame,
        done: Callable[[ServerAnswer], object],
        *,
        timeout_s: float,
        wait_for_ready: bool = False,
    ) -> Call:
        """Sends a unary request; `done` gets the answer on a thread of the module's own."""
    def close(self) -> None:
        """Forgets the connections; calls under way finish."""

def columns() -> list[tuple[str, str, bool]]:
    """The columns that the module was built with: (name, group, nullable)."""
