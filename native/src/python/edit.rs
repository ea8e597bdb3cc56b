//! `kernels::edit` as Python sees it.

use hashbrown::HashSet;
use pyo3::{
    exceptions::{PyKeyError, PyValueError},
    prelude::*,
    types::PyDict,
};
use regex::{Regex, RegexSet};

use super::{
    batch::{PyBatch, arrow_error},
    decode::guarded,
};
use crate::{
    decode::wire::Arena,
    kernels::edit::{
        actions::{Action, Constant, Program, Source, When},
        filter::{Conditions, Filter, Property, Texts, Wanted},
        record, resource,
        value::{Value, kind_of},
    },
    schema::ValueKind,
};

type Typed = (u8, String);

/// A list of actions on attributes of records or resources, and the rows that it is for.
#[pyclass(name = "AttributeEdit", frozen, module = "colonnade._native")]
struct AttributeEdit {
    of_resource: bool,
    program: Program,
    filter: Filter,
}

#[pymethods]
impl AttributeEdit {
    #[new]
    #[pyo3(signature = (target, actions, *, include=None, exclude=None))]
    fn new(
        target: &str,
        actions: Vec<Bound<'_, PyDict>>,
        include: Option<Bound<'_, PyDict>>,
        exclude: Option<Bound<'_, PyDict>>,
    ) -> PyResult<AttributeEdit> {
        let of_resource = match target {
            "record" => false,
            "resource" => true,
            other => return Err(PyValueError::new_err(format!("no target {other:?}: record, resource"))),
        };
        let mut program = Program::default();
        for action in &actions {
            let action = read_action(action, &mut program)?;
            program.actions.push(action);
        }
        let filter = Filter {
            include: include.map(|given| conditions(&given)).transpose()?,
            exclude: exclude.map(|given| conditions(&given)).transpose()?,
        };
        Ok(AttributeEdit { of_resource, program, filter })
    }

    /// The changed batch; the same one, payloads and all, where nothing changed.
    fn apply<'py>(&self, py: Python<'py>, batch: &Bound<'py, PyBatch>) -> PyResult<Bound<'py, PyBatch>> {
        let rows = batch.get().0.clone();
        let changed = guarded(py, || {
            let meant = self.filter.rows(&rows)?;
            match self.of_resource {
                true => resource::edit(&rows, &self.program),
                false => record::edit(&rows, &self.program, meant.as_deref()),
            }
        })?;
        match changed.map_err(arrow_error)? {
            Some(changed) => Bound::new(py, PyBatch::new(changed)),
            None => Ok(batch.clone()),
        }
    }
}

fn get<'py, T>(given: &Bound<'py, PyDict>, key: &str) -> PyResult<Option<T>>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    match given.get_item(key)? {
        Some(value) if !value.is_none() => value.extract().map(Some).map_err(Into::into),
        _ => Ok(None),
    }
}

/// Doubles get the spelling that the decoder gives them.
fn constant((kind, text): Typed) -> Constant {
    let arena = Arena::default();
    let number = text.parse().ok().filter(|_| kind_of(kind) == ValueKind::Double);
    let text = number.map_or(text, |number| Value::double(number, &arena).text.to_owned());
    Constant { kind: kind_of(kind), text }
}

fn regex(pattern: &str) -> PyResult<Regex> {
    Regex::new(pattern).map_err(|error| PyValueError::new_err(format!("not a regular expression: {error}")))
}

