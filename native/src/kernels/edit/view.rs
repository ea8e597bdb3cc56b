//! A batch's attributes by key, row by row, wherever they live.
//!
//! A record's attribute is an entry of its map, or is in its column where no attribute of record or resource feeds that
//! column (as `encode::otlp` reads them). Points have all their attributes in `labels`, and no column.

use std::borrow::Cow;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array,
    cast::AsArray,
    types::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type},
};
use arrow_schema::ArrowError;
use hashbrown::HashMap;

use super::{
    contexts::{Context, Contexts},
    entries::{Map, Shapes},
    value::{Value, kept, kind_of},
};
use crate::{
    batch::{Batch, Signal},
    decode::{
        attributes::Cell,
        keys::{CANONICAL, Fed, Rule, feeders, rules},
        reserved,
        wire::Arena,
    },
    encode::store::{TYPES_KEY, types_of},
    kernels::columns::{Parts, Text},
    schema::{Col, Kind},
};

type Result<T> = std::result::Result<T, ArrowError>;

/// The places of our own entries: the kinds of a map of text, and a log record's own event name.
pub const TYPES: usize = 0;
pub const EVENT_NAME: usize = 1;

/// Columns that say what a URL says, unless they are fed by attributes of their own.
pub const URL_PARTS: [Col; 3] = [Col::HttpHost, Col::HttpPath, Col::HttpQuery];

/// A column's values.
pub enum Cells<'a> {
    Text(Text<'a>),
    Whole(&'a ArrayRef),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
    Absent,
}

impl<'a> Cells<'a> {
    fn of(parts: &'a Parts, col: Col) -> Result<Cells<'a>> {
        Ok(match (parts.get(col), col.kind()) {
            (None, _) => Cells::Absent,
            (Some(array), Kind::Float64) => Cells::Double(array.as_primitive::<Float64Type>()),
            (Some(array), Kind::Bool) => Cells::Bool(array.as_boolean()),
            (Some(array), Kind::Int64 | Kind::Int32 | Kind::UInt32 | Kind::UInt16 | Kind::UInt8) => Cells::Whole(array),
            (Some(_), _) => Cells::Text(parts.text(col)?),
        })
    }

    pub fn get(&self, row: usize) -> Option<Cell<'a>> {
        match self {
            Cells::Absent => None,
            Cells::Text(text) => match text.get(row) {
                "" => None,
                text => Some(Cell::Text(Cow::Borrowed(text.as_bytes()))),
            },
            Cells::Double(array) => array.is_valid(row).then(|| Cell::Double(array.value(row))),
            Cells::Bool(array) => array.is_valid(row).then(|| Cell::Bool(array.value(row))),
            Cells::Whole(array) => array.is_valid(row).then(|| Cell::Int(whole(array, row))),
        }
    }

    pub fn is_empty(&self, row: usize) -> bool {
        match self {
            Cells::Absent => true,
            Cells::Text(text) => text.get(row).is_empty(),
            Cells::Double(array) => array.is_null(row),
            Cells::Bool(array) => array.is_null(row),
            Cells::Whole(array) => array.is_null(row),
        }
    }

    /// The attribute's value that the column restores.
    fn value(&self, row: usize, arena: &'a Arena) -> Option<Value<'a>> {
        match (self, self.get(row)?) {
            (Cells::Text(text), _) => Some(Value::string(text.get(row))),
            (_, Cell::Int(value)) => Some(Value::int(value, arena)),
            (_, Cell::Double(value)) => Some(Value::double(value, arena)),
            (_, Cell::Bool(value)) => Some(Value::bool(value)),
            _ => None,
        }
    }
}

pub fn whole(array: &ArrayRef, row: usize) -> i64 {
    if let Some(array) = array.as_primitive_opt::<Int64Type>() {
        return array.value(row);
    }
    if let Some(array) = array.as_primitive_opt::<Int32Type>() {
        return array.value(row).into();
    }
    if let Some(array) = array.as_primitive_opt::<UInt32Type>() {
        return array.value(row).into();
    }
    if let Some(array) = array.as_primitive_opt::<UInt16Type>() {
        return array.value(row).into();
    }
    array.as_primitive::<UInt8Type>().value(row).into()
}

/// A key that somebody asks for, or that feeds a column together with one.
pub struct Slot {
    /// As maps spell it.
    pub key: String,
    pub rules: &'static [Rule],
    /// Places of the columns that it feeds.
    pub columns: Vec<usize>,
    /// The place of the column that may be its only home in a record.
    pub home: Option<usize>,
}

pub struct Column<'a> {
    pub col: Col,
    pub cells: Cells<'a>,
    /// The slots that feed it.
    pub feeders: Vec<usize>,
    /// The slot whose only home it may be.
    pub canonical: Option<usize>,
    /// The resource's attribute whose only home it may be.
    pub of_resource: Option<&'static str>,
}

/// What is known of a shape: where slots' keys stand, and the columns that its keys feed.
#[derive(Default)]
struct Shape {
    places: Vec<Option<u32>>,
    fed: Fed,
}

pub struct View<'a> {
    pub parts: &'a Parts,
    pub arena: &'a Arena,
    pub map: Option<Map<'a>>,
    /// `attributes`, or `labels` of points.
    pub map_col: Col,
    pub contexts: Contexts<'a>,
    pub slots: Vec<Slot>,
    pub columns: Vec<Column<'a>>,
    labels: Option<Map<'a>>,
    url: Text<'a>,
    feeds: bool,
    shapes: Shapes,
    of_shapes: Vec<Shape>,
    by_key: HashMap<String, usize, foldhash::fast::RandomState>,
    /// Whether kinds stand beside texts; else in the entry of the slot `TYPES`.
    pub typed: bool,
    /// The slot of `event.name`, where somebody asks for it and the rows are log records.
    pub event_name: Option<usize>,
    logs: bool,
}

