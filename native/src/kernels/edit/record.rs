//! Changes the attributes of records: of spans, of log records, of points.
//!
//! What an attribute fed is made anew with it: a column follows what is left of its attributes, as if the record had
//! been decoded with them. An attribute is put into its column alone where the decoder would have put it there. A
//! resource's attribute that had its only home in a column goes to the context before a record's takes the column.

use std::borrow::Cow;

use arrow_schema::ArrowError;
use hashbrown::HashMap;
use regex::Regex;

use super::{
    actions::{Attributes, Key, Memo, Program, run},
    cells::{Changed, rebuilt},
    contexts::Context,
    entries::Rewriter,
    value::Value,
    view::{EVENT_NAME, TYPES, URL_PARTS, View, is_ours},
};
use crate::{
    batch::Batch,
    decode::{
        attributes::{Cell, MAX_REPEATED_TEXT_BYTES},
        keys::{CANONICAL, Rule, Transform},
        reserved,
        wire::Arena,
    },
    encode::store::{TYPES_KEY, escaped, types_of},
    kernels::{columns::Parts, url::Url},
    schema::{Col, Kind, ValueKind},
};

type Result<T> = std::result::Result<T, ArrowError>;

/// The batch with its records' attributes changed, where `rows` says so (default: all); `None` when nothing changed.
pub fn edit(batch: &Batch, program: &Program, rows: Option<&[bool]>) -> Result<Option<Batch>> {
    let (parts, arena) = (Parts::of(batch), Arena::default());
    let mut view = View::of(batch, &parts, &arena)?;
    let keys = view.ask(&program.keys)?;
    for (key, col, resource) in CANONICAL {
        let in_column = !resource && parts.get(*col).is_some() && view.map_col == Col::Attributes;
        if in_column && program.patterns.iter().any(|pattern| pattern.is_match(key)) {
            view.slot(key)?;
        }
    }
    let mut editor = Editor::of(&view, batch);
    let mut memo = Memo::default();
    let mut row = 0;
    for payload in &batch.runs {
        for row in row..row + payload.rows {
            if rows.is_some_and(|rows| !rows[row]) {
                continue;
            }
            let shape = view.shape(row, |key| matches(&program.patterns, key))?;
            editor.begin(&view, program);
            let metadata = &payload.source.metadata;
            let mut on = Row { view: &view, row, shape, editor: &mut editor, metadata, keys: &keys };
            run(program, &mut on, &mut memo, &arena);
            on.settle();
        }
        row += payload.rows;
    }
    editor.finish(view, batch)
}

fn matches(patterns: &[Regex], stored: &str) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(own_key(stored)))
}

/// A map's key as the user wrote it.
fn own_key(stored: &str) -> &str {
    if stored.starts_with("$$") { &stored[1..] } else { stored }
}

/// What a row's slot holds now.
#[derive(Clone, Copy)]
enum State<'a> {
    Unread,
    Read(Option<Value<'a>>),
    Set(Option<Value<'a>>),
}

/// A change of the row's map.
struct Entry<'a> {
    /// Within the row; past its end for what is new.
    place: usize,
    slot: usize,
    value: Option<Value<'a>>,
}

/// Stands for the name of a log record that has none.
const NO_EVENT_NAME: &str = "otel.log";

/// What goes to the context of a row: the resource's attributes, and the scope's name under the empty key.
type Moved<'a> = Vec<(&'static str, &'a str)>;

/// Everything that changes, and what the present row needs to be worked out.
struct Editor<'a> {
    states: Vec<State<'a>>,
    touched: Vec<usize>,
    /// Slots that each pattern matches, among the first `known` ones.
    matched: Vec<Vec<usize>>,
    known: usize,
    /// Columns to be derived, and whether each then is its attribute's only home.
    affected: Vec<usize>,
    homes: Vec<Option<bool>>,
    entries: Vec<Entry<'a>>,
    rewriter: Rewriter<'a>,
    /// By column: rows and their new cells.
    cells: Vec<Changed<'a>>,
    moved: Vec<(usize, Moved<'a>)>,
    /// Log records whose event's name was its attribute.
    names: Changed<'a>,
    /// Whether a URL's parts are made of it: `unify` has done so.
    completed: bool,
    changed: bool,
    rewritten: bool,
}

