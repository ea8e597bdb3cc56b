//! One accepted event to its rows. Nothing here can fail: `check` has looked at everything before.
//!
//! Every value has one home. A value that its column cannot restore exactly (an empty text, another type, a time in
//! another form, a word of an open vocabulary) also stands in `context.$src` as it came, and so does what has no home.

use std::borrow::Cow;

use super::{
    check::{FUTURE_NS, Times, is_uuid},
    expression::{Cell, Event, between, print, shortest},
    identity::Identity,
    json::{Kind, Value, unquoted},
    number::{exact, range, whole},
    plan::{Field, Home, Is, Mapping, Origin, Part, Rows, Target, Template},
    shape::{Found, Node, Shape, Stray},
    time::{self, Format},
};
use crate::{
    decode::{
        any_value::{comma, json_text},
        columns::Columns,
    },
    schema::{Col, Kind as ColumnKind, ValueKind},
};
use hashbrown::HashMap;

/// What the request knows of all its events.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    pub received_ns: i64,
    /// Empty where the pipeline decides it.
    pub tenant: &'a str,
    /// Empty where it is not to be stored.
    pub client_ip: &'a str,
    pub user_agent: &'a str,
    pub referer: &'a str,
    /// The value of the label `$privacy`, if any.
    pub privacy: &'a str,
}

/// Buffers of one row, reused.
#[derive(Default)]
pub struct Scratch {
    /// Members of `$src`, without braces.
    src: Vec<u8>,
    absent: Vec<u8>,
    enriched: Vec<u8>,
    out: Vec<u8>,
    /// Columns that this row has set.
    set: [u64; 3],
    timestamp: i64,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

fn zstd_context() -> zstd::bulk::Compressor<'static> {
    zstd::bulk::Compressor::new(1).expect("level 1 exists")
}

/// What a column holds after a field was written.
enum Stored<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Raw,
}

struct Row<'r> {
    mapping: &'r Mapping,
    event: Event<'r>,
    found: &'r Found<'r>,
    times: &'r Times,
    request: &'r Request<'r>,
    scratch: &'r mut Scratch,
    columns: &'r mut Columns,
}

/// Writes the event's rows; how many they are.
pub fn write<'r>(
    mapping: &'r Mapping,
    id: &Identity,
    found: &'r Found<'r>,
    times: &'r Times,
    request: &'r Request<'r>,
    scratch: &'r mut Scratch,
    columns: &'r mut Columns,
) -> usize {
    let before = columns.row;
    let event = Event { values: &found.values, times: &times.at };
    let mut row = Row { mapping, event, found, times, request, scratch, columns };
    match &mapping.rows {
        Rows::One => {
            row.begin();
            row.end(id, None, true);
        }
        Rows::Each { list, shape, part } => row.each(id, *list, shape, part),
        Rows::Fixed(parts) => row.fixed(id, parts),
    }
    row.columns.row - before
}

