//! Completes rows: name space, ids, times, URL parts, partition columns, soft checks (specification 1.3, 1.5, 2.1 to 2.6).
//!
//! One pass per column over the whole batch. Whatever a source stated itself stays; only what is absent is filled. The
//! request bytes stay with the rows, because nothing that they say is changed.

use std::{borrow::Cow, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Date32Array, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, StringArray,
    TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, cast::AsArray, types::UInt32Type,
};
use arrow_schema::{ArrowError, Field};
use hashbrown::HashMap;

use super::{
    attribute::Lookup,
    columns::{Filled, Parts, Text, unfit},
    ids::{UNIT_SEPARATOR, namespace, own_id, uuid8},
    url::{Url, decoded, parameters},
};
use crate::{
    batch::Batch,
    decode::{columns::Terms, reserved},
    schema::{Col, Kind, dictionary},
};

type Result<T> = std::result::Result<T, ArrowError>;

pub const SCHEMA_VERSION: u16 = 1;
const NS_PER_MS: i64 = 1_000_000;
const NS_PER_HOUR: i64 = 3_600_000_000_000;
const NS_PER_DAY: i64 = 24 * NS_PER_HOUR;
/// Further ahead of the clock than this is told by a soft check (2.2).
const FUTURE_NS: i64 = NS_PER_DAY;
/// A `ns` is at most this long.
const SLUG_MAX_BYTES: usize = 63;

/// Columns outside of the table that `unify` can fill (1.2), and the attributes that feed them, current name first.
pub const EXTENSIONS: [(&str, bool, &[&str]); 3] = [
    ("span_kind", true, &[reserved::SPAN_KIND]),
    ("deployment_environment", true, &[reserved::ENV]),
    ("client_ip", false, &["client.address", "http.client_ip"]),
];

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `ns` of rows for which neither the door nor `ns_attribute` names one.
    pub default_ns: String,
    /// Resource attribute that names the `ns` where the door does not; empty: none.
    pub ns_attribute: String,
    pub visibility: String,
    /// How far `timestamp` may lie before and after `ingested_at` for `day` and `hour` to follow it.
    pub day_before_ns: i64,
    pub day_after_ns: i64,
    /// Columns, and the attributes that fill them where they are absent, first present first.
    pub rules: Vec<(Col, Vec<String>)>,
    /// Names of `EXTENSIONS` to fill.
    pub extensions: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            default_ns: "default".into(),
            ns_attribute: String::new(),
            visibility: "user".into(),
            day_before_ns: 7 * NS_PER_DAY,
            day_after_ns: NS_PER_DAY,
            rules: Vec::new(),
            extensions: Vec::new(),
        }
    }
}

/// Rows of one source that break a soft check (1.3): event source, check, how many.
pub type Violations = Vec<(String, &'static str, usize)>;

/// The completed batch; one that is complete already comes back as it is.
pub fn complete(
    batch: &Batch,
    options: &Options,
    ingested_at_ns: i64,
    append_id: [u8; 16],
) -> Result<(Batch, Violations)> {
    if batch.completed {
        return Ok((batch.clone(), Vec::new()));
    }
    let mut parts = Parts::of(batch);
    for (col, keys) in &options.rules {
        fill_from_attributes(&mut parts, *col, keys)?;
    }
    for name in &options.extensions {
        extend(&mut parts, name)?;
    }
    let ns = name_spaces(batch, &parts, options)?;
    ids(&mut parts, &ns)?;
    let times = times(&mut parts, ingested_at_ns)?;
    urls(&mut parts)?;
    resource_ns(&mut parts, &ns)?;
    parts.set(Col::Ns, Arc::new(ns));
    partitions(&mut parts, &times, options, ingested_at_ns);
    constants(&mut parts, options, ingested_at_ns, append_id);
    let violations = soft_checks(&parts, &times, ingested_at_ns)?;
    let mut completed = batch.with_columns(parts.finish()?, true);
    completed.completed = true;
    Ok((completed, violations))
}

/// A name as a `ns`: lower case, without a scheme, every run of other characters one dash (2.3).
pub fn slug(name: &str) -> Cow<'_, str> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let begins = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    if bytes.len() <= SLUG_MAX_BYTES && bytes.first().is_some_and(|b| begins(*b)) && bytes.iter().all(|b| fits(*b)) {
        return Cow::Borrowed(name);
    }
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    let mut slug = String::with_capacity(name.len().min(SLUG_MAX_BYTES));
    for letter in name.chars().map(|letter| letter.to_ascii_lowercase()) {
        match letter.is_ascii() && fits(letter as u8) {
            true => slug.push(letter),
            false if !slug.ends_with('-') => slug.push('-'),
            false => {}
        }
    }
    let slug = slug.trim_start_matches(['-', '.', '_']);
    let slug = &slug[..slug.len().min(SLUG_MAX_BYTES)];
    Cow::Owned(slug.trim_end_matches('-').to_owned())
}

