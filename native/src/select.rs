//! Batches of other batches' rows: one after another, or chosen.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int32Array, MapArray,
    StringArray, UInt32Array, cast::AsArray, new_empty_array, new_null_array, types::Int32Type,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use arrow_select::filter::FilterBuilder;
use hashbrown::HashMap;

use crate::{
    batch::{Batch, Run, Signal, record_batch},
    schema::Col,
};

/// The rows of all batches, in order, in the union of their columns; what a batch lacks is empty. Dictionary columns get
/// one dictionary without repeats. Runs keep their payloads. Batches must agree on signal and completeness.
pub fn concat(batches: &[Batch]) -> Result<Batch, ArrowError> {
    let Some(first) = batches.first() else {
        let columns = record_batch(Vec::new(), Vec::new(), 0)?;
        return Ok(Batch { signal: Signal::Events, columns, runs: Vec::new(), completed: false });
    };
    if batches.len() == 1 {
        return Ok(first.clone());
    }
    if batches.iter().any(|b| b.signal != first.signal || b.completed != first.completed) {
        return Err(ArrowError::InvalidArgumentError("batches differ in signal or completeness".into()));
    }
    let rows = batches.iter().map(Batch::rows).sum();
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for field in union(batches) {
        let parts: Vec<ArrayRef> = batches
            .iter()
            .map(|b| match b.columns.column_by_name(field.name()) {
                Some(array) if array.data_type() != field.data_type() => Err(ArrowError::SchemaError(format!(
                    "column {:?} is {} in one batch and {} in another",
                    field.name(),
                    field.data_type(),
                    array.data_type()
                ))),
                Some(array) => Ok(array.clone()),
                None => Ok(empty(field.data_type(), b.rows())),
            })
            .collect::<Result<_, _>>()?;
        let array = joined(&parts)?;
        let holds_nulls = array.null_count() > 0 && !field.is_nullable();
        fields.push(if holds_nulls { Arc::new(field.as_ref().clone().with_nullable(true)) } else { field });
        arrays.push(array);
    }
    let runs = batches.iter().flat_map(|b| b.runs.iter().cloned()).collect();
    Ok(Batch { signal: first.signal, columns: record_batch(fields, arrays, rows)?, runs, completed: first.completed })
}

/// The rows at `indices`, in that order. Dictionaries are shared; payloads are gone, sources stay.
pub fn take(batch: &Batch, indices: &[u32]) -> Result<Batch, ArrowError> {
    let rows = batch.rows();
    if let Some(beyond) = indices.iter().find(|index| **index as usize >= rows) {
        return Err(ArrowError::InvalidArgumentError(format!("row {beyond} of {rows}")));
    }
    let chosen = UInt32Array::from(indices.to_vec());
    let arrays = batch.columns.columns().iter();
    let arrays = arrays.map(|a| arrow_select::take::take(a, &chosen, None)).collect::<Result<Vec<_>, _>>()?;
    let fields = batch.columns.schema().fields().iter().cloned().collect();
    let columns = record_batch(fields, arrays, indices.len())?;
    Ok(Batch { signal: batch.signal, columns, runs: runs_of(batch, indices), completed: batch.completed })
}

/// The rows that are to be kept, in order. Where that is all of them the batch itself, payloads and all.
pub fn filter(batch: &Batch, keep: &[bool]) -> Result<Batch, ArrowError> {
    if keep.len() != batch.rows() {
        return Err(ArrowError::InvalidArgumentError(format!("{} verdicts on {} rows", keep.len(), batch.rows())));
    }
    if keep.iter().all(|kept| *kept) {
        return Ok(batch.clone());
    }
    let mask = BooleanArray::from(keep.to_vec());
    let chosen = FilterBuilder::new(&mask).optimize().build();
    let arrays = batch.columns.columns().iter().map(|array| chosen.filter(array)).collect::<Result<Vec<_>, _>>()?;
    let fields = batch.columns.schema().fields().iter().cloned().collect();
    let (mut runs, mut row) = (Vec::new(), 0);
    for run in &batch.runs {
        let verdicts = &keep[row..row + run.rows];
        row += run.rows;
        let rows = verdicts.iter().filter(|kept| **kept).count();
        if rows > 0 {
            let source = if rows == run.rows { run.source.clone() } else { run.source.without_payload() };
            runs.push(Run { rows, source });
        }
    }
    let rows = runs.iter().map(|run| run.rows).sum();
    let columns = record_batch(fields, arrays, rows)?;
    Ok(Batch { signal: batch.signal, columns, runs, completed: batch.completed })
}

