//! The order of rows: by day, then by the table's sort key
//! `(toStartOfFiveMinutes(timestamp), ns, event_type, service_name, timestamp)`.

use std::ops::Range;

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Int32Type, TimestampNanosecondType},
};
use hashbrown::HashMap;

use super::{EncodeError, PARTITION, Result};
use crate::schema::Col;

const BUCKET_NS: i64 = 300 * 1_000_000_000;
/// Rows and batches of one call: 24 bits each in the number that rows are sorted by.
const MAX_ROWS: usize = (1 << 24) - 1;
const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// One row of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub batch: u32,
    pub row: u32,
}

/// All rows, those of one day together.
pub(super) struct Order {
    pub rows: Vec<At>,
    days: Vec<(i32, Range<usize>)>,
}

impl Order {
    /// Days ascending, with their rows.
    pub fn days(&self) -> impl Iterator<Item = (i32, &[At])> {
        self.days.iter().map(|(day, range)| (*day, &self.rows[range.clone()]))
    }
}

/// What is equal for many rows: the key up to the last part.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Group {
    day: i32,
    /// Of five minutes, as the server's 32-bit seconds wrap.
    bucket: u32,
    /// Codes of `ns`, `event_type` and `service_name` in one dictionary over all batches.
    texts: [u32; 3],
}

pub(super) fn sorted(batches: &[&RecordBatch], by_key: bool) -> Result<Order> {
    let total = batches.iter().map(|b| b.num_rows()).sum();
    if total > MAX_ROWS || batches.len() > MAX_ROWS {
        let message = format!("{total} rows in {} batches do not fit one call ({MAX_ROWS})", batches.len());
        return Err(EncodeError::new("too_many_rows", "", message));
    }
    let mut groups = Groups::default();
    // The rank of a group is known only after all are seen, so rows carry its number first.
    let mut keyed: Vec<(u32, u64, At)> = Vec::with_capacity(total);
    for (batch, columns) in batches.iter().enumerate() {
        let key = KeyColumns::of(columns, &mut groups.texts, by_key)?;
        for row in 0..columns.num_rows() {
            let (group, offset) = key.at(row);
            keyed.push((groups.number(group), offset, At { batch: batch as u32, row: row as u32 }));
        }
    }
    let ranks = groups.ranks();
    for row in &mut keyed {
        row.0 = ranks[row.0 as usize];
    }
    // Without `by_key` every offset is 0: the position keeps the order of the batches.
    keyed.sort_unstable_by_key(|(rank, offset, at)| {
        (u128::from(*rank) << 96) | (u128::from(*offset) << 56) | (u128::from(at.batch) << 32) | u128::from(at.row)
    });
    Ok(Order { days: day_ranges(&keyed, &groups.by_rank(&ranks)), rows: keyed.into_iter().map(|row| row.2).collect() })
}

fn day_ranges(keyed: &[(u32, u64, At)], groups: &[Group]) -> Vec<(i32, Range<usize>)> {
    let mut days: Vec<(i32, Range<usize>)> = Vec::new();
    for (position, (rank, ..)) in keyed.iter().enumerate() {
        let day = groups[*rank as usize].day;
        match days.last_mut() {
            Some((known, range)) if *known == day => range.end = position + 1,
            _ => days.push((day, position..position + 1)),
        }
    }
    days
}

/// Distinct groups in order of appearance, and the dictionary of their texts.
#[derive(Default)]
struct Groups {
    texts: Texts,
    list: Vec<Group>,
    numbers: HashMap<Group, u32>,
    /// The previous row's group: rows of one resource and minute come together.
    last: Option<(Group, u32)>,
}

impl Groups {
    #[inline]
    fn number(&mut self, group: Group) -> u32 {
        if let Some((known, number)) = self.last
            && known == group
        {
            return number;
        }
        let number = *self.numbers.entry(group).or_insert_with(|| {
            self.list.push(group);
            self.list.len() as u32 - 1
        });
        self.last = Some((group, number));
        number
    }

