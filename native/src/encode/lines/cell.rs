//! Columns of one batch, read row by row.

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array,
    cast::AsArray,
    types::{
        Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
        UInt64Type,
    },
};
use arrow_schema::{DataType, TimeUnit};
use base64::{Engine, engine::general_purpose::STANDARD};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::text::{put_json, put_within};
use crate::{
    decode::any_value::special,
    encode::{store::StoredMap, texts::Texts},
    schema::{Col, Kind},
};

const NS_PER_DAY: i64 = 86_400 * 1_000_000_000;

/// A column in the form that it is read from.
pub enum Cell<'a> {
    Text(Texts<'a>),
    /// JSON texts.
    Json(Texts<'a>),
    Bytes(&'a BinaryArray),
    Int(Int64Array),
    Double(Float64Array),
    Bool(&'a BooleanArray),
    /// Nanoseconds since 1970-01-01 UTC.
    Time(Int64Array),
    Uuid(&'a FixedSizeBinaryArray),
    Map(StoredMap<'a>),
}

impl<'a> Cell<'a> {
    /// None for a type that lines can not say.
    pub fn of(name: &str, array: &'a ArrayRef) -> Option<Cell<'a>> {
        let json = Col::from_name(name).is_some_and(|col| col.kind() == Kind::Json);
        macro_rules! numbers {
            ($type:ty, $make:expr) => {
                array.as_primitive::<$type>().unary($make)
            };
        }
        Some(match array.data_type() {
            DataType::Utf8 | DataType::Dictionary(..) if json => Cell::Json(Texts::of(array)?),
            DataType::Utf8 | DataType::Dictionary(..) => Cell::Text(Texts::of(array)?),
            DataType::Binary => Cell::Bytes(array.as_binary_opt()?),
            DataType::Boolean => Cell::Bool(array.as_boolean_opt()?),
            DataType::FixedSizeBinary(16) => Cell::Uuid(array.as_fixed_size_binary_opt()?),
            DataType::Map(..) => Cell::Map(StoredMap::of(array)?),
            DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().clone()),
            DataType::Int32 => Cell::Int(numbers!(Int32Type, i64::from)),
            DataType::Int16 => Cell::Int(numbers!(Int16Type, i64::from)),
            DataType::Int8 => Cell::Int(numbers!(Int8Type, i64::from)),
            DataType::UInt64 => {
                Cell::Int(array.as_primitive::<UInt64Type>().unary_opt(|number| i64::try_from(number).ok()))
            }
            DataType::UInt32 => Cell::Int(numbers!(UInt32Type, i64::from)),
            DataType::UInt16 => Cell::Int(numbers!(UInt16Type, i64::from)),
            DataType::UInt8 => Cell::Int(numbers!(UInt8Type, i64::from)),
            DataType::Float64 => Cell::Double(array.as_primitive::<Float64Type>().clone()),
            DataType::Float32 => Cell::Double(numbers!(Float32Type, f64::from)),
            DataType::Date32 => Cell::Time(numbers!(Date32Type, |day| i64::from(day) * NS_PER_DAY)),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Cell::Time(numbers!(TimestampNanosecondType, std::convert::identity))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Cell::Time(numbers!(TimestampMicrosecondType, |time| time.saturating_mul(1_000)))
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Cell::Time(numbers!(TimestampMillisecondType, |time| time.saturating_mul(1_000_000)))
            }
            DataType::Timestamp(TimeUnit::Second, _) => {
                Cell::Time(numbers!(TimestampSecondType, |time| time.saturating_mul(1_000_000_000)))
            }
            _ => return None,
        })
    }

    /// How many distinct texts there are to remember, where a dictionary says it.
    pub fn slots(&self) -> Option<usize> {
        match self {
            Cell::Text(texts) | Cell::Json(texts) => texts.slots(),
            _ => None,
        }
    }

    /// What it is called in errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Cell::Text(_) | Cell::Json(_) => "text",
            Cell::Bytes(_) => "bytes",
            Cell::Int(_) => "an integer",
            Cell::Double(_) => "a double",
            Cell::Bool(_) => "a boolean",
            Cell::Time(_) => "a time",
            Cell::Uuid(_) => "a UUID",
            Cell::Map(_) => "a map",
        }
    }

    /// Whether the row has no value: null, or empty.
    #[inline]
    pub fn is_absent(&self, row: usize) -> bool {
        match self {
            Cell::Text(texts) | Cell::Json(texts) => texts.at(row).is_empty(),
            Cell::Bytes(bytes) => bytes.is_null(row) || bytes.value(row).is_empty(),
            Cell::Int(numbers) | Cell::Time(numbers) => numbers.is_null(row),
            Cell::Double(numbers) => numbers.is_null(row),
            Cell::Bool(bools) => bools.is_null(row),
            Cell::Uuid(ids) => ids.is_null(row),
            Cell::Map(map) => map.entries(row).is_empty(),
        }
    }

    /// Whether two rows are known to have the same value; what is not known is no.
    #[inline]
    pub fn same(&self, row: usize, other: usize) -> bool {
        match self {
            Cell::Text(texts) | Cell::Json(texts) => {
                (texts.slots().is_some()
                    && texts.is_valid(row)
                    && texts.is_valid(other)
                    && texts.slot(row) == texts.slot(other))
                    || texts.at(row) == texts.at(other)
            }
            Cell::Int(numbers) | Cell::Time(numbers) => {
                numbers.is_null(row) == numbers.is_null(other) && numbers.value(row) == numbers.value(other)
            }
            Cell::Bool(bools) => bools.is_null(row) == bools.is_null(other) && bools.value(row) == bools.value(other),
            _ => self.is_absent(row) && self.is_absent(other),
        }
    }

    /// The value as text, for columns of text; false where there is none.
    pub fn text<'b>(&'b self, row: usize, scratch: &'b mut Vec<u8>) -> &'b [u8] {
        if self.is_absent(row) {
            return b"";
        }
        scratch.clear();
        match self {
            Cell::Text(texts) | Cell::Json(texts) => return texts.at(row),
            Cell::Bytes(bytes) => {
                scratch.resize(bytes.value(row).len() * 4 / 3 + 4, 0);
                let length = STANDARD.encode_slice(bytes.value(row), scratch).expect("there is room");
                scratch.truncate(length);
            }
            Cell::Int(numbers) | Cell::Time(numbers) => {
                scratch.extend_from_slice(itoa::Buffer::new().format(numbers.value(row)).as_bytes());
            }
            Cell::Double(numbers) => put_double_text(scratch, numbers.value(row)),
            Cell::Bool(bools) => scratch.extend_from_slice(if bools.value(row) { b"true" } else { b"false" }),
            Cell::Uuid(ids) => put_uuid(scratch, ids.value(row)),
            Cell::Map(_) => {}
        }
        scratch
    }

    /// The value as JSON within a string.
    pub fn put_json(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Cell::Json(texts) if texts.at(row).first().is_some_and(|byte| matches!(byte, b'{' | b'[')) => {
                put_within(out, texts.at(row));
            }
            Cell::Text(texts) | Cell::Json(texts) => put_json(out, texts.at(row)),
            Cell::Double(numbers) if !numbers.value(row).is_finite() => {
                put_json(out, special(numbers.value(row)).as_bytes());
            }
            Cell::Int(_) | Cell::Time(_) | Cell::Double(_) | Cell::Bool(_) => {
                let mut scratch = Vec::new();
                out.extend_from_slice(self.text(row, &mut scratch));
            }
            Cell::Bytes(_) | Cell::Uuid(_) => {
                let mut scratch = Vec::new();
                put_json(out, self.text(row, &mut scratch));
            }
            Cell::Map(map) => {
                out.push(b'{');
                let mut first = true;
                for entry in map.entries(row) {
                    member(out, &mut first, map.keys.at(entry));
                    put_json(out, map.values.at(entry));
                }
                if let Some(types) = map.types(row) {
                    member(out, &mut first, crate::encode::store::TYPES_KEY.as_bytes());
                    put_json(out, types);
                }
                out.push(b'}');
            }
        }
    }

    /// A hash of the row's value; 0 where there is none. It names rows in stores: it must stay as it is.
    pub fn hash(&self, row: usize, seed: u64) -> u64 {
        if self.is_absent(row) {
            return 0;
        }
        match self {
            Cell::Text(texts) | Cell::Json(texts) => xxh3_64_with_seed(texts.at(row), seed),
            Cell::Bytes(bytes) => xxh3_64_with_seed(bytes.value(row), seed),
            Cell::Int(numbers) | Cell::Time(numbers) => xxh3_64_with_seed(&numbers.value(row).to_le_bytes(), seed),
            Cell::Double(numbers) => xxh3_64_with_seed(&numbers.value(row).to_bits().to_le_bytes(), seed),
            Cell::Bool(bools) => xxh3_64_with_seed(&[u8::from(bools.value(row))], seed),
            Cell::Uuid(ids) => xxh3_64_with_seed(ids.value(row), seed),
            // A sum, because the order of attributes means nothing.
            Cell::Map(map) => map.entries(row).fold(0, |sum: u64, entry| {
                let key = xxh3_64_with_seed(map.keys.at(entry), seed);
                sum.wrapping_add(xxh3_64_with_seed(map.values.at(entry), key))
            }),
        }
    }
}

/// A member's key, and what stands before it.
pub fn member(out: &mut Vec<u8>, first: &mut bool, key: &[u8]) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    put_json(out, key);
    out.push(b':');
}

fn put_double_text(out: &mut Vec<u8>, value: f64) {
    match value.is_finite() {
        true => out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes()),
        false => out.extend_from_slice(special(value).as_bytes()),
    }
}

pub fn put_uuid(out: &mut Vec<u8>, id: &[u8]) {
    let mut digits = [0u8; 32];
    if faster_hex::hex_encode(id, &mut digits).is_ok() {
        for (at, digit) in digits.iter().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                out.push(b'-');
            }
            out.push(*digit);
        }
    }
}
