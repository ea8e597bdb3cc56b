//! Attribute values back to `AnyValue`: from map entries and from the JSON texts of `context` and `data`.
//!
//! The spelling is that of `decode::any_value`: whole numbers are ints, numbers with `.` or an exponent are doubles,
//! `{"$b64": …}` are bytes, `{"$f": …}` the doubles that JSON lacks, `null` is the empty value, keys that begin with `$`
//! have it doubled.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    EncodeError,
    rows::{Entry, own_key},
};
use crate::{decode::json::Reader, protobuf::Writer, schema::ValueKind};

type Result<T> = std::result::Result<T, EncodeError>;

/// A JSON object's members, each value as the text that it is.
pub type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// The members of the object that `json` is; none when it is empty text.
pub fn members(json: &str) -> Result<Members<'_>> {
    let mut members = Vec::new();
    if json.is_empty() {
        return Ok(members);
    }
    let mut reader = Reader::new(json.as_bytes())?;
    reader.open(b'{', "an object")?;
    let mut first = true;
    while reader.more(&mut first, b'}')? {
        let key = reader.key()?;
        members.push((key, raw(&mut reader, json)?));
    }
    Ok(members)
}

/// The elements of the list that `json` is.
pub fn elements(json: &str) -> Result<Vec<&str>> {
    let mut elements = Vec::new();
    let mut reader = Reader::new(json.as_bytes())?;
    reader.open(b'[', "a list")?;
    let mut first = true;
    while reader.more(&mut first, b']')? {
        elements.push(raw(&mut reader, json)?);
    }
    Ok(elements)
}

fn raw<'a>(reader: &mut Reader, json: &'a str) -> Result<&'a str> {
    reader.peek()?;
    let start = reader.at;
    reader.skip()?;
    Ok(&json[start..reader.at])
}

pub fn find<'a>(members: &Members<'a>, key: &str) -> Option<&'a str> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
}

/// A JSON text's content.
pub fn text(json: &str) -> Result<Cow<'_, str>> {
    Ok(Reader::new(json.as_bytes())?.string()?)
}

/// A JSON number that a 64-bit unsigned integer holds.
pub fn unsigned(json: &str) -> Result<u64> {
    json.parse().map_err(|_| EncodeError::new(format!("{json} is not a whole number of 64 bits")))
}

/// A JSON number that a 64-bit signed integer holds.
pub fn signed(json: &str) -> Result<i64> {
    json.parse().map_err(|_| EncodeError::new(format!("{json} is not a whole number of 64 bits")))
}

/// A double in any of its spellings, also that of a whole number.
pub fn double(json: &str) -> Result<f64> {
    if json.starts_with('{') {
        let members = members(json)?;
        let name = find(&members, "$f").ok_or_else(|| EncodeError::new(format!("{json} is not a number")))?;
        return special(&text(name)?);
    }
    json.parse().map_err(|_| EncodeError::new(format!("{json} is not a number")))
}

fn special(name: &str) -> Result<f64> {
    match name {
        "NaN" => Ok(f64::NAN),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        _ => Err(EncodeError::new(format!("{name} is not a number"))),
    }
}

/// One `KeyValue` of a map's entry.
pub fn key_value(writer: &mut Writer, number: u32, entry: &Entry) -> Result<()> {
    let pair = writer.begin(number);
    writer.text(1, &own_key(entry.key));
    let value = writer.begin(2);
    entry_value(writer, entry)?;
    writer.end(value);
    writer.end(pair);
    Ok(())
}

/// An attribute whose value is text.
pub fn text_attribute(writer: &mut Writer, number: u32, key: &str, text: &str) {
    let pair = writer.begin(number);
    writer.text(1, key);
    let value = writer.begin(2);
    writer.bytes(1, text.as_bytes());
    writer.end(value);
    writer.end(pair);
}

