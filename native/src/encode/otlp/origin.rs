//! The resource and the scope of a row, rebuilt from `context` and the columns that are homes of resource attributes.

use hashbrown::HashMap;

use super::{
    EncodeError, Result,
    requests::{Group, Groups},
    rows::{Terms, Text},
    value::{self, attribute, pair, whole},
};
use crate::{
    batch::Batch,
    decode::{
        json::reader::Reader,
        keys::{CANONICAL, Fed},
        reserved::{ENVIRONMENT, ENVIRONMENT_OLD},
    },
    protobuf::Writer,
    schema::Col,
};

/// Where a row belongs.
#[derive(Clone, Copy, Default)]
pub struct Origin {
    pub resource: u32,
    pub scope: u32,
    /// The columns that attributes in `context` feed.
    pub fed: Fed,
}

struct Home {
    col: Col,
    key: &'static str,
    texts: Text,
    terms: Vec<u32>,
}

/// A batch's origins. Rows whose terms are the same have the same one, so it is built once.
pub struct Origins<'a> {
    context: Text,
    contexts: Vec<u32>,
    logger: Text,
    loggers: Vec<u32>,
    homes: Vec<Home>,
    environments: Terms<'a>,
    known: HashMap<Vec<u32>, Origin, foldhash::fast::RandomState>,
    last: Option<(Vec<u32>, Origin)>,
    key: Vec<u32>,
}

impl<'a> Origins<'a> {
    pub fn of(batch: &Batch) -> Result<Origins<'a>> {
        let rows = batch.rows();
        let (context, logger) = (Text::column(batch, Col::Context)?, Text::column(batch, Col::LogLogger)?);
        let mut homes = Vec::new();
        for (key, col, _) in CANONICAL.iter().filter(|(_, col, resource)| *resource && batch.column(*col).is_some()) {
            let texts = Text::column(batch, *col)?;
            homes.push(Home { col: *col, key, terms: texts.terms(rows), texts });
        }
        Ok(Origins {
            contexts: context.terms(rows),
            context,
            loggers: logger.terms(rows),
            logger,
            homes,
            environments: Terms::default(),
            known: HashMap::default(),
            last: None,
            key: Vec::new(),
        })
    }

    /// `own`: the columns that the record's attributes feed, which say nothing of its resource.
    pub fn place(&mut self, row: usize, own: Fed, environment: &'a str, groups: &mut Groups) -> Result<Origin> {
        let unless = |col, term| if own.has(col) { 0 } else { term };
        self.key.clear();
        self.key.extend([
            self.contexts[row],
            unless(Col::LogLogger, self.loggers[row]),
            self.environments.term(environment),
        ]);
        self.key.extend(self.homes.iter().map(|home| unless(home.col, home.terms[row])));
        if let Some((key, origin)) = &self.last
            && *key == self.key
        {
            return Ok(*origin);
        }
        let origin = match self.known.get(&self.key) {
            Some(origin) => *origin,
            None => {
                let origin = self.build(row, own, environment, groups)?;
                self.known.insert(self.key.clone(), origin);
                origin
            }
        };
        self.last = Some((self.key.clone(), origin));
        Ok(origin)
    }

    fn build(&self, row: usize, own: Fed, environment: &str, groups: &mut Groups) -> Result<Origin> {
        let mut context = Context::default();
        let json = self.context.get(row);
        if !json.is_empty() {
            context.read(json).map_err(EncodeError::of(Col::Context))?;
        }
        let mut add = |key: &str, text: &str| {
            let mut writer = Writer::default();
            attribute(&mut writer, 1, key, |writer| writer.bytes(1, text.as_bytes()));
            context.attributes.push(writer.out);
        };
        for home in &self.homes {
            let text = home.texts.get(row);
            if !text.is_empty() && !own.has(home.col) && !context.fed.has(home.col) {
                add(home.key, text);
            }
        }
        if !environment.is_empty() && !context.environment {
            add(ENVIRONMENT, environment);
        }
        // A logger that some attribute feeds is not the scope's name, which `context` then holds if there is one.
        if context.scope.name.is_empty() && !own.has(Col::LogLogger) && !context.fed.has(Col::LogLogger) {
            context.scope.name = self.logger.get(row).to_owned();
        }
        let resource = context.group(groups);
        let scope = context.scope.group(resource, groups);
        Ok(Origin { resource, scope, fed: context.fed })
    }
}

