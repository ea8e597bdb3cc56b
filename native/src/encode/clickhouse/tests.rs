use std::sync::Arc;

use arrow_array::{
    Array, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, MapArray, StringArray, StructArray,
    TimestampNanosecondArray, UInt8Array,
    cast::AsArray,
    types::{Int32Type, TimestampNanosecondType},
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};

use super::*;
use crate::{
    batch::{Run, Signal, record_batch},
    schema::any_fields,
    select,
};

const DAY: i64 = 86_400_000_000_000;

fn batch(columns: Vec<(&str, ArrayRef)>) -> Batch {
    let rows = columns[0].1.len();
    let fields = columns.iter().map(|(n, a)| Arc::new(Field::new(*n, a.data_type().clone(), true))).collect();
    let columns = record_batch(fields, columns.into_iter().map(|(_, a)| a).collect(), rows).unwrap();
    Batch { signal: Signal::Traces, columns, runs: vec![Run { rows, source: Arc::default() }], completed: true }
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn dictionary(values: &[&str]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<DictionaryArray<Int32Type>>())
}

fn times(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(values.to_vec()).with_timezone("UTC"))
}

fn encode(batches: &[Batch], table: &[(&str, &str)]) -> Vec<Block> {
    let table: Vec<_> = table.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    encode_native(batches, &table, &NativeOptions::default()).unwrap()
}

/// Counts, then name and type of the first column; gives what follows.
fn data<'a>(block: &'a Block, columns: u8, name: &str, type_name: &str) -> &'a [u8] {
    let head = [&[columns, block.rows as u8, name.len() as u8], name.as_bytes(), &[type_name.len() as u8]].concat();
    let head = [head, type_name.as_bytes().to_vec()].concat();
    assert!(block.bytes.starts_with(&head), "{:?}", String::from_utf8_lossy(&block.bytes));
    &block.bytes[head.len()..]
}

#[test]
fn types_read_back_as_they_are_written() {
    for text in [
        "String",
        "LowCardinality(String)",
        "LowCardinality(Nullable(String))",
        "Nullable(Float64)",
        "DateTime64(9, 'UTC')",
        "DateTime64(9)",
        "Map(LowCardinality(String), String)",
        "UUID",
    ] {
        assert_eq!(Type::parse(text).unwrap().to_string(), text);
    }
    for text in ["DateTime64(3)", "Array(String)", "Decimal(9, 2)", "Enum8('a' = 1)", "Map(String)", "", "Nullable("] {
        assert_eq!(Type::parse(text), None, "{text}");
    }
}

#[test]
fn rows_are_parted_by_day_and_sorted_by_the_key() {
    let first = batch(vec![
        ("service_name", dictionary(&["b", "a", "a"])),
        ("timestamp", times(&[DAY + 2, DAY + 1, 5])),
        ("trace_id", texts(&["third", "second", "first"])),
    ]);
    let second = batch(vec![("timestamp", times(&[DAY])), ("trace_id", texts(&["before all services"]))]);
    let blocks = encode(&[first, second], &[("trace_id", "String")]);
    assert_eq!(blocks.iter().map(|b| (b.day, b.rows)).collect::<Vec<_>>(), [(0, 1), (1, 3)]);
    assert_eq!(data(&blocks[0], 1, "trace_id", "String"), b"\x05first");
    assert_eq!(data(&blocks[1], 1, "trace_id", "String"), b"\x13before all services\x06second\x05third");
}

#[test]
fn the_five_minutes_come_before_the_service() {
    let rows = batch(vec![
        ("service_name", dictionary(&["a", "z", "a"])),
        ("timestamp", times(&[301_000_000_000, 299_000_000_000, 1])),
        ("trace_id", texts(&["3", "2", "1"])),
    ]);
    assert_eq!(data(&encode(&[rows], &[("trace_id", "String")])[0], 1, "trace_id", "String"), b"\x011\x012\x013");
}

