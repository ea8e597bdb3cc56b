//! OTLP/JSON → OTLP protobuf, so that one walker decodes both and their rows are the same.
//!
//! By the OTLP specification: keys in lowerCamelCase, unknown keys ignored, trace and span ids in hexadecimal of either
//! case (never Base64), other bytes in Base64 (standard or URL alphabet, padded or not), 64-bit integers as text or number,
//! doubles also as `"NaN"`, `"Infinity"`, `"-Infinity"` or as text, `null` for the default. Like the Collector, and
//! unlike the letter of the specification, names of enum values are accepted besides their numbers.
//!
//! Fields are written in the text's order, defaults left out, lengths in their shortest form: a text that follows the
//! protocol's field order yields the very bytes that an official library writes.

pub mod fields;
pub(crate) mod reader;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use self::{
    fields::{Field, Label, Message, Type},
    reader::{Reader, number_length},
};
use super::DecodeError;
use crate::{
    batch::Signal,
    protobuf::{Mark, Writer, zigzag},
};

/// The protobuf request that a JSON request means. Offsets in errors count bytes of the JSON text.
pub fn json_to_protobuf(signal: Signal, json: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let message = match signal {
        Signal::Traces => &fields::EXPORT_TRACE_SERVICE_REQUEST,
        Signal::Metrics => &fields::EXPORT_METRICS_SERVICE_REQUEST,
        Signal::Logs => &fields::EXPORT_LOGS_SERVICE_REQUEST,
        Signal::Events => {
            return Err(DecodeError { offset: 0, path: String::new(), message: "events have no OTLP form".into() });
        }
    };
    transcode(message, json).map_err(|fault| fault.told())
}

fn transcode(message: &'static Message, json: &[u8]) -> Result<Vec<u8>, Box<Fault>> {
    let mut transcoder = Transcoder { reader: Reader::new(json)?, writer: Writer::with_capacity(json.len() / 2) };
    transcoder.message(message)?;
    transcoder.reader.finish()?;
    Ok(transcoder.writer.out)
}

/// What is wrong; the path grows while the calls return, so that reading what is right costs nothing.
pub struct Fault {
    offset: usize,
    message: String,
    /// Innermost first.
    path: Vec<String>,
}

impl Fault {
    pub fn new(offset: usize, message: impl Into<String>) -> Box<Fault> {
        Box::new(Fault { offset, message: message.into(), path: Vec::new() })
    }

    fn within(mut self: Box<Fault>, segment: impl Into<String>) -> Box<Fault> {
        self.path.push(segment.into());
        self
    }

    pub fn told(self) -> DecodeError {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            if !path.is_empty() && !segment.starts_with('[') {
                path.push('.');
            }
            path.push_str(segment);
        }
        DecodeError { offset: self.offset, path, message: self.message }
    }
}

type Outcome = Result<(), Box<Fault>>;

struct Transcoder<'a> {
    reader: Reader<'a>,
    writer: Writer,
}

