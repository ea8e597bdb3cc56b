//! Columns as any store hands them back, read row by row.
//!
//! In flight a column has one type; ClickHouse, DuckDB, pyarrow and Parquet give others back for the same values
//! (plain, large, view or dictionary text, bytes for text, text maps for typed ones, other units of time). Each column
//! is looked at once and becomes one of few readers here. What is null reads as absent.

use std::hash::BuildHasher;

use arrow_array::{
    Array, ArrayRef, BooleanArray, GenericStringArray, LargeStringArray, OffsetSizeTrait, StringArray, StringViewArray,
    cast::AsArray,
    types::{
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};
use hashbrown::HashTable;

use super::{EncodeError, Result};
use crate::{
    batch::Batch,
    encode::store::{TYPES_KEY, types_of},
    schema::{Col, ValueKind},
};

fn unfit(name: &'static str, array: &dyn Array, wanted: &str) -> EncodeError {
    EncodeError::new("unexpected_type", name, format!("must hold {wanted}, not {}", array.data_type()))
}

/// Text of any Arrow layout.
pub enum Text {
    Absent,
    Utf8(StringArray),
    Large(LargeStringArray),
    View(StringViewArray),
    Dictionary { keys: Vec<usize>, nulls: Option<NullBuffer>, values: Box<Text> },
}

impl Text {
    pub fn column(batch: &Batch, col: Col) -> Result<Text> {
        batch.column(col).map_or(Ok(Text::Absent), |array| Text::of(col.name(), array))
    }

    fn of(name: &'static str, array: &ArrayRef) -> Result<Text> {
        Ok(match array.data_type() {
            DataType::Utf8 => Text::Utf8(array.as_string().clone()),
            DataType::LargeUtf8 => Text::Large(array.as_string().clone()),
            DataType::Utf8View => Text::View(array.as_string_view().clone()),
            DataType::Binary => Text::Utf8(checked::<i32>(name, array)?),
            DataType::LargeBinary => Text::Large(checked::<i64>(name, array)?),
            DataType::BinaryView => match array.as_binary_view().clone().to_string_view() {
                Ok(array) => Text::View(array),
                Err(error) => return Err(EncodeError::new("malformed", name, error.to_string())),
            },
            DataType::Null => Text::Absent,
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                let values = Box::new(Text::of(name, dictionary.values())?);
                let keys = if dictionary.values().is_empty() { Vec::new() } else { dictionary.normalized_keys() };
                Text::Dictionary { keys, nulls: dictionary.keys().nulls().cloned(), values }
            }
            _ => return Err(unfit(name, array, "text")),
        })
    }

    /// The row's text; empty when absent.
    pub fn get(&self, row: usize) -> &str {
        fn set<A: Array>(array: &A, row: usize) -> bool {
            array.nulls().is_none_or(|nulls| nulls.is_valid(row))
        }
        match self {
            Text::Utf8(array) if set(array, row) => array.value(row),
            Text::Large(array) if set(array, row) => array.value(row),
            Text::View(array) if set(array, row) => array.value(row),
            Text::Dictionary { keys, nulls, values } if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) => {
                keys.get(row).map_or("", |key| values.get(*key))
            }
            _ => "",
        }
    }

    /// A number for each row's text, 0 for the empty one. Equal numbers mean equal texts.
    pub fn terms(&self, rows: usize) -> Vec<u32> {
        match self {
            Text::Absent => vec![0; rows],
            Text::Dictionary { keys, .. } => {
                let term = |row| if self.get(row).is_empty() { 0 } else { keys[row] as u32 + 1 };
                (0..rows).map(term).collect()
            }
            _ => {
                let mut terms = Terms::default();
                (0..rows).map(|row| terms.term(self.get(row))).collect()
            }
        }
    }
}

/// Bytes that must be text.
fn checked<O: OffsetSizeTrait>(name: &'static str, array: &ArrayRef) -> Result<GenericStringArray<O>> {
    GenericStringArray::try_from_binary(array.as_binary::<O>().clone())
        .map_err(|error| EncodeError::new("malformed", name, error.to_string()))
}

/// Distinct texts, numbered from 1 as they come; the empty text is 0.
#[derive(Default)]
pub struct Terms<'a> {
    texts: Vec<&'a str>,
    table: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    last: u32,
}

