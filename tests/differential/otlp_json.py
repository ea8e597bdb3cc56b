"""OTLP/JSON of an official message, in any of the spellings that the specification allows."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from .messages import ID_BYTES, Maker

WIDE = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}


class Speller:
    """Writes messages as JSON; a maker decides between equal spellings."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker

    def text(self, message: Message) -> bytes:
        plain = self.maker.chance(2)
        separators = (",", ":") if self.maker.chance(2) else (" ,\t", "\r\n: ")
        return json.dumps(self.message(message), ensure_ascii=plain, separators=separators).encode()

    def message(self, message: Message) -> dict[str, Any]:
        spelled: dict[str, Any] = {}
        if self.maker.chance(4):
            spelled["unknownKey"] = [{"deep": [None, True, "x", -1.5e3]}]
        for field in message.DESCRIPTOR.fields:
            if field.is_repeated:
                present = len(getattr(message, field.name)) > 0 or self.maker.chance(3)
            elif field.has_presence:
                present = message.HasField(field.name)
            else:
                present = (
                    bool(getattr(message, field.name))
                    or self.maker.chance(3)
                    or is_negative_zero(getattr(message, field.name))
                )
            if present:
                spelled[field.json_name] = self.field(message, field)
            elif self.maker.chance(6):
                spelled[field.json_name] = None
        return spelled

    def field(self, message: Message, field: FieldDescriptor) -> Any:
        content = getattr(message, field.name)
        if field.is_repeated:
            return [self.value(field, item) for item in content]
        return self.value(field, content)

    def value(self, field: FieldDescriptor, content: Any) -> Any:
        if field.message_type is not None:
            return self.message(content)
        if field.type == FieldDescriptor.TYPE_BYTES:
            if field.name in ID_BYTES:
                return content.hex().upper() if self.maker.chance(2) else content.hex()
            return base64.b64encode(content).decode()
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            if not math.isfinite(content):
                return "NaN" if math.isnan(content) else "Infinity" if content > 0 else "-Infinity"
            return repr(content) if self.maker.chance(5) else content
        if field.type in WIDE:
            return str(content) if self.maker.chance(2) else content
        return content


def is_negative_zero(content: Any) -> bool:
    return isinstance(content, float) and content == 0 and math.copysign(1, content) < 0
