//! Values of attributes as columns of terms.

use std::{borrow::Cow, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, Field};
use jiter::JsonValue;

use crate::{
    batch::{Batch, record_batch},
    decode::columns::Terms,
    kernels::{
        attribute::Lookup,
        columns::{Parts, Text},
        edit::entries::{Map, Shapes},
    },
    schema::{Col, dictionary},
};

type Result<T> = std::result::Result<T, ArrowError>;

/// What a place in the context begins with.
const CONTEXT: &str = "context.";

/// One column per list of places, each the row's text at the first place that it has: an attribute's key, or `context.`
/// and a dotted path. Empty where it has none.
pub fn terms(batch: &Batch, wanted: &[Vec<String>]) -> Result<RecordBatch> {
    let parts = Parts::of(batch);
    let mut places: Vec<Vec<Place>> = Vec::with_capacity(wanted.len());
    for list in wanted {
        places.push(list.iter().map(|place| Place::of(&parts, place)).collect::<Result<_>>()?);
    }
    let keys: Vec<&str> = places.iter().flatten().map(Place::key).collect();
    let mut maps = [Col::Attributes, Col::Labels]
        .into_iter()
        .filter_map(|col| Some(Known::of(col, parts.get(col)?)))
        .collect::<Result<Vec<_>>>()?;
    for map in &mut maps {
        map.survey(parts.rows, &keys);
    }
    let (mut fields, mut columns): (Vec<_>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    let mut number = 0;
    for (column, places) in places.iter().enumerate() {
        let mut terms = Terms::default();
        let first = number;
        number += places.len();
        let known = |at: usize| maps.iter().any(|map| map.has(first + at));
        let told: Vec<(usize, &Place)> =
            places.iter().enumerate().filter(|(at, place)| known(*at) || !place.is_in_maps_only()).collect();
        for row in 0..if told.is_empty() { 0 } else { parts.rows } {
            let text = told
                .iter()
                .find_map(|(at, place)| place.get(row, || maps.iter().find_map(|map| map.text(row, first + at))));
            if let Some(text) = text {
                let key = terms.term(text.as_bytes());
                terms.set(row, key);
            }
        }
        fields.push(Arc::new(Field::new(column.to_string(), dictionary(), false)));
        columns.push(terms.finish(parts.rows)?);
    }
    record_batch(fields, columns, parts.rows)
}

/// Where the wanted keys are in a map: worked out once for rows of the same keys.
struct Known<'a> {
    map: Map<'a>,
    /// Per row.
    shapes: Vec<u32>,
    /// Per shape and wanted key: which entry of the row.
    places: Vec<Vec<Option<u32>>>,
}

impl<'a> Known<'a> {
    fn of(col: Col, array: &'a ArrayRef) -> Result<Known<'a>> {
        Ok(Known { map: Map::of(col.name(), array)?, shapes: Vec::new(), places: Vec::new() })
    }

    fn survey(&mut self, rows: usize, keys: &[&str]) {
        let mut shapes = Shapes::default();
        for row in 0..rows {
            let (shape, new) = shapes.of(&self.map, row);
            if new {
                let mut entries = self.map.range(row).map(|entry| self.map.key(entry));
                let entries: Vec<&str> = entries.by_ref().collect();
                let place = |key: &&str| entries.iter().position(|known| known == key).map(|at| at as u32);
                self.places.push(keys.iter().map(place).collect());
            }
            self.shapes.push(shape as u32);
        }
    }

    fn has(&self, key: usize) -> bool {
        self.places.iter().any(|places| places[key].is_some())
    }

    fn text(&self, row: usize, key: usize) -> Option<&'a str> {
        let at = self.places[self.shapes[row] as usize][key]?;
        Some(self.map.text(self.map.range(row).start + at as usize))
    }
}

enum Place<'a> {
    Attribute(Lookup<'a>),
    /// By the dictionary key of `context`.
    Context(Text<'a>, Vec<Option<String>>),
}

impl<'a> Place<'a> {
    fn of(parts: &'a Parts, place: &'a str) -> Result<Place<'a>> {
        let Some(path) = place.strip_prefix(CONTEXT) else { return Lookup::of(parts, place).map(Place::Attribute) };
        let text = parts.text(Col::Context)?;
        let found = match text {
            Text::Terms { values, .. } => values.iter().map(|context| at(context.unwrap_or(""), path)).collect(),
            _ => Vec::new(),
        };
        Ok(Place::Context(text, found))
    }

    /// As maps spell it; no map has what is in the context.
    fn key(&self) -> &str {
        match self {
            Place::Attribute(lookup) => lookup.key(),
            Place::Context(..) => CONTEXT,
        }
    }

    fn is_in_maps_only(&self) -> bool {
        match self {
            Place::Attribute(lookup) => lookup.is_in_maps_only(),
            Place::Context(_, found) => found.iter().all(Option::is_none),
        }
    }

    fn get(&self, row: usize, in_maps: impl FnOnce() -> Option<&'a str>) -> Option<Cow<'_, str>> {
        match self {
            Place::Attribute(lookup) => lookup.get_besides(row, in_maps),
            Place::Context(Text::Terms { column, .. }, found) => {
                found[column.key(row)?].as_deref().filter(|text| !text.is_empty()).map(Cow::Borrowed)
            }
            Place::Context(..) => None,
        }
    }
}

/// The text at a dotted path; numbers and booleans as JSON has them.
fn at(context: &str, path: &str) -> Option<String> {
    // Most contexts do not name the keys: that is seen without reading them.
    if !path.split('.').all(|key| context.contains(key)) {
        return None;
    }
    let mut value = JsonValue::parse(context.as_bytes(), true).ok()?;
    for key in path.split('.') {
        let JsonValue::Object(object) = value else { return None };
        value = object.iter().find(|(name, _)| name == key)?.1.clone();
    }
    match value {
        JsonValue::Str(text) => Some(text.to_string()),
        JsonValue::Int(number) => Some(number.to_string()),
        JsonValue::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