impl<'a> View<'a> {
    pub fn of(batch: &Batch, parts: &'a Parts, arena: &'a Arena) -> Result<View<'a>> {
        let points = batch.signal == Signal::Metrics;
        let map = |col: Col| parts.get(col).map(|array| Map::of(col.name(), array)).transpose();
        let labels = map(Col::Labels)?;
        let map = if points { labels } else { map(Col::Attributes)? };
        let typed = map.map_or(!points, |map| map.is_typed());
        let mut view = View {
            parts,
            arena,
            map,
            map_col: if points { Col::Labels } else { Col::Attributes },
            contexts: Contexts::of(parts, arena)?,
            slots: Vec::new(),
            columns: Vec::new(),
            labels,
            url: parts.text(Col::HttpUrl)?,
            feeds: !points,
            shapes: Shapes::default(),
            of_shapes: Vec::new(),
            by_key: HashMap::default(),
            typed,
            event_name: None,
            logs: batch.signal == Signal::Logs,
        };
        view.add(TYPES_KEY);
        view.add(reserved::EVENT_NAME);
        Ok(view)
    }

    /// The slots of users' keys; those of keys that share a column with them come along.
    pub fn ask(&mut self, keys: &[String]) -> Result<Vec<usize>> {
        keys.iter().map(|key| self.slot(&stored(key))).collect()
    }

    /// The slot of a key as maps spell it.
    pub fn slot(&mut self, key: &str) -> Result<usize> {
        if let Some(place) = self.by_key.get(key) {
            return Ok(*place);
        }
        let place = self.add(key);
        self.link(place)?;
        Ok(place)
    }

    fn add(&mut self, key: &str) -> usize {
        let place = self.slots.len();
        let rules = if self.feeds { rules(key.as_bytes()) } else { &[] };
        self.slots.push(Slot { key: key.to_owned(), rules, columns: Vec::new(), home: None });
        self.by_key.insert(key.to_owned(), place);
        if self.logs && key == "event.name" {
            self.event_name = Some(place);
        }
        place
    }

    fn link(&mut self, place: usize) -> Result<()> {
        for rule in self.slots[place].rules {
            let column = self.column(rule.col)?;
            self.slots[place].columns.push(column);
            if rule.canonical && !rule.resource {
                self.slots[place].home = Some(column);
                self.columns[column].canonical = Some(place);
            }
        }
        Ok(())
    }

    fn column(&mut self, col: Col) -> Result<usize> {
        if let Some(place) = self.columns.iter().position(|column| column.col == col) {
            return Ok(place);
        }
        let place = self.columns.len();
        let of_resource = CANONICAL.iter().find(|(_, home, resource)| *resource && *home == col).map(|(key, ..)| *key);
        let cells = Cells::of(self.parts, col)?;
        self.columns.push(Column { col, cells, feeders: Vec::new(), canonical: None, of_resource });
        for key in feeders(col) {
            let slot = self.slot(key)?;
            self.columns[place].feeders.push(slot);
        }
        if col == Col::HttpUrl {
            for part in URL_PARTS {
                self.column(part)?;
            }
        }
        Ok(place)
    }

    pub fn column_of(&self, col: Col) -> Option<usize> {
        self.columns.iter().position(|column| column.col == col)
    }

    /// The row's shape. `wanted` says of a new shape's keys (as maps spell them) which shall become slots.
    pub fn shape(&mut self, row: usize, mut wanted: impl FnMut(&str) -> bool) -> Result<usize> {
        let Some(map) = self.map else { return Ok(0) };
        let (shape, new) = self.shapes.of(&map, row);
        if new {
            let mut found = Shape::default();
            let entries = map.range(row);
            for entry in entries.clone().filter(|entry| !is_ours(map.key(*entry))) {
                let key = map.key(entry);
                if wanted(key) {
                    self.slot(key)?;
                }
                if self.feeds {
                    found.fed.by(key);
                }
            }
            found.places.resize(self.slots.len(), None);
            for entry in entries.clone() {
                if let Some(slot) = self.by_key.get(map.key(entry)) {
                    found.places[*slot] = Some((entry - entries.start) as u32);
                }
            }
            self.of_shapes.push(found);
        }
        Ok(shape)
    }

    /// The columns that entries of the map feed.
    pub fn fed(&self, shape: usize) -> Fed {
        self.of_shapes.get(shape).map_or(Fed::default(), |shape| shape.fed)
    }

    /// The entry of a slot's key within its row.
    pub fn place(&self, shape: usize, slot: usize) -> Option<usize> {
        self.of_shapes.get(shape)?.places.get(slot).copied().flatten().map(|place| place as usize)
    }

    /// The record's attribute.
    pub fn record(&self, row: usize, shape: usize, slot: usize) -> Option<Value<'a>> {
        if let (Some(map), Some(place)) = (self.map, self.place(shape, slot)) {
            let entry = map.range(row).start + place;
            return Some(if map.is_typed() { map.value(entry) } else { self.untyped(map, row, entry) });
        }
        let column = &self.columns[self.slots[slot].home?];
        match self.is_home(row, shape, column.col) {
            true => column.cells.value(row, self.arena),
            false => None,
        }
    }

    /// The resource's attribute, by its key as contexts spell it.
    pub fn resource(&self, row: usize, shape: usize, key: &str) -> Option<Value<'a>> {
        let context = self.contexts.get(row);
        if let Some(value) = context.get(key) {
            return Some(value);
        }
        if key == reserved::ENVIRONMENT {
            return self.labels?.find(row, reserved::ENV).map(Value::string);
        }
        let (_, col, _) = CANONICAL.iter().find(|(name, _, resource)| *resource && *name == key)?;
        if self.fed(shape).has(*col) || context.fed.has(*col) {
            return None;
        }
        match self.parts.text(*col).ok()?.get(row) {
            "" => None,
            text => Some(Value::string(text)),
        }
    }

    /// Whether a column is some attribute's only home in this row, if it holds anything.
    pub fn is_home(&self, row: usize, shape: usize, col: Col) -> bool {
        if !self.feeds {
            return false;
        }
        let (fed, context) = (self.fed(shape), self.contexts.get(row));
        let is_fed = |col| fed.has(col) || context.fed.has(col);
        let of_url = URL_PARTS.contains(&col) && (is_fed(Col::HttpUrl) || !self.url.get(row).is_empty());
        !is_fed(col) && !of_url
    }

    /// What a column holds, as the attribute that it restores.
    pub fn cell_value(&self, row: usize, col: Col) -> Option<Value<'a>> {
        Cells::of(self.parts, col).ok()?.value(row, self.arena)
    }

    /// The number of the row's span kind; 0 for what is no span.
    pub fn span_kind(&self, row: usize) -> i64 {
        let word = self.labels.and_then(|labels| labels.find(row, reserved::SPAN_KIND)).unwrap_or("");
        reserved::SPAN_KINDS.iter().position(|known| *known == word).unwrap_or(0) as i64
    }

    /// A note of ours in the row's map.
    pub fn note(&self, row: usize, key: &str) -> Option<&'a str> {
        self.map?.find(row, key)
    }

    /// A value of a plain map, whose kinds stand in an entry of ours.
    fn untyped(&self, map: Map<'a>, row: usize, entry: usize) -> Value<'a> {
        let (key, types) = (map.key(entry), map.find(row, TYPES_KEY).unwrap_or(""));
        let kind = types_of(types).find(|(name, _)| name == key).map_or(1, |(_, kind)| kind);
        Value { kind: kind_of(kind), text: map.text(entry) }
    }

    /// All values of a header, joined with `;`.
    pub fn metadata(&self, pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next()?;
        let more: Vec<&str> = values.collect();
        if more.is_empty() { Some(first) } else { Some(self.keep(format!("{first};{}", more.join(";")))) }
    }

    pub fn url(&self, row: usize) -> &'a str {
        self.url.get(row)
    }

    pub fn labels(&self) -> Option<Map<'a>> {
        self.labels
    }

    pub fn context(&self, row: usize) -> &Context<'a> {
        self.contexts.get(row)
    }

    pub fn keep(&self, text: String) -> &'a str {
        kept(self.arena, text)
    }
}

/// A user's key as maps and contexts spell it.
pub fn stored(key: &str) -> Cow<'_, str> {
    if key.starts_with('$') { format!("${key}").into() } else { key.into() }
}

/// Whether a map's key is one of ours.
pub fn is_ours(key: &str) -> bool {
    key.starts_with('$') && !key.starts_with("$$")
}
