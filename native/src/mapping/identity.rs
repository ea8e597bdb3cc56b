//! What makes an event the same event when it is sent again (specification 2.1).
//!
//! The parts of a natural key are joined by U+001F. An event without one is known by the digest of its canonical JSON
//! and by how many equal ones its request had before.

use std::borrow::Cow;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    expression::Event,
    json::{Value, canonical},
    payload::replaced,
    plan::{KeyPart, Mapping},
    shape::Node,
};

/// Digests within one request and how often they came.
pub type Seen = HashMap<u128, u32, foldhash::fast::RandomState>;

#[derive(Debug, PartialEq, Eq)]
pub enum Identity {
    Key(Vec<u8>),
    Digest(u128, u32),
}

impl Identity {
    pub fn of(mapping: &Mapping, text: &str, event: &Event, seen: &mut Seen) -> Identity {
        if let Some(key) = mapping.keys.iter().find_map(|parts| key(parts, event)) {
            return Identity::Key(key);
        }
        let digest = digest(mapping, text);
        let count = seen.entry(digest).and_modify(|count| *count += 1).or_insert(0);
        Identity::Digest(digest, *count)
    }
}

/// The key, if every part that has to be is there.
fn key(parts: &[KeyPart], event: &Event) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let text = match part.digest.is_empty() {
            true => part.of.eval(event).text().unwrap_or_default(),
            false => Cow::Owned(digest_of(&part.digest, event)),
        };
        if part.required && text.is_empty() {
            return None;
        }
        if index > 0 {
            key.push(0x1f);
        }
        key.extend_from_slice(text.as_bytes());
    }
    (!parts.is_empty()).then_some(key)
}

fn digest_of(nodes: &[Node], event: &Event) -> String {
    let mut out = Vec::new();
    for node in nodes {
        canonical(event.values[*node as usize], &mut out);
        out.push(b'\n');
    }
    format!("{:032x}", xxh3_128(&out))
}

/// Of the event's canonical JSON, without what says nothing about it.
fn digest(mapping: &Mapping, text: &str) -> u128 {
    let (event, mut out) = (Value::of(text), Vec::with_capacity(text.len()));
    match mapping.undigested.is_empty() {
        true => canonical(event, &mut out),
        false => {
            let gone: Vec<_> = mapping.undigested.iter().map(|name| (&**name, None)).collect();
            canonical(Value::of(&replaced(event, &gone)), &mut out);
        }
    }
    xxh3_128(&out)
}
