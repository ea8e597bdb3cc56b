//! Columns to columns: what processors do, as functions of whole batches.

pub mod attribute;
pub mod columns;
pub mod edit;
pub mod enrich;
pub mod ids;
pub mod sampling;
pub mod unify;
pub mod url;
