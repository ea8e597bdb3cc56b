"""Where the store is: `embedded:PATH`, or servers by URL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlsplit

EMBEDDED = "embedded:"
HTTP_PORT = 8123
HTTPS_PORT = 8443
# A URL of the native protocol names a port that speaks no HTTP: the HTTP port is tried in its place.
NATIVE_PORTS = {9000: HTTP_PORT, 9440: HTTPS_PORT}
NATIVE_SCHEMES = frozenset({"tcp", "clickhouse", "native"})
SCHEMES = frozenset({"http", "https"}) | NATIVE_SCHEMES


@dataclass(frozen=True, slots=True)
class Server:
    """One server's HTTP interface; what its URL says besides wins over the keys of the section."""

    host: str
    port: int
    secure: bool
    native: bool = False
    path: str = ""
    username: str = ""
    password: str = ""
    database: str = ""
    params: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        """Without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def embedded_path(endpoint: str) -> str | None:
    """The folder of `embedded:PATH`, else None."""
    return endpoint[len(EMBEDDED) :] if endpoint.startswith(EMBEDDED) else None


def servers(endpoint: str) -> list[Server]:
    """The servers of an endpoint: several are parted by commas, whole URLs or further hosts of the first.

    Raises ValueError with what is wrong and what is allowed.
    """
    found: list[Server] = []
    scheme = ""
    for part in (p.strip() for p in endpoint.split(",")):
        if not part:
            raise ValueError(f"endpoint {endpoint!r} holds an empty host")
        if "://" in part:
            scheme = part.partition("://")[0]
            found.append(_server(part))
        elif scheme:
            found.append(_server(f"{scheme}://{part}"))
        else:
            raise ValueError(f"endpoint {part!r} has no scheme: write http://{part}, https://{part} or embedded:PATH")
    tail = next((s for s in reversed(found) if s.params or s.database), None)
    if tail is None:
        return found
    # In a list of hosts the path and the parameters of the last one are meant for all.
    return [replace(s, params=s.params or tail.params, database=s.database or tail.database) for s in found]


def _server(url: str) -> Server:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"endpoint scheme {parts.scheme!r} is not known: allowed are {', '.join(sorted(SCHEMES))}")
    if not parts.hostname:
        raise ValueError(f"endpoint {url!r} has no host")
    params = dict(parse_qsl(parts.query, keep_blank_values=True))
    native = parts.scheme in NATIVE_SCHEMES
    secure = parts.scheme == "https" or params.pop("secure", "false").lower() in ("1", "true")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"endpoint {url!r}: {error}") from None
    # The native protocol's URLs name the database in their path; an HTTP URL's path may lead through a proxy.
    database = params.pop("database", "") or (parts.path.strip("/") if native else "")
    return Server(
        host=parts.hostname,
        port=_port(port or (HTTPS_PORT if secure else HTTP_PORT), native),
        secure=secure,
        native=native,
        path="" if native else parts.path.rstrip("/"),
        username=unquote(parts.username or params.pop("username", "")),
        password=unquote(parts.password or params.pop("password", "")),
        database=database,
        params=tuple(params.items()),
    )


def _port(port: int, native: bool) -> int:
    return NATIVE_PORTS.get(port, port) if native else port
