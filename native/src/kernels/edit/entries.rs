//! A map column by its rows' shapes, and its rewriting.
//!
//! Rows of one kind have the same keys in the same order: such a list of keys is a shape. What there is to know about keys
//! is worked out once per shape, so that a row's value is found without comparing anything.

use std::{hash::BuildHasher, ops::Range, sync::Arc};

use arrow_array::{Array, ArrayRef, MapArray, StringArray, StructArray, UInt8Array, cast::AsArray, types::UInt8Type};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType};
use hashbrown::HashTable;

use super::value::{Value, kind_of};
use crate::{
    kernels::columns::unfit,
    schema::{Col, ValueKind, any_fields},
};

type Result<T> = std::result::Result<T, ArrowError>;

/// A map column, its values typed or plain.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    offsets: &'a [i32],
    keys: &'a StringArray,
    kinds: Option<&'a [u8]>,
    texts: &'a StringArray,
}

impl<'a> Map<'a> {
    pub fn of(name: &str, array: &'a ArrayRef) -> Result<Map<'a>> {
        let parts = || {
            let map: &MapArray = array.as_map_opt()?;
            let (offsets, keys) = (map.value_offsets(), map.keys().as_string_opt()?);
            let Some(values) = map.values().as_struct_opt() else {
                return Some(Map { offsets, keys, kinds: None, texts: map.values().as_string_opt()? });
            };
            let kinds = values.column_by_name("kind")?.as_primitive_opt::<UInt8Type>()?.values();
            Some(Map { offsets, keys, kinds: Some(kinds), texts: values.column_by_name("text")?.as_string_opt()? })
        };
        parts().ok_or_else(|| unfit(name, array, "a map of text"))
    }

    pub fn range(&self, row: usize) -> Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    pub fn key(&self, entry: usize) -> &'a str {
        self.keys.value(entry)
    }

    pub fn text(&self, entry: usize) -> &'a str {
        self.texts.value(entry)
    }

    pub fn is_typed(&self) -> bool {
        self.kinds.is_some()
    }

    /// In a plain map everything is text.
    pub fn value(&self, entry: usize) -> Value<'a> {
        let kind = self.kinds.map_or(ValueKind::String, |kinds| kind_of(kinds[entry]));
        Value { kind, text: self.text(entry) }
    }

    /// The row's text under a key.
    pub fn find(&self, row: usize, key: &str) -> Option<&'a str> {
        self.range(row).find(|entry| self.key(*entry) == key).map(|entry| self.text(entry))
    }

    /// The bytes of a row's keys, one after the other.
    fn key_bytes(&self, entries: &Range<usize>) -> &'a [u8] {
        let ends = self.keys.value_offsets();
        &self.keys.value_data()[ends[entries.start] as usize..ends[entries.end] as usize]
    }

    fn same_keys(&self, one: &Range<usize>, other: &Range<usize>) -> bool {
        let ends = self.keys.value_offsets();
        let (first, second) = (&ends[one.start..=one.end], &ends[other.start..=other.end]);
        first.len() == second.len()
            && self.key_bytes(one) == self.key_bytes(other)
            && first.iter().zip(second).all(|(a, b)| a - first[0] == b - second[0])
    }
}

/// The distinct shapes of a map's rows, numbered as they come.
#[derive(Default)]
pub struct Shapes {
    /// Entries of the first row of each.
    examples: Vec<Range<usize>>,
    table: HashTable<usize>,
    hasher: foldhash::fast::RandomState,
    last: usize,
}

impl Shapes {
    /// The row's shape, and whether it is a new one.
    pub fn of(&mut self, map: &Map, row: usize) -> (usize, bool) {
        let entries = map.range(row);
        if let Some(example) = self.examples.get(self.last)
            && map.same_keys(example, &entries)
        {
            return (self.last, false);
        }
        let (examples, hasher) = (&mut self.examples, &self.hasher);
        let hash = hasher.hash_one(map.key_bytes(&entries));
        if let Some(known) = self.table.find(hash, |shape| map.same_keys(&examples[*shape], &entries)) {
            self.last = *known;
            return (self.last, false);
        }
        self.last = examples.len();
        examples.push(entries);
        self.table.insert_unique(hash, self.last, |shape| hasher.hash_one(map.key_bytes(&examples[*shape])));
        (self.last, true)
    }
}

/// A map column in the making: what stays is copied in bulk.
pub struct Rewriter<'a> {
    map: Option<Map<'a>>,
    typed: bool,
    ends: Vec<i32>,
    keys: Strings,
    kinds: Vec<u8>,
    texts: Strings,
    /// The next row and entry to be taken over.
    row: usize,
    entry: usize,
    rows: usize,
}

/// Text in the making. Offsets may wrap while it is made; `finish` refuses what does not fit them.
#[derive(Default)]
struct Strings {
    data: Vec<u8>,
    ends: Vec<i32>,
}

impl Strings {
    /// With room for what is there and some more.
    fn like(array: Option<&StringArray>, rows: usize) -> Strings {
        let (bytes, count) = array.map_or((0, 0), |array| (array.value_data().len(), array.len()));
        Strings { data: Vec::with_capacity(bytes + 32 * rows), ends: Vec::with_capacity(count + 2 * rows) }
    }

