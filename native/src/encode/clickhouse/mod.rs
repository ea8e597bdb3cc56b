//! ClickHouse Native blocks from batches, in the table's own types.
//!
//! One block per partition (column `day`), its rows in the order of the table's key, so that the server neither splits
//! nor sorts. A block holds the columns that the batches have *and* the table has: the server passes over unknown
//! columns in silence, and fills the ones that are not sent with their defaults. Layout (revision 0, as HTTP inserts
//! use it): the counts of columns and rows, then per column its name, its type's text and its data.
//!
//! What a column's Arrow type does not fit is sent in the nearest ClickHouse type of its own, and the server casts.

mod buffer;
mod column;
mod map;
mod order;
mod types;

use std::io::Write;

use arrow_array::{ArrayRef, RecordBatch};
use hashbrown::HashMap;

pub use self::{buffer::Buffer, types::Type};
use self::{
    column::{Pieces, write_column},
    order::sorted,
};
use super::EncodeError;
use crate::{batch::Batch, schema::Col};

/// How the bytes of a block are packed; named in the request's `Content-Encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    /// LZ4 frame.
    Lz4,
    /// One zstd frame, level 1.
    Zstd,
    Gzip,
    /// The zlib format, as HTTP means it.
    Deflate,
}

impl Compression {
    pub fn from_name(name: &str) -> Option<Compression> {
        Some(match name {
            "" | "none" => Compression::None,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            "gzip" => Compression::Gzip,
            "deflate" => Compression::Deflate,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct NativeOptions {
    /// Order rows by the table's key; otherwise they keep the order of the batches (within a day).
    pub sort: bool,
    pub compression: Compression,
}

impl Default for NativeOptions {
    fn default() -> Self {
        NativeOptions { sort: true, compression: Compression::None }
    }
}

/// Rows of one partition.
#[derive(Debug)]
pub struct Block {
    /// Days since 1970-01-01.
    pub day: i32,
    pub rows: usize,
    pub bytes: Buffer,
}

type Result<T> = std::result::Result<T, EncodeError>;

/// The rows of all batches as one block per day, days ascending. `table` is what DESCRIBE says: names and types.
pub fn encode_native(batches: &[Batch], table: &[(String, String)], options: &NativeOptions) -> Result<Vec<Block>> {
    let tables: Vec<&RecordBatch> = batches.iter().map(|b| &b.columns).filter(|b| b.num_rows() > 0).collect();
    let columns = present(&tables, table)?;
    if columns.is_empty() && !tables.is_empty() {
        return Err(EncodeError::new("no_columns", "", "the table has none of the columns that the rows have"));
    }
    let order = sorted(&tables, options.sort)?;
    let mut sources: Vec<Pieces> = Vec::with_capacity(columns.len());
    for column in &columns {
        sources.push(Pieces::of(&column.arrays, &column.wire, column.name)?);
    }
    let bytes_per_row = batches.iter().map(Batch::nbytes).sum::<usize>() / order.rows.len().max(1);
    let mut blocks = Vec::new();
    for (day, rows) in order.days() {
        let mut out = Buffer::with_capacity(1024 + rows.len() * bytes_per_row.clamp(64, 4096));
        put_varint(&mut out, columns.len() as u64);
        put_varint(&mut out, rows.len() as u64);
        for (column, source) in columns.iter().zip(&mut sources) {
            put_text(&mut out, column.name);
            put_text(&mut out, &column.wire.to_string());
            write_column(&mut out, source, rows);
        }
        let count = rows.len();
        blocks.push(Block { day, rows: count, bytes: compress(out, options.compression)? });
    }
    Ok(blocks)
}

/// A column to send: its arrays per batch (`None` where a batch has no such column).
struct Present<'a> {
    name: &'a str,
    wire: Type,
    arrays: Vec<Option<ArrayRef>>,
}

/// The columns that both the table and any batch have, in the table's order.
fn present<'a>(tables: &[&RecordBatch], table: &'a [(String, String)]) -> Result<Vec<Present<'a>>> {
    let slots: HashMap<&str, usize> = table.iter().enumerate().map(|(i, (name, _))| (name.as_str(), i)).collect();
    let mut found: Vec<Option<Vec<Option<ArrayRef>>>> = vec![None; table.len()];
    for (batch, columns) in tables.iter().enumerate() {
        for (field, array) in columns.schema_ref().fields().iter().zip(columns.columns()) {
            let Some(slot) = slots.get(field.name().as_str()) else { continue };
            let arrays = found[*slot].get_or_insert_with(|| vec![None; tables.len()]);
            arrays[batch] = Some(array.clone());
        }
    }
    let mut present = Vec::new();
    for ((name, declared), arrays) in table.iter().zip(found) {
        let Some(arrays) = arrays else { continue };
        let wire = types::wire(name, declared, arrays.iter().flatten())?;
        present.push(Present { name, wire, arrays });
    }
    Ok(present)
}

fn compress(plain: Buffer, compression: Compression) -> Result<Buffer> {
    let packed = |packed: std::io::Result<Vec<u8>>| match packed {
        Ok(bytes) => Ok(Buffer::from(bytes)),
        Err(error) => Err(EncodeError::new("compression", "", error.to_string())),
    };
    let room = || Vec::with_capacity(plain.len() / 2);
    let fast = flate2::Compression::fast();
    match compression {
        Compression::None => Ok(plain),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(room());
            let written = encoder.write_all(&plain);
            packed(written.and_then(|()| encoder.finish().map_err(std::io::Error::other)))
        }
        Compression::Zstd => packed(zstd::bulk::compress(&plain, 1)),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(room(), fast);
            packed(encoder.write_all(&plain).and_then(|()| encoder.finish()))
        }
        Compression::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(room(), fast);
            packed(encoder.write_all(&plain).and_then(|()| encoder.finish()))
        }
    }
}

#[inline]
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

#[inline]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The name of the column that parts the table.
const PARTITION: Col = Col::Day;

#[cfg(test)]
mod tests;
