//! Bodies to sockets: packing, and an HTTP/2 client that speaks gRPC.
//!
//! A request that nobody changed is sent as the very bytes it came in: they go from the receiving socket to the sending
//! one without having been copied, unless they are packed on the way. `pack` compresses, `frame` is a gRPC message,
//! `channel` keeps connections and calls, `answer` reads what an OTLP server says, `tls` proves who it is, `json` spells requests as text.

pub mod answer;
pub mod channel;
pub mod frame;
pub mod json;
pub mod pack;
pub mod tls;