impl Transcoder<'_> {
    /// An object's known members.
    fn message(&mut self, message: &'static Message) -> Outcome {
        self.reader.open(b'{', "an object")?;
        let (mut first, mut likely) = (true, 0);
        while self.reader.more(&mut first, b'}')? {
            let key = self.reader.key()?;
            // Senders write members in the protocol's order: look there first.
            let count = message.fields.len();
            let found = (likely..count).chain(0..likely).find(|i| message.fields[*i].name == key);
            match found {
                Some(index) => {
                    let field = &message.fields[index];
                    likely = (index + 1) % count;
                    self.field(field).map_err(|fault| fault.within(field.name))?;
                }
                None => self.reader.skip().map_err(|fault| fault.within(key))?,
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'static Field) -> Outcome {
        if self.reader.null()? {
            return Ok(());
        }
        match (field.label, field.kind) {
            (Label::Repeated, Type::Message(_) | Type::String) => self.list(|this| this.value(field)),
            (Label::Repeated, _) => {
                let mark = self.writer.begin(field.number);
                self.list(|this| this.scalar(field.kind))?;
                self.writer.end_unless_empty(mark);
                Ok(())
            }
            _ => self.value(field),
        }
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Outcome) -> Outcome {
        self.reader.open(b'[', "a list")?;
        let (mut first, mut index) = (true, 0usize);
        while self.reader.more(&mut first, b']')? {
            item(self).map_err(|fault| fault.within(format!("[{index}]")))?;
            index += 1;
        }
        Ok(())
    }

    /// One value with its tag; a default that the wire leaves out leaves no trace.
    fn value(&mut self, field: &'static Field) -> Outcome {
        match field.kind {
            Type::Message(message) => {
                let mark = self.writer.begin(field.number);
                // An element of a list that is null is an empty message, as in the Collector.
                if !self.reader.null()? {
                    self.message(message)?;
                }
                self.writer.end(mark);
            }
            Type::String => {
                let text = self.reader.string()?;
                let mark = self.writer.begin(field.number);
                self.writer.out.extend_from_slice(text.as_bytes());
                self.end(field, mark);
            }
            Type::Bytes | Type::Id => {
                let mark = self.writer.begin(field.number);
                if matches!(field.kind, Type::Id) {
                    self.hexadecimal()?
                } else {
                    self.base64()?
                }
                self.end(field, mark);
            }
            _ => {
                let start = self.writer.out.len();
                self.writer.tag(field.number, wire_type(field.kind));
                let tagged = self.writer.out.len();
                self.scalar(field.kind)?;
                if field.label == Label::Plain && self.writer.out[tagged..].iter().all(|byte| *byte == 0) {
                    self.writer.out.truncate(start);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, field: &Field, mark: Mark) {
        if field.label == Label::Plain { self.writer.end_unless_empty(mark) } else { self.writer.end(mark) }
    }

    /// A number, an enum or a boolean, as the wire has it, without a tag.
    fn scalar(&mut self, kind: Type) -> Outcome {
        match kind {
            Type::Bool => {
                let value = self.reader.boolean()?;
                self.writer.out.push(u8::from(value));
            }
            Type::Double => {
                let value = self.double()?;
                self.writer.out.extend_from_slice(&value.to_le_bytes());
            }
            Type::Enum(names) => {
                let number = self.enumerated(names)?;
                self.writer.varint(number as u64);
            }
            Type::Int32 => {
                let number = self.integer(i32::MIN.into(), i32::MAX.into())?;
                self.writer.varint(number as i64 as u64);
            }
            Type::Int64 => {
                let number = self.integer(i64::MIN.into(), i64::MAX.into())?;
                self.writer.varint(number as i64 as u64);
            }
            Type::Uint32 | Type::Uint64 => {
                let most = if matches!(kind, Type::Uint32) { u32::MAX.into() } else { u64::MAX.into() };
                let number = self.integer(0, most)?;
                self.writer.varint(number as u64);
            }
            Type::Sint32 => {
                let number = self.integer(i32::MIN.into(), i32::MAX.into())? as i32;
                self.writer.varint(u64::from(zigzag(number)));
            }
            Type::Fixed32 => {
                let number = self.integer(0, u32::MAX.into())?;
                self.writer.out.extend_from_slice(&(number as u32).to_le_bytes());
            }
            Type::Fixed64 => {
                let number = self.integer(0, u64::MAX.into())?;
                self.writer.out.extend_from_slice(&(number as u64).to_le_bytes());
            }
            Type::Sfixed64 => {
                let number = self.integer(i64::MIN.into(), i64::MAX.into())?;
                self.writer.out.extend_from_slice(&(number as i64).to_le_bytes());
            }
            Type::String | Type::Bytes | Type::Id | Type::Message(_) => unreachable!("these have a length"),
        }
        Ok(())
    }

    /// An integer, as number or as text; `1.0` and `1e3` are integers too.
    fn integer(&mut self, least: i128, most: i128) -> Result<i128, Box<Fault>> {
        let offset = self.reader.at;
        let owned;
        let text = match self.reader.peek()? {
            b'"' => {
                owned = self.reader.string()?;
                owned.as_ref()
            }
            b'-' | b'0'..=b'9' => self.reader.number()?,
            _ => return self.reader.fault("expected an integer, as number or as text"),
        };
        let number = text.parse::<i128>().ok().or_else(|| exact_integer(text));
        match number {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            Some(_) => Err(Fault::new(offset, format!("the integer {} is not within {least} and {most}", shown(text)))),
            None => Err(Fault::new(offset, format!("{} is not an integer", shown(text)))),
        }
    }

    fn double(&mut self) -> Result<f64, Box<Fault>> {
        let offset = self.reader.at;
        let owned;
        let text = match self.reader.peek()? {
            b'"' => {
                owned = self.reader.string()?;
                match owned.as_ref() {
                    "NaN" => return Ok(f64::NAN),
                    "Infinity" => return Ok(f64::INFINITY),
                    "-Infinity" => return Ok(f64::NEG_INFINITY),
                    text => text,
                }
            }
            b'-' | b'0'..=b'9' => self.reader.number()?,
            _ => return self.reader.fault("expected a number, \"NaN\", \"Infinity\" or \"-Infinity\""),
        };
        let number = (number_length(text.as_bytes()) == text.len()).then(|| text.parse::<f64>().ok()).flatten();
        match number {
            Some(number) if number.is_finite() => Ok(number),
            Some(_) => Err(Fault::new(offset, format!("the number {} is too large for a double", shown(text)))),
            None => Err(Fault::new(offset, format!("{} is not a number", shown(text)))),
        }
    }

    fn enumerated(&mut self, names: &'static [&'static str]) -> Result<i64, Box<Fault>> {
        if self.reader.peek()? != b'"' {
            return self.integer(i32::MIN.into(), i32::MAX.into()).map(|number| number as i64);
        }
        let offset = self.reader.at;
        let name = self.reader.string()?;
        match names.iter().position(|known| *known == name) {
            Some(number) => Ok(number as i64),
            None => Err(Fault::new(offset, format!("{} is not a value of this enum; send its number", shown(&name)))),
        }
    }

    fn hexadecimal(&mut self) -> Outcome {
        let offset = self.reader.at;
        let text = self.reader.string()?;
        let start = self.writer.out.len();
        self.writer.out.resize(start + text.len() / 2, 0);
        match faster_hex::hex_decode(text.as_bytes(), &mut self.writer.out[start..]) {
            Ok(_) => Ok(()),
            Err(_) => Err(Fault::new(offset, format!("an id must be hexadecimal digits, not {}", shown(&text)))),
        }
    }

    fn base64(&mut self) -> Outcome {
        const ANY: GeneralPurposeConfig = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        static PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, ANY);
        static URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, ANY);
        let offset = self.reader.at;
        let text = self.reader.string()?;
        let engine = if text.contains(['-', '_']) { &URL } else { &PLAIN };
        match engine.decode(text.as_bytes()) {
            Ok(bytes) => {
                self.writer.out.extend_from_slice(&bytes);
                Ok(())
            }
            Err(error) => Err(Fault::new(offset, format!("not Base64: {error}"))),
        }
    }
}

fn wire_type(kind: Type) -> u32 {
    match kind {
        Type::Double | Type::Fixed64 | Type::Sfixed64 => 1,
        Type::Fixed32 => 5,
        _ => 0,
    }
}

/// The integer that a number with a fraction or an exponent means, if a double holds it exactly.
fn exact_integer(text: &str) -> Option<i128> {
    let number = (number_length(text.as_bytes()) == text.len()).then(|| text.parse::<f64>().ok()).flatten()?;
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i128)
}

/// A value as an error shows it: quoted and short.
fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
