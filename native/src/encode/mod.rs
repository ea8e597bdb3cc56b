//! Columns to bytes.

pub mod clickhouse;
pub mod store;
