//! Column buffers, padded on write: a column that no row uses costs nothing per row.

use std::{hash::BuildHasher, sync::Arc};

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    MapArray, StringArray, StructArray, TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, cast::AsArray,
    types::Int32Type,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use hashbrown::HashTable;

use super::{attributes::Cell, record::hex};
use crate::{
    batch::record_batch,
    schema::{COLUMN_COUNT, Col, Kind, ValueKind, any_fields},
};

#[derive(Default)]
pub struct Texts {
    /// Where each text ends in `data`.
    ends: Vec<i32>,
    pub data: Vec<u8>,
}

impl Texts {
    fn len(&self) -> usize {
        self.ends.len()
    }

    /// Ends the text that was written to `data`.
    pub fn close(&mut self) {
        self.ends.push(self.data.len() as i32);
    }

    #[inline]
    pub fn push(&mut self, text: &[u8]) {
        self.data.extend_from_slice(text);
        self.close();
    }

    /// Adds texts that were put together before.
    fn extend(&mut self, other: &Texts) {
        let end = self.data.len() as i32;
        self.ends.extend(other.ends.iter().map(|at| at + end));
        self.data.extend_from_slice(&other.data);
    }

    fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.data[start..self.ends[index] as usize]
    }

    fn pad(&mut self, rows: usize) {
        let end = self.data.len() as i32;
        self.ends.resize(rows.max(self.ends.len()), end);
    }

    pub fn finish(self) -> Result<StringArray, ArrowError> {
        let plain = self.data.is_ascii();
        let offsets = offsets(self.ends, self.data.len())?;
        match plain {
            // SAFETY: the ends grow up to the data's length, and ASCII may be cut anywhere.
            true => Ok(unsafe { StringArray::new_unchecked(offsets, self.data.into(), None) }),
            false => StringArray::try_new(offsets, self.data.into(), None),
        }
    }

    /// Sets the texts of rows `from..to`, except those of rows in `but`.
    fn run(&mut self, from: usize, to: usize, text: &[u8], but: &[usize]) {
        let (mut own, mut start) = (Texts::default(), 0);
        if self.len() > from {
            start = if from == 0 { 0 } else { self.ends[from - 1] as usize };
            own = Texts { ends: self.ends.split_off(from), data: self.data.split_off(start) };
        }
        self.pad(from);
        for row in from..to {
            match own.ends.get(row - from) {
                Some(end) if but.binary_search(&row).is_ok() => {
                    let before = if row == from { start } else { own.ends[row - from - 1] as usize };
                    self.push(&own.data[before - start..*end as usize - start]);
                }
                _ => self.push(text),
            }
        }
    }
}

/// The offsets of what ends at these places, which never go back, in data of this length. Fails where that is more than
/// offsets can say: ends have wrapped then.
fn offsets(mut ends: Vec<i32>, length: usize) -> Result<OffsetBuffer<i32>, ArrowError> {
    i32::try_from(length).map_err(|_| ArrowError::OffsetOverflowError(length))?;
    ends.insert(0, 0);
    debug_assert!(ends.is_sorted());
    // SAFETY: they begin with 0, and each is the length, at its time, of data that only grew since, and fits.
    Ok(unsafe { OffsetBuffer::new_unchecked(ends.into()) })
}

/// Dictionary text; entry 0 is the empty text.
pub struct Terms {
    keys: Vec<i32>,
    values: Texts,
    table: HashTable<i32>,
    hasher: foldhash::fast::RandomState,
    /// Of the text that was asked for last: the next one is often the same.
    last: i32,
}

impl Default for Terms {
    fn default() -> Terms {
        let mut values = Texts::default();
        values.push(b"");
        Terms { keys: Vec::new(), values, table: HashTable::new(), hasher: Default::default(), last: 0 }
    }
}

