//! Prometheus remote write, 1.0 and 2.0 (specification 3.17): unfinished. What is here reads a request and finds its
//! series (`parse`, `series`); rows are not written yet, and no route leads here.
//!
//! A request that is no protobuf message of its version is refused whole. What is wrong with one series, sample or
//! exemplar is a [`Flaw`]: that one is left out, the others are taken.

pub mod messages;
pub mod parse;
pub mod series;

/// The message that a request is, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    One,
    /// `io.prometheus.write.v2.Request`.
    Two,
}

/// Why a part of a request was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    InvalidLabels,
    InvalidReference,
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
