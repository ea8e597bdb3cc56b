//! Whether a body is a request: the first pass over every payload, driven by the table of messages.
//!
//! What passes here can be built without an error, so a refused payload has touched no column. The verdict is upb's: a
//! known field with another wire type counts as unknown, repeated numbers may be packed or not, text must be UTF-8, the
//! content of unknown fields is not looked at.

use super::{
    DecodeError,
    any_value::{Any, plain_pair},
    json::fields::{
        EXPORT_LOGS_SERVICE_REQUEST, EXPORT_METRICS_SERVICE_REQUEST, EXPORT_TRACE_SERVICE_REQUEST, Field, Label,
        Message, Type,
    },
    wire::{Cursor, MAX_LEVELS, Value, is_ascii},
};
use crate::batch::Signal;

/// What one payload may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Levels of messages within messages.
    pub max_depth: u32,
    /// Attributes of one record, resource, scope, event or link.
    pub max_attributes: u32,
}

/// A metric's description goes to each of its points and a resource's text to each of its scopes: a payload whose copies
/// would take more than this is refused.
pub const MAX_COPIED_BYTES: u64 = 256 << 20;

/// Where in the request a message stands, as far as rows and copies are concerned.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Request,
    Resource,
    Scope,
    Metric,
    Points,
    Inside,
}

struct Fault {
    offset: usize,
    message: String,
    /// From the inside out.
    path: Vec<String>,
}

impl Fault {
    fn told(mut self) -> DecodeError {
        self.path.reverse();
        DecodeError { offset: self.offset, path: self.path.join("."), message: self.message }
    }
}

type Result<T> = std::result::Result<T, Box<Fault>>;

struct Walker<'a> {
    body: &'a [u8],
    metrics: bool,
    limits: Limits,
    rows: usize,
    copied: u64,
}

/// Rows of the request that `body` is, or why it is none.
pub fn check(signal: Signal, body: &[u8], limits: Limits) -> std::result::Result<usize, DecodeError> {
    let request = match signal {
        Signal::Traces => &EXPORT_TRACE_SERVICE_REQUEST,
        Signal::Metrics => &EXPORT_METRICS_SERVICE_REQUEST,
        Signal::Logs => &EXPORT_LOGS_SERVICE_REQUEST,
        Signal::Events => {
            let message = "events have no OTLP request".to_owned();
            return Err(DecodeError { offset: 0, path: String::new(), message });
        }
    };
    let mut walker = Walker { body, metrics: signal == Signal::Metrics, limits, rows: 0, copied: 0 };
    match walker.message(request, Place::Request, 0, body.len(), 1) {
        Ok(()) => Ok(walker.rows),
        Err(fault) => Err(fault.told()),
    }
}

/// Whether these bytes are such a message that stands at this level of a body.
pub fn check_message(message: &'static Message, bytes: &[u8], level: u32) -> std::result::Result<(), DecodeError> {
    let limits = Limits { max_depth: MAX_LEVELS as u32, max_attributes: u32::MAX };
    let mut walker = Walker { body: bytes, metrics: false, limits, rows: 0, copied: 0 };
    walker.message(message, Place::Inside, 0, bytes.len(), level).map_err(|fault| fault.told())
}

fn fault<T>(offset: usize, message: impl Into<String>) -> Result<T> {
    Err(Box::new(Fault { offset, message: message.into(), path: Vec::new() }))
}

/// Whether this is an attribute as nearly all are: a key and a plain value in ASCII, spelled as encoders do. Others are
/// looked at field by field.
#[inline]
fn is_plain(pair: &[u8]) -> bool {
    match plain_pair(pair) {
        Some(_) if is_ascii(pair) => true,
        Some((key, Any::Text(text))) => is_ascii(key) && is_ascii(text),
        Some((key, _)) => is_ascii(key),
        None => false,
    }
}

