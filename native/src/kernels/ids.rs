//! Row ids (specification 2.1, with UUIDv8 over XXH3-128 where it says UUIDv5).

use xxhash_rust::xxh3::xxh3_128;

/// Parts of a natural key are joined by this.
pub const UNIT_SEPARATOR: u8 = 0x1f;

/// The URL name space of RFC 9562, in which a `ns` is a name.
const URL_NAMESPACE: [u8; 16] =
    [0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];

/// The UUIDv8 of these bytes: their XXH3-128, big-endian, with version and variant set.
pub fn uuid8(name: &[u8]) -> [u8; 16] {
    let mut id = xxh3_128(name).to_be_bytes();
    id[6] = 0x80 | id[6] & 0x0f;
    id[8] = 0x80 | id[8] & 0x3f;
    id
}

/// The name space of a `ns`, under which the keys of its rows are names.
pub fn namespace(ns: &str) -> [u8; 16] {
    uuid8(&[&URL_NAMESPACE, ns.as_bytes()].concat())
}

/// The id that a source's own text is: a UUID of any version (`urn:uuid:` may stand before it), or a ULID.
pub fn own_id(text: &str) -> Option<[u8; 16]> {
    let text = match text.get(..9) {
        Some(prefix) if prefix.eq_ignore_ascii_case("urn:uuid:") => &text[9..],
        _ => text,
    };
    match text.len() {
        36 => uuid(text.as_bytes()),
        26 => ulid(text.as_bytes()),
        _ => None,
    }
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let (mut id, mut digits) = ([0u8; 16], 0usize);
    for (at, byte) in text.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16)? as u8;
        id[digits / 2] = id[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(id)
}

/// 26 characters of Crockford's base 32, 130 bits of which the first two are none.
fn ulid(text: &[u8]) -> Option<[u8; 16]> {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut bits = 0u128;
    for (at, byte) in text.iter().enumerate() {
        let digit = ALPHABET.iter().position(|letter| *letter == byte.to_ascii_uppercase())?;
        if at == 0 && digit > 7 {
            return None;
        }
        bits = bits << 5 | digit as u128;
    }
    Some(bits.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ids_are_uuids_and_ulids_only() {
        let id = 0x0190_a1b2_c3d4_7e5f_8a9b_0c1d_2e3f_4a5b_u128.to_be_bytes();
        for text in ["0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "URN:UUID:0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B"] {
            assert_eq!(own_id(text), Some(id), "{text}");
        }
        assert_eq!(own_id("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), Some([0xff; 16]));
        assert_eq!(
            own_id("01arz3ndektsv4rrffq69g5fav").map(u128::from_be_bytes),
            Some(0x0156_3e3a_b5d3_d676_4c61_efb9_9302_bd5b)
        );
        for text in [
            "",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "0190a1b2c3d47e5f8a9b0c1d2e3f4a5b",
            "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5g",
            "ééééééééé",
            "urn:uuid:",
        ] {
            assert_eq!(own_id(text), None, "{text}");
        }
    }

    #[test]
    fn made_ids_are_version_8() {
        let id = uuid8(b"name");
        assert_eq!((id[6] >> 4, id[8] >> 6), (8, 2));
        assert_ne!(uuid8(b"name"), uuid8(b"nama"));
        assert_ne!(namespace("a"), namespace("b"));
    }
}