/// The `ns` of every row: its own, its run's (the door's decision), its resource's, else the default.
fn name_spaces(
    batch: &Batch,
    parts: &Parts,
    options: &Options,
) -> Result<DictionaryArray<arrow_array::types::Int32Type>> {
    let (own, mut terms) = (parts.text(Col::Ns)?, Terms::default());
    let asked = match options.ns_attribute.as_str() {
        "" => None,
        key => Some(Lookup::of(parts, key)?),
    };
    let mut row = 0;
    for run in &batch.runs {
        let tenant = slug(&run.source.tenant);
        let of_run = terms.term(if tenant.is_empty() { options.default_ns.as_bytes() } else { tenant.as_bytes() });
        for row in row..row + run.rows {
            let stated = match own.get(row) {
                "" if tenant.is_empty() => asked.as_ref().and_then(|asked| asked.get(row)),
                "" => None,
                text => Some(Cow::Borrowed(text)),
            };
            let key = match stated.as_deref().map(slug).filter(|slug| !slug.is_empty()) {
                Some(slug) => terms.term(slug.as_bytes()),
                None => of_run,
            };
            terms.set(row, key);
        }
        row += run.rows;
    }
    Ok(terms.finish(parts.rows)?.as_dictionary().clone())
}

/// Digests, natural keys and own ids become row ids (2.1); the hidden columns are gone.
fn ids(parts: &mut Parts, ns: &DictionaryArray<arrow_array::types::Int32Type>) -> Result<()> {
    let occurrences = parts.take_other("$occurrence");
    let uids = parts.take_other("$uid");
    let occurrence = |row: usize| occurrences.as_ref().map_or(0, |o| o.as_primitive::<UInt32Type>().value(row));
    let uid = uids.as_ref().map_or(Ok(Text::Absent), |array| Text::of("$uid", array))?;
    let digests = match parts.get(Col::Id) {
        Some(array) => match array.as_fixed_size_binary_opt() {
            Some(digests) if digests.value_length() == 16 => Some(digests),
            _ => return Err(unfit("id", array, "16 bytes")),
        },
        None => None,
    };
    let (source, trace, span) = (parts.text(Col::EventSource)?, parts.text(Col::TraceId)?, parts.text(Col::SpanId)?);
    let (starts, points) = (parts.times(Col::StartedAt)?, parts.times(Col::Timestamp)?);
    let spaces: Vec<[u8; 16]> = ns.values().as_string::<i32>().iter().map(|ns| namespace(ns.unwrap_or(""))).collect();
    let (mut ids, mut name) = (Vec::with_capacity(parts.rows * 16), Vec::with_capacity(128));
    for row in 0..parts.rows {
        let (event_source, own) = (source.get(row), uid.get(row));
        if let Some(id) = own_id(own).filter(|_| !own.is_empty()) {
            ids.extend_from_slice(&id);
            continue;
        }
        name.clear();
        name.extend_from_slice(&spaces[ns.keys().value(row) as usize]);
        name.extend_from_slice(event_source.as_bytes());
        name.push(UNIT_SEPARATOR);
        let digest = digests.map(|digests| digests.value(row)).filter(|digest| digest.iter().any(|byte| *byte != 0));
        match digest {
            _ if !own.is_empty() => name.extend_from_slice(own.as_bytes()),
            Some(digest) => {
                digest_key(&mut name, digest);
                let mut time = |times: Option<&TimestampNanosecondArray>, unit: i64| {
                    name.push(UNIT_SEPARATOR);
                    let time = times.filter(|times| times.is_valid(row)).map_or(0, |times| times.value(row) / unit);
                    name.extend_from_slice(itoa::Buffer::new().format(time).as_bytes());
                };
                match event_source {
                    "otel.metric" => [starts, points].into_iter().for_each(|times| time(times, 1)),
                    "prometheus.sample" => time(points, NS_PER_MS),
                    _ => {}
                }
                // A sample that comes again within its request is no row.
                if event_source != "prometheus.sample" {
                    name.push(UNIT_SEPARATOR);
                    name.extend_from_slice(itoa::Buffer::new().format(occurrence(row)).as_bytes());
                }
            }
            None => {
                name.extend_from_slice(trace.get(row).as_bytes());
                name.push(UNIT_SEPARATOR);
                name.extend_from_slice(span.get(row).as_bytes());
            }
        }
        ids.extend_from_slice(&uuid8(&name));
    }
    parts.set(Col::Id, Arc::new(FixedSizeBinaryArray::try_new(16, ids.into(), None)?));
    Ok(())
}

