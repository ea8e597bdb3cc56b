//! Metric points (specification 3.3, read backwards).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    EncodeError, Result, Row,
    requests::{Group, Groups},
    rows::{Doubles, Get, Numbers, Text},
    value::{self, double, key_value, list, object, whole},
};
use crate::{
    batch::Batch,
    decode::{json::reader::Reader, reserved},
    protobuf::Writer,
    schema::Col,
};

/// What `Metric.data` is; the numbers are its fields.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Gauge = 5,
    Sum = 7,
    Histogram = 9,
    Exponential = 10,
    Summary = 11,
}

impl Kind {
    /// Whether a sum is monotonic is told by its word, too.
    fn of(word: &str) -> Result<(Kind, bool)> {
        Ok(match word {
            "gauge" => (Kind::Gauge, false),
            "counter" => (Kind::Sum, true),
            "updown_counter" => (Kind::Sum, false),
            "histogram" => (Kind::Histogram, false),
            "exponential_histogram" => (Kind::Exponential, false),
            "summary" => (Kind::Summary, false),
            _ => {
                let message = format!("{word:?} is no kind of metric that OTLP has");
                return Err(EncodeError::new("malformed", Col::MetricType.name(), message));
            }
        })
    }
}

pub struct Points {
    name: Text,
    unit: Text,
    word: Text,
    value: Option<Doubles>,
    count: Option<Numbers>,
    sum: Option<Doubles>,
    min: Option<Doubles>,
    max: Option<Doubles>,
    buckets: Text,
    quantiles: Text,
    started: Option<Numbers>,
    timestamp: Option<Numbers>,
    data: Text,
    /// Scope, identity and number of the last point's metric: mostly also the next one's.
    last: Option<(u32, Vec<u8>, u32)>,
}

impl Points {
    pub fn of(batch: &Batch) -> Result<Points> {
        Ok(Points {
            name: Text::column(batch, Col::MetricName)?,
            unit: Text::column(batch, Col::MetricUnit)?,
            word: Text::column(batch, Col::MetricType)?,
            value: Doubles::column(batch, Col::MetricValue)?,
            count: Numbers::column(batch, Col::MetricCount)?,
            sum: Doubles::column(batch, Col::MetricSum)?,
            min: Doubles::column(batch, Col::MetricMin)?,
            max: Doubles::column(batch, Col::MetricMax)?,
            buckets: Text::column(batch, Col::MetricBuckets)?,
            quantiles: Text::column(batch, Col::MetricQuantiles)?,
            started: Numbers::column(batch, Col::StartedAt)?,
            timestamp: Numbers::column(batch, Col::Timestamp)?,
            data: Text::column(batch, Col::Data)?,
            last: None,
        })
    }

    /// The metric of a row: everything that a scope's points of one metric share.
    pub fn metric(&mut self, row: &Row, scope: u32, groups: &mut Groups) -> Result<u32> {
        let (at, own) = (row.at, row.attributes);
        let (name, unit, word) = (self.name.get(at), self.unit.get(at), self.word.get(at));
        let description = own.note(reserved::DESCRIPTION).unwrap_or_default();
        let metadata = own.note(reserved::METADATA).unwrap_or_default();
        let temporality = row.labels.note(reserved::TEMPORALITY).or(own.note(reserved::UNKNOWN_TEMPORALITY));
        // No text holds the byte 0xff.
        let parts = [name, unit, word, description, metadata, temporality.unwrap_or_default()].map(str::as_bytes);
        let identity = parts.join(&0xff);
        if let Some((last_scope, last, metric)) = &self.last
            && *last_scope == scope
            && *last == identity
        {
            return Ok(*metric);
        }
        let (kind, monotonic) = Kind::of(word)?;
        let (mut head, mut tail, mut data) = (Writer::default(), Writer::default(), Writer::default());
        head.text(1, name);
        head.text(2, description);
        head.text(3, unit);
        if !metadata.is_empty() {
            value::parse(metadata, |reader, key| value::pair(reader, &mut tail, 12, key))
                .map_err(EncodeError::of(Col::Attributes))?;
        }
        if !matches!(kind, Kind::Gauge | Kind::Summary) {
            data.number(2, self::temporality(row)? as i64 as u64);
        }
        data.number(3, u64::from(monotonic));
        let make = || Group::metric(head.out, tail.out, kind as u32, data.out);
        let metric = groups.metrics.add(scope, identity.clone(), make);
        self.last = Some((scope, identity, metric));
        Ok(metric)
    }

