//! Changes the attributes of resources: worked out once per distinct resource, told to its rows.
//!
//! Rows belong to one resource as far as this can see when their contexts, the columns that are homes of resource
//! attributes, and the environment agree. What an attribute fed is made anew with it, except where a record's own
//! attribute has the column.

use std::borrow::Cow;

use arrow_schema::ArrowError;
use hashbrown::HashMap;

use super::{
    actions::{Attributes, Key, Memo, Program, run},
    cells::{Changed, rebuilt},
    contexts::Context,
    entries::Rewriter,
    value::Value,
    view::{URL_PARTS, View, stored},
};
use crate::{
    batch::Batch,
    decode::{
        attributes::{Cell, MAX_REPEATED_TEXT_BYTES},
        keys::{CANONICAL, Fed, feeders, rules},
        reserved::{ENV, ENVIRONMENT, ENVIRONMENT_OLD},
        wire::Arena,
    },
    kernels::columns::{Parts, Text},
    schema::{Col, Kind, ValueKind},
};

type Result<T> = std::result::Result<T, ArrowError>;

/// The batch with its resources' attributes changed; `None` when nothing changed.
pub fn edit(batch: &Batch, program: &Program) -> Result<Option<Batch>> {
    let (parts, arena) = (Parts::of(batch), Arena::default());
    let mut view = View::of(batch, &parts, &arena)?;
    let (mut origins, mut memo) = (Origins::of(&parts)?, Memo::default());
    let mut changes = Changes::of(&view, batch);
    let mut known: HashMap<Vec<u32>, Option<usize>, foldhash::fast::RandomState> = HashMap::default();
    let (mut row, mut key, mut last) = (0, Vec::new(), (Vec::new(), None));
    for (number, payload) in batch.runs.iter().enumerate() {
        let metadata = &payload.source.metadata;
        for row in row..row + payload.rows {
            let shape = view.shape(row, |_| false)?;
            let own = view.fed(shape);
            origins.key(&view, row, own, &mut key);
            key.push(if program.reads_metadata() { number as u32 } else { 0 });
            if last.0 != key {
                if !known.contains_key(&key) {
                    let mut resource = Resource::of(&view, row, shape, program, metadata);
                    run(program, &mut resource, &mut memo, &arena);
                    let group = resource.changed().then(|| resource.group(row, own));
                    let group = group.map(|(context, group)| changes.add(&mut view, &context, group));
                    known.insert(key.clone(), group);
                }
                last = (key.clone(), known[&key]);
            }
            if let Some(group) = last.1 {
                changes.take(&mut view, row, shape, own, group);
            }
        }
        row += payload.rows;
    }
    changes.finish(view, batch)
}

/// What tells resources apart.
struct Origins<'a> {
    homes: Vec<(Col, Text<'a>, Numbers<'a>)>,
    environments: Numbers<'a>,
}

/// Distinct texts, numbered from 1 as they come; the empty text is 0.
#[derive(Default)]
struct Numbers<'a> {
    known: HashMap<&'a str, u32, foldhash::fast::RandomState>,
    last: (&'a str, u32),
}

impl<'a> Numbers<'a> {
    fn of(&mut self, text: &'a str) -> u32 {
        if self.last.0 != text {
            let next = self.known.len() as u32 + 1;
            self.last = (text, if text.is_empty() { 0 } else { *self.known.entry(text).or_insert(next) });
        }
        self.last.1
    }
}

impl<'a> Origins<'a> {
    fn of(parts: &'a Parts) -> Result<Origins<'a>> {
        let of_resource = CANONICAL.iter().filter(|(_, _, resource)| *resource);
        // A scope's name may have to move where an attribute takes its column.
        let cols = of_resource.map(|(_, col, _)| *col).chain([Col::LogLogger]);
        let homes = cols.map(|col| Ok((col, parts.text(col)?, Numbers::default())));
        Ok(Origins { homes: homes.collect::<Result<_>>()?, environments: Numbers::default() })
    }

    fn key(&mut self, view: &View<'a>, row: usize, own: Fed, key: &mut Vec<u32>) {
        key.clear();
        key.push(view.contexts.term(row).map_or(0, |term| term as u32 + 1));
        key.push(self.environments.of(view.labels().and_then(|labels| labels.find(row, ENV)).unwrap_or("")));
        for (col, text, numbers) in &mut self.homes {
            key.push(match text {
                _ if own.has(*col) => u32::MAX,
                Text::Absent => 0,
                Text::Terms { column, .. } => column.key(row).map_or(0, |key| key as u32 + 1),
                Text::Plain(_) => numbers.of(text.get(row)),
            });
        }
    }
}

/// One attribute of a resource.
#[derive(Clone, PartialEq)]
struct Attribute<'a> {
    /// As contexts spell it.
    key: Cow<'a, str>,
    value: Value<'a>,
    /// Whether the context names it.
    in_context: bool,
}

