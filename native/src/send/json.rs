//! OTLP protobuf → OTLP/JSON, by the table that reads it: keys in lowerCamelCase, ids in hexadecimal, other bytes in
//! Base64, 64-bit integers as text, enum values as numbers.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    batch::Signal,
    decode::{
        DecodeError,
        any_value::{comma, json_double, json_int, json_member, json_text, special},
        json::fields::{
            EXPORT_LOGS_SERVICE_REQUEST, EXPORT_METRICS_SERVICE_REQUEST, EXPORT_TRACE_SERVICE_REQUEST, Field, Label,
            Message, Type,
        },
        validate,
        wire::{Arena, Cursor, Fields, Pieces, Value},
    },
};

/// The JSON request that means the same; refused where the body is no request of that signal.
pub fn protobuf_to_json(signal: Signal, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    validate(signal, body)?;
    let request = match signal {
        Signal::Metrics => &EXPORT_METRICS_SERVICE_REQUEST,
        Signal::Logs => &EXPORT_LOGS_SERVICE_REQUEST,
        Signal::Traces | Signal::Events => &EXPORT_TRACE_SERVICE_REQUEST,
    };
    let (mut out, arena) = (Vec::with_capacity(body.len() * 3), Arena::default());
    write_message(&mut out, request, body, &arena);
    Ok(out)
}

fn write_message(out: &mut Vec<u8>, message: &'static Message, body: &[u8], arena: &Arena) {
    let present: Vec<(u32, Value<'_>)> = Fields::of(body).collect();
    let mut first = true;
    out.push(b'{');
    for field in message.fields {
        let mut values =
            present.iter().filter(|(number, _)| *number == field.number).map(|(_, value)| *value).peekable();
        if values.peek().is_none() {
            continue;
        }
        comma(out, &mut first);
        json_member(out, field.name.as_bytes());
        match field.label {
            Label::Repeated => write_list(out, field, values, arena),
            _ => write_single(out, field, values, arena),
        }
    }
    out.push(b'}');
}

/// The last value counts, but messages that came in pieces are one.
fn write_single<'a>(
    out: &mut Vec<u8>,
    field: &'static Field,
    values: impl Iterator<Item = Value<'a>>,
    arena: &'a Arena,
) {
    match field.kind {
        Type::Message(message) => {
            let mut pieces = Pieces::default();
            values.for_each(|value| pieces.add(bytes_of(value)));
            write_message(out, message, pieces.join(arena), arena);
        }
        kind => {
            if let Some(value) = values.last() {
                write_scalar(out, kind, value);
            }
        }
    }
}

fn write_list<'a>(out: &mut Vec<u8>, field: &'static Field, values: impl Iterator<Item = Value<'a>>, arena: &Arena) {
    let mut first = true;
    out.push(b'[');
    for value in values {
        match field.kind {
            Type::Message(message) => {
                comma(out, &mut first);
                write_message(out, message, bytes_of(value), arena);
            }
            Type::String | Type::Bytes | Type::Id => {
                comma(out, &mut first);
                write_scalar(out, field.kind, value);
            }
            kind => match value {
                Value::Bytes(packed) => {
                    let mut cursor = Cursor::new(packed, 0, packed.len());
                    while !cursor.done() {
                        let Ok(value) = cursor.value(wire_type(kind)) else { break };
                        comma(out, &mut first);
                        write_scalar(out, kind, value);
                    }
                }
                value => {
                    comma(out, &mut first);
                    write_scalar(out, kind, value);
                }
            },
        }
    }
    out.push(b']');
}

fn write_scalar(out: &mut Vec<u8>, kind: Type, value: Value<'_>) {
    let number = match value {
        Value::Varint(n) | Value::Fixed64(n) => n,
        Value::Fixed32(n) => u64::from(n),
        Value::Bytes(_) => 0,
    };
    match kind {
        Type::String => json_text(out, bytes_of(value)),
        Type::Bytes => json_text(out, STANDARD.encode(bytes_of(value)).as_bytes()),
        Type::Id => json_text(out, faster_hex::hex_string(bytes_of(value)).as_bytes()),
        Type::Bool => out.extend_from_slice(if number != 0 { b"true" } else { b"false" }),
        Type::Double => write_double(out, f64::from_bits(number)),
        Type::Int32 | Type::Enum(_) => json_int(out, number as i32),
        Type::Uint32 | Type::Fixed32 => json_int(out, number as u32),
        Type::Sint32 => json_int(out, (number as u32 >> 1) as i32 ^ -((number & 1) as i32)),
        Type::Int64 | Type::Sfixed64 => quoted(out, |out| json_int(out, number as i64)),
        Type::Uint64 | Type::Fixed64 => quoted(out, |out| json_int(out, number)),
        Type::Message(_) => {}
    }
}

fn write_double(out: &mut Vec<u8>, value: f64) {
    match value.is_finite() {
        true => json_double(out, value),
        false => json_text(out, special(value).as_bytes()),
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn bytes_of(value: Value<'_>) -> &[u8] {
    match value {
        Value::Bytes(bytes) => bytes,
        _ => &[],
    }
}

fn wire_type(kind: Type) -> u32 {
    match kind {
        Type::Double | Type::Fixed64 | Type::Sfixed64 => 1,
        Type::Fixed32 => 5,
        _ => 0,
    }
}
