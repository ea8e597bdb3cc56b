use std::io::Write;

use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

use super::*;

const LIMIT: usize = 1 << 20;

fn sample(size: usize) -> Vec<u8> {
    let words = b"resource_spans scope_spans http.request.method GET service.name checkout \x00\x01\xff ";
    let mut state = 7u32;
    (0..size)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 28 == 0 { (state >> 16) as u8 } else { words[i % words.len()] }
        })
        .collect()
}

fn raw(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn framed_lz4(plain: &[u8], linked: bool) -> Vec<u8> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(if linked { BlockMode::Linked } else { BlockMode::Independent })
        .block_checksums(linked)
        .content_size((!linked).then_some(plain.len() as u64))
        .content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd_streamed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn compress(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => plain.to_vec(),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Zlib | Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Zstd => ::zstd::bulk::compress(plain, 3).unwrap(),
        Encoding::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        Encoding::SnappyFramed => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).unwrap();
            encoder.into_inner().unwrap()
        }
        Encoding::Lz4 => framed_lz4(plain, true),
    }
}

/// Every coding in every form that senders use.
fn forms(plain: &[u8]) -> Vec<(Encoding, Vec<u8>)> {
    let mut forms: Vec<_> = Encoding::ALL.into_iter().skip(1).map(|e| (e, compress(e, plain))).collect();
    forms.push((Encoding::Deflate, raw(plain)));
    forms.push((Encoding::Zstd, zstd_streamed(plain)));
    forms.push((Encoding::Lz4, framed_lz4(plain, false)));
    if !plain.is_empty() {
        forms.push((Encoding::Snappy, compress(Encoding::SnappyFramed, plain)));
    }
    forms
}

fn open(encoding: Encoding, body: &[u8], limit: usize) -> Result<Vec<u8>> {
    decompress(encoding, &Bytes::copy_from_slice(body), limit).map(|b| b.to_vec())
}

#[test]
fn every_form_reads_back_at_every_size() {
    for size in [0, 1, 63, 4096, 70_000, 400_000] {
        let plain = sample(size);
        for (encoding, body) in forms(&plain) {
            if body.is_empty() {
                continue; // A framed snappy stream of nothing has no bytes at all.
            }
            assert_eq!(open(encoding, &body, LIMIT).as_deref(), Ok(&plain[..]), "{encoding:?} of {size} bytes");
            assert_eq!(
                open(encoding, &body, size).as_deref(),
                Ok(&plain[..]),
                "{encoding:?} at a limit of exactly {size}"
            );
        }
    }
}

#[test]
fn identity_copies_nothing() {
    let body = Bytes::from(sample(100));
    let plain = decompress(Encoding::Identity, &body, 100).unwrap();
    assert_eq!(plain.as_ptr(), body.as_ptr());
    assert_eq!(decompress(Encoding::Identity, &body, 99), Err(DecompressError::TooLarge { limit: 99 }));
}

#[test]
fn one_byte_above_the_limit_is_too_large() {
    for size in [1, 5000, 200_000] {
        for (encoding, body) in forms(&sample(size)) {
            let limit = size - 1;
            assert_eq!(
                open(encoding, &body, limit),
                Err(DecompressError::TooLarge { limit }),
                "{encoding:?} of {size}"
            );
        }
    }
}

#[test]
fn streams_follow_one_another_where_the_format_allows_it() {
    let (a, b) = (sample(50_000), sample(3));
    for encoding in [Encoding::Gzip, Encoding::Zstd, Encoding::Lz4, Encoding::SnappyFramed] {
        let body = [compress(encoding, &a), compress(encoding, &b), compress(encoding, &a)].concat();
        let plain = [&a[..], &b, &a].concat();
        assert_eq!(open(encoding, &body, LIMIT).as_deref(), Ok(&plain[..]), "{encoding:?}");
        assert_eq!(open(encoding, &body, 50_010), Err(DecompressError::TooLarge { limit: 50_010 }), "{encoding:?}");
    }
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &framed_lz4(&a, false)].concat();
    assert_eq!(open(Encoding::Lz4, &skippable, LIMIT).as_deref(), Ok(&a[..]));
}

