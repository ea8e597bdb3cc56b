//! The OTLP messages as JSON names them: field name, number, type. A differential test holds them against the official
//! descriptors, so that a field added there is missed here at most until the next run.

/// How one field's value is spelled in JSON and on the wire.
#[derive(Clone, Copy)]
pub enum Type {
    String,
    /// Base64 in JSON.
    Bytes,
    /// Bytes that OTLP spells in hex: trace and span ids.
    Id,
    Bool,
    Double,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Fixed32,
    Fixed64,
    Sfixed64,
    /// The names of the values, by number.
    Enum(&'static [&'static str]),
    Message(&'static Message),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Absent on the wire when it is the default.
    Plain,
    /// Present even with the default: members of a `oneof`, `optional`, messages.
    Explicit,
    Repeated,
}

pub struct Field {
    pub name: &'static str,
    pub number: u32,
    pub label: Label,
    pub kind: Type,
    /// Whether it is the list of attributes of a record, resource, scope, event or link.
    pub attributes: bool,
}

pub struct Message {
    pub fields: &'static [Field],
    /// Number to 1 + place in `fields`.
    places: [u8; HIGHEST_NUMBER + 1],
}

const HIGHEST_NUMBER: usize = 17;

impl Message {
    pub const fn of(fields: &'static [Field]) -> Message {
        let (mut places, mut at) = ([0u8; HIGHEST_NUMBER + 1], 0);
        while at < fields.len() {
            places[fields[at].number as usize] = at as u8 + 1;
            at += 1;
        }
        Message { fields, places }
    }

    /// The field of this number.
    #[inline]
    pub fn field(&self, number: u32) -> Option<&'static Field> {
        let place = *self.places.get(number as usize)?;
        self.fields.get(usize::from(place).wrapping_sub(1))
    }
}

pub const fn plain(name: &'static str, number: u32, kind: Type) -> Field {
    Field { name, number, label: Label::Plain, kind, attributes: false }
}

pub const fn explicit(name: &'static str, number: u32, kind: Type) -> Field {
    Field { name, number, label: Label::Explicit, kind, attributes: false }
}

const fn attributes(number: u32) -> Field {
    let kind = Type::Message(&KEY_VALUE);
    Field { name: "attributes", number, label: Label::Repeated, kind, attributes: true }
}

pub const fn repeated(name: &'static str, number: u32, kind: Type) -> Field {
    Field { name, number, label: Label::Repeated, kind, attributes: false }
}

/// The protocol's names by number.
pub static SPAN_KIND: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

static STATUS_CODE: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

static AGGREGATION_TEMPORALITY: &[&str] =
    &["AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"];

