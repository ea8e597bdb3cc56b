//! A request's body: where its events are, and what the object around them says of all of them.

use std::borrow::Cow;

use super::{
    check::Reject,
    expression::texts,
    json::{Fault, Kind, Scan, Value, blanks, scan, unquoted},
    plan::{Mapping, PlanError, When},
};
use crate::decode::any_value::json_text;

/// How bodies of one route are read, and the mappings that their events may choose.
#[derive(Debug)]
pub struct Format {
    pub mappings: Vec<Mapping>,
    /// Quoted keys of the members that conditions of mappings are about.
    asked: Vec<Box<str>>,
    /// Paths, quoted keys, of the list of events in a body that is an object; the first that is there counts.
    lists: Vec<Vec<Box<str>>>,
    /// Whether a body may be one event, or a list of them.
    single: bool,
    list: bool,
    /// Members of the object around that are merged under each event's own.
    merge: Vec<Box<str>>,
    /// Members of the object around that an event has where it lacks them.
    inherit: Vec<Box<str>>,
    wrap: Option<Wrap>,
    pub limits: Limits,
}

/// Events of a list are parts of what the mapping reads: `{"event": item, "context": {.., "sequence": n + place}}`.
#[derive(Debug)]
struct Wrap {
    item: Box<str>,
    with: Box<str>,
    number: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub event_bytes: usize,
    pub events: usize,
    /// Levels of objects and lists within an event.
    pub depth: usize,
    /// Members of one object.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { event_bytes: 100 << 10, events: 10_000, depth: 64, members: 10_000 }
    }
}

/// A body's events. What lies around them is `around`, an object or nothing.
#[derive(Debug)]
pub struct Envelope<'a> {
    pub events: Vec<Value<'a>>,
    pub around: Value<'a>,
    /// Its members that the format merges, then those that events inherit, or the one that each event is put beside:
    /// looked up once, because a search walks over the whole list of events.
    common: Vec<Value<'a>>,
    pub single: bool,
    /// Of the whole body.
    scan: Scan,
}

impl<'a> Envelope<'a> {
    /// Events with nothing around them.
    fn bare(events: Vec<Value<'a>>, single: bool, scan: Scan) -> Envelope<'a> {
        Envelope { events, around: Value::default(), common: Vec::new(), single, scan }
    }
}

/// Why a body holds no events at all.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    Malformed(usize, &'static str),
    Envelope(&'static str),
}

impl From<Fault> for Unreadable {
    fn from(fault: Fault) -> Unreadable {
        Unreadable::Malformed(fault.offset, fault.message)
    }
}

impl Format {
    /// Reads a plan: the mappings and how a body holds their events.
    pub fn read(plan: &str) -> Result<Format, PlanError> {
        scan(plan.as_bytes(), 0, &mut Vec::new()).map_err(|fault| PlanError(fault.message.into()))?;
        let plan = Value::of(plan);
        let on = |name: &str| plan.get(name).kind == Kind::True;
        let names = |name: &str| texts(plan.get(name)).iter().map(|key| quoted(key)).collect();
        let path = |list: Value| texts(list).iter().map(|key| quoted(key)).collect();
        let limits = plan.get("limits");
        let limit = |name: &str, default: usize| limits.get(name).raw.parse().unwrap_or(default);
        let default = Limits::default();
        let wrap = plan.get("wrap");
        let name = |value: Value| value.text().map(|(text, _)| quoted(&text));
        let wrap = match (name(wrap.get("item")), name(wrap.get("with"))) {
            (Some(item), Some(with)) => Some(Wrap { item, with, number: name(wrap.get("number")) }),
            _ => None,
        };
        let mut asked = Vec::new();
        let mappings = plan.get("mappings").items().map(|item| Mapping::of(item, &mut asked));
        Ok(Format {
            mappings: mappings.collect::<Result<_, _>>()?,
            asked,
            lists: plan.get("lists").items().map(path).collect(),
            single: on("single"),
            list: on("list"),
            merge: names("merge"),
            inherit: names("inherit"),
            wrap,
            limits: Limits {
                event_bytes: limit("event_bytes", default.event_bytes),
                events: limit("events", default.events),
                depth: limit("depth", default.depth),
                members: limit("members", default.members),
            },
        })
    }

