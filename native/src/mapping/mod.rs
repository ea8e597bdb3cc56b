//! JSON events to rows, by mappings: what a file says of one event source, run over the body's own bytes.
//!
//! `plan` is a mapping as it is run, compiled from a file by `colonnade.unified_schema.mappings`; `payload` finds the
//! events of a body; `shape` finds an event's values in one pass; `check` gives the verdict on it, and `row` writes
//! its rows, which can not fail. `json`, `time` and `number` know how sources write.
//!
//! A body is walked twice: once to check that it is JSON, once per event for its values. Bags (`properties`,
//! `context`) are kept as their own text.

mod check;
mod expression;
pub mod identity;
pub mod json;
mod number;
mod payload;
mod plan;
mod row;
pub mod run;
mod shape;
mod time;
pub mod window;

pub use check::Reject;
pub use payload::{Envelope, Format, Limits, Unreadable};
pub use plan::PlanError;
pub use row::Request;

/// Code, message and offset of a body that holds no events.
pub fn unreadable(error: &Unreadable) -> (&'static str, String, Option<usize>) {
    match error {
        Unreadable::Malformed(offset, message) => ("malformed", format!("{message} at byte {offset}"), Some(*offset)),
        Unreadable::Envelope(message) => ("bad_envelope", (*message).to_owned(), None),
    }
}
