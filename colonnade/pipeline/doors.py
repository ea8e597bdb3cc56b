"""Doors: the ports of the daemon and who is behind them.

Receivers declare entries (routes on an endpoint); the doors bind each endpoint once, number the entries for the
listener and wake the intake of an entry that has something waiting. Ports belong to the daemon, not to a graph: a
reload keeps a port whose endpoint stays, and gives it the new routes at once; the old intakes finish what they have
taken.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from colonnade import native
from colonnade.pipeline.authentication import ServerAuthenticator
from colonnade.pipeline.component import ComponentId, Entry, Host, ServerSpec
from colonnade.pipeline.errors import ColonnadeError, Retryable, Unauthenticated
from colonnade.pipeline.fanout import Fanout
from colonnade.pipeline.intake import Intake
from colonnade.pipeline.outcome import of_error
from colonnade.pipeline.serving import server_arguments, server_options, tls_arguments

if TYPE_CHECKING:
    from colonnade.native import Listener, Server

Key = tuple[ComponentId, str, str]

# How long the listener remembers what an authenticator has said of a credential, for as many as it has room for.
VERDICT_TTL_S = 60.0


@dataclass(frozen=True, slots=True)
class Opening:
    """An entry of a receiver, wired: where its rows go."""

    receiver: ComponentId
    entry: Entry
    fanout: Fanout
    host: Host

    @property
    def key(self) -> Key:
        """The same entry in the next configuration."""
        return self.receiver, self.entry.signal, self.entry.transport


@dataclass(slots=True)
class _Door:
    spec: ServerSpec
    server: Server


class Doors:
    """All ports of one listener. Methods belong to the event loop's thread."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._numbers = itertools.count(1)
        self._intakes: dict[Key, Intake] = {}
        self._by_number: dict[int, Intake] = {}
        self._doors: dict[str, _Door] = {}
        self._watching = False
        self._judging: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> dict[str, str]:
        """Bound address by declared endpoint (they differ for port 0)."""
        return {address: door.server.address for address, door in self._doors.items()}

    def apply(self, openings: Iterable[Opening]) -> list[Server]:
        """Serves exactly these entries. Gives servers that are no longer wanted: they accept nothing any more, and
        are to be closed with `close_servers`.

        Raises:
            ColonnadeError: `address_in_use` and the like; everything stays as it was.
        """
        wanted = {opening.key: opening for opening in openings}
        specs = endpoints((opening.receiver, opening.entry) for opening in wanted.values())
        fresh = self._bind(specs)
        try:
            self._renew_tls(specs)
        except ColonnadeError:
            for door in fresh.values():
                door.server.close(0)
            raise
        self._watch()
        for key, opening in wanted.items():
            self._open(key, opening)
        gone = [door.server for address, door in self._doors.items() if address not in specs]
        for server in gone:
            server.stop_accepting()
        self._doors = {
            address: fresh.get(address) or _Door(spec, self._doors[address].server) for address, spec in specs.items()
        }
        for address, door in self._doors.items():
            door.server.set_routes(self._routes(wanted.values(), address), server_options(door.spec))
        # Another authenticator may say otherwise.
        self.listener.forget_verdicts()
        return gone

    async def close_servers(self, servers: Iterable[Server], deadline_s: float) -> None:
        """Lets their requests in flight finish, then closes them."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, server.close, deadline_s) for server in servers))

    async def retire(self, openings: Iterable[Opening], deadline_s: float) -> None:
        """Stops intakes whose entry is not among these; call it after `close_servers`."""
        keys = {opening.key for opening in openings}
        gone = [key for key in self._intakes if key not in keys]
        intakes = [self._intakes.pop(key) for key in gone]
        for intake in intakes:
            self._by_number.pop(intake.number, None)
        await asyncio.gather(*(intake.stop(deadline_s) for intake in intakes))

    async def close(self, deadline_s: float) -> None:
        """Shutdown: no new connections, requests in flight are answered, then everything is closed. Idempotent."""
        for door in self._doors.values():
            door.server.stop_accepting()
        await asyncio.get_running_loop().run_in_executor(None, self.listener.close, deadline_s)
        self._doors = {}
        await self.retire([], deadline_s)
        if self._watching:
            asyncio.get_running_loop().remove_reader(self.listener.fileno())
            self._watching = False

    def _bind(self, specs: dict[str, ServerSpec]) -> dict[str, _Door]:
        """Binds endpoints that are not bound yet; all or none."""
        fresh: dict[str, _Door] = {}
        for address, spec in specs.items():
            if address in self._doors:
                continue
            try:
                fresh[address] = _Door(spec, self.listener.serve(address, **server_arguments(spec)))
            except (OSError, native.NativeError, ValueError) as error:
                for door in fresh.values():
                    door.server.close(0)
                raise ColonnadeError("can_not_listen", f"can not listen on {address}: {error}") from error
        return fresh

    def _renew_tls(self, specs: dict[str, ServerSpec]) -> None:
        """Reads the certificates of ports that stay again, also where only the files have changed; all or none."""
        renewed: list[_Door] = []
        for address, spec in specs.items():
            door = self._doors.get(address)
            if door is None or (spec.settings.tls is None and door.spec.settings.tls is None):
                continue
            try:
                door.server.set_tls(tls_arguments(spec))
            except (ValueError, OSError) as error:
                for other in renewed:
                    with suppress(ValueError, OSError):
                        other.server.set_tls(tls_arguments(other.spec))
                raise ColonnadeError("bad_certificate", f"TLS on {address}: {error}") from error
            renewed.append(door)

    def _open(self, key: Key, opening: Opening) -> None:
        intake = self._intakes.get(key)
        if intake is None:
            number = next(self._numbers)
            intake = Intake(number, opening.entry, opening.fanout, opening.host, self.listener)
            self._intakes[key] = self._by_number[number] = intake
        intake.entry, intake.fanout, intake.host = opening.entry, opening.fanout, opening.host
        intake.start()

    def _routes(self, openings: Iterable[Opening], address: str) -> list[native.Route]:
        return [
            native.Route(
                entry=self._intakes[opening.key].number,
                signal=opening.entry.signal,
                method=route.method,
                path=route.path,
                kind=route.kind,
                max_body_bytes=route.max_body_bytes,
                tenant=route.tenant,
                tenant_header=route.tenant_header,
                auth_header=_auth_header(opening) if route.method != "OPTIONS" else None,
                include_metadata=route.include_metadata,
                share_status=route.share_status,
            )
            for opening in openings
            if opening.entry.server.address == address
            for route in opening.entry.routes
        ]

    def _watch(self) -> None:
        if not self._watching:
            asyncio.get_running_loop().add_reader(self.listener.fileno(), self._ready)
            self._watching = True

    def _ready(self) -> None:
        for number in self.listener.ready():
            if intake := self._by_number.get(number):
                intake.wake()
        for number, credential in self.listener.pending_credentials():
            task = asyncio.get_running_loop().create_task(self._judge(number, credential))
            self._judging.add(task)
            task.add_done_callback(self._judging.discard)

    async def _judge(self, number: int, credential: str) -> None:
        """Tells the listener whether requests with this credential are let in."""
        intake = self._by_number.get(number)
        if intake is None:
            return
        refusal: ColonnadeError | None = None
        ttl_s = VERDICT_TTL_S
        try:
            reason = await _reason(intake, credential)
            refusal = Unauthenticated(reason) if reason else None
        except Retryable as error:
            refusal, ttl_s = error, 0.0
        except Exception as error:
            intake.host.logger.error("%s: credentials can not be checked: %s", intake.host.id, type(error).__name__)
            refusal, ttl_s = Retryable("unchecked_credential", "credentials can not be checked now", 1.0), 0.0
        answer = intake.render(of_error(refusal)) if refusal else None
        self.listener.set_verdict(number, credential, refusal is None, answer=answer, ttl_s=ttl_s)


def _authenticator(intake: Intake | Opening) -> ServerAuthenticator | None:
    """The extension that the endpoint names, as it is now. The configuration has been checked: it is there."""
    auth = intake.entry.server.settings.auth
    return cast(ServerAuthenticator, intake.host.extension(auth.authenticator)) if auth else None


async def _reason(intake: Intake, credential: str) -> str:
    """Why the credential is refused; empty: it is let in."""
    while True:
        authenticator = _authenticator(intake)
        reason = await authenticator.admit(credential) if authenticator else ""
        # A reload may have exchanged it meanwhile.
        if authenticator is _authenticator(intake):
            return reason


def _auth_header(opening: Opening) -> str | None:
    authenticator = _authenticator(opening)
    return authenticator.header if authenticator else None


def endpoints(entries: Iterable[tuple[ComponentId, Entry]]) -> dict[str, ServerSpec]:
    """The endpoints of receivers' entries. Raises ColonnadeError where one endpoint or path is wanted differently."""
    specs: dict[str, ServerSpec] = {}
    paths: dict[tuple[str, str, str], ComponentId] = {}
    for receiver, entry in entries:
        spec = entry.server
        known = specs.setdefault(spec.address, spec)
        if known.protocols != spec.protocols or _shared(known.settings) != _shared(spec.settings):
            raise ColonnadeError(
                "endpoint_conflict",
                f"endpoint {spec.address} is used twice with different settings or protocols (receiver {receiver})",
            )
        for route in entry.routes:
            other = paths.setdefault((spec.address, route.method, route.path), receiver)
            if other != receiver:
                raise ColonnadeError(
                    "route_conflict",
                    f"{route.method} {route.path} on {spec.address} is wanted by {other} and {receiver}",
                )
    return specs


def _shared(settings: Any) -> Any:
    """What two receivers on one endpoint must agree on: all but where their own routes are."""
    return settings.model_dump(
        exclude={"traces_url_path", "metrics_url_path", "logs_url_path", "include_metadata", "max_request_body_size"}
    )
