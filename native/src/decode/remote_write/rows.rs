//! The second pass: series, samples, histograms and exemplars to rows.

use std::collections::BTreeMap;

use hashbrown::{HashMap, hash_map::Entry as Slot};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{
    Flaw, Reason, Version,
    families::Metadata,
    histogram::{Count, Histogram},
    parse::{Entry, Parsed, Sample, all_refs, label_parts},
    series::{Book, Label, Series, repeated, shortened},
};
use crate::{
    decode::{
        any_value::{comma, json_double, json_member, json_text},
        attributes::{Cell, pairs},
        columns::Columns,
        record::write_int,
        reserved,
        wire::{Fields, Value},
    },
    schema::Col,
};

const NS_PER_MS: i64 = 1_000_000;
/// The value that says that a series has ended.
const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;
/// Told of one request.
const MAX_MESSAGES: usize = 10;
/// JSON text of all histograms' buckets: spans are short also where they reach far.
const MAX_BUCKET_BYTES: usize = 128 << 20;

/// Words of `metric_type` by number; both versions have the same.
const TYPES: [&str; 8] = ["unknown", "counter", "gauge", "histogram", "gauge_histogram", "summary", "info", "stateset"];
const HISTOGRAM: u32 = 3;

/// What became of a request.
#[derive(Debug, Default, PartialEq)]
pub struct Written {
    /// Samples, histograms and exemplars that are rows now, or were in the same request before.
    pub samples: usize,
    pub histograms: usize,
    pub exemplars: usize,
    /// Of those: came before in the same request.
    pub duplicates: usize,
    /// Left out, by reason.
    pub rejected: BTreeMap<Reason, usize>,
    /// The first things that were wrong.
    pub messages: Vec<String>,
}

impl Written {
    fn reject(&mut self, count: usize, flaw: &Flaw) {
        *self.rejected.entry(flaw.reason).or_default() += count;
        if self.messages.len() < MAX_MESSAGES {
            self.messages.push(flaw.message.clone());
        }
    }
}

/// What all rows of a series have alike, as terms of its columns.
struct Shared<'s> {
    series: &'s Series,
    event_name: i32,
    metric_name: i32,
    unit: i32,
    kind: u32,
    namespace: i32,
    service: i32,
    help: &'s [u8],
}

/// Writes the rows of one request.
pub struct Writer<'c, 'r> {
    columns: &'c mut Columns,
    version: Version,
    parsed: &'r Parsed<'r>,
    with_help: bool,
    /// What came at a time of a series or, for exemplars, of a series and an exemplar.
    seen: HashMap<(u128, i64), u64, foldhash::fast::RandomState>,
    bucket_bytes: usize,
    written: Written,
}

/// Adds the rows of a request that was parsed.
pub fn write(columns: &mut Columns, version: Version, parsed: &Parsed, book: &Book, with_help: bool) -> Written {
    let first = columns.row;
    let mut writer = Writer {
        columns,
        version,
        parsed,
        with_help,
        seen: HashMap::with_capacity_and_hasher(parsed.samples.len(), Default::default()),
        bucket_bytes: 0,
        written: Written::default(),
    };
    for entry in &parsed.entries {
        writer.entry(entry, book);
    }
    let written = writer.written;
    if columns.row > first {
        columns.fill(Col::EventType, &Cell::Text(b"metric".into()), first, &[]);
        columns.fill(Col::EventSource, &Cell::Text(b"prometheus.sample".into()), first, &[]);
    }
    written
}

