//! An attribute by its OTel key, wherever in a batch it lives: in its column, in a map, or in the context's residue.

use std::borrow::Cow;

use arrow_array::{
    Array, ArrayRef, MapArray, StringArray,
    cast::AsArray,
    types::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type},
};
use arrow_schema::{ArrowError, DataType};
use jiter::JsonValue;

use super::columns::{Parts, Text, unfit};
use crate::{decode::keys::rules, schema::Col};

type Result<T> = std::result::Result<T, ArrowError>;

/// Where the values of one key are looked for, in this order: the record's column, its maps, the resource's column, the
/// context.
pub struct Lookup<'a> {
    key: Cow<'a, str>,
    record: Option<Values<'a>>,
    maps: Vec<Entries<'a>>,
    resource: Option<Values<'a>>,
    /// By the dictionary key of `context`.
    contexts: Option<(Text<'a>, Vec<Option<String>>)>,
}

impl<'a> Lookup<'a> {
    /// `key` is the user's; a leading `$` stands doubled in maps and contexts.
    pub fn of(parts: &'a Parts, key: &'a str) -> Result<Lookup<'a>> {
        let home = rules(key.as_bytes()).iter().find(|rule| rule.canonical);
        let column = |resource: bool| match home.filter(|rule| rule.resource == resource) {
            Some(rule) => parts.get(rule.col).map(|array| Values::of(rule.col.name(), array)).transpose(),
            None => Ok(None),
        };
        let key: Cow<'a, str> = if key.starts_with('$') { format!("${key}").into() } else { key.into() };
        let maps = [Col::Attributes, Col::Labels].into_iter().filter_map(|col| Some((col, parts.get(col)?)));
        let maps = maps.map(|(col, array)| Entries::of(col.name(), array)).collect::<Result<_>>()?;
        let contexts = match parts.text(Col::Context)? {
            text @ Text::Terms { values, .. } => {
                let found: Vec<_> = values.iter().map(|context| of_context(context.unwrap_or(""), &key)).collect();
                found.iter().any(Option::is_some).then_some((text, found))
            }
            _ => None,
        };
        Ok(Lookup { record: column(false)?, maps, resource: column(true)?, contexts, key })
    }

    /// One of the daemon's own keys (`$env`) in the maps.
    pub fn reserved(parts: &'a Parts, key: &'a str) -> Result<Lookup<'a>> {
        let labels = parts.get(Col::Labels).map(|array| Entries::of(Col::Labels.name(), array)).transpose()?;
        Ok(Lookup { key: key.into(), record: None, maps: labels.into_iter().collect(), resource: None, contexts: None })
    }

    /// The row's value as text; `None` when it has none, or an empty one.
    pub fn get(&self, row: usize) -> Option<Cow<'a, str>> {
        self.get_besides(row, || self.maps.iter().find_map(|map| map.get(row, &self.key)))
    }

    /// As maps spell the key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether nothing but a map can have the key.
    pub fn is_in_maps_only(&self) -> bool {
        self.record.is_none() && self.resource.is_none() && self.contexts.is_none()
    }

    /// The row's value, where somebody else reads the maps.
    pub fn get_besides(&self, row: usize, in_maps: impl FnOnce() -> Option<&'a str>) -> Option<Cow<'a, str>> {
        let column = |values: &Option<Values<'a>>| values.as_ref().and_then(|values| values.get(row));
        let text = column(&self.record)
            .or_else(|| in_maps().map(Cow::Borrowed))
            .or_else(|| column(&self.resource))
            .or_else(|| {
                let (Text::Terms { column, .. }, found) = self.contexts.as_ref()? else { return None };
                found[column.key(row)?].clone().map(Cow::Owned)
            });
        text.filter(|text| !text.is_empty())
    }
}

/// The text of `resource.KEY` in a context.
fn of_context(context: &str, key: &str) -> Option<String> {
    // Most contexts do not name the key: that is seen without reading them.
    if !context.contains(key) {
        return None;
    }
    let JsonValue::Object(context) = JsonValue::parse(context.as_bytes(), true).ok()? else { return None };
    let JsonValue::Object(resource) = &context.iter().find(|(name, _)| name == "resource")?.1 else { return None };
    match &resource.iter().find(|(name, _)| name == key)?.1 {
        JsonValue::Str(text) => Some(text.to_string()),
        JsonValue::Int(number) => Some(number.to_string()),
        JsonValue::Float(number) => Some(number.to_string()),
        JsonValue::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A column's values as text.
enum Values<'a> {
    Text(Text<'a>),
    Other(&'a ArrayRef),
}

impl<'a> Values<'a> {
    fn of(name: &str, array: &'a ArrayRef) -> Result<Values<'a>> {
        match array.data_type() {
            DataType::Int64 | DataType::Int32 | DataType::UInt32 | DataType::UInt16 | DataType::UInt8 => {
                Ok(Values::Other(array))
            }
            DataType::Float64 | DataType::Boolean => Ok(Values::Other(array)),
            _ => Text::of(name, array).map(Values::Text),
        }
    }

    fn get(&self, row: usize) -> Option<Cow<'a, str>> {
        let array = match self {
            Values::Text(text) => return Some(Cow::Borrowed(text.get(row))).filter(|text| !text.is_empty()),
            Values::Other(array) if array.is_valid(row) => array,
            Values::Other(_) => return None,
        };
        Some(Cow::Owned(match array.data_type() {
            DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
            DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
            DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
            DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).to_string(),
            DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).to_string(),
            DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
            _ => array.as_boolean().value(row).to_string(),
        }))
    }
}

/// A map column, its values typed or plain.
struct Entries<'a> {
    map: &'a MapArray,
    keys: &'a StringArray,
    texts: &'a StringArray,
}

impl<'a> Entries<'a> {
    fn of(name: &str, array: &'a ArrayRef) -> Result<Entries<'a>> {
        let parts = || {
            let map = array.as_map_opt()?;
            let values = map.values();
            let texts = values.as_struct_opt().map_or(Some(values), |pair| pair.column_by_name("text"))?;
            Some(Entries { map, keys: map.keys().as_string_opt()?, texts: texts.as_string_opt()? })
        };
        parts().ok_or_else(|| unfit(name, array, "a map of text"))
    }

    fn get(&self, row: usize, key: &str) -> Option<&'a str> {
        let (from, to) = (self.map.value_offsets()[row] as usize, self.map.value_offsets()[row + 1] as usize);
        (from..to).find(|entry| self.keys.value(*entry) == key).map(|entry| self.texts.value(entry))
    }
}
