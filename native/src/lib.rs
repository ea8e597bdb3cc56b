//! What touches every request and every row of Colonnade.
//!
//! `listen` turns sockets into bodies, `decode` bodies into columns, `kernels` columns into columns, `encode` columns
//! into bytes, `send` bytes into sockets. No policy, no configuration file, no clock: the Python side tells limits, routes and rules as values.

pub mod batch;
pub mod decode;
pub mod encode;
pub mod ipc;
pub mod kernels;
pub mod listen;
pub mod mapping;
pub mod protobuf;
#[cfg(feature = "python")]
mod python;
pub mod schema;
pub mod select;
pub mod send;
pub mod wal;
