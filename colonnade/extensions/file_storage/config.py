"""The section of a `file_storage` extension."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from colonnade.pipeline.settings import ByteSize, Duration, Settings

DIRECTORY = "/var/lib/otelcol/file_storage"


class Compaction(Settings):
    """`compaction`: taken for compatibility. Rows lie in segments, which go once their rows are stored."""

    on_start: bool = Field(default=False, description="Taken; segments need no compaction.")
    on_rebound: bool = Field(default=False, description="Taken; segments need no compaction.")
    directory: str = Field(default="", description="Taken; nothing is written there.")
    max_transaction_size: int = Field(default=65536, ge=0, description="Taken.")
    rebound_needed_threshold_mib: int = Field(default=100, ge=0, description="Taken.")
    rebound_trigger_threshold_mib: int = Field(default=10, ge=0, description="Taken.")
    check_interval: Duration = Field(default=5.0, description="Taken.")
    cleanup_on_start: bool = Field(default=False, description="Taken.")


class Dedup(Settings):
    """`dedup`: rows that come again, because a client never saw the answer, are not taken again."""

    window: Duration = Field(
        default=0.0,
        description="How long after a row one of the same pipeline with the same `id` is a repeat; 0 = none is.",
    )
    max_ids: int = Field(
        default=1_000_000,
        gt=0,
        description="How many rows are remembered per pipeline, in about 40 bytes each; the oldest give way.",
    )


class FileStorageConfig(Settings):
    """Keys of the extension; the Collector's where it has them."""

    directory: str = Field(default=DIRECTORY, min_length=1, description="Folder of the log; one process at a time.")
    create_directory: bool = Field(default=False, description="Make the folder where it is missing.")
    directory_permissions: str = Field(
        default="0750", pattern=r"^0?[0-7]{3}$", description="Permissions of a folder that is made, in octal."
    )
    timeout: Duration = Field(default=1.0, description="How long to wait for a process that still has the folder.")
    fsync: bool = Field(
        default=True,
        description="Answer after the disk has the rows; off: after the kernel has, so that a power cut may lose some.",
    )
    max_size: ByteSize = Field(default=0, description="Bound of the folder in bytes; 0 = the exporters' queues alone.")
    recreate: bool = Field(
        default=False, description="Taken; damaged files are always set aside, and the rest is kept."
    )
    compaction: Compaction = Field(default_factory=lambda: Compaction(), description="Taken for compatibility.")
    dedup: Dedup = Field(default_factory=lambda: Dedup(), description="Leaves out rows that were taken before.")
    removed_exporters: Literal["keep", "drop"] = Field(
        default="keep", description="What happens to rows of exporters that the configuration does not name any more."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.create_directory and not self.path.is_dir():
            raise ValueError(f"directory must exist: {self.path}: make it, or write create_directory: true")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"directory is not a folder: {self.path}")
        return self

    @property
    def mode(self) -> int:
        """Permissions of a folder that is made."""
        return int(self.directory_permissions, 8)

    @property
    def path(self) -> Path:
        """The folder, by its full name."""
        return Path(os.path.abspath(self.directory))