static SEVERITY_NUMBER: &[&str] = &[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

pub static EXPORT_TRACE_SERVICE_REQUEST: Message =
    Message::of(&[repeated("resourceSpans", 1, Type::Message(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Message = Message::of(&[
    explicit("resource", 1, Type::Message(&RESOURCE)),
    repeated("scopeSpans", 2, Type::Message(&SCOPE_SPANS)),
    plain("schemaUrl", 3, Type::String),
]);

static RESOURCE: Message = Message::of(&[
    attributes(1),
    plain("droppedAttributesCount", 2, Type::Uint32),
    repeated("entityRefs", 3, Type::Message(&ENTITY_REF)),
]);

static KEY_VALUE: Message = Message::of(&[
    plain("key", 1, Type::String),
    explicit("value", 2, Type::Message(&ANY_VALUE)),
    plain("keyStrindex", 3, Type::Int32),
]);

static ANY_VALUE: Message = Message::of(&[
    explicit("stringValue", 1, Type::String),
    explicit("boolValue", 2, Type::Bool),
    explicit("intValue", 3, Type::Int64),
    explicit("doubleValue", 4, Type::Double),
    explicit("arrayValue", 5, Type::Message(&ARRAY_VALUE)),
    explicit("kvlistValue", 6, Type::Message(&KEY_VALUE_LIST)),
    explicit("bytesValue", 7, Type::Bytes),
    explicit("stringValueStrindex", 8, Type::Int32),
]);

static ARRAY_VALUE: Message = Message::of(&[repeated("values", 1, Type::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = Message::of(&[repeated("values", 1, Type::Message(&KEY_VALUE))]);

static ENTITY_REF: Message = Message::of(&[
    plain("schemaUrl", 1, Type::String),
    plain("type", 2, Type::String),
    repeated("idKeys", 3, Type::String),
    repeated("descriptionKeys", 4, Type::String),
]);

static SCOPE_SPANS: Message = Message::of(&[
    explicit("scope", 1, Type::Message(&INSTRUMENTATION_SCOPE)),
    repeated("spans", 2, Type::Message(&SPAN)),
    plain("schemaUrl", 3, Type::String),
]);

static INSTRUMENTATION_SCOPE: Message = Message::of(&[
    plain("name", 1, Type::String),
    plain("version", 2, Type::String),
    attributes(3),
    plain("droppedAttributesCount", 4, Type::Uint32),
]);

static SPAN: Message = Message::of(&[
    plain("traceId", 1, Type::Id),
    plain("spanId", 2, Type::Id),
    plain("traceState", 3, Type::String),
    plain("parentSpanId", 4, Type::Id),
    plain("flags", 16, Type::Fixed32),
    plain("name", 5, Type::String),
    plain("kind", 6, Type::Enum(SPAN_KIND)),
    plain("startTimeUnixNano", 7, Type::Fixed64),
    plain("endTimeUnixNano", 8, Type::Fixed64),
    attributes(9),
    plain("droppedAttributesCount", 10, Type::Uint32),
    repeated("events", 11, Type::Message(&SPAN_EVENT)),
    plain("droppedEventsCount", 12, Type::Uint32),
    repeated("links", 13, Type::Message(&SPAN_LINK)),
    plain("droppedLinksCount", 14, Type::Uint32),
    explicit("status", 15, Type::Message(&STATUS)),
]);

static SPAN_EVENT: Message = Message::of(&[
    plain("timeUnixNano", 1, Type::Fixed64),
    plain("name", 2, Type::String),
    attributes(3),
    plain("droppedAttributesCount", 4, Type::Uint32),
]);

static SPAN_LINK: Message = Message::of(&[
    plain("traceId", 1, Type::Id),
    plain("spanId", 2, Type::Id),
    plain("traceState", 3, Type::String),
    attributes(4),
    plain("droppedAttributesCount", 5, Type::Uint32),
    plain("flags", 6, Type::Fixed32),
]);

static STATUS: Message = Message::of(&[plain("message", 2, Type::String), plain("code", 3, Type::Enum(STATUS_CODE))]);

pub static EXPORT_METRICS_SERVICE_REQUEST: Message =
    Message::of(&[repeated("resourceMetrics", 1, Type::Message(&RESOURCE_METRICS))]);

static RESOURCE_METRICS: Message = Message::of(&[
    explicit("resource", 1, Type::Message(&RESOURCE)),
    repeated("scopeMetrics", 2, Type::Message(&SCOPE_METRICS)),
    plain("schemaUrl", 3, Type::String),
]);

static SCOPE_METRICS: Message = Message::of(&[
    explicit("scope", 1, Type::Message(&INSTRUMENTATION_SCOPE)),
    repeated("metrics", 2, Type::Message(&METRIC)),
    plain("schemaUrl", 3, Type::String),
]);

static METRIC: Message = Message::of(&[
    plain("name", 1, Type::String),
    plain("description", 2, Type::String),
    plain("unit", 3, Type::String),
    explicit("gauge", 5, Type::Message(&GAUGE)),
    explicit("sum", 7, Type::Message(&SUM)),
    explicit("histogram", 9, Type::Message(&HISTOGRAM)),
    explicit("exponentialHistogram", 10, Type::Message(&EXPONENTIAL_HISTOGRAM)),
    explicit("summary", 11, Type::Message(&SUMMARY)),
    repeated("metadata", 12, Type::Message(&KEY_VALUE)),
]);

static GAUGE: Message = Message::of(&[repeated("dataPoints", 1, Type::Message(&NUMBER_DATA_POINT))]);

static NUMBER_DATA_POINT: Message = Message::of(&[
    attributes(7),
    plain("startTimeUnixNano", 2, Type::Fixed64),
    plain("timeUnixNano", 3, Type::Fixed64),
    explicit("asDouble", 4, Type::Double),
    explicit("asInt", 6, Type::Sfixed64),
    repeated("exemplars", 5, Type::Message(&EXEMPLAR)),
    plain("flags", 8, Type::Uint32),
]);

static EXEMPLAR: Message = Message::of(&[
    repeated("filteredAttributes", 7, Type::Message(&KEY_VALUE)),
    plain("timeUnixNano", 2, Type::Fixed64),
    explicit("asDouble", 3, Type::Double),
    explicit("asInt", 6, Type::Sfixed64),
    plain("spanId", 4, Type::Id),
    plain("traceId", 5, Type::Id),
]);

static SUM: Message = Message::of(&[
    repeated("dataPoints", 1, Type::Message(&NUMBER_DATA_POINT)),
    plain("aggregationTemporality", 2, Type::Enum(AGGREGATION_TEMPORALITY)),
    plain("isMonotonic", 3, Type::Bool),
]);

static HISTOGRAM: Message = Message::of(&[
    repeated("dataPoints", 1, Type::Message(&HISTOGRAM_DATA_POINT)),
    plain("aggregationTemporality", 2, Type::Enum(AGGREGATION_TEMPORALITY)),
]);

static HISTOGRAM_DATA_POINT: Message = Message::of(&[
    attributes(9),
    plain("startTimeUnixNano", 2, Type::Fixed64),
    plain("timeUnixNano", 3, Type::Fixed64),
    plain("count", 4, Type::Fixed64),
    explicit("sum", 5, Type::Double),
    repeated("bucketCounts", 6, Type::Fixed64),
    repeated("explicitBounds", 7, Type::Double),
    repeated("exemplars", 8, Type::Message(&EXEMPLAR)),
    plain("flags", 10, Type::Uint32),
    explicit("min", 11, Type::Double),
    explicit("max", 12, Type::Double),
]);

static EXPONENTIAL_HISTOGRAM: Message = Message::of(&[
    repeated("dataPoints", 1, Type::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT)),
    plain("aggregationTemporality", 2, Type::Enum(AGGREGATION_TEMPORALITY)),
]);

static EXPONENTIAL_HISTOGRAM_DATA_POINT: Message = Message::of(&[
    attributes(1),
    plain("startTimeUnixNano", 2, Type::Fixed64),
    plain("timeUnixNano", 3, Type::Fixed64),
    plain("count", 4, Type::Fixed64),
    explicit("sum", 5, Type::Double),
    plain("scale", 6, Type::Sint32),
    plain("zeroCount", 7, Type::Fixed64),
    explicit("positive", 8, Type::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT_BUCKETS)),
    explicit("negative", 9, Type::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT_BUCKETS)),
    plain("flags", 10, Type::Uint32),
    repeated("exemplars", 11, Type::Message(&EXEMPLAR)),
    explicit("min", 12, Type::Double),
    explicit("max", 13, Type::Double),
    plain("zeroThreshold", 14, Type::Double),
]);

static EXPONENTIAL_HISTOGRAM_DATA_POINT_BUCKETS: Message =
    Message::of(&[plain("offset", 1, Type::Sint32), repeated("bucketCounts", 2, Type::Uint64)]);

static SUMMARY: Message = Message::of(&[repeated("dataPoints", 1, Type::Message(&SUMMARY_DATA_POINT))]);

static SUMMARY_DATA_POINT: Message = Message::of(&[
    attributes(7),
    plain("startTimeUnixNano", 2, Type::Fixed64),
    plain("timeUnixNano", 3, Type::Fixed64),
    plain("count", 4, Type::Fixed64),
    plain("sum", 5, Type::Double),
    repeated("quantileValues", 6, Type::Message(&SUMMARY_DATA_POINT_VALUE_AT_QUANTILE)),
    plain("flags", 8, Type::Uint32),
]);

static SUMMARY_DATA_POINT_VALUE_AT_QUANTILE: Message =
    Message::of(&[plain("quantile", 1, Type::Double), plain("value", 2, Type::Double)]);

pub static EXPORT_LOGS_SERVICE_REQUEST: Message =
    Message::of(&[repeated("resourceLogs", 1, Type::Message(&RESOURCE_LOGS))]);

static RESOURCE_LOGS: Message = Message::of(&[
    explicit("resource", 1, Type::Message(&RESOURCE)),
    repeated("scopeLogs", 2, Type::Message(&SCOPE_LOGS)),
    plain("schemaUrl", 3, Type::String),
]);

static SCOPE_LOGS: Message = Message::of(&[
    explicit("scope", 1, Type::Message(&INSTRUMENTATION_SCOPE)),
    repeated("logRecords", 2, Type::Message(&LOG_RECORD)),
    plain("schemaUrl", 3, Type::String),
]);

static LOG_RECORD: Message = Message::of(&[
    plain("timeUnixNano", 1, Type::Fixed64),
    plain("observedTimeUnixNano", 11, Type::Fixed64),
    plain("severityNumber", 2, Type::Enum(SEVERITY_NUMBER)),
    plain("severityText", 3, Type::String),
    explicit("body", 5, Type::Message(&ANY_VALUE)),
    attributes(6),
    plain("droppedAttributesCount", 7, Type::Uint32),
    plain("flags", 8, Type::Fixed32),
    plain("traceId", 9, Type::Id),
    plain("spanId", 10, Type::Id),
    plain("eventName", 12, Type::String),
]);
