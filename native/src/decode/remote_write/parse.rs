//! A request as a list of series, samples and the rest: the first pass, which decides whether it is a request at all and
//! touches no column.

use std::{hash::BuildHasher, ops::Range};

use super::{
    Flaw, Reason, Version,
    families::{ByName, Kept, Metadata, Sayings},
    messages::{EXEMPLAR_V1, EXEMPLAR_V2, HISTOGRAM, LABEL, METADATA, METRIC_METADATA},
    series::{Book, Form, Label, SEPARATOR, Series, key_text, mixed},
};
use crate::decode::{
    attributes::pairs,
    validate::{MAX_COPIED_BYTES, check_message},
    wire::{Cursor, Fields, MAX_LEVELS, Value, is_ascii},
};

/// The request is none; `validate` says where and why.
pub struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

#[derive(Clone, Copy, Default)]
pub struct Sample {
    pub value: f64,
    pub time_ms: i64,
    /// 0: unknown.
    pub start_ms: i64,
}

/// A `TimeSeries`: where its parts stand in the request's lists.
pub struct Entry<'a> {
    pub series: std::result::Result<u32, Flaw>,
    pub samples: Range<usize>,
    pub histograms: Range<usize>,
    pub exemplars: Range<usize>,
    pub metadata: Metadata<'a>,
    /// Of all its samples, as 2.0-rc.3 had it.
    pub created_ms: i64,
}

/// All of a request.
pub struct Parsed<'a> {
    pub entries: Vec<Entry<'a>>,
    pub samples: Vec<Sample>,
    /// Messages that were checked.
    pub histograms: Vec<&'a [u8]>,
    pub exemplars: Vec<&'a [u8]>,
    pub symbols: Vec<&'a [u8]>,
    symbol_hashes: Vec<u64>,
    refs: Vec<u32>,
    messages: Vec<&'a [u8]>,
    pub sayings: Sayings<'a>,
    /// Bytes that rows will take for what they repeat.
    pub copied: u64,
}

