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
of the exporter's, the log's id and the range of its rows, so that a range published again replaces itself. Until then
rows wait in memory (`buffer_size`, over all pipelines) and, as finished row groups, in the hidden folder
`path/.unpublished`. With a log in memory they are lost where the daemon is killed; with `sending_queue.storage` they
come again. A shutdown publishes what is there. What a crash leaves in the hidden folder is removed at the next start.

A full disk, or one that can not be written to, is waited for while the log holds; nothing is written twice. On
overload the log fills, and the receivers answer with a delay. A path that can not be written to at start is an error.

Specification: Parquet 2.6; the unified schema, reference page "Columns". The Collector has no component of that name.
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
