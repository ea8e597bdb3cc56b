//! InfluxDB line protocol as QuestDB extends it, from batches, in the tables' own types.
//!
//! One line per row, `table,symbols fields time`, the rows of one table together and in order. Doubles and arrays are
//! binary (version 2 of the protocol: `name==`, a type, little-endian bytes); everything else is text. What a row does
//! not have is left out, and reads as null. Times are nanoseconds.
//!
//! A row is known by its time, its series and its occurrence. The series is a hash of all that a point's source says of
//! it but its values and times; the occurrence is its place in the log, so that a line that is sent again is the same
//! row, and two points of one series and time are two.
//!
//! QuestDB has no NaN and no infinity, and no i64::MIN: they read as null. They are told in the column of `attributes`,
//! by the column's name after a `$`, and so are buckets that arrays of doubles can not hold.

mod buckets;
mod cell;
mod table;
mod text;

use self::table::{Plan, Sources};
use super::{EncodeError, clickhouse::Buffer, texts::Texts};
use crate::{batch::Batch, schema::Col};

type Result<T> = std::result::Result<T, EncodeError>;

/// Which rows a table takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rows {
    /// Gauges, and points of kinds that no other table is for.
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
    /// Whatever is no metric point.
    Events,
}

impl Rows {
    pub fn from_name(name: &str) -> Option<Rows> {
        Some(match name {
            "gauge" => Rows::Gauge,
            "sum" => Rows::Sum,
            "histogram" => Rows::Histogram,
            "exponential_histogram" => Rows::ExponentialHistogram,
            "summary" => Rows::Summary,
            "events" => Rows::Events,
            _ => return None,
        })
    }

    fn of(event_type: &[u8], metric_type: &[u8]) -> Rows {
        match (event_type, metric_type) {
            (b"metric", b"counter" | b"updown_counter") => Rows::Sum,
            (b"metric", b"histogram") => Rows::Histogram,
            (b"metric", b"exponential_histogram") => Rows::ExponentialHistogram,
            (b"metric", b"summary") => Rows::Summary,
            (b"metric", _) => Rows::Gauge,
            _ => Rows::Events,
        }
    }
}

/// A column of a table: its name, where its values come from, and its type there.
///
/// A source is the name of a column in flight, `COLUMN=KEY` (the attribute of that key, in a map, else in that column,
/// whose name may be empty), `$series`, `$occurrence`, `$rest`
/// (the columns that nothing else names, as JSON), or `$NAME` of a [`buckets::Part`].
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub source: String,
    pub data_type: String,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub rows: Rows,
    pub name: String,
    pub columns: Vec<Target>,
}

/// The lines of all rows, table by table, and how many rows each table gets.
///
/// `first` is the occurrence of the first row; each row's is one more than that of the row before. Fails where rows
/// have no table, no time, or a type that their column can not have.
pub fn encode_lines(batches: &[Batch], tables: &[Table], first: i64) -> Result<(Buffer, Vec<usize>)> {
    let bytes: usize = batches.iter().map(Batch::nbytes).sum();
    let rows: usize = batches.iter().map(Batch::rows).sum();
    let mut out = Buffer::with_capacity(bytes.clamp(rows * 128, rows * 1024));
    let mut counts = vec![0; tables.len()];
    let kinds: Vec<Vec<Rows>> = batches.iter().map(kinds).collect();
    if let Some(kind) = kinds.iter().flatten().find(|kind| !tables.iter().any(|table| table.rows == **kind)) {
        let message = format!("there is no table for rows of this kind: {kind:?}");
        return Err(EncodeError::new("no_table", "", message));
    }
    let sources: Vec<Sources> = batches.iter().map(|batch| Sources::of(&batch.columns)).collect();
    for (table, count) in tables.iter().zip(&mut counts) {
        let mut start = first;
        for ((batch, kinds), sources) in batches.iter().zip(&kinds).zip(&sources) {
            let rows: Vec<u32> =
                (0..).zip(kinds).filter(|(_, kind)| **kind == table.rows).map(|(row, _)| row).collect();
            if !rows.is_empty() {
                Plan::of(table, sources)?.encode(&mut out, &rows, start)?;
                *count += rows.len();
            }
            start = start.wrapping_add(batch.rows() as i64);
        }
    }
    Ok((out, counts))
}

/// Which table each row is for.
fn kinds(batch: &Batch) -> Vec<Rows> {
    let texts = |col| batch.column(col).and_then(Texts::of);
    let (events, metrics) = (texts(Col::EventType), texts(Col::MetricType));
    (0..batch.rows()).map(|row| Rows::of(text(events.as_ref(), row), text(metrics.as_ref(), row))).collect()
}

#[inline]
fn text<'a>(texts: Option<&'a Texts<'a>>, row: usize) -> &'a [u8] {
    texts.map_or(b"", |texts| texts.at(row))
}
