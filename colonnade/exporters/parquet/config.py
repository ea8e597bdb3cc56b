"""The section of a `parquet` exporter."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from colonnade.pipeline.settings import MIB, ByteSize, Duration, ExporterSettings, Secret, Settings

Compression = Literal["none", "snappy", "gzip", "brotli", "lz4", "zstd"]

# Codecs that take a level: lowest and highest.
LEVELS: dict[str, tuple[int, int]] = {"gzip": (1, 9), "brotli": (1, 11), "zstd": (1, 22)}
ZSTD_LEVEL = 1
# The largest file that a bucket publishes at once is 5 GiB.
BUCKET_ROLL_MAX_BYTES = 4 << 30

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class BucketPath(NamedTuple):
    """`s3://bucket/prefix`; the prefix may be empty."""

    bucket: str
    prefix: str


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

    path: str = Field(
        min_length=1,
        description="Folder of the archive, made when it is missing; or `s3://bucket/prefix` of a bucket that exists.",
    )
    endpoint: str = Field(
        default="",
        description="URL of a store that speaks as S3 does; default: Amazon's, or the environment's AWS_ENDPOINT_URL.",
    )
    region: str = Field(
        default="", description="The bucket's region; default: the environment's AWS_REGION, else us-east-1."
    )
    access_key_id: Secret = Field(
        default=Secret(""),
        description="Key to sign with; default: AWS_ACCESS_KEY_ID, ~/.aws/credentials, or the machine's role.",
    )
    secret_access_key: Secret = Field(default=Secret(""), description="Its secret.")
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
    def _known(cls, value: str) -> str:
        if not (given := _SCHEME.match(value)):
            return value
        if given[1] != "s3":
            raise ValueError(f"path must be a folder, for example ./archive, or s3://bucket/prefix, not {given[1]}://")
        bucket, _, prefix = given[2].partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ValueError(f"path must be s3://bucket/prefix; {bucket!r} is no name of a bucket")
        if any(part in ("", ".", "..") for part in prefix.strip("/").split("/")) and prefix.strip("/"):
            raise ValueError("path must not have empty parts, . or .. after the bucket")
        return value

    @field_validator("endpoint")
    @classmethod
    def _url(cls, value: str) -> str:
        url = urlsplit(value)
        if value and (url.scheme not in ("http", "https") or not url.hostname or url.username or url.query):
            raise ValueError("endpoint must be a URL such as https://s3.example.com:9000, without credentials in it")
        return value

    @model_validator(mode="after")
    def _check_bucket(self) -> Self:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("access_key_id and secret_access_key belong together")
        if self.in_bucket and not 0 < self.roll.max_bytes <= BUCKET_ROLL_MAX_BYTES:
            raise ValueError("roll.max_bytes must be 1 to 4GiB for a path of s3://")
        for key in ("endpoint", "region", "access_key_id", "secret_access_key"):
            if getattr(self, key) and not self.in_bucket:
                raise ValueError(f"{key} goes with a path of s3://bucket/prefix only, not with a folder")
        return self

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

    @property
    def in_bucket(self) -> bool:
        """Whether the archive is in a bucket."""
        return self.path.startswith("s3://")

    @property
    def bucket(self) -> BucketPath:
        """The parts of a path of s3://."""
        bucket, _, prefix = self.path.removeprefix("s3://").partition("/")
        return BucketPath(bucket, prefix.strip("/"))