impl<'a> Editor<'a> {
    fn of(view: &View<'a>, batch: &Batch) -> Editor<'a> {
        Editor {
            states: Vec::new(),
            touched: Vec::new(),
            matched: Vec::new(),
            known: 0,
            affected: Vec::new(),
            homes: Vec::new(),
            entries: Vec::new(),
            rewriter: Rewriter::of(view.map, view.map_col == Col::Attributes, batch.rows()),
            cells: Vec::new(),
            moved: Vec::new(),
            names: Vec::new(),
            completed: batch.completed,
            changed: false,
            rewritten: false,
        }
    }

    /// Makes ready for a row; slots may have come along with its shape.
    fn begin(&mut self, view: &View<'a>, program: &Program) {
        for slot in self.touched.drain(..) {
            self.states[slot] = State::Unread;
        }
        if self.known < view.slots.len() {
            self.states.resize(view.slots.len(), State::Unread);
            self.cells.resize_with(view.columns.len(), Vec::new);
            self.homes.resize(view.columns.len(), None);
            self.matched.resize_with(program.patterns.len(), Vec::new);
            for (pattern, matched) in program.patterns.iter().zip(&mut self.matched) {
                let new = self.known..view.slots.len();
                let key = |slot: &usize| view.slots[*slot].key.as_str();
                matched.extend(new.filter(|slot| !is_ours(key(slot)) && pattern.is_match(own_key(key(slot)))));
            }
            self.known = view.slots.len();
        }
    }

    fn finish(self, mut view: View<'a>, batch: &Batch) -> Result<Option<Batch>> {
        if !self.changed {
            return Ok(None);
        }
        let mut columns = Vec::new();
        if self.rewritten {
            columns.push((view.map_col, self.rewriter.finish()?));
        }
        for (column, cells) in view.columns.iter().zip(self.cells) {
            if !cells.is_empty() {
                columns.push((column.col, rebuilt(column.col, view.parts.get(column.col), batch.rows(), &cells)?));
            }
        }
        if !self.names.is_empty() {
            let names = rebuilt(Col::EventName, view.parts.get(Col::EventName), batch.rows(), &self.names)?;
            columns.push((Col::EventName, names));
        }
        let mut known: HashMap<(Option<usize>, Moved<'a>), usize> = HashMap::default();
        for (row, moved) in self.moved {
            let number = *known.entry((view.contexts.term(row), moved)).or_insert_with_key(|(_, moved)| {
                let mut context: Context<'a> = view.contexts.get(row).clone();
                for (key, text) in moved {
                    match *key {
                        "" => context.scope_name = text,
                        key => context.resource.push((key, Value::string(text))),
                    }
                }
                view.contexts.add(&context)
            });
            view.contexts.set(row, number);
        }
        if let Some(contexts) = view.contexts.finish(view.parts)? {
            columns.push((Col::Context, Some(contexts)));
        }
        let mut parts = Parts::of(batch);
        for (col, array) in columns {
            parts.put(col, array);
        }
        Ok(Some(batch.with_columns(parts.finish()?, false)))
    }
}

/// One row under way.
struct Row<'v, 'a> {
    view: &'v View<'a>,
    row: usize,
    shape: usize,
    editor: &'v mut Editor<'a>,
    metadata: &'a [(String, String)],
    /// The slots of the program's keys.
    keys: &'v [usize],
}

impl<'a> Attributes<'a> for Row<'_, 'a> {
    fn get(&mut self, key: Key) -> Option<Value<'a>> {
        self.value(self.slot(key))
    }

    fn set(&mut self, key: Key, value: Option<Value<'a>>) {
        let slot = self.slot(key);
        if self.value(slot) != value {
            self.editor.states[slot] = State::Set(value);
        }
    }

    fn matching(&mut self, pattern: usize) -> Vec<Key> {
        self.editor.matched[pattern].iter().map(|slot| Key::Found(*slot)).collect()
    }

    fn metadata(&self, name: &str) -> Option<&'a str> {
        self.view.metadata(self.metadata, name)
    }
}

