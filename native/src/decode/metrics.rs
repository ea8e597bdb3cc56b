//! Metric points, one row each (specification 3.3).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    any_value::{Any, comma, json_double, json_int},
    attributes::{Attribute, collect, pairs, residue},
    columns::Columns,
    context::{Resource, Scope, write_attributes},
    record::{Pass, fixed64s, write_double, write_id, write_int, write_own},
    reserved,
    wire::{Arena, Cursor, Fields, Pieces, Value},
};
use crate::{
    encode::store::escaped,
    schema::{Col, ValueKind},
};

/// The field numbers of `Metric.data`.
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL: u32 = 10;
const SUMMARY: u32 = 11;

/// The flag of a point that says that there is none.
const NO_RECORDED_VALUE: u64 = 1;

struct Metric<'a> {
    name: &'a [u8],
    description: &'a [u8],
    unit: &'a [u8],
    kind: u32,
    word: &'static str,
    temporality: i64,
    metadata: Vec<u8>,
    seed: u64,
}

/// The rows of one metric.
pub fn rows<'a>(pass: &mut Pass, message: &'a [u8], resource: &Resource<'a>, scope: &mut Scope<'a>, arena: &'a Arena) {
    let (mut texts, mut kind, mut pieces) = ([&[][..]; 3], 0u32, Pieces::default());
    for field in Fields::of(message) {
        match field {
            (number @ 1..=3, Value::Bytes(text)) => texts[number as usize - 1] = text,
            (number @ (GAUGE | SUM | HISTOGRAM | EXPONENTIAL | SUMMARY), Value::Bytes(piece)) => {
                if number != kind {
                    pieces.clear();
                    kind = number;
                }
                pieces.add(piece);
            }
            _ => {}
        }
    }
    let data = pieces.join(arena);
    let (mut temporality, mut monotonic) = (0i64, false);
    for field in Fields::of(data) {
        match field {
            (2, Value::Varint(value)) if kind != GAUGE && kind != SUMMARY => temporality = i64::from(value as i32),
            (3, Value::Varint(value)) if kind == SUM => monotonic = value != 0,
            _ => {}
        }
    }
    let word = match kind {
        GAUGE => "gauge",
        SUM if monotonic => "counter",
        SUM => "updown_counter",
        HISTOGRAM => "histogram",
        EXPONENTIAL => "exponential_histogram",
        _ => "summary",
    };
    let metadata = collect(pairs(message, 12), arena);
    let mut json = Vec::new();
    if !metadata.is_empty() {
        write_attributes(&mut json, &metadata, true);
    }
    let seed = scope.seed ^ xxhash_rust::xxh3::xxh3_64_with_seed(texts[0], u64::from(kind));
    let [name, description, unit] = texts;
    let metric = Metric { name, description, unit, kind, word, temporality, metadata: json, seed };
    for point in pairs(data, 1) {
        row(pass, &metric, point);
        pass.end_row(resource, scope, None);
    }
}

/// A point's fields that stand under other numbers in other kinds: attributes, exemplars, flags.
fn numbers(kind: u32) -> (u32, u32, u32) {
    match kind {
        HISTOGRAM => (9, 8, 10),
        EXPONENTIAL => (1, 11, 10),
        SUMMARY => (7, 0, 8),
        _ => (7, 5, 8),
    }
}

fn row(pass: &mut Pass, metric: &Metric, point: &[u8]) {
    let arena = Arena::default();
    let (attributes_field, exemplars_field, flags_field) = numbers(metric.kind);
    let (mut start, mut time, mut flags) = (0u64, 0u64, 0u64);
    for field in Fields::of(point) {
        match field {
            (2, Value::Fixed64(value)) => start = value,
            (3, Value::Fixed64(value)) => time = value,
            (number, Value::Varint(value)) if number == flags_field => flags = u64::from(value as u32),
            _ => {}
        }
    }
    pass.columns.text(Col::EventName, metric.name);
    pass.columns.text(Col::MetricName, metric.name);
    pass.columns.text(Col::MetricUnit, metric.unit);
    pass.columns.text(Col::MetricType, metric.word.as_bytes());
    let attributes = collect(pairs(point, attributes_field), &arena);
    identity(pass, metric, &attributes);
    times(pass, start, time);
    labels(pass.columns, &attributes);
    if pass.whole && attributes.iter().any(|attribute| attribute.value.kind() != ValueKind::String) {
        residue(&attributes, &mut pass.columns.attributes, true);
    }
    match usize::try_from(metric.temporality).ok().and_then(|at| reserved::TEMPORALITIES.get(at)) {
        Some(&"") => {}
        Some(word) => pass.columns.labels.text(reserved::TEMPORALITY, word.as_bytes()),
        None => pass.note_text(reserved::UNKNOWN_TEMPORALITY, metric.temporality.to_string().as_bytes()),
    }
    pass.note_text(reserved::DESCRIPTION, metric.description);
    pass.note_text(reserved::METADATA, &metric.metadata);
    pass.note(reserved::FLAGS, flags);
    match metric.kind {
        _ if flags & NO_RECORDED_VALUE != 0 => unrecorded(pass, metric.kind, point),
        GAUGE | SUM => number(pass, point),
        HISTOGRAM => histogram(pass, point),
        EXPONENTIAL => exponential(pass, point),
        _ => summary(pass, point),
    }
    if exemplars_field != 0 {
        exemplars(pass.columns, point, exemplars_field);
    }
}

