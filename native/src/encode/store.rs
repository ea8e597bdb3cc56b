//! The one form in which stores keep `attributes`: text to text, types beside them.
//!
//! A store's map holds text only. So that 42 and "42" stay two things, the kinds of a row that are not text are told by
//! one more entry, `$otlp.types`, as `key=kind` pairs joined by commas, such as `vip=2,retries=3` (numbers of
//! [`ValueKind`]; `%`, `,` and `=` within a key are percent-encoded). It is the same text for every row that has the
//! same keys, so it compresses away. Rows of text alone have no such entry.

use std::{borrow::Cow, sync::Arc};

use arrow_array::{
    Array, ArrayRef, MapArray, StringArray, StructArray, builder::StringBuilder, cast::AsArray, types::UInt8Type,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field};
use hashbrown::HashMap;

use super::texts::Texts;
use crate::{
    batch::{Batch, record_batch},
    schema::{Col, ValueKind},
};

/// The reserved key that tells the kinds.
pub const TYPES_KEY: &str = "$otlp.types";

/// The batch with `attributes` as stores keep them; other columns and the payloads are shared, not copied.
pub fn store_attributes(batch: &Batch) -> Result<Batch, ArrowError> {
    let Some(array) = batch.column(Col::Attributes) else { return Ok(batch.clone()) };
    let text = typed_map_to_text(array)?;
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, column) in batch.columns.schema().fields().iter().zip(batch.columns.columns()) {
        let replaced = field.name() == Col::Attributes.name();
        let data_type = if replaced { text.data_type().clone() } else { field.data_type().clone() };
        fields.push(Arc::new(Field::new(field.name(), data_type, field.is_nullable())));
        arrays.push(if replaced { text.clone() } else { column.clone() });
    }
    Ok(batch.with_columns(record_batch(fields, arrays, batch.rows())?, true))
}

/// `map<utf8, struct<kind, text>>` → `map<utf8, utf8>`, entries in order, `$otlp.types` last where a row needs it.
/// A map that is text already comes back as it is. Nothing is copied when every value is text.
pub fn typed_map_to_text(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let map = array.as_map_opt().ok_or_else(|| ArrowError::InvalidArgumentError("attributes must be a map".into()))?;
    if matches!(map.values().data_type(), DataType::Utf8) {
        return Ok(array.clone());
    }
    let typed = TypedMap::of(map)?;
    let (from, to) = (map.value_offsets()[0] as usize, map.value_offsets()[map.len()] as usize);
    if typed.kinds[from..to].iter().all(|kind| *kind == ValueKind::String as u8) {
        return text_map(map.offsets().clone(), typed.keys.clone(), typed.texts.clone());
    }
    let (mut keys, mut texts) = (StringBuilder::new(), StringBuilder::new());
    let (mut lengths, mut types) = (Vec::with_capacity(map.len()), Types::default());
    for row in 0..map.len() {
        let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
        for entry in from..to {
            keys.append_value(typed.keys.value(entry));
            texts.append_value(typed.texts.value(entry));
        }
        let told = types.of(&typed, from, to);
        if !told.is_empty() {
            keys.append_value(TYPES_KEY);
            texts.append_value(told);
        }
        lengths.push(to - from + usize::from(!told.is_empty()));
    }
    text_map(OffsetBuffer::from_lengths(lengths), keys.finish(), texts.finish())
}

fn text_map(offsets: OffsetBuffer<i32>, keys: StringArray, texts: StringArray) -> Result<ArrayRef, ArrowError> {
    let DataType::Map(entries, _) = Col::Labels.data_type() else { unreachable!("labels are a map of text") };
    let DataType::Struct(fields) = entries.data_type() else { unreachable!("a map's entries are a struct") };
    let pairs = StructArray::try_new(fields.clone(), vec![Arc::new(keys), Arc::new(texts)], None)?;
    Ok(Arc::new(MapArray::try_new(entries, offsets, pairs, None, false)?))
}

