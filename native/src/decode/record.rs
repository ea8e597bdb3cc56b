//! What spans, log records and points have in common.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{
    any_value::{comma, json_double, json_int},
    attributes::{Attribute, Own},
    columns::Columns,
    context::{Resource, Scope, write_attributes, write_text},
    reserved,
    wire::{Fields, Value},
};
use crate::schema::Col;

/// One payload's state.
pub struct Pass<'c> {
    pub columns: &'c mut Columns,
    pub whole: bool,
    seen: HashMap<u128, u32, foldhash::fast::RandomState>,
}

impl<'c> Pass<'c> {
    pub fn new(columns: &'c mut Columns, whole: bool) -> Pass<'c> {
        Pass { columns, whole, seen: HashMap::default() }
    }

    /// The row's digest and how many equal ones the payload had before.
    pub fn digest(&mut self, bytes: &[u8], seed: u64) {
        let digest = xxh3_128_with_seed(bytes, seed);
        let occurrence = self.seen.entry(digest).and_modify(|count| *count += 1).or_insert(0);
        self.columns.id(digest, *occurrence);
    }

    /// The end of every row: resource, scope and labels that all signals share.
    pub fn end_row(&mut self, resource: &Resource, scope: &mut Scope, own: Option<&Own>) {
        scope.row(resource, own, self.columns);
        if !resource.environment.is_empty() {
            self.columns.labels.text(reserved::ENV, resource.environment);
        }
        self.columns.end_row();
    }

    pub fn note(&mut self, key: &str, number: u64) {
        if number != 0 {
            self.columns.attributes.int(key, number);
        }
    }

    pub fn note_text(&mut self, key: &str, text: &[u8]) {
        if !text.is_empty() {
            self.columns.attributes.text(key, text);
        }
    }

    /// An id in lower hex; all zeros are no id, but are told apart from none.
    pub fn trace_or_span_id(&mut self, col: Col, zero_key: &str, id: &[u8]) -> bool {
        let zero = id.iter().all(|byte| *byte == 0);
        match zero {
            true => self.note_text(zero_key, "0".repeat(2 * id.len()).as_bytes()),
            false => self.columns.hex(col, id),
        }
        !zero
    }

    /// A time; what the column cannot hold is noted.
    pub fn time(&mut self, col: Col, key: &str, time: u64) -> Option<i64> {
        match i64::try_from(time) {
            Ok(0) => None,
            Ok(time) => {
                self.columns.int(col, time);
                Some(time)
            }
            Err(_) => {
                self.note(key, time);
                None
            }
        }
    }
}

pub fn hex(out: &mut Vec<u8>, id: &[u8]) {
    let (words, rest) = id.as_chunks::<4>();
    words.iter().for_each(|word| out.extend_from_slice(&hex_word(*word)));
    for byte in rest {
        out.extend_from_slice(&hex_word([*byte, 0, 0, 0])[..2]);
    }
}

/// Four bytes in lower hex, all digits at once.
#[inline]
fn hex_word(bytes: [u8; 4]) -> [u8; 8] {
    let word = u64::from(u32::from_le_bytes(bytes));
    let pairs = (word | word << 16) & 0x0000_ffff_0000_ffff;
    let spread = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let digits = spread >> 4 & 0x000f_000f_000f_000f | spread << 8 & 0x0f00_0f00_0f00_0f00;
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (digits + 0x3030_3030_3030_3030 + letters * 0x27).to_le_bytes()
}

/// A named id within JSON.
pub fn write_id(out: &mut Vec<u8>, first: &mut bool, name: &[u8], id: &[u8]) {
    let mut text = Vec::new();
    hex(&mut text, id);
    write_text(out, first, name, &text);
}

/// Attributes within JSON, left out when there are none.
pub fn write_own(out: &mut Vec<u8>, first: &mut bool, attributes: &[Attribute]) {
    if !attributes.is_empty() {
        comma(out, first);
        out.extend_from_slice(b"\"attributes\":");
        write_attributes(out, attributes, true);
    }
}

pub fn write_double(out: &mut Vec<u8>, first: &mut bool, name: &[u8], value: f64) {
    comma(out, first);
    out.extend_from_slice(name);
    json_double(out, value);
}

pub fn write_int(out: &mut Vec<u8>, first: &mut bool, name: &[u8], value: impl itoa::Integer) {
    comma(out, first);
    out.extend_from_slice(name);
    json_int(out, value);
}

/// The 64-bit values of a repeated fixed field, packed or not.
pub fn fixed64s(message: &[u8], field: u32) -> Vec<u64> {
    let mut list = Vec::new();
    for (number, value) in Fields::of(message).filter(|(number, _)| *number == field) {
        match (number, value) {
            (_, Value::Fixed64(value)) => list.push(value),
            (_, Value::Bytes(packed)) => {
                list.extend(packed.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes"))));
            }
            _ => {}
        }
    }
    list
}
