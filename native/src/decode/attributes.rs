//! Attributes to their homes: columns, and what is left to the maps.

use std::{borrow::Cow, hash::BuildHasher};

use hashbrown::{HashMap, HashTable};

use super::{
    any_value::{Any, key_value},
    columns::{Columns, Entries},
    keys::{Rule, Transform, rules},
    semantics::GRPC_CODES,
    wire::{Arena, Fields, Value},
};
use crate::schema::{COLUMN_COUNT, Col, Kind};

/// Up to this many keys are compared one by one to find repeated ones; more are hashed.
const COMPARED_KEYS: usize = 32;

/// Room made at once for a list of attributes.
const TYPICAL_ATTRIBUTES: usize = 24;

/// Longer text of a resource goes to no column that holds it once per row.
pub const MAX_REPEATED_TEXT_BYTES: usize = 256;

#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    pub key: &'a [u8],
    pub value: Any<'a>,
    /// Its column is its only home.
    pub home: bool,
}

/// A list of attributes, each key once: the last value wins and stands where the key came first.
pub fn collect<'a>(pairs: impl Iterator<Item = &'a [u8]>, arena: &'a Arena) -> Vec<Attribute<'a>> {
    let mut collector = Collector::default();
    pairs.for_each(|pair| collector.add(pair, arena));
    collector.list
}

/// The list in the making, pair by pair.
#[derive(Default)]
pub struct Collector<'a> {
    pub list: Vec<Attribute<'a>>,
    /// A bit for each sort of key seen: most keys are new, and are known to be so without comparing them.
    seen: u64,
    index: Option<Box<HashMap<&'a [u8], usize, foldhash::fast::RandomState>>>,
}

impl<'a> Collector<'a> {
    #[inline]
    pub fn add(&mut self, pair: &'a [u8], arena: &'a Arena) {
        let (key, value) = key_value(pair, arena);
        let sort = sort_of(key);
        let new = self.seen & sort == 0;
        self.seen |= sort;
        if self.list.len() >= COMPARED_KEYS || !new {
            return self.add_compared(key, value);
        }
        if self.list.capacity() == 0 {
            self.list.reserve(TYPICAL_ATTRIBUTES);
        }
        self.list.push(Attribute { key, value, home: false });
    }

    #[inline(never)]
    fn add_compared(&mut self, key: &'a [u8], value: Any<'a>) {
        if self.list.len() >= COMPARED_KEYS && self.index.is_none() {
            self.index = Some(Box::new(self.list.iter().enumerate().map(|(at, one)| (one.key, at)).collect()));
        }
        let known = match &self.index {
            None => self.list.iter().position(|attribute| attribute.key == key),
            Some(index) => index.get(key).copied(),
        };
        match known {
            Some(at) => self.list[at].value = value,
            None => {
                if let Some(index) = &mut self.index {
                    index.insert(key, self.list.len());
                }
                self.list.push(Attribute { key, value, home: false });
            }
        }
    }
}

/// One of 64 bits, the same for the same key.
#[inline]
fn sort_of(key: &[u8]) -> u64 {
    let at = |place: usize| key.get(place).map_or(0, |byte| u32::from(*byte));
    let length = key.len();
    let mixed =
        at(length.wrapping_sub(1)).wrapping_mul(7) ^ at(length / 2).wrapping_mul(29) ^ (length as u32).wrapping_mul(11);
    1 << (mixed & 63)
}

/// The `KeyValue`s that stand under this number.
pub fn pairs(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::of(message).filter_map(move |(found, value)| match value {
        Value::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    })
}

/// A value in its column's type.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    Text(Cow<'a, [u8]>),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// An entry of the column's dictionary.
    Term(i32),
}

impl Cell<'_> {
    pub fn set(&self, col: Col, columns: &mut Columns) {
        match self {
            Cell::Text(text) => columns.text(col, text),
            Cell::Int(value) => columns.int(col, *value),
            Cell::Double(value) => columns.double(col, *value),
            Cell::Bool(value) => columns.bool(col, *value),
            Cell::Term(key) => columns.key(col, *key),
        }
    }
}

