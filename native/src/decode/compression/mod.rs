//! Request bodies as they came → plain bytes, one shot, bounded.
//!
//! Every limit is on *decompressed* bytes. What a body says about its own size is only a hint: it decides how much is
//! reserved at first, and never more than the limit (pages that are never written cost nothing). A bomb therefore costs
//! at most the limit in memory and twice the work of one body of the limit's size.
//!
//! A body must be consumed whole: bytes after the end of the last stream are refused, since a sender that frames its
//! body wrongly has framed its rows wrongly. Gzip members, zstd frames and LZ4 frames may follow one another.

mod deflate;
mod lz4;
mod snappy;
mod zstd;

use bytes::Bytes;

/// A content coding that a request may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    Identity,
    Gzip,
    Zlib,
    /// The HTTP word: zlib by the standard, but raw deflate is sent too.
    Deflate,
    Zstd,
    /// Block form, or framed where the body begins with the stream identifier.
    Snappy,
    SnappyFramed,
    Lz4,
}

impl Encoding {
    pub const ALL: [Encoding; 8] = [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Zlib,
        Encoding::Deflate,
        Encoding::Zstd,
        Encoding::Snappy,
        Encoding::SnappyFramed,
        Encoding::Lz4,
    ];

    /// The coding of a `Content-Encoding` or `grpc-encoding` value, in any letter case.
    pub fn from_name(name: &str) -> Option<Encoding> {
        let name = name.trim_ascii();
        if name.is_empty() || name.eq_ignore_ascii_case("none") {
            return Some(Encoding::Identity);
        }
        if name.eq_ignore_ascii_case("x-gzip") {
            return Some(Encoding::Gzip);
        }
        Encoding::ALL.into_iter().find(|e| name.eq_ignore_ascii_case(e.name()))
    }

    pub fn name(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Gzip => "gzip",
            Encoding::Zlib => "zlib",
            Encoding::Deflate => "deflate",
            Encoding::Zstd => "zstd",
            Encoding::Snappy => "snappy",
            Encoding::SnappyFramed => "x-snappy-framed",
            Encoding::Lz4 => "lz4",
        }
    }
}

/// Why a body has no plain form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// The plain bytes would be more than this.
    TooLarge { limit: usize },
    /// The reason, as a sentence without a full stop.
    Corrupt(String),
}

impl std::fmt::Display for DecompressError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecompressError::TooLarge { limit } => write!(f, "the body is larger than {limit} bytes once decompressed"),
            DecompressError::Corrupt(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for DecompressError {}

type Result<T> = std::result::Result<T, DecompressError>;

/// The plain bytes of a body; at most `max_bytes` of them. `Identity` copies nothing.
pub fn decompress(encoding: Encoding, body: &Bytes, max_bytes: usize) -> Result<Bytes> {
    if encoding == Encoding::Identity {
        let fits = body.len() <= max_bytes;
        return if fits { Ok(body.clone()) } else { Err(DecompressError::TooLarge { limit: max_bytes }) };
    }
    if body.is_empty() {
        return Err(corrupt(encoding, "the body is empty"));
    }
    let mut plain = match encoding {
        Encoding::Identity => unreachable!("answered above"),
        Encoding::Gzip => deflate::gzip(body, max_bytes),
        Encoding::Zlib => deflate::zlib(body, max_bytes),
        Encoding::Deflate => deflate::zlib_or_raw(body, max_bytes),
        Encoding::Zstd => zstd::frames(body, max_bytes),
        Encoding::Snappy => snappy::block_or_framed(body, max_bytes),
        Encoding::SnappyFramed => snappy::framed(body, max_bytes),
        Encoding::Lz4 => lz4::frames(body, max_bytes),
    }?;
    // A hint that was far too large must not occupy a queue that counts bytes.
    if plain.capacity() - plain.len() > plain.len() / 4 + 4096 {
        plain.shrink_to_fit();
    }
    Ok(Bytes::from(plain))
}

fn corrupt(encoding: Encoding, reason: impl std::fmt::Display) -> DecompressError {
    DecompressError::Corrupt(format!("not a valid {} body: {reason}", encoding.name()))
}

/// What to reserve for a body that does not say its plain size: telemetry shrinks about eightfold.
fn guess(compressed: usize, max_bytes: usize) -> usize {
    compressed.saturating_mul(12).max(4096).min(max_bytes)
}

#[cfg(test)]
mod tests;
