//! Reading the protobuf wire format, with the verdicts of the official parser (upb).

/// One field's value as the wire holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Deepest nesting of groups within an unknown field, and of messages by default, as upb has it.
pub const MAX_LEVELS: usize = 100;

/// A position in a message; errors name what is wrong, `at` is where.
#[derive(Clone)]
pub struct Cursor<'a> {
    pub body: &'a [u8],
    pub at: usize,
    pub end: usize,
}

type Result<T> = std::result::Result<T, &'static str>;

impl<'a> Cursor<'a> {
    pub fn new(body: &'a [u8], at: usize, end: usize) -> Cursor<'a> {
        Cursor { body, at, end }
    }

    #[inline]
    pub fn done(&self) -> bool {
        self.at >= self.end
    }

    #[inline]
    fn varint_of(&mut self, longest: usize) -> Result<u64> {
        match self.body.get(self.at) {
            Some(byte) if *byte < 0x80 && self.at < self.end => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(longest),
        }
    }

    fn long_varint(&mut self, longest: usize) -> Result<u64> {
        let mut value = 0u64;
        for index in 0..longest {
            if self.at + index >= self.end {
                return Err("a varint is cut off");
            }
            let byte = self.body[self.at + index];
            value |= u64::from(byte & 0x7f).wrapping_shl(7 * index as u32);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err("a varint is too long")
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64> {
        self.varint_of(10)
    }

    /// Field number and wire type.
    #[inline]
    pub fn tag(&mut self) -> Result<(u32, u32)> {
        let start = self.at;
        let tag = self.varint_of(5)?;
        if tag > u64::from(u32::MAX) || tag >> 3 == 0 {
            self.at = start;
            return Err("not a field number");
        }
        Ok((tag as u32 >> 3, tag as u32 & 7))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.end - self.at {
            return Err("a field reaches beyond its message");
        }
        self.at += length;
        Ok(&self.body[self.at - length..self.at])
    }

    /// The next field, where it is spelled as nearly all are; else nothing is read.
    #[inline]
    pub fn plain_field(&mut self) -> Option<(u32, Value<'a>)> {
        let (number, value, rest) = plain_field(&self.body[self.at..self.end])?;
        self.at = self.end - rest.len();
        Some((number, value))
    }

    /// The value of a field that is not a group.
    #[inline]
    pub fn value(&mut self, wire_type: u32) -> Result<Value<'a>> {
        Ok(match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().expect("8 bytes"))),
            2 => {
                let start = self.at;
                let length = self.varint_of(5)?;
                if length > i32::MAX as u64 {
                    self.at = start;
                    return Err("a length is too large");
                }
                Value::Bytes(self.take(length as usize)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().expect("4 bytes"))),
            4 => return Err("a group ends that did not begin"),
            _ => return Err("not a wire type"),
        })
    }

    /// Passes over a group whose begin has been read.
    pub fn skip_group(&mut self, number: u32, levels: usize) -> Result<()> {
        let mut open = vec![number];
        while let Some(innermost) = open.last() {
            if self.done() {
                return Err("a group does not end");
            }
            match self.tag()? {
                (number, 3) if open.len() < levels => open.push(number),
                (_, 3) => return Err("nested too deeply"),
                (number, 4) if number == *innermost => {
                    open.pop();
                }
                (_, 4) => return Err("a group ends that did not begin"),
                (_, wire_type) => {
                    self.value(wire_type)?;
                }
            }
        }
        Ok(())
    }
}

/// The fields of a message that `validate` has passed, unknown groups left out.
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// The next field, however it is spelled.
    #[cold]
    #[inline(never)]
    fn any_next(&mut self) -> Option<(u32, Value<'a>)> {
        let mut cursor = Cursor::new(self.rest, 0, self.rest.len());
        while !cursor.done() {
            let (number, wire_type) = cursor.tag().ok()?;
            if wire_type != 3 {
                let value = cursor.value(wire_type).ok()?;
                self.rest = &self.rest[cursor.at..];
                return Some((number, value));
            }
            cursor.skip_group(number, usize::MAX).ok()?;
        }
        self.rest = &[];
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<(u32, Value<'a>)> {
        if self.rest.is_empty() {
            return None;
        }
        match plain_field(self.rest) {
            Some((number, value, rest)) => {
                self.rest = rest;
                Some((number, value))
            }
            None => self.any_next(),
        }
    }
}

