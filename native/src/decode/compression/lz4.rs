//! LZ4 frames, walked here and inflated block by block into one buffer.
//!
//! The reader of `lz4_flex` allocates and clears the largest block of every frame and takes a missing end mark for the
//! end; a body of a million tiny frames would cost minutes, and one cut short would pass.

use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use xxhash_rust::xxh32::xxh32;

use super::{DecompressError, Encoding, Result, corrupt, guess};

const MAGIC: u32 = 0x184D_2204;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;
const WINDOW_BYTES: usize = 64 << 10;
/// A block cannot grow more than this.
const MAX_RATIO: usize = 255;

/// The plain bytes of all frames.
pub fn frames(body: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
    let mut cursor = Cursor { body, at: 0 };
    let mut plain = Plain { bytes: vec![0; guess(body.len(), max_bytes)], len: 0, max_bytes };
    while cursor.at < body.len() {
        let magic = cursor.u32()?;
        if SKIPPABLE.contains(&magic) {
            let length = cursor.u32()? as usize;
            cursor.take(length)?;
        } else if magic == MAGIC {
            frame(&mut cursor, &mut plain)?;
        } else {
            return Err(bad("the magic number is missing"));
        }
    }
    plain.bytes.truncate(plain.len);
    Ok(plain.bytes)
}

fn bad(reason: impl std::fmt::Display) -> DecompressError {
    corrupt(Encoding::Lz4, reason)
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.body.len());
        let end = end.ok_or_else(|| bad("the frame is cut short"))?;
        let taken = &self.body[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
}

/// The output: `bytes` is cleared once as far as it was ever needed, `len` of it is filled.
struct Plain {
    bytes: Vec<u8>,
    len: usize,
    max_bytes: usize,
}

impl Plain {
    /// Makes room for `wanted` more bytes, or as many as the limit leaves.
    fn reserve(&mut self, wanted: usize) {
        let needed = self.len.saturating_add(wanted).min(self.max_bytes);
        if needed > self.bytes.len() {
            let grown = self.bytes.len().saturating_mul(2).clamp(needed, self.max_bytes.max(needed));
            self.bytes.resize(grown, 0);
        }
    }
}

/// What a frame's header decides about its blocks.
struct Header {
    independent: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    max_block: usize,
}

fn header(cursor: &mut Cursor) -> Result<Header> {
    let start = cursor.at;
    let (flags, block) = match cursor.take(2)? {
        [flags, block] => (*flags, *block),
        _ => unreachable!("two bytes were taken"),
    };
    if flags >> 6 != 1 {
        return Err(bad(format_args!("frame version {} is not known", flags >> 6)));
    }
    if flags & 1 != 0 {
        return Err(bad("the frame needs a dictionary"));
    }
    let content_size = match flags & 0x08 {
        0 => None,
        _ => Some(u64::from(cursor.u32()?) | u64::from(cursor.u32()?) << 32),
    };
    let expected = (xxh32(&cursor.body[start..cursor.at], 0) >> 8) as u8;
    if cursor.take(1)?[0] != expected {
        return Err(bad("the header's checksum is wrong"));
    }
    let max_block = match block >> 4 & 7 {
        size @ 4..=7 => 1usize << (8 + 2 * size),
        size => return Err(bad(format_args!("block size {size} is not known"))),
    };
    Ok(Header {
        independent: flags & 0x20 != 0,
        block_checksums: flags & 0x10 != 0,
        content_checksum: flags & 0x04 != 0,
        content_size,
        max_block,
    })
}

fn frame(cursor: &mut Cursor, plain: &mut Plain) -> Result<()> {
    let header = header(cursor)?;
    let start = plain.len;
    loop {
        let size = cursor.u32()?;
        if size == 0 {
            break;
        }
        let data = cursor.take((size & 0x7fff_ffff) as usize)?;
        if data.len() > header.max_block {
            return Err(bad("a block is larger than its frame allows"));
        }
        if header.block_checksums && cursor.u32()? != xxh32(data, 0) {
            return Err(bad("a block's checksum is wrong"));
        }
        let stored = size >> 31 == 1;
        let window = if header.independent { plain.len } else { start.max(plain.len.saturating_sub(WINDOW_BYTES)) };
        append(data, stored, window, header.max_block, plain)?;
    }
    let content = &plain.bytes[start..plain.len];
    if header.content_size.is_some_and(|size| size != content.len() as u64) {
        return Err(bad("the content is not as long as the frame says"));
    }
    if header.content_checksum && cursor.u32()? != xxh32(content, 0) {
        return Err(bad("the content's checksum is wrong"));
    }
    Ok(())
}

/// Appends one block; `window..` of what is there may be referred to.
fn append(data: &[u8], stored: bool, window: usize, max_block: usize, plain: &mut Plain) -> Result<()> {
    let most = if stored { data.len() } else { max_block.min(data.len().saturating_mul(MAX_RATIO)) };
    plain.reserve(most);
    let room = plain.bytes.len().min(plain.len + most);
    if stored {
        if room - plain.len < data.len() {
            return Err(DecompressError::TooLarge { limit: plain.max_bytes });
        }
        plain.bytes[plain.len..room].copy_from_slice(data);
        plain.len = room;
        return Ok(());
    }
    let (before, after) = plain.bytes[..room].split_at_mut(plain.len);
    let dictionary = &before[window..];
    let written = match dictionary {
        [] => decompress_into(data, after),
        _ => decompress_into_with_dict(data, after, dictionary),
    };
    match written {
        Ok(written) => plain.len += written,
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room == plain.max_bytes => {
            return Err(DecompressError::TooLarge { limit: plain.max_bytes });
        }
        Err(error) => return Err(bad(error)),
    }
    Ok(())
}