    fn push(&mut self, text: &str) {
        self.data.extend_from_slice(text.as_bytes());
        self.ends.push(self.data.len() as i32);
    }

    fn extend(&mut self, array: &StringArray, entries: Range<usize>) {
        let ends = &array.value_offsets()[entries.start..=entries.end];
        let moved = (self.data.len() as i32).wrapping_sub(ends[0]);
        self.data.extend_from_slice(&array.value_data()[ends[0] as usize..ends[ends.len() - 1] as usize]);
        self.ends.extend(ends[1..].iter().map(|end| end.wrapping_add(moved)));
    }

    fn finish(self) -> Result<StringArray> {
        if i32::try_from(self.data.len()).is_err() {
            return Err(ArrowError::OffsetOverflowError(self.data.len()));
        }
        let mut offsets = Vec::with_capacity(self.ends.len() + 1);
        offsets.push(0);
        offsets.extend_from_slice(&self.ends);
        // SAFETY: the data is whole texts, each appended at once, and every end stands where one ended, in ascending
        // order; none wrapped, since the last is the length of the data, which fits.
        unsafe {
            let offsets = OffsetBuffer::new_unchecked(offsets.into());
            Ok(StringArray::new_unchecked(offsets, self.data.into(), None))
        }
    }
}

impl<'a> Rewriter<'a> {
    /// `typed`: the form of a map that is absent so far.
    pub fn of(map: Option<Map<'a>>, typed: bool, rows: usize) -> Rewriter<'a> {
        let entry = map.map_or(0, |map| map.offsets[0] as usize);
        Rewriter {
            typed: map.map_or(typed, |map| map.is_typed()),
            map,
            ends: Vec::with_capacity(rows + 1),
            keys: Strings::like(map.map(|map| map.keys), rows),
            kinds: Vec::new(),
            texts: Strings::like(map.map(|map| map.texts), rows),
            row: 0,
            entry,
            rows,
        }
    }

    /// Takes over all rows before this one.
    pub fn copy_rows(&mut self, until: usize) {
        let from = self.row;
        let Some(map) = self.map else {
            self.ends.resize(self.ends.len() + until - from, self.keys.ends.len() as i32);
            self.row = until;
            return;
        };
        let before = self.keys.ends.len() as i32 - map.offsets[from];
        self.copy_entries(map.offsets[until] as usize);
        self.ends.extend(map.offsets[from + 1..=until].iter().map(|end| end + before));
        self.row = until;
    }

    /// Leaves all rows before this one out, after those that were taken over before.
    pub fn drop_rows(&mut self, until: usize) {
        self.row = until;
        if let Some(map) = self.map {
            self.entry = map.offsets[until] as usize;
        }
    }

    /// Takes over all entries before this one.
    pub fn copy_entries(&mut self, until: usize) {
        let Some(map) = self.map else { return };
        let entries = self.entry..until;
        self.entry = until;
        if entries.is_empty() {
            return;
        }
        self.keys.extend(map.keys, entries.clone());
        self.texts.extend(map.texts, entries.clone());
        if let Some(kinds) = map.kinds {
            self.kinds.extend_from_slice(&kinds[entries]);
        }
    }

    /// Leaves the next entry out.
    pub fn skip(&mut self) {
        self.entry += 1;
    }

    pub fn push(&mut self, key: &str, value: Value) {
        self.keys.push(key);
        self.texts.push(value.text);
        if self.typed {
            self.kinds.push(value.kind as u8);
        }
    }

    /// Takes over what is left of the row's entries; `push` may still add some before `end_row`.
    pub fn copy_rest(&mut self) {
        if let Some(map) = self.map {
            self.copy_entries(map.offsets[self.row + 1] as usize);
        }
    }

    pub fn end_row(&mut self) {
        self.ends.push(self.keys.ends.len() as i32);
        self.row += 1;
    }

    /// The column; `None` when it has no entry.
    pub fn finish(mut self) -> Result<Option<ArrayRef>> {
        self.copy_rows(self.rows);
        if self.keys.ends.is_empty() {
            return Ok(None);
        }
        let like = if self.typed { Col::Attributes } else { Col::Labels };
        let DataType::Map(entries, _) = like.data_type() else { unreachable!("both are maps") };
        let DataType::Struct(fields) = entries.data_type() else { unreachable!("a map's entries are a struct") };
        let texts: ArrayRef = Arc::new(self.texts.finish()?);
        let values = match self.typed {
            false => texts,
            true => {
                let kinds = Arc::new(UInt8Array::from(self.kinds));
                Arc::new(StructArray::try_new(any_fields(), vec![kinds, texts], None)?)
            }
        };
        let pairs = StructArray::try_new(fields.clone(), vec![Arc::new(self.keys.finish()?), values], None)?;
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends).collect();
        Ok(Some(Arc::new(MapArray::try_new(entries, OffsetBuffer::new(offsets.into()), pairs, None, false)?)))
    }
}