impl Row<'_> {
    fn begin(&mut self) {
        let scratch = &mut *self.scratch;
        scratch.src.clear();
        scratch.absent.clear();
        scratch.enriched.clear();
        (scratch.set, scratch.timestamp) = ([0; 3], i64::MIN);
        self.columns.text(Col::EventSource, self.mapping.source.as_bytes());
        let (mapping, event) = (self.mapping, self.event);
        self.part(&mapping.body, &event);
        self.flags();
    }

    /// `number`: which row of a fan-out it is.
    fn end(&mut self, id: &Identity, number: Option<usize>, first: bool) {
        self.fill();
        if first {
            self.extra();
        }
        self.templates();
        match (id, number) {
            (Identity::Key(key), None) => self.columns.uid(key),
            (Identity::Digest(digest, occurrence), None) => self.columns.id(*digest, *occurrence),
            (Identity::Key(key), Some(number)) => self.fanned(key, number),
            (Identity::Digest(digest, occurrence), Some(number)) => {
                self.fanned(format!("{digest:032x}\u{1f}{occurrence}").as_bytes(), number);
            }
        }
        self.columns.end_row();
    }

    fn fanned(&mut self, parent: &[u8], number: usize) {
        let mut buffer = itoa::Buffer::new();
        let uid = [parent, b"\x1f", buffer.format(number).as_bytes()].concat();
        self.columns.uid(&uid);
    }

    fn each(&mut self, id: &Identity, list: Node, shape: &Shape, part: &Part) {
        let items: Vec<Value> = self.event.values[list as usize].items().collect();
        let mut found = Found::default();
        let mut times = Times::default();
        for (number, item) in items.iter().enumerate() {
            shape.find(item.raw, &mut found);
            times.at.clear();
            times.at.resize(shape.len(), None);
            self.begin();
            self.part(part, &Event { values: &found.values, times: &times.at });
            self.note_number("\"i\"", number);
            self.note_number("\"of\"", items.len());
            if !found.strays.is_empty() {
                let mut out = Vec::new();
                strays(shape, 0, &found.strays, &mut out);
                self.note("\"item\"", std::str::from_utf8(&out).unwrap_or("{}"));
            }
            self.end(id, Some(number), number == 0);
        }
        if items.is_empty() {
            self.begin();
            self.note_number("\"of\"", 0);
            self.end(id, Some(0), true);
        }
    }

    /// What a part says that makes no row is told by the first row; without any part there is one row all the same.
    fn fixed(&mut self, id: &Identity, parts: &[(Option<Node>, Part)]) {
        let present = |place: &Option<Node>| place.is_none_or(|node| self.event.values[node as usize].is_present());
        let (wanted, others): (Vec<_>, Vec<_>) = parts.iter().partition(|(place, _)| present(place));
        let event = self.event;
        for number in 0..wanted.len().max(1) {
            self.begin();
            if let Some((_, part)) = wanted.get(number) {
                self.part(part, &event);
            }
            self.note_number("\"of\"", wanted.len());
            for field in others.iter().filter(|_| number == 0).flat_map(|(_, part)| &part.fields) {
                let value = event.values[field.node as usize];
                if value.kind != Kind::Missing {
                    self.note(&field.name, value.raw);
                }
            }
            self.end(id, Some(number), number == 0);
        }
    }

    /// Fields, then what is computed where no field was explicit.
    fn part(&mut self, part: &Part, event: &Event) {
        for field in &part.fields {
            self.field(field, event);
        }
        for (target, expression) in &part.columns {
            match target {
                Target::Column(col) if self.is_set(*col) => {}
                Target::Column(col) => drop(self.set(*col, expression.eval(event))),
                Target::Label(key) => {
                    if let Some(text) = expression.eval(event).text().filter(|text| !text.is_empty()) {
                        self.columns.labels.text(key, text.as_bytes());
                    }
                }
                Target::Attribute(key) => {
                    if let Some(text) = expression.eval(event).text().filter(|text| !text.is_empty()) {
                        self.columns.attributes.text(key, text.as_bytes());
                    }
                }
            }
        }
    }

    fn is_set(&self, col: Col) -> bool {
        self.scratch.set[col as usize / 64] & 1 << (col as usize % 64) != 0
    }

    // --- fields

    fn field(&mut self, field: &Field, event: &Event) {
        let value = event.values[field.node as usize];
        let missing = value.kind == Kind::Missing;
        if let Some(empty) = &field.empty {
            match missing {
                true => self.absent(&field.path),
                false if is_empty(value, empty) => return,
                false => {}
            }
        }
        let exact = match &field.home {
            Home::Member | Home::Nothing => true,
            Home::Source => missing,
            Home::Bag(col) => self.bag(*col, value),
            Home::Label(key) => self.label(key, value),
            Home::Labels => self.labels(field.node, value),
            Home::Attribute(key) => self.attribute(key, value),
            Home::Attributes => self.attributes(field.node, value),
            Home::Same(other) => {
                let other = event.values[*other as usize];
                if missing && other.kind != Kind::Missing {
                    self.absent(&field.path);
                }
                missing || value.raw == other.raw
            }
            Home::Namespace(optional) => self.namespace(field, value, *optional),
            Home::Id => {
                if missing {
                    self.absent(&field.path);
                }
                missing || value.text().is_some_and(|(text, whole)| whole && is_printed_uuid(&text))
            }
            Home::Constant(word) => {
                if missing {
                    self.absent(&field.path);
                }
                missing || value.text().is_some_and(|(text, _)| *text == **word)
            }
            Home::Column(col) => self.column(field, *col, event),
        };
        if !exact {
            self.note(&field.name, value.raw);
        }
    }

    /// Whether the column restores the value.
    fn column(&mut self, field: &Field, col: Col, event: &Event) -> bool {
        let value = event.values[field.node as usize];
        let missing = value.kind == Kind::Missing;
        if let Some((from, to)) = field.between {
            return self.duration(col, value, event.times[from as usize], event.times[to as usize]);
        }
        if let Some(default) = field.default {
            let default = event.values[default as usize];
            let same = value.text() == default.text();
            let Some(stored) = self.set(col, Cell::Value(if value.is_present() { value } else { default })) else {
                return missing;
            };
            if missing && !default.text().is_some_and(|(_, whole)| whole) {
                self.absent(&field.path);
            }
            return missing || value.is_present() && !same && restores(field, col, value, &stored, event);
        }
        let cell = match (&field.made_of, event.times[field.node as usize]) {
            (Some(expression), _) => expression.eval(event),
            (None, Some(ns)) => Cell::Time(ns),
            (None, None) if field.words.is_empty() => Cell::Value(value),
            (None, None) => {
                let word = Cell::Value(value).text().and_then(|word| field.words.get(&*word));
                word.map_or(Cell::None, |word| Cell::Text(Cow::Borrowed(word)))
            }
        };
        let Some(stored) = self.set(col, cell) else { return missing };
        if missing {
            self.absent(&field.path);
            return true;
        }
        restores(field, col, value, &stored, event)
    }

    /// An explicit duration, or the one between two instants (2.2).
    fn duration(&mut self, col: Col, value: Value, from: Option<i64>, to: Option<i64>) -> bool {
        let computed = from.zip(to).map(|(from, to)| between(from, to));
        let given = Cell::Value(value).number();
        match (given, computed) {
            (Some(given), Some(computed)) => {
                self.set(col, Cell::Number(given));
                if (given - computed).abs() > 1.0 {
                    self.note("\"computed_ms\"", &print(computed));
                }
                given != computed && exact(value.raw, given)
            }
            (Some(given), None) => {
                self.set(col, Cell::Number(given));
                exact(value.raw, given)
            }
            (None, computed) => {
                self.set(col, computed.map_or(Cell::None, Cell::Number));
                value.kind == Kind::Missing
            }
        }
    }

    /// Sets a column to what a cell means for it.
    fn set<'c>(&mut self, col: Col, cell: Cell<'c>) -> Option<Stored<'c>> {
        let stored = match col.kind() {
            ColumnKind::LcString | ColumnKind::String | ColumnKind::Uuid => {
                let text = cell.text().filter(|text| !text.is_empty())?;
                self.columns.text(col, text.as_bytes());
                Stored::Text(text)
            }
            ColumnKind::Json => {
                let Cell::Value(value) = cell else { return None };
                if matches!(value.kind, Kind::Missing | Kind::Null) {
                    return None;
                }
                self.columns.text(col, value.raw.as_bytes());
                Stored::Raw
            }
            ColumnKind::Float64 => {
                let number = cell.number()?;
                self.columns.double(col, number);
                Stored::Double(number)
            }
            ColumnKind::Bool => {
                let Cell::Value(Value { kind: kind @ (Kind::True | Kind::False), .. }) = cell else { return None };
                self.columns.bool(col, kind == Kind::True);
                Stored::Bool(kind == Kind::True)
            }
            ColumnKind::TimestampNs => {
                let Cell::Time(ns) = cell else { return None };
                self.columns.int(col, ns);
                if col == Col::Timestamp {
                    self.scratch.timestamp = ns;
                }
                Stored::Int(ns)
            }
            kind => {
                let number = match cell {
                    Cell::Value(value) if value.kind == Kind::Number => whole(value.raw),
                    cell => cell.number().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64),
                };
                let number = number.filter(|number| range(kind).contains(number))?;
                self.columns.int(col, number);
                Stored::Int(number)
            }
        };
        self.scratch.set[col as usize / 64] |= 1 << (col as usize % 64);
        Some(stored)
    }

    fn bag(&mut self, col: Col, value: Value) -> bool {
        match (value.kind, col.kind()) {
            (Kind::Missing, _) => true,
            (_, ColumnKind::Bytes) => {
                // A compressor that fails (memory) leaves the value to `$src`.
                let packed = self.scratch.zstd.get_or_insert_with(zstd_context).compress(value.raw.as_bytes());
                packed.is_ok_and(|packed| {
                    self.columns.bytes(col, &packed);
                    true
                })
            }
            // `context` gets members of ours, so it has to be an object, and an empty one would look like none.
            (Kind::Object, _) if col == Col::Context => value.members().next().is_some(),
            (kind, _) => kind == Kind::Object || col == Col::Data,
        }
    }

    fn label(&mut self, key: &str, value: Value) -> bool {
        match Cell::Value(value).text() {
            Some(text) => {
                self.columns.labels.text(key, text.as_bytes());
                value.text().is_some_and(|(_, whole)| whole)
            }
            None => value.kind == Kind::Missing,
        }
    }

    fn labels(&mut self, node: Node, value: Value) -> bool {
        if value.kind != Kind::Object {
            return value.kind == Kind::Missing;
        }
        let mut exact = true;
        let strays: Vec<&Stray> = last_of_each(self.found.strays.iter().filter(|stray| stray.node == node), &mut exact);
        for stray in strays {
            let (key, whole) = unquoted(stray.name);
            let Some(text) = Cell::Value(stray.value).text() else {
                exact = false;
                continue;
            };
            self.columns.labels.key(key.as_bytes(), true, ValueKind::String);
            self.columns.labels.texts.push(text.as_bytes());
            exact &= whole && stray.value.text().is_some_and(|(_, whole)| whole);
        }
        // An empty object would look like none.
        exact && !is_bare(value)
    }

    fn attribute(&mut self, key: &str, value: Value) -> bool {
        if value.kind == Kind::Missing {
            return true;
        }
        self.columns.attributes.key(key.as_bytes(), false, kind_of(value));
        self.typed(value)
    }

    fn attributes(&mut self, node: Node, value: Value) -> bool {
        if value.kind != Kind::Object {
            return value.kind == Kind::Missing;
        }
        let mut exact = true;
        let strays: Vec<&Stray> = last_of_each(self.found.strays.iter().filter(|stray| stray.node == node), &mut exact);
        for stray in strays {
            let (key, whole) = unquoted(stray.name);
            self.columns.attributes.key(key.as_bytes(), true, kind_of(stray.value));
            exact &= whole & self.typed(stray.value);
        }
        exact && !is_bare(value)
    }

    /// Writes the text of an attribute whose key has been written.
    fn typed(&mut self, value: Value) -> bool {
        let texts = &mut self.columns.attributes.texts;
        match value.kind {
            Kind::Text => {
                let (text, whole) = unquoted(value.raw);
                texts.push(text.as_bytes());
                whole
            }
            Kind::Null => {
                texts.push(b"");
                true
            }
            Kind::Number => {
                let text = shortest(value.raw);
                texts.push(text.as_bytes());
                text == value.raw || value.raw.parse().is_ok_and(|number| exact(value.raw, number))
            }
            _ => {
                texts.push(value.raw.as_bytes());
                true
            }
        }
    }

    /// The payload's own word on its namespace counts where the request has none.
    fn namespace(&mut self, field: &Field, value: Value, optional: bool) -> bool {
        let Some((text, _)) = value.text() else {
            if value.kind == Kind::Missing && !optional {
                self.absent(&field.path);
            }
            return value.kind == Kind::Missing;
        };
        if !self.request.tenant.is_empty() {
            return !optional && text == self.request.tenant;
        }
        let slug = slug(&text);
        self.set(Col::Ns, Cell::Text(Cow::Borrowed(&slug)));
        !optional && text == slug
    }

    // --- `$src`

    /// `name` is quoted, `raw` is JSON.
    fn note(&mut self, name: &str, raw: &str) {
        let src = &mut self.scratch.src;
        let mut first = src.is_empty();
        comma(src, &mut first);
        src.extend_from_slice(name.as_bytes());
        src.push(b':');
        src.extend_from_slice(raw.as_bytes());
    }

    fn note_number(&mut self, name: &str, number: usize) {
        self.note(name, itoa::Buffer::new().format(number));
    }

    fn absent(&mut self, path: &str) {
        let absent = &mut self.scratch.absent;
        let mut first = absent.is_empty();
        comma(absent, &mut first);
        json_text(absent, path.as_bytes());
    }

    fn flags(&mut self) {
        if let Some(form) = &self.mapping.form {
            self.note("\"form\"", form);
        }
        if self.times.assumed {
            self.note("\"tz\"", "\"assumed\"");
        }
        if let Some(skew_ms) = self.times.skew_ms {
            self.note("\"skew_ms\"", itoa::Buffer::new().format(skew_ms));
        }
        if self.scratch.timestamp > self.request.received_ns.saturating_add(FUTURE_NS) {
            self.note("\"clock\"", "\"future\"");
        }
        if !self.request.privacy.is_empty() {
            self.columns.labels.text("$privacy", self.request.privacy.as_bytes());
        }
    }

    /// What the request knows and the event does not say.
    fn fill(&mut self) {
        let (fill, request) = (self.mapping.fill, self.request);
        if fill.user_agent && !request.user_agent.is_empty() && !self.is_set(Col::HttpUserAgent) {
            self.set(Col::HttpUserAgent, Cell::Text(Cow::Borrowed(request.user_agent)));
            self.enriched("http_user_agent");
        }
        if fill.referer && !request.referer.is_empty() && !self.is_set(Col::HttpUrl) {
            self.set(Col::HttpUrl, Cell::Text(Cow::Borrowed(request.referer)));
            self.enriched("http_url");
        }
    }

    fn enriched(&mut self, name: &str) {
        let list = &mut self.scratch.enriched;
        let mut first = list.is_empty();
        comma(list, &mut first);
        json_text(list, name.as_bytes());
    }

    fn extra(&mut self) {
        let lifted = |node: Node| self.mapping.templates.iter().any(|template| template.rest == Some(node));
        let kept: Vec<Stray> = self
            .found
            .strays
            .iter()
            .filter(|stray| !lifted(stray.node) && !self.mapping.shape.is_map(stray.node))
            .copied()
            .collect();
        if kept.is_empty() {
            return;
        }
        let mut out = Vec::new();
        strays(&self.mapping.shape, 0, &kept, &mut out);
        self.note("\"extra\"", std::str::from_utf8(&out).unwrap_or("{}"));
    }

    // --- JSON columns

    fn templates(&mut self) {
        let mapping = self.mapping;
        let mut context = false;
        for template in &mapping.templates {
            context |= template.col == Col::Context;
            self.template(template);
        }
        if !context {
            self.template(&Template { col: Col::Context, base: None, rest: None, members: Vec::new() });
        }
    }

    fn template(&mut self, template: &Template) {
        let mut out = std::mem::take(&mut self.scratch.out);
        out.clear();
        let base = template.base.map_or(Value::default(), |node| self.event.values[node as usize]);
        if base.kind == Kind::Object {
            self.base(template, base, &mut out);
        } else if base.kind != Kind::Missing && template.col == Col::Data {
            // A body that is no object stands alone.
            out.extend_from_slice(base.raw.as_bytes());
            self.columns.text(template.col, &out);
            self.scratch.out = out;
            return;
        }
        let bare = base.kind == Kind::Object && out == b"{";
        self.members(template, &mut out);
        if let Some(node) = template.rest {
            for stray in self.found.strays.iter().filter(|stray| stray.node == node && !stray.name.is_empty()) {
                open(&mut out);
                member(&mut out, stray.name, template.col == Col::Context);
                out.extend_from_slice(stray.value.raw.as_bytes());
            }
        }
        if template.col == Col::Context {
            self.own_members(&mut out);
        }
        if out.len() > 1 || bare {
            out.push(b'}');
            self.columns.text(template.col, &out);
        }
        self.scratch.out = out;
    }

    /// A bag without its closing brace.
    fn base(&self, template: &Template, base: Value, out: &mut Vec<u8>) {
        let own = template.col == Col::Context;
        let seen = template.base.is_some_and(|node| self.mapping.shape.has_members(node));
        let dollars = own && if seen { self.found.dollars } else { has_dollars(base) };
        if dollars {
            out.push(b'{');
            for (name, value) in base.members() {
                open(out);
                member(out, name, true);
                out.extend_from_slice(value.raw.as_bytes());
            }
        } else if is_bare(base) {
            out.push(b'{');
        } else {
            out.extend_from_slice(base.raw[..base.raw.len() - 1].trim_ascii_end().as_bytes());
        }
    }

    /// Named members; those of one object stand side by side, so an object is opened once.
    fn members(&self, template: &Template, out: &mut Vec<u8>) {
        let mut opened: Vec<&str> = Vec::new();
        for (path, origin) in &template.members {
            let value = match origin {
                Origin::Place(node) => self.event.values[*node as usize],
                Origin::Computed(expression) => match expression.eval(&self.event) {
                    Cell::Value(value) => value,
                    Cell::None => continue,
                    cell => {
                        self.enter(out, &mut opened, path);
                        computed(&cell, out);
                        continue;
                    }
                },
            };
            if value.kind != Kind::Missing && !self.is_default(origin, value) {
                self.enter(out, &mut opened, path);
                out.extend_from_slice(value.raw.as_bytes());
            }
        }
        out.resize(out.len() + opened.len(), b'}');
    }

    /// Whether an empty home says the same.
    fn is_default(&self, origin: &Origin, value: Value) -> bool {
        let Origin::Place(node) = origin else { return false };
        let field =
            self.mapping.body.fields.iter().find(|field| field.node == *node && matches!(field.home, Home::Member));
        field.and_then(|field| field.empty.as_deref()).is_some_and(|empty| is_empty(value, empty))
    }

    fn enter<'p>(&self, out: &mut Vec<u8>, opened: &mut Vec<&'p str>, path: &'p [Box<str>]) {
        let (name, parents) = path.split_last().expect("a member has a name");
        let shared = opened.iter().zip(parents).take_while(|(open, wanted)| **open == &***wanted).count();
        out.resize(out.len() + opened.len() - shared, b'}');
        opened.truncate(shared);
        for parent in &parents[shared..] {
            open(out);
            out.extend_from_slice(parent.as_bytes());
            out.extend_from_slice(b":{");
            opened.push(parent);
        }
        open(out);
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
    }

    /// `ip`, `$src` and `$enrich` of `context`.
    fn own_members(&mut self, out: &mut Vec<u8>) {
        let request = self.request;
        let given = |node: Node| self.event.values[node as usize].kind != Kind::Missing;
        let fill = self.mapping.fill;
        if fill.client_ip && !request.client_ip.is_empty() && !fill.ip_place.is_some_and(given) {
            open(out);
            out.extend_from_slice(b"\"ip\":");
            json_text(out, request.client_ip.as_bytes());
            self.enriched("context.ip");
        }
        let absent = std::mem::take(&mut self.scratch.absent);
        if !absent.is_empty() {
            self.note("\"absent\"", &format!("[{}]", String::from_utf8_lossy(&absent)));
        }
        self.scratch.absent = absent;
        for (name, list, brackets) in [("$src", &self.scratch.src, b"{}"), ("$enrich", &self.scratch.enriched, b"[]")] {
            if list.is_empty() {
                continue;
            }
            open(out);
            json_text(out, name.as_bytes());
            out.push(b':');
            if name == "$enrich" {
                out.extend_from_slice(b"{\"columns\":");
            }
            out.push(brackets[0]);
            out.extend_from_slice(list);
            out.push(brackets[1]);
            if name == "$enrich" {
                out.push(b'}');
            }
        }
    }
}

