//! Snappy, block and framed.

use std::io::Read;

use super::{DecompressError, Encoding, Result, corrupt, guess};

/// The first chunk of the framed form.
const STREAM_IDENTIFIER: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// A copy of 64 bytes takes 3: a block that claims to grow more is wrong.
const MAX_RATIO: usize = 22;

/// Senders mean either form by `snappy`: the block form is Prometheus' and gRPC's, the framed one the Collector's of old.
pub fn block_or_framed(body: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
    if body.starts_with(STREAM_IDENTIFIER) {
        return framed(body, max_bytes);
    }
    let fail = |error: snap::Error| corrupt(Encoding::Snappy, error);
    let size = snap::raw::decompress_len(body).map_err(fail)?;
    if size > max_bytes {
        return Err(DecompressError::TooLarge { limit: max_bytes });
    }
    if size > body.len().saturating_mul(MAX_RATIO) {
        return Err(corrupt(
            Encoding::Snappy,
            format_args!("{} bytes cannot hold the {size} that they claim", body.len()),
        ));
    }
    let mut plain = vec![0; size];
    let written = snap::raw::Decoder::new().decompress(body, &mut plain).map_err(fail)?;
    plain.truncate(written);
    Ok(plain)
}

/// The framed form has no end mark: a body that is cut between two chunks cannot be told from a shorter one.
pub fn framed(body: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
    if !body.starts_with(STREAM_IDENTIFIER) {
        return Err(corrupt(Encoding::SnappyFramed, "the stream identifier is missing"));
    }
    let mut plain = Vec::with_capacity(guess(body.len(), max_bytes));
    let mut reader = snap::read::FrameDecoder::new(body).take(max_bytes as u64 + 1);
    match reader.read_to_end(&mut plain) {
        Ok(_) if plain.len() > max_bytes => Err(DecompressError::TooLarge { limit: max_bytes }),
        Ok(_) => Ok(plain),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(corrupt(Encoding::SnappyFramed, "the stream is cut short"))
        }
        Err(error) => Err(corrupt(Encoding::SnappyFramed, error)),
    }
}
