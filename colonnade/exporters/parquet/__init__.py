"""Writes rows as Parquet files into Hive folders: an archive that DuckDB, pyarrow, ClickHouse and others read.

    exporters:
      parquet:
        path: ./archive
        roll: {max_bytes: 256MiB, max_rows: 1000000, max_age: 1m}
        compression: zstd

Files are `path/day=2026-03-04/event_type=trace/NAME.parquet`. Each has every column of the wide table but the two that
its folders name, whatever its rows hold, so that all files of an archive have one schema; what is absent is null.
Times are UTC with nanoseconds, ids are UUIDs, `attributes` and `labels` are maps of text to text (kinds of values that
are not text are told under the key `$otlp.types`). Rows of one service stand together. Pages have checksums, ranges of
values and an index; `trace_id` has a bloom filter. To read it all:

    SELECT * FROM read_parquet('archive/**/*.parquet', hive_partitioning = true)       -- DuckDB
    pyarrow.dataset.dataset("archive", partitioning="hive")                            -- pyarrow
    SELECT * FROM file('archive/**/*.parquet') SETTINGS use_hive_partitioning = 1      -- ClickHouse

All files of one pipeline roll together, by `roll`: then they become visible, each at once and whole. Their name is made
of the exporter's, the log's id and the range of its rows, so that a range published again changes nothing. Until then
rows wait in memory (`buffer_size`, over all pipelines) and, as finished row groups, in the hidden folder
`path/.unpublished`. With a log in memory they are lost where the daemon is killed; with `sending_queue.storage` they
come again. A shutdown publishes what is there. What a crash leaves in the hidden folder is removed at the next start.

A full disk, or one that can not be written to, is waited for while the log holds; nothing is written twice. On
overload the log fills, and the receivers answer with a delay. A path that can not be written to at start is an error.

The archive may be in a bucket, of S3 or of a store that speaks as S3 does (extra `s3`: `pip install "colonnade[s3]"`):

    exporters:
      parquet/bucket:
        path: s3://telemetry/archive
        endpoint: https://objects.example.com:9000
        region: us-east-1
        access_key_id: AKIAEXAMPLE
        secret_access_key: ${env:ARCHIVE_SECRET:-none}

Files are the same, under the same names. They are made in the daemon's data folder, and created in the bucket when they
roll: with `If-None-Match: *`, which the store must know, so that nothing is ever replaced. Up to 32 MiB go at once;
larger ones in parts of 16 MiB to a hidden key below `path/.unpublished`, from which the store creates them under their
name. A name that is there already, from a run that was cut off, is compared by row count and times; if it has other
rows, ours are parked as dead letters. Addresses are path style, `endpoint/bucket/key`. Without keys in the section it
signs with the environment's `AWS_ACCESS_KEY_ID`, a web identity, `~/.aws/credentials` (`AWS_PROFILE`), or the role of
the container or machine. It needs `s3:ListBucket`, `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject` and
`s3:AbortMultipartUpload`.

A store that is down, at start or later, is waited for as a full disk is. A bucket that is not there, or credentials
that the store refuses, are an error at start, and later are waited for. Hidden keys that a crash left are removed at
the next start of a daemon with the same data folder; give the bucket a rule that aborts incomplete multipart uploads
for parts that never came to be a key.

Specification: Parquet 2.6; the unified schema, reference page "Columns"; the S3 API of 2006-03-01 with conditional
writes. The Collector has no component of that name.
"""

from __future__ import annotations

from colonnade.exporters.parquet.config import ParquetConfig
from colonnade.exporters.parquet.exporter import ParquetExporter
from colonnade.pipeline.component import ComponentId, Factory, signals

__all__ = ["ParquetConfig", "ParquetExporter", "factory"]


def _create(id: ComponentId, config: ParquetConfig) -> ParquetExporter:
    return ParquetExporter(id, config)


factory = Factory(
    type="parquet",
    kind="exporter",
    config=ParquetConfig,
    create=_create,
    signals=signals("traces", "metrics", "logs", "events"),
)