/// A resource's attributes, before and after.
struct Resource<'v, 'a> {
    before: Vec<Attribute<'a>>,
    now: Vec<Attribute<'a>>,
    keys: Vec<String>,
    found: Vec<String>,
    program: &'a Program,
    view: &'v View<'a>,
    metadata: &'a [(String, String)],
}

impl<'v, 'a> Resource<'v, 'a> {
    fn of(
        view: &'v View<'a>,
        row: usize,
        shape: usize,
        program: &'a Program,
        metadata: &'a [(String, String)],
    ) -> Resource<'v, 'a> {
        let context = view.context(row);
        let named = context.resource.iter();
        let mut before: Vec<Attribute<'a>> =
            named.map(|(key, value)| Attribute { key: Cow::Borrowed(*key), value: *value, in_context: true }).collect();
        let homes = CANONICAL.iter().filter(|(.., resource)| *resource).map(|(key, ..)| *key);
        for key in homes.chain([ENVIRONMENT]) {
            let named = context.get(key).is_some() || key == ENVIRONMENT && context.get(ENVIRONMENT_OLD).is_some();
            if let Some(value) = view.resource(row, shape, key).filter(|_| !named) {
                before.push(Attribute { key: Cow::Borrowed(key), value, in_context: false });
            }
        }
        let keys = program.keys.iter().map(|key| stored(key).into_owned()).collect();
        Resource { now: before.clone(), before, keys, found: Vec::new(), program, view, metadata }
    }

    fn changed(&self) -> bool {
        self.now != self.before
    }

    fn name(&self, key: Key) -> &str {
        match key {
            Key::Named(number) => &self.keys[number],
            Key::Found(number) => &self.found[number],
        }
    }
}

impl<'a> Attributes<'a> for Resource<'_, 'a> {
    fn get(&mut self, key: Key) -> Option<Value<'a>> {
        let name = self.name(key);
        self.now.iter().find(|attribute| attribute.key == name).map(|attribute| attribute.value)
    }

    fn set(&mut self, key: Key, value: Option<Value<'a>>) {
        let name = self.name(key).to_owned();
        let place = self.now.iter().position(|attribute| attribute.key == name);
        match (place, value) {
            (Some(place), Some(value)) => self.now[place].value = value,
            (Some(place), None) => drop(self.now.remove(place)),
            (None, Some(value)) => self.now.push(Attribute { key: Cow::Owned(name), value, in_context: false }),
            (None, None) => {}
        }
    }

    fn matching(&mut self, pattern: usize) -> Vec<Key> {
        let pattern = &self.program.patterns[pattern];
        let own = |key: &str| if key.starts_with("$$") { key[1..].to_owned() } else { key.to_owned() };
        let names = self.now.iter().filter(|attribute| pattern.is_match(&own(&attribute.key)));
        let names: Vec<String> = names.map(|attribute| attribute.key.clone().into_owned()).collect();
        let first = self.found.len();
        self.found.extend(names);
        (first..self.found.len()).map(Key::Found).collect()
    }

    fn metadata(&self, name: &str) -> Option<&'a str> {
        self.view.metadata(self.metadata, name)
    }
}

/// What attributes of a resource say about one column.
struct Feed<'a> {
    col: Col,
    feeders: u32,
    rank: u8,
    cell: Option<Cell<'a>>,
    /// The attribute that the column can restore.
    exact: Option<usize>,
}

fn feeds<'a>(attributes: &[Attribute<'a>], arena: &'a Arena) -> Vec<Feed<'a>> {
    let mut list: Vec<Feed<'a>> = Vec::new();
    for (at, attribute) in attributes.iter().enumerate() {
        for rule in rules(attribute.key.as_bytes()) {
            let place = list.iter().position(|fed| fed.col == rule.col).unwrap_or_else(|| {
                list.push(Feed { col: rule.col, feeders: 0, rank: 0, cell: None, exact: None });
                list.len() - 1
            });
            let fed = &mut list[place];
            fed.feeders += 1;
            let Some(cell) = attribute.value.cell(rule, 0, arena) else { continue };
            let long = matches!(&cell, Cell::Text(text) if text.len() > MAX_REPEATED_TEXT_BYTES);
            if fed.cell.is_some() && rule.rank < fed.rank || long && rule.col.kind() != Kind::LcString {
                continue;
            }
            let exact = attribute.value.is_exact(rule, true, &cell, arena);
            (fed.rank, fed.exact, fed.cell) = (rule.rank, exact.then_some(at), Some(cell));
        }
    }
    list
}

