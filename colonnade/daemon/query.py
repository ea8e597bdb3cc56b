"""`colonnade query SQL`: asks the store that the configuration names, and prints a table for people.

A FORMAT clause in the statement is honoured: the answer is then passed through byte by byte.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

DEFAULT_ENDPOINT = "http://localhost:8123"
DEFAULT_CONFIG = "pipeline.yaml"
# Asked for only where the statement names no format of its own; the answer's header tells whether it did.
TABLE_FORMAT = "JSONCompactStringsEachRowWithNamesAndTypes"
SHOWN_ROWS = 1000
TIMEOUT_S = 300.0
NULL_TEXT = "ᴺᵁᴸᴸ"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask."""

    urls: tuple[str, ...]
    database: str = ""
    username: str = ""
    password: str = ""
    context: ssl.SSLContext | None = None
    params: Mapping[str, str] = field(default_factory=dict[str, str])


class QueryFailed(click.ClickException):
    """What is told on stderr; exit code 1."""

    def show(self, file: Any = None) -> None:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"error: {self.message}", style="red"))


@click.command("query")
@click.argument("sql")
@click.option(
    "--endpoint", help=f"Where to ask: URL or HOST:PORT (default: the configuration's, else {DEFAULT_ENDPOINT})."
)
@click.option(
    "--config", "configs", multiple=True, metavar="FILE", help=f"Configuration to read (default: ./{DEFAULT_CONFIG})."
)
@click.option("--database", help="Database of tables named without one (default: the exporter's).")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Value of {NAME:Type} in the statement.")
def query_command(
    sql: str, endpoint: str | None, configs: tuple[str, ...], database: str | None, params: tuple[str, ...]
) -> None:
    """Ask the store: SQL is one ClickHouse statement, or - to read it from standard input.

    Without a FORMAT clause the answer is a table for people.
    """
    target = find_target(endpoint, configs)
    if database:
        target = replace(target, database=database)
    text = sys.stdin.read() if sql == "-" else sql
    if not text.strip():
        raise click.UsageError("the statement is empty")
    started_s = time.monotonic()
    with _ask(target, text, _params(params)) as reply:
        if reply.headers.get("X-ClickHouse-Format", TABLE_FORMAT).lower() != TABLE_FORMAT.lower():
            _copy(reply, sys.stdout.buffer)
            return
        _print_table(reply, started_s)


