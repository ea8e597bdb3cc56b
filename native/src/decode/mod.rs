//! Bytes to columns.
//!
//! A payload is walked twice: `validate` gives the verdict and touches no column, then the signal's module writes column
//! buffers by field number, which cannot fail. So a refused payload leaves no row and no state behind.
//!
//! # Homes
//!
//! Every value has one home (architecture 3). Attributes: `otel_attributes.csv` says which key feeds which column, and
//! which may live there alone. What has no column is kept under the keys of [`reserved`]. `context` holds
//! `{"resource":{..},"resource_schema_url":..,"resource_dropped":..,"resource_entities":[{"schema_url":..,"type":..,
//! "id_keys":[..],"description_keys":[..]}],"scope":{"name":..,"version":..,"attributes":{..},"schema_url":..,
//! "dropped":..}}`, each part only when it is not empty; the scope's name lives in `log_logger` and is
//! in `context` only where another attribute feeds that column. Rows whose own attributes feed a column that is the
//! home of a resource attribute have a `context` with all of the resource.
//!
//! # Limits
//!
//! Levels of messages ([`DecodeOptions::max_depth`]), attributes per list, bytes of text that would be copied per row or
//! per scope ([`validate::MAX_COPIED_BYTES`]), bytes per call ([`MAX_CALL_BYTES`]).

pub mod any_value;
pub(crate) mod attributes;
pub mod columns;
pub mod compression;
mod context;
pub mod json;
pub mod keys;
mod logs;
mod metrics;
mod record;
pub mod remote_write;
pub mod reserved;
pub mod semantics;
mod traces;
pub mod validate;
pub mod wire;

use std::sync::Arc;

use bytes::Bytes;
pub use compression::{DecompressError, Encoding, decompress};
pub use json::json_to_protobuf;

use self::{
    attributes::{Cell, Own, pairs},
    columns::Columns,
    context::{Resource, Scope},
    record::Pass,
    validate::{Limits, check},
    wire::{Arena, MAX_LEVELS},
};
use crate::{
    batch::{Batch, Run, Signal, Source, record_batch},
    schema::Col,
    select::concat,
};

/// Bodies that one call takes in all: text offsets have 32 bits, and text takes up to six times its size within JSON.
pub const MAX_CALL_BYTES: usize = 256 << 20;

/// Room is made at once for at most so many rows.
const MAX_EXPECTED_ROWS: usize = 16_384;

/// One request.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Plain protobuf.
    pub body: Bytes,
    pub source: Arc<Source>,
}

#[derive(Clone, Copy, Debug)]
pub struct DecodeOptions {
    /// Whether runs keep the request bytes.
    pub keep_payload: bool,
    /// Levels of messages within messages.
    pub max_depth: u32,
    /// Attributes of one record, resource, scope, event or link.
    pub max_attributes: u32,
    /// Maps hold also what has a column.
    pub attributes_whole: bool,
}

impl Default for DecodeOptions {
    fn default() -> DecodeOptions {
        DecodeOptions {
            keep_payload: false,
            max_depth: MAX_LEVELS as u32,
            max_attributes: 10_000,
            attributes_whole: false,
        }
    }
}

/// Why a payload was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Where, in bytes from the payload's start.
    pub offset: usize,
    /// Which field, such as `resource_spans[0].scope_spans[1].spans[7].attributes[2].value`.
    pub path: String,
    pub message: String,
}

/// The rows of all payloads that are requests, and the places of those that are not.
pub fn decode(signal: Signal, payloads: &[Payload], opts: &DecodeOptions) -> (Batch, Vec<(usize, DecodeError)>) {
    let limits = Limits { max_depth: opts.max_depth, max_attributes: opts.max_attributes };
    let (mut columns, mut runs, mut refused, mut bytes) = (Columns::default(), Vec::new(), Vec::new(), 0usize);
    let (arena, mut own) = (Arena::default(), Own::default());
    for (index, payload) in payloads.iter().enumerate() {
        let rows = match fits(bytes, &payload.body).and_then(|()| check(signal, &payload.body, limits)) {
            Ok(rows) => rows,
            Err(error) => {
                refused.push((index, error));
                continue;
            }
        };
        // Requests that waited together are mostly alike.
        columns.expect((columns.row + rows.saturating_mul(payloads.len() - index)).min(MAX_EXPECTED_ROWS));
        bytes += payload.body.len();
        let before = columns.row;
        build(signal, &payload.body, opts.attributes_whole, &mut columns, &mut own, &arena);
        let source = if opts.keep_payload { with_payload(payload) } else { payload.source.clone() };
        runs.push(Run { rows: columns.row - before, source });
    }
    let columns = columns.finish().expect("validated payloads make valid columns");
    (Batch { signal, columns, runs, completed: false }, refused)
}

