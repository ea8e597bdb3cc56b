//! Native histograms: spans and deltas to the buckets of OTLP (specification 3.3).
//!
//! Prometheus counts its buckets from their upper bounds, OTLP from their lower ones: an index there is one less here.
//! What lies between two spans are buckets without observations, and stands here as zeros.

use super::super::{
    any_value::{json_double, json_int},
    metrics::{list, zigzag},
    record::{fixed64s, write_int},
    wire::{Cursor, Fields, Value},
};

/// The schema of histograms whose bounds are the sender's own.
const CUSTOM: i32 = -53;
/// Resolutions that the format has room for.
const SCHEMAS: std::ops::RangeInclusive<i32> = -9..=52;
/// Buckets of one side, those without observations included.
const MAX_BUCKETS: i64 = 1 << 16;

/// The counts of a histogram are integers or, after arithmetic in the sender, not.
#[derive(Clone, Debug, PartialEq)]
pub enum Counts {
    Ints(Vec<u64>),
    Floats(Vec<f64>),
}

impl Counts {
    fn write(&self, out: &mut Vec<u8>, name: &[u8]) {
        match self {
            Counts::Ints(counts) => list(out, name, counts, json_int),
            Counts::Floats(counts) => list(out, name, counts, json_double),
        }
    }

    fn len(&self) -> usize {
        match self {
            Counts::Ints(counts) => counts.len(),
            Counts::Floats(counts) => counts.len(),
        }
    }