impl Walker<'_> {
    fn message(&mut self, message: &'static Message, place: Place, start: usize, end: usize, level: u32) -> Result<()> {
        if level > self.limits.max_depth {
            return fault(start, format!("nested more than {} levels deep", self.limits.max_depth));
        }
        let mut cursor = Cursor::new(self.body, start, end);
        let (rows, mut attributes, mut text, mut scopes) = (self.rows, 0u32, 0u64, 0u64);
        while !cursor.done() {
            let field_start = cursor.at;
            let Some((field, bytes)) = self.field(&mut cursor, message, start, level)? else { continue };
            match (place, field.number) {
                (Place::Resource, 1) | (Place::Metric, 2 | 12) => text += bytes.len() as u64,
                (Place::Resource, 2) => scopes += 1,
                _ if field.attributes => {
                    attributes += 1;
                    if attributes <= self.limits.max_attributes && level + 2 <= self.limits.max_depth && is_plain(bytes)
                    {
                        continue;
                    }
                }
                _ => {}
            }
            let checked = match attributes > self.limits.max_attributes {
                true => fault(cursor.at - bytes.len(), format!("more than {} attributes", self.limits.max_attributes)),
                false => self.bytes(field, place, cursor.at - bytes.len(), cursor.at, level),
            };
            checked.map_err(|fault| self.within(fault, Some(field), start, field_start))?;
        }
        match place {
            Place::Resource => self.copy(text, scopes.saturating_sub(1), start),
            Place::Metric => self.copy(text, (self.rows - rows) as u64, start),
            _ => Ok(()),
        }
    }

    /// The next field, where it is a known one that has a length.
    #[inline]
    fn field<'b>(
        &self,
        cursor: &mut Cursor<'b>,
        message: &'static Message,
        start: usize,
        level: u32,
    ) -> Result<Option<(&'static Field, &'b [u8])>> {
        if let Some((number, value)) = cursor.plain_field() {
            let (Some(field), Value::Bytes(bytes)) = (message.field(number), value) else { return Ok(None) };
            return Ok(Some((field, bytes)));
        }
        self.any_field(cursor, message, start, level)
    }

    #[inline(never)]
    fn any_field<'b>(
        &self,
        cursor: &mut Cursor<'b>,
        message: &'static Message,
        start: usize,
        level: u32,
    ) -> Result<Option<(&'static Field, &'b [u8])>> {
        let field_start = cursor.at;
        let (number, wire_type) = cursor.tag().or_else(|message| fault(cursor.at, message))?;
        if wire_type == 3 {
            let levels = self.limits.max_depth.saturating_sub(level) as usize;
            cursor.skip_group(number, levels).or_else(|message| fault(cursor.at, message))?;
            return Ok(None);
        }
        let field = message.field(number);
        let value = cursor
            .value(wire_type)
            .or_else(|message| fault(cursor.at, message))
            .map_err(|fault| self.within(fault, field, start, field_start))?;
        match (field, value) {
            (Some(field), Value::Bytes(bytes)) => Ok(Some((field, bytes))),
            _ => Ok(None),
        }
    }

    /// What has a length: a message, text, bytes, or packed numbers.
    fn bytes(&mut self, field: &'static Field, place: Place, start: usize, end: usize, level: u32) -> Result<()> {
        match field.kind {
            Type::Message(message) => {
                let inside = self.enter(place, field.number);
                self.message(message, inside, start, end, level + 1)
            }
            Type::String if is_ascii(&self.body[start..end]) => Ok(()),
            Type::String => match simdutf8::compat::from_utf8(&self.body[start..end]) {
                Ok(_) => Ok(()),
                Err(error) => fault(start + error.valid_up_to(), "text is not UTF-8"),
            },
            Type::Bytes | Type::Id => Ok(()),
            _ if field.label != Label::Repeated => Ok(()),
            Type::Double | Type::Fixed64 | Type::Sfixed64 if !(end - start).is_multiple_of(8) => {
                fault(start, "packed numbers are cut off")
            }
            Type::Fixed32 if !(end - start).is_multiple_of(4) => fault(start, "packed numbers are cut off"),
            Type::Double | Type::Fixed64 | Type::Sfixed64 | Type::Fixed32 => Ok(()),
            _ => {
                let mut cursor = Cursor::new(self.body, start, end);
                while !cursor.done() {
                    cursor.varint().or_else(|message| fault(cursor.at, message))?;
                }
                Ok(())
            }
        }
    }

    fn enter(&mut self, place: Place, number: u32) -> Place {
        match (place, number) {
            (Place::Request, 1) => Place::Resource,
            (Place::Resource, 2) => Place::Scope,
            (Place::Scope, 2) if self.metrics => Place::Metric,
            (Place::Metric, 5 | 7 | 9 | 10 | 11) => Place::Points,
            (Place::Scope, 2) | (Place::Points, 1) => {
                self.rows += 1;
                Place::Inside
            }
            _ => Place::Inside,
        }
    }

    fn copy(&mut self, bytes: u64, times: u64, offset: usize) -> Result<()> {
        self.copied += bytes * times;
        match self.copied > MAX_COPIED_BYTES {
            true => fault(offset, format!("text to repeat would take more than {MAX_COPIED_BYTES} bytes")),
            false => Ok(()),
        }
    }

    /// The fault with one more step of its path; a repeated field's place is counted only now.
    fn within(&self, mut fault: Box<Fault>, field: Option<&Field>, start: usize, at: usize) -> Box<Fault> {
        let Some(field) = field else { return fault };
        let mut step = String::new();
        for letter in field.name.chars() {
            if letter.is_ascii_uppercase() {
                step.push('_');
            }
            step.push(letter.to_ascii_lowercase());
        }
        if field.label == Label::Repeated {
            let mut cursor = Cursor::new(self.body, start, at);
            let mut index = 0usize;
            while let Ok((number, wire_type)) = cursor.tag() {
                let passed = match wire_type {
                    3 => cursor.skip_group(number, usize::MAX),
                    _ => cursor.value(wire_type).map(|_| ()),
                };
                if passed.is_err() {
                    break;
                }
                index += usize::from(number == field.number);
            }
            step.push_str(&format!("[{index}]"));
        }
        fault.path.push(step);
        fault
    }
}
