//! The types of ClickHouse that this crate writes, and which of them an Arrow column is sent as.

use std::fmt;

use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};

use super::{EncodeError, Result};

/// A type on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
    Bool,
    Uuid,
    /// Days, two bytes: 1970-01-01 to 2149-06-06.
    Date,
    /// Days, four bytes.
    Date32,
    /// Ticks of nanoseconds in a time zone (empty: the server's).
    DateTime64Ns(String),
    Nullable(Box<Type>),
    LowCardinality(Box<Type>),
    Map(Box<Type>, Box<Type>),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Uuid => f.write_str("UUID"),
            Type::DateTime64Ns(zone) if zone.is_empty() => f.write_str("DateTime64(9)"),
            Type::DateTime64Ns(zone) => write!(f, "DateTime64(9, '{zone}')"),
            Type::Nullable(inner) => write!(f, "Nullable({inner})"),
            Type::LowCardinality(inner) => write!(f, "LowCardinality({inner})"),
            Type::Map(key, value) => write!(f, "Map({key}, {value})"),
            plain => write!(f, "{plain:?}"),
        }
    }
}

impl Type {
    /// The type of this text, or `None` where this crate does not write it.
    pub fn parse(text: &str) -> Option<Type> {
        let text = text.trim();
        let Some((name, inner)) = text.split_once('(').and_then(|(n, rest)| Some((n, rest.strip_suffix(')')?))) else {
            return Type::plain(text);
        };
        match name {
            "Nullable" => Some(Type::Nullable(Box::new(Type::parse(inner)?))),
            "LowCardinality" => Some(Type::LowCardinality(Box::new(Type::parse(inner)?))),
            "Map" => {
                let (key, value) = inner.split_at(top_level_comma(inner)?);
                Some(Type::Map(Box::new(Type::parse(key)?), Box::new(Type::parse(&value[1..])?)))
            }
            "DateTime64" => {
                let (scale, zone) = inner.split_once(',').unwrap_or((inner, ""));
                let zone = zone.trim().trim_matches('\'').to_owned();
                (scale.trim() == "9").then_some(Type::DateTime64Ns(zone))
            }
            _ => None,
        }
    }

    fn plain(name: &str) -> Option<Type> {
        Some(match name {
            "String" => Type::String,
            "Int8" => Type::Int8,
            "Int16" => Type::Int16,
            "Int32" => Type::Int32,
            "Int64" => Type::Int64,
            "UInt8" => Type::UInt8,
            "UInt16" => Type::UInt16,
            "UInt32" => Type::UInt32,
            "UInt64" => Type::UInt64,
            "Float32" => Type::Float32,
            "Float64" => Type::Float64,
            "Bool" => Type::Bool,
            "UUID" => Type::Uuid,
            "Date" => Type::Date,
            "Date32" => Type::Date32,
            _ => return None,
        })
    }

    /// The type without `LowCardinality` and `Nullable`.
    fn core(&self) -> &Type {
        match self {
            Type::LowCardinality(inner) | Type::Nullable(inner) => inner.core(),
            plain => plain,
        }
    }
}

/// Where a map's key type ends.
fn top_level_comma(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.bytes().position(|byte| {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        byte == b',' && depth == 0
    })
}

/// What the column is sent as: the table's own type where it fits the arrays, else one that the server can cast.
pub(super) fn wire<'a>(name: &str, declared: &str, arrays: impl Iterator<Item = &'a ArrayRef>) -> Result<Type> {
    let mut natural: Option<Type> = None;
    let mut nulls = false;
    for array in arrays {
        let own = natural_type(array.data_type()).ok_or_else(|| {
            EncodeError::new("unexpected_type", name, format!("{} has no ClickHouse type here", array.data_type()))
        })?;
        nulls |= array.null_count() > 0;
        match &natural {
            Some(known) if *known != own => {
                let message = format!("batches disagree: one holds {known}, another {own}");
                return Err(EncodeError::new("unexpected_type", name, message));
            }
            _ => natural = Some(own),
        }
    }
    let natural = natural.ok_or_else(|| EncodeError::new("no_columns", name, "no batch has it"))?;
    if let Some(declared) = Type::parse(declared)
        && fits(&natural, &declared)
    {
        return Ok(declared);
    }
    Ok(if nulls { Type::Nullable(Box::new(natural)) } else { natural })
}

/// Whether values of `natural` can be written as `declared` without a conversion that this crate does not do.
fn fits(natural: &Type, declared: &Type) -> bool {
    match (natural, declared) {
        (Type::Map(..), Type::Map(key, value)) => {
            [key, value].into_iter().all(|t| matches!(**t, Type::String) || **t == low_cardinality_string())
        }
        (_, Type::Map(..)) => false,
        (Type::String, declared) => *declared.core() == Type::String && !deep(declared),
        (_, Type::LowCardinality(_)) => false,
        (Type::DateTime64Ns(_), declared) => matches!(declared.core(), Type::DateTime64Ns(_)),
        (Type::Date32, declared) => matches!(declared.core(), Type::Date | Type::Date32),
        (natural, declared) => natural == declared.core(),
    }
}

fn low_cardinality_string() -> Type {
    Type::LowCardinality(Box::new(Type::String))
}

/// `Nullable(LowCardinality(..))` and the like, which ClickHouse does not have.
fn deep(declared: &Type) -> bool {
    matches!(declared, Type::Nullable(inner) if !matches!(**inner, Type::String))
        || matches!(declared, Type::LowCardinality(inner) if matches!(**inner, Type::LowCardinality(_)))
}

fn natural_type(data_type: &DataType) -> Option<Type> {
    Some(match data_type {
        DataType::Utf8 | DataType::Binary => Type::String,
        DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => Type::String,
        DataType::FixedSizeBinary(16) => Type::Uuid,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Type::DateTime64Ns("UTC".to_owned()),
        DataType::Int8 => Type::Int8,
        DataType::Int16 => Type::Int16,
        DataType::Int32 => Type::Int32,
        DataType::Int64 => Type::Int64,
        DataType::UInt8 => Type::UInt8,
        DataType::UInt16 => Type::UInt16,
        DataType::UInt32 => Type::UInt32,
        DataType::UInt64 => Type::UInt64,
        DataType::Float32 => Type::Float32,
        DataType::Float64 => Type::Float64,
        DataType::Boolean => Type::Bool,
        DataType::Date32 => Type::Date32,
        DataType::Map(..) => Type::Map(Box::new(low_cardinality_string()), Box::new(Type::String)),
        _ => return None,
    })
}