fn runs_of(batch: &Batch, indices: &[u32]) -> Vec<Run> {
    let mut of_row = Vec::with_capacity(batch.rows());
    for (number, run) in batch.runs.iter().enumerate() {
        of_row.resize(of_row.len() + run.rows, number);
    }
    let mut runs: Vec<(usize, Run)> = Vec::new();
    for index in indices {
        let Some(number) = of_row.get(*index as usize) else { continue };
        match runs.last_mut() {
            Some((known, run)) if known == number => run.rows += 1,
            _ => runs.push((*number, Run { rows: 1, source: batch.runs[*number].source.without_payload() })),
        }
    }
    runs.into_iter().map(|(_, run)| run).collect()
}

/// The fields of all batches: unified columns in the table's order, hidden ones after them as they appear.
fn union(batches: &[Batch]) -> Vec<FieldRef> {
    let mut unified: Vec<Option<FieldRef>> = vec![None; crate::schema::COLUMN_COUNT];
    let mut hidden: Vec<FieldRef> = Vec::new();
    let mut nullable: HashMap<String, bool> = HashMap::new();
    for field in batches.iter().flat_map(|b| b.columns.schema_ref().fields()) {
        *nullable.entry_ref(field.name().as_str()).or_default() |= field.is_nullable();
        match Col::from_name(field.name()) {
            Some(col) => unified[col as usize] = unified[col as usize].take().or_else(|| Some(field.clone())),
            None if hidden.iter().all(|h| h.name() != field.name()) => hidden.push(field.clone()),
            None => {}
        }
    }
    let all = unified.into_iter().flatten().chain(hidden);
    all.map(|f| match nullable[f.name()] == f.is_nullable() {
        true => f,
        false => Arc::new(Field::new(f.name(), f.data_type().clone(), true)),
    })
    .collect()
}

/// `rows` values that mean "absent": empty text and maps, zeros for ids, nulls for the rest.
pub fn empty(data_type: &DataType, rows: usize) -> ArrayRef {
    match data_type {
        DataType::Utf8 => Arc::new(StringArray::new(OffsetBuffer::new_zeroed(rows), Vec::<u8>::new().into(), None)),
        DataType::Binary => Arc::new(BinaryArray::new(OffsetBuffer::new_zeroed(rows), Vec::<u8>::new().into(), None)),
        DataType::FixedSizeBinary(width) => {
            Arc::new(FixedSizeBinaryArray::new(*width, vec![0u8; rows * *width as usize].into(), None))
        }
        DataType::Dictionary(_, value) if **value == DataType::Utf8 => {
            let keys = Int32Array::from(vec![0; rows]);
            Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(vec![""]))))
        }
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) => {
                let none = new_empty_array(&DataType::Struct(fields.clone())).as_struct().clone();
                Arc::new(MapArray::new(entries.clone(), OffsetBuffer::new_zeroed(rows), none, None, *sorted))
            }
            _ => new_null_array(data_type, rows),
        },
        _ => new_null_array(data_type, rows),
    }
}

fn joined(parts: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let all: Option<Vec<&DictionaryArray<Int32Type>>> =
        parts.iter().map(|p| p.as_dictionary_opt::<Int32Type>()).collect();
    match all {
        Some(all) if all.iter().all(|d| *d.values().data_type() == DataType::Utf8) => joined_dictionaries(&all),
        _ => {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            arrow_select::concat::concat(&parts)
        }
    }
}

fn joined_dictionaries<'a>(parts: &[&'a DictionaryArray<Int32Type>]) -> Result<ArrayRef, ArrowError> {
    let mut codes: HashMap<&str, i32> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    let mut keys: Vec<i32> = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
    // Slices of one batch share its dictionary.
    let mut maps: HashMap<*const (), Vec<i32>> = HashMap::new();
    for part in parts {
        let map = maps.entry(Arc::as_ptr(part.values()).cast()).or_insert_with(|| {
            let code = |text: Option<&'a str>| {
                *codes.entry(text.unwrap_or("")).or_insert_with_key(|text| {
                    texts.push(text);
                    texts.len() as i32 - 1
                })
            };
            part.values().as_string::<i32>().iter().map(code).collect()
        });
        // The key of a null is any number, also where there are no values.
        keys.extend(part.keys().values().iter().map(|key| map.get(*key as usize).copied().unwrap_or(0)));
    }
    let nulls: Option<NullBuffer> = parts
        .iter()
        .any(|p| p.null_count() > 0)
        .then(|| parts.iter().flat_map(|p| (0..p.len()).map(move |row| p.is_valid(row))).collect::<Vec<bool>>().into());
    let values: ArrayRef = Arc::new(StringArray::from(texts));
    Ok(Arc::new(DictionaryArray::try_new(Int32Array::new(keys.into(), nulls), values)?))
}