    /// The place of every group, by number, in the order of the key.
    fn ranks(&self) -> Vec<u32> {
        let key = |number: &usize| {
            let group = &self.list[*number];
            (group.day, group.bucket, group.texts.map(|code| self.texts.list[code as usize].as_str()))
        };
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in order.into_iter().enumerate() {
            ranks[number] = rank as u32;
        }
        ranks
    }

    fn by_rank(&self, ranks: &[u32]) -> Vec<Group> {
        let mut sorted = self.list.clone();
        for (number, rank) in ranks.iter().enumerate() {
            sorted[*rank as usize] = self.list[number];
        }
        sorted
    }
}

/// A dictionary over all batches. Code 0 is the empty text.
struct Texts {
    list: Vec<String>,
    codes: HashMap<String, u32>,
}

impl Default for Texts {
    fn default() -> Self {
        Texts { list: vec![String::new()], codes: HashMap::from([(String::new(), 0)]) }
    }
}

impl Texts {
    fn code(&mut self, text: &str) -> u32 {
        if let Some(code) = self.codes.get(text) {
            return *code;
        }
        let code = self.list.len() as u32;
        self.list.push(text.to_owned());
        self.codes.insert(text.to_owned(), code);
        code
    }
}

/// The columns of the key in one batch.
struct KeyColumns<'a> {
    days: Option<&'a [i32]>,
    times: Option<&'a [i64]>,
    texts: [Option<Vec<u32>>; 3],
    by_key: bool,
}

impl<'a> KeyColumns<'a> {
    fn of(batch: &'a RecordBatch, texts: &mut Texts, by_key: bool) -> Result<KeyColumns<'a>> {
        let times =
            typed(batch, Col::Timestamp, |a| Some(&**a.as_primitive_opt::<TimestampNanosecondType>()?.values()))?;
        let days = typed(batch, PARTITION, |a| Some(&**a.as_primitive_opt::<Date32Type>()?.values()))?;
        let mut codes = |col| match by_key.then(|| batch.column_by_name(Col::name(col))).flatten() {
            Some(array) => text_codes(array, col, texts).map(Some),
            None => Ok(None),
        };
        let texts = [codes(Col::Ns)?, codes(Col::EventType)?, codes(Col::ServiceName)?];
        Ok(KeyColumns { days, times, texts, by_key })
    }

    #[inline]
    fn at(&self, row: usize) -> (Group, u64) {
        let time = self.times.map_or(0, |times| times[row]);
        let day = self.days.map_or_else(|| time.div_euclid(DAY_NS) as i32, |days| days[row]);
        if !self.by_key {
            return (Group { day, bucket: 0, texts: [0; 3] }, 0);
        }
        let texts = [0, 1, 2].map(|part| self.texts[part].as_ref().map_or(0, |codes| codes[row]));
        let bucket = time.div_euclid(BUCKET_NS);
        (Group { day, bucket: (bucket * 300) as u32, texts }, time.rem_euclid(BUCKET_NS) as u64)
    }
}

fn typed<'a, T>(batch: &'a RecordBatch, col: Col, read: impl Fn(&'a ArrayRef) -> Option<T>) -> Result<Option<T>> {
    let Some(array) = batch.column_by_name(col.name()) else { return Ok(None) };
    read(array).map(Some).ok_or_else(|| unexpected(col, array))
}

/// The codes of a text column's rows.
fn text_codes(array: &ArrayRef, col: Col, texts: &mut Texts) -> Result<Vec<u32>> {
    if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
        let values = dictionary.values().as_string_opt::<i32>().ok_or_else(|| unexpected(col, array))?;
        let map: Vec<u32> = values.iter().map(|text| texts.code(text.unwrap_or(""))).collect();
        let valid = |row| dictionary.is_valid(row);
        let keys = dictionary.keys().values().iter().enumerate();
        return Ok(keys.map(|(row, key)| if valid(row) { map[*key as usize] } else { 0 }).collect());
    }
    let plain = array.as_string_opt::<i32>().ok_or_else(|| unexpected(col, array))?;
    Ok(plain.iter().map(|text| texts.code(text.unwrap_or(""))).collect())
}

fn unexpected(col: Col, array: &ArrayRef) -> EncodeError {
    EncodeError::new("unexpected_type", col.name(), format!("{} where {} is due", array.data_type(), col.data_type()))
}