    /// The events of a body, which is checked to be JSON as a whole.
    pub fn open<'a>(&self, body: &'a [u8], stack: &mut Vec<u32>) -> Result<Envelope<'a>, Unreadable> {
        let text = match simdutf8::compat::from_utf8(body) {
            Ok(text) => text,
            Err(error) => return Err(Unreadable::Malformed(error.valid_up_to(), "the text is not UTF-8")),
        };
        // A byte order mark is no JSON, but some senders write one.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let scan = scan(text.as_bytes(), 0, stack)?;
        if blanks(text.as_bytes(), scan.end) < text.len() {
            return Err(Unreadable::Malformed(blanks(text.as_bytes(), scan.end), "text follows the end of the value"));
        }
        let body = Value::of(text);
        match body.kind {
            Kind::Object => self.object(body, scan),
            Kind::List if self.list => Ok(Envelope::bare(body.items().collect(), false, scan)),
            Kind::List => Err(Unreadable::Envelope("the body must be an object, not a list")),
            _ if self.list => Err(Unreadable::Envelope("the body must be an object or a list of objects")),
            _ => Err(Unreadable::Envelope("the body must be an object")),
        }
    }

    fn object<'a>(&self, body: Value<'a>, scan: Scan) -> Result<Envelope<'a>, Unreadable> {
        for path in &self.lists {
            let list = path.iter().fold(body, |value, key| member(value, key));
            match list.kind {
                Kind::List => {
                    let common = self.shared().map(|key| member(body, key)).collect();
                    return Ok(Envelope {
                        around: body,
                        common,
                        ..Envelope::bare(list.items().collect(), false, scan)
                    });
                }
                Kind::Missing => {}
                _ => return Err(Unreadable::Envelope("the list of events is no list")),
            }
        }
        match self.single {
            true => Ok(Envelope::bare(vec![body], true, scan)),
            false => Err(Unreadable::Envelope("the body holds no list of events")),
        }
    }

    /// The members of the object around that concern its events.
    fn shared(&self) -> impl Iterator<Item = &str> {
        let (members, with) = match &self.wrap {
            Some(wrap) => (None, Some(&wrap.with)),
            None => (Some(self.merge.iter().chain(&self.inherit)), None),
        };
        members.into_iter().flatten().chain(with).map(|key| &**key)
    }

    /// Whether an event keeps within the limits.
    pub fn fits(&self, envelope: &Envelope, event: Value, stack: &mut Vec<u32>) -> Result<(), Reject> {
        let limits = &self.limits;
        if event.kind != Kind::Object {
            return Err(Reject::new("bad_type", "", "an event must be an object"));
        }
        if event.raw.len() > limits.event_bytes {
            let message = format!("the event has {} bytes, more than {}", event.raw.len(), limits.event_bytes);
            return Err(Reject::new("too_large", "", message));
        }
        if envelope.scan.depth <= limits.depth && envelope.scan.widest <= limits.members {
            return Ok(());
        }
        let scan = scan(event.raw.as_bytes(), 0, stack).unwrap_or_default();
        if scan.depth > limits.depth {
            let message = format!("the event has {} levels, more than {}", scan.depth, limits.depth);
            return Err(Reject::new("too_deep", "", message));
        }
        if scan.widest > limits.members {
            let message = format!("an object of the event has {} members, more than {}", scan.widest, limits.members);
            return Err(Reject::new("too_many_members", "", message));
        }
        Ok(())
    }

    /// The event as its mapping reads it: with what the object around says of all events.
    pub fn complete<'a>(&self, envelope: &Envelope<'a>, event: Value<'a>, place: usize) -> Cow<'a, str> {
        if envelope.around.kind != Kind::Object {
            return Cow::Borrowed(event.raw);
        }
        if let Some(wrap) = &self.wrap {
            return Cow::Owned(wrap.around(envelope.common[0], event, place));
        }
        let mut added: Vec<(&str, Option<Cow<str>>)> = Vec::new();
        let (merged_in, inherited) = envelope.common.split_at(self.merge.len());
        for (key, &common) in self.merge.iter().zip(merged_in) {
            if common.kind == Kind::Missing {
                continue;
            }
            let own = member(event, key);
            match (own.kind, common.kind) {
                (_, Kind::Null) => {}
                (Kind::Missing, _) => added.push((key, Some(Cow::Borrowed(common.raw)))),
                (Kind::Object, Kind::Object) => added.push((key, Some(Cow::Owned(merged(common, own))))),
                _ => {}
            }
        }
        for (key, &common) in self.inherit.iter().zip(inherited) {
            if common.kind != Kind::Missing && member(event, key).kind == Kind::Missing {
                added.push((key, Some(Cow::Borrowed(common.raw))));
            }
        }
        if added.is_empty() { Cow::Borrowed(event.raw) } else { Cow::Owned(replaced(event, &added)) }
    }

    /// The mapping that an event chooses: the first whose conditions hold.
    pub fn choose(&self, event: Value) -> Option<usize> {
        if let [only] = self.mappings.as_slice()
            && only.when.is_empty()
        {
            return Some(0);
        }
        let values: Vec<Value> = self.asked.iter().map(|name| member(event, name)).collect();
        self.mappings.iter().position(|mapping| {
            mapping.when.iter().all(|(asked, when)| {
                let value = values[*asked];
                match when {
                    When::Present => value.is_present(),
                    When::Absent => matches!(value.kind, Kind::Missing | Kind::Null),
                    When::In(words) => value.text().is_some_and(|(text, _)| words.iter().any(|word| **word == *text)),
                }
            })
        })
    }
}

fn quoted(text: &str) -> Box<str> {
    let mut out = Vec::new();
    json_text(&mut out, text.as_bytes());
    String::from_utf8(out).expect("quoted text is text").into()
}

