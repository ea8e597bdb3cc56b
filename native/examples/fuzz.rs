//! A bounded fuzz round on stable Rust: seeded mutations of the seed corpus.
//!
//!     cargo run --release --no-default-features --example fuzz -- SECONDS [SEED] [TARGET]
//!
//! An input that makes a target panic is written to `fuzz/artifacts/` and ends the run with status 1.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use targets::{TARGETS, Target};

const MAX_INPUT_BYTES: usize = 64 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |a| a.parse::<u64>());
    let (Ok(seconds), Ok(seed)) = (number(0, 10), number(1, 1)) else {
        eprintln!("usage: fuzz SECONDS [SEED] [TARGET]");
        return ExitCode::from(2);
    };
    let chosen: Vec<&Target> = TARGETS.iter().filter(|t| arguments.get(2).is_none_or(|name| name == t.0)).collect();
    if chosen.is_empty() {
        eprintln!("no such target; there are {}", TARGETS.map_names());
        return ExitCode::from(2);
    }
    let share = Duration::from_secs(seconds) / chosen.len() as u32;
    let failed = chosen.into_iter().filter(|target| !round(target, share, seed)).count();
    ExitCode::from(u8::from(failed > 0))
}

trait Names {
    fn map_names(&self) -> String;
}

impl Names for [Target] {
    fn map_names(&self) -> String {
        self.iter().map(|target| target.0).collect::<Vec<_>>().join(", ")
    }
}

/// Runs one target for its share of time; false when it panicked.
fn round(target: &Target, share: Duration, seed: u64) -> bool {
    let (name, function, folder) = *target;
    let corpus = corpus(folder);
    let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    let (end, mut runs) = (Instant::now() + share, 0u64);
    for input in &corpus {
        if !survives(name, function, input) {
            return false;
        }
    }
    while Instant::now() < end {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, &corpus, &mut random);
        }
        input.truncate(MAX_INPUT_BYTES);
        runs += 1;
        if !survives(name, function, &input) {
            return false;
        }
    }
    println!("{name}: {runs} inputs from {} seeds, seed {seed}, nothing found", corpus.len());
    true
}

fn survives(name: &str, function: fn(&[u8]), input: &[u8]) -> bool {
    if std::panic::catch_unwind(|| function(input)).is_ok() {
        return true;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/artifacts");
    let digest = input.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let file = folder.join(format!("{name}-{digest:016x}"));
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input)) {
        Ok(()) => eprintln!("{name} panicked; the input is {}", file.display()),
        Err(error) => eprintln!("{name} panicked, and the input could not be written: {error}"),
    }
    false
}

/// The seeds in a folder of the corpus, and the empty input.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", name].iter().collect();
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    files.sort();
    let mut inputs: Vec<Vec<u8>> = files.iter().filter_map(|file| fs::read(file).ok()).collect();
    inputs.push(Vec::new());
    inputs
}

/// xorshift64*, so that a seed means the same run everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() >> 33) as usize % count.max(1)
    }
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    const ODD: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'[', b',', 0x0a, 0x12];
    let at = random.below(input.len() + 1);
    match random.below(7) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = ODD[random.below(ODD.len())],
        2 if at < input.len() => input[at] = random.next() as u8,
        3 => input.insert(at, ODD[random.below(ODD.len())]),
        4 => {
            let length = random.below(8).min(input.len() - at);
            input.drain(at..at + length);
        }
        5 => {
            // A piece of itself once more: repeated fields, nested lengths.
            let length = random.below(64).min(input.len() - at);
            let piece = input[at..at + length].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}
