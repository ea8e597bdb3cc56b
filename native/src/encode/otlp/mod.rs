//! OTLP requests from rows: the inverse of `decode`.
//!
//! A row may be in flight, before or after `unify` completed it, or come back from a store. What is written is what
//! `decode` read: the record's attributes from its map and from the columns that are their only home, and what has no
//! column from the keys of `decode::reserved`. Columns that were derived (ids, partition columns, a URL's parts, an
//! outcome's reason) are not looked at.
//!
//! A column is an attribute's only home where no attribute, of the record or its resource, is still there that feeds it
//! (`decode::keys`). So an enricher that fills such a column adds the attribute of its current name.
//!
//! Records are written once, in the rows' order, then put under their resources and scopes: equal ones become one,
//! however they lie among the rows.

mod origin;
mod own;
mod points;
mod requests;
mod rows;
mod value;

mod logs;
mod spans;

use std::fmt;

use self::{
    logs::Logs,
    origin::Origins,
    own::{Homes, Own},
    points::Points,
    requests::{Groups, Record, assemble},
    rows::{MapColumn, Text},
    spans::Spans,
};
use crate::{
    batch::{Batch, Signal},
    decode::{json::Fault, keys::Fed, reserved},
    protobuf::Writer,
    schema::Col,
};

/// Protobuf messages are at most this long.
pub const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

/// Rows that are no OTLP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError {
    pub code: &'static str,
    /// Counted over all batches; `None` where a whole column is at fault.
    pub row: Option<usize>,
    pub column: &'static str,
    pub message: String,
}

impl EncodeError {
    fn new(code: &'static str, column: &'static str, message: impl Into<String>) -> EncodeError {
        EncodeError { code, row: None, column, message: message.into() }
    }

    /// A JSON text that is not what the decoder writes.
    fn of(col: Col) -> impl Fn(Box<Fault>) -> EncodeError {
        move |fault| {
            let error = fault.told();
            EncodeError::new("malformed", col.name(), format!("{} at byte {}", error.message, error.offset))
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(row) = self.row {
            write!(f, "row {row}, ")?;
        }
        write!(f, "column {:?}: {}", self.column, self.message)
    }
}

impl std::error::Error for EncodeError {}

type Result<T> = std::result::Result<T, EncodeError>;

/// A row while it is written.
struct Row<'a> {
    at: usize,
    attributes: &'a Own<'a>,
    labels: &'a Own<'a>,
    homes: &'a Homes,
    /// The columns that attributes of the record or its resource feed.
    fed: Fed,
}

enum Writers {
    Spans(Spans),
    Logs(Logs),
    Points(Box<Points>),
}

/// The requests that hold all rows, each of at most `max_bytes` (0: as many as protobuf allows) where no single record
/// is larger. Rows of other sources than the signal's are refused; no rows make no request.
pub fn encode_otlp(signal: Signal, batches: &[Batch], max_bytes: usize) -> Result<Vec<Vec<u8>>> {
    let max_bytes = if max_bytes == 0 { MAX_MESSAGE_BYTES } else { max_bytes.min(MAX_MESSAGE_BYTES) };
    let (mut groups, mut places, mut records) = (Groups::default(), Vec::new(), Writer::default());
    for batch in batches {
        records_of(signal, batch, &mut groups, &mut places, &mut records)?;
    }
    let levels = if signal == Signal::Metrics { 3 } else { 2 };
    Ok(assemble(&groups, &places, &records.out, levels, max_bytes))
}

fn records_of(
    signal: Signal,
    batch: &Batch,
    groups: &mut Groups,
    places: &mut Vec<Record>,
    records: &mut Writer,
) -> Result<()> {
    let attributes_map = MapColumn::column(batch, Col::Attributes)?;
    let labels_map = MapColumn::column(batch, Col::Labels)?;
    let (sources, homes) = (Text::column(batch, Col::EventSource)?, Homes::of(batch)?);
    let (mut attributes, mut labels) = (Own::default(), Own::default());
    let mut origins = Origins::of(batch)?;
    let mut writers = match signal {
        Signal::Metrics => Writers::Points(Box::new(Points::of(batch)?)),
        Signal::Logs => Writers::Logs(Logs::of(batch)?),
        _ => Writers::Spans(Spans::of(batch)?),
    };
    let first = places.len();
    for at in 0..batch.rows() {
        let located = |error: EncodeError| EncodeError { row: Some(first + at), ..error };
        check_source(signal, sources.get(at)).map_err(located)?;
        attributes.read(attributes_map.as_ref(), at);
        labels.read(labels_map.as_ref(), at);
        // A point's attributes are labels, which feed no column.
        let fed = if signal == Signal::Metrics { Fed::default() } else { attributes.fed() };
        let environment = labels.note(reserved::ENV).unwrap_or_default();
        let origin = origins.place(at, fed, environment, groups).map_err(located)?;
        let row = Row { at, attributes: &attributes, labels: &labels, homes: &homes, fed: fed.and(origin.fed) };
        let mut path = [origin.resource, origin.scope, 0];
        match &mut writers {
            Writers::Spans(spans) => spans.write(records, &row),
            Writers::Logs(logs) => logs.write(records, &row),
            Writers::Points(points) => points.metric(&row, origin.scope, groups).and_then(|metric| {
                path[2] = metric;
                points.write(records, &row)
            }),
        }
        .map_err(located)?;
        places.push(Record { path, end: records.out.len() });
    }
    Ok(())
}

/// Each source has an inverse of its own. Some rows are older than the names of today, and some were made by hand.
fn check_source(signal: Signal, source: &str) -> Result<()> {
    let own = match signal {
        Signal::Traces => "otel.span",
        Signal::Metrics => "otel.metric",
        Signal::Logs => "otel.log",
        Signal::Events => {
            return Err(EncodeError::new("unexpected_source", Col::EventSource.name(), "events have no OTLP form"));
        }
    };
    if source == own || source.is_empty() || source == "otel" {
        return Ok(());
    }
    let message = format!("rows of {source:?} are no OTLP {}; those of {own:?} are", signal.name());
    Err(EncodeError::new("unexpected_source", Col::EventSource.name(), message))
}

/// An id, or the zeros that stand for one where there is none.
fn id(writer: &mut Writer, number: u32, col: Col, text: &str, zeros: Option<&str>) -> Result<()> {
    let text = if text.is_empty() { zeros.unwrap_or_default() } else { text };
    if text.is_empty() || value::hexadecimal(writer, number, text) {
        return Ok(());
    }
    let message = format!("an id must be hexadecimal digits, not {text:?}");
    Err(EncodeError::new("malformed", col.name(), message))
}