impl Terms {
    #[inline]
    pub fn term(&mut self, text: &[u8]) -> i32 {
        if text.is_empty() {
            return 0;
        }
        if self.values.get(self.last as usize) == text {
            return self.last;
        }
        self.last = self.other_term(text);
        self.last
    }

    fn other_term(&mut self, text: &[u8]) -> i32 {
        let (values, hasher) = (&mut self.values, &self.hasher);
        let hash = hasher.hash_one(text);
        if let Some(key) = self.table.find(hash, |key| values.get(*key as usize) == text) {
            return *key;
        }
        let key = values.len() as i32;
        values.push(text);
        self.table.insert_unique(hash, key, |key| hasher.hash_one(values.get(*key as usize)));
        key
    }

    /// The terms of a column that is to be completed.
    pub fn of(column: &DictionaryArray<Int32Type>) -> Terms {
        let mut terms = Terms::default();
        let codes: Vec<i32> =
            column.values().as_string::<i32>().iter().map(|t| terms.term(t.unwrap_or("").as_bytes())).collect();
        let key = |row: usize| column.key(row).map_or(0, |key| codes[key]);
        terms.keys = (0..column.len()).map(key).collect();
        terms
    }

    /// Sets the text of a row; rows that are passed over are empty.
    #[inline]
    pub fn set(&mut self, row: usize, key: i32) {
        if self.keys.len() != row {
            self.keys.truncate(row);
            self.keys.resize(row, 0);
        }
        self.keys.push(key);
    }

    /// Sets the text of a row that has none.
    pub fn fill(&mut self, row: usize, text: &[u8]) {
        if self.keys.get(row).is_none_or(|key| *key == 0) {
            let key = self.term(text);
            match self.keys.get_mut(row) {
                Some(place) => *place = key,
                None => self.set(row, key),
            }
        }
    }

    /// Sets the texts of rows `from..to`, except those of rows in `but`.
    fn run(&mut self, from: usize, to: usize, key: i32, but: &[usize]) {
        if self.keys.len() <= from {
            self.keys.resize(from, 0);
            self.keys.resize(to, key);
            return;
        }
        self.keys.resize(to, 0);
        for row in (from..to).filter(|row| but.binary_search(row).is_err()) {
            self.keys[row] = key;
        }
    }

    /// Whether any row has a text.
    pub fn any(&self) -> bool {
        self.keys.iter().any(|key| *key != 0)
    }

    /// Sets the text of a row, whatever the others have.
    pub fn replace(&mut self, row: usize, key: i32) {
        if self.keys.len() <= row {
            self.keys.resize(row + 1, 0);
        }
        self.keys[row] = key;
    }

    /// The column; rows beyond the last that was set are empty.
    pub fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.keys.resize(rows, 0);
        debug_assert!(self.keys.iter().all(|key| (0..self.values.len() as i32).contains(key)));
        let (keys, values) = (Int32Array::from(self.keys), Arc::new(self.values.finish()?));
        // SAFETY: every key is 0 or what `term` gave for a value, and values are never taken out.
        Ok(Arc::new(unsafe { DictionaryArray::new_unchecked(keys, values) }))
    }
}

struct Numbers<T> {
    values: Vec<T>,
    /// Which rows have a value; nothing while all have.
    valid: Vec<bool>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Numbers<T> {
        Numbers { values: Vec::new(), valid: Vec::new() }
    }
}

impl<T: Default + Copy> Numbers<T> {
    #[inline]
    fn set(&mut self, row: usize, value: T) {
        if self.values.len() != row {
            self.pad(row);
            self.values.truncate(row);
            self.valid.truncate(row);
        }
        self.values.push(value);
        if !self.valid.is_empty() {
            self.valid.push(true);
        }
    }

    /// The value of a row, if it has one.
    fn get(&self, row: usize) -> Option<T> {
        self.values.get(row).copied().filter(|_| self.valid.get(row).is_none_or(|valid| *valid))
    }