/// A field as nearly all are, and what comes after: a tag of one byte, a length of one or two, a small number. `None` for
/// any other, and for none at all.
#[inline(always)]
fn plain_field(bytes: &[u8]) -> Option<(u32, Value<'_>, &[u8])> {
    let [tag @ 8..=127, after @ ..] = bytes else { return None };
    let (value, rest) = match (tag & 7, after) {
        (2, _) => {
            let (bytes, rest) = sized(after)?;
            (Value::Bytes(bytes), rest)
        }
        (0, [value @ 0..=127, rest @ ..]) => (Value::Varint(u64::from(*value)), rest),
        (1, [a, b, c, d, e, f, g, h, rest @ ..]) => {
            (Value::Fixed64(u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])), rest)
        }
        _ => return None,
    };
    Some((u32::from(tag >> 3), value, rest))
}

/// Whether all bytes are ASCII; made for short text.
#[inline]
pub fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = |eight: &[u8; 8]| u64::from_ne_bytes(*eight);
    match (bytes.as_chunks::<8>(), bytes.last_chunk::<8>()) {
        // The last eight bytes overlap the chunk before them, so that no byte is looked at alone.
        ((chunks, _), Some(last)) => chunks.iter().fold(word(last), |all, chunk| all | word(chunk)) & HIGH == 0,
        _ => bytes.iter().fold(0, |all, byte| all | byte) < 0x80,
    }
}

/// Bytes with their length before them, and what comes after; `None` when the length takes more than two bytes, or they
/// are cut off.
#[inline(always)]
pub fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match bytes {
        [length @ 0..=127, rest @ ..] => (usize::from(*length), rest),
        [low, high @ 0..=127, rest @ ..] => (usize::from(low & 127) | usize::from(*high) << 7, rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A singular message that may come in several pieces: protobuf merges them, which is what joining their bytes does.
#[derive(Default)]
pub struct Pieces<'a> {
    first: Option<&'a [u8]>,
    more: Vec<&'a [u8]>,
}

impl<'a> Pieces<'a> {
    pub fn add(&mut self, piece: &'a [u8]) {
        match self.first {
            None => self.first = Some(piece),
            Some(_) => self.more.push(piece),
        }
    }

    pub fn clear(&mut self) {
        self.first = None;
        self.more.clear();
    }

    /// The whole message; empty when it was absent.
    pub fn join(&self, arena: &'a Arena) -> &'a [u8] {
        let first = self.first.unwrap_or_default();
        if self.more.is_empty() {
            return first;
        }
        let mut whole = first.to_vec();
        self.more.iter().for_each(|piece| whole.extend_from_slice(piece));
        arena.keep(whole)
    }
}

/// Bytes that live as long as the payload they were made for.
#[derive(Default)]
pub struct Arena(std::cell::RefCell<Vec<Box<[u8]>>>);

impl Arena {
    pub fn keep(&self, bytes: Vec<u8>) -> &[u8] {
        let mut kept = self.0.borrow_mut();
        kept.push(bytes.into_boxed_slice());
        let last: *const [u8] = &**kept.last().expect("just pushed");
        // SAFETY: a box's content does not move when the vector grows, and nothing is ever taken out of the arena
        // while it lives.
        unsafe { &*last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_passed_over_and_must_match() {
        let fields: Vec<_> = Fields::of(&[0x0b, 0x10, 0x01, 0x13, 0x14, 0x0c, 0x08, 0x05]).collect();
        assert_eq!(fields, [(1, Value::Varint(5))]);
        let body = [0x10, 0x01, 0x14];
        assert!(Cursor::new(&body, 0, 3).skip_group(1, 9).is_err());
    }

    #[test]
    fn pieces_join() {
        let arena = Arena::default();
        let mut pieces = Pieces::default();
        pieces.add(b"ab");
        pieces.add(b"c");
        assert_eq!(pieces.join(&arena), b"abc");
    }
}
