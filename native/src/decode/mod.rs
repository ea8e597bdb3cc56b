//! Bytes to columns.

pub mod compression;
mod json;

pub use compression::{DecompressError, Encoding, decompress};
pub use json::json_to_protobuf;

/// Why a payload was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Where, in bytes from the payload's start.
    pub offset: usize,
    /// Which field, such as `resource_spans[0].scope_spans[1].spans[7].attributes[2].value`.
    pub path: String,
    pub message: String,
}
