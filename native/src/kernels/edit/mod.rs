//! Attributes by key: read, filtered by, changed, wherever they live.
//!
//! `view` reads them, over `entries` (maps) and `contexts`; `actions` is what may be done to them, `record` does it to
//! records and `resource` to resources; `filter` says to which rows. Columns that attributes feed follow (`cells`).

pub mod actions;
mod cells;
pub mod contexts;
pub mod entries;
pub mod filter;
pub mod record;
pub mod resource;
pub mod value;
pub mod view;