fn digest_key(name: &mut Vec<u8>, digest: &[u8]) {
    let start = name.len();
    name.resize(start + 2 * digest.len(), 0);
    faster_hex::hex_encode(digest, &mut name[start..]).expect("twice as long");
}

/// `timestamp`, never null: the event's own, else its start, else the time of ingestion; and the same as a number.
fn times(parts: &mut Parts, ingested_at_ns: i64) -> Result<TimestampNanosecondArray> {
    let (own, starts) = (parts.times(Col::Timestamp)?, parts.times(Col::StartedAt)?);
    let times = match own {
        Some(own) if own.null_count() == 0 => own.clone(),
        _ => {
            let valid = |times: Option<&TimestampNanosecondArray>, row| {
                times.filter(|times: &&TimestampNanosecondArray| times.is_valid(row)).map(|times| times.value(row))
            };
            let time = |row| valid(own, row).or_else(|| valid(starts, row)).unwrap_or(ingested_at_ns);
            (0..parts.rows).map(time).collect::<Vec<i64>>().into()
        }
    };
    let times = times.with_timezone("UTC");
    parts.set(Col::TimestampNs, Arc::new(Int64Array::new(times.values().clone(), None)));
    parts.set(Col::Timestamp, Arc::new(times.clone()));
    Ok(times)
}

/// Host, path, query, search term and campaign out of `http_url`, which loses its user-info (2.6).
fn urls(parts: &mut Parts) -> Result<()> {
    let (url, own_query) = (parts.text(Col::HttpUrl)?, parts.text(Col::HttpQuery)?);
    if matches!(url, Text::Absent) {
        return match own_query {
            Text::Absent => Ok(()),
            _ => marketing(parts),
        };
    }
    let mut hosts = parts.terms(Col::HttpHost)?;
    let (mut paths, mut queries) = (Filled::of(parts.text(Col::HttpPath)?), Filled::of(own_query));
    let (mut user_infos, mut lower) = (Vec::new(), String::new());
    for row in 0..parts.rows {
        let text = url.get(row);
        let url = Url::of(text);
        if !url.host.is_empty() {
            lower.clear();
            lower.push_str(url.host);
            lower.make_ascii_lowercase();
            hosts.fill(row, lower.as_bytes());
        }
        if !url.user_info.is_empty() {
            user_infos.push(row);
        }
        paths.push(row, url.path);
        queries.push(row, url.query);
    }
    let (hosts, paths, queries) = (hosts.finish(parts.rows)?, paths.finish()?, queries.finish()?);
    let cleaned = (!user_infos.is_empty()).then(|| without_user_info(url, &user_infos, parts.rows));
    parts.set(Col::HttpHost, hosts);
    for (col, array) in [(Col::HttpPath, paths), (Col::HttpQuery, queries), (Col::HttpUrl, cleaned)] {
        if let Some(array) = array {
            parts.set(col, array);
        }
    }
    marketing(parts)
}

