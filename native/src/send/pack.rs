//! Plain bytes → a content coding, in one shot.

use std::io::Write;

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor};

use crate::decode::Encoding;

/// libdeflate at 3 packs telemetry in a fifth of the time that zlib takes at its default, a fifth less small.
const DEFLATE_LEVEL: i32 = 3;
const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, Copy)]
enum Deflate {
    Gzip,
    Zlib,
}

/// One body of all parts, packed. `level` is the algorithm's own; codings without levels ignore it.
pub fn pack(encoding: Encoding, level: Option<i32>, parts: &[Bytes]) -> Result<Bytes, String> {
    let plain = joined(parts);
    let packed = match encoding {
        Encoding::Identity => return Ok(plain),
        Encoding::Gzip => deflate(Deflate::Gzip, level, &plain)?,
        // As in the Collector, whose `deflate` is zlib, which is what the HTTP word means.
        Encoding::Zlib | Encoding::Deflate => deflate(Deflate::Zlib, level, &plain)?,
        Encoding::Zstd => zstd::bulk::compress(&plain, level.unwrap_or(ZSTD_LEVEL)).map_err(|e| e.to_string())?,
        Encoding::Snappy => snap::raw::Encoder::new().compress_vec(&plain).map_err(|e| e.to_string())?,
        Encoding::SnappyFramed => {
            let mut writer = snap::write::FrameEncoder::new(Vec::with_capacity(plain.len() / 4));
            writer.write_all(&plain).map_err(|e| e.to_string())?;
            writer.into_inner().map_err(|e| e.to_string())?
        }
        Encoding::Lz4 => {
            let mut writer = lz4_flex::frame::FrameEncoder::new(Vec::with_capacity(plain.len() / 4));
            writer.write_all(&plain).map_err(|e| e.to_string())?;
            writer.finish().map_err(|e| e.to_string())?
        }
    };
    Ok(packed.into())
}

fn deflate(format: Deflate, level: Option<i32>, plain: &[u8]) -> Result<Vec<u8>, String> {
    let wanted = level.filter(|level| *level >= 0).unwrap_or(DEFLATE_LEVEL);
    let level = CompressionLvl::new(wanted).map_err(|_| format!("no level {wanted}: 0 to 12 are"))?;
    let mut compressor = Compressor::new(level);
    let bound = match format {
        Deflate::Gzip => compressor.gzip_compress_bound(plain.len()),
        Deflate::Zlib => compressor.zlib_compress_bound(plain.len()),
    };
    let mut out = vec![0; bound];
    let written = match format {
        Deflate::Gzip => compressor.gzip_compress(plain, &mut out),
        Deflate::Zlib => compressor.zlib_compress(plain, &mut out),
    };
    out.truncate(written.map_err(|e| e.to_string())?);
    Ok(out)
}

fn joined(parts: &[Bytes]) -> Bytes {
    match parts {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => many.concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decompress;

    #[test]
    fn what_is_packed_is_what_our_listener_opens() {
        let parts = [Bytes::from_static(b"telemetry "), Bytes::from(vec![b'x'; 100_000]), Bytes::from_static(b"!")];
        let plain = parts.concat();
        for encoding in Encoding::ALL {
            let packed = pack(encoding, None, &parts).expect("packs");
            assert!(encoding == Encoding::Identity || packed.len() < plain.len() / 10, "{}", encoding.name());
            assert_eq!(decompress(encoding, &packed, plain.len()).expect("opens"), plain, "{}", encoding.name());
        }
    }

    #[test]
    fn a_level_that_there_is_not_is_refused() {
        assert!(pack(Encoding::Gzip, Some(99), &[]).is_err());
        assert!(pack(Encoding::Gzip, Some(-1), &[]).is_ok());
    }
}