/// Whether what the column holds is, read back, the value.
fn restores(field: &Field, col: Col, value: Value, stored: &Stored, event: &Event) -> bool {
    let text = value.text();
    match stored {
        Stored::Text(stored) if field.words.is_empty() => match &text {
            Some((text, whole)) => *whole && **text == **stored && !(is_canonical(field) && looks_like_json(text)),
            None => is_canonical(field) && matches!(value.kind, Kind::Object | Kind::List),
        },
        Stored::Text(stored) => match (field.back.get(&**stored), &text) {
            (Some(back), Some((text, _))) => **back == **text && field.is != Is::Integer,
            (Some(back), None) => **back == *value.raw && field.is == Is::Integer,
            _ => false,
        },
        Stored::Int(ns) if col.kind() == ColumnKind::TimestampNs => match (field.format, text) {
            (Some(Format::Milliseconds), _) => value.raw.parse() == Ok(ns / 1_000_000) && ns % 1_000_000 == 0,
            (_, Some((text, _))) => {
                let mut out = Vec::with_capacity(30);
                time::print(*ns, &mut out);
                out == text.as_bytes()
            }
            _ => false,
        },
        Stored::Int(number) if field.plus.or(field.until).is_none() => {
            value.kind == Kind::Number && whole(value.raw) == Some(*number)
        }
        Stored::Int(number) => {
            value.kind == Kind::Number && offset(field, *number as f64, event) == value.raw.parse().ok()
        }
        Stored::Double(stored) => {
            let restored = offset(field, *stored, event);
            value.kind == Kind::Number && restored.is_some_and(|restored| exact(value.raw, restored))
        }
        Stored::Bool(stored) => value.kind == if *stored { Kind::True } else { Kind::False },
        Stored::Raw => true,
    }
}

