"""Every metric of the daemon, declared once; the daemon makes the instruments, components only name them.

Names are the Collector's (otelcol 1.10) without their prefix `otelcol_`. `level` is the lowest
`service.telemetry.metrics.level` at which the instrument exists. The balance instruments have no counterpart in the
Collector: at every moment, per pipeline and signal,
`accepted = stored + filtered + sampled + rejected + dead_lettered + lost + in_log` holds, per exporter for the parts
after the log.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

InstrumentType = Literal["counter", "gauge", "histogram"]
Level = Literal["basic", "normal", "detailed"]

PREFIX = "otelcol_"
_ITEMS = {"spans": "spans", "metric_points": "metric points", "log_records": "log records", "events": "events"}


class Instrument(NamedTuple):
    """One own metric. `labels` leaves out those that every metric has (service name, instance id, version)."""

    name: str
    type: InstrumentType
    help: str
    labels: tuple[str, ...] = ()
    level: Level = "basic"
    buckets: tuple[float, ...] = ()


def _per_noun(stem: str, help: str, labels: tuple[str, ...], level: Level = "basic") -> list[Instrument]:
    return [
        Instrument(f"{stem}_{noun}", "counter", help.format(words), labels, level) for noun, words in _ITEMS.items()
    ]


_ROWS = (10, 25, 50, 75, 100, 250, 500, 750, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 512_000)
_BYTES = (1e3, 1e4, 1e5, 5e5, 1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6, 128e6)
_SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_EXPORTER = ("exporter",)
_QUEUE = ("exporter", "pipeline", "data_type")
_RECEIVER = ("receiver", "transport")
_PIPELINE = ("pipeline", "otel_signal")
_EXTENSION = ("extension",)

TABLE: tuple[Instrument, ...] = (
    *_per_noun("receiver_accepted", "Number of {} taken into every pipeline of the receiver.", _RECEIVER),
    *_per_noun("receiver_refused", "Number of {} refused by the pipeline (full, limited, invalid).", _RECEIVER),
    *_per_noun("receiver_failed", "Number of {} not taken because of a fault inside the daemon.", _RECEIVER),
    Instrument(
        "receiver_rejected_events", "counter", "Events that were not taken, by code.", (*_RECEIVER, "code"), "normal"
    ),
    Instrument(
        "receiver_duplicate_events", "counter", "Events that came before, and were not stored again.", _RECEIVER
    ),
    Instrument(
        "receiver_rejected_metric_points",
        "counter",
        "Samples, histograms and exemplars that were not taken, by code.",
        (*_RECEIVER, "code"),
        "normal",
    ),
    Instrument(
        "receiver_duplicate_metric_points",
        "counter",
        "Samples that came before in the same request, and were not stored again.",
        _RECEIVER,
    ),
    Instrument("receiver_requests", "counter", "Requests by outcome.", (*_RECEIVER, "outcome"), "normal"),
    Instrument(
        "receiver_requests_refused_undecoded",
        "counter",
        "Requests answered by the listener, by code: rows unknown.",
        (*_RECEIVER, "code"),
        "normal",
    ),
    Instrument("receiver_group_size", "histogram", "Requests decoded in one call.", _RECEIVER, "detailed", _ROWS),
    Instrument("scraper_scraped_metric_points", "counter", "Metric points scraped.", ("receiver", "scraper")),
    Instrument(
        "scraper_errored_metric_points", "counter", "Metric points that could not be scraped.", ("receiver", "scraper")
    ),
    Instrument("scraper_scraped_log_records", "counter", "Log records scraped.", ("receiver", "scraper")),
    Instrument(
        "scraper_errored_log_records", "counter", "Log records that could not be scraped.", ("receiver", "scraper")
    ),
    Instrument(
        "processor_incoming_items", "counter", "Rows passed to the processor.", ("processor", "pipeline", "otel_signal")
    ),
    Instrument("processor_outgoing_items", "counter", "Rows that came out.", ("processor", "pipeline", "otel_signal")),
    Instrument(
        "processor_dropped_items",
        "counter",
        "Rows that did not come out, by outcome (filtered, sampled, rejected) and reason.",
        ("processor", "pipeline", "otel_signal", "outcome", "reason"),
    ),
    Instrument(
        "processor_internal_duration",
        "histogram",
        "Seconds in the processor per group.",
        ("processor", "pipeline", "otel_signal"),
        "detailed",
        _SECONDS,
    ),
    *_per_noun("processor_memory_limiter_accepted", "Number of {} let through by the memory limiter.", ("processor",)),
    *_per_noun("processor_memory_limiter_refused", "Number of {} refused by the memory limiter.", ("processor",)),
    Instrument(
        "processor_memory_limiter_refused_bytes",
        "counter",
        "Bytes of requests refused before they were decoded.",
        ("processor",),
    ),
    Instrument(
        "processor_batch_batch_send_size",
        "histogram",
        "Rows per slice shaped by `batch`.",
        ("processor",),
        "normal",
        _ROWS,
    ),
    Instrument(
        "processor_batch_batch_send_size_bytes",
        "histogram",
        "Bytes per slice shaped by `batch`.",
        ("processor",),
        "detailed",
        _BYTES,
    ),
    Instrument(
        "processor_batch_batch_size_trigger_send", "counter", "Slices closed by size.", ("processor",), "normal"
    ),
    Instrument("processor_batch_timeout_trigger_send", "counter", "Slices closed by age.", ("processor",), "normal"),
    Instrument(
        "processor_batch_metadata_cardinality",
        "gauge",
        "Distinct metadata values kept apart.",
        ("processor",),
        "normal",
    ),
    Instrument(
        "processor_unify_soft_violations",
        "counter",
        "Rows that lack what their event type should have, or lie in the future; they are kept.",
        ("processor", "event_source", "check"),
        "normal",
    ),
    Instrument(
        "processor_enrich_reloads",
        "counter",
        "Files of enrich that were read again, by result (ok, failed).",
        ("processor", "file", "result"),
    ),
    Instrument(
        "processor_enrich_database_age_seconds",
        "gauge",
        "How long ago a geo database was made, by its own word.",
        ("processor", "file"),
    ),
    *(
        Instrument(
            f"processor_probabilistic_sampler_count_{signal}_sampled",
            "counter",
            f"Number of {words} that were sampled or not, by what decided.",
            ("processor", "policy", "sampled"),
        )
        for signal, words in (("traces", "spans"), ("logs", "log records"))
    ),
    *_per_noun("processor_rate_limit_accepted", "Number of {} let through by the rate limit.", ("processor",)),
    *_per_noun("processor_rate_limit_refused", "Number of {} refused by the rate limit.", ("processor",)),
    *_per_noun("exporter_sent", "Number of {} stored.", _EXPORTER),
    *_per_noun(
        "exporter_send_failed", "Number of {} that a store refused for good or that retry gave up on.", _EXPORTER
    ),
    *_per_noun(
        "exporter_rejected", "Number of {} that a server left out of what it took (partial success).", _EXPORTER
    ),
    *_per_noun("exporter_enqueue_failed", "Number of {} refused because the log was full.", _EXPORTER),
    Instrument(
        "exporter_queue_size", "gauge", "What waits in the log for this exporter, in units of the sizer.", _QUEUE
    ),
    Instrument("exporter_queue_capacity", "gauge", "Bound of the log, in units of the sizer.", _QUEUE),
    Instrument("exporter_in_flight_requests", "gauge", "Slices under way.", _QUEUE),
    Instrument("exporter_queue_batch_send_size", "histogram", "Rows per slice.", _EXPORTER, "detailed", _ROWS),
    Instrument("exporter_queue_batch_send_size_bytes", "histogram", "Bytes per slice.", _EXPORTER, "detailed", _BYTES),
    Instrument("exporter_enqueue_size", "histogram", "Rows per append.", ("pipeline", "data_type"), "detailed", _ROWS),
    Instrument(
        "exporter_enqueue_size_bytes", "histogram", "Bytes per append.", ("pipeline", "data_type"), "detailed", _BYTES
    ),
    Instrument(
        "exporter_retries",
        "counter",
        "Attempts after a retryable error, by code.",
        ("exporter", "pipeline", "code"),
        "normal",
    ),
    Instrument("exporter_send_duration", "histogram", "Seconds per attempt.", _EXPORTER, "detailed", _SECONDS),
    Instrument("exporter_lag_rows", "gauge", "Rows in the log that this exporter has not stored.", _QUEUE, "normal"),
    Instrument("exporter_lag_bytes", "gauge", "Bytes in the log that this exporter has not stored.", _QUEUE, "normal"),
    Instrument(
        "exporter_lag_seconds", "gauge", "Age of the oldest row that this exporter has not stored.", _QUEUE, "normal"
    ),
    Instrument(
        "exporter_exactly_once",
        "gauge",
        "1 where a repeat after a lost answer or a crash changes nothing in the store, as its table really is; else 0.",
        _EXPORTER,
    ),
    Instrument(
        "exporter_dead_letter_rows", "counter", "Rows parked in the dead-letter folder, by code.", (*_QUEUE, "code")
    ),
    Instrument(
        "exporter_dead_letter_lost_rows",
        "counter",
        "Rows that could not be parked, or fell out of the folder's bound.",
        (*_QUEUE, "reason"),
    ),
    Instrument("exporter_dead_letter_bytes", "gauge", "Bytes in the dead-letter folder.", _EXPORTER),
    Instrument("exporter_files", "counter", "Files published.", _EXPORTER),
    Instrument("exporter_files_rows", "counter", "Rows in published files.", _EXPORTER),
    Instrument("exporter_files_bytes", "counter", "Bytes of published files.", _EXPORTER),
    Instrument("exporter_buffered_bytes", "gauge", "Rows in memory on their way into files.", _EXPORTER, "normal"),
    Instrument("exporter_unpublished_bytes", "gauge", "Bytes of files that are being made.", _EXPORTER, "normal"),
    Instrument("exporter_unpublished_rows", "gauge", "Rows written and not published yet.", _EXPORTER, "normal"),
    Instrument(
        "pipeline_accepted_items",
        "counter",
        "Balance: rows that entered the pipeline's processors and were answered.",
        _PIPELINE,
    ),
    Instrument("pipeline_filtered_items", "counter", "Balance: rows left out by filters.", _PIPELINE),
    Instrument("pipeline_sampled_items", "counter", "Balance: rows left out by sampling.", _PIPELINE),
    Instrument(
        "pipeline_rejected_items",
        "counter",
        "Balance: rows not taken, told to the sender as partial success.",
        _PIPELINE,
    ),
    Instrument("pipeline_added_items", "counter", "Balance: rows that processors made in addition.", _PIPELINE),
    Instrument("pipeline_appended_items", "counter", "Balance: rows appended to the log.", _PIPELINE),
    Instrument(
        "pipeline_recovered_items",
        "counter",
        "Balance: rows from before, per exporter: a durable log's at the start, dead letters that are tried again.",
        (*_QUEUE,),
    ),
    Instrument("pipeline_stored_items", "counter", "Balance: rows stored, per exporter.", (*_QUEUE,)),
    Instrument("pipeline_failed_items", "counter", "Balance: rows dead-lettered or lost, per exporter.", (*_QUEUE,)),
    Instrument(
        "pipeline_in_log_items", "gauge", "Balance: rows appended and not yet stored, per exporter.", (*_QUEUE,)
    ),
    Instrument("file_storage_commits", "counter", "Transactions of the durable log.", _EXTENSION, "normal"),
    Instrument(
        "file_storage_commit_duration",
        "histogram",
        "Seconds per transaction, with the wait for the disk.",
        _EXTENSION,
        "normal",
        _SECONDS,
    ),
    Instrument("file_storage_commit_appends", "histogram", "Appends per transaction.", _EXTENSION, "detailed", _ROWS),
    Instrument("file_storage_size_bytes", "gauge", "Bytes of disk that the durable log takes.", _EXTENSION),
    Instrument("file_storage_segments", "gauge", "Files that hold rows of the durable log.", _EXTENSION, "normal"),
    Instrument(
        "file_storage_lost_rows",
        "counter",
        "Rows that a damaged disk has lost before every exporter had stored them.",
        ("extension", "pipeline"),
    ),
    Instrument(
        "file_storage_dropped_rows",
        "counter",
        "Rows of exporters that left the configuration, dropped as `removed_exporters` says.",
        ("extension", "pipeline"),
    ),
    Instrument(
        "file_storage_repeated_rows",
        "counter",
        "Rows left out because the log had taken them before, within `dedup.window`.",
        ("extension", "pipeline"),
    ),
    Instrument("file_storage_known_ids", "gauge", "Rows that `dedup` remembers, over all pipelines.", ("extension",)),
    Instrument("process_uptime", "counter", "Seconds since start."),
    Instrument("process_cpu_seconds", "counter", "CPU seconds, user and system."),
    Instrument("process_memory_rss", "gauge", "Resident memory in bytes."),
    Instrument("process_runtime_heap_alloc_bytes", "gauge", "Bytes held by Arrow's allocator."),
    Instrument("process_runtime_total_alloc_bytes", "counter", "Highest value of process_runtime_heap_alloc_bytes."),
    Instrument("process_runtime_total_sys_memory_bytes", "gauge", "Virtual memory in bytes."),
    Instrument("listener_connections", "gauge", "Open connections.", (), "normal"),
    Instrument("listener_requests", "counter", "Requests by answer.", ("answer",), "normal"),
    Instrument("listener_received_bytes", "counter", "Bytes of request bodies.", (), "normal"),
    Instrument("listener_queue_bytes", "gauge", "Bytes of bodies waiting to be decoded.", (), "normal"),
    Instrument(
        "listener_expired_requests", "counter", "Requests whose deadline passed before they were decoded.", (), "normal"
    ),
    Instrument("listener_resets", "counter", "Connections and streams that clients broke off.", (), "normal"),
    Instrument("listener_refusals", "counter", "Requests refused at the door, by reason.", ("reason",), "normal"),
    Instrument(
        "listener_closed_connections",
        "counter",
        "Connections refused or ended by the listener, by reason.",
        ("reason",),
        "normal",
    ),
    Instrument(
        "component_status", "gauge", "1 for the component's present state.", ("kind", "component", "status"), "normal"
    ),
)

BY_NAME: dict[str, Instrument] = {instrument.name: instrument for instrument in TABLE}
