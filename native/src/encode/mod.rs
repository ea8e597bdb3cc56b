//! Columns to bytes.

pub mod clickhouse;
pub mod parquet;
pub mod store;
