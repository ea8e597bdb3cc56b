//! The rows of one batch as lines of one table.

use arrow_array::{Array, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch};
use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    EncodeError, Result, Table, Target,
    buckets::{Buckets, Part},
    cell::{Cell, member, put_uuid},
    text::{Memo, put_bare, put_json, put_quoted},
};
use crate::{
    decode::any_value::special,
    encode::{store::StoredMap, store::TYPES_KEY, texts::Texts},
    schema::Col,
};

// Types of binary values.
const DOUBLE: u8 = 16;
const ARRAY: u8 = 14;
const ARRAY_OF_DOUBLES: u8 = 10;

/// What a point's source says of the point alone: no part of its series.
const OF_POINT: [Col; 20] = [
    Col::Id,
    Col::Timestamp,
    Col::TimestampNs,
    Col::StartedAt,
    Col::EndedAt,
    Col::DurationMs,
    Col::MetricValue,
    Col::MetricCount,
    Col::MetricSum,
    Col::MetricMin,
    Col::MetricMax,
    Col::MetricBuckets,
    Col::MetricQuantiles,
    Col::Data,
    Col::Attributes,
    Col::Hour,
    Col::Day,
    Col::IngestedAt,
    Col::BatchId,
    Col::SchemaVersion,
];

/// What other columns say already, or the daemon alone: not among the rest.
const NOT_REST: [Col; 10] = [
    Col::Id,
    Col::EventType,
    Col::EventName,
    Col::TimestampNs,
    Col::DurationMs,
    Col::Hour,
    Col::Day,
    Col::IngestedAt,
    Col::BatchId,
    Col::SchemaVersion,
];

/// The columns of a batch by name.
pub struct Sources<'a> {
    names: Vec<&'a str>,
    cells: Vec<Option<Cell<'a>>>,
    types: Vec<String>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Sources<'a> {
    pub fn of(columns: &'a RecordBatch) -> Sources<'a> {
        let names: Vec<&str> = columns.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        let cells = names.iter().zip(columns.columns()).map(|(name, array)| Cell::of(name, array)).collect();
        let types = columns.columns().iter().map(|array| array.data_type().to_string()).collect();
        let by_name = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        Sources { names, cells, types, by_name }
    }

    /// The column of this name; `None` where the batch has none. Fails for a type that lines can not say.
    fn get(&self, name: &str) -> Result<Option<&Cell<'a>>> {
        let Some(at) = self.by_name.get(name) else { return Ok(None) };
        let unfit = || EncodeError::new("unexpected_type", name, format!("{} is not sent to QuestDB", self.types[*at]));
        self.cells[*at].as_ref().ok_or_else(unfit).map(Some)
    }

    fn map(&self, col: Col) -> Result<Option<&StoredMap<'a>>> {
        Ok(match self.get(col.name())? {
            Some(Cell::Map(map)) => Some(map),
            _ => None,
        })
    }

    fn texts(&self, col: Col) -> Result<Option<&Texts<'a>>> {
        Ok(match self.get(col.name())? {
            Some(Cell::Text(texts) | Cell::Json(texts)) => Some(texts),
            _ => None,
        })
    }
}

/// Where a map's entries are: labels come first, because a point's attributes are there.
const LABELS: usize = 0;
const ATTRIBUTES: usize = 1;

