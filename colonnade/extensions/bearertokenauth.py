"""Lets in requests with a token, and adds a token to requests of exporters.

    extensions:
      bearertokenauth:
        token: ${env:TELEMETRY_TOKEN:-none}
      bearertokenauth/agents:
        scheme: Bearer
        header: Authorization
        filename: tokens.txt
        retry_on_failure: {enabled: true, interval: 5s}
    receivers:
      otlp:
        protocols:
          grpc:
            auth: {authenticator: bearertokenauth}
    service:
      extensions: [bearertokenauth, bearertokenauth/agents]

A receiver whose endpoint names it refuses requests without one of the tokens, before their body is read: 401, or
UNAUTHENTICATED. A new token is judged once, and the verdict is remembered for a minute per endpoint and signal, for
10,000 tokens of up to 1 KiB; a file that changes, or a reload, is the end of all verdicts. An exporter that names it
sends the first of the tokens.

A `filename` has one token per line, what follows a blank is a comment; it wins over `token`, and is looked at every
second. One that is not there is an error at start; with `retry_on_failure` it is waited for, and until then requests
are told to come again (503, UNAVAILABLE). One that disappears later is told in the log, and its tokens stay.

Specification: RFC 6750. Differences from the Collector's component: gRPC exporters may send a token without TLS, which
the log warns of; a token of a file that is not there yet is waited for, and not sent empty.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from typing import Self

from pydantic import Field, field_validator, model_validator

from colonnade.pipeline.authentication import ClientAuthenticator, Metadata, SecretFile, ServerAuthenticator
from colonnade.pipeline.component import ComponentId, Factory, Host, Status
from colonnade.pipeline.errors import ColonnadeError, Retryable
from colonnade.pipeline.settings import Duration, Secret, Settings

NOT_LOADED_DELAY_S = 1.0
RETRY_S = 1.0


class RetryFile(Settings):
    """`retry_on_failure`: a file that is not there yet."""

    enabled: bool = Field(default=False, description="Wait for the file, while everything else starts.")
    max_retries: int = Field(default=0, ge=0, description="Give up after so many looks; 0 = never.")
    interval: Duration = Field(default=0.0, description="Time between looks; 0 = a second.")


class Config(Settings):
    """The extension's section."""

    header: str = Field(default="Authorization", pattern=r"^[\w!#$%&'*+.^`|~-]+$", description="The header.")
    scheme: str = Field(default="Bearer", description="What stands before the token; empty: nothing.")
    token: Secret = Field(default=Secret(""), description="The token.")
    tokens: tuple[Secret, ...] = Field(default=(), description="Several, each of which is let in.")
    filename: str = Field(default="", description="A file with a token per line, read again when it changes.")
    retry_on_failure: RetryFile = Field(default_factory=lambda: RetryFile(), description="A file that is missing.")
    wait_for_token_file: bool = Field(default=False, description="Nothing else starts before the file is there.")

    @field_validator("tokens")
    @classmethod
    def _whole(cls, tokens: tuple[Secret, ...]) -> tuple[Secret, ...]:
        if not all(tokens):
            raise ValueError("a token must not be empty: everybody has that one")
        return tokens

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.token or self.tokens or self.filename):
            raise ValueError("no bearer token provided: write token, tokens or filename")
        if self.token and self.tokens:
            raise ValueError("either tokens or token should be provided, not both")
        if (self.retry_on_failure.enabled or self.wait_for_token_file) and not self.filename:
            raise ValueError("retry_on_failure and wait_for_token_file require filename to be set")
        if self.wait_for_token_file and not self.retry_on_failure.enabled:
            raise ValueError("wait_for_token_file requires retry_on_failure to be enabled")
        return self


class BearerTokenAuth(ServerAuthenticator, ClientAuthenticator):
    """Tokens, for both ends."""

    def __init__(self, id: ComponentId, config: Config) -> None:
        super().__init__(id)
        self.config = config
        self.header = config.header.lower()
        self._values = [self._value(token.reveal()) for token in config.tokens or (config.token,)]
        self._file = SecretFile(config.filename, self._take) if config.filename else None
        self._waiting: asyncio.Task[None] | None = None

    async def start(self, host: Host) -> None:
        self._host = host
        if self._file is None:
            return
        self._values = []
        retry = self.config.retry_on_failure
        if not retry.enabled:
            await self._file.start(host)
        elif self.config.wait_for_token_file:
            await self._wait(host, self._file)
        else:
            self._waiting = asyncio.create_task(self._wait_aside(host, self._file), name=f"{self.id} file")

    async def shutdown(self) -> None:
        task, self._waiting = self._waiting, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._file is not None:
            await self._file.stop()

    async def admit(self, credential: str) -> str:
        if not credential:
            return f"missing or empty authorization header: {self.config.header}"
        given = credential.encode()
        # All are compared, so that the time says nothing.
        known = [hmac.compare_digest(given, value.encode()) for value in self._loaded()]
        return "" if any(known) else "provided authorization does not match expected scheme or token"

    def complete(self, headers: dict[str, str], metadata: Metadata) -> None:
        headers[self.header] = self._loaded()[0]

    def _loaded(self) -> list[str]:
        if not self._values:
            raise Retryable("no_token", f"{self.id}: {self.config.filename} has no token yet", NOT_LOADED_DELAY_S)
        return self._values

    def _value(self, token: str) -> str:
        return f"{self.config.scheme} {token}" if self.config.scheme else token

    def _take(self, text: str) -> None:
        self._values = [self._value(line.split()[0]) for line in text.splitlines() if line.strip()]
        self.forget(self._host)

    async def _wait(self, host: Host, file: SecretFile) -> None:
        retry = self.config.retry_on_failure
        await file.start(host, (retry.max_retries, retry.interval or RETRY_S))

    async def _wait_aside(self, host: Host, file: SecretFile) -> None:
        try:
            await self._wait(host, file)
        except ColonnadeError as error:
            host.logger.error("extension %s: gave up: %s", self.id, error)
            host.report(Status("permanent_error", error.message))


factory = Factory(type="bearertokenauth", kind="extension", config=Config, create=BearerTokenAuth)
