//! How text is spelled in line protocol: names and symbols bare, strings in quotes, JSON within strings.

use std::ops::Range;

/// Bytes that a backslash stands before in names and symbols.
const BARE: [bool; 256] = table(b" ,=\n\r\\");
/// The same within quotes.
const QUOTED: [bool; 256] = table(b"\"\n\r\\");
/// Bytes that JSON, and then quotes, spell differently: all control characters among them.
const JSON: [bool; 256] = {
    let mut escaped = table(b"\"\\");
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped
};

const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut escaped = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        escaped[bytes[at] as usize] = true;
        at += 1;
    }
    escaped
}

/// A name, or the value of a symbol.
#[inline]
pub fn put_bare(out: &mut Vec<u8>, text: &[u8]) {
    put(out, text, &BARE, |out, byte| out.extend_from_slice(&[b'\\', byte]));
}

/// A string with its quotes.
#[inline]
pub fn put_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    put_within(out, text);
    out.push(b'"');
}

/// What stands between a string's quotes.
#[inline]
pub fn put_within(out: &mut Vec<u8>, text: &[u8]) {
    put(out, text, &QUOTED, |out, byte| out.extend_from_slice(&[b'\\', byte]));
}

/// A JSON text as part of a string: its own quotes and backslashes are escaped once more.
#[inline]
pub fn put_json(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(b"\\\"");
    put(out, text, &JSON, |out, byte| match byte {
        b'"' => out.extend_from_slice(b"\\\\\\\""),
        b'\\' => out.extend_from_slice(b"\\\\\\\\"),
        b'\n' => out.extend_from_slice(b"\\\\n"),
        b'\r' => out.extend_from_slice(b"\\\\r"),
        b'\t' => out.extend_from_slice(b"\\\\t"),
        _ => out.extend_from_slice(format!("\\\\u{byte:04x}").as_bytes()),
    });
    out.extend_from_slice(b"\\\"");
}

#[inline]
fn put(out: &mut Vec<u8>, text: &[u8], escaped: &[bool; 256], escape: impl Fn(&mut Vec<u8>, u8)) {
    let mut plain = 0;
    for (at, byte) in text.iter().enumerate() {
        if escaped[*byte as usize] {
            out.extend_from_slice(&text[plain..at]);
            escape(out, *byte);
            plain = at + 1;
        }
    }
    out.extend_from_slice(&text[plain..]);
}

/// Spelled values of a dictionary, each made once.
pub struct Memo {
    ranges: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

impl Memo {
    pub fn new(slots: usize) -> Memo {
        Memo { ranges: vec![0..0; slots], bytes: Vec::new() }
    }

    /// The spelling of a slot's value; `spell` makes it, never empty, when it is first asked for.
    #[inline]
    pub fn get(&mut self, slot: usize, spell: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        if self.ranges[slot].is_empty() {
            let start = self.bytes.len();
            spell(&mut self.bytes);
            self.ranges[slot] = start..self.bytes.len();
        }
        &self.bytes[self.ranges[slot].clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(put: impl Fn(&mut Vec<u8>, &[u8]), text: &str) -> String {
        let mut out = Vec::new();
        put(&mut out, text.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_escaped_where_it_stands() {
        assert_eq!(spelled(put_bare, "a b,c=d\\e\nf\"g"), "a\\ b\\,c\\=d\\\\e\\\nf\"g");
        assert_eq!(spelled(put_quoted, "a b,\"c\"\\\né"), "\"a b,\\\"c\\\"\\\\\\\né\"");
        assert_eq!(spelled(put_json, "a\"b\\c\u{1}\té"), "\\\"a\\\\\\\"b\\\\\\\\c\\\\u0001\\\\té\\\"");
    }

    #[test]
    fn a_slot_is_spelled_once() {
        let mut memo = Memo::new(2);
        assert_eq!(memo.get(1, |out| out.extend_from_slice(b"one")), b"one");
        assert_eq!(memo.get(0, |out| out.extend_from_slice(b"zero")), b"zero");
        assert_eq!(memo.get(1, |_| unreachable!()), b"one");
    }
}
