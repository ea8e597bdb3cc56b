//! A pull reader over JSON text (RFC 8259) that knows where it is.
//!
//! Hand-written because of what telemetry needs and general readers lack: the offset of every value, numbers as they
//! were written (64-bit integers exactly), lone surrogates read as U+FFFD instead of refusing a whole request for one
//! emoji that a client cut in half, and a bound on depth that counts skipped values too.

use std::borrow::Cow;

use super::Fault;

type Result<T> = std::result::Result<T, Box<Fault>>;

/// Containers within containers. An `AnyValue` within another takes three of them, and the walker allows fewer.
const MAX_DEPTH: u32 = 400;

pub struct Reader<'a> {
    text: &'a str,
    pub at: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    pub fn new(json: &'a [u8]) -> Result<Reader<'a>> {
        match simdutf8::compat::from_utf8(json) {
            Ok(text) => Ok(Reader { text, at: 0, depth: 0 }),
            Err(error) => Err(Fault::new(error.valid_up_to(), "the text is not UTF-8")),
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub fn fault<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Fault::new(self.at, message))
    }

    /// The first byte of the next token, blanks skipped.
    pub fn peek(&mut self) -> Result<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
        match self.byte() {
            Some(byte) => Ok(byte),
            None => self.fault("the text ends too early"),
        }
    }

    /// Nothing but blanks may be left.
    pub fn finish(&mut self) -> Result<()> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => self.fault("text follows the end of the value"),
        }
    }

    /// Enters a container; `what` names it in the error.
    pub fn open(&mut self, bracket: u8, what: &str) -> Result<()> {
        if self.peek()? != bracket {
            return self.fault(format!("expected {what}"));
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.fault(format!("nested deeper than {MAX_DEPTH} levels")) } else { Ok(()) }
    }

    /// Whether another item follows; leaves the container when none does.
    pub fn more(&mut self, first: &mut bool, bracket: u8) -> Result<bool> {
        let next = self.peek()?;
        if next == bracket {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !std::mem::take(first) {
            if next != b',' {
                return self.fault(format!("expected , or {}", bracket as char));
            }
            self.at += 1;
            if self.peek()? == bracket {
                return self.fault("a comma without a value after it");
            }
        }
        Ok(true)
    }

    /// The key of an object's next member and its colon.
    pub fn key(&mut self) -> Result<Cow<'a, str>> {
        if self.peek()? != b'"' {
            return self.fault("expected a key in quotes");
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return self.fault("expected : after the key");
        }
        self.at += 1;
        Ok(key)
    }

    pub fn literal(&mut self, word: &'static str) -> Result<()> {
        if !self.text[self.at..].starts_with(word) {
            return self.fault("expected a value");
        }
        self.at += word.len();
        Ok(())
    }

    /// `true` or `false`.
    pub fn boolean(&mut self) -> Result<bool> {
        match self.peek()? {
            b't' => self.literal("true").map(|()| true),
            b'f' => self.literal("false").map(|()| false),
            _ => self.fault("expected true or false"),
        }
    }

    /// Consumes `null` if it is next.
    pub fn null(&mut self) -> Result<bool> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.literal("null").map(|()| true)
    }

    /// A number as it is written.
    pub fn number(&mut self) -> Result<&'a str> {
        self.peek()?;
        match number_length(&self.text.as_bytes()[self.at..]) {
            0 => self.fault("expected a number"),
            length => {
                self.at += length;
                Ok(&self.text[self.at - length..self.at])
            }
        }
    }

    /// A string's content, borrowed where nothing in it is escaped.
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        if self.peek()? != b'"' {
            return self.fault("expected a text in quotes");
        }
        let start = self.at + 1;
        let end = self.plain(start)?;
        if self.text.as_bytes()[end] == b'"' {
            self.at = end + 1;
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        let mut content = self.text[start..end].to_owned();
        self.at = end;
        loop {
            if self.byte() == Some(b'"') {
                self.at += 1;
                return Ok(Cow::Owned(content));
            }
            let character = self.escape()?;
            content.push(character);
            let end = self.plain(self.at)?;
            content.push_str(&self.text[self.at..end]);
            self.at = end;
        }
    }

    /// Where the run of ordinary characters from `start` ends: at a quote or a backslash.
    fn plain(&self, start: usize) -> Result<usize> {
        let bytes = &self.text.as_bytes()[start..];
        match bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)) {
            Some(length) if bytes[length] >= 0x20 => Ok(start + length),
            Some(length) => Err(Fault::new(start + length, "a control character must be escaped")),
            None => Err(Fault::new(self.text.len(), "the text ends within a string")),
        }
    }

    /// The character that an escape means.
    fn escape(&mut self) -> Result<char> {
        let letter = self.text.as_bytes().get(self.at + 1).copied();
        let character = match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.fault("an escape that JSON does not know"),
        };
        self.at += 2;
        Ok(character)
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let Some(high) = self.code_unit(self.at) else { return self.fault("\\u needs four hexadecimal digits") };
        self.at += 6;
        if !(0xD800..0xDC00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        match self.code_unit(self.at) {
            Some(low @ 0xDC00..0xE000) => {
                self.at += 6;
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
            }
            _ => Ok(char::REPLACEMENT_CHARACTER),
        }
    }

    /// The code unit of the `\uXXXX` at `at`.
    fn code_unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    }

    /// Passes over one value of any kind, checking it as much as if it were read.
    pub fn skip(&mut self) -> Result<()> {
        match self.peek()? {
            b'{' => {
                self.open(b'{', "an object")?;
                let mut first = true;
                while self.more(&mut first, b'}')? {
                    self.key()?;
                    self.skip()?;
                }
                Ok(())
            }
            b'[' => {
                self.open(b'[', "a list")?;
                let mut first = true;
                while self.more(&mut first, b']')? {
                    self.skip()?;
                }
                Ok(())
            }
            b'"' => self.string().map(drop),
            b't' | b'f' => self.boolean().map(drop),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => self.fault("expected a value"),
        }
    }
}

/// The length of the number at the start of `text` by JSON's grammar, or 0.
pub fn number_length(text: &[u8]) -> usize {
    let digits = |from: usize| text[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text[at] == b'0') {
        return 0;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return 0;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return 0;
        }
        at += 1 + sign + exponent;
    }
    at
}
