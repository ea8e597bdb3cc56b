//! Buckets and quantiles: JSON text in flight, arrays of doubles in the tables.

use jiter::{Jiter, JiterResult, NumberAny, Peek};

/// Whole numbers above this are not all doubles.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// A part of `metric_buckets` or `metric_quantiles` that has a column of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Bounds,
    Counts,
    Scale,
    ZeroCount,
    ZeroThreshold,
    PositiveOffset,
    PositiveCounts,
    NegativeOffset,
    NegativeCounts,
    Quantiles,
    QuantileValues,
}

impl Part {
    pub fn from_name(name: &str) -> Option<Part> {
        Some(match name {
            "bounds" => Part::Bounds,
            "counts" => Part::Counts,
            "scale" => Part::Scale,
            "zero_count" => Part::ZeroCount,
            "zero_threshold" => Part::ZeroThreshold,
            "positive.offset" => Part::PositiveOffset,
            "positive.counts" => Part::PositiveCounts,
            "negative.offset" => Part::NegativeOffset,
            "negative.counts" => Part::NegativeCounts,
            "quantiles" => Part::Quantiles,
            "quantile_values" => Part::QuantileValues,
            _ => return None,
        })
    }

    /// Whether it is a list; the others are one number each.
    pub fn is_list(self) -> bool {
        use Part::{Bounds, Counts, NegativeCounts, PositiveCounts, QuantileValues, Quantiles};
        matches!(self, Bounds | Counts | PositiveCounts | NegativeCounts | Quantiles | QuantileValues)
    }
}

/// The numbers of one point.
#[derive(Debug, Default)]
pub struct Buckets {
    lists: [Option<Vec<f64>>; 11],
    /// Whether they say all that the texts say; if not, the texts are kept besides.
    pub exact: bool,
}

impl Buckets {
    pub fn list(&self, part: Part) -> Option<&[f64]> {
        self.lists[part as usize].as_deref()
    }

    pub fn number(&self, part: Part) -> Option<f64> {
        self.list(part).and_then(|list| list.first().copied())
    }

    /// Reads the texts of a point, each empty where it has none.
    pub fn read(&mut self, buckets: &[u8], quantiles: &[u8]) {
        self.lists = Default::default();
        self.exact = true;
        if !buckets.is_empty() {
            self.exact &= self.buckets(&mut Jiter::new(buckets), "").is_ok();
        }
        if !quantiles.is_empty() {
            self.exact &= self.quantiles(&mut Jiter::new(quantiles)).is_ok();
        }
        self.exact &= self.lists.iter().flatten().flatten().all(|number| number.abs() <= EXACT);
    }

    fn buckets(&mut self, json: &mut Jiter, within: &str) -> JiterResult<()> {
        let mut key = json.next_object()?.map(str::to_owned);
        while let Some(name) = key {
            let path = if within.is_empty() { name } else { format!("{within}.{name}") };
            match (Part::from_name(&path), path.as_str()) {
                (Some(part), _) => self.lists[part as usize] = Some(self.values(json)?),
                (None, "positive" | "negative") => self.buckets(json, &path)?,
                (None, _) => {
                    self.exact = false;
                    json.next_skip()?;
                }
            }
            key = json.next_key()?.map(str::to_owned);
        }
        Ok(())
    }

    fn quantiles(&mut self, json: &mut Jiter) -> JiterResult<()> {
        let (mut quantiles, mut values) = (Vec::new(), Vec::new());
        let mut next = json.next_array()?;
        while next.is_some() {
            let (mut quantile, mut value) = (0.0, 0.0);
            let mut key = json.next_object()?.map(str::to_owned);
            while let Some(name) = key {
                match name.as_str() {
                    "quantile" => quantile = self.value(json)?,
                    "value" => value = self.value(json)?,
                    _ => {
                        self.exact = false;
                        json.next_skip()?;
                    }
                }
                key = json.next_key()?.map(str::to_owned);
            }
            quantiles.push(quantile);
            values.push(value);
            next = json.array_step()?;
        }
        self.lists[Part::Quantiles as usize] = Some(quantiles);
        self.lists[Part::QuantileValues as usize] = Some(values);
        Ok(())
    }

    /// A list, or a number as a list of one.
    fn values(&mut self, json: &mut Jiter) -> JiterResult<Vec<f64>> {
        if json.peek()? != Peek::Array {
            return Ok(vec![self.value(json)?]);
        }
        let mut values = Vec::new();
        let mut next = json.next_array()?;
        while next.is_some() {
            values.push(self.value(json)?);
            next = json.array_step()?;
        }
        Ok(values)
    }

    /// A number; what is none reads as NaN, and is told by its text.
    fn value(&mut self, json: &mut Jiter) -> JiterResult<f64> {
        if !json.peek()?.is_num() {
            json.next_skip()?;
            self.exact = false;
            return Ok(f64::NAN);
        }
        Ok(match json.next_number()? {
            NumberAny::Float(value) => value,
            NumberAny::Int(value) => value.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buckets: &str, quantiles: &str) -> Buckets {
        let mut found = Buckets::default();
        found.read(buckets.as_bytes(), quantiles.as_bytes());
        found
    }

    #[test]
    fn layouts_become_lists() {
        let found = read(r#"{"bounds":[0.1,5],"counts":[3,2,1]}"#, "");
        assert_eq!((found.list(Part::Bounds), found.exact), (Some(&[0.1, 5.0][..]), true));
        assert_eq!(found.list(Part::Counts), Some(&[3.0, 2.0, 1.0][..]));
        let found = read(
            r#"{"scale":-3,"zero_count":7,"positive":{"offset":4,"counts":[1,2]},"negative":{"offset":0,"counts":[]}}"#,
            "",
        );
        assert_eq!((found.number(Part::Scale), found.number(Part::ZeroCount)), (Some(-3.0), Some(7.0)));
        assert_eq!(found.number(Part::PositiveOffset), Some(4.0));
        assert_eq!(found.list(Part::NegativeCounts), Some(&[][..]));
        let found = read("", r#"[{"quantile":0.5,"value":2},{"quantile":1.0,"value":3.5}]"#);
        assert_eq!(found.list(Part::QuantileValues), Some(&[2.0, 3.5][..]));
        assert!(found.exact);
    }

    #[test]
    fn what_lists_can_not_say_is_noticed() {
        for text in [
            r#"{"bounds":[{"$f":"NaN"}]}"#,
            r#"{"counts":[9007199254740993]}"#,
            r#"{"counts":[18446744073709551615]}"#,
            r#"{"other":1}"#,
            "[",
            "nonsense",
        ] {
            assert!(!read(text, "").exact, "{text}");
        }
    }
}
