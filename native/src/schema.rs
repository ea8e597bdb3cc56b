//! The unified event's columns, generated from `colonnade/unified_schema/unified_schema.csv`.
//!
//! A batch in flight holds only the columns that it uses. Text is never null (empty means absent); numbers, booleans
//! and times are nullable.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use hashbrown::HashMap;

include!(concat!(env!("OUT_DIR"), "/columns.rs"));

/// The number of columns, internal ones included.
pub const COLUMN_COUNT: usize = COLUMNS.len();

/// How a column is held in flight (architecture 3, specification 10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 16 bytes, big-endian.
    Uuid,
    /// `Dictionary(Int32, Utf8)`.
    LcString,
    /// `Utf8`.
    String,
    /// `Timestamp(ns, "UTC")`.
    TimestampNs,
    Int64,
    Int32,
    UInt32,
    UInt16,
    UInt8,
    Float64,
    Bool,
    Date32,
    /// JSON text: `Utf8`, but `context` is `Dictionary(Int32, Utf8)`, because it repeats.
    Json,
    /// `Map<Utf8, Struct<kind: UInt8, text: Utf8>>`; the kinds are [`ValueKind`].
    MapAny,
    /// `Map<Utf8, Utf8>`.
    MapString,
    /// `Binary`.
    Bytes,
}

/// The OTLP type of an attribute's value, `kind` in the `attributes` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueKind {
    /// An `AnyValue` with nothing set; its text is empty.
    Empty = 0,
    String = 1,
    /// Text `true` or `false`.
    Bool = 2,
    /// Decimal text.
    Int = 3,
    /// Shortest text that reads back the same; `NaN`, `Infinity`, `-Infinity`.
    Double = 4,
    /// JSON text of an array (see `decode::any_value` for the spelling of bytes and doubles inside).
    Array = 5,
    /// JSON text of an object, in the order of the wire.
    KvList = 6,
    /// Base64 text (standard alphabet, padded).
    Bytes = 7,
}

impl ValueKind {
    pub fn from_number(number: u8) -> Option<ValueKind> {
        use ValueKind::{Array, Bool, Bytes, Double, Empty, Int, KvList, String};
        [Empty, String, Bool, Int, Double, Array, KvList, Bytes].get(usize::from(number)).copied()
    }
}

/// One row of the table of columns.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    pub group: &'static str,
    pub kind: Kind,
    /// Whether the specification allows the value to be absent (1.3).
    pub nullable: bool,
}

impl Col {
    /// The column with this position, 0 to 171.
    pub fn from_index(index: usize) -> Option<Col> {
        // SAFETY: `Col` is `repr(u8)` with the discriminants 0..COLUMN_COUNT, one per entry of `COLUMNS`.
        (index < COLUMN_COUNT).then(|| unsafe { std::mem::transmute::<u8, Col>(index as u8) })
    }

    /// The column of this name.
    pub fn from_name(name: &str) -> Option<Col> {
        static BY_NAME: LazyLock<HashMap<&'static str, Col>> =
            LazyLock::new(|| Col::all().map(|c| (c.name(), c)).collect());
        BY_NAME.get(name).copied()
    }

    /// Every column, in the table's order.
    pub fn all() -> impl Iterator<Item = Col> {
        (0..COLUMN_COUNT).filter_map(Col::from_index)
    }

    pub fn column(self) -> &'static Column {
        &COLUMNS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.column().name
    }

    pub fn kind(self) -> Kind {
        self.column().kind
    }

    /// The Arrow type in flight.
    pub fn data_type(self) -> DataType {
        match (self, self.kind()) {
            (Col::Context, _) | (_, Kind::LcString) => dictionary(),
            (_, Kind::Uuid) => DataType::FixedSizeBinary(16),
            (_, Kind::String | Kind::Json) => DataType::Utf8,
            (_, Kind::TimestampNs) => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            (_, Kind::Int64) => DataType::Int64,
            (_, Kind::Int32) => DataType::Int32,
            (_, Kind::UInt32) => DataType::UInt32,
            (_, Kind::UInt16) => DataType::UInt16,
            (_, Kind::UInt8) => DataType::UInt8,
            (_, Kind::Float64) => DataType::Float64,
            (_, Kind::Bool) => DataType::Boolean,
            (_, Kind::Date32) => DataType::Date32,
            (_, Kind::MapAny) => map(DataType::Struct(any_fields())),
            (_, Kind::MapString) => map(DataType::Utf8),
            (_, Kind::Bytes) => DataType::Binary,
        }
    }

    /// The Arrow field in flight: nullable only for numbers, booleans and times.
    pub fn field(self) -> FieldRef {
        static FIELDS: LazyLock<Vec<FieldRef>> = LazyLock::new(|| {
            Col::all().map(|c| Arc::new(Field::new(c.name(), c.data_type(), c.holds_nulls()))).collect()
        });
        FIELDS[self as usize].clone()
    }

    /// Whether the column has a validity bitmap in flight.
    pub fn holds_nulls(self) -> bool {
        matches!(
            self.kind(),
            Kind::TimestampNs
                | Kind::Int64
                | Kind::Int32
                | Kind::UInt32
                | Kind::UInt16
                | Kind::UInt8
                | Kind::Float64
                | Kind::Bool
        )
    }
}

/// The type of low-cardinality text.
pub fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The fields of a typed attribute value.
pub fn any_fields() -> Fields {
    Fields::from(vec![Field::new("kind", DataType::UInt8, false), Field::new("text", DataType::Utf8, false)])
}

fn map(value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", value, false)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_172_columns_of_which_165_are_event_columns() {
        assert_eq!(COLUMN_COUNT, 172);
        assert_eq!(Col::all().filter(|c| c.column().group != "PartitionInternal").count(), 165);
    }

    #[test]
    fn every_column_is_found_by_its_name() {
        assert!(Col::all().all(|c| Col::from_name(c.name()) == Some(c)));
        assert_eq!(Col::from_index(COLUMN_COUNT), None);
    }
}
