//! `AnyValue`: which of its values is set, and how it is spelled as text and within JSON.
//!
//! In JSON: ints as integers, doubles always with `.` or `e`, bytes `{"$b64": "…"}`, doubles that JSON lacks
//! `{"$f": "NaN"}`, the empty value `null`, keys that begin with `$` with it doubled, the order of the wire kept.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::wire::{Arena, Fields, Pieces, Value, sized};
use crate::schema::ValueKind;

#[derive(Clone, Copy, Debug)]
pub enum Any<'a> {
    Empty,
    Text(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// The bytes of an `ArrayValue`.
    Array(&'a [u8]),
    /// The bytes of a `KeyValueList`.
    KvList(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> Any<'a> {
    pub fn of(message: &'a [u8], arena: &'a Arena) -> Any<'a> {
        let mut any = Any::Empty;
        // Only a list that comes twice in a row is merged; any other member replaces what was set.
        let (mut pieces, mut list) = (Pieces::default(), 0u32);
        for (number, value) in Fields::of(message) {
            let next = match (number, value) {
                (1, Value::Bytes(text)) => Any::Text(text),
                (2, Value::Varint(value)) => Any::Bool(value != 0),
                (3, Value::Varint(value)) => Any::Int(value as i64),
                (4, Value::Fixed64(bits)) => Any::Double(f64::from_bits(bits)),
                (7, Value::Bytes(bytes)) => Any::Bytes(bytes),
                (5 | 6, Value::Bytes(bytes)) => {
                    if list != number {
                        pieces.clear();
                        list = number;
                    }
                    pieces.add(bytes);
                    any = Any::Empty;
                    continue;
                }
                _ => continue,
            };
            (any, list) = (next, 0);
        }
        match list {
            5 => Any::Array(pieces.join(arena)),
            6 => Any::KvList(pieces.join(arena)),
            _ => any,
        }
    }

    pub fn kind(self) -> ValueKind {
        match self {
            Any::Empty => ValueKind::Empty,
            Any::Text(_) => ValueKind::String,
            Any::Bool(_) => ValueKind::Bool,
            Any::Int(_) => ValueKind::Int,
            Any::Double(_) => ValueKind::Double,
            Any::Array(_) => ValueKind::Array,
            Any::KvList(_) => ValueKind::KvList,
            Any::Bytes(_) => ValueKind::Bytes,
        }
    }

    /// The text of a map's entry.
    pub fn write_text(self, out: &mut Vec<u8>) {
        match self {
            Any::Empty => {}
            Any::Text(text) => out.extend_from_slice(text),
            Any::Double(value) if !value.is_finite() => out.extend_from_slice(special(value).as_bytes()),
            Any::Bytes(bytes) => out.extend_from_slice(STANDARD.encode(bytes).as_bytes()),
            _ => self.write_json(out),
        }
    }

    pub fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Any::Empty => out.extend_from_slice(b"null"),
            Any::Text(text) => json_text(out, text),
            Any::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Any::Int(value) => json_int(out, value),
            Any::Double(value) => json_double(out, value),
            Any::Array(list) => {
                out.push(b'[');
                let mut first = true;
                for (number, value) in Fields::of(list) {
                    let (1, Value::Bytes(element)) = (number, value) else { continue };
                    comma(out, &mut first);
                    // What is joined for an element is dropped with it: deep pieces must not pile up.
                    let inner = Arena::default();
                    Any::of(element, &inner).write_json(out);
                }
                out.push(b']');
            }
            Any::KvList(list) => {
                out.push(b'{');
                let mut first = true;
                for (number, value) in Fields::of(list) {
                    let (1, Value::Bytes(pair)) = (number, value) else { continue };
                    comma(out, &mut first);
                    let inner = Arena::default();
                    let (key, value) = key_value(pair, &inner);
                    json_member(out, key);
                    value.write_json(out);
                }
                out.push(b'}');
            }
            Any::Bytes(bytes) => {
                out.extend_from_slice(b"{\"$b64\":\"");
                out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                out.extend_from_slice(b"\"}");
            }
        }
    }
}

/// The parts of a `KeyValue` as encoders write it: the key, then a plain value, each once. `None` where it is spelled
/// otherwise. The texts are not looked at.
#[inline(always)]
pub fn plain_pair(message: &[u8]) -> Option<(&[u8], Any<'_>)> {
    let [0x0a, rest @ ..] = message else { return None };
    let (key, rest) = sized(rest)?;
    let [0x12, rest @ ..] = rest else { return None };
    let (value, []) = sized(rest)? else { return None };
    let value = match value {
        [] => Any::Empty,
        [0x0a, rest @ ..] => match sized(rest)? {
            (text, []) => Any::Text(text),
            _ => return None,
        },
        [0x10, truth @ 0..=1] => Any::Bool(*truth == 1),
        [0x18, number @ 0..=127] => Any::Int(i64::from(*number)),
        [0x18, low @ 128..=255, high @ 0..=127] => Any::Int(i64::from(low & 127) | i64::from(*high) << 7),
        [0x21, bits @ ..] => Any::Double(f64::from_le_bytes(bits.try_into().ok()?)),
        _ => return None,
    };
    Some((key, value))
}

/// The parts of a `KeyValue`.
#[inline]
pub fn key_value<'a>(message: &'a [u8], arena: &'a Arena) -> (&'a [u8], Any<'a>) {
    plain_pair(message).unwrap_or_else(|| any_pair(message, arena))
}

#[inline(never)]
fn any_pair<'a>(message: &'a [u8], arena: &'a Arena) -> (&'a [u8], Any<'a>) {
    let (mut key, mut value) = (&[][..], Pieces::default());
    for (number, field) in Fields::of(message) {
        match (number, field) {
            (1, Value::Bytes(text)) => key = text,
            (2, Value::Bytes(piece)) => value.add(piece),
            _ => {}
        }
    }
    (key, Any::of(value.join(arena), arena))
}

pub fn special(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

pub fn comma(out: &mut Vec<u8>, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(b',');
    }
}

pub fn json_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub fn json_double(out: &mut Vec<u8>, value: f64) {
    match value.is_finite() {
        true => out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes()),
        false => out.extend_from_slice(format!("{{\"$f\":\"{}\"}}", special(value)).as_bytes()),
    }
}

/// A user's key and its colon.
pub fn json_member(out: &mut Vec<u8>, key: &[u8]) {
    if key.first() == Some(&b'$') {
        let mut doubled = Vec::with_capacity(key.len() + 1);
        doubled.push(b'$');
        doubled.extend_from_slice(key);
        json_text(out, &doubled);
    } else {
        json_text(out, key);
    }
    out.push(b':');
}

pub fn json_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let mut plain = 0;
    for (index, byte) in text.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[plain..index]);
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
        plain = index + 1;
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
}
