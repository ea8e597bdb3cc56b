//! JSON text, looked at where it stands: checked once, then skipped over and cut without checking again.

use std::borrow::Cow;

use crate::decode::any_value::json_text;

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Missing,
    Null,
    True,
    False,
    Number,
    Text,
    Object,
    List,
}

/// A value and its own text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Value<'a> {
    pub kind: Kind,
    pub raw: &'a str,
}

/// Where and why a text is no JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub offset: usize,
    pub message: &'static str,
}

/// A checked value: where it ends, its levels of containers, the members of its widest object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub end: usize,
    pub depth: usize,
    pub widest: usize,
}

const OBJECT: u32 = 1 << 31;

fn fault<T>(offset: usize, message: &'static str) -> Result<T, Fault> {
    Err(Fault { offset, message })
}

/// Where the next byte that is no blank stands.
pub fn blanks(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// Checks the value at `start` without recursion; `stack` is a buffer, empty before and after.
pub fn scan(text: &[u8], start: usize, stack: &mut Vec<u32>) -> Result<Scan, Fault> {
    stack.clear();
    let (mut at, mut result) = (start, Scan::default());
    loop {
        at = blanks(text, at);
        match text.get(at) {
            Some(b'{') => {
                let next = blanks(text, at + 1);
                if text.get(next) != Some(&b'}') {
                    stack.push(OBJECT);
                    at = key(text, next)?;
                    continue;
                }
                (at, result.depth) = (next + 1, result.depth.max(stack.len() + 1));
            }
            Some(b'[') => {
                let next = blanks(text, at + 1);
                if text.get(next) != Some(&b']') {
                    stack.push(0);
                    at = next;
                    continue;
                }
                (at, result.depth) = (next + 1, result.depth.max(stack.len() + 1));
            }
            Some(b'"') => at = string(text, at)?,
            Some(b't') => at = literal(text, at, b"true")?,
            Some(b'f') => at = literal(text, at, b"false")?,
            Some(b'n') => at = literal(text, at, b"null")?,
            Some(b'-' | b'0'..=b'9') => at = number(text, at)?,
            Some(_) => return fault(at, "expected a value"),
            None => return fault(at, "the text ends too early"),
        }
        result.depth = result.depth.max(stack.len());
        loop {
            let Some(top) = stack.last_mut() else {
                result.end = at;
                return Ok(result);
            };
            at = blanks(text, at);
            let object = *top & OBJECT != 0;
            match text.get(at) {
                Some(b',') => {
                    *top += 1;
                    at += 1;
                    if object {
                        at = key(text, blanks(text, at))?;
                    }
                    break;
                }
                Some(b'}') if object => result.widest = result.widest.max((*top & !OBJECT) as usize + 1),
                Some(b']') if !object => {}
                Some(_) if object => return fault(at, "expected , or }"),
                Some(_) => return fault(at, "expected , or ]"),
                None => return fault(at, "the text ends too early"),
            }
            stack.pop();
            at += 1;
        }
    }
}

/// The key at `at` and its colon.
fn key(text: &[u8], at: usize) -> Result<usize, Fault> {
    match text.get(at) {
        Some(b'"') => {}
        Some(_) => return fault(at, "expected a key in quotes"),
        None => return fault(at, "the text ends too early"),
    }
    let end = blanks(text, string(text, at)?);
    match text.get(end) {
        Some(b':') => Ok(end + 1),
        _ => fault(end, "expected : after the key"),
    }
}

fn literal(text: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
    match text[at..].starts_with(word) {
        true => Ok(at + word.len()),
        false => fault(at, "expected a value"),
    }
}

fn number(text: &[u8], at: usize) -> Result<usize, Fault> {
    let digits = |mut at: usize| {
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let start = at + usize::from(text[at] == b'-');
    let mut end = digits(start);
    if end == start || (end > start + 1 && text[start] == b'0') {
        return fault(at, "not a number");
    }
    if text.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if fraction == end + 1 {
            return fault(at, "not a number");
        }
        end = fraction;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent == end + 1 + sign {
            return fault(at, "not a number");
        }
        end = exponent;
    }
    Ok(end)
}

/// Where a run of bytes that need no second look ends.
fn plain(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    while let Some(eight) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("8 bytes"));
        // A zero byte in `x` sets its own high bit here; bytes above it may be set wrongly, but the lowest is right.
        let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGH;
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c)) | control;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while text.get(at).is_some_and(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\') {
        at += 1;
    }
    at
}

