"""The door to the native part: the only module that imports the binary one."""

from colonnade._native import (
    Batch,
    NativeError,
    decompress,
    json_to_protobuf,
    store_attributes,
)

__all__ = [
    "Batch",
    "NativeError",
    "decompress",
    "json_to_protobuf",
    "store_attributes",
]