fn identity(pass: &mut Pass, metric: &Metric, attributes: &[Attribute]) {
    let mut json = Vec::new();
    write_attributes(&mut json, attributes, true);
    pass.digest(&json, metric.seed);
}

fn times(pass: &mut Pass, start: u64, time: u64) {
    let started = pass.time(Col::StartedAt, reserved::START_TIME, start);
    let own = i64::try_from(time).ok().filter(|time| *time != 0);
    if let Some(timestamp) = own.or(started) {
        pass.columns.int(Col::Timestamp, timestamp);
    }
    if own.is_none() {
        pass.columns.attributes.int(reserved::TIME, time);
    }
    if let (Some(start), Some(time)) = (started, own) {
        pass.columns.double(Col::DurationMs, (time - start) as f64 / 1e6);
    }
}

fn labels(columns: &mut Columns, attributes: &[Attribute]) {
    let mut types = String::new();
    for attribute in attributes {
        let kind = attribute.value.kind();
        columns.labels.key(attribute.key, true, ValueKind::String);
        attribute.value.write_text(&mut columns.labels.texts.data);
        columns.labels.texts.close();
        if kind != ValueKind::String {
            let comma = if types.is_empty() { "" } else { "," };
            let key = super::attributes::str_of(attribute.key);
            let doubled = if key.starts_with('$') { "$" } else { "" };
            types.push_str(&format!("{comma}{doubled}{}={}", escaped(key), kind as u8));
        }
    }
    if !types.is_empty() {
        columns.labels.text(reserved::TYPES, types.as_bytes());
    }
}

/// A point without a recorded value fills no column of values, whatever its sender left in those fields.
fn unrecorded(pass: &mut Pass, kind: u32, point: &[u8]) {
    let is_value = |number| match kind {
        GAUGE | SUM => matches!(number, 4 | 6),
        HISTOGRAM => matches!(number, 4..=7 | 11 | 12),
        EXPONENTIAL => matches!(number, 4..=9 | 12..=14),
        _ => matches!(number, 4..=6),
    };
    let (mut cursor, mut fields) = (Cursor::new(point, 0, point.len()), Vec::new());
    while !cursor.done() {
        let start = cursor.at;
        let Ok((number, wire_type)) = cursor.tag() else { return };
        let passed = match wire_type {
            3 => cursor.skip_group(number, usize::MAX),
            _ => cursor.value(wire_type).map(drop),
        };
        if passed.is_ok() && wire_type != 3 && is_value(number) {
            fields.extend_from_slice(&point[start..cursor.at]);
        }
    }
    pass.note_text(reserved::UNRECORDED, STANDARD.encode(fields).as_bytes());
}

fn number(pass: &mut Pass, point: &[u8]) {
    let mut value = Any::Empty;
    for field in Fields::of(point) {
        match field {
            (4, Value::Fixed64(bits)) => value = Any::Double(f64::from_bits(bits)),
            (6, Value::Fixed64(bits)) => value = Any::Int(bits as i64),
            _ => {}
        }
    }
    match value {
        Any::Double(value) => pass.columns.double(Col::MetricValue, value),
        Any::Int(value) => {
            pass.columns.double(Col::MetricValue, value as f64);
            pass.note_text(reserved::AS_INT, itoa::Buffer::new().format(value).as_bytes());
        }
        _ => {}
    }
}

/// Count, sum, min and max, by their field numbers.
fn totals(pass: &mut Pass, point: &[u8], min: u32, max: u32) {
    let mut count = 0u64;
    for field in Fields::of(point) {
        match field {
            (4, Value::Fixed64(value)) => count = value,
            (5, Value::Fixed64(bits)) => pass.columns.double(Col::MetricSum, f64::from_bits(bits)),
            (number, Value::Fixed64(bits)) if number == min => {
                pass.columns.double(Col::MetricMin, f64::from_bits(bits));
            }
            (number, Value::Fixed64(bits)) if number == max => {
                pass.columns.double(Col::MetricMax, f64::from_bits(bits));
            }
            _ => {}
        }
    }
    match i64::try_from(count) {
        Ok(count) => pass.columns.int(Col::MetricCount, count),
        Err(_) => pass.note(reserved::COUNT, count),
    }
}

pub fn list<T: Copy>(out: &mut Vec<u8>, name: &[u8], values: &[T], write: impl Fn(&mut Vec<u8>, T)) {
    out.extend_from_slice(name);
    out.push(b'[');
    let mut first = true;
    for value in values {
        comma(out, &mut first);
        write(out, *value);
    }
    out.push(b']');
}

