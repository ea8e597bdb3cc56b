"""The door to the native part: the only module that imports the binary one."""

import os

# The allocator reads its options when the binary is loaded. A huge page is cleared as a whole for the few columns that
# are put on it, which costs more than decoding them; pages that are given back at once are asked for again by the next
# group.
os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
os.environ.setdefault("MIMALLOC_PURGE_DELAY", "1000")

from colonnade._native import (
    Answer,
    Batch,
    Call,
    Channel,
    Frame,
    Listener,
    NativeBlock,
    NativeError,
    Request,
    RequestGroup,
    Route,
    Server,
    ServerAnswer,
    ServerOptions,
    Unify,
    cluster,
    columns,
    concat,
    decode,
    decompress,
    encode_native,
    encode_otlp,
    json_to_protobuf,
    pack,
    partition,
    protobuf_to_json,
    read_export_response,
    read_status,
    slug,
    store_attributes,
    take,
    validate,
)

__all__ = [
    "Answer",
    "Batch",
    "Call",
    "Channel",
    "Frame",
    "Listener",
    "NativeBlock",
    "NativeError",
    "Request",
    "RequestGroup",
    "Route",
    "Server",
    "ServerAnswer",
    "ServerOptions",
    "Unify",
    "cluster",
    "columns",
    "concat",
    "decode",
    "decompress",
    "encode_native",
    "encode_otlp",
    "json_to_protobuf",
    "pack",
    "partition",
    "protobuf_to_json",
    "read_export_response",
    "read_status",
    "slug",
    "store_attributes",
    "take",
    "validate",
]
