"""Where rows go that a store refuses for good: a folder of Arrow IPC files, bounded in bytes and age.

One file per slice, readable by any Arrow (`pyarrow.ipc.open_file`), with the reason in the schema's metadata: `reason`,
`code`, `exporter`, `pipeline`, `signal`, `log`, `start`, `end`, `time`. The oldest files make room for new ones and are
counted; a folder that can not be written to never stops an exporter: those rows are counted as lost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow

from colonnade.pipeline.component import Slice
from colonnade.pipeline.errors import ColonnadeError
from colonnade.pipeline.settings import DeadLetterSettings

# pyarrow has no types; `Any` says so once.
pa: Any = pyarrow

SUFFIX = ".arrow"
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

    def park(self, part: Slice, exporter: str, error: ColonnadeError, now_s: float) -> Parked:
        """Writes the slice, then makes the folder fit. Raises OSError."""
        folder = Path(self._settings.directory) if self._settings.directory else self._folder()
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {
            "reason": error.message,
            "code": error.code,
            "exporter": exporter,
            "pipeline": part.pipeline,
            "signal": part.signal,
            "log": part.log_id,
            "start": str(part.start),
            "end": str(part.end),
            "time": f"{now_s:.3f}",
        }
        name = _UNSAFE.sub(
            "-", f"{int(now_s * 1000):013d}_{exporter}_{part.log_id}_{part.start}-{part.end}_n{part.rows}"
        )
        path = folder / (name + SUFFIX)
        nbytes = _write(path, part, metadata)
        evicted, left = self._fit(folder, path, now_s)
        return Parked(part.rows, nbytes, evicted, left)

    def _fit(self, folder: Path, newest: Path, now_s: float) -> tuple[int, int]:
        """Removes what is too old, then the oldest until the bound holds; gives rows removed and bytes left."""
        files = sorted((p.name, p.stat().st_size, p) for p in folder.glob(f"*{SUFFIX}"))
        total, evicted = sum(size for _, size, _ in files), 0
        for name, size, path in files:
            too_old = self._settings.max_age and _time_s(name) + self._settings.max_age < now_s
            if not too_old and total <= self._settings.max_size:
                break
            path.unlink(missing_ok=True)
            total -= size
            evicted += _rows(name)
            if path == newest:
                break
        return evicted, total


def _write(path: Path, part: Slice, metadata: dict[str, str]) -> int:
    """Published by rename, so that a reader never sees half a file."""
    beside = path.with_suffix(".tmp")
    try:
        table = _table(part).replace_schema_metadata(metadata)
        options = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)
        with beside.open("wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        os.replace(beside, path)
    except pa.ArrowException as error:
        raise OSError(f"not writable as Arrow: {type(error).__name__}") from error
    finally:
        beside.unlink(missing_ok=True)
    return path.stat().st_size


def _table(part: Slice) -> Any:
    tables = [pa.Table.from_batches([pa.record_batch(batch)]) for batch in part.batches]
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries()


def _time_s(name: str) -> float:
    head = name.partition("_")[0]
    return int(head) / 1000 if head.isdigit() else 0.0


def _rows(name: str) -> int:
    match = re.search(r"_n(\d+)\.", name)
    return int(match[1]) if match else 0
