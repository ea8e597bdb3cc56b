//! Resource and scope: the columns they fill on every row, and the `context` text with what has no column.

use xxhash_rust::xxh3::xxh3_128;

use super::{
    any_value::{Any, comma, json_int, json_member, json_text},
    attributes::{Attribute, Cell, Feeds, MAX_REPEATED_TEXT_BYTES, Own, collect, pairs},
    columns::Columns,
    reserved::{ENVIRONMENT, ENVIRONMENT_OLD},
    wire::{Arena, Fields, Pieces, Value},
};
use crate::schema::{Col, Kind};

pub struct Resource<'a> {
    pub attributes: Vec<Attribute<'a>>,
    pub feeds: Feeds<'a>,
    /// What `labels.$env` says.
    pub environment: &'a [u8],
    /// The message itself.
    bytes: &'a [u8],
    schema_url: &'a [u8],
    hash: u128,
}

/// The last `schema_url` of a ResourceX or ScopeX.
fn schema_url(message: &[u8]) -> &[u8] {
    pairs(message, 3).last().unwrap_or_default()
}

fn first_message<'a>(message: &'a [u8], arena: &'a Arena) -> &'a [u8] {
    let mut pieces = Pieces::default();
    pairs(message, 1).for_each(|piece| pieces.add(piece));
    pieces.join(arena)
}

fn dropped(message: &[u8], field: u32) -> u64 {
    let varint = |(number, value)| match value {
        Value::Varint(value) if number == field => Some(value),
        _ => None,
    };
    u64::from(Fields::of(message).filter_map(varint).last().unwrap_or(0) as u32)
}

impl<'a> Resource<'a> {
    /// The resource of a ResourceSpans, ResourceLogs or ResourceMetrics, wherever in it the resource stands.
    pub fn of(message: &'a [u8], whole: bool, arena: &'a Arena, columns: &mut Columns) -> Resource<'a> {
        let resource = first_message(message, arena);
        let mut attributes = collect(pairs(resource, 1), arena);
        let mut feeds = Feeds::of(&attributes, true, 0, arena);
        for fed in &mut feeds.list {
            match fed.exact.filter(|_| fed.feeders == 1 && !whole) {
                Some(at) => attributes[at].home = true,
                None => fed.exact = None,
            }
            // A dictionary is asked once per resource, not once per row.
            if let (Some(Cell::Text(text)), Kind::LcString) = (&fed.cell, fed.col.kind()) {
                fed.cell = Some(Cell::Term(columns.term(fed.col, text)));
            }
        }
        let environment = environment(&mut attributes, whole);
        let hash = xxh3_128(resource);
        Resource { attributes, feeds, environment, bytes: resource, schema_url: schema_url(message), hash }
    }

    fn write(&self, out: &mut Vec<u8>, full: bool, first: &mut bool) {
        if self.attributes.iter().any(|attribute| full || !attribute.home) {
            comma(out, first);
            out.extend_from_slice(b"\"resource\":");
            write_attributes(out, &self.attributes, full);
        }
        write_text(out, first, b"\"resource_schema_url\":", self.schema_url);
        write_number(out, first, b"\"resource_dropped\":", dropped(self.bytes, 2));
        let entities: Vec<&[u8]> = pairs(self.bytes, 3).collect();
        if !entities.is_empty() {
            comma(out, first);
            out.extend_from_slice(b"\"resource_entities\":[");
            let mut first_entity = true;
            for entity in entities {
                comma(out, &mut first_entity);
                write_entity(out, entity);
            }
            out.push(b']');
        }
    }
}

/// An `EntityRef`.
fn write_entity(out: &mut Vec<u8>, message: &[u8]) {
    let mut first = true;
    out.push(b'{');
    write_text(out, &mut first, b"\"schema_url\":", pairs(message, 1).last().unwrap_or_default());
    write_text(out, &mut first, b"\"type\":", pairs(message, 2).last().unwrap_or_default());
    for (number, name) in [(3, &b"\"id_keys\":["[..]), (4, b"\"description_keys\":[")] {
        let mut first_key = true;
        for key in pairs(message, number) {
            if first_key {
                comma(out, &mut first);
                out.extend_from_slice(name);
            }
            comma(out, &mut first_key);
            json_text(out, key);
        }
        if !first_key {
            out.push(b']');
        }
    }
    out.push(b'}');
}

/// `$env`, from the current name before the old one; the current one alone has its home there.
fn environment<'a>(attributes: &mut [Attribute<'a>], whole: bool) -> &'a [u8] {
    let find = |key: &str| attributes.iter().position(|attribute| attribute.key == key.as_bytes());
    let (new, old) = (find(ENVIRONMENT), find(ENVIRONMENT_OLD));
    for at in [new, old].into_iter().flatten() {
        if let Any::Text(text) = attributes[at].value
            && !text.is_empty()
            && text.len() <= MAX_REPEATED_TEXT_BYTES
        {
            attributes[at].home = !whole && Some(at) == new && old.is_none();
            return text;
        }
    }
    b""
}

pub fn write_attributes(out: &mut Vec<u8>, attributes: &[Attribute], full: bool) {
    out.push(b'{');
    let mut first = true;
    for attribute in attributes.iter().filter(|attribute| full || !attribute.home) {
        comma(out, &mut first);
        json_member(out, attribute.key);
        attribute.value.write_json(out);
    }
    out.push(b'}');
}