def _params(given: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, equal, value = one.partition("=")
        if not equal or not name.isidentifier():
            raise click.BadParameter(f"{one!r} is not NAME=VALUE", param_hint="--param")
        found[f"param_{name}"] = value
    return found


def find_target(endpoint: str | None, configs: tuple[str, ...]) -> Target:
    """Whom to ask: --endpoint, else what --config or ./pipeline.yaml says, else the default.

    With --endpoint the configuration still says the database, where one is found.
    """
    if not configs and Path(DEFAULT_CONFIG).is_file():
        try:
            configured = _configured((DEFAULT_CONFIG,))
        except QueryFailed:
            if endpoint is None:
                raise
            configured = None
    else:
        configured = _configured(configs) if configs else None
    if endpoint is None:
        return configured or Target((DEFAULT_ENDPOINT,))
    given = _from_url(endpoint)
    return replace(given, database=given.database or (configured.database if configured else ""))


def _from_url(endpoint: str) -> Target:
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    from colonnade.exporters.clickhouse.endpoint import servers

    try:
        found = servers(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--endpoint") from None
    first = found[0]
    return Target(
        tuple(s.url for s in found), first.database, first.username, first.password, params=dict(first.params)
    )


def _configured(configs: tuple[str, ...]) -> Target | None:
    """The store of the first `clickhouse` exporter that a pipeline names; None where there is none."""
    root = _read(configs)
    exporter = _clickhouse_exporter(root)
    if exporter is None:
        return None
    from colonnade.exporters.clickhouse import ClickHouseConfig

    try:
        config = ClickHouseConfig.model_validate(exporter)
    except ValueError as error:
        raise QueryFailed(f"{', '.join(configs)}: the clickhouse exporter is not valid: {error}") from None
    if config.embedded is not None:
        return Target((_query_endpoint(root),), config.database_name, *_query_credentials(root))
    found = config.servers()
    return Target(
        tuple(server.url for server in found),
        config.database_name,
        found[0].username or config.username,
        found[0].password or config.password.reveal(),
        _tls(config.tls) if any(server.secure for server in found) else None,
    )


def _read(configs: tuple[str, ...]) -> dict[str, Any]:
    """The merged and expanded document."""
    from colonnade.daemon.configuration.expand import expand
    from colonnade.daemon.configuration.sources import documents
    from colonnade.daemon.configuration.tree import ConfigError, Findings, plain

    findings = Findings()
    try:
        node, _ = documents(configs, (), findings, os.environ)
        findings.raise_if_wrong()
        root: Any = plain(expand(node, findings, os.environ)) if node is not None else None
        findings.raise_if_wrong()
    except ConfigError as error:
        raise QueryFailed(error.message) from None
    return _mapping(root)


def _mapping(value: Any) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _section(root: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in path:
        root = _mapping(root.get(key))
    return root


def _is(type: str, id: str) -> bool:
    return id.partition("/")[0].strip() == type


def _clickhouse_exporter(root: dict[str, Any]) -> dict[str, Any] | None:
    exporters = {str(id): section for id, section in _section(root, "exporters").items() if _is("clickhouse", str(id))}
    used: list[str] = []
    for pipeline in _section(root, "service", "pipelines").values():
        used += [str(id) for id in (_mapping(pipeline).get("exporters") or ()) if str(id) in exporters]
    chosen = next(iter([*used, *exporters]), None)
    return None if chosen is None else _mapping(exporters[chosen])


def _query_section(root: dict[str, Any]) -> dict[str, Any]:
    extensions = _section(root, "extensions")
    return _mapping(next((section for id, section in extensions.items() if _is("clickhouse_query", str(id))), None))


def _query_endpoint(root: dict[str, Any]) -> str:
    endpoint = str(_query_section(root).get("endpoint") or "localhost:8123")
    host, _, port = endpoint.rpartition(":")
    # A server that listens on every address is asked on this machine's own.
    host = "localhost" if host.strip("[]") in ("", "0.0.0.0", "::") else host
    return f"http://{host}:{port}"


def _query_credentials(root: dict[str, Any]) -> tuple[str, str]:
    section = _query_section(root)
    return str(section.get("username") or "default"), str(section.get("password") or "")


def _tls(tls: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file or None)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
    return context


def _ask(target: Target, sql: str, params: Mapping[str, str]) -> http.client.HTTPResponse:
    """The answer of the first server that gives one. Raises QueryFailed."""
    fields = {**target.params, **params, "default_format": TABLE_FORMAT}
    if target.database:
        fields["database"] = target.database
    headers = {"User-Agent": "colonnade-query"}
    if target.username or target.password:
        credentials = f"{target.username or 'default'}:{target.password}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode()
    reasons: list[str] = []
    for url in target.urls:
        request = urllib.request.Request(f"{url}/?{urllib.parse.urlencode(fields)}", sql.encode(), headers)
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_S, context=target.context)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace").strip()
            raise QueryFailed(text or f"{url} answers {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
    raise QueryFailed(
        f"no answer from {'; '.join(reasons)}. Is the daemon (colonnade run), or the server, up? "
        "--endpoint asks elsewhere."
    )


def _copy(reply: http.client.HTTPResponse, out: BinaryIO) -> None:
    while chunk := reply.read(1 << 16):
        out.write(chunk)
    out.flush()


def _print_table(reply: http.client.HTTPResponse, started_s: float) -> None:
    lines = iter(reply)
    head = next(lines, b"").strip()
    console = Console(highlight=False)
    if not console.is_terminal:
        # No terminal, no width: nothing is cut or folded.
        console = Console(highlight=False, width=1_000_000)
    if not head:
        console.print("ok")
        return
    table = Table(header_style="bold")
    for name, type in zip(json.loads(head), json.loads(next(lines)), strict=True):
        table.add_column(Text(name), justify="right" if _is_number(type) else "left", overflow="fold")
    count = 0
    for count, line in enumerate(lines, 1):
        if count <= SHOWN_ROWS:
            table.add_row(
                *(Text(cell, style="dim" if cell == NULL_TEXT else "") for cell in map(str, json.loads(line)))
            )
    console.print(table)
    shown = f" ({SHOWN_ROWS} shown: add LIMIT, or FORMAT for all)" if count > SHOWN_ROWS else ""
    Console(stderr=True, highlight=False).print(
        f"{count} row{'s' if count != 1 else ''}{shown} in {time.monotonic() - started_s:.3f} s", style="dim"
    )


def _is_number(type: str) -> bool:
    core = type.removeprefix("LowCardinality(").removeprefix("Nullable(")
    return core.startswith(("Int", "UInt", "Float", "Decimal"))
