"""Authenticators: extensions that say whose requests are let in, or say who sends to a server.

A receiver names one in `auth.authenticator` of an endpoint. The listener asks once per distinct value of the header,
for which `admit` is called, and remembers the verdict for a minute; nothing is asked again for each request, and where
no authenticator is named nothing is asked at all. An exporter names one in `auth.authenticator`, and has it complete
the headers of each request.
"""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, cast

from colonnade.pipeline.component import ComponentId, Extension, Host, Slice
from colonnade.pipeline.errors import ColonnadeError, Permanent
from colonnade.pipeline.settings import ClientAuth

LOOK_EVERY_S = 1.0
FILE_MAX_BYTES = 1 << 20

Metadata = dict[str, list[str]]


class ServerAuthenticator(Extension):
    """Says whose requests are let in."""

    header: str = "authorization"
    """The request header that is judged, in lower case."""

    @abstractmethod
    async def admit(self, credential: str) -> str:
        """Why requests with this value of the header are refused; empty: they are let in. Without the header: ''."""

    def forget(self, host: Host) -> None:
        """What was said before holds no more."""
        if host.listener is not None:
            host.listener.forget_verdicts()


class ClientAuthenticator(Extension):
    """Completes the headers of requests."""

    secret: ClassVar[bool] = True
    """Whether what it adds must not be read by others on the way."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Headers of the requests that rows came with whose values decide: rows of different values go apart."""
        return ()

    @abstractmethod
    def complete(self, headers: dict[str, str], metadata: Metadata) -> None:
        """Changes the headers of a request. `metadata`: those that its rows came with. Names are in lower case.

        Raises Retryable, Permanent.
        """


class Credentials:
    """What an exporter adds to its requests by its `auth`; nothing without."""

    def __init__(self, settings: ClientAuth | None) -> None:
        self._id = ComponentId.parse(settings.authenticator) if settings else None
        self._host: Host | None = None

    def start(self, host: Host, server: str, secure: bool) -> None:
        """`server`: where requests go, `secure`: whether nobody can read them on the way."""
        self._host = host
        authenticator = self._authenticator()
        if authenticator is not None and authenticator.secret and not secure and not _is_loopback(server):
            host.logger.warning(
                "exporter %s: credentials of %s go to %s without encryption: use tls", host.id, self._id, server
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """See `ClientAuthenticator.needs`."""
        authenticator = self._authenticator()
        return authenticator.needs if authenticator else ()

    def headers(self, given: dict[str, str], part: Slice) -> dict[str, str]:
        """The given headers, completed for rows of this slice. Raises Retryable, Permanent."""
        authenticator = self._authenticator()
        if authenticator is None:
            return given
        headers = dict(given)
        authenticator.complete(headers, _metadata(part) if authenticator.needs else {})
        return headers

    def _authenticator(self) -> ClientAuthenticator | None:
        """The extension that has this name now: a reload may have exchanged it."""
        if self._id is None or self._host is None:
            return None
        return client_authenticator(self._host, self._id)


def client_authenticator(host: Host, id: ComponentId) -> ClientAuthenticator:
    """The started extension. The configuration has been checked: it is there, and one for clients."""
    return cast(ClientAuthenticator, host.extension(id))


def _metadata(part: Slice) -> Metadata:
    """Headers that rows of a slice came with: rows of different values that matter are apart already."""
    found: Metadata = {}
    run = next((run for batch in part.batches for run in batch.runs), None)
    for name, value in run[2] if run else []:
        found.setdefault(name.lower(), []).append(value)
    return found


def the_one(metadata: Metadata, name: str) -> str | None:
    """The value of a header that rows came with; None without. Raises Permanent where it has several."""
    values = metadata.get(name.lower(), [])
    if len(values) > 1:
        raise Permanent("ambiguous_header", f"rows came with {len(values)} values of the header {name}: send one")
    return values[0] if values else None


def _is_loopback(server: str) -> bool:
    return server.startswith(("unix:", "127.", "localhost", "[::1]", "::1"))


class SecretFile:
    """A file with a secret, read again when it changes. What it holds is never told."""

    def __init__(self, path: str, changed: Callable[[str], None]) -> None:
        """`changed` gets the file's text at the start, and whenever it is another."""
        self._path = Path(path)
        self._changed = changed
        self._stamp: Any = None
        self._told = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: Host, wait: tuple[int, float] | None = None) -> None:
        """Reads it. `wait`: how often to try again (0: without end), and how long to wait in between.

        Raises ColonnadeError where it can not be read.
        """
        tries = 0
        while not await self._look(host):
            tries += 1
            if wait is None or (wait[0] and tries > wait[0]):
                raise ColonnadeError("secret_unreadable", f"{self._path}: {self._told}")
            await asyncio.sleep(wait[1])
        self.watch(host)

    def watch(self, host: Host) -> None:
        """Reads it from now on whenever it changes."""
        self._task = asyncio.create_task(self._watch(host), name=f"{host.id} {self._path.name}")

    async def stop(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        self._stamp = None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self, host: Host) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            told = self._told
            if not await self._look(host) and self._told != told:
                host.logger.warning("%s: %s can not be read, what it held stays: %s", host.id, self._path, self._told)

    async def _look(self, host: Host) -> bool:
        try:
            stamp, text = await host.run(_read, self._path, self._stamp)
        except (OSError, ValueError) as error:
            self._told = (error.strerror or str(error)) if isinstance(error, OSError) else "is not UTF-8 text"
            return False
        self._told = ""
        if text is not None:
            if self._stamp is not None:
                host.logger.info("%s: %s has changed, and is read again", host.id, self._path)
            self._stamp = stamp
            self._changed(text)
        return True


async def start_all(host: Host, files: Sequence[SecretFile]) -> None:
    """Starts these files; none, where one can not be read. Raises ColonnadeError."""
    try:
        for file in files:
            await file.start(host)
    except BaseException:
        await stop_all(files)
        raise


async def stop_all(files: Sequence[SecretFile]) -> None:
    """Idempotent."""
    for file in files:
        await file.stop()


def _read(path: Path, known: Any) -> tuple[Any, str | None]:
    """The file's text, and what tells that it is the same; None for one that is known. Raises OSError, ValueError."""
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
        stamp = (state.st_ino, state.st_mtime_ns, state.st_size)
        return stamp, None if stamp == known else file.read(FILE_MAX_BYTES).decode()