/// What attributes say about one column.
#[derive(Debug)]
pub struct Fed<'a> {
    pub col: Col,
    /// How many attributes name the column, also those whose value does not fit.
    pub feeders: u32,
    rank: u8,
    pub cell: Option<Cell<'a>>,
    /// The attribute that can be restored from the column.
    pub exact: Option<usize>,
}

/// The columns that a list of attributes feeds.
pub struct Feeds<'a> {
    pub list: Vec<Fed<'a>>,
    /// Column to 1 + place in `list`, which has at most one entry per column.
    places: [u8; COLUMN_COUNT],
}

impl<'a> Feeds<'a> {
    /// `resource`: whose attributes these are; `kind`: the span's kind, 0 for what is no span.
    pub fn of(attributes: &[Attribute<'a>], resource: bool, kind: i64, arena: &'a Arena) -> Feeds<'a> {
        let mut feeds = Feeds { list: Vec::new(), places: [0; COLUMN_COUNT] };
        for (at, attribute) in attributes.iter().enumerate() {
            for rule in rules(attribute.key) {
                feeds.add(rule, at, attribute, resource, kind, arena);
            }
        }
        feeds
    }

    #[inline(always)]
    fn add(&mut self, rule: &Rule, at: usize, attribute: &Attribute<'a>, resource: bool, kind: i64, arena: &'a Arena) {
        let (cell, same) = match (rule.transform, attribute.value) {
            // Most attributes: text to a text column, as it is.
            (Transform::None, Any::Text(text)) if !text.is_empty() && holds_text(rule.col) => {
                (Cell::Text(Cow::Borrowed(text)), true)
            }
            (_, value) => match convert(rule, value, kind, arena) {
                Some(cell) => {
                    let same = same(value, &cell);
                    (cell, same)
                }
                None => return self.add_unfit(rule),
            },
        };
        if let Cell::Text(text) = &cell
            && resource
            && text.len() > MAX_REPEATED_TEXT_BYTES
            && !matches!(rule.col.kind(), Kind::LcString)
        {
            return self.add_unfit(rule);
        }
        let exact = (same && rule.canonical && rule.resource == resource).then_some(at);
        let place = &mut self.places[rule.col as usize];
        if *place == 0 {
            self.list.push(Fed { col: rule.col, feeders: 1, rank: rule.rank, cell: Some(cell), exact });
            *place = self.list.len() as u8;
            return;
        }
        let fed = &mut self.list[*place as usize - 1];
        fed.feeders += 1;
        if fed.cell.is_none() || rule.rank >= fed.rank {
            (fed.rank, fed.exact, fed.cell) = (rule.rank, exact, Some(cell));
        }
    }

    /// An attribute that names the column, but whose value the column can not hold.
    #[inline(never)]
    fn add_unfit(&mut self, rule: &Rule) {
        let place = &mut self.places[rule.col as usize];
        if *place == 0 {
            self.list.push(Fed { col: rule.col, feeders: 0, rank: 0, cell: None, exact: None });
            *place = self.list.len() as u8;
        }
        self.list[*place as usize - 1].feeders += 1;
    }

    pub fn get(&self, col: Col) -> Option<&Fed<'a>> {
        match self.places[col as usize] {
            0 => None,
            place => Some(&self.list[place as usize - 1]),
        }
    }
}

#[inline]
fn holds_text(col: Col) -> bool {
    matches!(col.kind(), Kind::LcString | Kind::String)
}

/// Whether the column's value is the attribute's very value.
pub fn same(value: Any, cell: &Cell) -> bool {
    match (value, cell) {
        (Any::Text(text), Cell::Text(cell)) => !text.is_empty() && *text == **cell,
        (Any::Int(value), Cell::Int(cell)) => value == *cell,
        (Any::Double(value), Cell::Double(cell)) => value.to_bits() == cell.to_bits(),
        (Any::Bool(value), Cell::Bool(cell)) => value == *cell,
        _ => false,
    }
}

