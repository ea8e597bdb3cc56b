//! Which attribute feeds which column: a plain `match`, and a table of the columns that may be an attribute's only home,
//! both generated from `otel_attributes.csv`.

use crate::schema::Col;

/// How a value becomes its column's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    None,
    Lower,
    Upper,
    /// The first element of a list of text.
    First,
    /// `http.target` up to the question mark.
    Path,
    /// `http.target` after the question mark.
    Query,
    /// `net.peer.name`: client spans only.
    Peer,
    /// `net.host.name`: server spans only.
    Server,
    /// `browser.mobile`.
    Mobile,
    /// The part of a full method name before the last slash.
    Service,
    /// The part after it.
    Method,
    /// An HTTP version.
    Protocol,
    /// gRPC numbers become names.
    RpcStatus,
    /// gRPC names become numbers.
    StatusCode,
}

#[derive(Debug)]
pub struct Rule {
    pub col: Col,
    /// The higher one wins where several attributes feed a column.
    pub rank: u8,
    /// Whether the column may be the only home of the attribute's value.
    pub canonical: bool,
    /// Whether the attribute belongs on resources; else on records.
    pub resource: bool,
    pub transform: Transform,
}

include!(concat!(env!("OUT_DIR"), "/keys.rs"));
