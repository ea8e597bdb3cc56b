//! The fuzz targets: plain functions of bytes that panic when something is wrong.
//!
//! `cargo fuzz run TARGET` (nightly, guided by coverage), `cargo run --example fuzz` (stable, seeded mutations of the
//! corpus; what `make soak` runs) and `cargo test` (the corpus as it is) call the same functions. A crash that was found
//! stays in the target's corpus under a name that says what it was.

use std::sync::Arc;

use _native::{
    batch::{Batch, Signal, Source},
    decode::{DecodeOptions, Encoding, Payload, decode as decode_all, decompress, json_to_protobuf, validate as check},
    encode::{otlp::encode_otlp, store::store_attributes},
    kernels::unify::{Options, complete},
};
use arrow_array::Array;
use bytes::Bytes;

/// A target's name, function, and the folder in `corpus/` that holds its seeds.
pub type Target = (&'static str, fn(&[u8]), &'static str);

pub const TARGETS: &[Target] = &[
    ("validate", validate, "otlp"),
    ("decode", decode, "otlp"),
    ("encode", encode, "otlp"),
    ("json", json, "json"),
    ("decompression", decompression, "decompression"),
];

const SIGNALS: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

fn rows_of(signal: Signal, bodies: &[&[u8]], attributes_whole: bool) -> Batch {
    let source = Arc::new(Source::default());
    let payload = |body: &&[u8]| Payload { body: Bytes::copy_from_slice(body), source: source.clone() };
    let payloads: Vec<Payload> = bodies.iter().map(payload).collect();
    decode_all(signal, &payloads, &DecodeOptions { attributes_whole, ..DecodeOptions::default() }).0
}

/// A verdict says where and why, and is the same however often it is asked.
pub fn validate(data: &[u8]) {
    for signal in SIGNALS {
        let verdict = check(signal, data);
        assert_eq!(verdict, check(signal, data));
        if let Err(error) = verdict {
            assert!(error.offset <= data.len() && !error.message.is_empty());
        }
    }
}

/// Rows are as many as the verdict says, their columns are sound, and a refused payload leaves nothing in another.
pub fn decode(data: &[u8]) {
    for signal in SIGNALS {
        let rows = check(signal, data).unwrap_or(0);
        for whole in [false, true] {
            let batch = rows_of(signal, &[data], whole);
            assert_eq!(batch.rows(), rows);
            for column in batch.columns.columns() {
                column.to_data().validate_full().expect("decoded columns are sound");
            }
            let half = &data[..data.len() / 2];
            let both = rows_of(signal, &[half, data], whole);
            if check(signal, half).is_err() {
                assert_eq!(format!("{:?}", both.columns), format!("{:?}", batch.columns));
            }
        }
    }
}

/// What rows say is read back as it was written, by every form that rows take.
pub fn encode(data: &[u8]) {
    for signal in SIGNALS {
        let batch = rows_of(signal, &[data], false);
        let encoded =
            |batch: &Batch| encode_otlp(signal, std::slice::from_ref(batch), 0).expect("rows that came as OTLP");
        let requests = encoded(&batch);
        assert_eq!(requests.len(), usize::from(batch.rows() > 0));
        let Some(request) = requests.first() else { continue };
        assert_eq!(check(signal, request), Ok(batch.rows()), "an encoded request is a request");
        assert_eq!(encoded(&rows_of(signal, &[request], false)), requests);
        assert_eq!(encoded(&store_attributes(&batch).expect("decoded rows can be stored")), requests);
        let (completed, _) = complete(&batch, &Options::default(), 1, [0; 16]).expect("decoded rows can be completed");
        // A user-info is removed on purpose.
        if !data.contains(&b'@') {
            assert_eq!(encoded(&completed), requests);
        }
        let whole = rows_of(signal, &[data], true);
        let parts = encode_otlp(signal, &[whole], 64).expect("rows that came as OTLP");
        let count = |part: &Vec<u8>| check(signal, part).expect("a part is a request");
        assert_eq!(parts.iter().map(count).sum::<usize>(), batch.rows());
    }
}

/// JSON of any signal never panics, and means the same however often it is asked.
pub fn json(data: &[u8]) {
    for signal in SIGNALS {
        let body = json_to_protobuf(signal, data);
        assert_eq!(body, json_to_protobuf(signal, data));
        match body {
            Ok(body) => drop(check(signal, &body)),
            Err(error) => assert!(error.offset <= data.len() && !error.message.is_empty()),
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
