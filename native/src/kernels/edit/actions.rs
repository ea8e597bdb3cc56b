//! What is done to attributes, as a list of actions; where the attributes live is the caller's affair.

use hashbrown::HashMap;
use regex::Regex;
use sha1::{Digest, Sha1};

use super::value::{Value, kept};
use crate::{decode::wire::Arena, schema::ValueKind};

/// A value that the configuration gives.
#[derive(Clone, Debug)]
pub struct Constant {
    pub kind: ValueKind,
    pub text: String,
}

impl Constant {
    fn value(&self) -> Value<'_> {
        Value { kind: self.kind, text: &self.text }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    Constant(Constant),
    Attribute(usize),
    /// A header of the request that brought the row.
    Metadata(String),
}

/// When a value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Absent,
    Present,
    Always,
}

/// One step. Keys are numbers of `Program::keys`, patterns of `Program::patterns`.
#[derive(Clone, Debug)]
pub enum Action {
    Set {
        key: usize,
        source: Source,
        default: Option<Constant>,
        when: When,
    },
    Delete {
        key: Option<usize>,
        pattern: Option<usize>,
    },
    Hash {
        key: Option<usize>,
        pattern: Option<usize>,
    },
    /// Named groups become attributes: (group, key).
    Extract {
        key: usize,
        regex: Regex,
        groups: Vec<(usize, usize)>,
    },
    Convert {
        key: usize,
        to: ValueKind,
    },
    /// A text becomes another one, or goes (`None`); texts that are not named stay.
    Exchange {
        key: usize,
        by: std::collections::HashMap<String, Option<String>>,
    },
}

/// Steps in their order, and what they speak of.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub actions: Vec<Action>,
    /// As the user writes them.
    pub keys: Vec<String>,
    /// Of keys.
    pub patterns: Vec<Regex>,
}

impl Program {
    /// The number of a key.
    pub fn key(&mut self, key: &str) -> usize {
        self.keys.iter().position(|known| known == key).unwrap_or_else(|| {
            self.keys.push(key.to_owned());
            self.keys.len() - 1
        })
    }

    pub fn reads_metadata(&self) -> bool {
        let reads = |action: &Action| matches!(action, Action::Set { source: Source::Metadata(_), .. });
        self.actions.iter().any(reads)
    }
}

/// A key of the program by its number, or one that a pattern found, as whoever holds the attributes numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Named(usize),
    Found(usize),
}

/// One row's, or one resource's, attributes.
pub trait Attributes<'a> {
    fn get(&mut self, key: Key) -> Option<Value<'a>>;
    fn set(&mut self, key: Key, value: Option<Value<'a>>);
    /// The keys that a pattern matches.
    fn matching(&mut self, pattern: usize) -> Vec<Key>;
    /// All values of a request header, joined with `;`.
    fn metadata(&self, name: &str) -> Option<&'a str>;
}

/// What was worked out already, by text.
#[derive(Default)]
pub struct Memo<'a> {
    hashes: HashMap<&'a str, &'a str, foldhash::fast::RandomState>,
}

/// Takes all steps.
pub fn run<'a>(program: &'a Program, on: &mut impl Attributes<'a>, memo: &mut Memo<'a>, arena: &'a Arena) {
    for action in &program.actions {
        match action {
            Action::Set { key, source, default, when } => {
                let wanted = *when == When::Always || on.get(Key::Named(*key)).is_some() == (*when == When::Present);
                if !wanted {
                    continue;
                }
                let found = match source {
                    Source::Constant(constant) => Some(constant.value()),
                    Source::Attribute(from) => on.get(Key::Named(*from)),
                    Source::Metadata(name) => on.metadata(name).map(Value::string),
                };
                if let Some(value) = found.or_else(|| default.as_ref().map(Constant::value)) {
                    on.set(Key::Named(*key), Some(value));
                }
            }
            Action::Delete { key, pattern } => {
                each(*key, *pattern, on, |on, key| on.set(key, None));
            }
            Action::Hash { key, pattern } => each(*key, *pattern, on, |on, key| {
                if let Some(value) = on.get(key) {
                    on.set(key, Some(Value::string(memo.hash(value, arena))));
                }
            }),
            Action::Extract { key, regex, groups } => {
                let Some(value) = on.get(Key::Named(*key)).filter(|value| value.kind == ValueKind::String) else {
                    continue;
                };
                let Some(found) = regex.captures(value.text) else { continue };
                for (group, key) in groups {
                    let text = found.get(*group).map_or("", |text| text.as_str());
                    on.set(Key::Named(*key), Some(Value::string(text)));
                }
            }
            Action::Exchange { key, by } => {
                if let Some(other) = on.get(Key::Named(*key)).and_then(|value| by.get(value.text)) {
                    on.set(Key::Named(*key), other.as_deref().map(Value::string));
                }
            }
            Action::Convert { key, to } => {
                if let Some(converted) = on.get(Key::Named(*key)).and_then(|value| converted(value, *to, arena)) {
                    on.set(Key::Named(*key), Some(converted));
                }
            }
        }
    }
}

/// Every key that is meant by name or by pattern.
fn each<'a, A: Attributes<'a>>(
    key: Option<usize>,
    pattern: Option<usize>,
    on: &mut A,
    mut act: impl FnMut(&mut A, Key),
) {
    if let Some(pattern) = pattern {
        on.matching(pattern).into_iter().for_each(|key| act(on, key));
    }
    if let Some(key) = key {
        act(on, Key::Named(key));
    }
}

impl<'a> Memo<'a> {
    /// The SHA-1 of a value in lower hex: of a text its bytes, of a number its eight bytes, little end first, of a
    /// boolean one byte; anything else, and the empty text, hash to the empty text. As in the Collector.
    pub fn hash(&mut self, value: Value<'a>, arena: &'a Arena) -> &'a str {
        let number: [u8; 8] = match value.kind {
            ValueKind::String if value.text.is_empty() => return "",
            ValueKind::String => {
                return self.hashes.entry(value.text).or_insert_with(|| hex(value.text.as_bytes(), arena));
            }
            ValueKind::Bool => return hex(&[u8::from(value.text == "true")], arena),
            ValueKind::Int => value.text.parse::<i64>().unwrap_or_default().to_le_bytes(),
            ValueKind::Double => value.text.parse::<f64>().unwrap_or_default().to_bits().to_le_bytes(),
            _ => return "",
        };
        hex(&number, arena)
    }
}

fn hex<'a>(bytes: &[u8], arena: &'a Arena) -> &'a str {
    kept(arena, faster_hex::hex_string(&Sha1::digest(bytes)))
}

/// The value in another kind; `None` where it has none.
fn converted<'a>(value: Value<'a>, to: ValueKind, arena: &'a Arena) -> Option<Value<'a>> {
    let number = || value.text.parse::<f64>().ok();
    match (value.kind, to) {
        (kind, to) if kind == to => None,
        (_, ValueKind::String) => Some(Value::string(value.plain(arena))),
        (ValueKind::Bool, ValueKind::Int) => Some(Value::int(i64::from(value.text == "true"), arena)),
        (ValueKind::Bool, ValueKind::Double) => Some(Value::double(f64::from(u8::from(value.text == "true")), arena)),
        (ValueKind::String, ValueKind::Int) => value.text.parse().ok().map(|number| Value::int(number, arena)),
        // Rust's conversion saturates, where Go's is undefined.
        (ValueKind::Double, ValueKind::Int) => number().map(|number| Value::int(number as i64, arena)),
        (ValueKind::Int | ValueKind::String, ValueKind::Double) => number().map(|number| Value::double(number, arena)),
        _ => None,
    }
}
