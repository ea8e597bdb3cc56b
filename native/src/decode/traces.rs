//! Spans (specification 3.1).

use super::{
    any_value::Any,
    attributes::{Attribute, Own, collect, pairs},
    context::{Resource, Scope, write_number, write_text},
    record::{Pass, write_id, write_int, write_own},
    reserved, semantics,
    wire::{Arena, Fields, Pieces, Value},
};
use crate::schema::Col;

#[derive(Default)]
struct Span<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    trace_state: &'a [u8],
    parent_id: &'a [u8],
    name: &'a [u8],
    kind: i64,
    start: u64,
    end: u64,
    dropped: [u64; 3],
    flags: u64,
    status: Pieces<'a>,
    has_events: bool,
    has_links: bool,
}

impl<'a> Span<'a> {
    /// The span; its attributes go to `own`.
    fn of(message: &'a [u8], own: &mut Own<'a>, arena: &'a Arena) -> Span<'a> {
        let mut span = Span::default();
        own.begin();
        for field in Fields::of(message) {
            match field {
                (1, Value::Bytes(id)) => span.trace_id = id,
                (2, Value::Bytes(id)) => span.span_id = id,
                (3, Value::Bytes(text)) => span.trace_state = text,
                (4, Value::Bytes(id)) => span.parent_id = id,
                (5, Value::Bytes(text)) => span.name = text,
                (6, Value::Varint(kind)) => span.kind = i64::from(kind as i32),
                (7, Value::Fixed64(time)) => span.start = time,
                (8, Value::Fixed64(time)) => span.end = time,
                (9, Value::Bytes(pair)) => own.add(pair, arena),
                (10, Value::Varint(count)) => span.dropped[0] = u64::from(count as u32),
                (11, Value::Bytes(_)) => span.has_events = true,
                (12, Value::Varint(count)) => span.dropped[1] = u64::from(count as u32),
                (13, Value::Bytes(_)) => span.has_links = true,
                (14, Value::Varint(count)) => span.dropped[2] = u64::from(count as u32),
                (15, Value::Bytes(piece)) => span.status.add(piece),
                (16, Value::Fixed32(flags)) => span.flags = u64::from(flags),
                _ => {}
            }
        }
        span
    }
}

pub fn row<'a>(
    pass: &mut Pass,
    message: &'a [u8],
    resource: &Resource<'a>,
    scope: &mut Scope<'a>,
    own: &mut Own<'a>,
    arena: &'a Arena,
) {
    let span = Span::of(message, own, arena);
    pass.columns.text(Col::EventName, span.name);
    let traced = pass.trace_or_span_id(Col::TraceId, reserved::TRACE_ID, span.trace_id);
    let named = pass.trace_or_span_id(Col::SpanId, reserved::SPAN_ID, span.span_id);
    if !(traced && named) {
        pass.digest(message, scope.seed);
    }
    pass.trace_or_span_id(Col::ParentId, reserved::PARENT_ID, span.parent_id);
    times(pass, &span);
    own.write(span.kind, &resource.feeds, pass.columns, arena);
    let excepted = (span.has_events || span.has_links) && data(pass, message);
    outcome(pass, &span, own, excepted, arena);
    own.residue(&resource.feeds, pass.whole, &mut pass.columns.attributes);
    kind(pass, &span, own);
    pass.note_text(reserved::TRACE_STATE, span.trace_state);
    pass.note(reserved::FLAGS, span.flags);
    pass.note(reserved::DROPPED_ATTRIBUTES, span.dropped[0]);
    pass.note(reserved::DROPPED_EVENTS, span.dropped[1]);
    pass.note(reserved::DROPPED_LINKS, span.dropped[2]);
    pass.end_row(resource, scope, Some(own));
}

fn times(pass: &mut Pass, span: &Span) {
    let start = pass.time(Col::StartedAt, reserved::START_TIME, span.start);
    let end = pass.time(Col::EndedAt, reserved::END_TIME, span.end);
    if let Some(time) = start.or(end) {
        pass.columns.int(Col::Timestamp, time);
    }
    if let (Some(start), Some(end)) = (start, end) {
        pass.columns.double(Col::DurationMs, (end - start) as f64 / 1e6);
    }
}

fn kind(pass: &mut Pass, span: &Span, own: &Own) {
    match usize::try_from(span.kind).ok().and_then(|kind| reserved::SPAN_KINDS.get(kind)) {
        Some(&"") => {}
        Some(word) => pass.columns.labels.text(reserved::SPAN_KIND, word.as_bytes()),
        // An unknown number keeps its 32 bits; a negative one is spelled as such.
        None => pass.note_text(reserved::KIND, span.kind.to_string().as_bytes()),
    }
    if matches!(span.kind, 4 | 5) && !own.names(Col::MsgOperation) {
        pass.columns.text(Col::MsgOperation, if span.kind == 4 { b"send" } else { b"receive" });
    }
}