impl Writer<'_, '_> {
    fn entry(&mut self, entry: &Entry, book: &Book) {
        let parsed = self.parsed;
        let (samples, histograms) =
            (&parsed.samples[entry.samples.clone()], &parsed.histograms[entry.histograms.clone()]);
        let exemplars = &parsed.exemplars[entry.exemplars.clone()];
        let place = match &entry.series {
            Ok(place) => *place,
            Err(flaw) => {
                let parts = samples.len() + histograms.len() + exemplars.len();
                return self.written.reject(parts.max(1), flaw);
            }
        };
        let shared = self.shared(book.get(place), &entry.metadata);
        let mut data = self.exemplars(exemplars);
        let last = samples.len() + histograms.len();
        for (at, sample) in samples.iter().enumerate() {
            let start_ms = if sample.start_ms == 0 { entry.created_ms } else { sample.start_ms };
            let told = if at + 1 == last { &mut data } else { &mut Vec::new() };
            match self.sample(&shared, sample, start_ms, told) {
                Ok(()) => self.written.samples += 1,
                Err(flaw) => self.written.reject(1, &flaw),
            }
        }
        for (at, message) in histograms.iter().enumerate() {
            let told = if samples.len() + at + 1 == last { &mut data } else { &mut Vec::new() };
            match self.histogram(&shared, message, entry.created_ms, told) {
                Ok(()) => self.written.histograms += 1,
                Err(flaw) => self.written.reject(1, &flaw),
            }
        }
        for exemplar in data {
            self.lone_exemplar(&shared, &exemplar);
        }
    }

    fn shared<'s>(&mut self, series: &'s Series, metadata: &Metadata<'s>) -> Shared<'s> {
        let columns = &mut *self.columns;
        let mut term = |col, text: &[u8]| if text.is_empty() { 0 } else { columns.term(col, text) };
        Shared {
            series,
            event_name: term(Col::EventName, &series.name),
            metric_name: term(Col::MetricName, &series.name),
            unit: term(Col::MetricUnit, metadata.unit),
            kind: metadata.kind,
            namespace: term(Col::ServiceNamespace, &series.namespace),
            service: term(Col::ServiceName, &series.service),
            help: if self.with_help { metadata.help } else { b"" },
        }
    }

    /// Whether something is new at a time of a series. Fails where another thing is there.
    fn is_new(&mut self, digest: &[u8; 16], time_ms: i64, what: u64) -> Result<bool, Flaw> {
        match self.seen.entry((u128::from_be_bytes(*digest), time_ms)) {
            Slot::Vacant(slot) => {
                slot.insert(what);
                Ok(true)
            }
            Slot::Occupied(slot) if *slot.get() == what => {
                self.written.duplicates += 1;
                Ok(false)
            }
            Slot::Occupied(_) => Err(Flaw::new(
                Reason::DuplicateSample,
                format!("a series has two samples with different values at {time_ms} ms"),
            )),
        }
    }

    fn sample(
        &mut self,
        shared: &Shared,
        sample: &Sample,
        start_ms: i64,
        data: &mut Vec<Exemplar>,
    ) -> Result<(), Flaw> {
        let time_ns = nanoseconds(sample.time_ms)?;
        if !self.is_new(&shared.series.digest, sample.time_ms, sample.value.to_bits())? {
            return Ok(());
        }
        let word = TYPES.get(shared.kind as usize).copied().unwrap_or(TYPES[0]);
        self.begin_row(shared, &shared.series.digest, time_ns, word.as_bytes());
        self.start(start_ms);
        match sample.value.to_bits() {
            STALE_NAN => self.columns.labels.text(reserved::STALE, b"1"),
            _ => self.columns.double(Col::MetricValue, sample.value),
        }
        self.end_row(data);
        Ok(())
    }