    fn pad(&mut self, rows: usize) {
        if self.values.len() < rows {
            if self.valid.is_empty() {
                self.valid.reserve(self.values.capacity().max(rows));
                self.valid.resize(self.values.len(), true);
            }
            self.values.resize(rows, T::default());
            self.valid.resize(rows, false);
        }
    }

    /// Sets the values of rows `from..to`, except those of rows in `but`.
    fn run(&mut self, from: usize, to: usize, value: T, but: &[usize]) {
        self.pad(to);
        for row in (from..to).filter(|row| but.binary_search(row).is_err()) {
            self.values[row] = value;
            if let Some(valid) = self.valid.get_mut(row) {
                *valid = true;
            }
        }
    }
}

/// Entries of text that many rows have alike.
#[derive(Default)]
pub struct Fragment {
    keys: Texts,
    texts: Texts,
}

impl Fragment {
    pub fn push(&mut self, key: &[u8], text: &[u8]) {
        if key.first() == Some(&b'$') {
            self.keys.data.push(b'$');
        }
        self.keys.push(key);
        self.texts.push(text);
    }

    /// Bytes that a row with these entries takes.
    pub fn nbytes(&self) -> usize {
        self.keys.data.len() + self.texts.data.len() + self.keys.len() * 9
    }
}

/// A map column: the user's keys with a leading `$` doubled, ours as they are.
#[derive(Default)]
pub struct Entries {
    ends: Vec<i32>,
    keys: Texts,
    kinds: Vec<u8>,
    pub texts: Texts,
}

impl Entries {
    /// Makes room for so many entries, the first time.
    fn reserve(&mut self, entries: usize) {
        if self.kinds.capacity() == 0 {
            self.kinds.reserve(entries);
            for texts in [&mut self.keys, &mut self.texts] {
                texts.ends.reserve(entries + 1);
                texts.data.reserve(entries * TYPICAL_TEXT_BYTES);
            }
        }
    }

    /// Begins an entry; the caller writes `texts.data` and calls `texts.close()`.
    pub fn key(&mut self, key: &[u8], own: bool, kind: ValueKind) {
        if own && key.first() == Some(&b'$') {
            self.keys.data.push(b'$');
        }
        self.keys.push(key);
        self.kinds.push(kind as u8);
    }

    pub fn text(&mut self, key: &str, text: &[u8]) {
        self.key(key.as_bytes(), false, ValueKind::String);
        self.texts.push(text);
    }