fn histogram(pass: &mut Pass, point: &[u8]) {
    totals(pass, point, 11, 12);
    let (bounds, counts) = (fixed64s(point, 7), fixed64s(point, 6));
    if !bounds.is_empty() || !counts.is_empty() {
        let mut out = vec![b'{'];
        list(&mut out, b"\"bounds\":", &bounds, |out, bits| json_double(out, f64::from_bits(bits)));
        list(&mut out, b",\"counts\":", &counts, json_int);
        out.push(b'}');
        pass.columns.text(Col::MetricBuckets, &out);
    }
}

pub fn zigzag(value: u64) -> i32 {
    let value = value as u32;
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

fn exponential(pass: &mut Pass, point: &[u8]) {
    totals(pass, point, 12, 13);
    let arena = Arena::default();
    let (mut scale, mut zero_count, mut threshold) = (0i32, 0u64, 0f64);
    let mut sides = [Pieces::default(), Pieces::default()];
    for field in Fields::of(point) {
        match field {
            (6, Value::Varint(value)) => scale = zigzag(value),
            (7, Value::Fixed64(value)) => zero_count = value,
            (number @ (8 | 9), Value::Bytes(piece)) => sides[number as usize - 8].add(piece),
            (14, Value::Fixed64(bits)) => threshold = f64::from_bits(bits),
            _ => {}
        }
    }
    let (mut out, mut first) = (vec![b'{'], true);
    write_int(&mut out, &mut first, b"\"scale\":", scale);
    write_int(&mut out, &mut first, b"\"zero_count\":", zero_count);
    write_double(&mut out, &mut first, b"\"zero_threshold\":", threshold);
    for (name, side) in [(&b",\"positive\":{"[..], &sides[0]), (b",\"negative\":{", &sides[1])] {
        let (mut offset, mut counts) = (0i32, Vec::new());
        for field in Fields::of(side.join(&arena)) {
            match field {
                (1, Value::Varint(value)) => offset = zigzag(value),
                (2, Value::Varint(value)) => counts.push(value),
                (2, Value::Bytes(packed)) => {
                    let mut cursor = Cursor::new(packed, 0, packed.len());
                    counts.extend(std::iter::from_fn(|| (!cursor.done()).then(|| cursor.varint().ok()).flatten()));
                }
                _ => {}
            }
        }
        out.extend_from_slice(name);
        write_int(&mut out, &mut true, b"\"offset\":", offset);
        list(&mut out, b",\"counts\":", &counts, json_int);
        out.push(b'}');
    }
    out.push(b'}');
    pass.columns.text(Col::MetricBuckets, &out);
}

fn summary(pass: &mut Pass, point: &[u8]) {
    totals(pass, point, 0, 0);
    let (mut out, mut first) = (vec![b'['], true);
    for pair in pairs(point, 6) {
        let (mut quantile, mut value) = (0f64, 0f64);
        for field in Fields::of(pair) {
            match field {
                (1, Value::Fixed64(bits)) => quantile = f64::from_bits(bits),
                (2, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                _ => {}
            }
        }
        comma(&mut out, &mut first);
        out.push(b'{');
        write_double(&mut out, &mut true, b"\"quantile\":", quantile);
        write_double(&mut out, &mut false, b"\"value\":", value);
        out.push(b'}');
        if quantile == 0.0 || quantile == 1.0 {
            pass.columns.double(if quantile == 0.0 { Col::MetricMin } else { Col::MetricMax }, value);
        }
    }
    out.push(b']');
    if !first {
        pass.columns.text(Col::MetricQuantiles, &out);
    }
}

fn exemplars(columns: &mut Columns, point: &[u8], field: u32) {
    let (mut out, mut first) = (b"{\"exemplars\":[".to_vec(), true);
    for message in pairs(point, field) {
        comma(&mut out, &mut first);
        exemplar(message, &mut out);
    }
    if !first {
        out.extend_from_slice(b"]}");
        columns.text(Col::Data, &out);
    }
}

fn exemplar(message: &[u8], out: &mut Vec<u8>) {
    let arena = Arena::default();
    let (mut time, mut value, mut span_id, mut trace_id) = (0u64, Any::Empty, &[][..], &[][..]);
    for field in Fields::of(message) {
        match field {
            (2, Value::Fixed64(number)) => time = number,
            (3, Value::Fixed64(bits)) => value = Any::Double(f64::from_bits(bits)),
            (4, Value::Bytes(id)) => span_id = id,
            (5, Value::Bytes(id)) => trace_id = id,
            (6, Value::Fixed64(bits)) => value = Any::Int(bits as i64),
            _ => {}
        }
    }
    let mut first = true;
    out.push(b'{');
    write_int(out, &mut first, b"\"time_ns\":", time);
    if !matches!(value, Any::Empty) {
        comma(out, &mut first);
        out.extend_from_slice(b"\"value\":");
        value.write_json(out);
    }
    write_id(out, &mut first, b"\"trace_id\":", trace_id);
    write_id(out, &mut first, b"\"span_id\":", span_id);
    write_own(out, &mut first, &collect(pairs(message, 7), &arena));
    out.push(b'}');
}