fn fits(bytes: usize, body: &Bytes) -> Result<(), DecodeError> {
    let message = || format!("more than {MAX_CALL_BYTES} bytes in one call");
    match bytes.saturating_add(body.len()) <= MAX_CALL_BYTES {
        true => Ok(()),
        false => Err(DecodeError { offset: 0, path: String::new(), message: message() }),
    }
}

/// The rows that a request has, or why it is none; the same verdict as [`decode`] with default options.
pub fn validate(signal: Signal, body: &[u8]) -> Result<usize, DecodeError> {
    let options = DecodeOptions::default();
    check(signal, body, Limits { max_depth: options.max_depth, max_attributes: options.max_attributes })
}

/// The rows of all payloads that are requests as a batch without columns, and the places of those that are not.
pub fn undecoded(signal: Signal, payloads: &[Payload]) -> (Batch, Vec<(usize, DecodeError)>) {
    let (mut runs, mut refused) = (Vec::new(), Vec::new());
    for (index, payload) in payloads.iter().enumerate() {
        match fits(0, &payload.body).and_then(|()| validate(signal, &payload.body)) {
            Ok(rows) => runs.push(Run { rows, source: with_payload(payload) }),
            Err(error) => refused.push((index, error)),
        }
    }
    let rows = runs.iter().map(|run| run.rows).sum();
    let columns = record_batch(Vec::new(), Vec::new(), rows).expect("no column can be wrong");
    (Batch { signal, columns, runs, completed: false }, refused)
}

/// The same rows with their columns; payloads stay.
pub fn decoded(batch: &Batch) -> Batch {
    if !batch.is_undecoded() {
        return batch.clone();
    }
    let options = DecodeOptions { keep_payload: true, ..DecodeOptions::default() };
    let parts: Vec<Batch> = batch
        .runs
        .iter()
        .map(|run| {
            let body = run.source.payload.clone().expect("a batch without columns has its payloads");
            decode(batch.signal, &[Payload { body, source: run.source.clone() }], &options).0
        })
        .collect();
    concat(&parts).expect("decoded batches fit together")
}

fn with_payload(payload: &Payload) -> Arc<Source> {
    let Source { tenant, metadata, .. } = &*payload.source;
    Arc::new(Source { tenant: tenant.clone(), metadata: metadata.clone(), payload: Some(payload.body.clone()) })
}

fn build<'a>(signal: Signal, body: &'a [u8], whole: bool, columns: &mut Columns, own: &mut Own<'a>, arena: &'a Arena) {
    let (first, mut pass) = (columns.row, Pass::new(columns, whole));
    for message in pairs(body, 1) {
        let resource = Resource::of(message, whole, arena, pass.columns);
        for message in pairs(message, 2) {
            let mut scope = Scope::of(message, &resource, whole, arena, pass.columns);
            for record in pairs(message, 2) {
                match signal {
                    Signal::Metrics => metrics::rows(&mut pass, record, &resource, &mut scope, arena),
                    Signal::Logs => logs::row(&mut pass, record, &resource, &mut scope, own, arena),
                    _ => traces::row(&mut pass, record, &resource, &mut scope, own, arena),
                }
            }
            scope.end(&resource, pass.columns);
        }
    }
    if columns.row > first {
        let (event_type, source): (&[u8], &[u8]) = match signal {
            Signal::Metrics => (b"metric", b"otel.metric"),
            Signal::Logs => (b"log", b"otel.log"),
            _ => (b"trace", b"otel.span"),
        };
        columns.fill(Col::EventType, &Cell::Text(event_type.into()), first, &[]);
        columns.fill(Col::EventSource, &Cell::Text(source.into()), first, &[]);
    }
}
