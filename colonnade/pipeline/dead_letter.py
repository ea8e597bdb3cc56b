"""Where rows go that a store refuses for good: a folder of Parquet files, bounded in bytes and age.

One file per slice and reason, readable by anything that reads Parquet. Its metadata says why: `reason`, `code`,
`exporter`, `pipeline`, `signal`, `log`, `start`, `end`, `time`, and what it takes to make the rows a slice again. The
same rows parked again replace their file. The oldest files make room for new ones and are counted; a folder that can
not be written to never stops an exporter: those rows are counted as lost.

`colonnade dead-letter retry` moves files to the folder `retry` below; the exporter takes them from there
(`dead_letter_retry.py`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow

from colonnade.native import Batch
from colonnade.pipeline.component import Slice
from colonnade.pipeline.disk import sync
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import DeadLetterSettings

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow

SUFFIX = ".parquet"
RETRY = "retry"
ROW_GROUP_ROWS = 50_000
UNREADABLE = (OSError, KeyError, ValueError, pa.ArrowException)
"""What a file that is not one of ours raises."""
_UNSAFE = re.compile(r"[^0-9A-Za-z_.=-]+")


@dataclass(slots=True)
class Parked:
    """What parking did: rows and bytes written; rows of older files that had to give way."""

    rows: int
    nbytes: int
    evicted_rows: int
    folder_bytes: int


class DeadLetters:
    """One exporter's folder. Methods block: call them on an executor, one at a time."""

    def __init__(self, folder: Callable[[], Path], settings: DeadLetterSettings) -> None:
        self._folder = folder
        self._settings = settings

    @property
    def folder(self) -> Path:
        """The folder, which need not be there yet."""
        return Path(self._settings.directory) if self._settings.directory else self._folder()

    def park(self, part: Slice, exporter: str, error: ColonnadeError, now_s: float) -> Parked:
        """Writes the slice, durably, then makes the folder fit. Raises OSError."""
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        said = {
            "reason": error.message,
            "code": error.code,
            "exporter": exporter,
            "pipeline": part.pipeline,
            "signal": part.signal,
            "log": part.log_id,
            "start": str(part.start),
            "end": str(part.end),
            "offset": str(part.offset),
            "time": f"{now_s:.3f}",
        }
        piece = f"{part.pieces_done}.{part.offset}"
        name = _UNSAFE.sub("-", f"{exporter}_{part.log_id}_{part.start}-{part.end}_{piece}_{error.code}_n{part.rows}")
        path = folder / (name + SUFFIX)
        nbytes = _write(path, part, said, now_s)
        evicted, left = self._fit(folder, path, now_s)
        return Parked(part.rows, nbytes, evicted, left)

    def given_back(self, pipeline: str) -> list[Path]:
        """Files of a pipeline that are to be tried again, and any that can not be read; the oldest first."""
        waiting = sorted((_seen(path), path) for path in (self.folder / RETRY).glob(f"*{SUFFIX}"))
        return [path for _, path in waiting if _pipeline_of(path) in (pipeline, None)]

    def _fit(self, folder: Path, newest: Path, now_s: float) -> tuple[int, int]:
        """Removes what is too old, then the oldest until the bound holds; gives rows removed and bytes left."""
        files = sorted((_seen(path), path) for path in folder.glob(f"*{SUFFIX}"))
        total, evicted = sum(size for (_, size), _ in files), 0
        for (at_s, size), path in files:
            too_old = self._settings.max_age and at_s + self._settings.max_age < now_s
            if not too_old and total <= self._settings.max_size:
                break
            path.unlink(missing_ok=True)
            total -= size
            evicted += rows_in(path)
            if path == newest:
                break
        return evicted, total


def _seen(path: Path) -> tuple[float, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0.0, 0
    return stat.st_mtime, stat.st_size


def _write(path: Path, part: Slice, said: dict[str, str], now_s: float) -> int:
    """Published by rename, so that a reader never sees half a file."""
    first = part.batches[0]
    runs = [run for batch in part.batches for run in batch.runs]
    rebuild = {"completed": first.completed, "runs": runs}
    metadata = said | {"rebuild": json.dumps(rebuild)}
    beside = path.with_suffix(".tmp")
    try:
        table = _table(part)
        with beside.open("wb") as sink:
            _parquet().write_table(
                table.replace_schema_metadata(metadata), sink, compression="zstd", row_group_size=ROW_GROUP_ROWS
            )
        os.utime(beside, (now_s, now_s))
        sync(beside)
        os.replace(beside, path)
        sync(path.parent)
    except pa.ArrowException as error:
        raise OSError(f"not writable as Parquet: {type(error).__name__}") from error
    finally:
        beside.unlink(missing_ok=True)
    return path.stat().st_size


def _parquet() -> Any:
    """Loaded only where something is parked."""
    return import_module("pyarrow.parquet")


def _table(part: Slice) -> Any:
    tables = [pa.Table.from_batches([pa.record_batch(batch)]) for batch in part.batches]
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries()


def describe(path: Path) -> dict[str, str]:
    """What a file's metadata says of it, and `rows`. Raises what `UNREADABLE` names."""
    file = _parquet().read_metadata(path)
    found: dict[bytes, bytes] = file.metadata or {}
    said = {key.decode(): value.decode() for key, value in found.items() if not key.startswith(b"ARROW:")}
    return said | {"rows": str(file.num_rows)}


def _pipeline_of(path: Path) -> str | None:
    try:
        return describe(path).get("pipeline")
    except UNREADABLE:
        return None


def load(path: Path) -> Slice:
    """The slice that a file was. Raises what `UNREADABLE` names."""
    said = describe(path)
    rebuild = json.loads(said["rebuild"])
    table = _parquet().read_table(path)
    (data,) = table.combine_chunks().to_batches()
    batches: list[Batch] = []
    row = 0
    for rows, tenant, _ in rebuild["runs"]:
        piece = data.slice(row, rows)
        batches.append(Batch.from_arrow(piece, said["signal"], tenant=tenant, completed=rebuild["completed"]))
        row += rows
    return Slice(
        log_id=said["log"],
        pipeline=said["pipeline"],
        signal=said["signal"],
        start=int(said["start"]),
        end=int(said["end"]),
        batches=batches,
        rows=data.num_rows,
        nbytes=data.nbytes,
        offset=int(said["offset"]),
        in_doubt=True,
    )


def rows_in(path: Path) -> int:
    """The rows of a file, as its name says."""
    match = re.search(r"_n(\d+)\.", path.name)
    return int(match[1]) if match else 0
