//! Runs one kernel on fixed rows so many times, for a tool that counts instructions: `python -m bench.check`.
//!
//!     count KERNEL TIMES TABLE
//!
//! KERNEL is a name of `KERNELS`; TABLE is a file with the columns of the wide table, name and type behind a tab, one a
//! line. Prints how many rows the kernel handles each time.

#[allow(dead_code)]
#[path = "load/corpus.rs"]
mod corpus;

use std::{hint::black_box, sync::Arc};

use _native::{
    batch::{Batch, Signal, Source},
    decode::{DecodeOptions, Payload, decode, validate},
    encode::clickhouse::{NativeOptions, encode_native},
    kernels::unify,
};
use corpus::{Shape, Template};

const KERNELS: [&str; 8] = [
    "decode.traces.512",
    "decode.traces.10",
    "decode.logs.512",
    "decode.metrics.512",
    "validate.traces.512",
    "unify.traces.512",
    "native.traces.512",
    "native.logs.512",
];
const ROWS: usize = 2_048;
const NOW_NS: u64 = 1_790_000_000_000_000_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(kernel), Some(times), Some(table)) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("count: KERNEL TIMES TABLE; kernels are {}", KERNELS.join(", "));
        std::process::exit(2)
    };
    let times: u32 = times.parse().expect("TIMES is a number");
    let mut parts = kernel.split('.');
    let (name, of) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let per_request: usize = parts.next().and_then(|text| text.parse().ok()).expect("KERNEL ends in a number of rows");
    let signal = match of {
        "logs" => Signal::Logs,
        "metrics" => Signal::Metrics,
        _ => Signal::Traces,
    };
    let payloads = payloads(signal, per_request);
    let decoded = || decode(signal, &payloads, &DecodeOptions::default()).0;
    let rows = match name {
        "decode" => repeat(times, || decoded().columns.num_rows()),
        "validate" => repeat(times, || payloads.iter().map(|p| validate(signal, &p.body).expect("it is valid")).sum()),
        "unify" => {
            let batch = decoded();
            repeat(times, || complete(&batch).columns.num_rows())
        }
        "native" => {
            let batch = complete(&decoded());
            let table = read_table(&table);
            let options = NativeOptions::default();
            repeat(times, || {
                let blocks = encode_native(std::slice::from_ref(&batch), &table, &options).expect("the table fits");
                blocks.iter().map(|block| block.rows).sum()
            })
        }
        _ => panic!("unknown kernel {kernel}"),
    };
    println!("{rows}");
}

fn repeat(times: u32, mut work: impl FnMut() -> usize) -> usize {
    (0..times).map(|_| black_box(work())).max().unwrap_or(0)
}

fn complete(batch: &Batch) -> Batch {
    unify::complete(batch, &unify::Options::default(), NOW_NS as i64, [7; 16]).expect("decoded rows can be completed").0
}

/// Requests of different services, so many rows in all.
fn payloads(signal: Signal, per_request: usize) -> Vec<Payload> {
    let signal = match signal {
        Signal::Logs => corpus::Signal::Logs,
        Signal::Metrics => corpus::Signal::Metrics,
        _ => corpus::Signal::Traces,
    };
    let shape = Shape { signal, rows: per_request as u64, attributes: None, distinct: None };
    let requests = (ROWS / per_request) as u64;
    (0..requests)
        .map(|number| {
            let template = Template::new(shape, number);
            let mut body = template.bytes.clone();
            template.stamp(&mut body, number, NOW_NS);
            Payload { body: body.into(), source: Arc::new(Source::default()) }
        })
        .collect()
}

fn read_table(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).expect("TABLE can be read");
    text.lines().filter_map(|line| line.split_once('\t')).map(|(name, kind)| (name.into(), kind.into())).collect()
}