/// The last member of a quoted key.
pub fn member<'a>(object: Value<'a>, key: &str) -> Value<'a> {
    let same = |name: &str| name == key || name.contains('\\') && unquoted(name).0 == key[1..key.len() - 1];
    object.members().filter(|(name, _)| same(name)).last().map_or_else(Value::default, |(_, value)| value)
}

/// The object with these members in place of its own, or without them.
pub fn replaced(object: Value, members: &[(&str, Option<Cow<str>>)]) -> String {
    let mut out = String::with_capacity(object.raw.len() + 256);
    let own = object.members().filter(|(name, _)| !members.iter().any(|(key, _)| key == name));
    let own = own.map(|(name, value)| (name, Cow::Borrowed(value.raw)));
    let others = members.iter().filter_map(|(name, value)| Some((*name, value.clone()?)));
    for (name, value) in own.chain(others) {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(name);
        out.push(':');
        out.push_str(&value);
    }
    out.push_str(if out.is_empty() { "{}" } else { "}" });
    out
}

/// Two objects as one, level by level; what `own` says counts.
fn merged(common: Value, own: Value) -> String {
    let mut members: Vec<(&str, Option<Cow<str>>)> = Vec::new();
    for (name, value) in own.members() {
        let other = member(common, name);
        let value = match (value.kind, other.kind) {
            (Kind::Object, Kind::Object) => Cow::Owned(merged(other, value)),
            _ => Cow::Borrowed(value.raw),
        };
        members.push((name, Some(value)));
    }
    replaced(common, &members)
}

impl Wrap {
    fn around(&self, with: Value, item: Value, place: usize) -> String {
        let with = match &self.number {
            Some(number) => {
                let first: i64 = member(with, number).raw.parse().unwrap_or(0);
                replaced(with, &[(number, Some(Cow::Owned((first + place as i64).to_string())))])
            }
            None if with.kind == Kind::Missing => "{}".to_owned(),
            None => with.raw.to_owned(),
        };
        format!("{{{}:{},{}:{with}}}", self.item, item.raw, self.with)
    }
}

/// The event without these paths.
pub fn without(event: Value, paths: &[Vec<Box<str>>]) -> String {
    fn write(object: Value, paths: &[&[Box<str>]], out: &mut String) {
        out.push('{');
        for (name, value) in object.members() {
            let plain = unquoted(name).0;
            let here: Vec<&[Box<str>]> =
                paths.iter().filter(|path| path[0][1..path[0].len() - 1] == *plain).map(|path| &path[1..]).collect();
            if here.iter().any(|rest| rest.is_empty()) {
                continue;
            }
            if !out.ends_with('{') {
                out.push(',');
            }
            out.push_str(name);
            out.push(':');
            match value.kind {
                Kind::Object if !here.is_empty() => write(value, &here, out),
                _ => out.push_str(value.raw),
            }
        }
        out.push('}');
    }
    let mut out = String::with_capacity(event.raw.len());
    write(event, &paths.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut out);
    out
}

/// The text without control characters below U+0020 other than tab and newline, which are always escaped.
pub fn sanitised(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut out, mut kept, mut at) = (String::new(), 0, 0);
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        let start = at + found;
        let length = match bytes.get(start + 1) {
            Some(b'b' | b'f' | b'r') => 2,
            Some(b'u') if is_control(&bytes[start + 2..]) => 6,
            Some(b'u') => {
                at = start + 6;
                continue;
            }
            _ => {
                at = start + 2;
                continue;
            }
        };
        out.push_str(&text[kept..start]);
        (kept, at) = (start + length, start + length);
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}

fn is_control(digits: &[u8]) -> bool {
    let unit = digits.get(..4).and_then(|four| u32::from_str_radix(std::str::from_utf8(four).ok()?, 16).ok());
    unit.is_some_and(|unit| unit < 0x20 && unit != 0x09 && unit != 0x0a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value<'_> {
        Value::of(text)
    }

    #[test]
    fn what_the_object_around_says_is_merged_under_the_events_own() {
        let merged = merged(value(r#"{"a":{"x":1,"y":2},"b":1}"#), value(r#"{"a":{"y":3},"c":2}"#));
        assert_eq!(merged, r#"{"b":1,"a":{"x":1,"y":3},"c":2}"#);
    }

    #[test]
    fn paths_are_taken_out() {
        let paths: Vec<Vec<Box<str>>> = vec![vec!["\"a\"".into(), "\"b\"".into()], vec!["\"c\"".into()]];
        assert_eq!(without(value(r#"{"a":{"b":1,"d":2},"c":[1],"e":{}}"#), &paths), r#"{"a":{"d":2},"e":{}}"#);
    }

    #[test]
    fn control_characters_are_taken_out_and_others_stay() {
        assert_eq!(sanitised(r#""a\u0000b\tc\n\\u0001\r\u001F\u00e9""#), r#""ab\tc\n\\u0001\u00e9""#);
        assert!(matches!(sanitised(r#""plain \n \\""#), Cow::Borrowed(_)));
    }
}