/// The value that a stored distance from another one means.
fn offset(field: &Field, stored: f64, event: &Event) -> Option<f64> {
    let number = |node: Node| Cell::Value(event.values[node as usize]).number();
    match (field.plus, field.until) {
        (Some(node), _) => number(node).map(|other| stored + other),
        (_, Some(node)) => number(node).map(|other| other - stored),
        _ => Some(stored),
    }
}

fn is_canonical(field: &Field) -> bool {
    matches!(field.made_of, Some(super::expression::Expression::Canonical(_)))
}

fn looks_like_json(text: &str) -> bool {
    text.starts_with(['{', '['])
}

fn is_bare(value: Value) -> bool {
    value.kind == Kind::Object && value.members().next().is_none()
}

fn has_dollars(object: Value) -> bool {
    object.members().any(|(name, _)| name.as_bytes()[1] == b'$' || name.contains('\\'))
}

fn is_empty(value: Value, empty: &str) -> bool {
    match empty {
        "[]" => value.kind == Kind::List && value.items().next().is_none(),
        "{}" => is_bare(value),
        _ => value.raw == empty,
    }
}

/// A UUID as an id is printed.
fn is_printed_uuid(text: &str) -> bool {
    is_uuid(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn kind_of(value: Value) -> ValueKind {
    match value.kind {
        Kind::Missing | Kind::Null => ValueKind::Empty,
        Kind::True | Kind::False => ValueKind::Bool,
        Kind::Number if value.raw.parse::<i64>().is_ok() => ValueKind::Int,
        Kind::Number => ValueKind::Double,
        Kind::Text => ValueKind::String,
        Kind::Object => ValueKind::KvList,
        Kind::List => ValueKind::Array,
    }
}

/// The last member of each key, where it stands; `exact` turns false where some key came twice.
fn last_of_each<'s, 'a>(strays: impl Iterator<Item = &'s Stray<'a>>, exact: &mut bool) -> Vec<&'s Stray<'a>> {
    let all: Vec<&Stray> = strays.filter(|stray| !stray.name.is_empty()).collect();
    let mut places: HashMap<Cow<str>, usize, foldhash::fast::RandomState> = HashMap::default();
    for (at, stray) in all.iter().enumerate() {
        *exact &= places.insert(unquoted(stray.name).0, at).is_none();
    }
    if *exact || places.len() == all.len() {
        return all;
    }
    let mut kept: Vec<usize> = places.into_values().collect();
    kept.sort_unstable();
    kept.into_iter().map(|at| all[at]).collect()
}

/// A brace or a comma before the next member, as it needs.
fn open(out: &mut Vec<u8>) {
    match out.last() {
        None => out.push(b'{'),
        Some(b'{') => {}
        Some(_) => out.push(b','),
    }
}

/// A key and its colon; in `context` a leading `$` of the source's own is doubled.
fn member(out: &mut Vec<u8>, name: &str, doubled: bool) {
    if doubled && unquoted(name).0.starts_with('$') {
        out.extend_from_slice(b"\"$");
        out.extend_from_slice(&name.as_bytes()[1..]);
    } else {
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b':');
}

fn computed(cell: &Cell, out: &mut Vec<u8>) {
    match cell {
        Cell::Number(number) => out.extend_from_slice(print(*number).as_bytes()),
        cell => json_text(out, cell.text().unwrap_or_default().as_bytes()),
    }
}

/// Members that no path names, each within the objects it came in.
fn strays(shape: &Shape, node: Node, list: &[Stray], out: &mut Vec<u8>) {
    out.push(b'{');
    for stray in list.iter().filter(|stray| stray.node == node && !stray.name.is_empty()) {
        open(out);
        member(out, stray.name, false);
        out.extend_from_slice(stray.value.raw.as_bytes());
    }
    for (child, name) in shape.children(node) {
        if holds(shape, child, list) {
            open(out);
            member(out, name, false);
            strays(shape, child, list, out);
        }
    }
    out.push(b'}');
}

fn holds(shape: &Shape, node: Node, list: &[Stray]) -> bool {
    list.iter().any(|stray| stray.node == node) || shape.children(node).any(|(child, _)| holds(shape, child, list))
}

/// Lower case, without a scheme, every run of other characters one dash (2.3).
fn slug(text: &str) -> String {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest).to_lowercase();
    let mut slug = String::new();
    for character in text.chars() {
        let fits = character.is_ascii_lowercase() || character.is_ascii_digit() || "._-".contains(character);
        match fits {
            true => slug.push(character),
            false if !slug.ends_with('-') => slug.push('-'),
            false => {}
        }
    }
    slug.trim_matches(['.', '_', '-']).chars().take(63).collect()
}
