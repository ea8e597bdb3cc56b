//! Rows as a folder of Parquet files wants them: apart by day and event type, together by service.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, DictionaryArray, MapArray, RecordBatch, StringArray, StructArray,
    cast::AsArray,
    types::{Date32Type, Int32Type, TimestampNanosecondType},
};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use hashbrown::HashMap;

use crate::{
    batch::{Batch, Signal, record_batch},
    schema::{Col, Kind},
    select::{concat, take},
};

const NS_PER_DAY: i64 = 86_400 * 1_000_000_000;
/// Runs shorter than this on average are cheaper to gather row by row.
const RUN_MIN_ROWS: usize = 16;

/// Days since 1970-01-01, and the event type.
pub type Folder = (i32, String);

/// The rows of every folder, in order; folders ascending. Batches of one folder are shared, not copied, but for their
/// payloads, which a file does not need. All of them fit together, completed or not, whatever they came as.
pub fn partition(batches: &[Batch]) -> Result<Vec<(Folder, Vec<Batch>)>, ArrowError> {
    let mut folders: BTreeMap<Folder, Vec<Batch>> = BTreeMap::new();
    for batch in batches.iter().filter(|batch| batch.rows() > 0) {
        let columns = conformed(batch)?;
        let batch = Batch { signal: Signal::Events, completed: true, ..batch.with_columns(columns, false) };
        let (days, types) = (days(&batch.columns), Terms::of(&batch.columns, Col::EventType));
        let first = (days[0], types.code(0));
        if days.iter().all(|day| *day == first.0) && (1..batch.rows()).all(|row| types.code(row) == first.1) {
            folders.entry((first.0, types.text(first.1).to_owned())).or_default().push(batch);
            continue;
        }
        let mut rows: HashMap<(i32, i32), Vec<u32>> = HashMap::new();
        for (row, day) in days.iter().enumerate() {
            rows.entry((*day, types.code(row))).or_default().push(row as u32);
        }
        for ((day, code), rows) in rows {
            folders.entry((day, types.text(code).to_owned())).or_default().push(take(&batch, &rows)?);
        }
    }
    Ok(folders.into_iter().collect())
}

/// The rows of all batches in the union of their columns, services by name, the rows of one service in order.
pub fn cluster(batches: &[Batch]) -> Result<Batch, ArrowError> {
    let mut runs = Vec::new();
    let services: Vec<Terms> = batches.iter().map(|batch| Terms::of(&batch.columns, Col::ServiceName)).collect();
    for (batch, terms) in batches.iter().zip(&services) {
        let mut start = 0;
        while start < batch.rows() {
            let code = terms.code(start);
            let length = (start..batch.rows()).take_while(|row| terms.code(*row) == code).count();
            runs.push(Run { service: terms.text(code), batch, start, length });
            start += length;
        }
    }
    let rows: usize = runs.iter().map(|run| run.length).sum();
    if runs.is_sorted_by_key(|run| run.service) {
        return concat(batches);
    }
    if rows >= runs.len() * RUN_MIN_ROWS {
        runs.sort_by_key(|run| run.service);
        return concat(&runs.iter().map(|run| run.batch.slice(run.start, run.length)).collect::<Vec<_>>());
    }
    let whole = concat(batches)?;
    take(&whole, &by_service(&whole.columns))
}

/// Consecutive rows of one batch and one service.
struct Run<'a> {
    service: &'a str,
    batch: &'a Batch,
    start: usize,
    length: usize,
}

/// Row numbers by service, rows of one service in order.
fn by_service(columns: &RecordBatch) -> Vec<u32> {
    let terms = Terms::of(columns, Col::ServiceName);
    let mut rows: HashMap<i32, Vec<u32>> = HashMap::new();
    for row in 0..columns.num_rows() {
        rows.entry(terms.code(row)).or_default().push(row as u32);
    }
    let mut services: Vec<_> = rows.into_iter().collect();
    services.sort_by_key(|(code, _)| terms.text(*code));
    services.into_iter().flat_map(|(_, rows)| rows).collect()
}

/// Text of a column by code; rows without the column, or without a value, have the empty text.
enum Terms<'a> {
    Absent,
    Dictionary(&'a DictionaryArray<Int32Type>, &'a StringArray),
}

const NONE: i32 = -1;

