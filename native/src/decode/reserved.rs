//! The keys that are ours: what has no column is kept under them, and only when it is not the protocol's default.
//! The decoder writes them, the OTLP encoder reads them.

pub const ENVIRONMENT: &str = "deployment.environment.name";
pub const ENVIRONMENT_OLD: &str = "deployment.environment";

// Keys of `labels`.
pub const SPAN_KIND: &str = "$span_kind";
pub const ENV: &str = "$env";
pub const TEMPORALITY: &str = "$temporality";
/// Kinds of the point attributes that are not text, as in `encode::store`.
pub const TYPES: &str = "$otlp.types";

/// `1`: a sample that says that its series has ended (remote write).
pub const STALE: &str = "$stale";
/// A metric's description, where it was asked for (remote write).
pub const HELP: &str = "$help";

/// Words of `$span_kind` by number; 0 is absent.
pub const SPAN_KINDS: [&str; 6] = ["", "internal", "server", "client", "producer", "consumer"];
/// Words of `$temporality` by number; 0 is absent.
pub const TEMPORALITIES: [&str; 3] = ["", "delta", "cumulative"];

// Keys of `attributes`. Numbers are of kind Int, those beyond i64 of kind String; all else is of kind String.
pub const TRACE_STATE: &str = "$otlp.trace_state";
pub const FLAGS: &str = "$otlp.flags";
pub const DROPPED_ATTRIBUTES: &str = "$otlp.dropped_attributes_count";
pub const DROPPED_EVENTS: &str = "$otlp.dropped_events_count";
pub const DROPPED_LINKS: &str = "$otlp.dropped_links_count";
/// The status code, where `semantics::restored_status(outcome)` is another.
pub const STATUS: &str = "$otlp.status";
/// Always here when there is one, because columns of outcome and error are fed from elsewhere too.
pub const STATUS_MESSAGE: &str = "$otlp.status_message";
/// A span kind or temporality without a word.
pub const KIND: &str = "$otlp.kind";
pub const UNKNOWN_TEMPORALITY: &str = "$otlp.temporality";
/// Times: a span's when its column cannot hold it. A log record's or a point's `time_ns` is also here (0) when absent;
/// without it the time is `timestamp`. A log record's `observed_time_ns` is here when it is not `timestamp`.
pub const TIME: &str = "$otlp.time_ns";
pub const OBSERVED_TIME: &str = "$otlp.observed_time_ns";
pub const START_TIME: &str = "$otlp.start_time_ns";
pub const END_TIME: &str = "$otlp.end_time_ns";
/// Where the level's word is another, or the number stored was made from the word (`$otlp.severity_number`).
pub const SEVERITY_TEXT: &str = "$otlp.severity_text";
/// The number, where it is not what `log_level_num` holds.
pub const SEVERITY_NUMBER: &str = "$otlp.severity_number";
pub const DESCRIPTION: &str = "$otlp.description";
/// JSON text of a metric's metadata.
pub const METADATA: &str = "$otlp.metadata";
/// Decimal text of a number point that is an integer.
pub const AS_INT: &str = "$otlp.as_int";
/// Base64 of the value fields of a point that says that it has no recorded value.
pub const UNRECORDED: &str = "$otlp.unrecorded";
/// A count beyond i64.
pub const COUNT: &str = "$otlp.count";
/// Lower hex of ids that are all zeros, which columns do not hold.
pub const TRACE_ID: &str = "$otlp.trace_id";
pub const SPAN_ID: &str = "$otlp.span_id";
pub const PARENT_ID: &str = "$otlp.parent_id";
/// A log record's own event name, where `event_name` alone would not tell it from its fall-backs.
pub const EVENT_NAME: &str = "$otlp.event_name";

// Keys of `attributes` of remote write.
/// The metadata's type of a native histogram, whose `metric_type` is its form, where it is not `histogram`.
pub const PROMETHEUS_TYPE: &str = "$prometheus.type";
pub const PROMETHEUS_RESET_HINT: &str = "$prometheus.reset_hint";
/// Text of a native histogram's count: always where it is a float, else where it is beyond i64.
pub const PROMETHEUS_COUNT: &str = "$prometheus.count";
/// Milliseconds of a start that is no time in nanoseconds.
pub const PROMETHEUS_START: &str = "$prometheus.start_ms";