fn outcome<'a>(pass: &mut Pass, span: &Span<'a>, own: &Own, excepted: bool, arena: &'a Arena) {
    let (mut code, mut message) = (0i64, &[][..]);
    for field in Fields::of(span.status.join(arena)) {
        match field {
            (2, Value::Bytes(text)) => message = text,
            (3, Value::Varint(value)) => code = i64::from(value as i32),
            _ => {}
        }
    }
    let http = pass.columns.int_of(Col::HttpStatus);
    let grpc = pass.columns.int_of(Col::StatusCode).filter(|_| http.is_none());
    let (outcome, reason) = semantics::span_outcome(code, span.kind == 3, http, grpc);
    pass.columns.text(Col::Outcome, outcome.as_bytes());
    pass.columns.text(Col::OutcomeReason, if message.is_empty() { reason.as_bytes() } else { message });
    if code == 2 && !excepted && !own.fills(Col::ErrorMessage) {
        pass.columns.text(Col::ErrorMessage, message);
    }
    if semantics::restored_status(outcome) != code {
        pass.note_text(reserved::STATUS, code.to_string().as_bytes());
    }
    pass.note_text(reserved::STATUS_MESSAGE, message);
}

/// Events and links as JSON text; whether an exception event gave the error columns.
fn data(pass: &mut Pass, message: &[u8]) -> bool {
    let (mut out, mut first, mut excepted) = (vec![b'{'], true, false);
    for (number, name) in [(11, &b"\"events\":["[..]), (13, b"\"links\":[")] {
        let mut first_element = true;
        for element in pairs(message, number) {
            if first_element {
                super::any_value::comma(&mut out, &mut first);
                out.extend_from_slice(name);
            }
            super::any_value::comma(&mut out, &mut first_element);
            match number {
                11 => excepted |= event(pass, element, &mut out),
                _ => link(element, &mut out),
            }
        }
        if !first_element {
            out.push(b']');
        }
    }
    out.push(b'}');
    pass.columns.text(Col::Data, &out);
    excepted
}

fn event(pass: &mut Pass, message: &[u8], out: &mut Vec<u8>) -> bool {
    let arena = Arena::default();
    let (mut time, mut name, mut dropped) = (0u64, &[][..], 0u64);
    for field in Fields::of(message) {
        match field {
            (1, Value::Fixed64(value)) => time = value,
            (2, Value::Bytes(text)) => name = text,
            (4, Value::Varint(count)) => dropped = u64::from(count as u32),
            _ => {}
        }
    }
    let attributes = collect(pairs(message, 3), &arena);
    let mut first = true;
    out.push(b'{');
    write_int(out, &mut first, b"\"time_ns\":", time);
    write_text(out, &mut first, b"\"name\":", name);
    write_own(out, &mut first, &attributes);
    write_number(out, &mut first, b"\"dropped\":", dropped);
    out.push(b'}');
    name == b"exception" && exception(pass, &attributes)
}

/// The error columns from an exception's attributes; the last event wins.
fn exception(pass: &mut Pass, attributes: &[Attribute]) -> bool {
    for attribute in attributes {
        let col = match attribute.key {
            b"exception.type" => Col::ErrorType,
            b"exception.message" => Col::ErrorMessage,
            b"exception.stacktrace" => Col::ErrorStack,
            _ => continue,
        };
        if let Any::Text(text) = attribute.value {
            pass.columns.text(col, text);
        }
    }
    true
}

fn link(message: &[u8], out: &mut Vec<u8>) {
    let arena = Arena::default();
    let (mut ids, mut state, mut dropped, mut flags) = ([&[][..]; 2], &[][..], 0u64, 0u64);
    for field in Fields::of(message) {
        match field {
            (1, Value::Bytes(id)) => ids[0] = id,
            (2, Value::Bytes(id)) => ids[1] = id,
            (3, Value::Bytes(text)) => state = text,
            (5, Value::Varint(count)) => dropped = u64::from(count as u32),
            (6, Value::Fixed32(value)) => flags = u64::from(value),
            _ => {}
        }
    }
    let mut first = true;
    out.push(b'{');
    write_id(out, &mut first, b"\"trace_id\":", ids[0]);
    write_id(out, &mut first, b"\"span_id\":", ids[1]);
    write_text(out, &mut first, b"\"trace_state\":", state);
    write_own(out, &mut first, &collect(pairs(message, 4), &arena));
    write_number(out, &mut first, b"\"flags\":", flags);
    write_number(out, &mut first, b"\"dropped\":", dropped);
    out.push(b'}');
}
