"""Kinds of values in configuration models: durations, sizes, secrets, sections; and the models' base.

A key whose value is null keeps its default, except for an optional section (`optional_section`): there null or `{}`
switches the section on with its defaults, and `enabled: false` inside switches it off.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

MIB: Final = 1 << 20
REDACTED: Final = "[REDACTED]"

_UNIT_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([+-]?)((?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)
_SIZE_UNIT: Final = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
    "ti": 1 << 40,
}


def parse_duration(value: Any) -> float:
    """Seconds of a Go duration (`1m30s`, `200ms`, `0`); a bare integer is nanoseconds, as in the Collector."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"expected a duration such as 5s, 200ms or 1h30m, got {value!r}")
    if isinstance(value, (int, float)):
        return value / 1e9
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(
            f"invalid duration {value!r}: a number with a unit of ns, us, ms, s, m, h, such as 5s or 1h30m"
        )
    seconds = sum(float(n) * _UNIT_S[unit] for n, unit in _DURATION_PART.findall(match[2]))
    return -seconds if match[1] == "-" else seconds


def format_duration(seconds: float) -> str:
    """The shortest Go spelling of a duration."""
    if seconds == 0:
        return "0s"
    text, left = "", round(abs(seconds) * 1e9)
    for unit, size in (("h", 3600 * 10**9), ("m", 60 * 10**9)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)):
        if left and (left % size == 0 or left > size):
            text += f"{left / size:.9f}".rstrip("0").rstrip(".") + unit
            break
    return ("-" if seconds < 0 else "") + text


def parse_size(value: Any) -> int:
    """Bytes of `1048576`, `64MiB` or `1.5GB`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"invalid size {value!r}: a number of bytes, or a number with KiB, MiB, GiB, kB, MB, GB")
    return round(float(match[1]) * _SIZE_UNIT[(match[2] or "").lower()])


def _not_negative(seconds: float) -> float:
    if seconds < 0:
        raise ValueError(f"must not be negative, got {format_duration(seconds)}")
    return seconds


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    AfterValidator(_not_negative),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["5s", "200ms", "1h30m"]}),
]
"""Seconds; written as Go writes durations."""

ByteSize = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(ge=0),
    WithJsonSchema({"type": ["integer", "string"], "examples": [1048576, "64MiB"]}),
]
"""Bytes; a plain number, or with a unit."""


class Secret:
    """A text that prints as `[REDACTED]`; `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def of(value: Any) -> Secret:
            if isinstance(value, Secret):
                return value
            # YAML reads an unquoted 123456 as a number; a token that looks like one is still a token.
            if isinstance(value, (str, int, float)) and not isinstance(value, bool):
                return cls(str(value))
            raise ValueError("expected a text")

        return core_schema.no_info_plain_validator_function(
            of,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: REDACTED if secret else ""),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "password"}


class _OptionalSection:
    """Marks a field as the Collector's `configoptional`."""


def _switch(value: Any) -> Any:
    if isinstance(value, dict) and "enabled" in value:
        section = cast(dict[Any, Any], {**value})
        return None if section.pop("enabled") is False else section
    return cast(Any, value)


M = TypeVar("M")
OptionalSection = Annotated[M | None, BeforeValidator(_switch), _OptionalSection()]
"""A section that is off when its key is absent, and on with defaults when the key stands there with nothing."""


class Settings(BaseModel):
    """Base of every configuration model."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_null(cls, value: Any) -> Any:
        """Null = default for a plain key, `{}` for an optional section; unknown keys stay, to be refused."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            return value  # pyright: ignore[reportUnknownVariableType]
        section: dict[Any, Any] = {}
        fields = {(f.alias or name): f for name, f in cls.model_fields.items()}
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            if item is None and key in fields:
                if any(isinstance(mark, _OptionalSection) for mark in fields[key].metadata):  # pyright: ignore[reportUnknownArgumentType]
                    section[key] = {}
            else:
                section[key] = item
        return section