enum Value<'a> {
    Text(&'a Cell<'a>, Option<Memo>),
    /// A place in `Plan::keys`, and the column that has the attribute where no map does.
    Entry(usize, Option<&'a Cell<'a>>),
    Int(&'a Int64Array),
    IntOfBool(&'a BooleanArray),
    Double(&'a Float64Array),
    DoubleOfInt(&'a Int64Array),
    Time(&'a Int64Array),
    Bool(&'a BooleanArray),
    Uuid(&'a FixedSizeBinaryArray),
    Map(usize),
    Series,
    Occurrence,
    Rest,
    List(Part),
    Number(Part),
    IntNumber(Part),
}

struct Field<'a> {
    /// `name=`, escaped.
    lead: Vec<u8>,
    value: Value<'a>,
}

/// How the rows of one batch become lines of one table.
pub struct Plan<'a> {
    head: Vec<u8>,
    symbols: Vec<Field<'a>>,
    fields: Vec<Field<'a>>,
    time: &'a Int64Array,
    maps: [Option<&'a StoredMap<'a>>; 2],
    /// Attributes that have a column of their own.
    keys: Vec<&'a [u8]>,
    /// Numbers that QuestDB may not have, by the name that they are told under.
    odd: Vec<(String, &'a Cell<'a>)>,
    buckets: Option<[Option<&'a Texts<'a>>; 2]>,
    identity: Vec<(u64, &'a Cell<'a>)>,
    rest: Vec<(&'a str, &'a Cell<'a>)>,
}

/// What is kept from row to row.
#[derive(Default)]
struct State {
    previous: Option<usize>,
    identity: u64,
    rest: Vec<u8>,
    scratch: Vec<u8>,
    /// By place in `Plan::keys`: map and entry.
    entries: Vec<Option<(usize, usize)>>,
    buckets: Buckets,
}

impl<'a> Plan<'a> {
    pub fn of(table: &'a Table, sources: &'a Sources<'a>) -> Result<Plan<'a>> {
        let no_time = || EncodeError::new("no_time", Col::Timestamp.name(), "rows have no time");
        let Some(Cell::Time(time)) = sources.get(Col::Timestamp.name())? else { return Err(no_time()) };
        let mut head = Vec::new();
        put_bare(&mut head, table.name.as_bytes());
        let maps = [sources.map(Col::Labels)?, sources.map(Col::Attributes)?];
        let (symbols, fields, keys) = (Vec::new(), Vec::new(), Vec::new());
        let (identity, rest, odd) = (Vec::new(), Vec::new(), Vec::new());
        let mut plan = Plan { head, symbols, fields, time, maps, keys, odd, buckets: None, identity, rest };
        for target in &table.columns {
            plan.add(target, sources)?;
        }
        plan.add_identity(table, sources);
        Ok(plan)
    }

    fn add(&mut self, target: &'a Target, sources: &'a Sources<'a>) -> Result<()> {
        if target.source == Col::Timestamp.name() && target.data_type.starts_with("TIMESTAMP") {
            return Ok(());
        }
        let Some(value) = self.value(target, sources)? else { return Ok(()) };
        let mut lead = Vec::new();
        put_bare(&mut lead, target.name.as_bytes());
        lead.push(b'=');
        let fields = if target.data_type == "SYMBOL" { &mut self.symbols } else { &mut self.fields };
        fields.push(Field { lead, value });
        Ok(())
    }

    /// None where the batch has no such column.
    fn value(&mut self, target: &'a Target, sources: &'a Sources<'a>) -> Result<Option<Value<'a>>> {
        let (source, data_type) = (target.source.as_str(), target.data_type.as_str());
        let unfit = |what: &str| {
            EncodeError::new("unexpected_type", &target.name, format!("{what} can not be stored as {data_type}"))
        };
        if let Some((column, key)) = source.split_once('=') {
            self.keys.push(key.as_bytes());
            return Ok(Some(Value::Entry(self.keys.len() - 1, sources.get(column)?)));
        }
        if let Some(name) = source.strip_prefix('$') {
            return Ok(Some(match (name, data_type) {
                ("series", _) => Value::Series,
                ("occurrence", _) => Value::Occurrence,
                ("rest", _) => Value::Rest,
                (name, data_type) => {
                    let part = Part::from_name(name).ok_or_else(|| unfit(source))?;
                    let texts = [sources.texts(Col::MetricBuckets)?, sources.texts(Col::MetricQuantiles)?];
                    if texts[0].is_none() && texts[1].is_none() {
                        return Ok(None);
                    }
                    self.buckets = Some(texts);
                    match (part.is_list(), data_type) {
                        (true, "DOUBLE[]") => Value::List(part),
                        (false, "DOUBLE") => Value::Number(part),
                        (false, "INT" | "LONG") => Value::IntNumber(part),
                        _ => return Err(unfit(source)),
                    }
                }
            }));
        }
        let Some(cell) = sources.get(source)? else {
            // Notes of odd values go there, also where nobody else has any.
            return Ok((source == Col::Attributes.name()).then_some(Value::Map(ATTRIBUTES)));
        };
        let value = match (cell, data_type) {
            (Cell::Map(_), "VARCHAR" | "STRING") if source == Col::Labels.name() => Value::Map(LABELS),
            (Cell::Map(_), "VARCHAR" | "STRING") if source == Col::Attributes.name() => Value::Map(ATTRIBUTES),
            (Cell::Map(_), _) => return Err(unfit("a map")),
            (Cell::Int(numbers), "LONG" | "INT" | "SHORT" | "BYTE") => {
                if numbers.iter().flatten().any(|number| number == i64::MIN) {
                    self.odd.push((format!("${source}"), cell));
                }
                Value::Int(numbers)
            }
            (Cell::Int(numbers), "DOUBLE" | "FLOAT") => Value::DoubleOfInt(numbers),
            (Cell::Double(numbers), "DOUBLE" | "FLOAT") => {
                if numbers.iter().flatten().any(|number| !number.is_finite()) {
                    self.odd.push((format!("${source}"), cell));
                }
                Value::Double(numbers)
            }
            (Cell::Time(times), "TIMESTAMP_NS" | "TIMESTAMP" | "DATE") => Value::Time(times),
            (Cell::Bool(bools), "BOOLEAN") => Value::Bool(bools),
            (Cell::Bool(bools), "INT" | "LONG" | "SHORT" | "BYTE") => Value::IntOfBool(bools),
            (Cell::Uuid(ids), "UUID") => Value::Uuid(ids),
            (Cell::Text(_) | Cell::Json(_), "UUID" | "SYMBOL" | "VARCHAR" | "STRING") => {
                Value::Text(cell, cell.slots().map(Memo::new))
            }
            (_, "SYMBOL" | "VARCHAR" | "STRING") => Value::Text(cell, None),
            _ => return Err(unfit(cell.kind())),
        };
        Ok(Some(value))
    }

    /// What the series is made of, and what no column names.
    fn add_identity(&mut self, table: &'a Table, sources: &'a Sources<'a>) {
        let is = |col: &[Col], name: &str| Col::from_name(name).is_some_and(|found| col.contains(&found));
        let wants_rest = table.columns.iter().any(|target| target.source == "$rest");
        let column = |target: &'a Target| target.source.split_once('=').map_or(target.source.as_str(), |pair| pair.0);
        let named = |name: &str| table.columns.iter().any(|target| column(target) == name);
        for (name, cell) in sources.names.iter().zip(&sources.cells) {
            let Some(cell) = cell.as_ref().filter(|_| !name.starts_with('$')) else { continue };
            if !is(&OF_POINT, name) && *name != Col::Labels.name() {
                self.identity.push((xxh3_64(name.as_bytes()), cell));
            }
            let told = named(name) || is(&NOT_REST, name);
            let in_parts = self.buckets.is_some() && is(&[Col::MetricBuckets, Col::MetricQuantiles], name);
            if wants_rest && !told && !in_parts {
                self.rest.push((name, cell));
            }
        }
    }

    /// Appends the lines of these rows; the first row of the batch is the log's row `start`.
    pub fn encode(mut self, out: &mut Vec<u8>, rows: &[u32], start: i64) -> Result<()> {
        let mut state = State::default();
        let (mut symbols, mut fields) = (std::mem::take(&mut self.symbols), std::mem::take(&mut self.fields));
        for row in rows {
            let row = *row as usize;
            self.next(&mut state, row);
            out.extend_from_slice(&self.head);
            let mut unfit = Vec::new();
            for (at, field) in symbols.iter_mut().enumerate() {
                if !self.put_symbol(out, &mut state, field, row) {
                    out.pop();
                    unfit.push(at);
                }
            }
            out.push(b' ');
            for field in unfit.into_iter().map(|at| &symbols[at]) {
                out.extend_from_slice(&field.lead);
                put_quoted(out, self.symbol(&mut state, &field.value, row));
                out.push(b',');
            }
            for field in &mut fields {
                let before = out.len();
                out.extend_from_slice(&field.lead);
                if self.put(out, &mut state, &mut field.value, row, start) {
                    out.push(b',');
                } else {
                    out.truncate(before);
                }
            }
            if out.last() == Some(&b',') {
                out.pop();
            }
            if self.time.is_null(row) {
                return Err(EncodeError::new("no_time", Col::Timestamp.name(), "a row has no time"));
            }
            out.push(b' ');
            put_int(out, self.time.value(row));
            out.push(b'\n');
        }
        Ok(())
    }

    /// Finds what the row shares with the one before, and its attributes.
    fn next(&self, state: &mut State, row: usize) {
        let cells = || self.identity.iter().map(|(_, cell)| *cell).chain(self.rest.iter().map(|(_, cell)| *cell));
        if !state.previous.is_some_and(|previous| cells().all(|cell| cell.same(row, previous))) {
            let sum = |sum: u64, (seed, cell): &(u64, &Cell)| sum.wrapping_add(cell.hash(row, *seed));
            state.identity = self.identity.iter().fold(0, sum);
            self.spell_rest(&mut state.rest, row);
        }
        state.previous = Some(row);
        state.entries.clear();
        state.entries.extend(self.keys.iter().map(|key| self.find(key, row)));
        if let Some(texts) = self.buckets {
            let [buckets, quantiles] = texts.map(|texts| texts.map_or(&b""[..], |texts| texts.at(row)));
            state.buckets.read(buckets, quantiles);
        }
    }

    /// The entry of a key, unless its value is empty.
    fn find(&self, key: &[u8], row: usize) -> Option<(usize, usize)> {
        let entry = |(number, map): (usize, &Option<&StoredMap>)| {
            let map = map.as_ref()?;
            let found = map.entries(row).find(|entry| map.keys.at(*entry) == key)?;
            (!map.values.at(found).is_empty()).then_some((number, found))
        };
        self.maps.iter().enumerate().find_map(entry)
    }

    fn spell_rest(&self, out: &mut Vec<u8>, row: usize) {
        out.clear();
        let mut first = true;
        for (name, cell) in self.rest.iter().filter(|(_, cell)| !cell.is_absent(row)) {
            member(out, &mut first, name.as_bytes());
            cell.put_json(out, row);
        }
    }

    /// Appends a symbol, where the row has one. A bare NUL is refused by the server and a quoted one is not, so such a
    /// symbol is left for the fields (false).
    fn put_symbol(&self, out: &mut Vec<u8>, state: &mut State, field: &mut Field, row: usize) -> bool {
        let Field { lead, value } = field;
        if let Value::Text(Cell::Text(texts) | Cell::Json(texts), Some(memo)) = value {
            if !texts.at(row).is_empty() {
                let spelled = memo.get(texts.slot(row), |out| put_lead(out, lead, texts.at(row)));
                out.extend_from_slice(spelled);
            }
            return !out.ends_with(b"\0");
        }
        let text = self.symbol(state, value, row);
        if !text.is_empty() {
            put_lead(out, lead, text);
        }
        !out.ends_with(b"\0")
    }

    /// The text of a symbol, empty where there is none.
    fn symbol<'b>(&'b self, state: &'b mut State, value: &'b Value, row: usize) -> &'b [u8] {
        match value {
            Value::Entry(key, cell) => self.entry(state, *key, *cell, row),
            Value::Text(cell, _) => cell.text(row, &mut state.scratch),
            _ => b"",
        }
    }

    /// The attribute of a key, wherever it lives.
    fn entry<'b>(&self, state: &'b mut State, key: usize, cell: Option<&'b Cell>, row: usize) -> &'b [u8]
    where
        'a: 'b,
    {
        match (state.entries[key], cell) {
            (Some((map, entry)), _) => self.maps[map].map_or(b"", |map| map.values.at(entry)),
            (None, Some(cell)) => cell.text(row, &mut state.scratch),
            (None, None) => b"",
        }
    }

    /// Appends a value; false where the row has none.
    fn put(&self, out: &mut Vec<u8>, state: &mut State, value: &mut Value, row: usize, start: i64) -> bool {
        match value {
            Value::Series => {
                let labels = self.maps[LABELS].map_or(0, |map| hash(map, row));
                put_long(out, xxh3_64(&state.identity.wrapping_add(labels).to_le_bytes()) as i64);
            }
            Value::Occurrence => put_long(out, start.wrapping_add(row as i64)),
            Value::Int(numbers) if numbers.is_valid(row) => put_long(out, numbers.value(row)),
            Value::IntOfBool(bools) if bools.is_valid(row) => put_long(out, i64::from(bools.value(row))),
            Value::Double(numbers) if numbers.is_valid(row) => put_double(out, numbers.value(row)),
            Value::DoubleOfInt(numbers) if numbers.is_valid(row) => put_double(out, numbers.value(row) as f64),
            Value::Time(times) if times.is_valid(row) => {
                put_int(out, times.value(row));
                out.push(b'n');
            }
            Value::Bool(bools) if bools.is_valid(row) => out.push(if bools.value(row) { b't' } else { b'f' }),
            Value::Uuid(ids) if ids.is_valid(row) => {
                out.push(b'"');
                put_uuid(out, ids.value(row));
                out.push(b'"');
            }
            Value::Rest if !state.rest.is_empty() => {
                out.extend_from_slice(b"\"{");
                out.extend_from_slice(&state.rest);
                out.extend_from_slice(b"}\"");
            }
            Value::Entry(key, cell) => return put_text(out, self.entry(state, *key, *cell, row)),
            Value::Text(Cell::Text(texts) | Cell::Json(texts), Some(memo)) if !texts.at(row).is_empty() => {
                out.extend_from_slice(memo.get(texts.slot(row), |out| put_quoted(out, texts.at(row))));
            }
            Value::Text(cell, _) => return put_text(out, cell.text(row, &mut state.scratch)),
            Value::Map(map) => return self.put_map(out, state, *map, row),
            Value::List(part) => return state.buckets.list(*part).map(|list| put_doubles(out, list)).is_some(),
            Value::Number(part) => return state.buckets.number(*part).map(|number| put_double(out, number)).is_some(),
            Value::IntNumber(part) => {
                return state.buckets.number(*part).map(|number| put_long(out, number as i64)).is_some();
            }
            _ => return false,
        }
        true
    }

    /// Attributes as JSON, without those that have a column; false where there are none.
    fn put_map(&self, out: &mut Vec<u8>, state: &State, number: usize, row: usize) -> bool {
        out.extend_from_slice(b"\"{");
        let mut first = true;
        if let Some(map) = self.maps[number] {
            for entry in map.entries(row).filter(|entry| !state.entries.contains(&Some((number, *entry)))) {
                member(out, &mut first, map.keys.at(entry));
                put_json(out, map.values.at(entry));
            }
            if let Some(types) = map.types(row) {
                member(out, &mut first, TYPES_KEY.as_bytes());
                put_json(out, types);
            }
        }
        if number == ATTRIBUTES {
            self.put_odd(out, state, &mut first, row);
        }
        out.extend_from_slice(b"}\"");
        !first
    }

    /// Tells what the columns can not.
    fn put_odd(&self, out: &mut Vec<u8>, state: &State, first: &mut bool, row: usize) {
        for (name, cell) in &self.odd {
            match cell {
                Cell::Double(numbers) if numbers.is_valid(row) && !numbers.value(row).is_finite() => {
                    member(out, first, name.as_bytes());
                    put_json(out, special(numbers.value(row)).as_bytes());
                }
                Cell::Int(numbers) if numbers.is_valid(row) && numbers.value(row) == i64::MIN => {
                    member(out, first, name.as_bytes());
                    put_json(out, i64::MIN.to_string().as_bytes());
                }
                _ => {}
            }
        }
        let Some(texts) = self.buckets.filter(|_| !state.buckets.exact) else { return };
        for (col, texts) in [Col::MetricBuckets, Col::MetricQuantiles].into_iter().zip(texts) {
            if let Some(text) = texts.map(|texts| texts.at(row)).filter(|text| !text.is_empty()) {
                member(out, first, format!("${}", col.name()).as_bytes());
                put_json(out, text);
            }
        }
    }
}

/// The part of a series that a point's attributes are, in whatever order they came.
fn hash(map: &StoredMap, row: usize) -> u64 {
    map.entries(row).fold(0, |sum: u64, entry| {
        let key = xxh3_64(map.keys.at(entry));
        sum.wrapping_add(xxhash_rust::xxh3::xxh3_64_with_seed(map.values.at(entry), key))
    })
}

/// `,name=text`, or a NUL alone for what can not be bare.
fn put_lead(out: &mut Vec<u8>, lead: &[u8], text: &[u8]) {
    if memchr::memchr(0, text).is_some() {
        return out.push(0);
    }
    out.push(b',');
    out.extend_from_slice(lead);
    put_bare(out, text);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) -> bool {
    if !text.is_empty() {
        put_quoted(out, text);
    }
    !text.is_empty()
}

#[inline]
fn put_int(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[inline]
fn put_long(out: &mut Vec<u8>, number: i64) {
    put_int(out, number);
    out.push(b'i');
}

#[inline]
fn put_double(out: &mut Vec<u8>, number: f64) {
    out.extend_from_slice(&[b'=', DOUBLE]);
    out.extend_from_slice(&number.to_le_bytes());
}

/// An array of one dimension.
fn put_doubles(out: &mut Vec<u8>, numbers: &[f64]) {
    out.extend_from_slice(&[b'=', ARRAY, ARRAY_OF_DOUBLES, 1]);
    out.extend_from_slice(&(numbers.len() as u32).to_le_bytes());
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}
