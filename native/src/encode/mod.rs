//! Columns to bytes.

pub mod store;
