//! Times as sources write them, to nanoseconds since 1970 and back (specification 2.2).

const NANOS: i64 = 1_000_000_000;

/// How a field's time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ISO 8601 / RFC 3339 text.
    Iso,
    /// Milliseconds since 1970.
    Milliseconds,
    /// ISO 8601 text, or a number of seconds or, from 10^11 on, of milliseconds.
    IsoOrEpoch,
}

/// An instant, and whether its text named no offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant {
    pub ns: i64,
    pub assumed: bool,
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days - era * 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

struct Digits<'a> {
    text: &'a [u8],
}

impl Digits<'_> {
    /// The next `count` digits.
    fn number(&mut self, count: usize) -> Option<i64> {
        let digits = self.text.get(..count)?;
        let number = digits.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))?;
        self.text = &self.text[count..];
        Some(number)
    }

    fn take(&mut self, wanted: &[u8]) -> Option<u8> {
        let byte = *self.text.first().filter(|byte| wanted.contains(byte))?;
        self.text = &self.text[1..];
        Some(byte)
    }

    /// Nanoseconds of a fraction; what lies beyond nine digits is cut off.
    fn fraction(&mut self) -> Option<i64> {
        let length = self.text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut nanos = 0;
        for place in 0..9 {
            nanos = nanos * 10 + self.text[..length].get(place).map_or(0, |digit| i64::from(digit - b'0'));
        }
        self.text = &self.text[length..];
        (length > 0).then_some(nanos)
    }

    /// Seconds east of UTC; `None` where the text does not end with an offset.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.take(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return self.text.is_empty().then_some(0),
        };
        let hours = self.number(2)?;
        self.take(b":");
        let minutes = if self.text.is_empty() { 0 } else { self.number(2)? };
        (hours < 24 && minutes < 60 && self.text.is_empty()).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

/// The instant of an ISO 8601 date, or date and time; a text without an offset is read as UTC.
pub fn iso(text: &[u8]) -> Option<Instant> {
    let mut rest = Digits { text };
    let year = rest.number(4)?;
    rest.take(b"-")?;
    let month = rest.number(2)?;
    rest.take(b"-")?;
    let day = rest.number(2)?;
    if !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    let midnight = days(year, month, day) * 86_400;
    if rest.text.is_empty() {
        return at(midnight, 0, true);
    }
    rest.take(b"Tt ")?;
    let hour = rest.number(2)?;
    rest.take(b":")?;
    let minute = rest.number(2)?;
    let second = if rest.take(b":").is_some() { rest.number(2)? } else { 0 };
    let nanos = if rest.take(b".,").is_some() { rest.fraction()? } else { 0 };
    // A leap second is the first second of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = midnight + hour * 3600 + minute * 60 + second;
    match rest.text.is_empty() {
        true => at(local, nanos, true),
        false => at(local - rest.offset()?, nanos, false),
    }
}

fn at(seconds: i64, nanos: i64, assumed: bool) -> Option<Instant> {
    let ns = seconds.checked_mul(NANOS)?.checked_add(nanos)?;
    Some(Instant { ns, assumed })
}

/// The instant of a number of milliseconds; what lies beyond a whole one is cut off.
pub fn milliseconds(number: &str) -> Option<i64> {
    let whole: f64 = number.parse::<f64>().ok()?.trunc();
    // Integers are read as such: a double holds only those below 2^53.
    let ms = number.parse::<i64>().ok().or_else(|| (whole.abs() < 9e15).then_some(whole as i64))?;
    ms.checked_mul(1_000_000)
}

/// The instant of a number whose size tells its unit.
pub fn epoch(number: &str) -> Option<i64> {
    let value: f64 = number.parse().ok()?;
    match value.abs() < 1e11 {
        true => ((value * 1e3).round() as i64).checked_mul(1_000_000),
        false => milliseconds(number),
    }
}

/// `2026-03-04T05:06:07.123Z`: UTC, with as few fraction digits of 0, 3, 6 and 9 as say everything.
pub fn print(ns: i64, out: &mut Vec<u8>) {
    let (seconds, nanos) = (ns.div_euclid(NANOS), ns.rem_euclid(NANOS));
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    digits(out, year, 4);
    for (mark, number) in
        [(b'-', month), (b'-', day), (b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        out.push(mark);
        digits(out, number, 2);
    }
    if nanos != 0 {
        out.push(b'.');
        match nanos {
            n if n % 1_000_000 == 0 => digits(out, n / 1_000_000, 3),
            n if n % 1_000 == 0 => digits(out, n / 1_000, 6),
            n => digits(out, n, 9),
        }
    }
    out.push(b'Z');
}

fn digits(out: &mut Vec<u8>, number: i64, count: u32) {
    out.extend((0..count).rev().map(|place| b'0' + (number / 10i64.pow(place) % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> Option<i64> {
        iso(text.as_bytes()).map(|instant| instant.ns)
    }

    #[test]
    fn iso_texts_are_read_with_their_offset() {
        let expected = Some(1_772_600_767_123_000_000);
        for text in [
            "2026-03-04T05:06:07.123Z",
            "2026-03-04T06:06:07.123+01:00",
            "2026-03-04 10:36:07,123000+0530",
            "2026-03-04t00:06:07.1230000009-05",
        ] {
            assert_eq!(ns(text), expected, "{text}");
        }
        assert_eq!(iso(b"2026-03-04"), Some(Instant { ns: 1_772_582_400 * NANOS, assumed: true }));
        assert!(iso(b"2026-03-04T05:06:07").unwrap().assumed);
        assert_eq!(ns("1969-12-31T23:59:59.5Z"), Some(-500_000_000));
        assert_eq!(ns("2016-12-31T23:59:60Z"), ns("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "yesterday",
            "2026",
            "2026-02-30",
            "2026-13-01T00:00:00Z",
            "2026-03-04T25:00:00Z",
            "2026-03-04T05:06:07.Z",
            "2026-03-04T05:06:07+1",
            "2026-03-04T05:06:07Zulu",
            "20260304T050607Z",
            "1772600767",
            "9999-01-01T00:00:00Z",
            "2026-03-04T05:06:07+24:00",
            "2026-03-04T05",
            "2026-03-04T05:06:61Z",
        ] {
            assert_eq!(ns(text), None, "{text}");
        }
    }

    #[test]
    fn instants_are_printed_as_short_as_they_can_be() {
        for text in [
            "2026-03-04T05:06:07Z",
            "2026-03-04T05:06:07.100Z",
            "2000-02-29T00:00:00.000001Z",
            "1969-12-31T23:59:59.999999999Z",
            "2262-04-11T23:47:16.854775807Z",
            "1677-09-21T00:12:44Z",
        ] {
            let mut out = Vec::new();
            print(ns(text).unwrap(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn every_day_has_its_date() {
        for day in (-100_000..100_000).step_by(17) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn epochs_are_told_apart_by_their_size() {
        assert_eq!(milliseconds("1772600767123"), Some(1_772_600_767_123_000_000));
        assert_eq!(milliseconds("1772600767123.9"), Some(1_772_600_767_123_000_000));
        assert_eq!(milliseconds("1e300"), None);
        assert_eq!(epoch("1772600767.123"), Some(1_772_600_767_123_000_000));
        assert_eq!(epoch("1772600767123"), Some(1_772_600_767_123_000_000));
        assert_eq!(epoch("9223372037"), None);
    }
}
