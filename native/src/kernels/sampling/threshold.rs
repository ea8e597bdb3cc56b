//! Rejection thresholds and randomness of 56 bits, as OpenTelemetry's consistent probability sampling defines them:
//! an item is sampled when its randomness is at least the threshold.

use std::fmt;

/// Hexadecimal digits of both.
const DIGITS: u32 = 14;
const DIGIT_BITS: u32 = 4;
const SCALE: u64 = 1 << (DIGITS * DIGIT_BITS);
pub const MAX_RANDOMNESS: u64 = SCALE - 1;
/// Less than this cannot be told.
const MIN_PROBABILITY: f64 = 1.0 / SCALE as f64;

/// Rejects randomness below it. `NEVER` rejects all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Threshold(pub u64);

pub const ALWAYS: Threshold = Threshold(0);
pub const NEVER: Threshold = Threshold(SCALE);

impl Threshold {
    /// The threshold of a probability, rounded to so many digits, more where it is close to 0 or 1; `None` where the
    /// probability is too small or above 1.
    pub fn of_probability(probability: f64, precision: u32) -> Option<Threshold> {
        if !(MIN_PROBABILITY..=1.0).contains(&probability) {
            return None;
        }
        if probability == 1.0 {
            return Some(ALWAYS);
        }
        // Leading zeros of the fraction, or leading `f` of it, say nothing: that many digits are added.
        let more = |fraction: f64| precision + leading_zero_digits(fraction);
        let digits = more(probability).max(more(1.0 - probability)).min(DIGITS);
        let threshold = SCALE - (probability * SCALE as f64).round() as u64;
        let shift = DIGIT_BITS * (DIGITS - digits);
        Some(Threshold(match shift {
            0 => threshold,
            _ => (threshold + (1 << (shift - 1))) >> shift << shift,
        }))
    }

    pub fn samples(self, randomness: u64) -> bool {
        randomness >= self.0
    }

    pub fn probability(self) -> f64 {
        (SCALE - self.0) as f64 / SCALE as f64
    }

    /// One to fourteen hexadecimal digits, trailing zeros left out.
    pub fn parse(text: &str) -> Option<Threshold> {
        let digits = text.len() as u32;
        ((1..=DIGITS).contains(&digits) && is_hex(text)).then_some(())?;
        let value = u64::from_str_radix(text, 16).ok()?;
        Some(Threshold(value << (DIGIT_BITS * (DIGITS - digits))))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = digits(self.0);
        let short = text_of(&digits).trim_end_matches('0');
        f.write_str(if short.is_empty() { "0" } else { short })
    }
}

/// Hexadecimal digits that are 0 at the beginning of a fraction below 1.
fn leading_zero_digits(fraction: f64) -> u32 {
    // The exponent of a number in [0.5, 1) is 0, as `frexp` counts.
    let exponent = ((fraction.to_bits() >> 52) & 0x7ff) as i64 - 1022;
    (exponent.min(0).unsigned_abs() / u64::from(DIGIT_BITS)) as u32
}

/// Exactly fourteen hexadecimal digits.
pub fn parse_randomness(text: &str) -> Option<u64> {
    (text.len() as u32 == DIGITS && is_hex(text)).then(|| u64::from_str_radix(text, 16).ok())?
}

/// All fourteen, as `rv` has them.
pub fn digits(value: u64) -> [u8; DIGITS as usize] {
    std::array::from_fn(|place| {
        let nibble = value >> (DIGIT_BITS * (DIGITS - 1 - place as u32)) & 0xf;
        b"0123456789abcdef"[nibble as usize]
    })
}

pub fn text_of(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).expect("digits are ASCII")
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_have_the_thresholds_of_the_specification() {
        for (probability, text) in [
            (1.0, "0"),
            (0.75, "4"),
            (0.5, "8"),
            (0.25, "c"),
            (0.01, "fd70a"),
            (1.0 / 3.0, "aaab"),
            (0.001, "ffbe77"),
            (1e-6, "ffffef39"),
            (0.9999, "00068dc"),
        ] {
            assert_eq!(Threshold::of_probability(probability, 4).expect("in range").to_string(), text, "{probability}");
        }
        assert_eq!(Threshold::of_probability(0.0, 4), None);
        assert_eq!(Threshold::of_probability(1.5, 4), None);
    }

    #[test]
    fn texts_read_back() {
        for text in ["0", "8", "c", "ffbe77", "1", "ffffffffffffff"] {
            assert_eq!(Threshold::parse(text).expect("valid").to_string(), text);
        }
        for text in ["", "g", "+1", "123456789012345", "-1"] {
            assert_eq!(Threshold::parse(text), None, "{text}");
        }
        assert_eq!(parse_randomness("ffffffffffffff"), Some(MAX_RANDOMNESS));
        assert_eq!(parse_randomness("ff"), None);
    }
}
