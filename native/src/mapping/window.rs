//! Keys of events that came within a span of time.

use std::{collections::VecDeque, sync::Mutex};

use arrow_array::{Array, cast::AsArray};
use hashbrown::HashSet;
use xxhash_rust::xxh3::xxh3_128;

use crate::batch::Batch;

use super::{Reject, identity::Identity, json::Value, plan::Mapping};

type Keys = HashSet<u128, foldhash::fast::RandomState>;

/// The span is forgotten in this many steps.
const STEPS: usize = 8;

/// Remembers keys for a span of time, and no more of them than it is told: the oldest are forgotten first.
#[derive(Debug)]
pub struct Window {
    span_ns: i64,
    max_keys: usize,
    steps: Mutex<VecDeque<(i64, Keys)>>,
}

impl Window {
    pub fn new(span_ns: i64, max_keys: usize) -> Window {
        Window { span_ns, max_keys, steps: Mutex::default() }
    }

    fn has(&self, key: u128) -> bool {
        self.steps.lock().expect("nobody panics here").iter().any(|(_, keys)| keys.contains(&key))
    }

    /// From now on these have come.
    pub fn remember(&self, keys: &[u128], now_ns: i64) {
        let mut steps = self.steps.lock().expect("nobody panics here");
        while steps.front().is_some_and(|(since, _)| now_ns - since > self.span_ns + self.span_ns / STEPS as i64) {
            steps.pop_front();
        }
        let most = self.max_keys.div_ceil(STEPS);
        let is_open = |(since, keys): &(i64, Keys)| now_ns - since < self.span_ns / STEPS as i64 && keys.len() < most;
        for key in keys {
            if !steps.back().is_some_and(is_open) {
                steps.push_back((now_ns, Keys::default()));
                if steps.len() > STEPS + 1 {
                    steps.pop_front();
                }
            }
            steps.back_mut().expect("one was made").1.insert(*key);
        }
    }

    /// As if these had never come.
    pub fn forget(&self, forgotten: &[u128]) {
        for (_, keys) in self.steps.lock().expect("nobody panics here").iter_mut() {
            for key in forgotten {
                keys.remove(key);
            }
        }
    }

    /// All keys, with when they came: per step its beginning (8 bytes), their number (8), and 16 bytes each.
    pub fn dump(&self) -> Vec<u8> {
        let steps = self.steps.lock().expect("nobody panics here");
        let mut bytes = Vec::with_capacity(steps.iter().map(|(_, keys)| 16 + 16 * keys.len()).sum());
        for (since, keys) in steps.iter() {
            bytes.extend(since.to_le_bytes());
            bytes.extend((keys.len() as u64).to_le_bytes());
            keys.iter().for_each(|key| bytes.extend(key.to_le_bytes()));
        }
        bytes
    }

    /// Remembers what was dumped; a dump that is cut short as far as it goes.
    pub fn load(&self, mut bytes: &[u8]) {
        while let Some((head, rest)) = bytes.split_at_checked(16) {
            let since = i64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
            let count = u64::from_le_bytes(head[8..].try_into().expect("eight bytes")) as usize;
            let (keys, rest) = rest.split_at(rest.len().min(count.saturating_mul(16)));
            let keys: Vec<u128> = keys.as_chunks().0.iter().map(|key| u128::from_le_bytes(*key)).collect();
            self.remember(&keys, since);
            bytes = rest;
        }
    }

    /// Rows of a batch that did not come before, as (first, how many), and their keys, which are remembered. A request
    /// is compared with those before it, not with itself.
    pub fn take_in(&self, batch: &Batch, now_ns: i64) -> (Vec<(usize, usize)>, Vec<u128>) {
        let ids = batch.columns.column_by_name("id").and_then(|ids| ids.as_fixed_size_binary_opt());
        let Some(ids) = ids.filter(|ids| ids.value_length() == 16) else {
            return (vec![(0, batch.rows())], Vec::new());
        };
        let (mut ranges, mut all, mut row) = (Vec::<(usize, usize)>::new(), Vec::new(), 0);
        for run in &batch.runs {
            let before = all.len();
            for row in row..row + run.rows {
                let key = u128::from_le_bytes(ids.value(row).try_into().expect("sixteen bytes"));
                if ids.is_valid(row) && self.has(key) {
                    continue;
                }
                all.push(key);
                match ranges.last_mut() {
                    Some((first, rows)) if *first + *rows == row => *rows += 1,
                    _ => ranges.push((row, 1)),
                }
            }
            row += run.rows;
            self.remember(&all[before..], now_ns);
        }
        (ranges, all)
    }

    pub fn count(&self) -> usize {
        self.steps.lock().expect("nobody panics here").iter().map(|(_, keys)| keys.len()).sum()
    }
}

/// Judges the events of one request: those that came before are known by `window`, and are remembered there once they
/// are safe; `bound` is a member and what it has to say.
pub struct Fresh<'a> {
    window: Option<&'a Window>,
    tenant: &'a str,
    bound: Option<(&'a str, &'a str)>,
    pub keys: Vec<u128>,
    seen: Keys,
}

impl<'a> Fresh<'a> {
    pub fn new(window: Option<&'a Window>, tenant: &'a str, bound: Option<(&'a str, &'a str)>) -> Fresh<'a> {
        Fresh { window, tenant, bound, keys: Vec::new(), seen: Keys::default() }
    }

    /// Whether the event may come in at all.
    pub fn admit(&self, event: Value) -> Result<(), Reject> {
        let Some((member, wanted)) = self.bound else { return Ok(()) };
        match event.get(member).text() {
            Some((text, _)) if text != wanted => {
                Err(Reject::new("unknown_project", member, format!("the key is not one of {member} {text:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Only a key of the source's own tells: equal events without one may well have happened twice.
    pub fn is_new(&mut self, mapping: &Mapping, identity: &Identity) -> bool {
        let (Identity::Key(key), Some(window)) = (identity, self.window) else { return true };
        let key = xxh3_128(&[self.tenant.as_bytes(), b"\x1f", mapping.source.as_bytes(), b"\x1f", key].concat());
        if !self.seen.insert(key) || window.has(key) {
            return false;
        }
        self.keys.push(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: i64 = 3_600_000_000_000;

    #[test]
    fn keys_are_forgotten_after_the_span_and_the_oldest_beyond_the_bound() {
        let window = Window::new(24 * HOUR_NS, 80);
        window.remember(&[1], 0);
        window.remember(&[2], 23 * HOUR_NS);
        assert!(window.has(1) && window.has(2) && !window.has(3));
        window.remember(&[3], 28 * HOUR_NS);
        assert!(!window.has(1) && window.has(2) && window.has(3));
        let window = Window::new(24 * HOUR_NS, 80);
        window.remember(&(0..1_000).collect::<Vec<_>>(), 0);
        assert!(window.has(999) && !window.has(0) && window.count() <= 90);
    }

    #[test]
    fn what_is_dumped_is_known_again_and_forgotten_in_time() {
        let window = Window::new(24 * HOUR_NS, 1_000);
        window.remember(&[1, 2], 0);
        window.remember(&[3, u128::MAX], 20 * HOUR_NS);
        window.forget(&[2, 9]);
        let dump = window.dump();
        let again = Window::new(24 * HOUR_NS, 1_000);
        again.load(&dump);
        assert_eq!([1, 2, 3, u128::MAX].map(|key| again.has(key)), [true, false, true, true]);
        again.remember(&[4], 30 * HOUR_NS);
        assert!(!again.has(1) && again.has(3));
        for length in 0..dump.len() {
            Window::new(HOUR_NS, 10).load(&dump[..length]);
        }
    }
}
