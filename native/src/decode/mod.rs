//! Bytes to columns.

pub mod compression;

pub use compression::{DecompressError, Encoding, decompress};
