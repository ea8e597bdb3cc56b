//! Which rows to keep: by chance that a whole trace shares, and what is told of it to whoever counts later.

pub mod probabilistic;
pub mod threshold;
pub mod tracestate;
