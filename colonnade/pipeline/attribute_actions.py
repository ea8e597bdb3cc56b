"""Actions on attributes, and the rows they are for: what the `attributes` and `resource` processors share.

Keys and meaning are the Collector's; `native.AttributeEdit` does the work.
"""

from __future__ import annotations

import json
from typing import Any, Literal, Self, cast

from pydantic import Field, model_validator

from colonnade import native
from colonnade.pipeline.settings import Settings

CONTEXT_METADATA = "metadata."
_SETTING = ("insert", "update", "upsert")


class Action(Settings):
    """One step; steps are taken in order, and each sees what those before it did."""

    action: Literal["insert", "update", "upsert", "delete", "hash", "extract", "convert"] = Field(
        description="What is done: insert where the key is absent, update where it is there, upsert in both cases."
    )
    key: str = Field(default="", description="The attribute.")
    value: Any = Field(default=None, description="The value to set: text, number, boolean, list or map.")
    from_attribute: str = Field(default="", description="Set the value of this attribute, if there is one.")
    from_context: str = Field(
        default="", description="Set the value of this request header: metadata.NAME; several are joined with ;."
    )
    default_value: Any = Field(default=None, description="Set this where from_attribute or from_context find nothing.")
    pattern: str = Field(
        default="", description="Regular expression: of keys to delete or hash; of the text to extract from."
    )
    converted_type: Literal["", "int", "double", "string"] = Field(default="", description="The type to convert to.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        sources = [
            name for name in ("value", "from_attribute", "from_context") if getattr(self, name) not in (None, "")
        ]
        if self.value == "":
            sources.append("value")
        if self.action in _SETTING:
            self._needs("key")
            if len(sources) != 1:
                raise ValueError(
                    f"{self.action} needs one of value, from_attribute, from_context; got {sources or 'none'}"
                )
        elif sources:
            raise ValueError(f"{self.action} sets no value: remove {', '.join(sources)}")
        if self.action in ("delete", "hash") and not (self.key or self.pattern):
            raise ValueError(f"{self.action} needs key or pattern")
        if self.action == "extract":
            self._needs("key", "pattern")
        if self.action == "convert":
            self._needs("key", "converted_type")
        if self.pattern and self.action not in ("delete", "hash", "extract"):
            raise ValueError(f"{self.action} takes no pattern")
        if self.converted_type and self.action != "convert":
            raise ValueError(f"{self.action} takes no converted_type")
        if self.default_value is not None and not (self.from_attribute or self.from_context):
            raise ValueError("default_value goes with from_attribute or from_context")
        if self.from_context and not self.from_context.startswith(CONTEXT_METADATA):
            raise ValueError(f"from_context: only metadata.NAME is known here, got {self.from_context!r}")
        self._check_pattern()
        for value in (self.value, self.default_value):
            typed(value)
        return self

    def _needs(self, *keys: str) -> None:
        for key in keys:
            if not getattr(self, key):
                raise ValueError(f"{self.action} needs {key}")

    def _check_pattern(self) -> None:
        if self.pattern:
            groups = native.regex_groups(self.pattern)
            if self.action == "extract" and (not groups or not all(groups)):
                raise ValueError(
                    f"extract: every group of the pattern needs a name, as in (?P<user>\\w+), and there must be one; "
                    f"got {self.pattern!r}"
                )

    def native(self) -> dict[str, Any]:
        """As `native.AttributeEdit` takes it."""
        given: dict[str, Any] = {"action": self.action, "key": self.key or None, "pattern": self.pattern or None}
        if self.value is not None:
            given["value"] = typed(self.value)
        if self.from_attribute:
            given["from_attribute"] = self.from_attribute
        if self.from_context:
            given["from_metadata"] = self.from_context.removeprefix(CONTEXT_METADATA).lower()
        if self.default_value is not None:
            given["default"] = typed(self.default_value)
        if self.converted_type:
            given["converted_type"] = self.converted_type
        return given


class MatchedAttribute(Settings):
    """An attribute that has to be there."""

    key: str = Field(min_length=1, description="The attribute.")
    value: Any = Field(default=None, description="Its value; without one any value matches.")


class MatchedLibrary(Settings):
    """An instrumentation scope."""

    name: str = Field(description="Its name.")
    version: str | None = Field(default=None, description="Its version; without one any version matches.")


class MatchedSeverity(Settings):
    """`log_severity_number`."""

    min: int = Field(ge=0, le=24, description="Lowest severity number that matches.")
    match_undefined: bool = Field(default=False, description="Whether records without a severity match.")