/// A resource that changed, as its rows are told.
struct Group<'a> {
    /// The number of its context.
    context: usize,
    cells: Vec<(Col, Option<Cell<'a>>)>,
    /// Columns that attributes in its context feed now, which may have been the only homes of records' attributes.
    contested: Vec<(Col, &'static str)>,
    /// `None` where it stays.
    environment: Option<&'a str>,
}

impl<'a> Resource<'_, 'a> {
    /// The new context, and what else there is to tell.
    fn group(&self, row: usize, own: Fed) -> (Context<'a>, Group<'a>) {
        let (before, now) = (feeds(&self.before, self.view.arena), feeds(&self.now, self.view.arena));
        let mut homes = vec![false; self.now.len()];
        for feed in now.iter().filter(|feed| feed.feeders == 1 && !own.has(feed.col)) {
            if let Some(at) = feed.exact {
                homes[at] = !self.now[at].in_context;
            }
        }
        let environment = environment(&self.now, Some(&mut homes));
        let mut context = self.view.context(row).clone();
        let left = self.now.iter().zip(&homes).filter(|(_, home)| !**home);
        context.resource = left.map(|(one, _)| (self.view.keep(one.key.to_string()), one.value)).collect();
        let mut fed = Fed::default();
        context.resource.iter().for_each(|(key, _)| fed.by(key));
        let was_fed = |col: Col| self.view.context(row).fed.has(col);
        if context.scope_name.is_empty() && !own.has(Col::LogLogger) && !was_fed(Col::LogLogger) {
            context.scope_name = self.view.parts.text(Col::LogLogger).map_or("", |text| text.get(row));
        }
        let named = !context.scope_name.is_empty();
        if !fed.has(Col::LogLogger) && !own.has(Col::LogLogger) && !was_fed(Col::LogLogger) {
            context.scope_name = "";
        }
        let new = |col: Col| fed.has(col) && !was_fed(col);
        let of_url = |col: Col| new(Col::HttpUrl) && URL_PARTS.contains(&col);
        let newly = CANONICAL.iter().filter(|(_, col, resource)| !resource && (new(*col) || of_url(*col)));
        let contested = newly.map(|(key, col, _)| (*col, *key)).collect();
        let old = |col: Col| before.iter().find(|feed| feed.col == col).and_then(|feed| feed.cell.clone());
        let changed = now.iter().filter(|feed| feed.cell != old(feed.col)).map(|feed| (feed.col, feed.cell.clone()));
        let gone = before.iter().filter(|feed| now.iter().all(|other| other.col != feed.col));
        let cells = changed.chain(gone.map(|feed| (feed.col, None)));
        let cells = cells.filter(|(col, _)| *col != Col::LogLogger || !named).collect();
        let stays = environment == self::environment(&self.before, None);
        (context, Group { context: 0, cells, contested, environment: (!stays).then_some(environment) })
    }
}

/// What `$env` says: the current name before the old one. `homes` learns where it is the current one's only home.
fn environment<'a>(attributes: &[Attribute<'a>], homes: Option<&mut Vec<bool>>) -> &'a str {
    let find = |key: &str| attributes.iter().position(|attribute| attribute.key == key);
    let (current, old) = (find(ENVIRONMENT), find(ENVIRONMENT_OLD));
    let fits = |at: &usize| {
        let Value { kind, text } = attributes[*at].value;
        kind == ValueKind::String && !text.is_empty() && text.len() <= MAX_REPEATED_TEXT_BYTES
    };
    let Some(at) = [current, old].into_iter().flatten().find(fits) else { return "" };
    if let Some(homes) = homes {
        homes[at] = Some(at) == current && old.is_none() && !attributes[at].in_context;
    }
    attributes[at].value.text
}

struct Changes<'a> {
    groups: Vec<Group<'a>>,
    cells: Vec<(Col, Changed<'a>)>,
    labels: Rewriter<'a>,
    labels_changed: bool,
    /// Attributes of records that lost their column: they go to the map.
    moved: Vec<(usize, &'static str, Value<'a>)>,
}

