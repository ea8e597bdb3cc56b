//! gzip, zlib and raw deflate: libdeflate in one shot, zlib-rs where libdeflate gives up.

use std::{cell::RefCell, io::Read, ptr::NonNull};

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use libdeflate_sys as sys;

use super::{DecompressError, Encoding, Result, corrupt, guess};

/// Deflate cannot do better than this, so a size field that claims more is wrong.
const MAX_RATIO: usize = 1032;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Gzip,
    Zlib,
    Raw,
}

/// All members of a gzip body, one after the other.
pub fn gzip(body: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
    // The last four bytes are the plain size of the last member, modulo 2^32, if the sender is honest.
    let claimed = body.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let likely = claimed.min(body.len().saturating_mul(MAX_RATIO)).min(max_bytes);
    let mut plain = Vec::with_capacity(if claimed == 0 { guess(body.len(), max_bytes) } else { likely });
    let mut rest = body;
    while !rest.is_empty() {
        rest = member(Format::Gzip, Encoding::Gzip, rest, &mut plain, max_bytes)?;
    }
    Ok(plain)
}

pub fn zlib(body: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
    single(Format::Zlib, Encoding::Zlib, body, max_bytes)
}

/// Clients mean either form by `deflate`; the header tells, and where it lies the other form is tried.
pub fn zlib_or_raw(body: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
    if !looks_like_zlib(body) {
        return single(Format::Raw, Encoding::Deflate, body, max_bytes);
    }
    match single(Format::Zlib, Encoding::Deflate, body, max_bytes) {
        Err(DecompressError::Corrupt(reason)) => {
            single(Format::Raw, Encoding::Deflate, body, max_bytes).map_err(|_| DecompressError::Corrupt(reason))
        }
        decided => decided,
    }
}

/// RFC 1950, 2.2: method 8, window of at most 32 KiB, and the first two bytes are a multiple of 31.
fn looks_like_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flg, ..] if cmf & 0x0f == 8 && cmf >> 4 <= 7 && u16::from_be_bytes([*cmf, *flg]) % 31 == 0)
}

fn single(format: Format, encoding: Encoding, body: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(guess(body.len(), max_bytes));
    match member(format, encoding, body, &mut plain, max_bytes)?.len() {
        0 => Ok(plain),
        extra => Err(corrupt(encoding, format_args!("{extra} bytes follow the end of the stream"))),
    }
}

/// Appends one member's plain bytes; returns what follows it.
fn member<'a>(
    format: Format,
    encoding: Encoding,
    body: &'a [u8],
    plain: &mut Vec<u8>,
    max_bytes: usize,
) -> Result<&'a [u8]> {
    loop {
        match inflate(format, body, plain, max_bytes - plain.len()) {
            Inflated::Done { consumed } => return Ok(&body[consumed..]),
            Inflated::NoRoom if plain.capacity() >= max_bytes => {
                return Err(DecompressError::TooLarge { limit: max_bytes });
            }
            Inflated::NoRoom => plain.reserve_exact(max_bytes - plain.len()),
            Inflated::Bad => return slowly(format, encoding, body, plain, max_bytes),
        }
    }
}

enum Inflated {
    Done { consumed: usize },
    NoRoom,
    Bad,
}

/// libdeflate's decompressor, one per thread.
struct Decompressor(NonNull<sys::libdeflate_decompressor>);

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `libdeflate_alloc_decompressor` and is freed once.
        unsafe { sys::libdeflate_free_decompressor(self.0.as_ptr()) }
    }
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// One member into the spare room of `plain`. The safe wrapper tells neither how much was consumed nor accepts a
/// buffer that was not zeroed before, which is why this calls the library itself.
fn inflate(format: Format, body: &[u8], plain: &mut Vec<u8>, most: usize) -> Inflated {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            // SAFETY: a plain allocation; null is answered below.
            *slot = NonNull::new(unsafe { sys::libdeflate_alloc_decompressor() }).map(Decompressor);
        }
        let Some(decompressor) = slot else { return Inflated::Bad };
        let call = match format {
            Format::Gzip => sys::libdeflate_gzip_decompress_ex,
            Format::Zlib => sys::libdeflate_zlib_decompress_ex,
            Format::Raw => sys::libdeflate_deflate_decompress_ex,
        };
        let (mut consumed, mut written) = (0usize, 0usize);
        let spare = plain.spare_capacity_mut();
        let most = most.min(spare.len());
        let room = &mut spare[..most];
        // SAFETY: the decompressor is valid and this thread's own; input and output are valid for the lengths given
        // and do not overlap; both out-parameters live through the call. The library only writes to the output.
        let result = unsafe {
            call(
                decompressor.0.as_ptr(),
                body.as_ptr().cast(),
                body.len(),
                room.as_mut_ptr().cast(),
                room.len(),
                &mut consumed,
                &mut written,
            )
        };
        match result {
            sys::libdeflate_result_LIBDEFLATE_SUCCESS => {
                debug_assert!(written <= room.len() && consumed <= body.len());
                // SAFETY: on success the library has written exactly `written` bytes, at most the room's length.
                unsafe { plain.set_len(plain.len() + written) };
                Inflated::Done { consumed }
            }
            sys::libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE => Inflated::NoRoom,
            _ => Inflated::Bad,
        }
    })
}

/// The same by zlib-rs, which says what is wrong, and is the second opinion before a body is refused.
fn slowly<'a>(
    format: Format,
    encoding: Encoding,
    body: &'a [u8],
    plain: &mut Vec<u8>,
    max_bytes: usize,
) -> Result<&'a [u8]> {
    let before = plain.len();
    let budget = (max_bytes - before) as u64 + 1;
    let (read, rest) = match format {
        Format::Gzip => {
            let mut reader = GzDecoder::new(body).take(budget);
            (reader.read_to_end(plain), reader.into_inner().into_inner())
        }
        Format::Zlib => {
            let mut reader = ZlibDecoder::new(body).take(budget);
            (reader.read_to_end(plain), reader.into_inner().into_inner())
        }
        Format::Raw => {
            let mut reader = DeflateDecoder::new(body).take(budget);
            (reader.read_to_end(plain), reader.into_inner().into_inner())
        }
    };
    match read {
        Ok(_) if plain.len() > max_bytes => Err(DecompressError::TooLarge { limit: max_bytes }),
        // No progress would loop for ever on an empty member.
        Ok(_) if rest.len() < body.len() => Ok(rest),
        Ok(_) => Err(corrupt(encoding, "the stream is empty")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(corrupt(encoding, "the stream is cut short"))
        }
        Err(error) => Err(corrupt(encoding, error)),
    }
}
