//! What the processor `enrich` needs of rows, and gives them: attributes as columns of terms, places of addresses, texts
//! that match any of many patterns, and words in the context.
//!
//! Python works on the distinct values in between.

pub mod context;
pub mod geo;
pub mod patterns;
pub mod terms;
