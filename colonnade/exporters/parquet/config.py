"""The section of a `parquet` exporter."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from colonnade.pipeline.settings import MIB, ByteSize, Duration, ExporterSettings, Settings

Compression = Literal["none", "snappy", "gzip", "brotli", "lz4", "zstd"]

# Codecs that take a level: lowest and highest.
LEVELS: dict[str, tuple[int, int]] = {"gzip": (1, 9), "brotli": (1, 11), "zstd": (1, 22)}
ZSTD_LEVEL = 1


class Roll(Settings):
    """`roll`: when the files that are being written become visible; 0 = no bound."""

    max_bytes: ByteSize = Field(default=256 * MIB, description="About this many bytes of files, over all folders.")
    max_rows: int = Field(default=1_000_000, ge=0, description="No more than this many rows, over all folders.")
    max_age: Duration = Field(default=60.0, description="This long after the first row came in.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.max_bytes or self.max_rows or self.max_age):
            raise ValueError("roll needs at least one bound: max_bytes, max_rows or max_age")
        return self


class RowGroup(Settings):
    """`row_group`: how much of a file can be skipped, and read, at once."""

    max_rows: int = Field(default=100_000, gt=0, description="Rows of a row group, about.")
    max_bytes: ByteSize = Field(default=128 * MIB, gt=0, description="Bytes in memory of a row group, about.")


class ParquetConfig(ExporterSettings):
    """Keys of the exporter."""

    path: str = Field(min_length=1, description="Folder of the archive; made when it is missing.")
    roll: Roll = Field(default=Roll(), description="When the files that are being written become visible.")
    compression: Compression = Field(default="zstd", description="Codec of the pages.")
    compression_level: int | None = Field(
        default=None, description="Level of gzip, brotli or zstd. Default: 1 for zstd (higher ones gain nothing here)."
    )
    row_group: RowGroup = Field(default=RowGroup(), description="Size of row groups.")
    buffer_size: ByteSize = Field(
        default=128 * MIB, ge=MIB, description="Rows in memory that are no row group yet, over all pipelines."
    )

    @field_validator("path")
    @classmethod
    def _local(cls, value: str) -> str:
        if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", value):
            raise ValueError(
                f"path must be a folder of this machine, not {scheme[1]}://: object stores are not supported yet; "
                "write a local path, for example ./archive"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        level = self.compression_level
        if level is not None:
            if self.compression not in LEVELS:
                raise ValueError(f"compression_level does not go with compression: {self.compression}")
            low, high = LEVELS[self.compression]
            if not low <= level <= high:
                raise ValueError(f"compression_level of {self.compression} must be {low} to {high}, not {level}")
        return self

    @property
    def level(self) -> int | None:
        """The level for the codec; None where the codec has none or its own default holds."""
        return ZSTD_LEVEL if self.compression == "zstd" and self.compression_level is None else self.compression_level
