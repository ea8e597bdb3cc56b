//! Sends OTLP to a daemon as many services would, and says what became of it: the load of `python -m bench`.
//!
//!     load --to 127.0.0.1:4318 --protocol http --signal traces --rows 512 --connections 32
//!
//! It opens its connections, prints `ready`, and then obeys lines on its standard input: `run SECONDS` sends for that long
//! and prints what happened as one line of JSON; the end of the input ends it. A refusal that may be repeated is repeated
//! after the delay it asks for, with the same bytes; only answers of success count as rows sent. Other options:
//! `--encoding none|gzip|zstd` (compressed requests are made before `ready`, `--pool` of them, and then repeat),
//! `--streams` requests at once on a gRPC connection, `--rate` requests a second over all connections (0: as fast as
//! answers come), `--header NAME:VALUE`, `--seed` (runs of different seeds have no id in common), `--threads`,
//! `--attributes` and `--distinct` (corpus.rs). `--dump` writes one request to standard output instead.

mod client;
mod corpus;
mod stats;

use std::{
    io::{BufRead, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use client::{Plan, Target, Worker};
use corpus::{Shape, Signal, Template};
use stats::Stats;

/// Templates differ in service and in all values that repeat.
const VARIANTS: u64 = 64;

fn main() {
    let options = Options::read(std::env::args().skip(1)).unwrap_or_else(|problem| {
        eprintln!("load: {problem}");
        std::process::exit(2)
    });
    if options.dump {
        let template = Template::new(options.target.shape, options.target.seed);
        let mut bytes = template.bytes.clone();
        template.stamp(&mut bytes, options.target.seed << 32, client::now_ns());
        std::io::stdout().write_all(&bytes).expect("standard output takes the request");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads)
        .enable_all()
        .build()
        .expect("threads can be started");
    runtime.block_on(obey(options));
}

/// Obeys standard input until it ends.
async fn obey(options: Options) {
    let count = options.connections * options.streams;
    let target = Arc::new(options.target);
    let plan = Arc::new(Plan::new(&target, VARIANTS.min(count as u64)));
    let mut workers = Vec::new();
    for connection in 0..options.connections {
        workers.extend(Worker::connect(&target, &plan, connection * options.streams, options.streams).await);
    }
    println!("ready");
    let mut lines = std::io::stdin().lock().lines();
    while let Some(Ok(line)) = lines.next() {
        let Some(seconds) = line.strip_prefix("run ").and_then(|number| number.trim().parse::<f64>().ok()) else {
            eprintln!("load: expected `run SECONDS`, got {line:?}");
            std::process::exit(2);
        };
        let begun = Instant::now();
        let until = begun + Duration::from_secs_f64(seconds);
        let spacing = (options.rate > 0.0).then(|| Duration::from_secs_f64(count as f64 / options.rate));
        let tasks: Vec<_> = workers
            .drain(..)
            .enumerate()
            .map(|(index, worker)| {
                // Workers of a given rate take turns.
                let first = begun + spacing.unwrap_or_default().mul_f64(index as f64 / count as f64);
                tokio::spawn(worker.run(begun, first, until, spacing))
            })
            .collect();
        let mut total = Stats::default();
        for task in tasks {
            let (worker, stats) = task.await.expect("no worker panics");
            workers.push(worker);
            total.add(stats);
        }
        println!("{}", total.json(begun.elapsed()));
    }
}

struct Options {
    target: Target,
    connections: usize,
    streams: usize,
    threads: usize,
    rate: f64,
    dump: bool,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            target: Target {
                address: String::new(),
                grpc: false,
                encoding: "none".into(),
                shape: Shape { signal: Signal::Traces, rows: 512, attributes: None, distinct: None },
                headers: Vec::new(),
                seed: 0,
                pool: 256,
            },
            connections: 32,
            streams: 1,
            threads: 1,
            rate: 0.0,
            dump: false,
        };
        while let Some(name) = arguments.next() {
            if name == "--dump" {
                options.dump = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            options.set(&name, value)?;
        }
        if options.target.address.is_empty() && !options.dump {
            return Err("--to HOST:PORT says where to send".into());
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let target = &mut self.target;
        match name {
            "--to" => target.address = value,
            "--protocol" => target.grpc = one_of(name, &value, &[("http", false), ("grpc", true)])?,
            "--encoding" => {
                one_of(name, &value, &[("none", ()), ("gzip", ()), ("zstd", ())])?;
                target.encoding = value;
            }
            "--signal" => {
                let signals = [
                    ("traces", Signal::Traces),
                    ("logs", Signal::Logs),
                    ("metrics", Signal::Metrics),
                    ("gauges", Signal::Gauges),
                ];
                target.shape.signal = one_of(name, &value, &signals)?;
            }
            "--rows" => target.shape.rows = number(name, &value)?,
            "--attributes" => target.shape.attributes = Some(number(name, &value)?),
            "--distinct" => target.shape.distinct = Some(number(name, &value)?),
            "--header" => {
                let (key, text) = value.split_once(':').ok_or_else(|| format!("{name} wants NAME:VALUE"))?;
                target.headers.push((key.trim().to_lowercase(), text.trim().to_owned()));
            }
            "--seed" => target.seed = number(name, &value)?,
            "--pool" => target.pool = number(name, &value)?,
            "--connections" => self.connections = number(name, &value)?,
            "--streams" => self.streams = number(name, &value)?,
            "--threads" => self.threads = number(name, &value)?,
            "--rate" => self.rate = number(name, &value)?,
            _ => return Err(format!("unknown option {name}")),
        }
        Ok(())
    }
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("{name} wants a number, got {value:?}"))
}

fn one_of<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(choice, _)| *choice == value).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        format!("{name} wants one of {}, got {value:?}", names.join(", "))
    })
}
