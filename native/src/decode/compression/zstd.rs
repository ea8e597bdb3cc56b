//! zstd: a decompression context per thread, all frames of a body in one shot.

use std::cell::RefCell;

use zstd::zstd_safe::{self, DCtx};

use super::{DecompressError, Encoding, Result, corrupt, guess};

/// `ZSTD_error_dstSize_tooSmall`; the C library returns error codes negated.
const NO_ROOM: usize = 70usize.wrapping_neg();

thread_local! {
    static CONTEXT: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// The plain bytes of all frames; skippable frames are skipped. One shot needs no window, so a frame that asks for a
/// huge one costs nothing.
pub fn frames(body: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
    let claimed = match zstd_safe::get_frame_content_size(body) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        // The sender streamed and did not know, or this is no zstd at all: the decoder will tell.
        Ok(None) | Err(_) => 0,
    };
    let first = if claimed == 0 { guess(body.len(), max_bytes) } else { claimed.min(max_bytes) };
    let mut plain = Vec::with_capacity(first);
    CONTEXT.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(DCtx::try_create().ok_or_else(|| corrupt(Encoding::Zstd, "no memory for a context"))?),
        };
        loop {
            match context.decompress(&mut plain, body) {
                Ok(_) if plain.len() > max_bytes => return Err(DecompressError::TooLarge { limit: max_bytes }),
                Ok(_) => return Ok(()),
                Err(NO_ROOM) if plain.capacity() >= max_bytes => {
                    return Err(DecompressError::TooLarge { limit: max_bytes });
                }
                Err(NO_ROOM) => plain = Vec::with_capacity(max_bytes),
                Err(code) => return Err(corrupt(Encoding::Zstd, zstd_safe::get_error_name(code))),
            }
        }
    })?;
    Ok(plain)
}