fn without_user_info(urls: Text, rows: &[usize], count: usize) -> ArrayRef {
    let cleaned = (0..count).map(|row| {
        let text = urls.get(row);
        match rows.binary_search(&row) {
            Ok(_) => Cow::Owned(text.replacen(Url::of(text).user_info, "", 1)),
            Err(_) => Cow::Borrowed(text),
        }
    });
    Arc::new(StringArray::from_iter_values(cleaned))
}

/// The campaign's columns by the parameters that feed them.
const CAMPAIGN: [(&str, Col); 6] = [
    ("utm_campaign", Col::CampaignName),
    ("utm_source", Col::CampaignSource),
    ("utm_medium", Col::CampaignMedium),
    ("utm_term", Col::CampaignTerm),
    ("utm_content", Col::CampaignContent),
    ("utm_id", Col::CampaignId),
];
const SEARCH: [&str; 5] = ["q", "query", "search", "s", "keyword"];

/// Search term and campaign out of the query, for rows that have none of their own.
fn marketing(parts: &mut Parts) -> Result<()> {
    let query = parts.text(Col::HttpQuery)?;
    let own: Vec<Text> = CAMPAIGN.iter().map(|(_, col)| parts.text(*col)).collect::<Result<_>>()?;
    let searched = parts.text(Col::PageSearch)?;
    let mut found: HashMap<Col, Vec<(usize, String)>> = HashMap::new();
    for row in 0..parts.rows {
        let query = query.get(row);
        if query.is_empty() {
            continue;
        }
        let (mut searches, campaigns) = (searched.get(row).is_empty(), own.iter().all(|own| own.get(row).is_empty()));
        let mut seen = [false; CAMPAIGN.len()];
        for (name, value) in parameters(query).filter(|(_, value)| !value.is_empty()) {
            if searches && SEARCH.contains(&name) {
                searches = false;
                found.entry(Col::PageSearch).or_default().push((row, decoded(value).into_owned()));
            } else if campaigns && name.starts_with("utm_") {
                let Some(at) = CAMPAIGN.iter().position(|(known, _)| *known == name) else { continue };
                if !std::mem::replace(&mut seen[at], true) {
                    found.entry(CAMPAIGN[at].1).or_default().push((row, decoded(value).into_owned()));
                }
            }
        }
    }
    for (col, values) in found {
        let column = filled(parts, col, &values)?;
        parts.set(col, column);
    }
    Ok(())
}

/// A text column with these texts in rows that have none; `values` ascend by row.
fn filled(parts: &Parts, col: Col, values: &[(usize, String)]) -> Result<ArrayRef> {
    if col.kind() == Kind::LcString {
        let mut terms = parts.terms(col)?;
        values.iter().for_each(|(row, text)| terms.fill(*row, text.as_bytes()));
        return terms.finish(parts.rows);
    }
    let before = parts.text(col)?;
    let mut values = values.iter().peekable();
    let texts = (0..parts.rows).map(|row| {
        let own = before.get(row);
        match values.next_if(|(at, _)| *at == row) {
            Some((_, text)) if own.is_empty() => text.as_str(),
            _ => own,
        }
    });
    Ok(Arc::new(StringArray::from_iter_values(texts)))
}

/// A resource that names no owner of its own is the row's.
fn resource_ns(parts: &mut Parts, ns: &DictionaryArray<arrow_array::types::Int32Type>) -> Result<()> {
    let (kind, id) = (parts.text(Col::ResourceType)?, parts.text(Col::ResourceId)?);
    if matches!((kind, id), (Text::Absent, Text::Absent)) {
        return Ok(());
    }
    let names: &StringArray = ns.values().as_string();
    let mut owners = parts.terms(Col::ResourceNs)?;
    for row in (0..parts.rows).filter(|row| !kind.get(*row).is_empty() || !id.get(*row).is_empty()) {
        owners.fill(row, names.value(ns.keys().value(row) as usize).as_bytes());
    }
    let owners = owners.finish(parts.rows)?;
    parts.set(Col::ResourceNs, owners);
    Ok(())
}

