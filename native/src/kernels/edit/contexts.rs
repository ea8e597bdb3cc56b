//! What `context` says, per distinct text: the resource's attributes that have no other home, and the scope's name.

use std::borrow::Cow;

use arrow_array::Array;
use arrow_schema::ArrowError;
use hashbrown::HashMap;

use super::value::{Value, kept};
use crate::{
    decode::{
        any_value::{comma, json_member, json_text},
        json::{Fault, reader::Reader},
        keys::Fed,
        wire::Arena,
    },
    kernels::columns::{Parts, Text, unfit},
    schema::Col,
};

type Result<T> = std::result::Result<T, ArrowError>;

/// One context, taken apart.
#[derive(Clone, Default)]
pub struct Context<'a> {
    /// By key as contexts spell it (a leading `$` is doubled).
    pub resource: Vec<(&'a str, Value<'a>)>,
    /// The columns that these feed.
    pub fed: Fed,
    pub scope_name: &'a str,
    pub scope_version: &'a str,
    /// The members of the scope but its name, and of the context but resource and scope, as JSON.
    scope: Vec<(&'a str, &'a str)>,
    rest: Vec<(&'a str, &'a str)>,
}

impl<'a> Context<'a> {
    fn read(json: &'a str, arena: &'a Arena) -> std::result::Result<Context<'a>, Box<Fault>> {
        let (mut context, mut reader) = (Context::default(), Reader::new(json.as_bytes())?);
        members(&mut reader, arena, |reader, key| {
            match key {
                "resource" => members(reader, arena, |reader, key| {
                    context.fed.by(key);
                    context.resource.push((key, Value::read_json(reader, json, arena)?));
                    Ok(())
                })?,
                "scope" => members(reader, arena, |reader, key| {
                    match key {
                        "name" => context.scope_name = Value::read_json(reader, json, arena)?.text,
                        _ => {
                            let raw = raw(reader, json)?;
                            if key == "version" {
                                let mut reader = Reader::new(raw.as_bytes())?;
                                context.scope_version = Value::read_json(&mut reader, raw, arena)?.text;
                            }
                            context.scope.push((key, raw));
                        }
                    }
                    Ok(())
                })?,
                _ => context.rest.push((key, raw(reader, json)?)),
            }
            Ok(())
        })?;
        Ok(context)
    }

    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.resource.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// The context as text; empty when it says nothing.
    pub fn text(&self) -> Vec<u8> {
        let (mut out, mut first) = (vec![b'{'], true);
        if !self.resource.is_empty() {
            comma(&mut out, &mut first);
            out.extend_from_slice(b"\"resource\":{");
            let mut first = true;
            for (key, value) in &self.resource {
                comma(&mut out, &mut first);
                // The key is doubled already where it has to be.
                json_text(&mut out, key.as_bytes());
                out.push(b':');
                value.write_json(&mut out);
            }
            out.push(b'}');
        }
        for (key, raw) in &self.rest {
            comma(&mut out, &mut first);
            json_member(&mut out, key.as_bytes());
            out.extend_from_slice(raw.as_bytes());
        }
        if !self.scope_name.is_empty() || !self.scope.is_empty() {
            comma(&mut out, &mut first);
            out.extend_from_slice(b"\"scope\":{");
            let mut first = true;
            if !self.scope_name.is_empty() {
                first = false;
                json_member(&mut out, b"name");
                json_text(&mut out, self.scope_name.as_bytes());
            }
            for (key, raw) in &self.scope {
                comma(&mut out, &mut first);
                json_member(&mut out, key.as_bytes());
                out.extend_from_slice(raw.as_bytes());
            }
            out.push(b'}');
        }
        if first {
            return Vec::new();
        }
        out.push(b'}');
        out
    }
}

/// Reads an object; `member` reads the value of each key.
fn members<'a>(
    reader: &mut Reader<'a>,
    arena: &'a Arena,
    mut member: impl FnMut(&mut Reader<'a>, &'a str) -> std::result::Result<(), Box<Fault>>,
) -> std::result::Result<(), Box<Fault>> {
    reader.open(b'{', "an object")?;
    let mut first = true;
    while reader.more(&mut first, b'}')? {
        let key = match reader.key()? {
            Cow::Borrowed(key) => key,
            Cow::Owned(key) => kept(arena, key),
        };
        member(reader, key)?;
    }
    Ok(())
}

fn raw<'a>(reader: &mut Reader<'a>, json: &'a str) -> std::result::Result<&'a str, Box<Fault>> {
    reader.peek()?;
    let start = reader.at;
    reader.skip()?;
    Ok(&json[start..reader.at])
}

/// The contexts of a batch.
pub struct Contexts<'a> {
    text: Text<'a>,
    known: Vec<Context<'a>>,
    /// Rows that get another, and the texts of those, each once.
    changed: Vec<(usize, usize)>,
    fresh: Vec<Vec<u8>>,
    by_text: HashMap<Vec<u8>, usize, foldhash::fast::RandomState>,
    none: Context<'a>,
}

impl<'a> Contexts<'a> {
    pub fn of(parts: &'a Parts, arena: &'a Arena) -> Result<Contexts<'a>> {
        let text = parts.text(Col::Context)?;
        let known = match text {
            Text::Terms { values, .. } => values
                .iter()
                .map(|text| match text.unwrap_or("") {
                    "" => Ok(Context::default()),
                    json => Context::read(json, arena).map_err(|fault| {
                        let error = fault.told();
                        ArrowError::InvalidArgumentError(format!("context: {} at byte {}", error.message, error.offset))
                    }),
                })
                .collect::<Result<_>>()?,
            Text::Absent => Vec::new(),
            Text::Plain(column) => return Err(unfit(Col::Context.name(), column, "a dictionary of text")),
        };
        let none = Context::default();
        Ok(Contexts { text, known, changed: Vec::new(), fresh: Vec::new(), by_text: HashMap::default(), none })
    }

    /// The row's dictionary entry; equal ones mean equal contexts.
    pub fn term(&self, row: usize) -> Option<usize> {
        match self.text {
            Text::Terms { column, .. } => column.is_valid(row).then(|| column.keys().value(row) as usize),
            _ => None,
        }
    }

    pub fn get(&self, row: usize) -> &Context<'a> {
        self.term(row).map_or(&self.none, |term| &self.known[term])
    }

    /// A context to be set; the same text has the same number.
    pub fn add(&mut self, context: &Context<'a>) -> usize {
        let text = context.text();
        *self.by_text.entry(text).or_insert_with_key(|text| {
            self.fresh.push(text.clone());
            self.fresh.len() - 1
        })
    }

    /// Rows must come in their order.
    pub fn set(&mut self, row: usize, number: usize) {
        self.changed.push((row, number));
    }

    /// The column with what was set, if anything was.
    pub fn finish(self, parts: &Parts) -> Result<Option<arrow_array::ArrayRef>> {
        if self.changed.is_empty() {
            return Ok(None);
        }
        let mut terms = parts.terms(Col::Context)?;
        let codes: Vec<i32> = self.fresh.iter().map(|text| terms.term(text)).collect();
        self.changed.iter().for_each(|(row, number)| terms.replace(*row, codes[*number]));
        terms.finish(parts.rows).map(Some)
    }
}
