//! Columns to bytes.

pub mod clickhouse;
pub mod otlp;
pub mod parquet;
pub mod store;
