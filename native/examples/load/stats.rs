//! What became of the requests of a run.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// An answer, as HTTP status or gRPC code.
pub type Code = u16;

#[derive(Default)]
pub struct Stats {
    /// Requests answered with success, and their rows and bytes.
    requests: u64,
    rows: u64,
    bytes: u64,
    /// Success, but for some rows.
    partial: u64,
    /// Answers that said: again later.
    refused: BTreeMap<Code, u64>,
    /// Of these, those that did not say when.
    without_delay: u64,
    /// Answers that said no.
    failed: BTreeMap<Code, u64>,
    /// Connections that broke.
    broken: u64,
    /// Requests that were still refused when the time was over.
    given_up: u64,
    latency: Histogram,
    /// Rows and refusals by second.
    timeline: Vec<(u64, u64)>,
}

impl Stats {
    pub fn succeeded(&mut self, rows: u64, bytes: usize, partial: bool, took: Duration, at: Duration) {
        self.requests += 1;
        self.rows += rows;
        self.bytes += bytes as u64;
        self.partial += u64::from(partial);
        self.latency.add(took);
        self.second(at).0 += rows;
    }

    pub fn refused(&mut self, code: Code, delay_known: bool, at: Duration) {
        *self.refused.entry(code).or_default() += 1;
        self.without_delay += u64::from(!delay_known);
        self.second(at).1 += 1;
    }

    pub fn failed(&mut self, code: Code) {
        *self.failed.entry(code).or_default() += 1;
    }

    pub fn broken(&mut self) {
        self.broken += 1;
    }

    pub fn given_up(&mut self) {
        self.given_up += 1;
    }

    fn second(&mut self, at: Duration) -> &mut (u64, u64) {
        let second = at.as_secs() as usize;
        if self.timeline.len() <= second {
            self.timeline.resize(second + 1, (0, 0));
        }
        &mut self.timeline[second]
    }

    pub fn add(&mut self, other: Stats) {
        self.requests += other.requests;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.partial += other.partial;
        self.without_delay += other.without_delay;
        self.broken += other.broken;
        self.given_up += other.given_up;
        self.latency.merge(&other.latency);
        for (mine, others) in [(&mut self.refused, other.refused), (&mut self.failed, other.failed)] {
            others.into_iter().for_each(|(code, count)| *mine.entry(code).or_default() += count);
        }
        for (second, (rows, refusals)) in other.timeline.into_iter().enumerate() {
            let mine = self.second(Duration::from_secs(second as u64));
            *mine = (mine.0 + rows, mine.1 + refusals);
        }
    }

    /// One line.
    pub fn json(&self, took: Duration) -> String {
        let codes = |counts: &BTreeMap<Code, u64>| {
            let pairs: Vec<_> = counts.iter().map(|(code, count)| format!("\"{code}\": {count}")).collect();
            format!("{{{}}}", pairs.join(", "))
        };
        let column = |of: fn(&(u64, u64)) -> u64| {
            let values: Vec<_> = self.timeline.iter().map(|pair| of(pair).to_string()).collect();
            values.join(", ")
        };
        let mut out = format!("{{\"seconds\": {:.4}", took.as_secs_f64());
        for (name, value) in [
            ("requests", self.requests),
            ("rows", self.rows),
            ("bytes", self.bytes),
            ("partial", self.partial),
            ("refused_without_delay", self.without_delay),
            ("broken", self.broken),
            ("given_up", self.given_up),
        ] {
            let _ = write!(out, ", \"{name}\": {value}");
        }
        let _ = write!(out, ", \"refused\": {}, \"failed\": {}", codes(&self.refused), codes(&self.failed));
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            let _ = write!(out, ", \"{name}_ms\": {:.3}", self.latency.quantile(share).as_secs_f64() * 1e3);
        }
        let _ = write!(out, ", \"rows_by_second\": [{}]", column(|pair| pair.0));
        let _ = write!(out, ", \"refusals_by_second\": [{}]}}", column(|pair| pair.1));
        out
    }
}

/// Counts by magnitude: 32 steps from one power of two to the next, so within 3 %.
#[derive(Default)]
struct Histogram {
    counts: Vec<u64>,
}

const STEPS_LOG2: u32 = 5;

impl Histogram {
    fn add(&mut self, took: Duration) {
        let bucket = bucket(took.as_nanos() as u64);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
    }

    fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, count)| *mine += count);
    }

    /// The upper end of the bucket in which that share of the values is reached; 0 where there are none.
    fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_nanos(upper_end(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket(value: u64) -> usize {
    let value = value.max(1 << STEPS_LOG2);
    let shift = value.ilog2() - STEPS_LOG2;
    ((shift as usize) << STEPS_LOG2) + (value >> shift) as usize
}

fn upper_end(bucket: usize) -> u64 {
    let shift = (bucket >> STEPS_LOG2).saturating_sub(1) as u32;
    ((bucket - ((shift as usize) << STEPS_LOG2)) as u64 + 1) << shift
}
