//! Writing the protobuf wire format.
//!
//! A message inside another needs its length before its content, which is known only afterwards. Most are shorter than
//! 128 bytes, so one byte is kept for the length and what turns out longer moves once. Lengths and varints are always
//! in their shortest form, as official libraries write them.

#[derive(Default)]
pub struct Writer {
    pub out: Vec<u8>,
}

/// A message that is being written; [`Writer::end`] closes it.
#[must_use]
pub struct Mark {
    /// Where the tag begins.
    tag: usize,
    /// Where the length is to stand.
    length: usize,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { out: Vec::with_capacity(bytes) }
    }

    /// Begins a message, or anything else that has a length.
    pub fn begin(&mut self, number: u32) -> Mark {
        let tag = self.out.len();
        self.tag(number, 2);
        self.out.push(0);
        Mark { tag, length: self.out.len() - 1 }
    }

    /// Ends what `begin` began.
    pub fn end(&mut self, mark: Mark) {
        let (start, end) = (mark.length, self.out.len());
        let length = end - start - 1;
        if length < 0x80 {
            self.out[start] = length as u8;
            return;
        }
        let width = (length.ilog2() as usize + 7) / 7;
        self.out.resize(end + width - 1, 0);
        self.out.copy_within(start + 1..end, start + width);
        for (index, byte) in self.out[start..start + width].iter_mut().enumerate() {
            let more = if index + 1 < width { 0x80 } else { 0 };
            *byte = (length >> (7 * index)) as u8 & 0x7f | more;
        }
    }

    /// Ends what `begin` began, or takes it back when nothing was written into it.
    pub fn end_unless_empty(&mut self, mark: Mark) {
        if self.out.len() == mark.length + 1 { self.out.truncate(mark.tag) } else { self.end(mark) }
    }

    pub fn tag(&mut self, number: u32, wire_type: u32) {
        self.varint(u64::from(number << 3 | wire_type));
    }

    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// A length and the bytes, without a tag.
    pub fn length_and(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// Text or bytes, also when empty.
    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, 2);
        self.length_and(bytes);
    }

    /// Text or bytes, left out when empty, as a field without presence is.
    pub fn text(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(number, text.as_bytes());
        }
    }

    /// A varint field, left out when zero.
    pub fn number(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.tag(number, 0);
            self.varint(value);
        }
    }

    /// A zigzag field, left out when zero.
    pub fn signed(&mut self, number: u32, value: i32) {
        self.number(number, u64::from(zigzag(value)));
    }

    /// A 64-bit field, left out when zero.
    pub fn fixed64(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.fixed64_always(number, value);
        }
    }

    pub fn fixed64_always(&mut self, number: u32, value: u64) {
        self.tag(number, 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A 32-bit field, left out when zero.
    pub fn fixed32(&mut self, number: u32, value: u32) {
        if value != 0 {
            self.tag(number, 5);
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A double that is present even when zero.
    pub fn double(&mut self, number: u32, value: f64) {
        self.fixed64_always(number, value.to_bits());
    }
}

pub fn zigzag(value: i32) -> u32 {
    (value << 1 ^ value >> 31) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        for size in [0usize, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152] {
            let content = vec![7u8; size];
            let mut writer = Writer::default();
            let mark = writer.begin(1);
            writer.out.extend_from_slice(&content);
            writer.end(mark);
            let mut expected = Writer::default();
            expected.bytes(1, &content);
            assert!(writer.out == expected.out, "{size}");
        }
    }

    #[test]
    fn what_stayed_empty_can_be_taken_back() {
        let mut writer = Writer::default();
        let mark = writer.begin(300);
        writer.end_unless_empty(mark);
        assert!(writer.out.is_empty());
    }
}