#[test]
fn low_cardinality_keeps_one_dictionary_for_all_batches_and_only_what_is_used() {
    let one = batch(vec![("timestamp", times(&[1, 2])), ("ns", dictionary(&["x", "y"]))]);
    let two = batch(vec![("timestamp", times(&[3, 4])), ("ns", dictionary(&["y", ""]))]);
    let three = batch(vec![("timestamp", times(&[5]))]);
    let table = [("ns".to_owned(), "LowCardinality(String)".to_owned())];
    let options = NativeOptions { sort: false, ..NativeOptions::default() };
    let blocks = encode_native(&[one.slice(0, 2), two, three], &table, &options).unwrap();
    let mut expected = Vec::new();
    for number in [1u64, 0x600, 3] {
        expected.extend_from_slice(&number.to_le_bytes());
    }
    expected.extend_from_slice(b"\x00\x01x\x01y");
    expected.extend_from_slice(&5u64.to_le_bytes());
    expected.extend_from_slice(&[1, 2, 2, 0, 0]);
    assert_eq!(data(&blocks[0], 1, "ns", "LowCardinality(String)"), expected);
}

#[test]
fn nulls_are_marked_where_the_table_knows_them_and_zero_elsewhere() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
    let rows = batch(vec![("timestamp", times(&[1, 2])), ("duration_ms", values)]);
    let blocks = encode(std::slice::from_ref(&rows), &[("duration_ms", "Nullable(Float64)")]);
    let expected = [&[0, 1][..], &1f64.to_le_bytes(), &0f64.to_le_bytes()].concat();
    assert_eq!(data(&blocks[0], 1, "duration_ms", "Nullable(Float64)"), expected);
    let blocks = encode(&[rows], &[("duration_ms", "Float64")]);
    assert_eq!(data(&blocks[0], 1, "duration_ms", "Float64"), &expected[2..]);
}