pub fn convert<'a>(rule: &Rule, value: Any<'a>, kind: i64, arena: &'a Arena) -> Option<Cell<'a>> {
    match rule.col.kind() {
        Kind::Int64 | Kind::Int32 | Kind::UInt32 | Kind::UInt16 | Kind::UInt8 => whole(rule, value).map(Cell::Int),
        Kind::Float64 => match value {
            Any::Double(value) => Some(Cell::Double(value)),
            Any::Int(value) if value.unsigned_abs() <= 1 << 53 => Some(Cell::Double(value as f64)),
            Any::Text(text) => str_of(text).parse().ok().filter(|value: &f64| value.is_finite()).map(Cell::Double),
            _ => None,
        },
        Kind::Bool => match value {
            Any::Bool(value) => Some(Cell::Bool(value)),
            _ => None,
        },
        _ => text_of(rule.transform, value, kind, arena).filter(|text| !text.is_empty()).map(Cell::Text),
    }
}

pub fn str_of(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}

fn whole(rule: &Rule, value: Any) -> Option<i64> {
    let number = match value {
        Any::Int(value) => value,
        Any::Text(text) => match str_of(text).parse() {
            Ok(value) => value,
            Err(_) if rule.transform == Transform::StatusCode => {
                GRPC_CODES.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(text))? as i64
            }
            Err(_) => return None,
        },
        _ => return None,
    };
    let range = match rule.col.kind() {
        Kind::Int32 => i64::from(i32::MIN)..=i64::from(i32::MAX),
        Kind::UInt32 => 0..=i64::from(u32::MAX),
        Kind::UInt16 => 0..=i64::from(u16::MAX),
        Kind::UInt8 => 0..=i64::from(u8::MAX),
        _ => i64::MIN..=i64::MAX,
    };
    range.contains(&number).then_some(number)
}

fn text_of<'a>(transform: Transform, value: Any<'a>, kind: i64, arena: &'a Arena) -> Option<Cow<'a, [u8]>> {
    if transform == Transform::Mobile {
        let Any::Bool(mobile) = value else { return None };
        return Some(Cow::Borrowed(if mobile { b"mobile" } else { b"desktop" }));
    }
    if let (Transform::RpcStatus, Any::Int(code)) = (transform, value) {
        let name = usize::try_from(code).ok().and_then(|code| GRPC_CODES.get(code));
        return Some(name.map_or_else(|| Cow::Owned(code.to_string().into()), |name| Cow::Borrowed(name.as_bytes())));
    }
    let text = match value {
        Any::Text(text) => Cow::Borrowed(text),
        Any::Int(value) => Cow::Owned(value.to_string().into_bytes()),
        Any::Array(list) if transform == Transform::First => {
            let Any::Text(text) = Any::of(pairs(list, 1).next()?, arena) else { return None };
            Cow::Borrowed(text)
        }
        _ => return None,
    };
    transformed(transform, text, kind)
}

