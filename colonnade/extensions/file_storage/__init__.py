"""Keeps the rows of pipelines on disk until their exporters have stored them: what was answered survives a crash.

    extensions:
      file_storage:
        directory: ./log
        create_directory: true
    exporters:
      nop:
        sending_queue: {storage: file_storage}
    service:
      extensions: [file_storage]

An exporter that names it in `sending_queue.storage` makes the log of its pipelines durable: a request is answered
once its rows are on disk, in all pipelines that it enters or in none, with one wait for the disk. Requests that come
together are committed together. Each exporter has its place in the log, and a slice is written down before it is sent,
so that after a crash it is sent again exactly. Exporters of such a pipeline that name no storage begin at the end after
a restart.

The folder holds SQLite files: segments of rows (256 MB each, removed once everybody has stored them) and a catalog of
places and slices in doubt. What is damaged is found by checksums, reported with the rows that are lost, and set aside
in `damaged` below; the rest goes on. A folder belongs to one process at a time.

A queue is bounded by `queue_size` (10 GiB of disk) and `max_age` (168h), and the folder by `max_size` and by the disk,
of which the log leaves 64 MiB free: at each bound requests are refused with a delay, and taken again by itself.

Rows of exporters and pipelines that the configuration does not name any more are kept until they are named again, or
dropped and counted (`removed_exporters: drop`).

With `dedup.window` set, rows that the pipeline took within that time are not taken again: a request that is sent once
more, because its sender never saw the answer, is answered and adds nothing (`docs/guarantees.md`). Rows are known by
`id`, which `unify` makes of what was sent, so rows that have not been through it are always taken.

Differences from the Collector's component: `fsync` is on; one log serves all exporters of a pipeline; `compaction` and
`recreate` are taken and not needed; a repeat after a crash does not double rows in stores that can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from colonnade.extensions.file_storage.config import FileStorageConfig
from colonnade.extensions.file_storage.extension import FileStorage
from colonnade.pipeline.component import ComponentId, Factory

__all__ = ["FileStorage", "FileStorageConfig", "check", "factory"]


def check(configs: Mapping[Any, FileStorageConfig]) -> list[str]:
    """What is wrong between the sections of one file: a folder has one log."""
    folders: dict[str, list[str]] = {}
    for id, config in configs.items():
        folders.setdefault(str(config.path), []).append(str(id))
    return [f"{' and '.join(ids)} have the same directory {path}" for path, ids in folders.items() if len(ids) > 1]


def _create(id: ComponentId, config: FileStorageConfig) -> FileStorage:
    return FileStorage(id, config)


factory = Factory(type="file_storage", kind="extension", config=FileStorageConfig, create=_create)
