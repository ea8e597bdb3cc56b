//! Numbers as they are written, and whether a column's value says the same.

use std::ops::RangeInclusive;

use crate::schema::Kind;

/// Decimal digits that every double holds.
const SAFE_DIGITS: usize = 15;

/// The integer that a number is.
pub fn whole(raw: &str) -> Option<i64> {
    raw.parse().ok().or_else(|| {
        let number: f64 = raw.parse().ok()?;
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    })
}

/// What a column of integers holds.
pub fn range(kind: Kind) -> RangeInclusive<i64> {
    match kind {
        Kind::Int32 => i64::from(i32::MIN)..=i64::from(i32::MAX),
        Kind::UInt32 => 0..=i64::from(u32::MAX),
        Kind::UInt16 => 0..=i64::from(u16::MAX),
        Kind::UInt8 => 0..=i64::from(u8::MAX),
        _ => i64::MIN..=i64::MAX,
    }
}

/// Whether a double, printed as short as it can be, is the very number that was written.
pub fn exact(raw: &str, double: f64) -> bool {
    if raw.parse() != Ok(double) {
        return false;
    }
    let digits = raw.bytes().filter(u8::is_ascii_digit).count();
    digits <= SAFE_DIGITS && !raw.contains(['e', 'E']) || decimal(raw) == decimal(ryu::Buffer::new().format(double))
}

/// Sign, digits without zeros at the ends, and the power of ten after them.
fn decimal(raw: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{before}{after}");
    let kept = digits.trim_end_matches('0');
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX / 2);
    let power = exponent - after.len() as i64 + (digits.len() - kept.len()) as i64;
    let kept = kept.trim_start_matches('0').to_owned();
    match kept.is_empty() {
        true => (false, kept, 0),
        false => (negative, kept, power),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_double_says_exactly_is_exact() {
        let same = |raw: &str| exact(raw, raw.parse().unwrap());
        for raw in ["0", "-0", "0.1", "100.0", "1e3", "1.50", "123456789012345", "9007199254740993e0", "1e-7", "5e-324"]
        {
            assert_eq!(same(raw), raw != "9007199254740993e0", "{raw}");
        }
        for raw in ["9007199254740993", "0.1000000000000000055511151231257827", "1e400", "12345678901234567890"] {
            assert!(!same(raw), "{raw}");
        }
    }

    #[test]
    fn integers_may_be_written_as_doubles() {
        assert_eq!((whole("7"), whole("7.0"), whole("7e2"), whole("7.5")), (Some(7), Some(7), Some(700), None));
        assert_eq!(whole("9223372036854775807"), Some(i64::MAX));
        assert_eq!(whole("9223372036854775808"), None);
    }
}
