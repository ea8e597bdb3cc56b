//! Log records (specification 3.2).

use super::{
    any_value::Any,
    attributes::Own,
    context::{Resource, Scope},
    record::Pass,
    reserved, semantics,
    wire::{Arena, Fields, Pieces, Value},
};
use crate::schema::Col;

#[derive(Default)]
struct Record<'a> {
    time: u64,
    observed: u64,
    severity: i64,
    severity_text: &'a [u8],
    body: Pieces<'a>,
    dropped: u64,
    flags: u64,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record; its attributes go to `own`.
    fn of(message: &'a [u8], own: &mut Own<'a>, arena: &'a Arena) -> Record<'a> {
        let mut record = Record::default();
        own.begin();
        for field in Fields::of(message) {
            match field {
                (1, Value::Fixed64(time)) => record.time = time,
                (2, Value::Varint(number)) => record.severity = i64::from(number as i32),
                (3, Value::Bytes(text)) => record.severity_text = text,
                (5, Value::Bytes(piece)) => record.body.add(piece),
                (6, Value::Bytes(pair)) => own.add(pair, arena),
                (7, Value::Varint(count)) => record.dropped = u64::from(count as u32),
                (8, Value::Fixed32(flags)) => record.flags = u64::from(flags),
                (9, Value::Bytes(id)) => record.trace_id = id,
                (10, Value::Bytes(id)) => record.span_id = id,
                (11, Value::Fixed64(time)) => record.observed = time,
                (12, Value::Bytes(text)) => record.event_name = text,
                _ => {}
            }
        }
        record
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
    let record = Record::of(message, own, arena);
    pass.trace_or_span_id(Col::TraceId, reserved::TRACE_ID, record.trace_id);
    pass.trace_or_span_id(Col::SpanId, reserved::SPAN_ID, record.span_id);
    pass.digest(message, scope.seed);
    own.write(0, &resource.feeds, pass.columns, arena);
    let text_of = |key: &[u8]| match own.attributes().find(|attribute| attribute.key == key)?.value {
        Any::Text(text) if !text.is_empty() => Some(text),
        _ => None,
    };
    if let Some(uid) = text_of(b"log.record.uid") {
        pass.columns.uid(uid);
    }
    // `otel.log` stands for no event name; a record whose name comes from its attribute, or is that word, says so in
    // `attributes`, so that the inverse need not guess.
    let name = Some(record.event_name).filter(|name| !name.is_empty());
    pass.columns.text(Col::EventName, name.or_else(|| text_of(b"event.name")).unwrap_or(b"otel.log"));
    if own.attributes().any(|attribute| attribute.key.starts_with(b"exception.")) {
        pass.columns.text(Col::Outcome, b"error");
    }
    own.residue(&resource.feeds, pass.whole, &mut pass.columns.attributes);
    if name == Some(b"otel.log") || name.is_some() && text_of(b"event.name").is_some() {
        pass.note_text(reserved::EVENT_NAME, record.event_name);
    }
    times(pass, &record);
    severity(pass, &record);
    body(pass, Any::of(record.body.join(arena), arena));
    pass.note(reserved::DROPPED_ATTRIBUTES, record.dropped);
    pass.note(reserved::FLAGS, record.flags);
    pass.end_row(resource, scope, Some(own));
}

fn times(pass: &mut Pass, record: &Record) {
    let own = i64::try_from(record.time).ok().filter(|time| *time != 0);
    let observed = i64::try_from(record.observed).ok().filter(|time| *time != 0);
    let timestamp = own.or(observed);
    if let Some(time) = timestamp {
        pass.columns.int(Col::Timestamp, time);
    }
    let stored = timestamp.map(|time| time as u64);
    if stored != Some(record.time) {
        pass.columns.attributes.int(reserved::TIME, record.time);
    }
    if stored != Some(record.observed) {
        pass.columns.attributes.int(reserved::OBSERVED_TIME, record.observed);
    }
}

fn severity(pass: &mut Pass, record: &Record) {
    let found = semantics::severity(record.severity, record.severity_text);
    if let Some((level, number)) = found {
        pass.columns.text(Col::LogLevel, level.as_bytes());
        pass.columns.int(Col::LogLevelNum, number);
    }
    if found.map_or(0, |(_, number)| number) != record.severity {
        let text = record.severity.to_string();
        pass.note_text(reserved::SEVERITY_NUMBER, text.as_bytes());
    }
    // Absent text is told too: the level's word does not stand for it.
    if found.map_or(&b""[..], |(level, _)| level.as_bytes()) != record.severity_text {
        pass.columns.attributes.text(reserved::SEVERITY_TEXT, record.severity_text);
    }
}

fn body(pass: &mut Pass, value: Any) {
    match value {
        Any::Empty => {}
        Any::Text(text) if !text.is_empty() => pass.columns.text(Col::LogMessage, text),
        _ => {
            let mut json = Vec::new();
            value.write_json(&mut json);
            if !matches!(value, Any::Text(_)) {
                pass.columns.text(Col::LogMessage, &json);
            }
            pass.columns.text(Col::Data, &[b"{\"body\":", json.as_slice(), b"}"].concat());
        }
    }
}