impl<'a> Terms<'a> {
    pub fn term(&mut self, text: &'a str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if self.last > 0 && self.get(self.last) == text {
            return self.last;
        }
        let (texts, hasher) = (&mut self.texts, &self.hasher);
        let hash = hasher.hash_one(text);
        self.last = match self.table.find(hash, |term| texts[*term as usize - 1] == text) {
            Some(term) => *term,
            None => {
                texts.push(text);
                let term = texts.len() as u32;
                self.table.insert_unique(hash, term, |term| hasher.hash_one(texts[*term as usize - 1]));
                term
            }
        };
        self.last
    }

    pub fn get(&self, term: u32) -> &'a str {
        if term == 0 { "" } else { self.texts[term as usize - 1] }
    }
}

/// Whole numbers and times.
pub struct Numbers {
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
}

impl Numbers {
    /// `None` reads as a column of nulls. Times become nanoseconds.
    pub fn column(batch: &Batch, col: Col) -> Result<Option<Numbers>> {
        batch.column(col).map(|array| Numbers::of(col.name(), array)).transpose()
    }

    fn of(name: &'static str, array: &ArrayRef) -> Result<Numbers> {
        macro_rules! widened {
            ($type:ty, $scale:expr) => {
                array.as_primitive::<$type>().values().iter().map(|v| (*v as i64).saturating_mul($scale)).collect()
            };
        }
        let values: ScalarBuffer<i64> = match array.data_type() {
            DataType::Int64 => array.as_primitive::<Int64Type>().values().clone(),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                array.as_primitive::<TimestampNanosecondType>().values().clone()
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => widened!(TimestampMicrosecondType, 1_000),
            DataType::Timestamp(TimeUnit::Millisecond, _) => widened!(TimestampMillisecondType, 1_000_000),
            DataType::Timestamp(TimeUnit::Second, _) => widened!(TimestampSecondType, 1_000_000_000),
            DataType::Int32 => widened!(Int32Type, 1),
            DataType::Int16 => widened!(Int16Type, 1),
            DataType::Int8 => widened!(Int8Type, 1),
            DataType::UInt64 => widened!(UInt64Type, 1),
            DataType::UInt32 => widened!(UInt32Type, 1),
            DataType::UInt16 => widened!(UInt16Type, 1),
            DataType::UInt8 => widened!(UInt8Type, 1),
            DataType::Null => vec![0; array.len()].into(),
            _ => return Err(unfit(name, array, "whole numbers or times")),
        };
        Ok(Numbers { values, nulls: array.logical_nulls() })
    }

    pub fn get(&self, row: usize) -> Option<i64> {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| self.values[row])
    }
}

/// Floating-point numbers.
pub struct Doubles {
    values: ScalarBuffer<f64>,
    nulls: Option<NullBuffer>,
}

impl Doubles {
    pub fn column(batch: &Batch, col: Col) -> Result<Option<Doubles>> {
        batch.column(col).map(|array| Doubles::of(col.name(), array)).transpose()
    }

    fn of(name: &'static str, array: &ArrayRef) -> Result<Doubles> {
        let values: ScalarBuffer<f64> = match array.data_type() {
            DataType::Float64 => array.as_primitive::<Float64Type>().values().clone(),
            DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v)).collect(),
            DataType::Null => vec![0.0; array.len()].into(),
            _ => return Err(unfit(name, array, "floating-point numbers")),
        };
        Ok(Doubles { values, nulls: array.logical_nulls() })
    }

    pub fn get(&self, row: usize) -> Option<f64> {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then(|| self.values[row])
    }
}

/// A row's value of a column that may be absent altogether.
pub trait Get {
    type Value;
    fn get(&self, row: usize) -> Option<Self::Value>;
}

impl Get for Option<Numbers> {
    type Value = i64;
    fn get(&self, row: usize) -> Option<i64> {
        self.as_ref()?.get(row)
    }
}

impl Get for Option<Doubles> {
    type Value = f64;
    fn get(&self, row: usize) -> Option<f64> {
        self.as_ref()?.get(row)
    }
}