pub fn write_text(out: &mut Vec<u8>, first: &mut bool, name: &[u8], text: &[u8]) {
    if !text.is_empty() {
        comma(out, first);
        out.extend_from_slice(name);
        json_text(out, text);
    }
}

pub fn write_number(out: &mut Vec<u8>, first: &mut bool, name: &[u8], number: u64) {
    if number != 0 {
        comma(out, first);
        out.extend_from_slice(name);
        json_int(out, number);
    }
}

/// A scope, what its rows have from it and the resource, and which rows have it otherwise.
pub struct Scope<'a> {
    name: &'a [u8],
    version: &'a [u8],
    attributes: Vec<Attribute<'a>>,
    dropped: u64,
    schema_url: &'a [u8],
    /// Makes digests of equal records differ between scopes and resources.
    pub seed: u64,
    logger: i32,
    /// The row that the scope begins with.
    first: usize,
    /// Whether all rows have the full context.
    full: bool,
    /// Rows whose own attributes interfere with the resource, and so have the full context.
    interfered: Vec<usize>,
    /// Columns and rows that the record's own attributes filled though the resource does, too.
    kept: Vec<(Col, usize)>,
}

impl<'a> Scope<'a> {
    pub fn of(
        message: &'a [u8],
        resource: &Resource<'a>,
        whole: bool,
        arena: &'a Arena,
        columns: &mut Columns,
    ) -> Scope<'a> {
        let scope = first_message(message, arena);
        let last = |number| pairs(scope, number).last().unwrap_or_default();
        let (name, version) = (last(1), last(2));
        let attributes = collect(pairs(scope, 3), arena);
        let mut both = [0u8; 32];
        both[..16].copy_from_slice(&resource.hash.to_be_bytes());
        both[16..].copy_from_slice(&xxh3_128(scope).to_be_bytes());
        Scope {
            name,
            version,
            attributes,
            dropped: dropped(scope, 4),
            schema_url: schema_url(message),
            seed: xxh3_128(&both) as u64,
            logger: if name.is_empty() { 0 } else { columns.term(Col::LogLogger, name) },
            first: columns.row,
            full: whole || !name.is_empty() && resource.feeds.get(Col::LogLogger).is_some(),
            interfered: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Notes where the record's own attributes (`own`) interfere with what resource and scope say.
    #[inline]
    pub fn row(&mut self, resource: &Resource, own: Option<&Own>, columns: &Columns) {
        let Some(own) = own else { return };
        let mut full = self.logger != 0 && own.names(Col::LogLogger);
        for col in &own.shared {
            full |= resource.feeds.get(*col).is_some_and(|fed| fed.exact.is_some());
            if own.fills(*col) {
                self.kept.push((*col, columns.row));
            }
        }
        if full && !self.full {
            self.interfered.push(columns.row);
        }
    }

    /// Fills the columns of all rows since `of` from resource and scope, except where the records' own attributes did.
    pub fn end(&self, resource: &Resource, columns: &mut Columns) {
        if columns.row == self.first {
            return;
        }
        for fed in &resource.feeds.list {
            if let Some(cell) = &fed.cell {
                let kept: Vec<usize> =
                    self.kept.iter().filter(|(col, _)| *col == fed.col).map(|(_, row)| *row).collect();
                columns.fill(fed.col, cell, self.first, &kept);
            }
        }
        if self.logger != 0 {
            columns.fill(Col::LogLogger, &Cell::Term(self.logger), self.first, &[]);
        }
        if let Some(key) = self.context(resource, self.full, columns) {
            columns.fill(Col::Context, &Cell::Term(key), self.first, &[]);
        }
        if !self.interfered.is_empty()
            && let Some(key) = self.context(resource, true, columns)
        {
            columns.replace(Col::Context, key, &self.interfered);
        }
    }

    fn context(&self, resource: &Resource, full: bool, columns: &mut Columns) -> Option<i32> {
        let text = self.text(resource, full);
        (!text.is_empty()).then(|| columns.term(Col::Context, &text))
    }

    fn text(&self, resource: &Resource, full: bool) -> Vec<u8> {
        let (mut out, mut first) = (vec![b'{'], true);
        resource.write(&mut out, full, &mut first);
        let (mut scope, mut scope_first) = (vec![b'{'], true);
        if full {
            write_text(&mut scope, &mut scope_first, b"\"name\":", self.name);
        }
        write_text(&mut scope, &mut scope_first, b"\"version\":", self.version);
        if !self.attributes.is_empty() {
            comma(&mut scope, &mut scope_first);
            scope.extend_from_slice(b"\"attributes\":");
            write_attributes(&mut scope, &self.attributes, true);
        }
        write_text(&mut scope, &mut scope_first, b"\"schema_url\":", self.schema_url);
        write_number(&mut scope, &mut scope_first, b"\"dropped\":", self.dropped);
        if !scope_first {
            comma(&mut out, &mut first);
            out.extend_from_slice(b"\"scope\":");
            out.extend_from_slice(&scope);
            out.push(b'}');
        }
        if first {
            return Vec::new();
        }
        out.push(b'}');
        out
    }
}