/// The `AnyValue` of a map's entry, without its wrapper. A text that is not of its kind (somebody changed the row) is
/// sent as text, so that one cell cannot hold up all others.
fn entry_value(writer: &mut Writer, entry: &Entry) -> Result<()> {
    let start = writer.out.len();
    let text = entry.text;
    let read = match ValueKind::from_number(entry.kind) {
        Some(ValueKind::Empty) if text.is_empty() => Some(()),
        Some(ValueKind::Bool) => text.parse::<bool>().ok().map(|value| {
            writer.tag(2, 0);
            writer.varint(u64::from(value));
        }),
        Some(ValueKind::Int) => text.parse::<i64>().ok().map(|value| int(writer, value)),
        Some(ValueKind::Double) => special(text).ok().or_else(|| text.parse().ok()).map(|value| writer.double(4, value)),
        Some(ValueKind::Bytes) => STANDARD.decode(text).ok().map(|bytes| writer.bytes(7, &bytes)),
        Some(ValueKind::Array | ValueKind::KvList) => json_value(writer, text).ok(),
        Some(ValueKind::Empty | ValueKind::String) | None => None,
    };
    if read.is_none() {
        writer.out.truncate(start);
        writer.bytes(1, text.as_bytes());
    }
    Ok(())
}

fn int(writer: &mut Writer, value: i64) {
    writer.tag(3, 0);
    writer.varint(value as u64);
}

/// The `AnyValue` of a JSON text, without its wrapper.
pub fn json_value(writer: &mut Writer, json: &str) -> Result<()> {
    let mut reader = Reader::new(json.as_bytes())?;
    any_value(&mut reader, writer)?;
    Ok(reader.finish()?)
}

/// The `KeyValue`s of a JSON object, each with the tag of `number`.
pub fn json_attributes(writer: &mut Writer, number: u32, json: &str) -> Result<()> {
    pairs(&mut Reader::new(json.as_bytes())?, writer, number)
}

fn any_value(reader: &mut Reader, writer: &mut Writer) -> Result<()> {
    match reader.peek()? {
        b'n' => reader.literal("null")?,
        b'"' => {
            let text = reader.string()?;
            writer.bytes(1, text.as_bytes());
        }
        b't' | b'f' => {
            writer.tag(2, 0);
            writer.varint(u64::from(reader.boolean()?));
        }
        b'[' => array(reader, writer)?,
        b'{' => object(reader, writer)?,
        _ => {
            let number = reader.number()?;
            match number.contains(['.', 'e', 'E']) {
                true => writer.double(4, double(number)?),
                false => int(writer, signed(number)?),
            }
        }
    }
    Ok(())
}

fn array(reader: &mut Reader, writer: &mut Writer) -> Result<()> {
    let list = writer.begin(5);
    reader.open(b'[', "a list")?;
    let mut first = true;
    while reader.more(&mut first, b']')? {
        let element = writer.begin(1);
        any_value(reader, writer)?;
        writer.end(element);
    }
    writer.end(list);
    Ok(())
}

/// Bytes, a double that JSON lacks, or an object.
fn object(reader: &mut Reader, writer: &mut Writer) -> Result<()> {
    let before = reader.clone();
    reader.open(b'{', "an object")?;
    let mut first = true;
    if reader.more(&mut first, b'}')? {
        let key = reader.key()?;
        if key == "$b64" || key == "$f" {
            let text = reader.string()?;
            match key.as_ref() {
                "$f" => writer.double(4, special(&text)?),
                _ => {
                    let bytes = STANDARD.decode(text.as_bytes());
                    writer.bytes(7, &bytes.map_err(|error| EncodeError::new(format!("{text:?} is not Base64: {error}")))?);
                }
            }
            return match reader.more(&mut first, b'}')? {
                false => Ok(()),
                true => Err(EncodeError::new(format!("{key} stands beside other keys"))),
            };
        }
    }
    *reader = before;
    let list = writer.begin(6);
    pairs(reader, writer, 1)?;
    writer.end(list);
    Ok(())
}

fn pairs(reader: &mut Reader, writer: &mut Writer, number: u32) -> Result<()> {
    reader.open(b'{', "an object")?;
    let mut first = true;
    while reader.more(&mut first, b'}')? {
        let pair = writer.begin(number);
        let key = reader.key()?;
        writer.text(1, &own_key(&key));
        let value = writer.begin(2);
        any_value(reader, writer)?;
        writer.end(value);
        writer.end(pair);
    }
    Ok(())
}
