//! Values back to protobuf: from map entries and from the JSON texts of `context`, `data` and the metrics' columns.
//!
//! The spelling is that of `decode::any_value`: whole numbers are ints, numbers with `.` or an exponent are doubles,
//! `{"$b64": …}` are bytes, `{"$f": …}` the doubles that JSON lacks, `null` is the empty value, keys that begin with `$`
//! have it doubled.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::rows::{Entry, own_key};
use crate::{
    decode::json::{Fault, reader::Reader},
    protobuf::Writer,
    schema::ValueKind,
};

pub type Result<T> = std::result::Result<T, Box<Fault>>;

/// Reads a JSON text whose value is an object.
pub fn parse<'a>(json: &'a str, member: impl FnMut(&mut Reader<'a>, &str) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(json.as_bytes())?;
    object(&mut reader, member)?;
    reader.finish()
}

/// Reads an object; `member` reads the value of each key.
pub fn object<'a>(reader: &mut Reader<'a>, mut member: impl FnMut(&mut Reader<'a>, &str) -> Result<()>) -> Result<()> {
    reader.open(b'{', "an object")?;
    let mut first = true;
    while reader.more(&mut first, b'}')? {
        let key = reader.key()?;
        member(reader, &key)?;
    }
    Ok(())
}

/// Reads a list; `element` reads each of its values.
pub fn list<'a>(reader: &mut Reader<'a>, mut element: impl FnMut(&mut Reader<'a>) -> Result<()>) -> Result<()> {
    reader.open(b'[', "a list")?;
    let mut first = true;
    while reader.more(&mut first, b']')? {
        element(reader)?;
    }
    Ok(())
}

/// Reads a whole number that the type holds.
pub fn whole<T: std::str::FromStr>(reader: &mut Reader) -> Result<T> {
    match reader.number()?.parse() {
        Ok(number) => Ok(number),
        Err(_) => reader.fault("the whole number does not fit its field"),
    }
}

/// Reads a double in any of its spellings, also that of a whole number.
pub fn double(reader: &mut Reader) -> Result<f64> {
    if reader.peek()? != b'{' {
        return decimal(reader);
    }
    let mut value = None;
    object(reader, |reader, key| match key {
        "$f" => special(reader).map(|number| value = Some(number)),
        _ => reader.fault("expected a number"),
    })?;
    value.map_or_else(|| reader.fault("expected a number"), Ok)
}

fn decimal(reader: &mut Reader) -> Result<f64> {
    match reader.number()?.parse() {
        Ok(number) => Ok(number),
        Err(_) => reader.fault("expected a number"),
    }
}

fn special(reader: &mut Reader) -> Result<f64> {
    match special_of(&reader.string()?) {
        Some(number) => Ok(number),
        None => reader.fault("expected NaN, Infinity or -Infinity"),
    }
}

