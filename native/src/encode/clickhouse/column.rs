//! One column's data, gathered from all batches in the order of the block.

use arrow_array::{
    Array, ArrayRef, BooleanArray,
    cast::AsArray,
    types::{Date32Type, Int32Type},
};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};
use hashbrown::HashMap;

use super::{EncodeError, Result, Type, map::write_maps, order::At, put_bytes};
use crate::encode::{store::StoredMap, texts::Texts};

/// Version of the form in which LowCardinality keys are sent.
pub(super) const LOW_CARDINALITY_VERSION: u64 = 1;
/// The keys come with the block, and none are shared between blocks.
const ADDITIONAL_KEYS: u64 = 1 << 9;
const UPDATE_DICTIONARY: u64 = 1 << 10;

/// A column in the form that it is read from, per batch.
pub(super) struct Pieces<'a> {
    nullable: bool,
    data: Data<'a>,
}

enum Data<'a> {
    Texts(Vec<Option<Texts<'a>>>),
    LowCardinality(Dictionary<'a>, Vec<Option<Codes>>),
    Fixed { width: usize, arrays: Vec<Option<Fixed>> },
    Bools(Vec<Option<&'a BooleanArray>>),
    Days { width: usize, arrays: Vec<Option<(ScalarBuffer<i32>, Option<NullBuffer>)>> },
    Uuids(Vec<Option<Fixed>>),
    Maps { maps: Vec<Option<StoredMap<'a>>>, keys: bool, values: bool },
}

impl<'a> Pieces<'a> {
    /// `wire` is what `types::wire` chose for these arrays.
    pub fn of(arrays: &'a [Option<ArrayRef>], wire: &Type, name: &str) -> Result<Pieces<'a>> {
        let odd = |array: &ArrayRef| {
            EncodeError::new("unexpected_type", name, format!("{} can not be sent as {wire}", array.data_type()))
        };
        let (nullable, core) = match wire {
            Type::Nullable(inner) => (true, (**inner).clone()),
            other => (false, other.clone()),
        };
        let data = match core {
            Type::String => Data::Texts(per_batch(arrays, |a| Texts::of(a).ok_or_else(|| odd(a)))?),
            Type::LowCardinality(inner) => {
                let mut dictionary = Dictionary::new(matches!(*inner, Type::Nullable(_)));
                let codes = per_batch(arrays, |a| Codes::of(a, &mut dictionary).ok_or_else(|| odd(a)))?;
                Data::LowCardinality(dictionary, codes)
            }
            Type::Bool => Data::Bools(per_batch(arrays, |a| a.as_boolean_opt().ok_or_else(|| odd(a)))?),
            Type::Date | Type::Date32 => Data::Days {
                width: if core == Type::Date { 2 } else { 4 },
                arrays: per_batch(arrays, |a| {
                    let days = a.as_primitive_opt::<Date32Type>().ok_or_else(|| odd(a))?;
                    Ok((days.values().clone(), days.nulls().cloned()))
                })?,
            },
            Type::Uuid => Data::Uuids(per_batch(arrays, |a| Ok(Fixed::of(a, 16)))?),
            Type::Map(key, value) => Data::Maps {
                maps: per_batch(arrays, |a| StoredMap::of(a).ok_or_else(|| odd(a)))?,
                keys: matches!(*key, Type::LowCardinality(_)),
                values: matches!(*value, Type::LowCardinality(_)),
            },
            number => {
                let width = width(&number);
                Data::Fixed { width, arrays: per_batch(arrays, |a| Ok(Fixed::of(a, width)))? }
            }
        };
        Ok(Pieces { nullable, data })
    }
}

fn per_batch<'a, T>(
    arrays: &'a [Option<ArrayRef>],
    mut make: impl FnMut(&'a ArrayRef) -> Result<T>,
) -> Result<Vec<Option<T>>> {
    arrays.iter().map(|array| array.as_ref().map(&mut make).transpose()).collect()
}

fn width(number: &Type) -> usize {
    match number {
        Type::Int8 | Type::UInt8 => 1,
        Type::Int16 | Type::UInt16 => 2,
        Type::Int32 | Type::UInt32 | Type::Float32 => 4,
        _ => 8,
    }
}

/// Writes the column's data for these rows.
pub(super) fn write_column(out: &mut Vec<u8>, pieces: &mut Pieces, rows: &[At]) {
    if pieces.nullable {
        write_nulls(out, &pieces.data, rows);
    }
    match &mut pieces.data {
        Data::Texts(arrays) => {
            for at in rows {
                put_bytes(out, arrays[at.batch as usize].as_ref().map_or(b"", |texts| texts.at(at.row as usize)));
            }
        }
        Data::LowCardinality(dictionary, codes) => {
            out.extend_from_slice(&LOW_CARDINALITY_VERSION.to_le_bytes());
            let absent = dictionary.absent();
            let codes =
                rows.iter().map(|at| codes[at.batch as usize].as_ref().map_or(absent, |c| c.at(at.row as usize)));
            dictionary.write(out, codes, rows.len());
        }
        Data::Fixed { width: 1, arrays } => write_fixed::<1>(out, arrays, rows),
        Data::Fixed { width: 2, arrays } => write_fixed::<2>(out, arrays, rows),
        Data::Fixed { width: 4, arrays } => write_fixed::<4>(out, arrays, rows),
        Data::Fixed { arrays, .. } => write_fixed::<8>(out, arrays, rows),
        Data::Bools(arrays) => out.extend(rows.iter().map(|at| {
            let row = at.row as usize;
            arrays[at.batch as usize].is_some_and(|bools| bools.is_valid(row) && bools.value(row)) as u8
        })),
        Data::Days { width, arrays } => write_days(out, *width, arrays, rows),
        Data::Uuids(arrays) => write_uuids(out, arrays, rows),
        Data::Maps { maps, keys, values } => write_maps(out, maps, *keys, *values, rows),
    }
}

/// One byte per row: whether it is null. Text is never null: empty means absent.
fn write_nulls(out: &mut Vec<u8>, data: &Data, rows: &[At]) {
    let has = |nulls: &Option<NullBuffer>, row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
    match data {
        Data::Texts(all) => mark(out, rows, |batch, row| all[batch].as_ref().is_none_or(|a| a.is_valid(row))),
        Data::Fixed { arrays, .. } | Data::Uuids(arrays) => {
            mark(out, rows, |batch, row| arrays[batch].as_ref().is_some_and(|a| has(&a.nulls, row)));
        }
        Data::Bools(arrays) => mark(out, rows, |batch, row| arrays[batch].is_some_and(|a| a.is_valid(row))),
        Data::Days { arrays, .. } => {
            mark(out, rows, |batch, row| arrays[batch].as_ref().is_some_and(|(_, nulls)| has(nulls, row)));
        }
        Data::LowCardinality(..) | Data::Maps { .. } => mark(out, rows, |_, _| true),
    }
}

#[inline]
fn mark(out: &mut Vec<u8>, rows: &[At], valid: impl Fn(usize, usize) -> bool) {
    out.extend(rows.iter().map(|at| u8::from(!valid(at.batch as usize, at.row as usize))));
}

/// Values of a fixed width, little-endian as Arrow holds them.
struct Fixed {
    values: Buffer,
    nulls: Option<NullBuffer>,
}

impl Fixed {
    fn of(array: &ArrayRef, width: usize) -> Fixed {
        let data = array.to_data();
        let values = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
        Fixed { values, nulls: array.nulls().cloned() }
    }

    #[inline]
    fn at<const W: usize>(&self, row: usize) -> [u8; W] {
        match &self.nulls {
            Some(nulls) if nulls.is_null(row) => [0; W],
            _ => self.values[row * W..][..W].try_into().expect("the slice has this length"),
        }
    }
}

fn write_fixed<const W: usize>(out: &mut Vec<u8>, arrays: &[Option<Fixed>], rows: &[At]) {
    out.reserve(rows.len() * W);
    for at in rows {
        out.extend_from_slice(&arrays[at.batch as usize].as_ref().map_or([0; W], |a| a.at::<W>(at.row as usize)));
    }
}

fn write_uuids(out: &mut Vec<u8>, arrays: &[Option<Fixed>], rows: &[At]) {
    out.reserve(rows.len() * 16);
    for at in rows {
        // Two little-endian numbers, the upper half first.
        let mut id = arrays[at.batch as usize].as_ref().map_or([0; 16], |a| a.at::<16>(at.row as usize));
        id[..8].reverse();
        id[8..].reverse();
        out.extend_from_slice(&id);
    }
}

fn write_days(
    out: &mut Vec<u8>,
    width: usize,
    arrays: &[Option<(ScalarBuffer<i32>, Option<NullBuffer>)>],
    rows: &[At],
) {
    for at in rows {
        let row = at.row as usize;
        let day = match &arrays[at.batch as usize] {
            Some((days, nulls)) if nulls.as_ref().is_none_or(|n| n.is_valid(row)) => days[row],
            _ => 0,
        };
        match width {
            2 => out.extend_from_slice(&(day.clamp(0, i32::from(u16::MAX)) as u16).to_le_bytes()),
            _ => out.extend_from_slice(&day.to_le_bytes()),
        }
    }
}

/// Distinct texts over all batches; codes are positions in it.
pub(super) struct Dictionary<'a> {
    nullable: bool,
    texts: Vec<&'a [u8]>,
    codes: HashMap<&'a [u8], u32>,
    /// By code: its index in the block that is being written, 0 while it has none.
    indices: Vec<u32>,
}

/// The code of a null, where the dictionary knows nulls.
const NULL: u32 = 0;

impl<'a> Dictionary<'a> {
    /// Index 0 of every block is the default: the null where there are any; the empty text comes next.
    pub fn new(nullable: bool) -> Dictionary<'a> {
        let texts: Vec<&[u8]> = if nullable { vec![b"", b""] } else { vec![b""] };
        let empty = texts.len() as u32 - 1;
        Dictionary { nullable, texts, codes: HashMap::from([(&b""[..], empty)]), indices: Vec::new() }
    }

    fn absent(&self) -> u32 {
        u32::from(self.nullable)
    }

    #[inline]
    pub fn code(&mut self, text: &'a [u8]) -> u32 {
        let next = self.texts.len() as u32;
        let code = *self.codes.entry(text).or_insert(next);
        if code == next {
            self.texts.push(text);
        }
        code
    }

    /// Writes flags, the texts that these rows use, and their indices.
    pub fn write(&mut self, out: &mut Vec<u8>, codes: impl Iterator<Item = u32>, rows: usize) {
        let fixed = 1 + self.absent();
        self.indices.clear();
        self.indices.resize(self.texts.len(), 0);
        for code in 0..fixed {
            self.indices[code as usize] = code;
        }
        let mut used: Vec<u32> = (0..fixed).collect();
        let mut indices: Vec<u32> = Vec::with_capacity(rows);
        for code in codes {
            let slot = &mut self.indices[code as usize];
            if *slot == 0 && code >= fixed {
                *slot = used.len() as u32;
                used.push(code);
            }
            indices.push(*slot);
        }
        let width: u64 = match used.len() {
            0..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        };
        out.extend_from_slice(&(width | ADDITIONAL_KEYS | UPDATE_DICTIONARY).to_le_bytes());
        out.extend_from_slice(&(used.len() as u64).to_le_bytes());
        for code in used {
            put_bytes(out, self.texts[code as usize]);
        }
        out.extend_from_slice(&(indices.len() as u64).to_le_bytes());
        out.reserve(indices.len() << width);
        match width {
            0 => out.extend(indices.iter().map(|index| *index as u8)),
            1 => indices.iter().for_each(|index| out.extend_from_slice(&(*index as u16).to_le_bytes())),
            _ => indices.iter().for_each(|index| out.extend_from_slice(&index.to_le_bytes())),
        }
    }
}

/// Codes of one batch's rows.
enum Codes {
    /// Through the batch's own dictionary; the last entry is the code of a null.
    Keys(ScalarBuffer<i32>, Option<NullBuffer>, Vec<u32>),
    Rows(Vec<u32>),
}

impl Codes {
    fn of<'a>(array: &'a ArrayRef, dictionary: &mut Dictionary<'a>) -> Option<Codes> {
        let texts = Texts::of(array)?;
        let null = if dictionary.nullable { NULL } else { dictionary.absent() };
        if let Some(own) = array.as_dictionary_opt::<Int32Type>() {
            let (keys, values) = (own.keys(), own.values().as_string_opt::<i32>()?);
            let mut map: Vec<u32> =
                values.iter().map(|text| text.map_or(null, |text| dictionary.code(text.as_bytes()))).collect();
            map.push(null);
            return Some(Codes::Keys(keys.values().clone(), keys.nulls().cloned(), map));
        }
        let code = |row| if texts.is_valid(row) { dictionary.code(texts.at(row)) } else { null };
        Some(Codes::Rows((0..array.len()).map(code).collect()))
    }

    #[inline]
    fn at(&self, row: usize) -> u32 {
        match self {
            Codes::Keys(keys, nulls, map) => match nulls {
                Some(nulls) if nulls.is_null(row) => map[map.len() - 1],
                _ => map[keys[row] as usize],
            },
            Codes::Rows(codes) => codes[row],
        }
    }
}