    /// These counts with zeros at the places that no span covers.
    fn spread(self, places: &[usize], length: usize) -> Counts {
        fn put<T: Copy + Default>(counts: Vec<T>, places: &[usize], length: usize) -> Vec<T> {
            let mut dense = vec![T::default(); length];
            places.iter().zip(counts).for_each(|(place, count)| dense[*place] = count);
            dense
        }
        match self {
            Counts::Ints(counts) => Counts::Ints(put(counts, places, length)),
            Counts::Floats(counts) => Counts::Floats(put(counts, places, length)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    Int(u64),
    Float(f64),
}

/// One side's buckets, those between the first and the last that a span covers.
struct Side {
    /// The first one's index, as Prometheus counts.
    first: i64,
    counts: Counts,
}

pub struct Histogram {
    pub time_ms: i64,
    pub start_ms: i64,
    pub count: Count,
    pub sum: f64,
    pub reset_hint: u64,
    /// JSON text.
    pub buckets: Vec<u8>,
    pub is_custom: bool,
}

/// What a message says, field by field.
#[derive(Default)]
struct Parts {
    count: Option<Count>,
    zero_count: Option<Count>,
    zero_threshold: f64,
    sum: f64,
    schema: i32,
    reset_hint: u64,
    time_ms: i64,
    start_ms: i64,
}

impl Parts {
    fn of(message: &[u8]) -> Parts {
        let mut parts = Parts::default();
        for field in Fields::of(message) {
            match field {
                (1, Value::Varint(count)) => parts.count = Some(Count::Int(count)),
                (2, Value::Fixed64(bits)) => parts.count = Some(Count::Float(f64::from_bits(bits))),
                (3, Value::Fixed64(bits)) => parts.sum = f64::from_bits(bits),
                (4, Value::Varint(schema)) => parts.schema = zigzag(schema),
                (5, Value::Fixed64(bits)) => parts.zero_threshold = f64::from_bits(bits),
                (6, Value::Varint(count)) => parts.zero_count = Some(Count::Int(count)),
                (7, Value::Fixed64(bits)) => parts.zero_count = Some(Count::Float(f64::from_bits(bits))),
                (14, Value::Varint(hint)) => parts.reset_hint = hint,
                (15, Value::Varint(time)) => parts.time_ms = time as i64,
                (17, Value::Varint(time)) => parts.start_ms = time as i64,
                _ => {}
            }
        }
        parts
    }
}

impl Histogram {
    /// The histogram that a checked message is, or what is wrong with it.
    pub fn of(message: &[u8], is_stale: impl Fn(f64) -> bool) -> Result<Histogram, String> {
        let parts = Parts::of(message);
        let is_custom = parts.schema == CUSTOM;
        let mut histogram = Histogram {
            time_ms: parts.time_ms,
            start_ms: parts.start_ms,
            count: parts.count.unwrap_or(Count::Int(0)),
            sum: parts.sum,
            reset_hint: parts.reset_hint,
            buckets: Vec::new(),
            is_custom,
        };
        if is_stale(parts.sum) {
            return Ok(histogram);
        }
        let is_float = matches!(histogram.count, Count::Float(_));
        let negative = side(message, [8, 9, 10], is_float).map_err(|error| format!("negative side: {error}"))?;
        let positive = side(message, [11, 12, 13], is_float).map_err(|error| format!("positive side: {error}"))?;
        adds_up(&parts, histogram.count, &negative.counts, &positive.counts)?;
        histogram.buckets = match is_custom {
            true => custom(message, &parts, &negative, positive)?,
            false => exponential(message, &parts, &negative, &positive)?,
        };
        Ok(histogram)
    }
}

/// The buckets of one side; the fields of its spans, its deltas and its counts.
fn side(message: &[u8], [spans, deltas, counts]: [u32; 3], is_float: bool) -> Result<Side, String> {
    let counts = match is_float {
        true => Counts::Floats(fixed64s(message, counts).into_iter().map(f64::from_bits).collect()),
        false => Counts::Ints(absolute(message, deltas)?),
    };
    if let Counts::Floats(counts) = &counts
        && let Some(wrong) = counts.iter().find(|count| **count < 0.0)
    {
        return Err(format!("a bucket has {wrong} observations"));
    }
    let (mut first, mut next, mut places) = (None, 0i64, Vec::with_capacity(counts.len()));
    for (at, span) in super::super::attributes::pairs(message, spans).enumerate() {
        let (offset, length) = offset_and_length(span);
        if at > 0 && offset < 0 {
            return Err(format!("span {at} begins {} buckets before the end of the one before it", -i64::from(offset)));
        }
        next += i64::from(offset);
        if length == 0 {
            continue;
        }
        let start = next - *first.get_or_insert(next);
        next += i64::from(length);
        if start + i64::from(length) > MAX_BUCKETS {
            return Err(format!("the spans reach over more than {MAX_BUCKETS} buckets"));
        }
        places.extend(start as usize..start as usize + length as usize);
    }
    if places.len() != counts.len() {
        return Err(format!("the spans have {} buckets, and {} are there", places.len(), counts.len()));
    }
    let length = places.last().map_or(0, |last| last + 1);
    Ok(Side { first: first.unwrap_or(0), counts: counts.spread(&places, length) })
}

fn offset_and_length(span: &[u8]) -> (i32, u32) {
    let (mut offset, mut length) = (0, 0);
    for field in Fields::of(span) {
        match field {
            (1, Value::Varint(value)) => offset = zigzag(value),
            (2, Value::Varint(value)) => length = value as u32,
            _ => {}
        }
    }
    (offset, length)
}

/// Counts of which the message has the differences.
fn absolute(message: &[u8], deltas: u32) -> Result<Vec<u64>, String> {
    let (mut counts, mut last) = (Vec::new(), 0i64);
    for delta in varints(message, deltas) {
        let delta = (delta >> 1) as i64 ^ -((delta & 1) as i64);
        last = last.checked_add(delta).ok_or("the deltas go beyond 64 bits")?;
        counts.push(u64::try_from(last).map_err(|_| format!("a bucket has {last} observations"))?);
    }
    Ok(counts)
}

/// The numbers of a repeated field, packed or not.
fn varints(message: &[u8], field: u32) -> Vec<u64> {
    let mut list = Vec::new();
    for (_, value) in Fields::of(message).filter(|(number, _)| *number == field) {
        match value {
            Value::Varint(value) => list.push(value),
            Value::Bytes(packed) => {
                let mut cursor = Cursor::new(packed, 0, packed.len());
                list.extend(std::iter::from_fn(|| (!cursor.done()).then(|| cursor.varint().ok()).flatten()));
            }
            _ => {}
        }
    }
    list
}

/// Fails where the buckets have not as many observations as the histogram. Those of NaN are in no bucket, and floats
/// are the result of arithmetic: both are taken as they are.
fn adds_up(parts: &Parts, count: Count, negative: &Counts, positive: &Counts) -> Result<(), String> {
    let (Count::Int(count), Counts::Ints(negative), Counts::Ints(positive)) = (count, negative, positive) else {
        return Ok(());
    };
    let zero = match parts.zero_count {
        Some(Count::Int(zero)) => zero,
        _ => 0,
    };
    let all = negative.iter().chain(positive).fold(u128::from(zero), |all, count| all + u128::from(*count));
    match all == u128::from(count) || parts.sum.is_nan() && all < u128::from(count) {
        true => Ok(()),
        false => Err(format!("the buckets have {all} observations, and the histogram {count}")),
    }
}

fn exponential(message: &[u8], parts: &Parts, negative: &Side, positive: &Side) -> Result<Vec<u8>, String> {
    if !SCHEMAS.contains(&parts.schema) {
        return Err(format!("there is no schema {}", parts.schema));
    }
    if !fixed64s(message, 16).is_empty() {
        return Err(format!("a histogram of schema {} has no bounds of its own", parts.schema));
    }
    let (mut out, mut first) = (vec![b'{'], true);
    write_int(&mut out, &mut first, b"\"scale\":", parts.schema);
    match parts.zero_count {
        Some(Count::Float(count)) => {
            out.extend_from_slice(b",\"zero_count\":");
            json_double(&mut out, count);
        }
        Some(Count::Int(count)) => write_int(&mut out, &mut first, b"\"zero_count\":", count),
        None => out.extend_from_slice(b",\"zero_count\":0"),
    }
    out.extend_from_slice(b",\"zero_threshold\":");
    json_double(&mut out, parts.zero_threshold);
    for (name, side) in [(&b",\"positive\":{"[..], positive), (b",\"negative\":{", negative)] {
        out.extend_from_slice(name);
        let offset = if side.counts.len() == 0 { 0 } else { side.first - 1 };
        write_int(&mut out, &mut true, b"\"offset\":", offset);
        side.counts.write(&mut out, b",\"counts\":");
        out.push(b'}');
    }
    out.push(b'}');
    Ok(out)
}

fn custom(message: &[u8], parts: &Parts, negative: &Side, positive: Side) -> Result<Vec<u8>, String> {
    let bounds: Vec<f64> = fixed64s(message, 16).into_iter().map(f64::from_bits).collect();
    let is_zero = match parts.zero_count {
        Some(Count::Int(count)) => count == 0,
        Some(Count::Float(count)) => count == 0.0,
        None => true,
    };
    if !is_zero || parts.zero_threshold != 0.0 || negative.counts.len() > 0 {
        return Err("a histogram with bounds of its own has neither a zero bucket nor negative ones".into());
    }
    // Written so that NaN is wrong, too.
    let grows = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    if !grows || bounds.iter().any(|bound| bound.is_nan() || *bound == f64::INFINITY) {
        return Err("the bounds do not grow, or the last one is infinite".into());
    }
    let places: Vec<usize> = (0..positive.counts.len()).map(|at| at + positive.first.max(0) as usize).collect();
    let length = bounds.len() + 1;
    if positive.counts.len() > 0 && (positive.first < 0 || places.last().is_some_and(|last| *last >= length)) {
        return Err(format!("the spans reach beyond the {length} buckets of the bounds"));
    }
    let mut out = vec![b'{'];
    list(&mut out, b"\"bounds\":", &bounds, json_double);
    positive.counts.spread(&places, length).write(&mut out, b",\"counts\":");
    out.push(b'}');
    Ok(out)
}