class RegexpCache(Settings):
    """`regexp`: the Collector's cache of verdicts."""

    cacheenabled: bool = Field(default=False, description="Accepted; verdicts are per distinct text anyway.")
    cachemaxnumentries: int = Field(default=0, ge=0, description="Accepted.")


_PROPERTIES = (
    *("services", "span_names", "span_kinds", "log_bodies", "log_severity_texts", "metric_names", "libraries"),
    *("attributes", "resources", "log_severity_number"),
)


class Match(Settings):
    """`include`, `exclude`: every property that is given has to match; one value of a list is enough, but all of
    `attributes` and `resources` have to."""

    match_type: Literal["strict", "regexp"] = Field(description="Whether values are whole texts or expressions.")
    regexp: RegexpCache = Field(default_factory=lambda: RegexpCache(), description="The Collector's cache.")
    services: tuple[str, ...] = Field(default=(), description="Values of service.name.")
    span_names: tuple[str, ...] = Field(default=(), description="Names of spans.")
    span_kinds: tuple[str, ...] = Field(default=(), description="Kinds of spans: SPAN_KIND_SERVER and so on.")
    log_bodies: tuple[str, ...] = Field(default=(), description="Bodies of log records that are text.")
    log_severity_texts: tuple[str, ...] = Field(default=(), description="Severity texts of log records.")
    log_severity_number: MatchedSeverity | None = Field(default=None, description="Severity of log records.")
    metric_names: tuple[str, ...] = Field(default=(), description="Names of metrics.")
    libraries: tuple[MatchedLibrary, ...] = Field(default=(), description="Instrumentation scopes.")
    attributes: tuple[MatchedAttribute, ...] = Field(default=(), description="Attributes of records.")
    resources: tuple[MatchedAttribute, ...] = Field(default=(), description="Attributes of resources.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(getattr(self, name) for name in _PROPERTIES):
            raise ValueError(f"needs at least one of {', '.join(_PROPERTIES)}")
        for given in (*self.attributes, *self.resources):
            if self.match_type == "regexp" and given.value is not None and not isinstance(given.value, str):
                raise ValueError(f"{given.key}: with match_type regexp the value has to be an expression in quotes")
            typed(given.value)
        if self.match_type == "regexp":
            for pattern in self._patterns():
                native.regex_groups(pattern)
        return self

    def _patterns(self) -> list[str]:
        lists = (self.services, self.span_names, self.span_kinds, self.log_bodies, self.log_severity_texts)
        found = [text for texts in (*lists, self.metric_names) for text in texts]
        found += [text for library in self.libraries for text in (library.name, library.version) if text]
        return found + [given.value for given in (*self.attributes, *self.resources) if given.value is not None]

    def native(self) -> dict[str, Any]:
        """As `native.AttributeEdit` takes it."""
        given: dict[str, Any] = {name: list(getattr(self, name)) for name in _PROPERTIES[:6]}
        given["match_type"] = self.match_type
        given["libraries"] = [(library.name, library.version) for library in self.libraries]
        for name in ("attributes", "resources"):
            pairs = [(one.key, typed(one.value)) for one in getattr(self, name)]
            given[name] = pairs
        if self.log_severity_number is not None:
            given["log_severity_number"] = (self.log_severity_number.min, self.log_severity_number.match_undefined)
        return given


def typed(value: Any) -> tuple[int, str] | None:
    """A value of the file as attributes hold it: the kind's number and its text; None for none.

    Raises ValueError for what no attribute can be.
    """
    match value:
        case None:
            return None
        case bool():
            return 2, "true" if value else "false"
        case int():
            if not -(2**63) <= value < 2**63:
                raise ValueError(f"{value} does not fit 64 bits")
            return 3, str(value)
        case float():
            return 4, repr(value)
        case str():
            return 1, value
        case list():
            return 5, _json(cast(list[Any], value))
        case dict():
            return 6, _json(cast(dict[Any, Any], value))
        case _:
            raise ValueError(f"no attribute can be a {type(value).__name__}")


def _json(value: Any) -> str:
    return json.dumps(_doubled(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _doubled(value: Any) -> Any:
    """Keys that begin with `$` have it doubled, so that they are not taken for one of ours."""
    if isinstance(value, dict):
        pairs = cast(dict[Any, Any], value).items()
        return {f"${key}" if str(key).startswith("$") else str(key): _doubled(item) for key, item in pairs}
    return [_doubled(item) for item in cast(list[Any], value)] if isinstance(value, list) else value