impl<'a> Parsed<'a> {
    /// A request that was read. `known`: what was said about families before.
    pub fn of(
        version: Version,
        body: &'a [u8],
        book: &mut Book,
        known: Option<&'a ByName<Kept>>,
    ) -> Result<Parsed<'a>> {
        let mut parsed = Parsed {
            entries: Vec::new(),
            samples: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            symbols: Vec::new(),
            symbol_hashes: Vec::new(),
            refs: Vec::new(),
            messages: Vec::new(),
            sayings: Sayings { now: Default::default(), before: known },
            copied: 0,
        };
        match version {
            Version::One => parsed.read_one(body, book),
            Version::Two => parsed.read_two(body, book),
        }?;
        Ok(parsed)
    }

    /// Whether rows would repeat more than a request may ask for.
    pub fn is_too_large(&self) -> bool {
        self.copied > MAX_COPIED_BYTES
    }

    fn read_one(&mut self, body: &'a [u8], book: &mut Book) -> Result<()> {
        let mut cursor = Cursor::new(body, 0, body.len());
        while !cursor.done() {
            match field(&mut cursor, 1)? {
                Some((1, Value::Bytes(message))) => self.series_one(message, book)?,
                Some((3, Value::Bytes(message))) => self.family(message)?,
                _ => {}
            }
        }
        let mut last: (&[u8], Metadata) = (b"", Metadata::default());
        for entry in &mut self.entries {
            if let Ok(place) = entry.series {
                let name = &*book.get(place).name;
                if last.0 != name {
                    last = (name, self.sayings.about(name));
                }
                entry.metadata = last.1;
            }
        }
        Ok(())
    }

    /// A `MetricMetadata`: the last one of a name counts.
    fn family(&mut self, message: &'a [u8]) -> Result<()> {
        checked(&METRIC_METADATA, message, 2)?;
        let (mut name, mut metadata) = (&[][..], Metadata::default());
        for field in Fields::of(message) {
            match field {
                (1, Value::Varint(kind)) => metadata.kind = kind as u32,
                (2, Value::Bytes(text)) => name = text,
                (4, Value::Bytes(text)) => metadata.help = text,
                (5, Value::Bytes(text)) => metadata.unit = text,
                _ => {}
            }
        }
        self.sayings.now.insert(name, metadata);
        Ok(())
    }

    fn series_one(&mut self, message: &'a [u8], book: &mut Book) -> Result<()> {
        let mut cursor = Cursor::new(message, 0, message.len());
        let (mut labels, mut scattered) = (0..0, false);
        let starts = (self.samples.len(), self.histograms.len(), self.exemplars.len());
        while !cursor.done() {
            let at = cursor.at;
            match field(&mut cursor, 2)? {
                Some((1, Value::Bytes(_))) => {
                    if labels.is_empty() {
                        labels.start = at;
                    }
                    scattered |= !labels.is_empty() && labels.end != at;
                    labels.end = cursor.at;
                }
                Some((2, Value::Bytes(bytes))) => self.samples.push(Sample { start_ms: 0, ..sample(bytes)? }),
                Some((3, Value::Bytes(bytes))) => {
                    checked(&EXEMPLAR_V1, bytes, 3)?;
                    self.copied += 6 * bytes.len() as u64;
                    self.exemplars.push(bytes);
                }
                Some((4, Value::Bytes(bytes))) => self.histogram(bytes)?,
                _ => {}
            }
        }
        let series = match scattered {
            false => found(&message[labels], book)?,
            true => built(pairs(message, 1), book)?,
        };
        self.push(series, starts, Metadata::default(), 0, book);
        Ok(())
    }

    fn histogram(&mut self, bytes: &'a [u8]) -> Result<()> {
        checked(&HISTOGRAM, bytes, 3)?;
        self.histograms.push(bytes);
        Ok(())
    }

    fn push(
        &mut self,
        series: std::result::Result<u32, Flaw>,
        starts: (usize, usize, usize),
        metadata: Metadata<'a>,
        created_ms: i64,
        book: &Book,
    ) {
        let (samples, histograms, exemplars) = starts;
        let rows = self.samples.len() - samples + self.histograms.len() - histograms;
        if let Ok(place) = &series {
            let row_bytes = book.get(*place).row_bytes() + metadata.help.len() as u64;
            self.copied = self.copied.saturating_add(row_bytes.saturating_mul(rows.max(1) as u64));
        }
        self.entries.push(Entry {
            series,
            samples: samples..self.samples.len(),
            histograms: histograms..self.histograms.len(),
            exemplars: exemplars..self.exemplars.len(),
            metadata,
            created_ms,
        });
    }

    fn read_two(&mut self, body: &'a [u8], book: &mut Book) -> Result<()> {
        let mut cursor = Cursor::new(body, 0, body.len());
        while !cursor.done() {
            match field(&mut cursor, 1)? {
                Some((4, Value::Bytes(text))) => {
                    utf8(text)?;
                    self.symbols.push(text);
                    self.symbol_hashes.push(book.hasher.hash_one(text));
                }
                Some((5, Value::Bytes(message))) => self.messages.push(message),
                _ => {}
            }
        }
        for index in 0..self.messages.len() {
            self.series_two(self.messages[index], book)?;
        }
        Ok(())
    }

    fn series_two(&mut self, message: &'a [u8], book: &mut Book) -> Result<()> {
        let mut cursor = Cursor::new(message, 0, message.len());
        let starts = (self.samples.len(), self.histograms.len(), self.exemplars.len());
        // Kind, help and unit; references.
        let (mut metadata, mut created_ms) = ([0u32; 3], 0);
        self.refs.clear();
        while !cursor.done() {
            match field(&mut cursor, 2)? {
                Some((1, Value::Bytes(packed))) => refs(packed, &mut self.refs)?,
                Some((1, Value::Varint(one))) => self.refs.push(one as u32),
                Some((2, Value::Bytes(bytes))) => self.samples.push(sample(bytes)?),
                Some((3, Value::Bytes(bytes))) => self.histogram(bytes)?,
                Some((4, Value::Bytes(bytes))) => {
                    checked(&EXEMPLAR_V2, bytes, 3)?;
                    self.exemplars.push(bytes);
                }
                Some((5, Value::Bytes(bytes))) => {
                    checked(&METADATA, bytes, 3)?;
                    for field in Fields::of(bytes) {
                        match field {
                            (1, Value::Varint(kind)) => metadata[0] = kind as u32,
                            (number @ (3 | 4), Value::Varint(one)) => metadata[number as usize - 2] = one as u32,
                            _ => {}
                        }
                    }
                }
                Some((6, Value::Varint(time))) => created_ms = time as i64,
                _ => {}
            }
        }
        let series = self.resolved(book);
        let (series, metadata) = match (series, self.metadata(metadata)) {
            (Ok(_), Err(flaw)) => (Err(flaw), Metadata::default()),
            (series, metadata) => (series, metadata.unwrap_or_default()),
        };
        for at in starts.2..self.exemplars.len() {
            self.copied += 6 * self.exemplar_bytes(self.exemplars[at]);
        }
        self.push(series, starts, metadata, created_ms, book);
        Ok(())
    }

    /// The text that an exemplar of 2.0 refers to, in bytes.
    fn exemplar_bytes(&self, message: &[u8]) -> u64 {
        let length = |one: &u32| self.symbols.get(*one as usize).map_or(0, |text| text.len() as u64);
        all_refs(message).iter().map(length).sum::<u64>() + message.len() as u64
    }

    /// The labels that references name in pairs.
    pub fn labels(&self, refs: &[u32]) -> std::result::Result<Vec<Label<'a>>, Flaw> {
        let symbol = |one: u32| self.symbols.get(one as usize).copied();
        if let Some(one) = refs.iter().find(|one| symbol(**one).is_none()) {
            return Err(out_of_range(*one, self.symbols.len()));
        }
        if !refs.len().is_multiple_of(2) {
            return Err(Flaw::new(Reason::InvalidReference, format!("{} label references are no pairs", refs.len())));
        }
        Ok(refs.chunks_exact(2).map(|pair| (self.symbols[pair[0] as usize], self.symbols[pair[1] as usize])).collect())
    }

    /// The first reference is to the empty text, whatever stands there.
    fn metadata(&self, [kind, help, unit]: [u32; 3]) -> std::result::Result<Metadata<'a>, Flaw> {
        let text = |one: u32| match one {
            0 => Some(&[][..]),
            _ => self.symbols.get(one as usize).copied(),
        };
        match (text(help), text(unit)) {
            (Some(help), Some(unit)) => Ok(Metadata { kind, unit, help }),
            _ => Err(out_of_range(help.max(unit), self.symbols.len())),
        }
    }

    /// The series that the references name.
    fn resolved(&self, book: &mut Book) -> std::result::Result<u32, Flaw> {
        if self.refs.iter().any(|one| *one as usize >= self.symbols.len()) || !self.refs.len().is_multiple_of(2) {
            return Err(self.labels(&self.refs).expect_err("it says what is wrong"));
        }
        let hash = self.refs.iter().fold(0, |hash, one| mixed(hash, self.symbol_hashes[*one as usize]));
        let same = |key: &[u8]| {
            let mut rest = key;
            for one in &self.refs {
                let text = self.symbols[*one as usize];
                match rest.strip_prefix(text) {
                    Some([SEPARATOR, after @ ..]) => rest = after,
                    _ => return false,
                }
            }
            rest.is_empty()
        };
        if let Some(place) = book.find(Form::Text, hash, same) {
            return Ok(place);
        }
        let labels = self.labels(&self.refs)?;
        match Series::of(&labels, &key_text(&labels)) {
            Ok(series) => Ok(book.add(Form::Text, hash, series)),
            Err(message) => Err(Flaw::new(Reason::InvalidLabels, message)),
        }
    }
}