/// What `$otlp.types` says of every row of a typed map: the distinct texts (the first is empty: no such entry), and which
/// of them each row has. `None` where all values are text, or the map is not typed.
pub fn types_by_row(map: &MapArray) -> Option<(StringArray, Vec<u32>)> {
    let typed = TypedMap::of(map).ok()?;
    let (from, to) = (map.value_offsets()[0] as usize, map.value_offsets()[map.len()] as usize);
    if typed.kinds[from..to].iter().all(|kind| *kind == ValueKind::String as u8) {
        return None;
    }
    let (mut types, mut numbers) = (Types::default(), HashMap::<String, u32>::from([(String::new(), 0)]));
    let mut last = (String::new(), 0u32);
    let mut rows = Vec::with_capacity(map.len());
    for row in 0..map.len() {
        let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
        let told = types.of(&typed, from, to);
        if last.0 != told {
            let next = numbers.len() as u32;
            last = (told.to_owned(), *numbers.entry_ref(told).or_insert(next));
        }
        rows.push(last.1);
    }
    let mut texts = vec![""; numbers.len()];
    numbers.iter().for_each(|(text, number)| texts[*number as usize] = text);
    Some((StringArray::from(texts), rows))
}

/// A map column as stores keep it, not copied.
pub struct StoredMap<'a> {
    offsets: &'a [i32],
    pub keys: Texts<'a>,
    pub values: Texts<'a>,
    /// Distinct texts of `$otlp.types`, and the one of each row; the empty one means no such entry.
    types: Option<(StringArray, Vec<u32>)>,
}

