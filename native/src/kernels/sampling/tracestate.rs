//! OpenTelemetry's member of a W3C trace state, `ot=rv:…;th:…`, read and written; the other members stay as they are.

use super::threshold::{Threshold, digits, parse_randomness, text_of};

const MAX_BYTES: usize = 1024;
const MAX_MEMBERS: usize = 32;
const MAX_KEY_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 256;

/// A trace state, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceState<'a> {
    pub threshold: Option<Threshold>,
    pub randomness: Option<u64>,
    /// Further fields of `ot`, and the other members.
    fields: Vec<&'a str>,
    members: Vec<&'a str>,
}

impl<'a> TraceState<'a> {
    /// `None` where it is not what the specifications allow.
    pub fn parse(text: &'a str) -> Option<TraceState<'a>> {
        let mut state = TraceState::default();
        let members = text.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|m| !m.is_empty());
        let mut count = 0;
        for member in members {
            count += 1;
            let (key, value) = member.split_once('=').filter(|(key, value)| is_key(key) && is_value(value))?;
            match key {
                "ot" => state.read(value)?,
                _ => state.members.push(member),
            }
        }
        (text.len() <= MAX_BYTES && count <= MAX_MEMBERS).then_some(state)
    }

    fn read(&mut self, fields: &'a str) -> Option<()> {
        for field in fields.split(';') {
            match field.split_once(':').filter(|(key, value)| is_field(key, value))? {
                ("th", text) => self.threshold = Some(Threshold::parse(text)?),
                ("rv", text) => self.randomness = Some(parse_randomness(text)?),
                _ => self.fields.push(field),
            }
        }
        Some(())
    }

    /// Writes the text, with our member first, as whoever changed its own has to put it.
    pub fn write(&self, out: &mut String) {
        let (beginning, mut separator) = (out.len(), "ot=");
        let mut put = |parts: &[&str], next: &'static str| {
            out.push_str(std::mem::replace(&mut separator, next));
            parts.iter().for_each(|part| out.push_str(part));
        };
        if let Some(randomness) = self.randomness {
            put(&["rv:", text_of(&digits(randomness))], ";");
        }
        if let Some(threshold) = self.threshold {
            put(&["th:", &threshold.to_string()], ";");
        }
        self.fields.iter().for_each(|field| put(&[field], ";"));
        for member in &self.members {
            out.push_str(if out.len() > beginning { "," } else { "" });
            out.push_str(member);
        }
    }
}

/// `name`, or `tenant@system`.
fn is_key(key: &str) -> bool {
    let begins = |part: &str, digits: bool| {
        part.starts_with(|first: char| first.is_ascii_lowercase() || digits && first.is_ascii_digit())
    };
    let is_one = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let is_part = |part: &str, digits| begins(part, digits) && part.bytes().all(is_one);
    let fits = key.len() <= MAX_KEY_BYTES;
    fits && key
        .split_once('@')
        .map_or(is_part(key, false), |(tenant, system)| is_part(tenant, true) && is_part(system, false))
}

/// Printable characters but `,` and `=`.
fn is_value(value: &str) -> bool {
    (1..=MAX_VALUE_BYTES).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'+' | b'-'..=b'<' | b'>'..=b'~'))
}

/// A field of `ot`.
fn is_field(key: &str, value: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(state: &TraceState<'_>) -> String {
        let mut out = String::new();
        state.write(&mut out);
        out
    }

    #[test]
    fn other_members_and_fields_stay() {
        let mut state = TraceState::parse("vendor=1, ot=a:b;th:c ,a9/x@y=z,,").expect("valid");
        assert_eq!(state.threshold, Threshold::parse("c"));
        state.threshold = Threshold::parse("8");
        state.randomness = Some(1);
        assert_eq!(text(&state), "ot=rv:00000000000001;th:8;a:b,vendor=1,a9/x@y=z");
        assert_eq!(text(&TraceState::parse(&text(&state)).expect("valid")), text(&state));
        assert_eq!(text(&TraceState::parse("x=y,z=1").expect("valid")), "x=y,z=1");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in [
            "ot",
            "ot=",
            "ot=th",
            "ot=th:xyz",
            "ot=rv:1",
            "=a",
            "ot=th:8;;",
            "ot=th:8;",
            "a",
            "A=1",
            "1a=1",
            "a=é",
            "a=b=c",
            "a@=1",
            "ot=A:1",
        ] {
            assert_eq!(TraceState::parse(text), None, "{text}");
        }
        assert_eq!(TraceState::parse(""), Some(TraceState::default()));
        assert_eq!(TraceState::parse(&"a=1,".repeat(MAX_MEMBERS + 1)), None);
        assert_eq!(TraceState::parse(&format!("a={}", "x".repeat(MAX_BYTES))), None);
    }
}