/// Truth values, as booleans or numbers.
pub fn booleans(batch: &Batch, col: Col) -> Result<Option<BooleanArray>> {
    let Some(array) = batch.column(col) else { return Ok(None) };
    if let Some(array) = array.as_boolean_opt() {
        return Ok(Some(array.clone()));
    }
    let numbers = Numbers::of(col.name(), array)?;
    Ok(Some((0..array.len()).map(|row| numbers.get(row).map(|number| number != 0)).collect()))
}

/// One of the user's entries of a row's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// As stored: a leading `$` is still doubled.
    pub key: &'a str,
    /// A [`ValueKind`], whatever the map's own form.
    pub kind: u8,
    pub text: &'a str,
}

/// `attributes` or `labels`.
pub struct MapColumn {
    offsets: OffsetBuffer<i64>,
    nulls: Option<NullBuffer>,
    keys: Text,
    /// Present in flight; a text map tells the kinds by `$otlp.types`.
    kinds: Option<ScalarBuffer<u8>>,
    texts: Text,
}

impl MapColumn {
    pub fn column(batch: &Batch, col: Col) -> Result<Option<MapColumn>> {
        batch.column(col).map(|array| MapColumn::of(col.name(), array)).transpose().map(Option::flatten)
    }

    fn of(name: &'static str, array: &ArrayRef) -> Result<Option<MapColumn>> {
        let wide = |offsets: &OffsetBuffer<i32>| OffsetBuffer::new(offsets.iter().map(|o| i64::from(*o)).collect());
        let (offsets, entries) = match array.data_type() {
            DataType::Null => return Ok(None),
            DataType::Map(_, _) => (wide(array.as_map().offsets()), Some(array.as_map().entries())),
            // Some engines hand a map back as the list of its entries.
            DataType::List(_) => {
                (wide(array.as_list::<i32>().offsets()), array.as_list::<i32>().values().as_struct_opt())
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                (list.offsets().clone(), list.values().as_struct_opt())
            }
            _ => (OffsetBuffer::new_empty(), None),
        };
        let Some([keys, values]) = entries.map(|entries| entries.columns()) else {
            return Err(unfit(name, array, "a map"));
        };
        let (kinds, texts) = match values.as_struct_opt() {
            None => (None, values),
            Some(values) => {
                let kinds = values.column_by_name("kind").and_then(|kinds| kinds.as_primitive_opt::<UInt8Type>());
                match (kinds, values.column_by_name("text")) {
                    (Some(kinds), Some(texts)) => (Some(kinds.values().clone()), texts),
                    _ => return Err(unfit(name, array, "a map to kind and text")),
                }
            }
        };
        let (keys, texts) = (Text::of(name, keys)?, Text::of(name, texts)?);
        Ok(Some(MapColumn { offsets, nulls: array.nulls().cloned(), keys, kinds, texts }))
    }

    /// The row's entries: the user's own, each with its kind, and ours, which begin with a single `$`.
    pub fn read<'s>(&'s self, row: usize, entries: &mut Vec<Entry<'s>>, ours: &mut Vec<(&'s str, &'s str)>) {
        entries.clear();
        ours.clear();
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return;
        }
        let mut types = "";
        for at in self.offsets[row] as usize..self.offsets[row + 1] as usize {
            let (key, text) = (self.keys.get(at), self.texts.get(at));
            if !is_ours(key) {
                let kind = self.kinds.as_ref().map_or(ValueKind::String as u8, |kinds| kinds[at]);
                entries.push(Entry { key, kind, text });
            } else if key == TYPES_KEY {
                types = text;
            } else {
                ours.push((key, text));
            }
        }
        // The pairs stand in the entries' order: mostly the next one is the one.
        let mut from = 0;
        for (key, kind) in types_of(types).filter(|(key, _)| !is_ours(key)) {
            let found = (from..entries.len()).chain(0..from).find(|at| entries[*at].key == key);
            if let Some(at) = found {
                entries[at].kind = kind;
                from = at + 1;
            }
        }
    }
}

fn is_ours(key: &str) -> bool {
    key.starts_with('$') && !key.starts_with("$$")
}

/// A key as the user wrote it: the doubled `$` halved.
pub fn own_key(key: &str) -> &str {
    if key.starts_with("$$") { &key[1..] } else { key }
}
