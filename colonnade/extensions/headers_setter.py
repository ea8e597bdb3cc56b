"""Sets headers of exporters' requests: fixed values, secrets in files, or headers that the rows came with.

    extensions:
      headers_setter:
        headers:
          - action: upsert
            key: X-Scope-OrgID
            from_context: x-tenant
            default_value: nobody
          - action: insert
            key: X-Environment
            value: production
          - action: delete
            key: User-Agent
    receivers:
      otlp:
        protocols:
          http: {include_metadata: true}
    exporters:
      otlp_http:
        endpoint: http://localhost:4319
        auth: {authenticator: headers_setter}
    service:
      extensions: [headers_setter]

Exporters name it in `auth.authenticator`. `insert` sets a header that is not there yet, `update` one that is, `upsert`
(the default) both, `delete` removes it; in the order of the list, after the exporter's own `headers`. Of what
`from_context` names, the receiver must keep request headers (`include_metadata: true`); rows of different values go in
requests of their own, without a setting for it. Rows that came with several values of it are parked as dead letters.
`value_file` is read again when it changes. `additional_auth` names another authenticator, which completes the headers
first. Rows of dead letters that are tried again come without the headers that they came with.

Specification: the Collector's `headers_setter`. Differences from it: `from_attribute` is not offered; no
`metadata_keys` need to be set anywhere; after a crash, rows of a durable log keep the headers that they came with.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from colonnade.pipeline.authentication import (
    ClientAuthenticator,
    Metadata,
    SecretFile,
    client_authenticator,
    start_all,
    stop_all,
    the_one,
)
from colonnade.pipeline.component import ComponentId, Factory, Host
from colonnade.pipeline.settings import Secret, Settings


class Header(Settings):
    """One of `headers`."""

    action: Literal["insert", "update", "upsert", "delete"] = Field(default="upsert", description="What to do.")
    key: str = Field(pattern=r"^[\w!#$%&'*+.^`|~-]+$", description="The header.")
    value: Secret | None = Field(default=None, description="Its value.")
    value_file: str = Field(default="", description="A file with its value, read again when it changes.")
    from_context: str = Field(default="", description="The header of incoming requests that has its value.")
    default_value: Secret | None = Field(default=None, description="Its value where they have none.")

    @field_validator("key", "from_context")
    @classmethod
    def _lower(cls, name: str) -> str:
        return name.lower()

    @model_validator(mode="after")
    def _check(self) -> Self:
        sources = (self.value is not None) + bool(self.value_file) + bool(self.from_context)
        if self.action != "delete" and not sources:
            raise ValueError("missing header source, must be 'from_context', 'value' or 'value_file'")
        if sources > 1:
            raise ValueError("invalid header source, must be one of 'from_context', 'value' and 'value_file'")
        if self.default_value is not None and not self.from_context:
            raise ValueError("default_value goes with from_context")
        return self


class Config(Settings):
    """The extension's section."""

    headers: tuple[Header, ...] = Field(min_length=1, description="What to set, in order.")
    additional_auth: str = Field(default="", description="Id of another authenticator, which goes first.")


class HeadersSetter(ClientAuthenticator):
    """Headers, in order."""

    secret = False

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config
        # What is in files, by the header's place in the list.
        self._texts: dict[int, str] = {}
        self._files = [
            SecretFile(header.value_file, lambda text, place=place: self._texts.update({place: text.strip()}))
            for place, header in enumerate(config.headers)
            if header.value_file
        ]

    async def start(self, host: Host) -> None:
        self._host = host
        await start_all(host, self._files)

    async def shutdown(self) -> None:
        await stop_all(self._files)

    @property
    def needs(self) -> tuple[str, ...]:
        own = (header.from_context for header in self.config.headers if header.from_context)
        return (*own, *(other.needs if (other := self._other()) else ()))

    def complete(self, headers: dict[str, str], metadata: Metadata) -> None:
        if other := self._other():
            other.complete(headers, metadata)
        for place, header in enumerate(self.config.headers):
            if header.action == "delete":
                headers.pop(header.key, None)
            elif header.action == "upsert" or (header.key in headers) == (header.action == "update"):
                headers[header.key] = self._value(place, header, metadata)

    def _value(self, place: int, header: Header, metadata: Metadata) -> str:
        if header.from_context:
            default = header.default_value.reveal() if header.default_value is not None else ""
            return the_one(metadata, header.from_context) or default
        return header.value.reveal() if header.value is not None else self._texts[place]

    def _other(self) -> ClientAuthenticator | None:
        name = self.config.additional_auth
        return client_authenticator(self._host, ComponentId.parse(name)) if name else None


factory = Factory(type="headers_setter", kind="extension", config=Config, create=HeadersSetter)