impl<'a> Changes<'a> {
    fn of(view: &View<'a>, batch: &Batch) -> Changes<'a> {
        Changes {
            groups: Vec::new(),
            cells: Vec::new(),
            labels: Rewriter::of(view.labels(), false, batch.rows()),
            labels_changed: false,
            moved: Vec::new(),
        }
    }

    fn add(&mut self, view: &mut View<'a>, context: &Context<'a>, mut group: Group<'a>) -> usize {
        group.context = view.contexts.add(context);
        self.groups.push(group);
        self.groups.len() - 1
    }

    fn take(&mut self, view: &mut View<'a>, row: usize, shape: usize, own: Fed, group: usize) {
        let group = &self.groups[group];
        let mut kept = Fed::default();
        for (col, key) in group.contested.iter().filter(|(col, _)| view.is_home(row, shape, *col)) {
            let Some(value) = view.cell_value(row, *col) else { continue };
            kept.by(key);
            self.moved.push((row, *key, value));
        }
        // Points' attributes feed nothing.
        let asked = |col: Col| view.map_col == Col::Attributes && (own.has(col) || feeds_elsewhere(col));
        let records = |col: Col| kept.has(col) || asked(col) && has_own_cell(view, row, shape, col);
        for (col, cell) in group.cells.iter().filter(|(col, _)| !records(*col)) {
            let place = self.cells.iter().position(|(known, _)| known == col).unwrap_or_else(|| {
                self.cells.push((*col, Vec::new()));
                self.cells.len() - 1
            });
            self.cells[place].1.push((row, cell.clone()));
        }
        if let Some(environment) = group.environment {
            set_environment(&mut self.labels, view, row, environment);
            self.labels_changed = true;
        }
        view.contexts.set(row, group.context);
    }

    fn finish(self, view: View<'a>, batch: &Batch) -> Result<Option<Batch>> {
        if self.groups.is_empty() {
            return Ok(None);
        }
        let mut parts = Parts::of(batch);
        for (col, cells) in &self.cells {
            parts.put(*col, rebuilt(*col, view.parts.get(*col), batch.rows(), cells)?);
        }
        if self.labels_changed {
            parts.put(Col::Labels, self.labels.finish()?);
        }
        if !self.moved.is_empty() {
            let mut attributes = Rewriter::of(view.map, true, batch.rows());
            for moved in self.moved.chunk_by(|one, other| one.0 == other.0) {
                attributes.copy_rows(moved[0].0);
                attributes.copy_rest();
                moved.iter().for_each(|(_, key, value)| attributes.push(key, *value));
                attributes.end_row();
            }
            parts.put(Col::Attributes, attributes.finish()?);
        }
        if let Some(contexts) = view.contexts.finish(view.parts)? {
            parts.put(Col::Context, Some(contexts));
        }
        Ok(Some(batch.with_columns(parts.finish()?, false)))
    }
}

/// Whether an attribute of the record itself gives the column its cell.
fn has_own_cell(view: &View<'_>, row: usize, shape: usize, col: Col) -> bool {
    feeders(col).iter().any(|key| {
        let rules = rules(key.as_bytes());
        let home = rules.iter().find(|rule| rule.canonical && !rule.resource && view.is_home(row, shape, rule.col));
        let entry =
            view.map.and_then(|map| map.range(row).find(|entry| map.key(*entry) == *key).map(|at| map.value(at)));
        let value = entry.or_else(|| view.cell_value(row, home?.col));
        let mut rules = rules.iter().filter(|rule| rule.col == col);
        value.is_some_and(|value| rules.any(|rule| value.cell(rule, view.span_kind(row), view.arena).is_some()))
    })
}

/// Whether an attribute that feeds this column may have its only home in another.
fn feeds_elsewhere(col: Col) -> bool {
    let elsewhere = |key: &&str| rules(key.as_bytes()).iter().any(|rule| rule.canonical && rule.col != col);
    feeders(col).iter().any(elsewhere)
}

/// Puts `$env` into the row's labels, or takes it out when it is empty.
fn set_environment<'a>(labels: &mut Rewriter<'a>, view: &View<'a>, row: usize, text: &'a str) {
    labels.copy_rows(row);
    let value = Value::string(text);
    let place = view.labels().and_then(|map| map.range(row).find(|entry| map.key(*entry) == ENV));
    if let Some(entry) = place {
        labels.copy_entries(entry);
        labels.skip();
        if !text.is_empty() {
            labels.push(ENV, value);
        }
    }
    labels.copy_rest();
    if place.is_none() && !text.is_empty() {
        labels.push(ENV, value);
    }
    labels.end_row();
}