/// Checks the text in quotes at `at`; where it ends.
fn string(text: &[u8], at: usize) -> Result<usize, Fault> {
    let mut at = at + 1;
    loop {
        at = plain(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match text.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => match code_unit(text, at) {
                    Some(_) => at += 6,
                    None => return fault(at, "\\u needs four hexadecimal digits"),
                },
                Some(_) => return fault(at, "an escape that JSON does not know"),
                None => return fault(at + 1, "the text ends within a string"),
            },
            Some(_) => return fault(at, "a control character must be escaped"),
            None => return fault(at, "the text ends within a string"),
        }
    }
}

/// The code unit of the `\uXXXX` at `at`.
fn code_unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Where the value at `at` ends. The text must have been checked.
pub fn skip(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        Some(b'"') => skip_string(text, at),
        Some(b'{' | b'[') => skip_container(text, at),
        _ => {
            let mut end = at;
            while text.get(end).is_some_and(|b| !matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')) {
                end += 1;
            }
            end
        }
    }
}

fn skip_string(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        at = plain(text, at);
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            _ => return text.len(),
        }
    }
}

fn skip_container(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = skip_string(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The value at `at` of a checked text.
pub fn value(text: &str, at: usize) -> Value<'_> {
    let end = skip(text.as_bytes(), at);
    let kind = match text.as_bytes().get(at) {
        Some(b'"') => Kind::Text,
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::List,
        Some(b't') => Kind::True,
        Some(b'f') => Kind::False,
        Some(b'n') => Kind::Null,
        Some(_) => Kind::Number,
        None => Kind::Missing,
    };
    Value { kind, raw: &text[at..end] }
}

impl<'a> Value<'a> {
    /// The value of a whole checked text.
    pub fn of(text: &'a str) -> Value<'a> {
        value(text, blanks(text.as_bytes(), 0))
    }

    /// Neither missing nor null nor an empty text.
    pub fn is_present(&self) -> bool {
        !matches!(self.kind, Kind::Missing | Kind::Null) && self.raw != "\"\""
    }

    /// A text's content; `false` where a lone surrogate had to be replaced.
    pub fn text(&self) -> Option<(Cow<'a, str>, bool)> {
        (self.kind == Kind::Text).then(|| unquoted(self.raw))
    }

    /// The members of an object, in order.
    pub fn members(&self) -> Members<'a> {
        Members { text: self.raw, at: if self.kind == Kind::Object { 1 } else { self.raw.len() } }
    }

    /// The items of a list, in order.
    pub fn items(&self) -> Items<'a> {
        Items { text: self.raw, at: if self.kind == Kind::List { 1 } else { self.raw.len() } }
    }

    /// The member of this key; the last one where there are several.
    pub fn get(&self, key: &str) -> Value<'a> {
        self.members()
            .filter(|(name, _)| unquoted(name).0 == key)
            .last()
            .map_or_else(Value::default, |(_, value)| value)
    }
}

pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    /// The key as it stands, quotes included, and the value.
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let start = blanks(bytes, self.at);
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let end = skip_string(bytes, start);
        let value = value(self.text, blanks(bytes, blanks(bytes, end) + 1));
        let after = value.raw.as_ptr() as usize - self.text.as_ptr() as usize + value.raw.len();
        // Past the comma, or the closing bracket.
        self.at = blanks(bytes, after) + 1;
        Some((&self.text[start..end], value))
    }
}

pub struct Items<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let start = blanks(bytes, self.at);
        if start >= bytes.len() || bytes[start] == b']' {
            return None;
        }
        let value = value(self.text, start);
        self.at = blanks(bytes, start + value.raw.len()) + 1;
        Some(value)
    }
}

/// The content of a checked text in quotes; `false` where a lone surrogate had to be replaced.
pub fn unquoted(raw: &str) -> (Cow<'_, str>, bool) {
    let inner = &raw[1..raw.len() - 1];
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else { return (Cow::Borrowed(inner), true) };
    let bytes = inner.as_bytes();
    let (mut content, mut at, mut whole) = (inner[..first].to_owned(), first, true);
    while at < bytes.len() {
        let plain = memchr::memchr(b'\\', &bytes[at..]).map_or(bytes.len(), |found| at + found);
        content.push_str(&inner[at..plain]);
        at = plain;
        let Some(letter) = bytes.get(at + 1) else { break };
        let simple = match letter {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let character = surrogates(bytes, &mut at);
                whole &= character.is_some();
                content.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
                continue;
            }
            other => char::from(*other),
        };
        content.push(simple);
        at += 2;
    }
    (Cow::Owned(content), whole)
}

/// The character of one `\uXXXX`, or of two that belong together.
fn surrogates(bytes: &[u8], at: &mut usize) -> Option<char> {
    let high = code_unit(bytes, *at)?;
    *at += 6;
    if !(0xD800..0xDC00).contains(&high) {
        return char::from_u32(high);
    }
    let low = code_unit(bytes, *at).filter(|low| (0xDC00..0xE000).contains(low))?;
    *at += 6;
    char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
}

