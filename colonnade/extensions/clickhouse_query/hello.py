"""The first question of the Go client, which Grafana's ClickHouse data source is made of.

It reads the answer to `HELLO` in the Native format of its own protocol revision, and everything after it in the
revision that this answer states. The embedded engine writes Native of revision 0 only, so that is what the answer
states; the answer itself is made by hand in the client's revision.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

HELLO = "SELECT displayName(), version(), revision(), timezone()"
# From this revision on a block carries, per column, whether its serialization is a special one.
CUSTOM_SERIALIZATION_REVISION = 54454
STATED_REVISION = 0

_BLOCK_INFO = b"\x01\x00" + b"\x02" + struct.pack("<i", -1) + b"\x00"


def is_hello(fields: Mapping[str, str], sql: str) -> bool:
    """Whether a request is that question."""
    revision = fields.get("client_protocol_version", "0")
    asked = revision.isdecimal() and int(revision) >= CUSTOM_SERIALIZATION_REVISION
    return asked and " ".join(sql.split()) == HELLO


def answer(version: str) -> bytes:
    """One block of one row."""
    columns = [
        ("displayName()", "String", _text("colonnade")),
        ("version()", "String", _text(version)),
        ("revision()", "UInt32", struct.pack("<I", STATED_REVISION)),
        ("timezone()", "String", _text("UTC")),
    ]
    block = _BLOCK_INFO + bytes([len(columns), 1])
    for name, type, data in columns:
        block += _text(name) + _text(type) + b"\x00" + data
    return block


def _text(text: str) -> bytes:
    """Length and bytes; these are all shorter than 128."""
    return bytes([len(text)]) + text.encode()
