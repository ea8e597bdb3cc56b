"""The door to the native part: the only module that imports the binary one."""

from colonnade._native import (
    Batch,
    NativeBlock,
    NativeError,
    concat,
    decompress,
    encode_native,
    json_to_protobuf,
    store_attributes,
    take,
)

__all__ = [
    "Batch",
    "NativeBlock",
    "NativeError",
    "concat",
    "decompress",
    "encode_native",
    "json_to_protobuf",
    "store_attributes",
    "take",
]