fn transformed(transform: Transform, text: Cow<'_, [u8]>, kind: i64) -> Option<Cow<'_, [u8]>> {
    let part = |text: Cow<'_, [u8]>, from: usize, to: usize| Cow::Owned(text[from..to].to_vec());
    Some(match transform {
        Transform::Lower if text.iter().any(u8::is_ascii_uppercase) => Cow::Owned(text.to_ascii_lowercase()),
        Transform::Upper | Transform::RpcStatus if text.iter().any(u8::is_ascii_lowercase) => {
            Cow::Owned(text.to_ascii_uppercase())
        }
        Transform::Peer if kind != 3 => return None,
        Transform::Server if kind != 2 => return None,
        Transform::Peer | Transform::Server => Cow::Owned(text.to_ascii_lowercase()),
        Transform::Path | Transform::Query => match (memchr::memchr(b'?', &text), transform) {
            (Some(mark), Transform::Path) => part(text, 0, mark),
            (Some(mark), _) => Cow::Owned(text[mark + 1..].to_vec()),
            (None, Transform::Path) => text,
            (None, _) => return None,
        },
        Transform::Service | Transform::Method => match (memchr::memrchr(b'/', &text), transform) {
            (Some(slash), Transform::Service) => part(text, 0, slash),
            (Some(slash), _) => Cow::Owned(text[slash + 1..].to_vec()),
            (None, Transform::Method) => text,
            (None, _) => return None,
        },
        Transform::Protocol => Cow::Borrowed(match &*text {
            b"1.0" => b"HTTP/1.0",
            b"1.1" => b"HTTP/1.1",
            b"2" | b"2.0" => b"HTTP/2",
            b"3" | b"3.0" => b"HTTP/3",
            _ => return None,
        }),
        _ => text,
    })
}

/// The attributes that have no other home, into a map.
pub fn residue(attributes: &[Attribute], entries: &mut Entries, whole: bool) {
    attributes.iter().filter(|attribute| whole || !attribute.home).for_each(|attribute| keep(attribute, entries));
}

fn keep(attribute: &Attribute, entries: &mut Entries) {
    entries.key(attribute.key, true, attribute.value.kind());
    attribute.value.write_text(&mut entries.texts.data);
    entries.texts.close();
}

/// A call with more distinct keys than this forgets those it knows, record by record.
const KNOWN_KEYS: usize = 4_096;

/// No key, no place.
const NONE: u32 = u32::MAX;

/// A key that a record of this call had.
struct Known<'a> {
    key: &'a [u8],
    rules: &'static [Rule],
    /// The keys that came after it, the latest first.
    next: [u32; 2],
    /// The record that had it last, and where.
    stamp: u32,
    place: u32,
}

/// The keys that the records of a call had: records are mostly alike, and so the key that comes next is mostly known.
#[derive(Default)]
struct Keys<'a> {
    known: Vec<Known<'a>>,
    table: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    first: [u32; 2],
    last: u32,
}

impl<'a> Keys<'a> {
    fn begin(&mut self) {
        if self.known.len() >= KNOWN_KEYS {
            (self.known, self.table) = Default::default();
        }
        self.last = NONE;
    }

    #[inline]
    fn find(&mut self, key: &'a [u8]) -> &mut Known<'a> {
        let next = self.known.get(self.last as usize).map_or(self.first, |last| last.next);
        let is_next = |at: u32| self.known.get(at as usize).is_some_and(|known| known.key == key);
        self.last = match next {
            [at, _] | [_, at] if is_next(at) => at,
            _ => self.find_other(key),
        };
        &mut self.known[self.last as usize]
    }

    #[inline(never)]
    fn find_other(&mut self, key: &'a [u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        let at = match self.table.find(hash, |at| self.known[*at as usize].key == key) {
            Some(at) => *at,
            None => {
                let at = self.known.len() as u32;
                self.known.push(Known { key, rules: rules(key), next: [NONE; 2], stamp: 0, place: 0 });
                let (known, hasher) = (&self.known, &self.hasher);
                self.table.insert_unique(hash, at, |at| hasher.hash_one(known[*at as usize].key));
                at
            }
        };
        let next = self.known.get_mut(self.last as usize).map_or(&mut self.first, |last| &mut last.next);
        *next = [at, next[0]];
        at
    }
}

/// What a record's attributes have said about a column.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// The record that this is about.
    stamp: u32,
    /// How many attributes name the column, also those whose value does not fit.
    feeders: u32,
    rank: u8,
    filled: bool,
}

struct Entry<'a> {
    attribute: Attribute<'a>,
    rules: &'static [Rule],
    /// The column that the attribute can be restored from.
    exact: Option<Col>,
}

/// A record's own attributes, and the columns that they feed. One record after the other is read into the same memory.
pub struct Own<'a> {
    list: Vec<Entry<'a>>,
    keys: Keys<'a>,
    slots: [Slot; COLUMN_COUNT],
    stamp: u32,
    /// The columns that the resource feeds as well.
    pub shared: Vec<Col>,
}

