"""Running one reader's statement on the embedded engine, within limits."""

from __future__ import annotations

import asyncio
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from colonnade.extensions.clickhouse_query.guard import Forbidden, check, format_of
from colonnade.pipeline.embedded_engine import Engine, EngineError
from colonnade.unified_schema.clickhouse import literal, quoted

TOO_MANY_SIMULTANEOUS_QUERIES = 202

# Formats by their lower-case name, for the header that tells readers which one it is.
_CONTENT_TYPES = {
    "json": "application/json; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "xml": "application/xml; charset=UTF-8",
    "native": "application/octet-stream",
    "parquet": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "rowbinary": "application/octet-stream",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one statement may use."""

    memory_bytes: int
    time_s: float
    rows: int
    result_bytes: int
    concurrent: int

    @property
    def settings(self) -> dict[str, str]:
        return {
            "max_memory_usage": str(self.memory_bytes),
            "max_execution_time": f"{self.time_s:g}",
            "max_result_rows": str(self.rows),
            "max_result_bytes": str(self.result_bytes),
            "result_overflow_mode": "throw",
            "max_threads": "2",
            "allow_introspection_functions": "0",
        }


@dataclass(frozen=True, slots=True)
class Statement:
    """What a reader asks."""

    sql: str
    database: str = ""
    format: str = "TabSeparated"
    settings: dict[str, str] = field(default_factory=dict[str, str])
    params: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine says."""

    body: bytes
    format: str
    rows_read: int
    bytes_read: int
    elapsed_s: float

    @property
    def content_type(self) -> str:
        name = self.format.lower()
        if name.startswith("json"):
            return _CONTENT_TYPES["json"]
        return _CONTENT_TYPES.get(name, "text/plain; charset=UTF-8")

    @property
    def summary(self) -> str:
        return json.dumps(
            {
                "read_rows": str(self.rows_read),
                "read_bytes": str(self.bytes_read),
                "written_rows": "0",
                "written_bytes": "0",
                "elapsed_ns": str(round(self.elapsed_s * 1e9)),
            }
        )


class Runner:
    """Runs statements in threads of its own, so that readers never hold up the pipelines' threads."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._threads = ThreadPoolExecutor(limits.concurrent, thread_name_prefix="clickhouse_query")
        self._running = 0
        self._table_functions: frozenset[str] | None = None

    def close(self) -> None:
        """Waits for what runs; `run` was cancelled before."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def version(self, engine: Engine) -> str:
        """The engine's version."""
        return (await self.run(engine, Statement("SELECT version()", format="TSVRaw"))).body.decode().strip()

    async def run(self, engine: Engine, statement: Statement) -> Answer:
        """The answer. Raises EngineError, Forbidden; a cancelled caller cancels the statement."""
        if self._running >= self.limits.concurrent:
            raise Forbidden(
                f"Too many simultaneous queries: {self._running} are running", TOO_MANY_SIMULTANEOUS_QUERIES
            )
        mark = f"clickhouse_query {uuid.uuid4()}"
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._run, engine, statement, mark)
        future.add_done_callback(self._done)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.get_running_loop().run_in_executor(None, _kill, engine, mark)
            raise

    def _done(self, future: asyncio.Future[Answer]) -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()  # An answer that nobody waits for any more is not an error to report.

    def _run(self, engine: Engine, statement: Statement, mark: str) -> Answer:
        sql = self._checked(engine, statement.sql)
        # The statement can not undo these: readonly = 1 refuses SETTINGS clauses.
        settings = self.limits.settings | statement.settings | {"log_comment": mark}
        params = {f"param_{name}": value for name, value in statement.params.items()}
        given = ", ".join(f"{name} = {literal(value)}" for name, value in (params | settings).items())
        with engine.handle() as handle:
            try:
                handle.query(f"USE {quoted(statement.database or engine.database)}")
                handle.query(f"SET {given}, readonly = 1")
                result: Any = handle.query(sql, statement.format)
            except RuntimeError as error:
                raise EngineError(str(error)) from None
            format = format_of(sql) or statement.format
            return Answer(
                result.bytes(), format, result.storage_rows_read(), result.storage_bytes_read(), result.elapsed()
            )

    def _checked(self, engine: Engine, sql: str) -> str:
        """The statement as the engine understands it, if a reader may run it."""
        if self._table_functions is None:
            names = engine.query("SELECT lower(name) FROM system.table_functions").decode().split()
            self._table_functions = frozenset(names)
        understood = engine.query(f"SELECT formatQuery({literal(sql)})", "TSVRaw").decode().removesuffix("\n")
        check(understood, self._table_functions)
        return understood


def _kill(engine: Engine, mark: str) -> None:
    # It may just have ended by itself.
    with_mark = f"Settings['log_comment'] = {literal(mark)}"
    try:
        engine.query(f"KILL QUERY WHERE {with_mark} ASYNC")
    except EngineError:
        return