/// The same value with keys sorted by code point, the last of equal ones kept, and no blanks.
pub fn canonical(value: Value, out: &mut Vec<u8>) {
    match value.kind {
        Kind::Object => {
            let mut members: Vec<(Cow<str>, Value)> =
                value.members().map(|(key, value)| (unquoted(key).0, value)).collect();
            members.reverse();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members.dedup_by(|later, first| later.0 == first.0);
            out.push(b'{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json_text(out, key.as_bytes());
                out.push(b':');
                canonical(value, out);
            }
            out.push(b'}');
        }
        Kind::List => {
            out.push(b'[');
            for (index, value) in value.items().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                canonical(value, out);
            }
            out.push(b']');
        }
        Kind::Text => match unquoted(value.raw) {
            (text, true) => json_text(out, text.as_bytes()),
            _ => out.extend_from_slice(value.raw.as_bytes()),
        },
        _ => out.extend_from_slice(value.raw.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Scan, Fault> {
        scan(text.as_bytes(), 0, &mut Vec::new())
    }

    #[test]
    fn what_is_json_is_taken_and_measured() {
        let text = r#" {"a": [1, -2.5e+3, {"b": null, "c": {}}], "d\u00e9": "x\"y", "e": true} "#;
        let scan = checked(text).unwrap();
        assert_eq!((scan.depth, scan.widest), (4, 3));
        assert_eq!(blanks(text.as_bytes(), scan.end), text.len());
        for deep in [1, 5, 100_000] {
            assert_eq!(checked(&("[".repeat(deep) + &"]".repeat(deep))).unwrap().depth, deep);
        }
    }

    #[test]
    fn what_is_no_json_is_refused_where_it_breaks() {
        for (text, offset) in [
            ("", 0),
            ("{", 1),
            ("[1,]", 3),
            ("{\"a\"}", 4),
            ("{\"a\":}", 5),
            ("[01]", 1),
            ("[1.]", 1),
            ("[-]", 1),
            ("nul", 0),
            ("\"a", 2),
            ("\"\\x\"", 1),
            ("\"\\u12\"", 1),
            ("\"\n\"", 1),
            ("{a:1}", 1),
            ("[1 2]", 3),
            ("{\"a\":1]", 6),
            ("\"\\", 2),
        ] {
            assert_eq!(checked(text).unwrap_err().offset, offset, "{text}");
        }
    }

    #[test]
    fn every_byte_of_a_text_counts() {
        for length in 0..20 {
            let text = format!("\"{}\"", "é".repeat(length));
            assert_eq!(checked(&text).unwrap().end, text.len());
            for at in 0..length {
                let mut broken = "a".repeat(length).into_bytes();
                broken[at] = 0x1f;
                assert_eq!(checked(&format!("\"{}\"", String::from_utf8(broken).unwrap())).unwrap_err().offset, at + 1);
            }
        }
    }

    #[test]
    fn members_and_items_stand_where_they_stand() {
        let object = Value::of(r#"{ "a" : 1 , "b":[true, "x,]"],"a": {"c":null} }"#);
        let names: Vec<_> = object.members().map(|(key, value)| (key, value.raw)).collect();
        assert_eq!(names, [("\"a\"", "1"), ("\"b\"", r#"[true, "x,]"]"#), ("\"a\"", r#"{"c":null}"#)]);
        let items: Vec<_> = object.get("b").items().map(|value| (value.kind, value.raw)).collect();
        assert_eq!(items, [(Kind::True, "true"), (Kind::Text, r#""x,]""#)]);
        assert_eq!(object.get("a").get("c").kind, Kind::Null);
        assert_eq!(Value::of("[]").items().count() + Value::of("{ }").members().count(), 0);
    }

    #[test]
    fn escapes_are_read_and_lone_surrogates_told() {
        assert_eq!(unquoted(r#""a\n\u00e9\ud83d\ude00\/""#), ("a\né😀/".into(), true));
        assert_eq!(unquoted(r#""\ud83d!""#), ("\u{fffd}!".into(), false));
        assert_eq!(unquoted(r#""\ude00""#), ("\u{fffd}".into(), false));
    }

    #[test]
    fn canonical_text_sorts_keys_and_keeps_the_last_of_equal_ones() {
        let mut out = Vec::new();
        canonical(Value::of(r#"{ "b":1, "a" : [ {"y":"\u0041", "x":null} ], "b": 2.50}"#), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":[{"x":null,"y":"A"}],"b":2.50}"#);
    }
}
