//! Which attribute feeds which column: a plain `match`, and a table of the columns that may be an attribute's only home,
//! both generated from `otel_attributes.csv`.

use std::sync::LazyLock;

use crate::schema::{COLUMN_COUNT, Col};

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

/// The columns that some attributes feed: such a column is no attribute's only home.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Fed([u64; COLUMN_COUNT.div_ceil(64)]);

impl Fed {
    pub fn by(&mut self, key: &str) {
        for rule in rules(key.as_bytes()) {
            self.0[rule.col as usize / 64] |= 1 << (rule.col as usize % 64);
        }
    }

    pub fn has(&self, col: Col) -> bool {
        self.0[col as usize / 64] & 1 << (col as usize % 64) != 0
    }

    pub fn and(mut self, other: Fed) -> Fed {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
        self
    }
}

/// The keys that feed a column.
pub fn feeders(col: Col) -> &'static [&'static str] {
    static BY_COLUMN: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| {
        let feeds = |key: &&&str, col: Col| rules(key.as_bytes()).iter().any(|rule| rule.col == col);
        Col::all().map(|col| KEYS.iter().filter(|key| feeds(key, col)).copied().collect()).collect()
    });
    &BY_COLUMN[col as usize]
}