#[test]
fn what_is_cut_short_is_corrupt_at_every_byte() {
    let plain = sample(3000);
    for (encoding, body) in forms(&plain) {
        let framed = body.starts_with(b"\xff\x06\x00\x00sNaPpY");
        for length in 0..body.len() {
            let verdict = open(encoding, &body[..length], LIMIT);
            // The framed form of snappy has no end mark: after its ten bytes of identifier nothing is missing yet.
            if framed && length == 10 {
                assert_eq!(verdict.as_deref(), Ok(&[][..]));
            } else {
                assert!(
                    matches!(verdict, Err(DecompressError::Corrupt(_))),
                    "{encoding:?} cut at {length}: {verdict:?}"
                );
            }
        }
    }
}

#[test]
fn a_changed_byte_never_panics_nor_passes_a_checksum() {
    let plain = sample(2000);
    for (encoding, body) in forms(&plain) {
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 0x55;
            let verdict = open(encoding, &changed, LIMIT);
            if encoding == Encoding::Zlib {
                assert_ne!(verdict.as_deref(), Ok(&plain[..]), "zlib changed at {at}");
            }
        }
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    for (encoding, body) in forms(&sample(500)) {
        let body = [&body[..], b"garbage after the end"].concat();
        assert!(matches!(open(encoding, &body, LIMIT), Err(DecompressError::Corrupt(_))), "{encoding:?}");
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0u8; 200 << 20];
    for (encoding, body) in forms(&zeros) {
        if encoding != Encoding::Snappy || body.starts_with(b"\xff\x06") {
            assert!(body.len() < zeros.len() / 15, "{encoding:?} is no bomb");
        }
        let started = std::time::Instant::now();
        assert_eq!(open(encoding, &body, LIMIT), Err(DecompressError::TooLarge { limit: LIMIT }), "{encoding:?}");
        assert!(started.elapsed().as_millis() < 2000, "{encoding:?} took {:?}", started.elapsed());
    }
}

#[test]
fn claimed_sizes_are_not_believed() {
    let plain = sample(1000);
    let mut gzip = compress(Encoding::Gzip, &plain);
    let end = gzip.len();
    gzip[end - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(open(Encoding::Gzip, &gzip, LIMIT), Err(DecompressError::Corrupt(_))));
    // A block of snappy that claims a gigabyte, within a limit of two.
    let snappy = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00, 0x41];
    assert!(matches!(open(Encoding::Snappy, &snappy, 2 << 30), Err(DecompressError::Corrupt(_))));
    let started = std::time::Instant::now();
    let tiny = framed_lz4(b"x", false);
    let many: Vec<u8> = std::iter::repeat_n(tiny, 20_000).flatten().collect();
    assert_eq!(open(Encoding::Lz4, &many, LIMIT).map(|p| p.len()), Ok(20_000));
    assert!(started.elapsed().as_millis() < 2000);
}

#[test]
fn a_small_result_does_not_keep_a_large_buffer() {
    let plain = decompress(Encoding::Zstd, &Bytes::from(zstd_streamed(&sample(10))), 64 << 20).unwrap();
    let vec = Vec::from(plain);
    assert!(vec.capacity() <= 64 << 10, "{}", vec.capacity());
}

#[test]
fn names_are_those_of_http_in_any_case() {
    for encoding in Encoding::ALL {
        assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
        assert_eq!(Encoding::from_name(&encoding.name().to_uppercase()), Some(encoding));
    }
    assert_eq!(Encoding::from_name(""), Some(Encoding::Identity));
    assert_eq!(Encoding::from_name(" x-gzip"), Some(Encoding::Gzip));
    assert_eq!(Encoding::from_name("br"), None);
}
