//! Words of our own in the context, under `$enrich`, and texts of it exchanged.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use arrow_array::{Array, RecordBatch, StringArray, cast::AsArray, types::Int32Type};
use arrow_schema::ArrowError;
use jiter::Jiter;

use crate::{
    batch::Batch,
    decode::columns::Terms,
    kernels::columns::{Parts, Text, unfit},
    schema::Col,
};

type Result<T> = std::result::Result<T, ArrowError>;

const OURS: &str = "\"$enrich\":{";

/// The batch with what is said of each row under `context.$enrich`: column by column, JSON text, empty for nothing.
/// A context that has been through this already stays as it is.
pub fn say(batch: &Batch, words: &RecordBatch) -> Result<Batch> {
    let mut parts = Parts::of(batch);
    let columns: Vec<Text> = words
        .schema_ref()
        .fields()
        .iter()
        .zip(words.columns())
        .map(|(f, a)| Text::of(f.name(), a))
        .collect::<Result<_>>()?;
    let mut known: hashbrown::HashMap<Box<[i32]>, i32, foldhash::fast::RandomState> = Default::default();
    let mut terms = Terms::default();
    let (mut said, mut last) = (vec![-1; columns.len() + 1], (vec![-2; columns.len() + 1], 0));
    let contexts = parts.text(Col::Context)?;
    for row in 0..parts.rows {
        for (place, column) in said.iter_mut().zip(columns.iter().chain([&contexts])) {
            *place = term_of(column, row);
        }
        if said != last.0 {
            let term = match known.get(said.as_slice()) {
                Some(term) => *term,
                None => {
                    let text = joined(contexts.get(row), words, &columns, row);
                    let term = terms.term(text.as_bytes());
                    known.insert(said.clone().into(), term);
                    term
                }
            };
            last = (said.clone(), term);
        }
        terms.set(row, last.1);
    }
    parts.set(Col::Context, terms.finish(parts.rows)?);
    Ok(batch.with_columns(parts.finish()?, false))
}

fn term_of(text: &Text, row: usize) -> i32 {
    match text {
        Text::Terms { column, .. } if column.is_valid(row) => column.keys().value(row),
        // Plain text has no number: its row stands for it.
        Text::Plain(_) => row as i32,
        _ => -1,
    }
}

fn joined(context: &str, words: &RecordBatch, columns: &[Text], row: usize) -> String {
    let mut text = String::with_capacity(context.len() + 64);
    let open = context.trim_end().strip_suffix('}');
    if context.contains(OURS) || (open.is_none() && !context.is_empty()) {
        return context.to_owned();
    }
    let open = open.unwrap_or("{");
    text.push_str(open);
    if open.trim_end() != "{" {
        text.push(',');
    }
    text.push_str(OURS);
    let start = text.len();
    for (field, column) in words.schema_ref().fields().iter().zip(columns) {
        let word = column.get(row);
        if !word.is_empty() {
            let comma = if text.len() == start { "" } else { "," };
            let _ = write!(text, "{comma}\"{}\":{word}", field.name());
        }
    }
    if text.len() == start {
        return context.to_owned();
    }
    text.push_str("}}");
    text
}

/// The batch with the texts of a top-level key of the context exchanged, or taken out (`None`); others stay.
pub fn exchange(batch: &Batch, key: &str, by: &HashMap<String, Option<String>>) -> Result<Batch> {
    let mut parts = Parts::of(batch);
    let Some(array) = parts.get(Col::Context) else { return Ok(batch.clone()) };
    let column =
        array.as_dictionary_opt::<Int32Type>().ok_or_else(|| unfit("context", array, "a dictionary of text"))?;
    let quoted = format!("\"{key}\"");
    let values = column.values().as_string::<i32>();
    if !values.iter().flatten().any(|context| context.contains(&quoted)) {
        return Ok(batch.clone());
    }
    let changed = values.iter().map(|context| {
        let context = context.unwrap_or("");
        match context.contains(&quoted) {
            true => exchanged(context, key, by).unwrap_or_else(|| context.to_owned()),
            false => context.to_owned(),
        }
    });
    let changed = Arc::new(StringArray::from_iter_values(changed.collect::<Vec<_>>()));
    let column = column.with_values(changed);
    parts.set(Col::Context, Arc::new(column));
    Ok(batch.with_columns(parts.finish()?, false))
}

/// `None` where nothing is exchanged.
fn exchanged(context: &str, key: &str, by: &HashMap<String, Option<String>>) -> Option<String> {
    let mut reader = Jiter::new(context.as_bytes());
    let mut name = reader.next_object().ok()?.map(str::to_owned);
    while let Some(found) = name {
        // The reader stands behind the colon.
        let before = reader.current_index();
        if found != key {
            reader.next_skip().ok()?;
        } else {
            let text = reader.next_str().ok()?.to_owned();
            let after = reader.current_index();
            let by = by.get(&text)?.as_deref();
            let start = before + context[before..after].find('"')?;
            let word = by.map_or("null".to_owned(), |by| format!("\"{by}\""));
            return Some(format!("{}{word}{}", &context[..start], &context[after..]));
        }
        name = reader.next_key().ok()?.map(str::to_owned);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_context_is_exchanged_where_it_stands() {
        let by = HashMap::from([("1.2.3.4".to_owned(), Some("1.2.3.0".to_owned())), ("9.9.9.9".to_owned(), None)]);
        let change = |context: &str| exchanged(context, "ip", &by);
        assert_eq!(
            change(r#"{"a":{"ip":"1.2.3.4"},"ip" : "1.2.3.4","b":1}"#).unwrap(),
            r#"{"a":{"ip":"1.2.3.4"},"ip" : "1.2.3.0","b":1}"#
        );
        assert_eq!(change(r#"{"ip":"9.9.9.9"}"#).unwrap(), r#"{"ip":null}"#);
        assert_eq!(change(r#"{"ip":"5.5.5.5"}"#), None);
        assert_eq!(change(r#"{"ip":5}"#), None);
        assert_eq!(change("nothing"), None);
    }
}
