//! The messages of both versions, for verdicts (`prompb/types.proto` and `io/prometheus/write/v2/types.proto`).

use super::super::json::fields::{Message, Type, explicit, plain, repeated};

/// 1.0: `prometheus.WriteRequest`.
pub static WRITE_REQUEST: Message = Message::of(&[
    repeated("timeseries", 1, Type::Message(&SERIES_V1)),
    repeated("metadata", 3, Type::Message(&METRIC_METADATA)),
]);

static SERIES_V1: Message = Message::of(&[
    repeated("labels", 1, Type::Message(&LABEL)),
    repeated("samples", 2, Type::Message(&SAMPLE)),
    repeated("exemplars", 3, Type::Message(&EXEMPLAR_V1)),
    repeated("histograms", 4, Type::Message(&HISTOGRAM)),
]);

pub static LABEL: Message = Message::of(&[plain("name", 1, Type::String), plain("value", 2, Type::String)]);

pub static EXEMPLAR_V1: Message = Message::of(&[
    repeated("labels", 1, Type::Message(&LABEL)),
    plain("value", 2, Type::Double),
    plain("timestamp", 3, Type::Int64),
]);

pub static METRIC_METADATA: Message = Message::of(&[
    plain("type", 1, Type::Enum(&[])),
    plain("metricFamilyName", 2, Type::String),
    plain("help", 4, Type::String),
    plain("unit", 5, Type::String),
]);

/// 2.0: `io.prometheus.write.v2.Request`.
pub static REQUEST: Message =
    Message::of(&[repeated("symbols", 4, Type::String), repeated("timeseries", 5, Type::Message(&SERIES_V2))]);

static SERIES_V2: Message = Message::of(&[
    repeated("labelsRefs", 1, Type::Uint32),
    repeated("samples", 2, Type::Message(&SAMPLE)),
    repeated("histograms", 3, Type::Message(&HISTOGRAM)),
    repeated("exemplars", 4, Type::Message(&EXEMPLAR_V2)),
    explicit("metadata", 5, Type::Message(&METADATA)),
    plain("createdTimestamp", 6, Type::Int64),
]);

pub static EXEMPLAR_V2: Message = Message::of(&[
    repeated("labelsRefs", 1, Type::Uint32),
    plain("value", 2, Type::Double),
    plain("timestamp", 3, Type::Int64),
]);

pub static METADATA: Message = Message::of(&[
    plain("type", 1, Type::Enum(&[])),
    plain("helpRef", 3, Type::Uint32),
    plain("unitRef", 4, Type::Uint32),
]);

/// `startTimestamp` is 2.0's.
static SAMPLE: Message = Message::of(&[
    plain("value", 1, Type::Double),
    plain("timestamp", 2, Type::Int64),
    plain("startTimestamp", 3, Type::Int64),
]);

/// `startTimestamp` is 2.0's.
pub static HISTOGRAM: Message = Message::of(&[
    explicit("countInt", 1, Type::Uint64),
    explicit("countFloat", 2, Type::Double),
    plain("sum", 3, Type::Double),
    plain("schema", 4, Type::Sint32),
    plain("zeroThreshold", 5, Type::Double),
    explicit("zeroCountInt", 6, Type::Uint64),
    explicit("zeroCountFloat", 7, Type::Double),
    repeated("negativeSpans", 8, Type::Message(&BUCKET_SPAN)),
    repeated("negativeDeltas", 9, Type::Int64),
    repeated("negativeCounts", 10, Type::Double),
    repeated("positiveSpans", 11, Type::Message(&BUCKET_SPAN)),
    repeated("positiveDeltas", 12, Type::Int64),
    repeated("positiveCounts", 13, Type::Double),
    plain("resetHint", 14, Type::Enum(&[])),
    plain("timestamp", 15, Type::Int64),
    repeated("customValues", 16, Type::Double),
    plain("startTimestamp", 17, Type::Int64),
]);

static BUCKET_SPAN: Message = Message::of(&[plain("offset", 1, Type::Sint32), plain("length", 2, Type::Uint32)]);