impl<'a> Terms<'a> {
    /// The column's type has been checked.
    fn of(columns: &'a RecordBatch, col: Col) -> Terms<'a> {
        let dictionary = columns.column_by_name(col.name()).and_then(|array| array.as_dictionary_opt::<Int32Type>());
        match dictionary.and_then(|terms| Some((terms, terms.values().as_string_opt::<i32>()?))) {
            Some((terms, texts)) => Terms::Dictionary(terms, texts),
            None => Terms::Absent,
        }
    }

    #[inline]
    fn code(&self, row: usize) -> i32 {
        match self {
            Terms::Absent => NONE,
            Terms::Dictionary(terms, _) if terms.is_null(row) => NONE,
            Terms::Dictionary(terms, _) => terms.keys().value(row),
        }
    }

    fn text(&self, code: i32) -> &'a str {
        match self {
            Terms::Dictionary(_, texts) if code != NONE => texts.value(code as usize),
            _ => "",
        }
    }
}

/// The day of every row: `day`, else that of `timestamp`, else 1970-01-01.
fn days(columns: &RecordBatch) -> Vec<i32> {
    let column = |col: Col| columns.column_by_name(col.name());
    let given = column(Col::Day).and_then(|array| array.as_primitive_opt::<Date32Type>());
    if let Some(days) = given.filter(|days| days.null_count() == 0) {
        return days.values().to_vec();
    }
    let times = column(Col::Timestamp).and_then(|array| array.as_primitive_opt::<TimestampNanosecondType>());
    let day = |row| given.filter(|days| days.is_valid(row)).map(|days| days.value(row));
    let of_time =
        |row| times.filter(|times| times.is_valid(row)).map(|times| times.value(row).div_euclid(NS_PER_DAY) as i32);
    (0..columns.num_rows()).map(|row| day(row).or_else(|| of_time(row)).unwrap_or(0)).collect()
}

/// The columns, every unified one of exactly its type, so that what is put together later fits; maps of other field
/// names are renamed, not copied.
fn conformed(batch: &Batch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.columns.schema();
    let fits =
        |field: &FieldRef| Col::from_name(field.name()).is_none_or(|col| field.data_type() == col.field().data_type());
    if schema.fields().iter().all(fits) {
        return Ok(batch.columns.clone());
    }
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in schema.fields().iter().zip(batch.columns.columns()) {
        let array = match Col::from_name(field.name()) {
            Some(col) => of_type(col, array)?,
            None => array.clone(),
        };
        fields.push(Arc::new(Field::new(field.name(), array.data_type().clone(), field.is_nullable())));
        arrays.push(array);
    }
    record_batch(fields, arrays, batch.rows())
}

fn of_type(col: Col, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if *array.data_type() == col.data_type() {
        return Ok(array.clone());
    }
    let unfit = || {
        let (name, found, wanted) = (col.name(), array.data_type(), col.data_type());
        ArrowError::SchemaError(format!("column {name:?} must be {wanted}, not {found}"))
    };
    let (Kind::MapAny | Kind::MapString, Some(map)) = (col.kind(), array.as_map_opt()) else { return Err(unfit()) };
    let (_, offsets, entries, nulls, sorted) = map.clone().into_parts();
    let (_, columns, _) = entries.into_parts();
    // Attributes may be text already, as stores keep them.
    let wanted = if columns[1].data_type() == &DataType::Utf8 { Col::Labels.data_type() } else { col.data_type() };
    let DataType::Map(entry, _) = &wanted else { return Err(unfit()) };
    let DataType::Struct(fields) = entry.data_type() else { return Err(unfit()) };
    let entries = StructArray::try_new(fields.clone(), columns, None).map_err(|_| unfit())?;
    Ok(Arc::new(MapArray::try_new(entry.clone(), offsets, entries, nulls, sorted)?))
}

#[cfg(test)]
mod tests {
    use arrow_array::TimestampNanosecondArray;
    use arrow_buffer::OffsetBuffer;

    use super::*;
    use crate::batch::{Run as Payload, Source};