/// `day` and `hour` follow `timestamp` within the window, else `ingested_at` (architecture 3).
fn partitions(parts: &mut Parts, times: &TimestampNanosecondArray, options: &Options, ingested_at_ns: i64) {
    let window =
        ingested_at_ns.saturating_sub(options.day_before_ns)..=ingested_at_ns.saturating_add(options.day_after_ns);
    let (mut days, mut hours) = (Vec::with_capacity(parts.rows), Vec::with_capacity(parts.rows));
    for time in times.values() {
        let time = if window.contains(time) { *time } else { ingested_at_ns };
        days.push(time.div_euclid(NS_PER_DAY) as i32);
        hours.push((time.rem_euclid(NS_PER_DAY) / NS_PER_HOUR) as u8);
    }
    parts.set(Col::Day, Arc::new(Date32Array::from(days)));
    parts.set(Col::Hour, Arc::new(UInt8Array::from(hours)));
}

/// What is the same for every row.
fn constants(parts: &mut Parts, options: &Options, ingested_at_ns: i64, append_id: [u8; 16]) {
    let rows = parts.rows;
    let ingested = TimestampNanosecondArray::from(vec![ingested_at_ns; rows]).with_timezone("UTC");
    parts.set(Col::IngestedAt, Arc::new(ingested));
    let batch_id = FixedSizeBinaryArray::new(16, append_id.repeat(rows).into(), None);
    parts.set(Col::BatchId, Arc::new(batch_id));
    parts.set(Col::SchemaVersion, Arc::new(UInt16Array::from(vec![SCHEMA_VERSION; rows])));
    let mut visibility = parts.terms(Col::Visibility).unwrap_or_default();
    (0..rows).for_each(|row| visibility.fill(row, options.visibility.as_bytes()));
    if let Ok(column) = visibility.finish(rows) {
        parts.set(Col::Visibility, column);
    }
}

/// What rows of an event type should have (1.3).
fn required(event_type: &str) -> &'static [(&'static str, Col)] {
    match event_type {
        "trace" => &[("trace_id", Col::TraceId), ("span_id", Col::SpanId)],
        "metric" => &[("metric_name", Col::MetricName)],
        "log" => &[("log_level", Col::LogLevel)],
        "cdc" => &[("db_operation", Col::DbOperation), ("db_table", Col::DbTable)],
        "page" => &[("http_url", Col::HttpUrl)],
        "vital" => &[("vital_name", Col::VitalName)],
        "replay" => &[("session_id", Col::SessionId), ("replay_type", Col::ReplayType)],
        "tail" => &[("service_name", Col::ServiceName)],
        "snippet" => &[("snippet_request_id", Col::SnippetRequestId)],
        _ => &[],
    }
}

