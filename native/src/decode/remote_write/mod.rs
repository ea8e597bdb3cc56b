//! Prometheus remote write, 1.0 and 2.0, to rows (specification 3.17).
//!
//! A request that is no protobuf message of its version is refused whole. What is wrong with one series, sample,
//! histogram or exemplar is a [`Flaw`]: that one is left out, the others are taken.
//!
//! # Homes
//!
//! Labels stand in `labels` as they were sent, `__name__` in `event_name` and `metric_name` alone. A sample is a row; the
//! exemplars of its series message go with the last row of it, those that come alone are rows without a value. What has
//! no column is kept under the keys `$prometheus.` of [`reserved`](super::reserved).

pub mod families;
mod histogram;
pub mod messages;
pub mod parse;
pub mod rows;
pub mod series;

use std::sync::Arc;

pub use rows::Written;

use self::{families::Families, parse::Parsed, series::Book};
use super::{
    DecodeError,
    columns::Columns,
    validate::{MAX_COPIED_BYTES, check_message},
};
use crate::batch::{Batch, Run, Signal, Source};

/// The message that a request is, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    One,
    /// `io.prometheus.write.v2.Request`.
    Two,
}

/// Why a part of a request was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    InvalidLabels,
    InvalidReference,
    InvalidTimestamp,
    InvalidHistogram,
    DuplicateSample,
}

impl Reason {
    /// Its code in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::InvalidLabels => "invalid_labels",
            Reason::InvalidReference => "invalid_reference",
            Reason::InvalidTimestamp => "bad_timestamp",
            Reason::InvalidHistogram => "invalid_histogram",
            Reason::DuplicateSample => "duplicate_sample",
        }
    }
}

/// What is wrong with a part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub reason: Reason,
    pub message: String,
}

impl Flaw {
    pub fn new(reason: Reason, message: impl Into<String>) -> Flaw {
        Flaw { reason, message: message.into() }
    }
}

/// Why a request was refused whole.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    Malformed(DecodeError),
    /// Its rows would repeat more text than a request may ask for.
    TooLarge(String),
}

/// The rows of one request, and what became of its parts. `families` is what requests before it have said.
pub fn decode(
    version: Version,
    body: &[u8],
    source: Arc<Source>,
    families: &Families,
    with_help: bool,
) -> Result<(Batch, Written), Refusal> {
    let (mut book, known) = (Book::lend(), families.read());
    let result = match Parsed::of(version, body, &mut book, known.of(&source.tenant)) {
        Err(parse::Malformed) => Err(Refusal::Malformed(verdict(version, body))),
        Ok(parsed) if parsed.is_too_large() => {
            let message = format!("the rows of the request would repeat more than {MAX_COPIED_BYTES} bytes");
            Err(Refusal::TooLarge(message))
        }
        Ok(parsed) => {
            let mut columns = Columns::default();
            columns.expect(parsed.samples.len() + parsed.histograms.len());
            let written = rows::write(&mut columns, version, &parsed, &book, with_help);
            Ok((columns, written, parsed.sayings.news()))
        }
    };
    drop(known);
    book.give_back();
    let (columns, written, news) = result?;
    if !news.is_empty() {
        families.remember(&source.tenant, news);
    }
    let runs = vec![Run { rows: columns.row, source }];
    let columns = columns.finish().expect("checked parts make valid columns");
    Ok((Batch { signal: Signal::Metrics, columns, runs, completed: false }, written))
}

/// Where and why a request is none.
fn verdict(version: Version, body: &[u8]) -> DecodeError {
    let message = match version {
        Version::One => &messages::WRITE_REQUEST,
        Version::Two => &messages::REQUEST,
    };
    let unknown = || DecodeError { offset: 0, path: String::new(), message: "not a request".into() };
    check_message(message, body, 1).err().unwrap_or_else(unknown)
}
