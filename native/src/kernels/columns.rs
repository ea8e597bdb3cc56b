//! A batch taken apart by column, to be put together again with some of them exchanged.

use arrow_array::{
    Array, ArrayRef, DictionaryArray, StringArray, TimestampNanosecondArray,
    cast::AsArray,
    types::{Int32Type, TimestampNanosecondType},
};
use arrow_schema::{ArrowError, DataType, FieldRef};

use crate::{
    batch::{Batch, record_batch},
    decode::columns::{Terms, Texts},
    schema::{COLUMN_COUNT, Col},
};

type Result<T> = std::result::Result<T, ArrowError>;

/// Present columns by their place in the table, and those that are not in it.
pub struct Parts {
    arrays: [Option<ArrayRef>; COLUMN_COUNT],
    pub others: Vec<(FieldRef, ArrayRef)>,
    pub rows: usize,
}

impl Parts {
    pub fn of(batch: &Batch) -> Parts {
        let mut parts = Parts { arrays: [const { None }; COLUMN_COUNT], others: Vec::new(), rows: batch.rows() };
        for (field, array) in batch.columns.schema_ref().fields().iter().zip(batch.columns.columns()) {
            match Col::from_name(field.name()) {
                Some(col) => parts.arrays[col as usize] = Some(array.clone()),
                None => parts.others.push((field.clone(), array.clone())),
            }
        }
        parts
    }

    pub fn get(&self, col: Col) -> Option<&ArrayRef> {
        self.arrays[col as usize].as_ref()
    }

    pub fn set(&mut self, col: Col, array: ArrayRef) {
        self.arrays[col as usize] = Some(array);
    }

    /// Exchanges a column, or takes it out.
    pub fn put(&mut self, col: Col, array: Option<ArrayRef>) {
        self.arrays[col as usize] = array;
    }

    /// Takes a column of another name out.
    pub fn take_other(&mut self, name: &str) -> Option<ArrayRef> {
        let at = self.others.iter().position(|(field, _)| field.name() == name)?;
        Some(self.others.remove(at).1)
    }

    pub fn finish(self) -> Result<arrow_array::RecordBatch> {
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        let columns = Col::all().zip(self.arrays).filter_map(|(col, array)| Some((col.field(), array?)));
        for (field, array) in columns.chain(self.others) {
            fields.push(field);
            arrays.push(array);
        }
        record_batch(fields, arrays, self.rows)
    }

    /// The column's text by row; a column that is absent reads as empty.
    pub fn text(&self, col: Col) -> Result<Text<'_>> {
        self.get(col).map_or(Ok(Text::Absent), |array| Text::of(col.name(), array))
    }

    pub fn times(&self, col: Col) -> Result<Option<&TimestampNanosecondArray>> {
        self.get(col)
            .map(|array| {
                array
                    .as_primitive_opt::<TimestampNanosecondType>()
                    .ok_or_else(|| unfit(col.name(), array, "timestamp(ns)"))
            })
            .transpose()
    }

    /// The terms of a dictionary column, to be completed.
    pub fn terms(&self, col: Col) -> Result<Terms> {
        match self.text(col)? {
            Text::Terms { column, .. } => Ok(Terms::of(column)),
            Text::Absent => Ok(Terms::default()),
            Text::Plain(column) => Err(unfit(col.name(), column, "a dictionary of text")),
        }
    }
}

pub fn unfit(name: &str, array: &dyn Array, wanted: &str) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("column {name} must hold {wanted}, not {}", array.data_type()))
}

/// Text in one of the two forms it has in flight.
#[derive(Clone, Copy)]
pub enum Text<'a> {
    Absent,
    Plain(&'a StringArray),
    Terms { column: &'a DictionaryArray<Int32Type>, values: &'a StringArray },
}

impl<'a> Text<'a> {
    pub fn of(name: &str, array: &'a ArrayRef) -> Result<Text<'a>> {
        match array.data_type() {
            DataType::Utf8 => Ok(Text::Plain(array.as_string())),
            DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => {
                let column = array.as_dictionary::<Int32Type>();
                Ok(Text::Terms { column, values: column.values().as_string() })
            }
            _ => Err(unfit(name, array, "text")),
        }
    }

    #[inline]
    pub fn get(&self, row: usize) -> &'a str {
        match self {
            Text::Absent => "",
            Text::Plain(column) => match column.is_valid(row) {
                true => column.value(row),
                false => "",
            },
            Text::Terms { column, values } => column.key(row).map_or("", |key| values.value(key)),
        }
    }
}

/// A text column whose empty rows are filled, row by row.
pub struct Filled<'a> {
    before: Text<'a>,
    texts: Texts,
    any: bool,
}

impl<'a> Filled<'a> {
    pub fn of(before: Text<'a>) -> Filled<'a> {
        Filled { before, texts: Texts::default(), any: false }
    }

    /// Whether the next row has no text of its own.
    pub fn lacks(&self, row: usize) -> bool {
        self.before.get(row).is_empty()
    }

    /// The next row: its own text where it has one, else this.
    pub fn push(&mut self, row: usize, text: &str) {
        let own = self.before.get(row);
        self.any |= own.is_empty() && !text.is_empty();
        self.texts.push(if own.is_empty() { text.as_bytes() } else { own.as_bytes() });
    }

    /// The column, where any row was filled.
    pub fn finish(self) -> Result<Option<ArrayRef>> {
        Ok(match self.any {
            true => Some(std::sync::Arc::new(self.texts.finish()?)),
            false => None,
        })
    }
}