    /// Rows of (hour since 1970-01-01, event type, service), numbered by `trace_id` from `first` on.
    fn batch(first: usize, rows: &[(i64, &str, &str)]) -> Batch {
        let times = TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.0 * NS_PER_DAY / 24));
        let numbers = (first..first + rows.len()).map(|number| number.to_string());
        let columns: [(Col, ArrayRef); 4] = [
            (Col::EventType, Arc::new(rows.iter().map(|row| row.1).collect::<DictionaryArray<Int32Type>>())),
            (Col::TraceId, Arc::new(StringArray::from_iter_values(numbers))),
            (Col::Timestamp, Arc::new(times.with_timezone("UTC"))),
            (Col::ServiceName, Arc::new(rows.iter().map(|row| row.2).collect::<DictionaryArray<Int32Type>>())),
        ];
        let fields = columns.iter().map(|(col, _)| col.field()).collect();
        let columns = record_batch(fields, columns.into_iter().map(|(_, array)| array).collect(), rows.len()).unwrap();
        let runs = vec![Payload { rows: rows.len(), source: Arc::new(Source::default()) }];
        Batch { signal: Signal::Traces, columns, runs, completed: true }
    }

    fn numbers(batches: &[Batch]) -> Vec<usize> {
        let texts = |batch: &Batch| batch.column(Col::TraceId).unwrap().as_string::<i32>().clone();
        batches
            .iter()
            .map(texts)
            .flat_map(|t| t.iter().map(|n| n.unwrap().parse().unwrap()).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn rows_go_to_the_folder_of_their_day_and_type_in_order() {
        let batches = [
            batch(0, &[(5, "log", "a"), (30, "trace", "a"), (6, "log", "b"), (-1, "log", "a")]),
            batch(4, &[(7, "log", "a")]),
        ];
        let folders = partition(&batches).unwrap();
        let found: Vec<_> = folders.iter().map(|((day, kind), rows)| (*day, kind.as_str(), numbers(rows))).collect();
        assert_eq!(found, [(-1, "log", vec![3]), (0, "log", vec![0, 2, 4]), (1, "trace", vec![1])]);
        let whole = &folders[1].1[1];
        assert!(Arc::ptr_eq(whole.column(Col::TraceId).unwrap(), batches[1].column(Col::TraceId).unwrap()));
        assert!(partition(&[batch(0, &[])]).unwrap().is_empty());
    }

    #[test]
    fn a_column_of_another_type_is_refused_and_a_renamed_map_is_not() {
        let good = batch(0, &[(1, "log", "a")]);
        let bad = record_batch(
            vec![Arc::new(Field::new("ns", DataType::Utf8, false))],
            vec![good.column(Col::TraceId).unwrap().clone()],
            1,
        );
        let error = partition(&[good.with_columns(bad.unwrap(), false)]).unwrap_err().to_string();
        assert!(error.contains("column \"ns\" must be Dictionary"), "{error}");
        let text = Arc::new(StringArray::from(vec!["k"]));
        let pair = [("key", false), ("value", true)].map(|(name, null)| Field::new(name, DataType::Utf8, null));
        let entries = StructArray::new(pair.to_vec().into(), vec![text.clone(), text], None);
        let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
        let map: ArrayRef = Arc::new(MapArray::new(entry, OffsetBuffer::from_lengths([1]), entries, None, false));
        for col in [Col::Labels, Col::Attributes] {
            let field = Arc::new(Field::new(col.name(), map.data_type().clone(), false));
            let one = good.with_columns(record_batch(vec![field], vec![map.clone()], 1).unwrap(), false);
            let folders = partition(&[one]).unwrap();
            assert_eq!(folders[0].1[0].column(col).unwrap().data_type(), &Col::Labels.data_type());
        }
    }

    #[test]
    fn services_come_together_whether_their_runs_are_long_or_short() {
        let long: Vec<_> = ["b", "a", "b"].iter().flat_map(|service| vec![(0, "log", *service); 40]).collect();
        let short: Vec<_> = (0..50).map(|row| (0, "log", ["b", "", "a"][row % 3])).collect();
        for rows in [long, short] {
            let batches = [batch(0, &rows), batch(rows.len(), &rows)];
            let whole = cluster(&batches).unwrap();
            let service = |number: &usize| rows[number % rows.len()].2;
            let mut wanted: Vec<usize> = (0..2 * rows.len()).collect();
            wanted.sort_by_key(service);
            assert_eq!(numbers(&[whole]), wanted);
        }
    }
}