    fn histogram(
        &mut self,
        shared: &Shared,
        message: &[u8],
        created_ms: i64,
        data: &mut Vec<Exemplar>,
    ) -> Result<(), Flaw> {
        let is_stale = |sum: f64| sum.to_bits() == STALE_NAN;
        let wrong = |message| Flaw::new(Reason::InvalidHistogram, format!("{}: {message}", shared.series.told()));
        let histogram = Histogram::of(message, is_stale).map_err(wrong)?;
        let time_ns = nanoseconds(histogram.time_ms)?;
        self.bucket_bytes += histogram.buckets.len();
        if self.bucket_bytes > MAX_BUCKET_BYTES {
            return Err(wrong(format!("the buckets of this request take more than {MAX_BUCKET_BYTES} bytes")));
        }
        if !self.is_new(&shared.series.digest, histogram.time_ms, xxh3_64(message))? {
            return Ok(());
        }
        let word: &[u8] = if histogram.is_custom { b"histogram" } else { b"exponential_histogram" };
        self.begin_row(shared, &shared.series.digest, time_ns, word);
        self.start(if histogram.start_ms == 0 { created_ms } else { histogram.start_ms });
        if shared.kind != HISTOGRAM {
            let word = TYPES.get(shared.kind as usize).copied().unwrap_or(TYPES[0]);
            self.columns.attributes.text(reserved::PROMETHEUS_TYPE, word.as_bytes());
        }
        if histogram.reset_hint != 0 {
            self.columns.attributes.int(reserved::PROMETHEUS_RESET_HINT, histogram.reset_hint);
        }
        match is_stale(histogram.sum) {
            true => self.columns.labels.text(reserved::STALE, b"1"),
            false => self.columns.double(Col::MetricSum, histogram.sum),
        }
        self.count(&histogram);
        self.columns.text(Col::MetricBuckets, &histogram.buckets);
        self.end_row(data);
        Ok(())
    }

    fn count(&mut self, histogram: &Histogram) {
        let whole = match histogram.count {
            Count::Int(count) => i64::try_from(count).ok(),
            Count::Float(count) => (count.fract() == 0.0 && count.abs() < i64::MAX as f64).then_some(count as i64),
        };
        let text = match histogram.count {
            Count::Int(count) if whole.is_none() => count.to_string(),
            Count::Int(_) => String::new(),
            Count::Float(count) => {
                let mut text = Vec::new();
                json_double(&mut text, count);
                String::from_utf8(text).unwrap_or_default()
            }
        };
        if !text.is_empty() {
            self.columns.attributes.text(reserved::PROMETHEUS_COUNT, text.as_bytes());
        }
        if !histogram.buckets.is_empty()
            && let Some(count) = whole
        {
            self.columns.int(Col::MetricCount, count);
        }
    }

    fn begin_row(&mut self, shared: &Shared, digest: &[u8; 16], time_ns: i64, kind: &[u8]) {
        let columns = &mut *self.columns;
        columns.id(u128::from_be_bytes(*digest), 0);
        columns.int(Col::Timestamp, time_ns);
        columns.key(Col::EventName, shared.event_name);
        columns.key(Col::MetricName, shared.metric_name);
        columns.text(Col::MetricType, kind);
        for (col, key) in [
            (Col::MetricUnit, shared.unit),
            (Col::ServiceNamespace, shared.namespace),
            (Col::ServiceName, shared.service),
        ] {
            if key != 0 {
                columns.key(col, key);
            }
        }
        columns.text(Col::ServiceInstance, &shared.series.instance);
        columns.labels.extend(&shared.series.labels);
        if !shared.help.is_empty() {
            columns.labels.text(reserved::HELP, shared.help);
        }
    }

    fn start(&mut self, start_ms: i64) {
        match start_ms.checked_mul(NS_PER_MS) {
            Some(0) => {}
            Some(time_ns) => self.columns.int(Col::StartedAt, time_ns),
            None => self.columns.attributes.text(reserved::PROMETHEUS_START, start_ms.to_string().as_bytes()),
        }
    }

    /// Ends a row; exemplars that are given go with it.
    fn end_row(&mut self, data: &mut Vec<Exemplar>) {
        if !data.is_empty() {
            self.columns.text(Col::Data, &exemplars_json(data));
            data.clear();
        }
        self.columns.end_row();
    }