    pub fn int(&mut self, key: &str, value: u64) {
        let kind = if value > i64::MAX as u64 { ValueKind::String } else { ValueKind::Int };
        self.key(key.as_bytes(), false, kind);
        self.texts.push(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Adds entries that were put together before.
    pub fn extend(&mut self, fragment: &Fragment) {
        self.keys.extend(&fragment.keys);
        self.texts.extend(&fragment.texts);
        self.kinds.resize(self.kinds.len() + fragment.keys.len(), ValueKind::String as u8);
    }

    pub fn end_row(&mut self, row: usize) {
        let before = self.ends.last().copied().unwrap_or(0);
        let count = self.kinds.len() as i32;
        if count > before {
            self.ends.resize(row, before);
            self.ends.push(count);
        }
    }

    fn finish(mut self, col: Col, rows: usize) -> Result<Option<ArrayRef>, ArrowError> {
        let last = self.kinds.len() as i32;
        if last == 0 {
            return Ok(None);
        }
        self.ends.resize(rows, last);
        let offsets = offsets(self.ends, self.kinds.len())?;
        let DataType::Map(entries, _) = col.data_type() else { unreachable!("only maps have entries") };
        let DataType::Struct(fields) = entries.data_type() else { unreachable!("a map's entries are a struct") };
        let texts: ArrayRef = Arc::new(self.texts.finish()?);
        let values = match col.kind() {
            Kind::MapString => texts,
            _ => {
                Arc::new(StructArray::try_new(any_fields(), vec![Arc::new(UInt8Array::from(self.kinds)), texts], None)?)
            }
        };
        let pairs = StructArray::try_new(fields.clone(), vec![Arc::new(self.keys.finish()?), values], None)?;
        Ok(Some(Arc::new(MapArray::try_new(entries, offsets, pairs, None, false)?)))
    }
}

enum Buffer {
    Text(Texts),
    /// Not UTF-8.
    Bytes(Texts),
    Terms(Terms),
    Whole(Numbers<i64>),
    Double(Numbers<f64>),
    Bool(Numbers<bool>),
}

impl Buffer {
    /// Room for so many rows is made at once: growing by and by would copy everything several times.
    fn of(col: Col, rows: usize) -> Buffer {
        fn numbers<T>(rows: usize) -> Numbers<T> {
            Numbers { values: Vec::with_capacity(rows), valid: Vec::new() }
        }
        match (col, col.kind()) {
            (Col::Context, _) | (_, Kind::LcString) => {
                Buffer::Terms(Terms { keys: Vec::with_capacity(rows), ..Terms::default() })
            }
            (_, Kind::Float64) => Buffer::Double(numbers(rows)),
            (_, Kind::Bool) => Buffer::Bool(numbers(rows)),
            (_, Kind::String | Kind::Json) => {
                let data = Vec::with_capacity(rows * TYPICAL_TEXT_BYTES);
                Buffer::Text(Texts { ends: Vec::with_capacity(rows + 1), data })
            }
            (_, Kind::Bytes) => Buffer::Bytes(Texts::default()),
            _ => Buffer::Whole(numbers(rows)),
        }
    }
}

/// Room made at once for a text of a row.
const TYPICAL_TEXT_BYTES: usize = 16;

/// Entries of a row's map for which room is made at once.
const TYPICAL_ENTRIES: usize = 2;

pub struct Columns {
    buffers: [Option<Box<Buffer>>; COLUMN_COUNT],
    pub attributes: Entries,
    pub labels: Entries,
    /// Digests and occurrences, and the sources' own ids: the hidden columns.
    ids: Vec<[u8; 16]>,
    occurrences: Vec<u32>,
    uids: Texts,
    pub row: usize,
    /// How many rows there will be, as far as one knows; columns are made with room for them.
    expected_rows: usize,
}

impl Default for Columns {
    fn default() -> Columns {
        Columns {
            buffers: [const { None }; COLUMN_COUNT],
            attributes: Entries::default(),
            labels: Entries::default(),
            ids: Vec::new(),
            occurrences: Vec::new(),
            uids: Texts::default(),
            row: 0,
            expected_rows: 0,
        }
    }
}

impl Columns {
    /// Says how many rows there will be.
    pub fn expect(&mut self, rows: usize) {
        self.expected_rows = rows;
        self.attributes.reserve(rows * TYPICAL_ENTRIES);
        self.labels.reserve(rows * TYPICAL_ENTRIES);
    }

    #[inline]
    fn buffer(&mut self, col: Col) -> &mut Buffer {
        let expected = self.expected_rows;
        self.buffers[col as usize].get_or_insert_with(|| Box::new(Buffer::of(col, expected)))
    }

    /// Sets this row's text; empty text leaves the column alone. The last call for a row wins.
    #[inline]
    pub fn text(&mut self, col: Col, text: &[u8]) {
        if !text.is_empty() {
            let row = self.row;
            match self.buffer(col) {
                Buffer::Terms(terms) => {
                    let key = terms.term(text);
                    terms.set(row, key);
                }
                Buffer::Text(texts) if texts.len() == row => texts.push(text),
                Buffer::Text(texts) => {
                    texts.pad(row);
                    texts.ends.truncate(row);
                    texts.data.truncate(texts.ends.last().copied().unwrap_or(0) as usize);
                    texts.push(text);
                }
                _ => debug_assert!(false, "{} holds no text", col.name()),
            }
        }
    }

    /// Sets this row's text to these bytes in lower hex.
    pub fn hex(&mut self, col: Col, bytes: &[u8]) {
        let row = self.row;
        if let Buffer::Text(texts) = self.buffer(col) {
            texts.pad(row);
            hex(&mut texts.data, bytes);
            texts.close();
        }
    }

    /// Sets this row's bytes.
    pub fn bytes(&mut self, col: Col, bytes: &[u8]) {
        let row = self.row;
        if let Buffer::Bytes(texts) = self.buffer(col) {
            texts.pad(row);
            texts.push(bytes);
        }
    }

    /// A text of a dictionary column, to be set for many rows.
    pub fn term(&mut self, col: Col, text: &[u8]) -> i32 {
        match self.buffer(col) {
            Buffer::Terms(terms) => terms.term(text),
            _ => 0,
        }
    }

    /// Sets the cells of all rows since `from`, except those of rows in `but`.
    pub fn fill(&mut self, col: Col, cell: &Cell, from: usize, but: &[usize]) {
        let to = self.row;
        match (self.buffer(col), cell) {
            (Buffer::Terms(terms), Cell::Term(key)) => terms.run(from, to, *key, but),
            (Buffer::Terms(terms), Cell::Text(text)) => {
                let key = terms.term(text);
                terms.run(from, to, key, but);
            }
            (Buffer::Text(texts), Cell::Text(text)) => texts.run(from, to, text, but),
            (Buffer::Whole(numbers), Cell::Int(value)) => numbers.run(from, to, *value, but),
            (Buffer::Double(numbers), Cell::Double(value)) => numbers.run(from, to, *value, but),
            (Buffer::Bool(numbers), Cell::Bool(value)) => numbers.run(from, to, *value, but),
            _ => debug_assert!(false, "{} holds no {cell:?}", col.name()),
        }
    }

    /// Sets the term of some rows that `fill` has been over.
    pub fn replace(&mut self, col: Col, key: i32, rows: &[usize]) {
        if let Buffer::Terms(terms) = self.buffer(col) {
            rows.iter().for_each(|row| terms.replace(*row, key));
        }
    }

    /// This row's number, where it has been set.
    pub fn int_of(&self, col: Col) -> Option<i64> {
        match self.buffers[col as usize].as_deref() {
            Some(Buffer::Whole(numbers)) => numbers.get(self.row),
            _ => None,
        }
    }

    pub fn key(&mut self, col: Col, key: i32) {
        let row = self.row;
        if let Buffer::Terms(terms) = self.buffer(col) {
            terms.set(row, key);
        }
    }

    pub fn int(&mut self, col: Col, value: i64) {
        let row = self.row;
        if let Buffer::Whole(numbers) = self.buffer(col) {
            numbers.set(row, value);
        }
    }

    pub fn double(&mut self, col: Col, value: f64) {
        let row = self.row;
        if let Buffer::Double(numbers) = self.buffer(col) {
            numbers.set(row, value);
        }
    }

    pub fn bool(&mut self, col: Col, value: bool) {
        let row = self.row;
        if let Buffer::Bool(numbers) = self.buffer(col) {
            numbers.set(row, value);
        }
    }

    pub fn id(&mut self, digest: u128, occurrence: u32) {
        self.ids.resize(self.row, [0; 16]);
        self.ids.push(digest.to_be_bytes());
        self.occurrences.resize(self.row, 0);
        self.occurrences.push(occurrence);
    }

    pub fn uid(&mut self, uid: &[u8]) {
        self.uids.pad(self.row);
        self.uids.push(uid);
    }

    pub fn end_row(&mut self) {
        self.attributes.end_row(self.row);
        self.labels.end_row(self.row);
        self.row += 1;
    }

    pub fn finish(mut self) -> Result<arrow_array::RecordBatch, ArrowError> {
        let rows = self.row;
        let (mut fields, mut arrays): (Vec<FieldRef>, Vec<ArrayRef>) = Default::default();
        for col in Col::all() {
            let array = match col {
                Col::Attributes => std::mem::take(&mut self.attributes).finish(col, rows)?,
                Col::Labels => std::mem::take(&mut self.labels).finish(col, rows)?,
                Col::Id if !self.ids.is_empty() => {
                    self.ids.resize(rows, [0; 16]);
                    Some(Arc::new(FixedSizeBinaryArray::try_new(16, self.ids.concat().into(), None)?) as ArrayRef)
                }
                _ => self.buffers[col as usize].take().map(|buffer| finish(*buffer, col, rows)).transpose()?,
            };
            if let Some(array) = array {
                fields.push(col.field());
                arrays.push(array);
            }
        }
        if !self.occurrences.is_empty() {
            self.occurrences.resize(rows, 0);
            fields.push(Arc::new(Field::new("$occurrence", DataType::UInt32, false)));
            arrays.push(Arc::new(UInt32Array::from(self.occurrences)));
        }
        if self.uids.len() > 0 {
            self.uids.pad(rows);
            fields.push(Arc::new(Field::new("$uid", DataType::Utf8, false)));
            arrays.push(Arc::new(self.uids.finish()?));
        }
        record_batch(fields, arrays, rows)
    }
}

fn finish(buffer: Buffer, col: Col, rows: usize) -> Result<ArrayRef, ArrowError> {
    Ok(match buffer {
        Buffer::Text(mut texts) => {
            texts.pad(rows);
            Arc::new(texts.finish()?)
        }
        Buffer::Bytes(mut texts) => {
            texts.pad(rows);
            let offsets = offsets(texts.ends, texts.data.len())?;
            Arc::new(BinaryArray::try_new(offsets, texts.data.into(), None)?)
        }
        Buffer::Terms(terms) => terms.finish(rows)?,
        Buffer::Double(mut numbers) => {
            numbers.pad(rows);
            Arc::new(Float64Array::new(numbers.values.into(), nulls(numbers.valid)))
        }
        Buffer::Bool(mut numbers) => {
            numbers.pad(rows);
            Arc::new(BooleanArray::new(numbers.values.into(), nulls(numbers.valid)))
        }
        Buffer::Whole(mut numbers) => {
            numbers.pad(rows);
            let nulls = nulls(numbers.valid);
            let values = numbers.values;
            // Every value was checked against its column's range before it was set.
            match col.kind() {
                Kind::TimestampNs => Arc::new(TimestampNanosecondArray::new(values.into(), nulls).with_timezone("UTC")),
                Kind::Int32 => Arc::new(Int32Array::new(narrow(values, |v| v as i32), nulls)),
                Kind::UInt32 => Arc::new(UInt32Array::new(narrow(values, |v| v as u32), nulls)),
                Kind::UInt16 => Arc::new(UInt16Array::new(narrow(values, |v| v as u16), nulls)),
                Kind::UInt8 => Arc::new(UInt8Array::new(narrow(values, |v| v as u8), nulls)),
                _ => Arc::new(Int64Array::new(values.into(), nulls)),
            }
        }
    })
}

fn narrow<T: arrow_buffer::ArrowNativeType>(values: Vec<i64>, to: impl Fn(i64) -> T) -> ScalarBuffer<T> {
    values.into_iter().map(to).collect::<Vec<T>>().into()
}

fn nulls(valid: Vec<bool>) -> Option<NullBuffer> {
    (!valid.is_empty()).then(|| NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_beyond_what_offsets_can_say_is_an_error() {
        assert!(offsets(vec![1, 2], 2).is_ok());
        assert!(matches!(offsets(vec![i32::MIN], 1 << 31), Err(ArrowError::OffsetOverflowError(_))));
    }
}
