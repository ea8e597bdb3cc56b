//! Columns to bytes.