fn out_of_range(one: u32, symbols: usize) -> Flaw {
    Flaw::new(Reason::InvalidReference, format!("reference {one} is beyond the {symbols} symbols"))
}

/// The series of label messages that stand one after the other.
fn found(wire: &[u8], book: &mut Book) -> Result<std::result::Result<u32, Flaw>> {
    let hash = book.hash(wire);
    if let Some(place) = book.find(Form::Wire, hash, |key| key == wire) {
        return Ok(Ok(place));
    }
    let labels = pairs(wire, 1).map(label).collect::<Result<Vec<_>>>()?;
    Ok(match Series::of(&labels, wire) {
        Ok(series) => Ok(book.add(Form::Wire, hash, series)),
        Err(message) => Err(Flaw::new(Reason::InvalidLabels, message)),
    })
}

/// The series of label messages that stand anywhere.
fn built<'a>(messages: impl Iterator<Item = &'a [u8]>, book: &mut Book) -> Result<std::result::Result<u32, Flaw>> {
    let labels = messages.map(label).collect::<Result<Vec<_>>>()?;
    Ok(match Series::of(&labels, &[]) {
        Ok(series) => Ok(book.add_loose(series)),
        Err(message) => Err(Flaw::new(Reason::InvalidLabels, message)),
    })
}