    pub fn write(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        let (kind, _) = Kind::of(self.word.get(row.at))?;
        let point = writer.begin(1);
        unrecorded(writer, row)?;
        match kind {
            Kind::Gauge | Kind::Sum => self.number(writer, row)?,
            Kind::Histogram => self.histogram(writer, row)?,
            Kind::Exponential => self.exponential(writer, row)?,
            Kind::Summary => self.summary(writer, row)?,
        }
        writer.end(point);
        Ok(())
    }

    fn times(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        for (number, times, key) in [(2, &self.started, reserved::START_TIME), (3, &self.timestamp, reserved::TIME)] {
            let time = row.attributes.number(key)?;
            writer.fixed64(number, time.unwrap_or_else(|| times.get(row.at).unwrap_or_default() as u64));
        }
        Ok(())
    }

    /// An attribute that somebody added beside the labels is the point's too.
    fn attributes(&self, writer: &mut Writer, number: u32, row: &Row) {
        let labels = &row.labels.entries;
        labels.iter().for_each(|entry| key_value(writer, number, entry));
        for entry in &row.attributes.entries {
            if labels.iter().all(|label| label.key != entry.key) {
                key_value(writer, number, entry);
            }
        }
    }

    fn flags(&self, writer: &mut Writer, number: u32, row: &Row) -> Result<()> {
        writer.number(number, row.attributes.number_or_zero::<u32>(reserved::FLAGS)?.into());
        Ok(())
    }

    fn exemplars(&self, writer: &mut Writer, number: u32, row: &Row) -> Result<()> {
        let json = self.data.get(row.at);
        if json.is_empty() {
            return Ok(());
        }
        let read = value::parse(json, |reader, key| match key {
            "exemplars" => list(reader, |reader| exemplar(reader, writer, number)),
            _ => reader.skip(),
        });
        read.map_err(EncodeError::of(Col::Data))
    }

    fn number(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        let integer: Option<i64> = row.attributes.number(reserved::AS_INT)?;
        self.times(writer, row)?;
        if let Some(value) = self.value.get(row.at).filter(|_| integer.is_none()) {
            writer.double(4, value);
        }
        self.exemplars(writer, 5, row)?;
        if let Some(value) = integer {
            writer.fixed64_always(6, value as u64);
        }
        self.attributes(writer, 7, row);
        self.flags(writer, 8, row)
    }

    fn count(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        let beyond = row.attributes.number(reserved::COUNT)?;
        writer.fixed64(4, beyond.unwrap_or_else(|| self.count.get(row.at).unwrap_or_default() as u64));
        Ok(())
    }

    /// An optional double: zero is a value.
    fn optional(writer: &mut Writer, number: u32, values: &Option<Doubles>, row: &Row) {
        if let Some(value) = values.get(row.at) {
            writer.double(number, value);
        }
    }

    fn histogram(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        self.times(writer, row)?;
        self.count(writer, row)?;
        Self::optional(writer, 5, &self.sum, row);
        let json = self.buckets.get(row.at);
        if !json.is_empty() {
            buckets(writer, json).map_err(EncodeError::of(Col::MetricBuckets))?;
        }
        self.exemplars(writer, 8, row)?;
        self.attributes(writer, 9, row);
        self.flags(writer, 10, row)?;
        Self::optional(writer, 11, &self.min, row);
        Self::optional(writer, 12, &self.max, row);
        Ok(())
    }

    fn exponential(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        self.attributes(writer, 1, row);
        self.times(writer, row)?;
        self.count(writer, row)?;
        Self::optional(writer, 5, &self.sum, row);
        let json = self.buckets.get(row.at);
        if !json.is_empty() {
            exponential_buckets(writer, json).map_err(EncodeError::of(Col::MetricBuckets))?;
        }
        self.flags(writer, 10, row)?;
        self.exemplars(writer, 11, row)?;
        Self::optional(writer, 12, &self.min, row);
        Self::optional(writer, 13, &self.max, row);
        Ok(())
    }