impl<'a> StoredMap<'a> {
    pub fn of(array: &'a ArrayRef) -> Option<StoredMap<'a>> {
        let map: &MapArray = array.as_map_opt()?;
        let values = match map.values().as_struct_opt() {
            Some(typed) => typed.column_by_name("text")?.as_string_opt::<i32>()?,
            None => map.values().as_string_opt::<i32>()?,
        };
        let keys = map.keys().as_string_opt::<i32>()?;
        let (keys, values) = (Texts::plain(keys), Texts::plain(values));
        Some(StoredMap { offsets: map.value_offsets(), keys, values, types: types_by_row(map) })
    }

    #[inline]
    pub fn entries(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// The text of the row's `$otlp.types`, if it has one.
    #[inline]
    pub fn types(&self, row: usize) -> Option<&[u8]> {
        let (texts, rows) = self.types.as_ref()?;
        match rows[row] {
            0 => None,
            number => Some(texts.value(number as usize).as_bytes()),
        }
    }
}

/// The three arrays of a typed map's entries.
struct TypedMap<'a> {
    keys: &'a StringArray,
    kinds: &'a [u8],
    texts: &'a StringArray,
}

impl<'a> TypedMap<'a> {
    fn of(map: &'a MapArray) -> Result<TypedMap<'a>, ArrowError> {
        let parts = || {
            let values = map.values().as_struct_opt()?;
            let kinds = values.column_by_name("kind")?.as_primitive_opt::<UInt8Type>()?.values();
            let texts = values.column_by_name("text")?.as_string_opt::<i32>()?;
            Some(TypedMap { keys: map.keys().as_string_opt::<i32>()?, kinds, texts })
        };
        parts().ok_or_else(|| {
            ArrowError::InvalidArgumentError(format!("attributes must be {}", Col::Attributes.data_type()))
        })
    }
}

/// The text of the last row, kept because the next row's is nearly always the same.
#[derive(Default)]
struct Types {
    /// The pairs that `text` tells, keys joined by an impossible character.
    pairs: Vec<u8>,
    previous: Vec<u8>,
    text: String,
}

impl Types {
    fn of(&mut self, map: &TypedMap, from: usize, to: usize) -> &str {
        self.pairs.clear();
        for entry in from..to {
            if map.kinds[entry] != ValueKind::String as u8 {
                self.pairs.extend_from_slice(map.keys.value(entry).as_bytes());
                // No UTF-8 text holds this byte, so it parts keys from kinds and pairs from pairs.
                self.pairs.extend_from_slice(&[0xff, map.kinds[entry]]);
            }
        }
        if self.pairs != self.previous {
            self.text.clear();
            for entry in (from..to).filter(|entry| map.kinds[*entry] != ValueKind::String as u8) {
                if !self.text.is_empty() {
                    self.text.push(',');
                }
                self.text.push_str(&escaped(map.keys.value(entry)));
                self.text.push('=');
                self.text.push(char::from(b'0' + map.kinds[entry]));
            }
            std::mem::swap(&mut self.pairs, &mut self.previous);
        }
        &self.text
    }
}

/// A key as `$otlp.types` spells it.
pub fn escaped(key: &str) -> Cow<'_, str> {
    if !key.contains(['%', ',', '=']) {
        return Cow::Borrowed(key);
    }
    Cow::Owned(key.replace('%', "%25").replace(',', "%2C").replace('=', "%3D"))
}

/// The kinds that a `$otlp.types` text tells; a pair that is none is passed over.
pub fn types_of(text: &str) -> impl Iterator<Item = (Cow<'_, str>, u8)> {
    text.split(',').filter_map(|pair| {
        let (key, kind) = pair.rsplit_once('=')?;
        let key = match key.contains('%') {
            false => Cow::Borrowed(key),
            true => Cow::Owned(key.replace("%3D", "=").replace("%2C", ",").replace("%25", "%")),
        };
        Some((key, kind.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::UInt8Array;

    use super::*;
    use crate::schema::any_fields;

    fn typed(rows: &[&[(&str, u8, &str)]]) -> ArrayRef {
        let all: Vec<_> = rows.iter().flat_map(|row| row.iter()).collect();
        let keys = StringArray::from_iter_values(all.iter().map(|e| e.0));
        let kinds = UInt8Array::from_iter_values(all.iter().map(|e| e.1));
        let texts = StringArray::from_iter_values(all.iter().map(|e| e.2));
        let values = StructArray::new(any_fields(), vec![Arc::new(kinds), Arc::new(texts)], None);
        let DataType::Map(entries, _) = Col::Attributes.data_type() else { unreachable!() };
        let DataType::Struct(fields) = entries.data_type() else { unreachable!() };
        let pairs = StructArray::new(fields.clone(), vec![Arc::new(keys), Arc::new(values)], None);
        Arc::new(MapArray::new(
            entries.clone(),
            OffsetBuffer::from_lengths(rows.iter().map(|r| r.len())),
            pairs,
            None,
            false,
        ))
    }

    fn read(array: &ArrayRef) -> Vec<Vec<(String, String)>> {
        let map = array.as_map();
        (0..map.len())
            .map(|row| {
                let entries = map.value(row);
                let (keys, texts) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
                keys.iter().zip(texts).map(|(k, t)| (k.unwrap().to_owned(), t.unwrap().to_owned())).collect()
            })
            .collect()
    }

    #[test]
    fn kinds_other_than_text_are_told_by_one_entry() {
        let array =
            typed(&[&[("a", 1, "x"), ("n", 3, "42")], &[], &[("a", 1, "y")], &[("n", 3, "7"), ("v", 2, "true")]]);
        let rows = read(&typed_map_to_text(&array).unwrap());
        assert_eq!(rows[0].last().unwrap(), &(TYPES_KEY.to_owned(), "n=3".to_owned()));
        assert_eq!((rows[1].len(), rows[2].len()), (0, 1));
        assert_eq!(rows[3].last().unwrap().1, "n=3,v=2");
        let part = typed_map_to_text(&array.slice(2, 2)).unwrap();
        assert_eq!(read(&part), rows[2..]);
    }

    #[test]
    fn text_alone_is_not_copied() {
        let array = typed(&[&[("a", 1, "x")], &[("b", 1, "y")]]);
        let text = typed_map_to_text(&array).unwrap();
        assert_eq!(text.data_type(), &Col::Labels.data_type());
        let before = array.as_map().values().as_struct().column(1).as_string::<i32>().values().as_ptr();
        assert_eq!(before, text.as_map().values().as_string::<i32>().values().as_ptr());
        assert_eq!(read(&typed_map_to_text(&array.slice(1, 1)).unwrap()), [[("b".to_owned(), "y".to_owned())]]);
        assert!(Arc::ptr_eq(&text, &typed_map_to_text(&text).unwrap()));
    }

    #[test]
    fn keys_with_separators_read_back() {
        for key in ["a,b=c%", "%2C", "=", "plain", ""] {
            let text = format!("{}=3,{}=5", escaped(key), escaped("other"));
            assert_eq!(types_of(&text).collect::<Vec<_>>(), [(Cow::from(key), 3), (Cow::from("other"), 5)], "{key}");
        }
        assert_eq!(types_of("").count(), 0);
    }
}