impl<'a> Row<'_, 'a> {
    fn slot(&self, key: Key) -> usize {
        match key {
            Key::Named(number) => self.keys[number],
            Key::Found(slot) => slot,
        }
    }

    fn value(&mut self, slot: usize) -> Option<Value<'a>> {
        match self.editor.states[slot] {
            State::Read(value) | State::Set(value) => value,
            State::Unread => {
                let value = self.view.record(self.row, self.shape, slot);
                self.editor.states[slot] = State::Read(value);
                self.editor.touched.push(slot);
                value
            }
        }
    }

    fn is_set(&self, slot: usize) -> bool {
        matches!(self.editor.states[slot], State::Set(_))
    }

    /// Takes down what the row's changes mean for its columns and its map.
    fn settle(&mut self) {
        if !self.editor.touched.iter().any(|slot| self.is_set(*slot)) {
            return;
        }
        self.editor.changed = true;
        self.affect();
        let affected = std::mem::take(&mut self.editor.affected);
        for column in &affected {
            let home = self.derive(*column);
            self.editor.homes[*column] = Some(home);
        }
        self.collect_entries();
        for column in &affected {
            self.editor.homes[*column] = None;
        }
        self.editor.affected = affected;
        if !self.editor.entries.is_empty() {
            self.editor.rewritten = true;
            self.rewrite();
        }
    }

    /// The columns that changed attributes feed: a URL before its parts.
    fn affect(&mut self) {
        let Editor { affected, touched, states, .. } = &mut *self.editor;
        affected.clear();
        for slot in touched.iter().filter(|slot| matches!(states[**slot], State::Set(_))) {
            affected.extend_from_slice(&self.view.slots[*slot].columns);
        }
        if affected.is_empty() {
            return;
        }
        affected.sort_unstable();
        affected.dedup();
        let is_url = |column: &usize| self.view.columns[*column].col == Col::HttpUrl;
        if let Some(at) = affected.iter().position(is_url) {
            let url = affected.remove(at);
            affected.extend(URL_PARTS.iter().filter_map(|part| self.view.column_of(*part)));
            affected.sort_unstable();
            affected.dedup();
            affected.insert(0, url);
        }
    }

    /// The column's new cell; whether the column then is its attribute's only home.
    fn derive(&mut self, column: usize) -> bool {
        let (view, row, shape) = (self.view, self.row, self.shape);
        let about = &view.columns[column];
        let (mut present, mut best): (usize, Option<(&Rule, Value<'a>, Cell<'a>)>) = (0, None);
        for slot in &about.feeders {
            let Some(value) = self.value(*slot) else { continue };
            present += 1;
            let rule = view.slots[*slot].rules.iter().find(|rule| rule.col == about.col).expect("it feeds the column");
            // Looking the kind up costs as much as all the rest.
            let kind =
                if matches!(rule.transform, Transform::Peer | Transform::Server) { view.span_kind(row) } else { 0 };
            if let Some(cell) = value.cell(rule, kind, view.arena)
                && best.as_ref().is_none_or(|(before, ..)| rule.rank >= before.rank)
            {
                best = Some((rule, value, cell));
            }
        }
        let fed = view.fed(shape).has(about.col) || view.context(row).fed.has(about.col);
        // What the column holds for a resource, or for a scope, and nothing else holds.
        let shared = !fed && (about.of_resource.is_some() || is_scope(about.col)) && !about.cells.is_empty(row);
        if shared {
            if present > 0 {
                self.move_to_context(about.of_resource.unwrap_or(""), column);
            }
            if best.is_none() || is_scope(about.col) {
                return false;
            }
        }
        let part = URL_PARTS.contains(&about.col).then(|| self.url_part(about.col)).flatten();
        let home = present == 1
            && part.is_none()
            && !view.context(row).fed.has(about.col)
            && about.canonical.is_some_and(|slot| view.place(shape, slot).is_none())
            && best.as_ref().is_some_and(|(rule, value, cell)| value.is_exact(rule, false, cell, view.arena));
        let cell = match best {
            _ if is_scope(about.col) && !view.context(row).scope_name.is_empty() => {
                Some(Cell::Text(Cow::Borrowed(view.context(row).scope_name.as_bytes())))
            }
            Some((_, _, cell)) => Some(cell),
            None => self
                .of_context(about.col)
                .or_else(|| part.flatten().map(|text| Cell::Text(Cow::Borrowed(text.as_bytes())))),
        };
        self.editor.cells[column].push((row, cell));
        home
    }

    /// The resource's attribute, or the scope's name, that only this column holds.
    fn move_to_context(&mut self, key: &'static str, column: usize) {
        let Some(Cell::Text(Cow::Borrowed(text))) = self.view.columns[column].cells.get(self.row) else { return };
        let text = std::str::from_utf8(text).unwrap_or_default();
        match self.editor.moved.last_mut() {
            Some((row, moved)) if *row == self.row => moved.push((key, text)),
            _ => self.editor.moved.push((self.row, vec![(key, text)])),
        }
    }

    /// What the context's resource feeds the column with.
    fn of_context(&self, col: Col) -> Option<Cell<'a>> {
        let view = self.view;
        let repeated = |cell: &Cell| match cell {
            Cell::Text(text) => col.kind() != Kind::LcString && text.len() > MAX_REPEATED_TEXT_BYTES,
            _ => false,
        };
        let attributes = view.context(self.row).resource.iter();
        let fitting = attributes.flat_map(|(key, value)| {
            let rules = crate::decode::keys::rules(key.as_bytes()).iter().filter(|rule| rule.col == col);
            rules.filter_map(|rule| Some((rule.rank, value.cell(rule, 0, view.arena)?)))
        });
        fitting.filter(|(_, cell)| !repeated(cell)).max_by_key(|(rank, _)| *rank).map(|(_, cell)| cell)
    }

    /// What the row's URL, as it now is, says of one of its parts, if anything; `None` when there is no URL.
    fn url_part(&mut self, part: Col) -> Option<Option<&'a str>> {
        let column = self.view.column_of(Col::HttpUrl);
        let fed = self.view.context(self.row).fed.has(Col::HttpUrl)
            || match column {
                Some(url) => self.view.columns[url].feeders.iter().any(|slot| self.value(*slot).is_some()),
                None => self.view.fed(self.shape).has(Col::HttpUrl),
            };
        let text = match column.and_then(|url| self.editor.cells[url].last()) {
            Some((row, cell)) if *row == self.row => match cell {
                Some(Cell::Text(text)) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            },
            _ => self.view.url(self.row).to_owned(),
        };
        if text.is_empty() {
            return fed.then_some(None);
        }
        if !self.editor.completed {
            return Some(None);
        }
        let url = Url::of(&text);
        let said = match part {
            Col::HttpHost => url.host.to_ascii_lowercase(),
            Col::HttpPath => url.path.to_owned(),
            _ => url.query.to_owned(),
        };
        Some(Some(self.view.keep(said)).filter(|said| !said.is_empty()))
    }

    /// The changes of the row's map, in its order.
    fn collect_entries(&mut self) {
        let past = self.view.map.map_or(0, |map| map.range(self.row).len());
        self.editor.entries.clear();
        for at in 0..self.editor.touched.len() {
            let slot = self.editor.touched[at];
            let (set, place) = (self.is_set(slot), self.view.place(self.shape, slot));
            let home = self.view.slots[slot].home.and_then(|column| self.editor.homes[column]);
            let (State::Read(value) | State::Set(value)) = self.editor.states[slot] else { continue };
            let place = match (place, value) {
                (Some(place), _) if set => place,
                // It had its home in the column, and has it no more.
                (None, Some(_)) if (set || home.is_some()) && home != Some(true) => past,
                _ => continue,
            };
            self.editor.entries.push(Entry { place, slot, value });
        }
        if !self.view.typed {
            self.change_types(past);
        }
        if let Some(slot) = self.view.event_name.filter(|slot| self.is_set(*slot)) {
            self.rename_event(slot, past);
        }
        self.editor.entries.sort_by_key(|entry| entry.place);
    }

    fn rewrite(&mut self) {
        let Editor { rewriter, entries, .. } = &mut *self.editor;
        rewriter.copy_rows(self.row);
        let start = self.view.map.map_or(0, |map| map.range(self.row).start);
        let past = self.view.map.map_or(0, |map| map.range(self.row).len());
        for entry in entries.iter().filter(|entry| entry.place < past) {
            rewriter.copy_entries(start + entry.place);
            rewriter.skip();
            if let Some(value) = entry.value {
                rewriter.push(&self.view.slots[entry.slot].key, value);
            }
        }
        rewriter.copy_rest();
        for entry in entries.iter().filter(|entry| entry.place == past) {
            if let Some(value) = entry.value {
                rewriter.push(&self.view.slots[entry.slot].key, value);
            }
        }
        rewriter.end_row();
    }

    /// The attribute `event.name` stands in for a log record's own name, and a note tells where both are there.
    fn rename_event(&mut self, slot: usize, past: usize) {
        let text = |value: Option<Value<'a>>| {
            value.filter(|value| value.kind == ValueKind::String && !value.text.is_empty()).map(|value| value.text)
        };
        let before = text(self.view.record(self.row, self.shape, slot));
        let now = text(self.value(slot));
        let column = self.view.parts.text(Col::EventName).map_or("", |text| text.get(self.row));
        let note = self.view.note(self.row, reserved::EVENT_NAME);
        let own = match note {
            Some(own) => own,
            None if before.is_some() || column == NO_EVENT_NAME => "",
            None => column,
        };
        let name = Some(own).filter(|own| !own.is_empty()).or(now).unwrap_or(NO_EVENT_NAME);
        if name != column {
            self.editor.names.push((self.row, Some(Cell::Text(Cow::Borrowed(name.as_bytes())))));
        }
        let noted = (own == NO_EVENT_NAME || !own.is_empty() && now.is_some()).then_some(own);
        if noted != note {
            let place = self.view.place(self.shape, EVENT_NAME).unwrap_or(past);
            self.editor.entries.push(Entry { place, slot: EVENT_NAME, value: noted.map(Value::string) });
        }
    }

    /// In a map of text, kinds stand in an entry of ours: it changes with the others.
    fn change_types(&mut self, past: usize) {
        let before = self.view.note(self.row, TYPES_KEY).unwrap_or("");
        let entries = &mut self.editor.entries;
        let plain = |entry: &Entry| entry.value.is_none_or(|value| value.kind == ValueKind::String);
        if before.is_empty() && entries.iter().all(plain) {
            return;
        }
        let key_of = |entry: &Entry| self.view.slots[entry.slot].key.as_str();
        let mut pairs: Vec<(Cow<str>, u8)> =
            types_of(before).filter(|(key, _)| entries.iter().all(|entry| key_of(entry) != key)).collect();
        for entry in entries.iter().filter(|entry| !plain(entry)) {
            if let Some(value) = entry.value {
                pairs.push((Cow::Borrowed(key_of(entry)), value.kind as u8));
            }
        }
        let text: Vec<String> = pairs.iter().map(|(key, kind)| format!("{}={kind}", escaped(key))).collect();
        let text = text.join(",");
        if text != before {
            let place = self.view.place(self.shape, TYPES).unwrap_or(past);
            let value = (!text.is_empty()).then(|| Value::string(self.view.keep(text)));
            entries.push(Entry { place, slot: TYPES, value });
        }
    }
}

/// The scope's name is no attribute, but its column is fed by some.
fn is_scope(col: Col) -> bool {
    col == Col::LogLogger
}
