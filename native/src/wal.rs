//! SQLite's write-ahead log, looked at from outside: whether it ends where it was torn, or before commits that were answered.
//!
//! SQLite takes everything up to the last commit whose checksums hold, and drops the rest without a word. After a crash
//! that is right; where a page within has been damaged, the commits after it are whole, and only say so. The checksum of
//! each frame continues that of the frame before: made anew over what is there, SQLite reads on, and the damage is
//! within one page. Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;
const WAL_VERSION: u32 = 3_007_000;

/// What a write-ahead log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Commits that SQLite takes.
    pub commits: usize,
    /// Commits after the first frame that does not hold.
    pub commits_beyond: usize,
    /// Frames that do not hold.
    pub damaged_frames: usize,
}

/// Looks at a write-ahead log of a database with pages of that size.
pub fn survey(wal: &[u8], page: usize) -> Survey {
    match Header::of(wal, page) {
        Some(header) => walk(wal, page, header, |_, _| {}),
        None => Survey::default(),
    }
}

/// Makes the header and all checksums right; what the frames hold stays as it is.
pub fn mend(wal: &mut [u8], page: usize) -> Survey {
    let Some(header) = Header::of(wal, page) else { return Survey::default() };
    wal[..24].copy_from_slice(&header.bytes);
    let mut sums = Vec::new();
    let survey = walk(wal, page, header, |at, sum| sums.push((at, sum)));
    for (at, (first, second)) in sums {
        wal[at..at + 4].copy_from_slice(&first.to_be_bytes());
        wal[at + 4..at + 8].copy_from_slice(&second.to_be_bytes());
    }
    survey
}

/// The header as it should be: what is written where that holds, else with the salts of the first frame.
struct Header {
    bytes: [u8; 24],
    whole: bool,
}

impl Header {
    /// `None` where the log has no frame.
    fn of(wal: &[u8], page: usize) -> Option<Header> {
        let salts = wal.get(HEADER..HEADER + FRAME_HEADER + page)?[8..16].to_vec();
        let mut bytes: [u8; 24] = wal[..24].try_into().expect("24 bytes");
        let sound = word(wal, 0) & !1 == MAGIC && word(wal, 8) as usize == page;
        let sums = (word(wal, 24), word(wal, 28));
        if sound && sum((0, 0), &bytes, bytes[3] & 1 == 1) == sums {
            return Some(Header { bytes, whole: true });
        }
        let magic = MAGIC | u32::from(cfg!(target_endian = "big"));
        bytes[..4].copy_from_slice(&magic.to_be_bytes());
        bytes[4..8].copy_from_slice(&WAL_VERSION.to_be_bytes());
        bytes[8..12].copy_from_slice(&(page as u32).to_be_bytes());
        bytes[16..24].copy_from_slice(&salts);
        Some(Header { bytes, whole: false })
    }
}

/// Calls back with the place of each checksum, and with the one that continues those before as it should be. A frame's
/// own is compared with what continues the frame before as it is, so that one damaged frame counts once.
fn walk(wal: &[u8], page: usize, header: Header, mut checksum: impl FnMut(usize, (u32, u32))) -> Survey {
    let big = header.bytes[3] & 1 == 1;
    let mut mended = sum((0, 0), &header.bytes, big);
    let mut before = if header.whole { mended } else { (word(wal, 24), word(wal, 28)) };
    let mut found = Survey { damaged_frames: usize::from(!header.whole), ..Survey::default() };
    checksum(24, mended);
    let mut at = HEADER;
    while let Some(bytes) = wal.get(at..at + FRAME_HEADER + page) {
        if bytes[8..16] != header.bytes[16..24] {
            break; // Left over from before the log was begun anew, or never written.
        }
        let own = (word(bytes, 16), word(bytes, 20));
        let expected = sum(sum(before, &bytes[..8], big), &bytes[FRAME_HEADER..], big);
        mended = sum(sum(mended, &bytes[..8], big), &bytes[FRAME_HEADER..], big);
        // After a header that is gone, what the first frame continues is not known.
        found.damaged_frames += usize::from(expected != own && (header.whole || at > HEADER));
        if word(bytes, 4) != 0 {
            *(if found.damaged_frames == 0 { &mut found.commits } else { &mut found.commits_beyond }) += 1;
        }
        checksum(at + 16, mended);
        before = own;
        at += FRAME_HEADER + page;
    }
    found
}

/// `at` lies within a header or frame that is there.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// SQLite's checksum, continued; `bytes` is a multiple of 8.
fn sum(from: (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let (mut first, mut second) = from;
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| {
            let bytes: [u8; 4] = pair[at..at + 4].try_into().expect("4 bytes");
            if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        first = first.wrapping_add(word(0)).wrapping_add(second);
        second = second.wrapping_add(word(4)).wrapping_add(first);
    }
    (first, second)
}