fn read_action(given: &Bound<'_, PyDict>, program: &mut Program) -> PyResult<Action> {
    let name: String = get(given, "action")?.ok_or_else(|| PyKeyError::new_err("action"))?;
    let key = get::<String>(given, "key")?.map(|key| program.key(&key));
    let pattern = get::<String>(given, "pattern")?;
    let required = || key.ok_or_else(|| PyKeyError::new_err("key"));
    match name.as_str() {
        "insert" | "update" | "upsert" => {
            let when = [("insert", When::Absent), ("update", When::Present), ("upsert", When::Always)];
            let when = when.into_iter().find(|(known, _)| *known == name).map_or(When::Always, |(_, when)| when);
            let source = if let Some(value) = get::<Typed>(given, "value")? {
                Source::Constant(constant(value))
            } else if let Some(from) = get::<String>(given, "from_attribute")? {
                Source::Attribute(program.key(&from))
            } else {
                Source::Metadata(get(given, "from_metadata")?.ok_or_else(|| PyKeyError::new_err("value"))?)
            };
            Ok(Action::Set { key: required()?, source, default: get::<Typed>(given, "default")?.map(constant), when })
        }
        "exchange" => {
            Ok(Action::Exchange { key: required()?, by: get(given, "by")?.ok_or_else(|| PyKeyError::new_err("by"))? })
        }
        "delete" | "hash" => {
            let pattern = match pattern {
                Some(pattern) => {
                    program.patterns.push(regex(&pattern)?);
                    Some(program.patterns.len() - 1)
                }
                None => None,
            };
            Ok(if name == "hash" { Action::Hash { key, pattern } } else { Action::Delete { key, pattern } })
        }
        "extract" => {
            let regex = regex(&pattern.ok_or_else(|| PyKeyError::new_err("pattern"))?)?;
            let named = regex.capture_names().enumerate().filter_map(|(group, name)| Some((group, name?.to_owned())));
            let groups = named.collect::<Vec<_>>().into_iter().map(|(group, name)| (group, program.key(&name)));
            let groups = groups.collect();
            Ok(Action::Extract { key: required()?, regex, groups })
        }
        "convert" => {
            let to = match get::<String>(given, "converted_type")?.as_deref() {
                Some("int") => ValueKind::Int,
                Some("double") => ValueKind::Double,
                Some("string") => ValueKind::String,
                other => return Err(PyValueError::new_err(format!("no type {other:?}: int, double, string"))),
            };
            Ok(Action::Convert { key: required()?, to })
        }
        other => Err(PyValueError::new_err(format!("no action {other:?}"))),
    }
}

/// `match_type`, and by property the values that match.
fn conditions(given: &Bound<'_, PyDict>) -> PyResult<Conditions> {
    let patterns = get::<String>(given, "match_type")?.as_deref() == Some("regexp");
    let texts = |values: Vec<String>| -> PyResult<Texts> {
        Ok(match patterns {
            true => Texts::Patterns(set(&values)?),
            false => Texts::Strict(values.into_iter().collect::<HashSet<_>>()),
        })
    };
    let wanted = |list: Option<Vec<(String, Option<Typed>)>>| -> PyResult<Vec<(String, Wanted)>> {
        let one = |(key, value): (String, Option<Typed>)| {
            let wanted = match value {
                None => Wanted::Any,
                Some((_, pattern)) if patterns => Wanted::Pattern(set(&[pattern])?),
                Some(value) => Wanted::Value(constant(value)),
            };
            Ok((key, wanted))
        };
        list.unwrap_or_default().into_iter().map(one).collect()
    };
    let mut found = Conditions {
        severity: get(given, "log_severity_number")?,
        attributes: wanted(get(given, "attributes")?)?,
        resources: wanted(get(given, "resources")?)?,
        ..Conditions::default()
    };
    for (name, property) in [
        ("services", Property::Service),
        ("span_names", Property::SpanName),
        ("span_kinds", Property::SpanKind),
        ("log_bodies", Property::LogBody),
        ("log_severity_texts", Property::SeverityText),
        ("metric_names", Property::MetricName),
    ] {
        if let Some(values) = get::<Vec<String>>(given, name)?.filter(|values| !values.is_empty()) {
            found.texts.push((property, texts(values)?));
        }
    }
    for (name, version) in get::<Vec<(String, Option<String>)>>(given, "libraries")?.unwrap_or_default() {
        found.libraries.push((texts(vec![name])?, version.map(|version| texts(vec![version])).transpose()?));
    }
    Ok(found)
}

fn set(patterns: &[String]) -> PyResult<RegexSet> {
    RegexSet::new(patterns).map_err(|error| PyValueError::new_err(format!("not a regular expression: {error}")))
}

/// The names of an expression's groups; raises ValueError where it is none.
#[pyfunction]
fn regex_groups(pattern: &str) -> PyResult<Vec<Option<String>>> {
    Ok(regex(pattern)?.capture_names().skip(1).map(|name| name.map(str::to_owned)).collect())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(regex_groups, module)?)?;
    module.add_class::<AttributeEdit>()
}
