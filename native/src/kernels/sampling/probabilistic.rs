//! Samples spans and log records by probability, as the Collector's `probabilistic_sampler` does: by a hash, or by the
//! randomness that OpenTelemetry's specification gives every trace.
//!
//! What is kept says how it was chosen: a span in its trace state (`ot=rv:…;th:…`), a log record in its attributes
//! `sampling.randomness` and `sampling.threshold`. So whoever counts knows how many each stands for.

use std::ops::Range;

use arrow_array::ArrayRef;
use arrow_schema::ArrowError;
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    threshold::{ALWAYS, MAX_RANDOMNESS, NEVER, Threshold, digits, parse_randomness, text_of},
    tracestate::TraceState,
};
use crate::{
    batch::{Batch, Signal},
    decode::{reserved, wire::Arena},
    kernels::{
        columns::{Parts, Text},
        edit::{
            entries::Rewriter,
            value::Value,
            view::{View, stored},
        },
    },
    schema::{Col, ValueKind},
    select,
};

type Result<T> = std::result::Result<T, ArrowError>;

const BUCKET_BITS: u32 = 14;
const BUCKETS: u32 = 1 << BUCKET_BITS;
const SPAN_PRIORITY: &str = "sampling.priority";
const LOG_THRESHOLD: &str = "sampling.threshold";
const LOG_RANDOMNESS: &str = "sampling.randomness";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    HashSeed,
    Proportional,
    Equalizing,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    pub percentage: f32,
    pub hash_seed: u32,
    /// What cannot be decided is left out.
    pub fail_closed: bool,
    pub precision: u32,
    /// Log records, by hash: whether a trace id decides where there is one.
    pub by_trace_id: bool,
    /// Log records, by hash: the attribute that decides where no trace id does.
    pub attribute: Option<String>,
    /// Log records: the attribute that holds a percentage of its own.
    pub priority: Option<String>,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Policy {
    TraceIdHash,
    TraceIdW3c,
    AttributeHash,
    Randomness,
    Priority,
    Missing,
}

/// Rows by policy: left out, kept.
pub type Counts = [[usize; 2]; Policy::ALL.len()];

impl Policy {
    pub const ALL: [Policy; 6] = [
        Policy::TraceIdHash,
        Policy::TraceIdW3c,
        Policy::AttributeHash,
        Policy::Randomness,
        Policy::Priority,
        Policy::Missing,
    ];

    /// As the Collector's metric names it.
    pub fn name(self, options: &Options) -> &str {
        match self {
            Policy::TraceIdHash => "trace_id_hash",
            Policy::TraceIdW3c => "trace_id_w3c",
            Policy::AttributeHash => options.attribute.as_deref().unwrap_or(""),
            Policy::Randomness => "sampling_randomness",
            Policy::Priority => "sampling_priority",
            Policy::Missing => "missing_randomness",
        }
    }
}

/// What is kept (the batch itself, payloads and all, where that is everything as it was; `None`: nothing).
pub fn sample(batch: &Batch, options: &Options) -> Result<(Option<Batch>, Counts)> {
    let (parts, arena) = (Parts::of(batch), Arena::default());
    let mut sampler = Sampler::of(batch, &parts, &arena, options)?;
    let mut keep = Vec::with_capacity(batch.rows());
    let mut counts = Counts::default();
    for row in 0..batch.rows() {
        let (policy, kept) = sampler.row(row)?;
        counts[policy as usize][usize::from(kept)] += 1;
        keep.push(kept);
    }
    if !keep.contains(&true) {
        return Ok((None, counts));
    }
    if sampler.told.is_empty() {
        return Ok((Some(select::filter(batch, &keep)?), counts));
    }
    let map = sampler.rewritten(&keep)?;
    let mut others = Parts::of(batch);
    others.put(Col::Attributes, None);
    let kept = select::filter(&batch.with_columns(others.finish()?, false), &keep)?;
    let mut parts = Parts::of(&kept);
    parts.put(Col::Attributes, map);
    Ok((Some(kept.with_columns(parts.finish()?, false)), counts))
}

/// What a row says of how it was sampled before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Carried {
    threshold: Option<Threshold>,
    randomness: Option<u64>,
}

/// An entry of a kept row's map that is new, or takes the place of that one of the row's entries.
struct Told {
    row: usize,
    place: Option<usize>,
    key: &'static str,
    text: Range<usize>,
}

