//! An attribute's value on its way between a map, a column and a context.

use crate::{
    decode::{
        any_value::{Any, json_text, special},
        attributes::{Cell, convert, same},
        json::{Fault, reader::Reader},
        keys::{Rule, Transform},
        wire::Arena,
    },
    schema::ValueKind,
};

/// Kind and text as a map holds them; lists and objects are JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    pub kind: ValueKind,
    pub text: &'a str,
}

/// The kind of this number; unknown ones are text.
pub fn kind_of(number: u8) -> ValueKind {
    match number {
        0 => ValueKind::Empty,
        2 => ValueKind::Bool,
        3 => ValueKind::Int,
        4 => ValueKind::Double,
        5 => ValueKind::Array,
        6 => ValueKind::KvList,
        7 => ValueKind::Bytes,
        _ => ValueKind::String,
    }
}

/// A text that lives as long as the arena.
pub fn kept(arena: &Arena, text: impl Into<String>) -> &str {
    let bytes = arena.keep(text.into().into_bytes());
    // SAFETY: these bytes were a `String` a line above, and nothing changes what an arena keeps.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

impl<'a> Value<'a> {
    pub fn string(text: &'a str) -> Value<'a> {
        Value { kind: ValueKind::String, text }
    }

    pub fn int(value: i64, arena: &'a Arena) -> Value<'a> {
        Value { kind: ValueKind::Int, text: kept(arena, itoa::Buffer::new().format(value)) }
    }

    pub fn double(value: f64, arena: &'a Arena) -> Value<'a> {
        let mut buffer = ryu::Buffer::new();
        let text = if value.is_finite() { buffer.format_finite(value) } else { special(value) };
        Value { kind: ValueKind::Double, text: kept(arena, text) }
    }

    pub fn bool(value: bool) -> Value<'a> {
        Value { kind: ValueKind::Bool, text: if value { "true" } else { "false" } }
    }

    /// What the decoder would have read, as far as columns are concerned.
    fn any(self, rule: &Rule, arena: &'a Arena) -> Any<'a> {
        let number = |parsed: Option<Any<'a>>| parsed.unwrap_or(Any::Empty);
        match self.kind {
            ValueKind::String => Any::Text(self.text.as_bytes()),
            ValueKind::Bool => Any::Bool(self.text == "true"),
            ValueKind::Int => number(self.text.parse().ok().map(Any::Int)),
            ValueKind::Double => number(self.text.parse().ok().map(Any::Double)),
            ValueKind::Array if rule.transform == Transform::First => match first_text(self.text) {
                Some(text) => Any::Text(kept(arena, text).as_bytes()),
                None => Any::Empty,
            },
            _ => Any::Empty,
        }
    }

    /// The column's value that a rule makes of this one.
    pub fn cell(self, rule: &Rule, span_kind: i64, arena: &'a Arena) -> Option<Cell<'a>> {
        convert(rule, self.any(rule, arena), span_kind, arena)
    }

    /// Whether the column alone can restore the attribute, of a resource or a record.
    pub fn is_exact(self, rule: &Rule, resource: bool, cell: &Cell<'a>, arena: &'a Arena) -> bool {
        rule.canonical && rule.resource == resource && same(self.any(rule, arena), cell)
    }

    /// The value as the user reads it: the text of a text, else what Go's `AsString` says.
    pub fn plain(self, arena: &'a Arena) -> &'a str {
        match (self.kind, self.text.parse::<f64>()) {
            (ValueKind::Double, Ok(value)) => kept(arena, go_double(value)),
            _ => self.text,
        }
    }

    /// A member's value within a context. The inverse of `write_json`.
    pub fn read_json(reader: &mut Reader<'a>, json: &'a str, arena: &'a Arena) -> Result<Value<'a>, Box<Fault>> {
        let first = reader.peek()?;
        let start = reader.at;
        if first == b'"' {
            let text = reader.string()?;
            let text = match text {
                std::borrow::Cow::Borrowed(text) => text,
                std::borrow::Cow::Owned(text) => kept(arena, text),
            };
            return Ok(Value::string(text));
        }
        reader.skip()?;
        let text = &json[start..reader.at];
        Ok(match first {
            b'n' => Value { kind: ValueKind::Empty, text: "" },
            b't' | b'f' => Value { kind: ValueKind::Bool, text },
            b'[' => Value { kind: ValueKind::Array, text },
            b'{' => match (wrapped(text, "{\"$f\":\""), wrapped(text, "{\"$b64\":\"")) {
                (Some(text), _) => Value { kind: ValueKind::Double, text },
                (_, Some(text)) => Value { kind: ValueKind::Bytes, text },
                _ => Value { kind: ValueKind::KvList, text },
            },
            _ if text.contains(['.', 'e', 'E']) => Value { kind: ValueKind::Double, text },
            _ => Value { kind: ValueKind::Int, text },
        })
    }

    pub fn write_json(self, out: &mut Vec<u8>) {
        let wrap = |out: &mut Vec<u8>, key: &str| {
            out.extend_from_slice(format!("{{\"{key}\":\"{}\"}}", self.text).as_bytes());
        };
        match self.kind {
            ValueKind::Empty => out.extend_from_slice(b"null"),
            ValueKind::String => json_text(out, self.text.as_bytes()),
            ValueKind::Double if matches!(self.text, "NaN" | "Infinity" | "-Infinity") => wrap(out, "$f"),
            ValueKind::Bytes => wrap(out, "$b64"),
            _ => out.extend_from_slice(self.text.as_bytes()),
        }
    }
}

/// The text between a beginning and `"}`.
fn wrapped<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    text.strip_prefix(beginning)?.strip_suffix("\"}")
}

/// The first element of a JSON list, where it is a text.
fn first_text(json: &str) -> Option<String> {
    let mut reader = Reader::new(json.as_bytes()).ok()?;
    reader.open(b'[', "a list").ok()?;
    let more = reader.more(&mut true, b']').ok()?;
    if more { reader.string().ok().map(|text| text.into_owned()) } else { None }
}

/// A double as Go writes it: an exponent only below 1e-6 and from 1e21 on.
fn go_double(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return match value {
            value if value.is_nan() => "NaN".into(),
            value if value > 0.0 => "+Inf".into(),
            _ => "-Inf".into(),
        };
    }
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return if text.contains("e-") { text } else { text.replace('e', "e+") };
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_a_context() {
        let arena = Arena::default();
        let json = r#"["a\"b",1,-2.5,true,null,{"$f":"NaN"},{"$b64":"AQI="},[1,"x"],{"k":{"$f":"NaN"}},1e300]"#;
        let mut reader = Reader::new(json.as_bytes()).ok().unwrap();
        assert!(reader.open(b'[', "").is_ok());
        let (mut first, mut out, mut kinds) = (true, vec![b'['], Vec::new());
        while reader.more(&mut first, b']').ok().unwrap() {
            if !kinds.is_empty() {
                out.push(b',');
            }
            let value = Value::read_json(&mut reader, json, &arena).ok().unwrap();
            kinds.push(value.kind as u8);
            value.write_json(&mut out);
        }
        out.push(b']');
        assert_eq!(String::from_utf8(out).unwrap(), json);
        assert_eq!(kinds, [1, 3, 4, 2, 0, 4, 7, 5, 6, 4]);
    }

    #[test]
    fn doubles_are_spelled_as_go_does() {
        for (value, text) in
            [(1.0, "1"), (0.5, "0.5"), (1e21, "1e+21"), (1e-7, "1e-7"), (-0.0, "-0"), (1e20, "100000000000000000000")]
        {
            assert_eq!(go_double(value), text);
        }
    }
}
