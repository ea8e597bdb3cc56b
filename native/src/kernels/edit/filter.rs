//! Which rows are meant: the Collector's `include` and `exclude`.
//!
//! Every property that is given has to match: one of its values, but all of `attributes` and `resources`.

use std::borrow::Cow;

use arrow_array::Array;
use arrow_schema::ArrowError;
use hashbrown::HashSet;
use regex::RegexSet;

use super::{
    actions::Constant,
    value::Value,
    view::{View, stored},
};
use crate::{
    batch::Batch,
    decode::{json::fields::SPAN_KIND, reserved, wire::Arena},
    kernels::columns::{Parts, Text},
    schema::Col,
};

type Result<T> = std::result::Result<T, ArrowError>;

/// Texts that are meant, as they are or by pattern.
#[derive(Clone, Debug)]
pub enum Texts {
    Strict(HashSet<String>),
    Patterns(RegexSet),
}

impl Texts {
    pub fn has(&self, text: &str) -> bool {
        match self {
            Texts::Strict(set) => set.contains(text),
            Texts::Patterns(patterns) => patterns.is_match(text),
        }
    }
}

/// What an attribute has to be.
#[derive(Clone, Debug)]
pub enum Wanted {
    Any,
    Value(Constant),
    Pattern(RegexSet),
}

impl Wanted {
    fn is(&self, value: Option<Value<'_>>, arena: &Arena) -> bool {
        let Some(value) = value else { return false };
        match self {
            Wanted::Any => true,
            Wanted::Value(wanted) => value.kind == wanted.kind && value.text == wanted.text,
            Wanted::Pattern(pattern) => {
                let text: String = value.plain(arena).to_owned();
                pattern.is_match(&text)
            }
        }
    }
}

/// One property of a row's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    Service,
    SpanName,
    SpanKind,
    LogBody,
    SeverityText,
    MetricName,
}

#[derive(Clone, Debug, Default)]
pub struct Conditions {
    pub texts: Vec<(Property, Texts)>,
    /// Lowest severity number, and whether records without one match.
    pub severity: Option<(i64, bool)>,
    /// Scopes by name and version; without a version: any.
    pub libraries: Vec<(Texts, Option<Texts>)>,
    pub attributes: Vec<(String, Wanted)>,
    pub resources: Vec<(String, Wanted)>,
}

#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub include: Option<Conditions>,
    pub exclude: Option<Conditions>,
}

impl Filter {
    /// The rows that are meant; `None` where that is all of them.
    pub fn rows(&self, batch: &Batch) -> Result<Option<Vec<bool>>> {
        if self.include.is_none() && self.exclude.is_none() {
            return Ok(None);
        }
        let (parts, arena) = (Parts::of(batch), Arena::default());
        let mut view = View::of(batch, &parts, &arena)?;
        let mut rows = match &self.include {
            Some(conditions) => conditions.rows(&mut view)?,
            None => vec![true; batch.rows()],
        };
        if let Some(conditions) = &self.exclude {
            let left_out = conditions.rows(&mut view)?;
            rows.iter_mut().zip(left_out).for_each(|(row, out)| *row &= !out);
        }
        Ok(Some(rows))
    }
}

impl Conditions {
    fn rows(&self, view: &mut View<'_>) -> Result<Vec<bool>> {
        let mut rows = vec![true; view.parts.rows];
        for (property, texts) in &self.texts {
            keep(&mut rows, view, *property, texts)?;
        }
        if let Some((least, undefined)) = self.severity {
            let numbers = severities(view)?;
            rows.iter_mut().zip(numbers).for_each(|(row, number)| {
                *row &= if number == 0 { undefined } else { number >= least };
            });
        }
        if !self.libraries.is_empty() {
            let names = view.parts.text(Col::LogLogger)?;
            for row in (0..rows.len()).filter(|row| rows[*row]).collect::<Vec<_>>() {
                rows[row] = self.is_library(view, names, row);
            }
        }
        if !self.attributes.is_empty() || !self.resources.is_empty() {
            self.by_attributes(view, &mut rows)?;
        }
        Ok(rows)
    }

    fn is_library(&self, view: &View<'_>, names: Text<'_>, row: usize) -> bool {
        let context = view.context(row);
        let name = if context.scope_name.is_empty() { names.get(row) } else { context.scope_name };
        let version = context.scope_version;
        self.libraries.iter().any(|(wanted, versions)| {
            wanted.has(name) && versions.as_ref().is_none_or(|versions| versions.has(version))
        })
    }

    fn by_attributes(&self, view: &mut View<'_>, rows: &mut [bool]) -> Result<()> {
        let keys: Vec<String> = self.attributes.iter().map(|(key, _)| key.clone()).collect();
        let slots = view.ask(&keys)?;
        let resource_keys: Vec<Cow<str>> = self.resources.iter().map(|(key, _)| stored(key)).collect();
        for (row, is) in rows.iter_mut().enumerate().filter(|(_, is)| **is) {
            let shape = view.shape(row, |_| false)?;
            let mut attributes = self.attributes.iter().zip(&slots);
            let mut resources = self.resources.iter().zip(&resource_keys);
            *is = attributes.all(|((_, wanted), slot)| wanted.is(view.record(row, shape, *slot), view.arena))
                && resources.all(|((_, wanted), key)| wanted.is(view.resource(row, shape, key), view.arena));
        }
        Ok(())
    }
}

/// Leaves rows whose text is another. Distinct texts of a dictionary are looked at once.
fn keep(rows: &mut [bool], view: &View<'_>, property: Property, texts: &Texts) -> Result<()> {
    let col = match property {
        Property::Service => Col::ServiceName,
        Property::SpanName => Col::EventName,
        Property::LogBody => Col::LogMessage,
        Property::MetricName => Col::MetricName,
        Property::SeverityText => Col::LogLevel,
        Property::SpanKind => {
            for (row, is) in rows.iter_mut().enumerate() {
                *is = *is && texts.has(SPAN_KIND[view.span_kind(row) as usize]);
            }
            return Ok(());
        }
    };
    let text = view.parts.text(col)?;
    if let Text::Terms { column, values } = text
        && property != Property::SeverityText
    {
        let fits: Vec<bool> = values.iter().map(|text| texts.has(text.unwrap_or(""))).collect();
        for (row, is) in rows.iter_mut().enumerate() {
            *is = *is && column.key(row).map_or_else(|| texts.has(""), |key| fits[key]);
        }
        return Ok(());
    }
    for (row, is) in rows.iter_mut().enumerate().filter(|(_, is)| **is) {
        let noted = if property == Property::SeverityText { view.note(row, reserved::SEVERITY_TEXT) } else { None };
        *is = texts.has(noted.unwrap_or_else(|| text.get(row)));
    }
    Ok(())
}

fn severities(view: &View<'_>) -> Result<Vec<i64>> {
    let levels = view.parts.get(Col::LogLevelNum);
    let number = |row: usize| {
        let noted = view.note(row, reserved::SEVERITY_NUMBER).and_then(|text| text.parse().ok());
        noted.or_else(|| levels.filter(|levels| levels.is_valid(row)).map(|levels| super::view::whole(levels, row)))
    };
    Ok((0..view.parts.rows).map(|row| number(row).unwrap_or(0)).collect())
}