#[test]
fn ids_are_two_numbers_and_slices_start_where_they_start() {
    let ids = [[0u8; 16], *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"].concat();
    let ids: ArrayRef = Arc::new(FixedSizeBinaryArray::new(16, ids.into(), None));
    let rows = batch(vec![("timestamp", times(&[1, 2])), ("id", ids)]).slice(1, 1);
    let expected = b"\x07\x06\x05\x04\x03\x02\x01\x00\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08";
    assert_eq!(data(&encode(&[rows], &[("id", "UUID")])[0], 1, "id", "UUID"), expected);
}

#[test]
fn typed_maps_become_text_with_their_kinds_beside_them() {
    let values = StructArray::new(any_fields(), vec![Arc::new(UInt8Array::from(vec![1, 3])), texts(&["x", "4"])], None);
    let DataType::Map(entries, _) = Col::Attributes.data_type() else { unreachable!() };
    let DataType::Struct(fields) = entries.data_type() else { unreachable!() };
    let pairs = StructArray::new(fields.clone(), vec![texts(&["a", "n"]), Arc::new(values)], None);
    let map = MapArray::new(entries.clone(), OffsetBuffer::from_lengths([2, 0]), pairs, None, false);
    let rows = batch(vec![("timestamp", times(&[1, 2])), ("attributes", Arc::new(map))]);
    let block = &encode(std::slice::from_ref(&rows), &[("attributes", "Map(String, String)")])[0];
    let expected =
        [&3u64.to_le_bytes()[..], &3u64.to_le_bytes(), b"\x01a\x01n\x0b$otlp.types\x01x\x014\x03n=3"].concat();
    assert_eq!(data(block, 1, "attributes", "Map(String, String)"), expected);
    let block = &encode(&[rows.slice(1, 1)], &[("attributes", "Map(LowCardinality(String), String)")])[0];
    let empty = [1u64.to_le_bytes(), 0u64.to_le_bytes()].concat();
    assert_eq!(data(block, 1, "attributes", "Map(LowCardinality(String), String)"), empty);
}

#[test]
fn what_does_not_fit_is_sent_in_a_type_that_the_server_casts() {
    let rows = batch(vec![("timestamp", times(&[1])), ("trace_id", texts(&["a"]))]);
    let blocks = encode(&[rows], &[("timestamp", "DateTime64(3)"), ("trace_id", "FixedString(32)")]);
    data(&blocks[0], 2, "timestamp", "DateTime64(9, 'UTC')");
    assert!(blocks[0].bytes.ends_with(b"\x08trace_id\x06String\x01a"));
}

#[test]
fn a_table_without_any_of_the_columns_is_an_error_and_no_rows_make_no_block() {
    let rows = batch(vec![("timestamp", times(&[1]))]);
    let table = [("other".to_owned(), "String".to_owned())];
    let error = encode_native(std::slice::from_ref(&rows), &table, &NativeOptions::default()).unwrap_err();
    assert_eq!(error.code, "no_columns");
    assert!(encode_native(&[rows.slice(0, 0)], &table, &NativeOptions::default()).unwrap().is_empty());
}

#[test]
fn a_column_of_the_wrong_type_is_named() {
    let rows = batch(vec![("timestamp", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]);
    let table = [("timestamp".to_owned(), "DateTime64(9)".to_owned())];
    let error = encode_native(&[rows], &table, &NativeOptions::default()).unwrap_err();
    assert_eq!((error.code, error.column.as_str()), ("unexpected_type", "timestamp"));
}

#[test]
fn concat_fills_what_a_batch_lacks_and_joins_dictionaries() {
    let one = batch(vec![("ns", dictionary(&["x", "y", "x"])), ("timestamp", times(&[1, 2, 3]))]);
    let two = batch(vec![("ns", dictionary(&["y", "z"])), ("trace_id", texts(&["a", "b"]))]);
    let all = select::concat(&[one.slice(1, 2), two]).unwrap();
    assert_eq!(all.rows(), 4);
    assert_eq!(
        all.columns.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(),
        ["ns", "trace_id", "timestamp"]
    );
    let ns = all.column(Col::Ns).unwrap().as_dictionary::<Int32Type>();
    let found: Vec<_> = ns.downcast_dict::<StringArray>().unwrap().into_iter().map(Option::unwrap).collect();
    assert_eq!((found, ns.values().len()), (vec!["y", "x", "y", "z"], 3));
    let traces: Vec<_> = all.column(Col::TraceId).unwrap().as_string::<i32>().iter().map(Option::unwrap).collect();
    assert_eq!(traces, ["", "", "a", "b"]);
    let times = all.column(Col::Timestamp).unwrap().as_primitive::<TimestampNanosecondType>();
    assert_eq!(times.iter().collect::<Vec<_>>(), [Some(2), Some(3), None, None]);
    assert_eq!(all.runs.iter().map(|r| r.rows).sum::<usize>(), 4);
}

#[test]
fn every_column_has_an_empty_value_for_concat() {
    for col in Col::all() {
        let array = select::empty(&col.data_type(), 3);
        assert_eq!((array.len(), array.data_type()), (3, &col.data_type()), "{}", col.name());
        assert!(col.holds_nulls() || matches!(col.data_type(), DataType::Date32) || array.null_count() == 0);
    }
}

#[test]
fn take_keeps_the_order_asked_for_and_the_sources() {
    let one = batch(vec![("trace_id", texts(&["a", "b"]))]);
    let all = select::concat(&[one.clone(), one]).unwrap();
    let chosen = select::take(&all, &[3, 0, 1]).unwrap();
    let found: Vec<_> = chosen.column(Col::TraceId).unwrap().as_string::<i32>().iter().map(Option::unwrap).collect();
    assert_eq!(found, ["b", "a", "b"]);
    assert_eq!(chosen.runs.iter().map(|r| r.rows).collect::<Vec<_>>(), [1, 2]);
    assert!(select::take(&all, &[4]).is_err());
}

#[test]
fn packed_blocks_unpack_to_the_plain_one() {
    let rows = batch(vec![("timestamp", times(&[1])), ("trace_id", texts(&["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]))]);
    let table = [("trace_id".to_owned(), "String".to_owned())];
    let of = |compression| {
        let options = NativeOptions { sort: true, compression };
        encode_native(std::slice::from_ref(&rows), &table, &options).unwrap().remove(0).bytes
    };
    let plain = of(Compression::None);
    for name in ["lz4", "zstd", "gzip", "deflate"] {
        let packed = bytes::Bytes::copy_from_slice(&of(Compression::from_name(name).unwrap()));
        let encoding = crate::decode::Encoding::from_name(name).unwrap();
        assert_eq!(crate::decode::decompress(encoding, &packed, 1 << 20).unwrap(), plain.as_slice(), "{name}");
    }
}