/// Name and value of a `Label`.
fn label(message: &[u8]) -> Result<Label<'_>> {
    checked(&LABEL, message, 3)?;
    Ok(label_parts(message))
}

/// Name and value of a `Label` that was checked.
pub fn label_parts(message: &[u8]) -> Label<'_> {
    let (mut name, mut value) = (&[][..], &[][..]);
    for field in Fields::of(message) {
        match field {
            (1, Value::Bytes(text)) => name = text,
            (2, Value::Bytes(text)) => value = text,
            _ => {}
        }
    }
    (name, value)
}

fn sample(message: &[u8]) -> Result<Sample> {
    let (mut sample, mut cursor) = (Sample::default(), Cursor::new(message, 0, message.len()));
    while !cursor.done() {
        match field(&mut cursor, 3)? {
            Some((1, Value::Fixed64(bits))) => sample.value = f64::from_bits(bits),
            Some((2, Value::Varint(time))) => sample.time_ms = time as i64,
            Some((3, Value::Varint(time))) => sample.start_ms = time as i64,
            _ => {}
        }
    }
    Ok(sample)
}

/// The references of a message that was checked.
pub fn all_refs(message: &[u8]) -> Vec<u32> {
    let mut list = Vec::new();
    for field in Fields::of(message) {
        match field {
            (1, Value::Varint(one)) => list.push(one as u32),
            // It was read before without an error.
            (1, Value::Bytes(packed)) => drop(refs(packed, &mut list)),
            _ => {}
        }
    }
    list
}

fn refs(packed: &[u8], list: &mut Vec<u32>) -> Result<()> {
    let mut cursor = Cursor::new(packed, 0, packed.len());
    while !cursor.done() {
        list.push(cursor.varint().map_err(|_| Malformed)? as u32);
    }
    Ok(())
}

/// The next field of a message at this level; `None` for a group, which is passed over.
#[inline]
fn field<'b>(cursor: &mut Cursor<'b>, level: usize) -> Result<Option<(u32, Value<'b>)>> {
    match cursor.plain_field() {
        Some(field) => Ok(Some(field)),
        None => any_field(cursor, level),
    }
}

fn any_field<'b>(cursor: &mut Cursor<'b>, level: usize) -> Result<Option<(u32, Value<'b>)>> {
    let (number, wire_type) = cursor.tag().map_err(|_| Malformed)?;
    if wire_type == 3 {
        return cursor.skip_group(number, MAX_LEVELS - level).map(|()| None).map_err(|_| Malformed);
    }
    cursor.value(wire_type).map(|value| Some((number, value))).map_err(|_| Malformed)
}

fn utf8(text: &[u8]) -> Result<()> {
    match is_ascii(text) || simdutf8::basic::from_utf8(text).is_ok() {
        true => Ok(()),
        false => Err(Malformed),
    }
}

fn checked(message: &'static crate::decode::json::fields::Message, bytes: &[u8], level: u32) -> Result<()> {
    check_message(message, bytes, level).map_err(|_| Malformed)
}