    fn summary(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        self.times(writer, row)?;
        self.count(writer, row)?;
        writer.fixed64(5, self.sum.get(row.at).unwrap_or_default().to_bits());
        let json = self.quantiles.get(row.at);
        if !json.is_empty() {
            quantiles(writer, json).map_err(EncodeError::of(Col::MetricQuantiles))?;
        }
        self.attributes(writer, 7, row);
        self.flags(writer, 8, row)
    }
}

/// The fields of values that a point without a recorded value came with.
fn unrecorded(writer: &mut Writer, row: &Row) -> Result<()> {
    let Some(text) = row.attributes.note(reserved::UNRECORDED) else { return Ok(()) };
    let fields = STANDARD.decode(text).map_err(|error| {
        let message = format!("{} is not Base64: {error}", reserved::UNRECORDED);
        EncodeError::new("malformed", Col::Attributes.name(), message)
    })?;
    writer.out.extend_from_slice(&fields);
    Ok(())
}

fn temporality(row: &Row) -> Result<i32> {
    match row.labels.note(reserved::TEMPORALITY) {
        Some(word) => {
            let known = reserved::TEMPORALITIES.iter().position(|known| *known == word);
            Ok(known.unwrap_or_default() as i32)
        }
        None => row.attributes.number_or_zero(reserved::UNKNOWN_TEMPORALITY),
    }
}

fn exemplar(reader: &mut Reader, writer: &mut Writer, number: u32) -> value::Result<()> {
    let exemplar = writer.begin(number);
    object(reader, |reader, key| {
        match key {
            "time_ns" => writer.fixed64(2, whole(reader)?),
            "value" if reader.peek()? == b'{' || value::is_double(reader)? => writer.double(3, double(reader)?),
            "value" => writer.fixed64_always(6, whole::<i64>(reader)? as u64),
            "trace_id" => value::id(reader, writer, 5)?,
            "span_id" => value::id(reader, writer, 4)?,
            "attributes" => value::attributes(reader, writer, 7)?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    writer.end(exemplar);
    Ok(())
}

fn buckets(writer: &mut Writer, json: &str) -> value::Result<()> {
    value::parse(json, |reader, key| {
        let number = match key {
            "bounds" => 7,
            "counts" => 6,
            _ => return reader.skip(),
        };
        let packed = writer.begin(number);
        list(reader, |reader| {
            let bits = if number == 7 { double(reader)?.to_bits() } else { whole(reader)? };
            writer.out.extend_from_slice(&bits.to_le_bytes());
            Ok(())
        })?;
        writer.end_unless_empty(packed);
        Ok(())
    })
}

fn exponential_buckets(writer: &mut Writer, json: &str) -> value::Result<()> {
    value::parse(json, |reader, key| {
        match key {
            "scale" => writer.signed(6, whole(reader)?),
            "zero_count" => writer.fixed64(7, whole(reader)?),
            "positive" => side(reader, writer, 8)?,
            "negative" => side(reader, writer, 9)?,
            "zero_threshold" => writer.fixed64(14, double(reader)?.to_bits()),
            _ => reader.skip()?,
        }
        Ok(())
    })
}

/// The buckets on one side of zero.
fn side(reader: &mut Reader, writer: &mut Writer, number: u32) -> value::Result<()> {
    let side = writer.begin(number);
    object(reader, |reader, key| {
        match key {
            "offset" => writer.signed(1, whole(reader)?),
            "counts" => {
                let packed = writer.begin(2);
                list(reader, |reader| {
                    writer.varint(whole(reader)?);
                    Ok(())
                })?;
                writer.end_unless_empty(packed);
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    writer.end_unless_empty(side);
    Ok(())
}

fn quantiles(writer: &mut Writer, json: &str) -> value::Result<()> {
    let mut reader = Reader::new(json.as_bytes())?;
    list(&mut reader, |reader| {
        let quantile = writer.begin(6);
        object(reader, |reader, key| {
            match key {
                "quantile" => writer.fixed64(1, double(reader)?.to_bits()),
                "value" => writer.fixed64(2, double(reader)?.to_bits()),
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        writer.end(quantile);
        Ok(())
    })?;
    reader.finish()
}
