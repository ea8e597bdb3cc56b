//! Columns as any store hands them back, read row by row.
//!
//! In flight a column has one type; ClickHouse, DuckDB, pyarrow and Parquet give others back for the same values
//! (plain, large, view or dictionary text, text maps for typed ones, other units of time, text for ids). Each column
//! is looked at once and becomes one of few readers here. What is null reads as absent.

use std::borrow::Cow;

use arrow_array::{
    Array, ArrayRef, BooleanArray, LargeStringArray, StringArray, StringViewArray, StructArray,
    cast::AsArray,
    types::{
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};

use super::EncodeError;
use crate::{
    batch::Batch,
    encode::store::{TYPES_KEY, types_of},
    schema::{Col, ValueKind},
};

type Result<T> = std::result::Result<T, EncodeError>;

fn unfit(name: &str, array: &dyn Array, wanted: &str) -> EncodeError {
    EncodeError::new(format!("column {name} must hold {wanted}, not {}", array.data_type()))
}

/// Text of any Arrow layout.
pub enum Text<'a> {
    Absent,
    Utf8(&'a StringArray),
    Large(&'a LargeStringArray),
    View(&'a StringViewArray),
    Dictionary { keys: Vec<usize>, nulls: Option<NullBuffer>, values: Box<Text<'a>> },
}

impl<'a> Text<'a> {
    pub fn column(batch: &'a Batch, col: Col) -> Result<Text<'a>> {
        batch.column(col).map_or(Ok(Text::Absent), |array| Text::of(col.name(), array))
    }

    pub fn of(name: &str, array: &'a ArrayRef) -> Result<Text<'a>> {
        Ok(match array.data_type() {
            DataType::Utf8 => Text::Utf8(array.as_string()),
            DataType::LargeUtf8 => Text::Large(array.as_string()),
            DataType::Utf8View => Text::View(array.as_string_view()),
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
            Text::Utf8(array) if set(*array, row) => array.value(row),
            Text::Large(array) if set(*array, row) => array.value(row),
            Text::View(array) if set(*array, row) => array.value(row),
            Text::Dictionary { keys, nulls, values } if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) => {
                keys.get(row).map_or("", |key| values.get(*key))
            }
            _ => "",
        }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Text::Absent)
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

    fn of(name: &str, array: &ArrayRef) -> Result<Numbers> {
        macro_rules! widened {
            ($type:ty, $scale:expr) => {
                array.as_primitive::<$type>().values().iter().map(|v| (*v as i64).saturating_mul($scale)).collect()
            };
        }
        let values: ScalarBuffer<i64> = match array.data_type() {
            DataType::Int64 => array.as_primitive::<Int64Type>().values().clone(),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => array.as_primitive::<TimestampNanosecondType>().values().clone(),
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
            DataType::Null => return Ok(Numbers { values: vec![0; array.len()].into(), nulls: Some(NullBuffer::new_null(array.len())) }),
            _ => return Err(unfit(name, array, "whole numbers or times")),
        };
        Ok(Numbers { values, nulls: array.nulls().cloned() })
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

    fn of(name: &str, array: &ArrayRef) -> Result<Doubles> {
        let values: ScalarBuffer<f64> = match array.data_type() {
            DataType::Float64 => array.as_primitive::<Float64Type>().values().clone(),
            DataType::Float32 => array.as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v)).collect(),
            DataType::Null => return Ok(Doubles { values: vec![0.0; array.len()].into(), nulls: Some(NullBuffer::new_null(array.len())) }),
            _ => return Err(unfit(name, array, "floating-point numbers")),
        };
        Ok(Doubles { values, nulls: array.nulls().cloned() })
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

/// One entry of a row's map: `kind` is a [`ValueKind`], whatever the map's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// As stored: the user's own `$` is still doubled.
    pub key: &'a str,
    pub kind: u8,
    pub text: &'a str,
}

/// `attributes` or `labels`.
pub struct MapColumn<'a> {
    offsets: OffsetBuffer<i64>,
    nulls: Option<NullBuffer>,
    keys: Text<'a>,
    /// Present in flight; a text map tells the kinds by `$otlp.types`.
    kinds: Option<ScalarBuffer<u8>>,
    texts: Text<'a>,
}

impl<'a> MapColumn<'a> {
    pub fn column(batch: &'a Batch, col: Col) -> Result<Option<MapColumn<'a>>> {
        batch.column(col).map(|array| MapColumn::of(col.name(), array)).transpose().map(Option::flatten)
    }

    fn of(name: &str, array: &'a ArrayRef) -> Result<Option<MapColumn<'a>>> {
        let wide = |offsets: &OffsetBuffer<i32>| OffsetBuffer::new(offsets.iter().map(|o| i64::from(*o)).collect());
        let (offsets, entries): (_, &StructArray) = match array.data_type() {
            DataType::Null => return Ok(None),
            DataType::Map(_, _) => (wide(array.as_map().offsets()), array.as_map().entries()),
            // Some engines hand a map back as the list of its entries.
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                (wide(list.offsets()), list.values().as_struct_opt().ok_or_else(|| unfit(name, array, "a map"))?)
            }
            _ => return Err(unfit(name, array, "a map")),
        };
        let [keys, values] = entries.columns() else { return Err(unfit(name, array, "a map")) };
        let (kinds, texts) = match values.as_struct_opt() {
            None => (None, values),
            Some(values) => {
                let kinds = values.column_by_name("kind").and_then(|kinds| kinds.as_primitive_opt::<UInt8Type>());
                let kinds = kinds.ok_or_else(|| unfit(name, array, "a map to kind and text"))?.values().clone();
                (Some(kinds), values.column_by_name("text").ok_or_else(|| unfit(name, array, "a map to kind and text"))?)
            }
        };
        let (keys, texts) = (Text::of(name, keys)?, Text::of(name, texts)?);
        Ok(Some(MapColumn { offsets, nulls: array.nulls().cloned(), keys, kinds, texts }))
    }

    /// The row's entries, `$otlp.types` applied and left out, into `entries`.
    pub fn read<'s>(&'s self, row: usize, entries: &mut Vec<Entry<'s>>) {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return;
        }
        let first = entries.len();
        let mut types = "";
        for at in self.offsets[row] as usize..self.offsets[row + 1] as usize {
            let (key, text) = (self.keys.get(at), self.texts.get(at));
            if key == TYPES_KEY {
                types = text;
                continue;
            }
            let kind = self.kinds.as_ref().map_or(ValueKind::String as u8, |kinds| kinds[at]);
            entries.push(Entry { key, kind, text });
        }
        if types.is_empty() {
            return;
        }
        // The pairs stand in the entries' order: mostly the next one is the one.
        let mut from = first;
        for (key, kind) in types_of(types) {
            let count = entries.len();
            let found = (from..count).chain(first..from).find(|at| entries[*at].key == key);
            if let Some(at) = found {
                entries[at].kind = kind;
                from = at + 1;
            }
        }
    }
}

/// A key as the user wrote it: the doubled `$` halved.
pub fn own_key(key: &str) -> Cow<'_, str> {
    match key.strip_prefix("$$") {
        Some(rest) => Cow::Owned(format!("${rest}")),
        None => Cow::Borrowed(key),
    }
}
