//! Sockets to bodies.
//!
//! hyper reads sockets on threads of its own while Python holds its lock; a finished body waits, undecoded, in a queue
//! that is bounded in bytes over the whole listener, with a share per tenant. Python is woken once per burst (eventfd),
//! takes what waits as one group, and answers it with one call. Everything a client can do wrong before its body is
//! decoded is answered here, and counted.
//!
//! `server` owns threads, ports and connections; `connection` watches one connection's clock; `service` takes one
//! request from its head to its answer; `body` reads it; `queue` holds what waits; `group` is what Python takes;
//! `answer` renders outcomes per protocol.

pub mod answer;
mod body;
mod connection;
pub mod cors;
pub mod group;
mod headers;
pub mod options;
pub mod queue;
pub mod server;
mod service;
pub mod stats;
pub mod tls;