impl Default for Own<'_> {
    fn default() -> Self {
        let (list, shared) = (Vec::with_capacity(TYPICAL_ATTRIBUTES), Vec::new());
        Own { list, keys: Keys::default(), slots: [Slot::default(); COLUMN_COUNT], stamp: 0, shared }
    }
}

impl<'a> Own<'a> {
    /// Forgets the record before.
    pub fn begin(&mut self) {
        self.stamp += 1;
        self.list.clear();
        self.shared.clear();
        self.keys.begin();
    }

    /// Each key once: the last value wins and stands where the key came first.
    #[inline]
    pub fn add(&mut self, pair: &'a [u8], arena: &'a Arena) {
        let (key, value) = key_value(pair, arena);
        let known = self.keys.find(key);
        if known.stamp == self.stamp {
            self.list[known.place as usize].attribute.value = value;
            return;
        }
        (known.stamp, known.place) = (self.stamp, self.list.len() as u32);
        let attribute = Attribute { key, value, home: false };
        self.list.push(Entry { attribute, rules: known.rules, exact: None });
    }

    pub fn attributes(&self) -> impl Iterator<Item = &Attribute<'a>> {
        self.list.iter().map(|entry| &entry.attribute)
    }

    /// Sets this row's columns; `kind` is the span's, 0 for what is no span.
    pub fn write(&mut self, kind: i64, resource: &Feeds, columns: &mut Columns, arena: &'a Arena) {
        for at in 0..self.list.len() {
            for rule in self.list[at].rules {
                self.feed(rule, at, kind, resource, columns, arena);
            }
        }
    }

    #[inline(always)]
    fn feed(&mut self, rule: &Rule, at: usize, kind: i64, resource: &Feeds, columns: &mut Columns, arena: &'a Arena) {
        let slot = &mut self.slots[rule.col as usize];
        if slot.stamp != self.stamp {
            *slot = Slot { stamp: self.stamp, ..Slot::default() };
            if resource.get(rule.col).is_some() {
                self.shared.push(rule.col);
            }
        }
        slot.feeders += 1;
        let wins = !slot.filled || rule.rank >= slot.rank;
        let entry = &mut self.list[at];
        let same = match (rule.transform, entry.attribute.value) {
            // Most attributes: text to a text column, as it is.
            (Transform::None, Any::Text(text)) if !text.is_empty() && holds_text(rule.col) => {
                if wins {
                    columns.text(rule.col, text);
                }
                true
            }
            (_, value) => match convert(rule, value, kind, arena) {
                Some(cell) => {
                    if wins {
                        cell.set(rule.col, columns);
                    }
                    same(value, &cell)
                }
                None => return,
            },
        };
        if wins {
            (slot.rank, slot.filled) = (rule.rank, true);
        }
        if same && rule.canonical && !rule.resource {
            entry.exact = Some(rule.col);
        }
    }

    /// Whether an attribute names the column.
    #[inline]
    pub fn names(&self, col: Col) -> bool {
        self.slots[col as usize].stamp == self.stamp
    }

    /// Whether an attribute gave the column its value.
    #[inline]
    pub fn fills(&self, col: Col) -> bool {
        self.names(col) && self.slots[col as usize].filled
    }

    /// The attributes whose only home is not a column, into the map.
    pub fn residue(&self, resource: &Feeds, whole: bool, entries: &mut Entries) {
        let url = self.names(Col::HttpUrl) || resource.get(Col::HttpUrl).is_some();
        let derived = |col| url && matches!(col, Col::HttpHost | Col::HttpPath | Col::HttpQuery);
        let alone = |col: Col| self.slots[col as usize].feeders == 1 && resource.get(col).is_none();
        for entry in &self.list {
            match entry.exact {
                Some(col) if !whole && alone(col) && !derived(col) => {}
                _ => keep(&entry.attribute, entries),
            }
        }
    }
}
