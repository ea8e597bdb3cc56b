//! The batch in flight: an Arrow record batch of the present columns, and where its rows came from.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, FieldRef, Schema};
use bytes::Bytes;

use crate::{decode::decoded, schema::Col};

/// What the rows of a batch came as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Signal {
    Traces = 0,
    Metrics = 1,
    Logs = 2,
    /// Anything that is not OTLP.
    Events = 3,
}

impl Signal {
    pub const ALL: [Signal; 4] = [Signal::Traces, Signal::Metrics, Signal::Logs, Signal::Events];

    pub fn name(self) -> &'static str {
        ["traces", "metrics", "logs", "events"][self as usize]
    }

    pub fn from_name(name: &str) -> Option<Signal> {
        Signal::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// Where the rows of one payload came from.
#[derive(Debug, Default)]
pub struct Source {
    /// The tenant decided at the door (route, header or key); empty when none was given.
    pub tenant: Arc<str>,
    /// Request headers (lower-case keys), only where `include_metadata` asks for them.
    pub metadata: Vec<(String, String)>,
    /// The OTLP protobuf request as it came, decompressed; dropped once rows are changed.
    pub payload: Option<Bytes>,
}

/// A run of rows that came in one payload.
#[derive(Clone, Debug)]
pub struct Run {
    pub rows: usize,
    pub source: Arc<Source>,
}

/// Rows in unified columns. Cheap to clone; never changed in place.
///
/// Before `kernels::unify` has completed it (`completed` is false) a batch may hold three hidden columns after the
/// unified ones: `id` then holds the digest of the record's wire bytes, `$occurrence` (UInt32) counts equal digests
/// within a payload, and `$uid` (Utf8) is a source's own id. `unify` turns them into ids and drops them.
///
/// Where rows only pass through, a batch is its payloads alone and has no columns; `decode::decoded` builds them.
#[derive(Clone, Debug)]
pub struct Batch {
    pub signal: Signal,
    /// Present columns, in the table's order, hidden ones last.
    pub columns: RecordBatch,
    /// Payload runs in row order; their rows sum to the batch's.
    pub runs: Vec<Run>,
    pub completed: bool,
}

impl Batch {
    pub fn rows(&self) -> usize {
        self.columns.num_rows()
    }

    /// The array of a column, if it is present.
    pub fn column(&self, col: Col) -> Option<&ArrayRef> {
        self.columns.column_by_name(col.name())
    }

    /// The same rows with other columns; `payloads` says whether the request bytes still say the same.
    pub fn with_columns(&self, columns: RecordBatch, payloads: bool) -> Batch {
        let runs = if payloads {
            self.runs.clone()
        } else {
            self.runs.iter().map(|r| Run { rows: r.rows, source: r.source.without_payload() }).collect()
        };
        Batch { signal: self.signal, columns, runs, completed: self.completed }
    }

    /// Whether these rows are still only the requests they came in.
    pub fn is_undecoded(&self) -> bool {
        self.columns.num_columns() == 0 && self.rows() > 0
    }

    /// Rows `offset..offset + length`, not copied. A run that is cut loses its payload, and is decoded before.
    pub fn slice(&self, offset: usize, length: usize) -> Batch {
        if self.is_undecoded() && !(self.is_boundary(offset) && self.is_boundary(offset + length)) {
            return decoded(self).slice(offset, length);
        }
        let (mut runs, mut start) = (Vec::new(), 0usize);
        for run in &self.runs {
            let (from, to) = (start.max(offset), (start + run.rows).min(offset + length));
            if from < to {
                let whole = to - from == run.rows;
                let source = if whole { run.source.clone() } else { run.source.without_payload() };
                runs.push(Run { rows: to - from, source });
            }
            start += run.rows;
        }
        Batch { signal: self.signal, columns: self.columns.slice(offset, length), runs, completed: self.completed }
    }

    /// Whether a payload's rows begin or end before this row.
    fn is_boundary(&self, row: usize) -> bool {
        let mut start = 0;
        let found = self.runs.iter().any(|run| {
            start += run.rows;
            start - run.rows == row
        });
        found || start == row
    }

    /// Bytes held by the columns' buffers (shared buffers count for each batch that shares them) and by payloads.
    pub fn nbytes(&self) -> usize {
        let columns: usize = self.columns.columns().iter().map(|c| c.get_buffer_memory_size()).sum();
        columns + self.runs.iter().filter_map(|run| run.source.payload.as_ref()).map(Bytes::len).sum::<usize>()
    }

    /// The request bytes of every run, in order, or `None` when any run has lost them.
    pub fn payloads(&self) -> Option<Vec<Bytes>> {
        self.runs.iter().map(|r| r.source.payload.clone()).collect()
    }
}

impl Source {
    /// The same source, its payload forgotten.
    pub fn without_payload(self: &Arc<Source>) -> Arc<Source> {
        if self.payload.is_none() {
            return self.clone();
        }
        Arc::new(Source { tenant: self.tenant.clone(), metadata: self.metadata.clone(), payload: None })
    }
}

/// A record batch of these fields and arrays; `rows` holds also where there are no columns.
pub fn record_batch(fields: Vec<FieldRef>, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}
