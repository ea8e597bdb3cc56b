//! The verdict on one event, before anything of it is written (specification 6.1, 2.2).

use std::fmt;

use super::{
    json::{Kind, Value},
    plan::{Clock, Field, Home, Is, Mapping, Part, Rows},
    shape::{Found, Shape},
    time::{self, Format, Instant},
};

/// Further ahead than this, a clock is marked as wrong.
pub const FUTURE_NS: i64 = 24 * 3_600 * 1_000_000_000;
/// A distance between the sender's clock and ours that is no error of a clock but an old event sent again.
pub const MAX_SKEW_NS: i64 = 30 * FUTURE_NS;

/// Why one event is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// A stable name of specification 6.1.
    pub code: &'static str,
    /// The field, empty where it is the event as a whole.
    pub path: Box<str>,
    pub message: String,
}

impl Reject {
    pub fn new(code: &'static str, path: &str, message: impl Into<String>) -> Reject {
        Reject { code, path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What is known of an event's times.
#[derive(Debug, Default)]
pub struct Times {
    /// Instants by place.
    pub at: Vec<Option<i64>>,
    /// Some time that has a column had no offset.
    pub assumed: bool,
    /// The sender's clock was this much behind ours, in milliseconds; the event's time is corrected by it.
    pub skew_ms: Option<i64>,
}

/// Checks every field; fills `times`.
pub fn check(mapping: &Mapping, found: &Found, received_ns: i64, times: &mut Times) -> Result<(), Reject> {
    times.at.clear();
    times.at.resize(mapping.shape.len(), None);
    (times.assumed, times.skew_ms) = (false, None);
    for field in &mapping.body.fields {
        check_field(field, found.values[field.node as usize], mapping.strict, times)?;
    }
    if let Rows::Fixed(parts) = &mapping.rows {
        for field in parts.iter().flat_map(|(_, part)| &part.fields) {
            check_field(field, found.values[field.node as usize], mapping.strict, times)?;
        }
    }
    if let Rows::Each { list, shape, part } = &mapping.rows {
        check_items(mapping, found.values[*list as usize], shape, part)?;
    }
    for (name, any) in &mapping.require {
        if !any.iter().any(|node| found.values[*node as usize].is_present()) {
            return Err(Reject::new("missing_field", name, format!("{name} is required")));
        }
    }
    if let Some(clock) = &mapping.clock {
        correct(clock, received_ns, times);
    }
    Ok(())
}

fn check_items(mapping: &Mapping, list: Value, shape: &Shape, part: &Part) -> Result<(), Reject> {
    let (mut found, mut times) = (Found::default(), Times::default());
    for (index, item) in list.items().enumerate() {
        let named = |reject: Reject| Reject { message: format!("item {index}: {}", reject.message), ..reject };
        if item.kind != Kind::Object {
            return Err(named(Reject::new("bad_type", "", "must be an object")));
        }
        shape.find(item.raw, &mut found);
        times.at.clear();
        times.at.resize(shape.len(), None);
        for field in &part.fields {
            check_field(field, found.values[field.node as usize], mapping.strict, &mut times).map_err(named)?;
        }
    }
    Ok(())
}

fn check_field(field: &Field, value: Value, strict: bool, times: &mut Times) -> Result<(), Reject> {
    let path = &field.path;
    match value.kind {
        Kind::Missing if field.required => {
            return Err(Reject::new("missing_field", path, format!("{path} is required")));
        }
        Kind::Null if field.required && field.empty.as_deref() != Some("null") => {
            return Err(Reject::new("missing_field", path, format!("{path} must not be null")));
        }
        Kind::Missing | Kind::Null => return Ok(()),
        _ => {}
    }
    if strict && !is(field.is, value) {
        let message = format!("{path} must be {}, not {}", wanted(field.is), given(value.kind));
        return Err(Reject::new("bad_type", path, message));
    }
    if field.is == Is::Uuid && !value.text().is_some_and(|(text, _)| is_uuid(&text)) {
        return Err(Reject::new("bad_uuid", path, format!("{path} must be a UUID of 8-4-4-4-12 hexadecimal digits")));
    }
    if !field.one_of.is_empty() {
        let text = value.text().map(|(text, _)| text).unwrap_or_default();
        if !field.one_of.iter().any(|word| **word == *text) {
            return Err(Reject::new("bad_enum", path, format!("{path} must be one of {}", field.one_of.join(", "))));
        }
    }
    if let Some(format) = field.format {
        match read_time(format, value) {
            Some(instant) => {
                times.at[field.node as usize] = Some(instant.ns);
                times.assumed |= instant.assumed && matches!(field.home, Home::Column(_));
            }
            None if matches!(field.home, Home::Column(_)) => {
                let wanted = match format {
                    Format::Milliseconds => "milliseconds since 1970",
                    _ => "an ISO 8601 time such as 2026-03-04T05:06:07.123Z",
                };
                return Err(Reject::new("bad_timestamp", path, format!("{path} must be {wanted}")));
            }
            None => {}
        }
    }
    Ok(())
}

fn read_time(format: Format, value: Value) -> Option<Instant> {
    let plain = |ns| Instant { ns, assumed: false };
    match (format, value.kind) {
        (Format::Iso | Format::IsoOrEpoch, Kind::Text) => time::iso(value.text()?.0.as_bytes()),
        (Format::Milliseconds, Kind::Number) => time::milliseconds(value.raw).map(plain),
        (Format::IsoOrEpoch, Kind::Number) => time::epoch(value.raw).map(plain),
        _ => None,
    }
}

/// Clause 1.5 of the Segment contract: the event's time by our clock.
fn correct(clock: &Clock, received_ns: i64, times: &mut Times) {
    let at = |node: u32| times.at[node as usize];
    let Some(original) = at(clock.original).or(at(clock.timestamp)) else {
        times.at[clock.timestamp as usize] = at(clock.received);
        return;
    };
    let skew = at(clock.sent).and_then(|sent| received_ns.checked_sub(sent)).filter(|skew| skew.abs() <= MAX_SKEW_NS);
    times.at[clock.timestamp as usize] = match skew {
        Some(skew) => original.checked_add(skew),
        None => at(clock.timestamp).or(Some(original)),
    };
    times.skew_ms = skew.map(|skew| skew / 1_000_000);
}

fn is(wanted: Is, value: Value) -> bool {
    match wanted {
        Is::Any => true,
        Is::Text | Is::Uuid => value.kind == Kind::Text,
        Is::Number => value.kind == Kind::Number,
        Is::Integer => value.kind == Kind::Number && value.raw.parse().is_ok_and(|n: f64| n.fract() == 0.0),
        Is::Boolean => matches!(value.kind, Kind::True | Kind::False),
        Is::Object => value.kind == Kind::Object,
        Is::List => value.kind == Kind::List,
    }
}

fn wanted(wanted: Is) -> &'static str {
    match wanted {
        Is::Any => "a value",
        Is::Text | Is::Uuid => "a text",
        Is::Number => "a number",
        Is::Integer => "a whole number",
        Is::Boolean => "true or false",
        Is::Object => "an object",
        Is::List => "a list",
    }
}

fn given(kind: Kind) -> &'static str {
    match kind {
        Kind::Missing | Kind::Null => "null",
        Kind::True | Kind::False => "a boolean",
        Kind::Number => "a number",
        Kind::Text => "a text",
        Kind::Object => "an object",
        Kind::List => "a list",
    }
}

/// 8-4-4-4-12 hexadecimal digits in any letter case.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