fn special_of(name: &str) -> Option<f64> {
    match name {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// Reads a text into a field.
pub fn text(reader: &mut Reader, writer: &mut Writer, number: u32) -> Result<()> {
    let text = reader.string()?;
    writer.bytes(number, text.as_bytes());
    Ok(())
}

/// Reads an id's hexadecimal text into a field of bytes.
pub fn id(reader: &mut Reader, writer: &mut Writer, number: u32) -> Result<()> {
    let text = reader.string()?;
    match hexadecimal(writer, number, &text) {
        true => Ok(()),
        false => reader.fault("an id must be hexadecimal digits"),
    }
}

/// Writes an id; false where the text is none.
pub fn hexadecimal(writer: &mut Writer, number: u32, text: &str) -> bool {
    writer.tag(number, 2);
    writer.varint(text.len() as u64 / 2);
    let start = writer.out.len();
    writer.out.resize(start + text.len() / 2, 0);
    faster_hex::hex_decode(text.as_bytes(), &mut writer.out[start..]).is_ok()
}

/// One `KeyValue` of a map's entry.
pub fn key_value(writer: &mut Writer, number: u32, entry: &Entry) {
    let pair = writer.begin(number);
    writer.text(1, own_key(entry.key));
    let value = writer.begin(2);
    entry_value(writer, entry);
    // The empty value is none: a message of its own would nest deeper than what was read.
    writer.end_unless_empty(value);
    writer.end(pair);
}

/// One `KeyValue` whose value `write` writes.
pub fn attribute(writer: &mut Writer, number: u32, key: &str, write: impl FnOnce(&mut Writer)) {
    let pair = writer.begin(number);
    writer.text(1, key);
    let value = writer.begin(2);
    write(writer);
    writer.end(value);
    writer.end(pair);
}

/// The `AnyValue` of a map's entry, without its wrapper. A text that is not of its kind (somebody changed the row) is
/// sent as text, so that one cell cannot hold up all others.
fn entry_value(writer: &mut Writer, entry: &Entry) {
    let start = writer.out.len();
    let text = entry.text;
    let read = match ValueKind::from_number(entry.kind) {
        Some(ValueKind::Empty) if text.is_empty() => Some(()),
        Some(ValueKind::Bool) => text.parse().ok().map(|value| boolean(writer, value)),
        Some(ValueKind::Int) => text.parse().ok().map(|value| int(writer, value)),
        Some(ValueKind::Double) => special_of(text).or_else(|| text.parse().ok()).map(|value| writer.double(4, value)),
        Some(ValueKind::Bytes) => STANDARD.decode(text).ok().map(|bytes| writer.bytes(7, &bytes)),
        Some(ValueKind::Array | ValueKind::KvList) => json_value(writer, text).ok(),
        Some(ValueKind::Empty | ValueKind::String) | None => None,
    };
    if read.is_none() {
        writer.out.truncate(start);
        writer.bytes(1, text.as_bytes());
    }
}

pub fn int(writer: &mut Writer, value: i64) {
    writer.tag(3, 0);
    writer.varint(value as u64);
}

pub fn boolean(writer: &mut Writer, value: bool) {
    writer.tag(2, 0);
    writer.varint(u64::from(value));
}

fn json_value(writer: &mut Writer, json: &str) -> Result<()> {
    let mut reader = Reader::new(json.as_bytes())?;
    any_value(&mut reader, writer)?;
    reader.finish()
}

/// Reads an object into `KeyValue`s, each with the tag of `number`.
pub fn attributes(reader: &mut Reader, writer: &mut Writer, number: u32) -> Result<()> {
    object(reader, |reader, key| pair(reader, writer, number, key))
}

/// Reads the value of a key into a `KeyValue`.
pub fn pair(reader: &mut Reader, writer: &mut Writer, number: u32, key: &str) -> Result<()> {
    let pair = writer.begin(number);
    writer.text(1, own_key(key));
    let value = writer.begin(2);
    any_value(reader, writer)?;
    writer.end_unless_empty(value);
    writer.end(pair);
    Ok(())
}

/// Reads a value into an `AnyValue`, without its wrapper.
pub fn any_value(reader: &mut Reader, writer: &mut Writer) -> Result<()> {
    match reader.peek()? {
        b'n' => reader.literal("null")?,
        b'"' => text(reader, writer, 1)?,
        b't' | b'f' => boolean(writer, reader.boolean()?),
        b'[' => {
            let mark = writer.begin(5);
            list(reader, |reader| {
                let element = writer.begin(1);
                any_value(reader, writer)?;
                writer.end(element);
                Ok(())
            })?;
            writer.end(mark);
        }
        b'{' => object_value(reader, writer)?,
        _ => match is_double(reader)? {
            true => writer.double(4, decimal(reader)?),
            false => int(writer, whole(reader)?),
        },
    }
    Ok(())
}

/// Whether the number that comes next is a double.
pub fn is_double(reader: &mut Reader) -> Result<bool> {
    let at = reader.at;
    let number = reader.number()?;
    reader.at = at;
    Ok(number.contains(['.', 'e', 'E']))
}

/// An object, or what JSON lacks: bytes and some doubles. Those are told by a key with a single `$`, which is no user's.
fn object_value(reader: &mut Reader, writer: &mut Writer) -> Result<()> {
    let start = writer.out.len();
    let mark = writer.begin(6);
    let (mut first, mut single) = (true, false);
    object(reader, |reader, key| {
        let ours = matches!(key, "$b64" | "$f");
        if single || ours && !first {
            return reader.fault("nothing may stand beside $b64 or $f");
        }
        (first, single) = (false, ours);
        if ours {
            writer.out.truncate(start);
        }
        match key {
            "$f" => writer.double(4, special(reader)?),
            "$b64" => match STANDARD.decode(reader.string()?.as_bytes()) {
                Ok(bytes) => writer.bytes(7, &bytes),
                Err(error) => return reader.fault(format!("not Base64: {error}")),
            },
            _ => pair(reader, writer, 1, key)?,
        }
        Ok(())
    })?;
    if !single {
        writer.end(mark);
    }
    Ok(())
}
