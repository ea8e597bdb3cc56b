"""The exporter: a stream per log, and the threads that its files are made on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from colonnade.exporters.parquet.bucket import Bucket, BucketError
from colonnade.exporters.parquet.config import ParquetConfig
from colonnade.exporters.parquet.file import Format
from colonnade.exporters.parquet.folders import LocalFolder, Spool, Target
from colonnade.exporters.parquet.stream import Stream
from colonnade.pipeline.acquire import acquire
from colonnade.pipeline.component import ComponentId, Host, Slice, SliceLimits, StreamExporter
from colonnade.pipeline.errors import ColonnadeError, Retryable

T = TypeVar("T")

PART_MIN_ROWS = 8192
PART_MAX_BYTES = 16 << 20
PART_MAX_AGE_S = 1.0
NEVER_S = 100 * 365 * 86_400.0

_CODES = {
    errno.ENOSPC: ("disk_full", "free some space there"),
    errno.EDQUOT: ("disk_full", "raise the quota, or free some space there"),
    errno.EFBIG: ("file_too_large", "set a smaller roll.max_bytes"),
    errno.EROFS: ("not_writable", "the file system is read-only"),
    errno.EACCES: ("not_writable", "give the daemon's user the right to write there"),
    errno.EPERM: ("not_writable", "give the daemon's user the right to write there"),
}


class ParquetExporter(StreamExporter):
    """See the package's text."""

    def __init__(self, id: ComponentId, config: ParquetConfig) -> None:
        super().__init__(id)
        self.config = config
        self.retry = config.retry_on_failure
        self.queue = config.sending_queue
        self.dead_letter = config.dead_letter
        self.slice, self.part = _limits(config)
        self._format = Format(config.compression, config.level, config.row_group.max_rows, config.row_group.max_bytes)
        self._path = self._folder = Path(config.path)
        self._target: Target = LocalFolder(self._path)
        self._spool: Spool | None = None
        self._streams: dict[str, Stream] = {}
        # Columns outside of the table that any stream has had: new files have them from the start.
        self._extensions: dict[str, Any] = {}

    async def start(self, host: Host) -> None:
        """Makes the folder, or looks at the bucket. Raises ColonnadeError where it can not be written to."""
        self._host = host
        self._folder = host.folder("parquet") if self.config.in_bucket else LocalFolder(self._path).spool(str(self.id))
        spool = Spool(self._folder)
        try:
            leftovers = await acquire(host, spool.open, undo=lambda _: spool.close())
            self._spool = spool
            if self.config.in_bucket:
                leftovers += await self._look_at(spool)
        except OSError as error:
            await self.shutdown()
            raise ColonnadeError("not_writable", self._told("the archive can not be written to", error)) from None
        except BaseException:
            await self.shutdown()
            raise
        if leftovers:
            host.logger.warning(
                "exporter %s: removed %d unfinished files of a run that was cut off", self.id, leftovers
            )
        host.gauge("exporter_buffered_bytes", lambda: sum(s.buffered_bytes for s in list(self._streams.values())))
        host.gauge("exporter_unpublished_bytes", lambda: sum(s.spooled_bytes for s in list(self._streams.values())))
        host.gauge("exporter_unpublished_rows", lambda: sum(s.rows for s in list(self._streams.values())))

    async def _look_at(self, spool: Spool) -> int:
        """The bucket becomes the target; gives how many files of a crash were removed. A store that is down is waited
        for later."""
        bucket = self._target = Bucket(self.config, spool.owner, spool.alone)
        try:
            return await self._host.run(bucket.open)
        except BucketError as error:
            if error.lasting:
                raise ColonnadeError(error.code, error.message) from None
            self._host.logger.warning("exporter %s: %s; rows wait until it does", self.id, error.message)
            return 0

    async def shutdown(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            await self._host.run(stream.discard)
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    def fits(self, part: Slice) -> bool:
        """Rows within `roll.max_rows`."""
        stream, most = self._streams.get(part.log_id), self.config.roll.max_rows
        return stream is None or not most or stream.rows + part.rows <= most

    def full(self, log_id: str) -> bool:
        """`roll.max_bytes` is about reached, or too many files are open."""
        stream, most = self._streams.get(log_id), self.config.roll.max_bytes
        return stream is not None and (stream.crowded or bool(most and stream.expected_bytes >= most))

    async def write(self, part: Slice) -> None:
        stream = await self._stream(part)
        await self._run(stream.write, part, self.config.buffer_size // len(self._streams))

    async def publish(self, log_id: str, start: int, end: int) -> None:
        stream = self._streams.get(log_id)
        if stream is None:
            return
        published = await self._run(stream.publish, start, end, self._target)
        self._streams.pop(log_id, None)
        self._host.count("exporter_files", published.files)
        self._host.count("exporter_files_rows", published.rows)
        self._host.count("exporter_files_bytes", published.nbytes)

    async def abort(self, log_id: str) -> None:
        stream = self._streams.pop(log_id, None)
        if stream is not None:
            await self._host.run(stream.discard)

    async def _stream(self, part: Slice) -> Stream:
        """The log's stream; what was cut off while it was published is published first."""
        stream = self._streams.get(part.log_id)
        if stream is not None and stream.publishing is not None:
            await self.publish(part.log_id, *stream.publishing)
            stream = None
        if stream is None:
            if self._spool is None:
                raise Retryable("stopped", f"exporter {self.id} is not running")
            name = "-".join(quote(text, safe="") for text in (self.id.name, part.log_id) if text)
            stream = Stream(name, part.start, self._spool, self._format, self._extensions)
            self._streams[part.log_id] = stream
        return stream

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        """Blocking work, with the outcome of what the disk says. Raises Retryable, Permanent."""
        try:
            return await self._host.run(function, *args)
        except OSError as error:
            code, _ = _CODES.get(error.errno or 0, ("io_error", ""))
            raise Retryable(code, self._told("files can not be written", error)) from None

    def _told(self, what: str, error: OSError) -> str:
        _, advice = _CODES.get(error.errno or 0, ("", ""))
        reason = error.strerror or type(error).__name__
        return f"{what}: {error.filename or self._folder}: {reason}" + (f"; {advice}" if advice else "")


def _limits(config: ParquetConfig) -> tuple[SliceLimits, SliceLimits]:
    """When a stream is published, and the size of the parts it is written in. Bytes are asked of `full`."""
    roll = config.roll
    age_s = roll.max_age or NEVER_S
    part = SliceLimits(
        min_rows=min(PART_MIN_ROWS, roll.max_rows or PART_MIN_ROWS),
        max_rows=roll.max_rows,
        max_bytes=min(PART_MAX_BYTES, roll.max_bytes or PART_MAX_BYTES),
        max_age_s=min(PART_MAX_AGE_S, age_s),
    )
    return SliceLimits(min_rows=roll.max_rows, max_rows=0, max_bytes=0, max_age_s=age_s), part
