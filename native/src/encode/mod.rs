//! Columns to bytes.

pub mod clickhouse;
pub mod lines;
pub mod otlp;
pub mod parquet;
pub mod store;
pub mod texts;

use std::fmt;

use arrow_schema::ArrowError;

/// Rows that can not be encoded; `column` is empty where it is none's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError {
    pub code: &'static str,
    pub column: String,
    pub message: String,
}

impl EncodeError {
    pub fn new(code: &'static str, column: &str, message: impl Into<String>) -> EncodeError {
        EncodeError { code, column: column.to_owned(), message: message.into() }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "column {:?}: {}", self.column, self.message),
        }
    }
}

impl std::error::Error for EncodeError {}

impl From<ArrowError> for EncodeError {
    fn from(error: ArrowError) -> Self {
        EncodeError::new("unexpected_type", "", error.to_string())
    }
}
