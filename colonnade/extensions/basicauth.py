"""Lets in requests with a user's name and password, or adds one to requests of exporters.

    extensions:
      basicauth/server:
        htpasswd:
          file: users.htpasswd
          inline: |
            agent:$2y$05$7hVZSw5PSQxT8uvq5dZtZuBYYFlxvFBTPsR1vIOT3kRxqWGsmHmxC
      basicauth/client:
        client_auth:
          username: agent
          password: ${env:GATEWAY_PASSWORD:-none}
    receivers:
      otlp:
        protocols:
          http:
            auth: {authenticator: basicauth/server}
    service:
      extensions: [basicauth/server, basicauth/client]

A receiver whose endpoint names one with `htpasswd` refuses requests of others before their body is read: 401, or
UNAUTHENTICATED. Entries may be bcrypt (`$2y$`, `$2a$`, `$2b$`), MD5 (`$apr1$`, `$1$`), SHA (`{SHA}`), salted SHA
(`{SSHA}`), SHA-crypt (`$5$`, `$6$`) or plain text; `inline` wins over `file`. bcrypt, MD5 and SHA-crypt need the extra
`auth` (`pip install "colonnade[auth]"`).

Passwords are checked on a thread, two at a time, and not per request: the listener remembers a verdict for a minute,
and the extension 1,000 pairs of name and password that were right, as a digest with a key of this process. So a right
one costs its bcrypt once; a flood of wrong ones delays who comes new (they are told to come again), and nobody else.

An exporter that names one with `client_auth` sends that name and password; `username_file` and `password_file` win over
`username` and `password`, and are read again when they change. The file of `htpasswd` is read at start and reload.

Specification: RFC 7617. Differences from the Collector's component: gRPC exporters may send a password without TLS,
which the log warns of; a line of `htpasswd` that is none is an error, and not passed over; names of users are not
offered to processors.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from colonnade.pipeline.authentication import (
    ClientAuthenticator,
    Metadata,
    SecretFile,
    ServerAuthenticator,
    start_all,
    stop_all,
)
from colonnade.pipeline.component import ComponentId, Factory, Host
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import OptionalSection, Secret, Settings

CHECKS_AT_ONCE = 2
REMEMBERED_MAX = 1_000
# bcrypt looks at no more.
BCRYPT_MAX_BYTES = 72
BCRYPT = ("$2y$", "$2a$", "$2b$")
BCRYPT_WHOLE = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
# Kept as crypt does, and what passlib calls it.
CRYPTS = {"$apr1$": "apr_md5_crypt", "$1$": "md5_crypt", "$5$": "sha256_crypt", "$6$": "sha512_crypt"}
SHA, SALTED_SHA = "{SHA}", "{SSHA}"
SHA1_BYTES = 20


class Htpasswd(Settings):
    """`htpasswd`: whom to let in."""

    file: str = Field(default="", description="A file as Apache's htpasswd makes it.")
    inline: Secret = Field(default=Secret(""), description="Lines of such a file; they win over those of the file.")


class ClientLogin(Settings):
    """`client_auth`: who to be."""

    username: str = Field(default="", description="The name.")
    username_file: str = Field(default="", description="A file with the name, read again when it changes.")
    password: Secret = Field(default=Secret(""), description="The password.")
    password_file: str = Field(default="", description="A file with the password, read again when it changes.")

    @field_validator("username")
    @classmethod
    def _no_colon(cls, name: str) -> str:
        if ":" in name:
            raise ValueError("a user's name has no colon: what follows would be taken as the password")
        return name


class Config(Settings):
    """The extension's section: one of the two."""

    htpasswd: OptionalSection[Htpasswd] = Field(default=None, description="Whom to let in.")
    client_auth: OptionalSection[ClientLogin] = Field(default=None, description="Who to be for a server.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.htpasswd is not None and self.client_auth is not None:
            raise ValueError("only one of `htpasswd` or `client_auth` can be specified")
        if self.htpasswd is None and self.client_auth is None:
            raise ValueError("no credential source provided: write htpasswd for receivers, client_auth for exporters")
        if self.htpasswd is not None and not (self.htpasswd.file or self.htpasswd.inline):
            raise ValueError("no credential source provided: write htpasswd.file or htpasswd.inline")
        return self


class BasicAuthServer(ServerAuthenticator):
    """Compares passwords."""

    def __init__(self, id: ComponentId, htpasswd: Htpasswd) -> None:
        super().__init__(id)
        self._htpasswd = htpasswd
        self._users: dict[str, str] = {}
        self._key = secrets.token_bytes(32)
        # Digests of credentials that were right, the latest last.
        self._right: OrderedDict[bytes, None] = OrderedDict()

    async def start(self, host: Host) -> None:
        self._host = host
        self._checking = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._users = await host.run(self._read)
        self._right.clear()

    async def admit(self, credential: str) -> str:
        if not credential:
            return "no basic auth provided"
        digest = hmac.digest(self._key, credential.encode(), "sha256")
        if digest in self._right:
            self._right.move_to_end(digest)
            return ""
        login, reason = parse(credential)
        if login is None:
            return reason
        encoded = self._users.get(login[0])
        if encoded is None:
            return "invalid credentials"
        async with self._checking:
            if not await self._host.run(matches, login[1], encoded):
                return "invalid credentials"
        self._right[digest] = None
        if len(self._right) > REMEMBERED_MAX:
            self._right.popitem(last=False)
        return ""

    def _read(self) -> dict[str, str]:
        """Users and what is kept of their passwords. Raises ColonnadeError."""
        text = ""
        if self._htpasswd.file:
            try:
                text = Path(self._htpasswd.file).read_text()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
                raise ColonnadeError("secret_unreadable", f"htpasswd.file {self._htpasswd.file}: {reason}") from None
        users = users_of(text, f"htpasswd.file {self._htpasswd.file}")
        users |= users_of(self._htpasswd.inline.reveal(), "htpasswd.inline")
        for user, encoded in users.items():
            # Told at the start, and not to the first who comes.
            if not is_whole(encoded):
                raise ColonnadeError("bad_htpasswd", f"htpasswd: the password of user {user!r} is cut or damaged")
        return users


class BasicAuthClient(ClientAuthenticator):
    """Sends a name and a password."""

    def __init__(self, id: ComponentId, login: ClientLogin) -> None:
        super().__init__(id)
        self._name, self._password = login.username, login.password.reveal()
        self._files = [
            SecretFile(path, take)
            for path, take in ((login.username_file, self._take_name), (login.password_file, self._take_password))
            if path
        ]

    async def start(self, host: Host) -> None:
        await start_all(host, self._files)

    async def shutdown(self) -> None:
        await stop_all(self._files)

    def complete(self, headers: dict[str, str], metadata: Metadata) -> None:
        login = f"{self._name}:{self._password}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(login).decode()}"

    def _take_name(self, text: str) -> None:
        self._name = text.strip()

    def _take_password(self, text: str) -> None:
        self._password = text.strip()


def parse(credential: str) -> tuple[tuple[str, str] | None, str]:
    """The name and password of an Authorization header; else why it has none."""
    scheme, _, encoded = credential.partition(" ")
    if scheme.lower() != "basic" or not encoded:
        return None, "invalid authorization scheme prefix"
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None, "invalid authorization format"
    return ((name, password), "") if colon else (None, "invalid authorization format")


def users_of(text: str, where: str) -> dict[str, str]:
    """The lines `user:encoded` of a htpasswd file. Raises ColonnadeError with the line's number, not with the line."""
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        user, colon, encoded = line.strip().partition(":")
        if not colon:
            raise ColonnadeError("bad_htpasswd", f"{where}: line {number} has no colon: write user:password")
        users[user] = encoded
    return users


def is_whole(encoded: str) -> bool:
    """Whether what is kept of a password can be compared with one. Raises ColonnadeError where a package is missing."""
    try:
        if encoded.startswith(BCRYPT):
            return _bcrypt() is not None and BCRYPT_WHOLE.fullmatch(encoded) is not None
        if crypt := _crypt(encoded):
            return crypt.from_string(encoded).checksum is not None
        if encoded.startswith((SHA, SALTED_SHA)):
            return len(_decoded(encoded)) >= SHA1_BYTES
    except ValueError:
        return False
    return True


def matches(password: str, encoded: str) -> bool:
    """Whether the password is the one that is kept as this."""
    given = password.encode()
    try:
        if encoded.startswith(BCRYPT):
            return _bcrypt().checkpw(given[:BCRYPT_MAX_BYTES], encoded.encode())
        if crypt := _crypt(encoded):
            return crypt.verify(password, encoded)
    except ValueError:
        # Too long, or with a character that no password can have.
        return False
    if encoded.startswith((SHA, SALTED_SHA)):
        kept = _decoded(encoded)
        digest, salt = kept[:SHA1_BYTES], kept[SHA1_BYTES:]
        return hmac.compare_digest(hashlib.sha1(given + salt).digest(), digest)
    return hmac.compare_digest(given, encoded.encode())


def _crypt(encoded: str) -> Any:
    """What compares passwords of this kind; None where it is none of crypt's."""
    name = next((name for prefix, name in CRYPTS.items() if encoded.startswith(prefix)), None)
    return getattr(_passlib(), name) if name else None


def _decoded(encoded: str) -> bytes:
    """Digest and salt. Raises ValueError."""
    return base64.b64decode(encoded.partition("}")[2], validate=True)


def _bcrypt() -> Any:
    try:
        import bcrypt  # an extra, loaded only where a password is kept this way
    except ImportError as error:
        raise _missing(error) from None
    return bcrypt


def _passlib() -> Any:
    try:
        from passlib import hash  # the same
    except ImportError as error:
        raise _missing(error) from None
    return hash


def _missing(error: ImportError) -> ColonnadeError:
    text = f"htpasswd: a password is kept in a way that needs {error.name}: pip install 'colonnade[auth]'"
    return ColonnadeError("missing_package", text)


def _create(id: ComponentId, config: Config) -> BasicAuthServer | BasicAuthClient:
    if config.htpasswd is not None:
        return BasicAuthServer(id, config.htpasswd)
    assert config.client_auth is not None
    return BasicAuthClient(id, config.client_auth)


factory = Factory(type="basicauth", kind="extension", config=Config, create=_create)
