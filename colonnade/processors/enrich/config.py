"""The section of `enrich`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from colonnade.pipeline.settings import Duration, Settings
from colonnade.processors.enrich.address import Anonymize
from colonnade.unified_schema.columns import columns

DAY_S = 86_400.0
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
# Columns that a table of the user's may fill.
_FED_TYPES = frozenset({"lc_string", "string", "int64", "int32", "uint32", "uint16", "uint8", "float64", "bool"})
_OWN = frozenset({"timestamp_ns", "ns", "event_type", "event_source", "hour", "schema_version"})


def _fed(name: str) -> str:
    known = sorted({column.name for column in columns() if column.type in _FED_TYPES} - _OWN)
    return _column(name, known, "that can be filled (text, number or boolean)")


def _read(name: str) -> str:
    known = sorted(column.name for column in columns() if column.type in _FED_TYPES)
    return _column(name, known, "that can be a key (text, number or boolean)")


def _column(name: str, known: list[str], what: str) -> str:
    if name not in known:
        from difflib import get_close_matches

        near = get_close_matches(name, known, 1)
        raise ValueError(f"{name!r} is no column {what}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return name


def _host(name: str) -> str:
    if not name or "/" in name:
        raise ValueError(f"{name!r} is no host, for example shop.example")
    return name


FedColumn = Annotated[str, AfterValidator(_fed)]
KeyColumn = Annotated[str, AfterValidator(_read)]


class UserAgentSettings(Settings):
    """`user_agent`."""

    enabled: bool = Field(default=True, description="Fill client, device and operating system.")
    cache_size: int = Field(default=20_000, ge=1, description="How many user agents are remembered.")


class GeoSettings(Settings):
    """`geo`."""

    databases: tuple[Path, ...] = Field(
        default=(), max_length=8, description="Files in MaxMind's format; what one lacks the next one may have."
    )


class TrafficSettings(Settings):
    """`traffic`."""

    enabled: bool = Field(default=True, description="Say referrer class, channel, source and click ids.")
    internal: tuple[Annotated[str, AfterValidator(_host)], ...] = Field(
        default=(), description="Your own hosts, besides the page's: visits from there are internal."
    )
    table: Path | None = Field(default=None, description="A YAML file of your own sources, click ids and channels.")


class LocalTimeSettings(Settings):
    """`local_time`."""

    enabled: bool = Field(default=True, description="Say hour and weekday where the client is.")
    business_begins: int = Field(default=9, ge=0, le=24, description="First hour of business.")
    business_ends: int = Field(default=17, ge=0, le=24, description="The hour that is none any more.")
    business_days: tuple[Weekday, ...] = Field(default=WEEKDAYS[:5], description="Days of business.")


class AddressSettings(Settings):
    """`address`."""

    places: tuple[str, ...] = Field(
        default=("client.address", "http.client_ip", "context.ip"),
        min_length=1,
        description="Where a client's address is, the first present: keys of attributes, or context. and a key.",
    )
    anonymize: Anonymize = Field(
        default="keep", description="After it was looked up: keep, truncate (/24, /48), hash, or drop."
    )
    salt_rotation: Duration = Field(default=DAY_S, gt=0, description="How long hash uses one (random) salt.")


class LookupSettings(Settings):
    """One of `lookups`."""

    path: Path = Field(description="CSV with a line of names, or Parquet (.parquet).")
    column: KeyColumn = Field(description="Our column whose value is looked up.")
    key: str = Field(min_length=1, description="The file's column that it is looked up in.")
    columns: dict[FedColumn, str] = Field(min_length=1, description="Our columns, and the file's that fill them.")


class Config(Settings):
    """The processor's section."""

    overwrite: bool = Field(default=False, description="Also replace what rows say themselves.")
    user_agent: UserAgentSettings = Field(default_factory=lambda: UserAgentSettings(), description="By user agent.")
    geo: GeoSettings = Field(default_factory=lambda: GeoSettings(), description="By address.")
    traffic: TrafficSettings = Field(default_factory=lambda: TrafficSettings(), description="By referrer and campaign.")
    local_time: LocalTimeSettings = Field(default_factory=lambda: LocalTimeSettings(), description="By time zone.")
    address: AddressSettings = Field(default_factory=lambda: AddressSettings(), description="Addresses of clients.")
    lookups: tuple[LookupSettings, ...] = Field(default=(), description="By tables of your own.")
    reload_interval: Duration = Field(default=10.0, gt=0, description="How often files are looked at for changes.")
