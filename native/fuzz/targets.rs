//! The fuzz targets: plain functions of bytes that panic when something is wrong.
//!
//! `cargo fuzz run TARGET` (nightly, guided by coverage) and `cargo run --example fuzz` (stable, seeded mutations of
//! the corpus; what `make soak` runs) call the same functions. A crash that was found stays in `corpus/TARGET/` under
//! a name that says what it was.

use _native::{
    batch::Signal,
    decode::{Encoding, decompress, json_to_protobuf},
};
use bytes::Bytes;

/// A target's name and function.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[("json", json), ("decompression", decompression)];

/// JSON of any signal never panics, and means the same however often it is asked.
pub fn json(data: &[u8]) {
    for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
        let body = json_to_protobuf(signal, data);
        assert_eq!(body, json_to_protobuf(signal, data));
        if let Err(error) = body {
            assert!(error.offset <= data.len() && !error.message.is_empty());
        }
    }
}

/// The first byte names the coding; what comes out keeps the limit and is the same the second time.
pub fn decompression(data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Some((first, body)) = data.split_first() else { return };
    let encoding = Encoding::ALL[usize::from(*first) % Encoding::ALL.len()];
    let body = Bytes::copy_from_slice(body);
    let plain = decompress(encoding, &body, LIMIT);
    assert!(plain.as_ref().is_ok_and(|plain| plain.len() <= LIMIT) || plain.is_err());
    assert_eq!(plain, decompress(encoding, &body, LIMIT));
}
