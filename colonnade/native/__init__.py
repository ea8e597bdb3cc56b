"""The door to the native part: the only module that imports the binary one."""

from colonnade._native import (
    Answer,
    Batch,
    Listener,
    NativeBlock,
    NativeError,
    Request,
    RequestGroup,
    Route,
    Server,
    ServerOptions,
    concat,
    decompress,
    encode_native,
    json_to_protobuf,
    store_attributes,
    take,
)

__all__ = [
    "Answer",
    "Batch",
    "Listener",
    "NativeBlock",
    "NativeError",
    "Request",
    "RequestGroup",
    "Route",
    "Server",
    "ServerOptions",
    "concat",
    "decompress",
    "encode_native",
    "json_to_protobuf",
    "store_attributes",
    "take",
]