/// Where the entries that matter are asked for.
struct Slots {
    priority: Option<usize>,
    attribute: Option<usize>,
    state: usize,
    threshold: usize,
    randomness: usize,
}

struct Sampler<'a, 'o> {
    view: View<'a>,
    options: &'o Options,
    /// Of the configured percentage.
    threshold: Threshold,
    logs: bool,
    trace_ids: Text<'a>,
    slots: Slots,
    told: Vec<Told>,
    texts: String,
    // What was worked out last: rows of a trace come together, and often all rows say the same.
    last_id: (&'a str, Option<u64>),
    last_state: (Option<&'a str>, Option<Carried>),
    last_text: (Option<&'a str>, Carried, Range<usize>),
}

impl<'a, 'o> Sampler<'a, 'o> {
    fn of(batch: &Batch, parts: &'a Parts, arena: &'a Arena, options: &'o Options) -> Result<Sampler<'a, 'o>> {
        let mut view = View::of(batch, parts, arena)?;
        let logs = batch.signal == Signal::Logs;
        let priority = if logs { options.priority.as_deref() } else { Some(SPAN_PRIORITY) };
        let mut asked = |key: Option<&str>| key.map(|key| view.slot(&stored(key))).transpose();
        let (priority, attribute) = (asked(priority)?, asked(options.attribute.as_deref().filter(|_| logs))?);
        let slots = Slots {
            priority,
            attribute,
            state: view.slot(reserved::TRACE_STATE)?,
            threshold: view.slot(LOG_THRESHOLD)?,
            randomness: view.slot(LOG_RANDOMNESS)?,
        };
        Ok(Sampler {
            threshold: threshold_of(options),
            trace_ids: parts.text(Col::TraceId)?,
            view,
            options,
            logs,
            slots,
            told: Vec::new(),
            texts: String::new(),
            last_id: ("", None),
            last_state: (None, Some(Carried::default())),
            last_text: (None, Carried::default(), 0..0),
        })
    }

    /// What decided over the row, and whether it is kept.
    fn row(&mut self, row: usize) -> Result<(Policy, bool)> {
        let shape = self.view.shape(row, |_| false)?;
        let said = if self.logs { self.of_log(row, shape) } else { self.of_span(row, shape) };
        let (mut policy, randomness) = self.randomness(row, shape, said);
        // Where a hash decides, both are its own to set: what has either was sampled by other rules.
        let mut carried = said.filter(|said| !self.hashes() || *said == Carried::default());
        let decided = self.decide(randomness, &mut carried);
        let mut threshold = decided.unwrap_or(if self.options.fail_closed { NEVER } else { ALWAYS });
        if let Some(own) = self.priority(row, shape) {
            (threshold, policy) = (own, Policy::Priority);
        }
        let kept = threshold.samples(randomness.unwrap_or(MAX_RANDOMNESS));
        if let Some(carried) = carried.filter(|_| kept) {
            let now = self.to_tell(carried, randomness, threshold);
            self.tell(row, shape, carried, now);
        }
        Ok((policy, kept))
    }

    fn hashes(&self) -> bool {
        self.options.mode == Mode::HashSeed && self.threshold != NEVER
    }

    /// What a span's trace state says; `None` where it cannot be read.
    fn of_span(&mut self, row: usize, shape: usize) -> Option<Carried> {
        // As `Option`: comparing an empty text that lies nowhere takes a processor with masked loads 100 ns.
        let text = self.text(row, shape, self.slots.state);
        if self.last_state.0 != text {
            let state = TraceState::parse(text.unwrap_or_default());
            let said = state.map(|state| Carried { threshold: state.threshold, randomness: state.randomness });
            self.last_state = (text, said);
        }
        self.last_state.1
    }

    /// What a log record's attributes say; `None` where they cannot be read.
    fn of_log(&self, row: usize, shape: usize) -> Option<Carried> {
        Some(Carried {
            threshold: match self.text(row, shape, self.slots.threshold) {
                Some(text) => Some(Threshold::parse(text)?),
                None => None,
            },
            randomness: match self.text(row, shape, self.slots.randomness) {
                Some(text) => Some(parse_randomness(text)?),
                None => None,
            },
        })
    }

    fn text(&self, row: usize, shape: usize, slot: usize) -> Option<&'a str> {
        let value = self.view.record(row, shape, slot)?;
        (value.kind == ValueKind::String && !value.text.is_empty()).then_some(value.text)
    }

    /// 56 bits that decide, and where they are from; `None` where there is nothing to decide by.
    fn randomness(&mut self, row: usize, shape: usize, said: Option<Carried>) -> (Policy, Option<u64>) {
        let missing = (Policy::Missing, None);
        if self.threshold == NEVER {
            return (Policy::Priority, Some(MAX_RANDOMNESS));
        }
        if !self.hashes() {
            return match said {
                None => missing,
                Some(Carried { randomness: Some(explicit), .. }) => (Policy::Randomness, Some(explicit)),
                Some(_) => self.of_trace_id(row).map_or(missing, |random| (Policy::TraceIdW3c, Some(random))),
            };
        }
        if (!self.logs || self.options.by_trace_id)
            && let Some(random) = self.of_trace_id(row)
        {
            return (Policy::TraceIdHash, Some(random));
        }
        self.of_attribute(row, shape).map_or(missing, |random| (Policy::AttributeHash, Some(random)))
    }

    fn of_trace_id(&mut self, row: usize) -> Option<u64> {
        let text = self.trace_ids.get(row);
        if self.last_id.0 != text {
            let mut id = [0; 16];
            let is_id = text.len() == 32 && faster_hex::hex_decode(text.as_bytes(), &mut id).is_ok();
            let random = if self.hashes() { hashed(&id, self.options.hash_seed) } else { last_56_bits(id) };
            self.last_id = (text, is_id.then_some(random));
        }
        self.last_id.1
    }

    fn of_attribute(&self, row: usize, shape: usize) -> Option<u64> {
        let value = self.view.record(row, shape, self.slots.attribute?)?;
        let text = value.plain(self.view.arena);
        let bytes = match value.kind {
            ValueKind::Bytes => &BASE64_STANDARD.decode(text).ok()?,
            _ => text.as_bytes(),
        };
        (!bytes.is_empty()).then(|| hashed(bytes, self.options.hash_seed))
    }

    /// The threshold of a row with that randomness; `None` where there is none, or what the row says is unreadable or
    /// cannot be. A threshold that cannot be is forgotten.
    fn decide(&self, randomness: Option<u64>, carried: &mut Option<Carried>) -> Option<Threshold> {
        let (random, carried) = (randomness?, carried.as_mut()?);
        if carried.threshold.is_some_and(|threshold| !threshold.samples(random)) {
            carried.threshold = None;
            return None;
        }
        Some(match (self.options.mode, carried.threshold) {
            (Mode::Equalizing, Some(before)) => before.max(self.threshold),
            (Mode::Proportional, Some(before)) => {
                let probability = before.probability() * ratio(self.options);
                Threshold::of_probability(probability, self.options.precision).unwrap_or(NEVER)
            }
            _ => self.threshold,
        })
    }

    /// The threshold that the row's own priority asks for.
    fn priority(&self, row: usize, shape: usize) -> Option<Threshold> {
        let value = self.view.record(row, shape, self.slots.priority?)?;
        let is_number = matches!(value.kind, ValueKind::Int | ValueKind::Double);
        let number: f64 = (is_number || value.kind == ValueKind::String && !self.logs)
            .then(|| value.text.parse().ok())
            .flatten()
            .filter(|number| *number >= 0.0)?;
        match (number == 0.0, self.logs) {
            (true, _) => Some(NEVER),
            (_, false) => Some(ALWAYS),
            (_, true) => Threshold::of_probability((number / 100.0).min(1.0), self.options.precision),
        }
    }

    /// What a kept row is to say. A threshold never falls: what was left out before is not here to be counted.
    fn to_tell(&self, carried: Carried, randomness: Option<u64>, threshold: Threshold) -> Carried {
        let own = randomness.or((!self.logs).then_some(MAX_RANDOMNESS)).filter(|_| self.hashes());
        Carried { threshold: carried.threshold.max(Some(threshold)), randomness: carried.randomness.or(own) }
    }

    fn tell(&mut self, row: usize, shape: usize, before: Carried, now: Carried) {
        if !self.logs {
            let state = self.text(row, shape, self.slots.state);
            let text = self.state_text(state, now);
            return self.put(row, shape, self.slots.state, reserved::TRACE_STATE, state, text);
        }
        let (said, text) = (self.text(row, shape, self.slots.threshold), self.threshold_text(now.threshold));
        self.put(row, shape, self.slots.threshold, LOG_THRESHOLD, said, text);
        if let Some(random) = now.randomness.filter(|_| before.randomness.is_none()) {
            let start = self.texts.len();
            self.texts.push_str(text_of(&digits(random)));
            self.put(row, shape, self.slots.randomness, LOG_RANDOMNESS, None, start..self.texts.len());
        }
    }

    fn state_text(&mut self, before: Option<&'a str>, now: Carried) -> Range<usize> {
        if self.last_text.0 != before || self.last_text.1 != now {
            let start = self.texts.len();
            let mut state = before.and_then(TraceState::parse).unwrap_or_default();
            (state.threshold, state.randomness) = (now.threshold, now.randomness);
            state.write(&mut self.texts);
            self.last_text = (before, now, start..self.texts.len());
        }
        self.last_text.2.clone()
    }

    fn threshold_text(&mut self, threshold: Option<Threshold>) -> Range<usize> {
        if self.last_text.1.threshold != threshold {
            let start = self.texts.len();
            self.texts.extend(threshold.map(|threshold| threshold.to_string()));
            self.last_text = (None, Carried { threshold, randomness: None }, start..self.texts.len());
        }
        self.last_text.2.clone()
    }

    /// Notes an entry, unless it is what was there before.
    fn put(
        &mut self,
        row: usize,
        shape: usize,
        slot: usize,
        key: &'static str,
        before: Option<&str>,
        text: Range<usize>,
    ) {
        if before != Some(&self.texts[text.clone()]) {
            self.told.push(Told { row, place: self.view.place(shape, slot), key, text });
        }
    }

    /// The map of the rows that are kept, with what is told of each.
    fn rewritten(&self, keep: &[bool]) -> Result<Option<ArrayRef>> {
        let map = self.view.map;
        let mut rewriter = Rewriter::of(map, true, keep.len());
        let (mut told, mut row) = (self.told.as_slice(), 0);
        for verdicts in keep.chunk_by(|one, next| one == next) {
            row += verdicts.len();
            if !verdicts[0] {
                rewriter.drop_rows(row);
                continue;
            }
            while let Some(next) = told.first().map(|one| one.row).filter(|next| *next < row) {
                let count = told.iter().take_while(|one| one.row == next).count();
                rewriter.copy_rows(next);
                self.rewrite_row(&mut rewriter, map.map_or(0, |map| map.range(next).start), &told[..count]);
                told = &told[count..];
            }
            rewriter.copy_rows(row);
        }
        rewriter.finish()
    }

    /// The next row, whose entries begin there; at most one of what is told takes another entry's place.
    fn rewrite_row(&self, rewriter: &mut Rewriter<'_>, start: usize, told: &[Told]) {
        let value = |one: &Told| Value::string(&self.texts[one.text.clone()]);
        for one in told {
            if let Some(place) = one.place {
                rewriter.copy_entries(start + place);
                rewriter.skip();
                rewriter.push(one.key, value(one));
            }
        }
        rewriter.copy_rest();
        told.iter().filter(|one| one.place.is_none()).for_each(|one| rewriter.push(one.key, value(one)));
        rewriter.end_row();
    }
}

fn ratio(options: &Options) -> f64 {
    f64::from(options.percentage.min(100.0)) / 100.0
}

/// The threshold of the configured percentage.
fn threshold_of(options: &Options) -> Threshold {
    if options.mode != Mode::HashSeed {
        return Threshold::of_probability(ratio(options), options.precision).unwrap_or(NEVER);
    }
    // In 32 bits and rounded down, as ever: the same traces are to be kept.
    let accepted = (options.percentage.min(100.0) * (BUCKETS as f32 / 100.0)) as u32;
    Threshold(u64::from(BUCKETS - accepted) << (u64::BITS - 8 - BUCKET_BITS))
}

fn last_56_bits(id: [u8; 16]) -> u64 {
    u128::from_be_bytes(id) as u64 & MAX_RANDOMNESS
}

/// 56 bits out of an FNV-1a hash of seed and bytes: its bucket first, turned round so that a low bucket is kept.
fn hashed(bytes: &[u8], seed: u32) -> u64 {
    let seed = seed.to_le_bytes();
    let hash =
        seed.iter().chain(bytes).fold(0x811c_9dc5u32, |h, byte| (h ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let bucket = u64::from(hash & (BUCKETS - 1));
    let unused = u64::from(hash >> (u32::BITS - BUCKET_BITS));
    let mixed = unused ^ unused << 10;
    (u64::from(BUCKETS) - 1 - bucket) << 42 | mixed << 14 | bucket
}