/// Counts rows that lack what their type should have; none is refused for it.
fn soft_checks(parts: &Parts, times: &TimestampNanosecondArray, ingested_at_ns: i64) -> Result<Violations> {
    let (source, kind, name) =
        (parts.text(Col::EventSource)?, parts.text(Col::EventType)?, parts.text(Col::EventName)?);
    let mut counts: HashMap<(&str, &'static str), usize> = HashMap::new();
    let mut count = |row, check| *counts.entry((source.get(row), check)).or_default() += 1;
    let future_ns = ingested_at_ns.saturating_add(FUTURE_NS);
    let (mut known, mut checks) = ("", Vec::new());
    for row in 0..parts.rows {
        let kind = kind.get(row);
        if kind != known || row == 0 {
            known = kind;
            let text = |(check, col): &(&'static str, Col)| Ok((*check, parts.text(*col)?));
            checks = required(kind).iter().map(text).collect::<Result<_>>()?;
        }
        for (check, text) in &checks {
            if text.get(row).is_empty() {
                count(row, *check);
            }
        }
        if name.get(row).is_empty() {
            count(row, "event_name");
        }
        if times.value(row) > future_ns {
            count(row, "future_timestamp");
        }
        if kind == "vital" && parts.get(Col::VitalValue).is_none_or(|values| values.is_null(row)) {
            count(row, "vital_value");
        }
    }
    Ok(counts.into_iter().map(|((source, check), rows)| (source.to_owned(), check, rows)).collect())
}

/// The user's own rule: a column from the first of these attributes that a row has. The attributes stay where they are,
/// because the inverse does not know the rule.
fn fill_from_attributes(parts: &mut Parts, col: Col, keys: &[String]) -> Result<()> {
    let column = {
        let lookups: Vec<Lookup> = keys.iter().map(|key| Lookup::of(parts, key)).collect::<Result<_>>()?;
        let value = |row: usize| lookups.iter().find_map(|lookup| lookup.get(row));
        match col.kind() {
            Kind::LcString | Kind::String => {
                let values: Vec<(usize, String)> =
                    (0..parts.rows).filter_map(|row| Some((row, value(row)?.into_owned()))).collect();
                if values.is_empty() {
                    return Ok(());
                }
                filled(parts, col, &values)?
            }
            kind => numbers(parts.get(col), kind, parts.rows, value)
                .ok_or_else(|| ArrowError::InvalidArgumentError(format!("column {} can not be fed", col.name())))?,
        }
    };
    parts.set(col, column);
    Ok(())
}

/// A column of numbers or truth values, its nulls filled from text that is one.
fn numbers<'a>(
    before: Option<&ArrayRef>,
    kind: Kind,
    rows: usize,
    value: impl Fn(usize) -> Option<Cow<'a, str>>,
) -> Option<ArrayRef> {
    macro_rules! parsed {
        ($type:ty, $array:ty) => {{
            let before = before.map(|array| array.as_any().downcast_ref::<$array>());
            let own = |row| before.flatten().filter(|array| array.is_valid(row)).map(|array| array.value(row));
            let column = (0..rows).map(|row| own(row).or_else(|| value(row)?.trim().parse::<$type>().ok()));
            Some(Arc::new(column.collect::<$array>()) as ArrayRef)
        }};
    }
    match kind {
        Kind::Int64 => parsed!(i64, Int64Array),
        Kind::Int32 => parsed!(i32, Int32Array),
        Kind::UInt32 => parsed!(u32, UInt32Array),
        Kind::UInt16 => parsed!(u16, UInt16Array),
        Kind::UInt8 => parsed!(u8, UInt8Array),
        Kind::Float64 => parsed!(f64, arrow_array::Float64Array),
        Kind::Bool => parsed!(bool, arrow_array::BooleanArray),
        _ => None,
    }
}

/// A column outside of the table.
fn extend(parts: &mut Parts, name: &str) -> Result<()> {
    let Some((name, repeats, keys)) = EXTENSIONS.iter().find(|(known, ..)| *known == name) else { return Ok(()) };
    let lookup = |key: &'static str| match key.starts_with('$') {
        true => Lookup::reserved(parts, key),
        false => Lookup::of(parts, key),
    };
    let lookups: Vec<Lookup> = keys.iter().map(|key| lookup(key)).collect::<Result<_>>()?;
    let value = |row: usize| lookups.iter().find_map(|lookup| lookup.get(row)).unwrap_or_default();
    let column: ArrayRef = match repeats {
        true => {
            let mut terms = Terms::default();
            for row in 0..parts.rows {
                let key = terms.term(value(row).as_bytes());
                terms.set(row, key);
            }
            terms.finish(parts.rows)?
        }
        false => Arc::new(StringArray::from_iter_values((0..parts.rows).map(value))),
    };
    let data_type = if *repeats { dictionary() } else { arrow_schema::DataType::Utf8 };
    parts.others.push((Arc::new(Field::new(*name, data_type, false)), column));
    Ok(())
}