/// What a `context` says.
#[derive(Default)]
struct Context {
    /// `KeyValue`s with their tags.
    attributes: Vec<Vec<u8>>,
    fed: Fed,
    /// Whether an attribute names the environment.
    environment: bool,
    dropped: u32,
    /// `EntityRef`s with their tags.
    entities: Writer,
    schema_url: String,
    scope: Scope,
}

#[derive(Default)]
struct Scope {
    name: String,
    version: String,
    attributes: Vec<Vec<u8>>,
    dropped: u32,
    schema_url: String,
}

fn attributes(reader: &mut Reader, number: u32, mut key_seen: impl FnMut(&str)) -> value::Result<Vec<Vec<u8>>> {
    let mut list = Vec::new();
    value::object(reader, |reader, key| {
        key_seen(key);
        let mut writer = Writer::default();
        pair(reader, &mut writer, number, key)?;
        list.push(writer.out);
        Ok(())
    })?;
    Ok(list)
}

impl Context {
    fn read(&mut self, json: &str) -> value::Result<()> {
        value::parse(json, |reader, key| {
            match key {
                "resource" => {
                    let (fed, environment) = (&mut self.fed, &mut self.environment);
                    self.attributes = attributes(reader, 1, |key| {
                        fed.by(key);
                        *environment |= key == ENVIRONMENT || key == ENVIRONMENT_OLD;
                    })?;
                }
                "resource_schema_url" => self.schema_url = reader.string()?.into_owned(),
                "resource_dropped" => self.dropped = whole(reader)?,
                "resource_entities" => value::list(reader, |reader| entity(reader, &mut self.entities))?,
                "scope" => self.scope.read(reader)?,
                _ => reader.skip()?,
            }
            Ok(())
        })
    }

    fn group(&self, groups: &mut Groups) -> u32 {
        let message = |attributes: &[Vec<u8>]| {
            let mut writer = Writer { out: attributes.concat() };
            writer.number(2, self.dropped.into());
            writer.out.extend_from_slice(&self.entities.out);
            writer.out
        };
        let identity = [&message(&sorted(&self.attributes)), self.schema_url.as_bytes()].join(&SEPARATOR);
        groups.resources.add(0, identity, || Group::new(1, &message(&self.attributes), &self.schema_url))
    }
}

/// Attributes have no order, so equal ones are told by a sorted list.
fn sorted(attributes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut sorted = attributes.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Parts a message from its schema, which as text does not hold it.
const SEPARATOR: u8 = 0xff;

/// Reads an `EntityRef`.
fn entity(reader: &mut Reader, writer: &mut Writer) -> value::Result<()> {
    let mark = writer.begin(3);
    value::object(reader, |reader, key| match key {
        "schema_url" => value::text(reader, writer, 1),
        "type" => value::text(reader, writer, 2),
        "id_keys" => value::list(reader, |reader| value::text(reader, writer, 3)),
        "description_keys" => value::list(reader, |reader| value::text(reader, writer, 4)),
        _ => reader.skip(),
    })?;
    writer.end(mark);
    Ok(())
}

impl Scope {
    fn read(&mut self, reader: &mut Reader) -> value::Result<()> {
        value::object(reader, |reader, key| {
            match key {
                "name" => self.name = reader.string()?.into_owned(),
                "version" => self.version = reader.string()?.into_owned(),
                "attributes" => self.attributes = attributes(reader, 3, |_| {})?,
                "dropped" => self.dropped = whole(reader)?,
                "schema_url" => self.schema_url = reader.string()?.into_owned(),
                _ => reader.skip()?,
            }
            Ok(())
        })
    }

    fn group(&self, resource: u32, groups: &mut Groups) -> u32 {
        let message = |attributes: &[Vec<u8>]| {
            let mut writer = Writer::default();
            writer.text(1, &self.name);
            writer.text(2, &self.version);
            attributes.iter().for_each(|pair| writer.out.extend_from_slice(pair));
            writer.number(4, self.dropped.into());
            writer.out
        };
        let identity = [&message(&sorted(&self.attributes)), self.schema_url.as_bytes()].join(&SEPARATOR);
        groups.scopes.add(resource, identity, || Group::new(2, &message(&self.attributes), &self.schema_url))
    }
}