    /// The exemplars of a series; those that are none are counted.
    fn exemplars(&mut self, messages: &[&[u8]]) -> Vec<Exemplar> {
        let mut list = Vec::with_capacity(messages.len());
        for message in messages {
            match self.exemplar(message) {
                Ok(exemplar) => {
                    self.written.exemplars += 1;
                    list.push(exemplar);
                }
                Err(flaw) => self.written.reject(1, &flaw),
            }
        }
        list
    }

    fn exemplar(&self, message: &[u8]) -> Result<Exemplar, Flaw> {
        let (mut value, mut time_ms) = (0f64, 0i64);
        for field in Fields::of(message) {
            match field {
                (2, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                (3, Value::Varint(time)) => time_ms = time as i64,
                _ => {}
            }
        }
        let labels: Vec<Label> = match self.version {
            Version::One => pairs(message, 1).map(label_parts).collect(),
            Version::Two => self.parsed.labels(&all_refs(message))?,
        };
        let time_ns = nanoseconds(time_ms)?;
        if let Some(name) = repeated(&labels) {
            let message = format!("an exemplar has the label {:?} twice", shortened(name));
            return Err(Flaw::new(Reason::InvalidLabels, message));
        }
        Ok(Exemplar { time_ms, json: exemplar_json(time_ns, value, &labels) })
    }

    /// A row of an exemplar that came without a sample: clients send them apart.
    fn lone_exemplar(&mut self, shared: &Shared, exemplar: &Exemplar) {
        let digest = xxh3_128(&[&shared.series.digest[..], &exemplar.json].concat()).to_be_bytes();
        match self.is_new(&digest, exemplar.time_ms, 0) {
            Ok(true) => {}
            _ => return,
        }
        let word = TYPES.get(shared.kind as usize).copied().unwrap_or(TYPES[0]);
        self.begin_row(shared, &digest, exemplar.time_ms * NS_PER_MS, word.as_bytes());
        self.columns.text(Col::Data, &exemplars_json(std::slice::from_ref(exemplar)));
        self.columns.end_row();
    }
}

struct Exemplar {
    time_ms: i64,
    json: Vec<u8>,
}

fn exemplars_json(list: &[Exemplar]) -> Vec<u8> {
    let (mut out, mut first) = (b"{\"exemplars\":[".to_vec(), true);
    for exemplar in list {
        comma(&mut out, &mut first);
        out.extend_from_slice(&exemplar.json);
    }
    out.extend_from_slice(b"]}");
    out
}

/// An exemplar as those of OTLP's points are: ids of a trace and a span have members of their own where they are such.
fn exemplar_json(time_ns: i64, value: f64, labels: &[Label]) -> Vec<u8> {
    let (mut out, mut first) = (vec![b'{'], true);
    write_int(&mut out, &mut first, b"\"time_ns\":", time_ns);
    out.extend_from_slice(b",\"value\":");
    json_double(&mut out, value);
    let is_id = |name: &[u8], value: &[u8]| {
        let length = match name {
            b"trace_id" => 32,
            b"span_id" => 16,
            _ => return false,
        };
        value.len() == length && value.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    for (name, value) in labels.iter().filter(|(name, value)| is_id(name, value)) {
        out.push(b',');
        json_member(&mut out, name);
        json_text(&mut out, value);
    }
    let mut others = labels.iter().filter(|(name, value)| !is_id(name, value)).peekable();
    if others.peek().is_some() {
        out.extend_from_slice(b",\"attributes\":{");
        let mut first = true;
        for (name, value) in others {
            comma(&mut out, &mut first);
            json_member(&mut out, name);
            json_text(&mut out, value);
        }
        out.push(b'}');
    }
    out.push(b'}');
    out
}

fn nanoseconds(time_ms: i64) -> Result<i64, Flaw> {
    let message = || format!("{time_ms} ms is no time that a row can have");
    time_ms.checked_mul(NS_PER_MS).ok_or_else(|| Flaw::new(Reason::InvalidTimestamp, message()))
}
