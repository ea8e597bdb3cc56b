//! Generates `columns.rs` from the one table of columns, `colonnade/unified_schema/unified_schema.csv`, and `keys.rs` from
//! the attributes that feed them, `otel_attributes.csv` beside it.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

fn main() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../colonnade/unified_schema/unified_schema.csv");
    println!("cargo::rerun-if-changed={}", table.display());
    println!("cargo::rerun-if-changed=build.rs");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("columns.rs");
    fs::write(&out, columns(&table)).expect("OUT_DIR is writable");
    let attributes = table.with_file_name("otel_attributes.csv");
    println!("cargo::rerun-if-changed={}", attributes.display());
    fs::write(out.with_file_name("keys.rs"), keys(&attributes)).expect("OUT_DIR is writable");
}

/// The function `rules`: what an attribute's key feeds, and the tables `CANONICAL` and `KEYS`. Names stand old to
/// current, so the line is the rank.
fn keys(table: &Path) -> String {
    let mut reader = csv::Reader::from_path(table).expect("otel_attributes.csv is readable");
    let (mut rules, mut homes): (BTreeMap<String, String>, _) = (BTreeMap::new(), String::new());
    for (rank, record) in reader.records().enumerate() {
        let row = record.expect("otel_attributes.csv is well formed");
        let (canonical, resource) = (&row[2] == "canonical", &row[3] == "resource");
        if canonical {
            writeln!(homes, "    (\"{}\", Col::{}, {resource}),", &row[0], camel(&row[1]))
                .expect("writing to a String");
        }
        if &row[5] != "special" {
            write!(
                rules.entry(row[0].to_owned()).or_default(),
                "Rule {{ col: Col::{}, rank: {rank}, canonical: {canonical}, resource: {resource}, transform: Transform::{} }}, ",
                camel(&row[1]),
                camel(&row[5])
            )
            .expect("writing to a String");
        }
    }
    // By length first: the compiler tries byte strings one after the other.
    let mut lengths: BTreeMap<usize, String> = BTreeMap::new();
    let names: String = rules.keys().map(|key| format!("\"{key}\", ")).collect();
    for (key, list) in rules {
        writeln!(lengths.entry(key.len()).or_default(), "            b\"{key}\" => &[{list}],")
            .expect("writing to a String");
    }
    let mut out = String::from("pub fn rules(key: &[u8]) -> &'static [Rule] {\n    match key.len() {\n");
    for (length, arms) in lengths {
        writeln!(out, "        {length} => match key {{\n{arms}            _ => &[],\n        }},")
            .expect("writing to a String");
    }
    out + "        _ => &[],\n    }\n}\n\n"
        + &format!(
            "/// The attributes that a column may hold alone: key, column, whether resources have it; else records.\n\
             pub static CANONICAL: &[(&str, Col, bool)] = &[\n{homes}];\n\n\
             /// Every key that feeds a column.\npub static KEYS: &[&str] = &[{names}];\n"
        )
}

/// The enum `Col` and its table `COLUMNS`, one entry per row of the CSV, in its order.
fn columns(table: &Path) -> String {
    let mut reader = csv::Reader::from_path(table).expect("unified_schema.csv is readable");
    let (mut variants, mut entries, mut count) = (String::new(), String::new(), 0usize);
    for record in reader.records() {
        let row = record.expect("unified_schema.csv is well formed");
        let (group, name, kind, nullable) = (&row[1], &row[2], kind(&row[3]), &row[4] == "yes");
        writeln!(variants, "    /// `{name}`, {}.\n    {},", &row[3], camel(name)).expect("writing to a String");
        writeln!(
            entries,
            "    Column {{ name: \"{name}\", group: \"{group}\", kind: Kind::{kind}, nullable: {nullable} }},"
        )
        .expect("writing to a String");
        count += 1;
    }
    format!(
        "/// A column of the unified event, in the order of the table.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\n#[repr(u8)]\npub enum Col {{\n{variants}}}\n\n\
         /// Every column, indexed by `Col as usize`.\npub static COLUMNS: [Column; {count}] = [\n{entries}];\n"
    )
}

fn kind(text: &str) -> &'static str {
    match text {
        "uuid" => "Uuid",
        "lc_string" => "LcString",
        "string" => "String",
        "timestamp_ns" => "TimestampNs",
        "int64" => "Int64",
        "int32" => "Int32",
        "uint32" => "UInt32",
        "uint16" => "UInt16",
        "uint8" => "UInt8",
        "float64" => "Float64",
        "bool" => "Bool",
        "date32" => "Date32",
        "json" => "Json",
        "map<string,any>" => "MapAny",
        "map<string,string>" => "MapString",
        "bytes" => "Bytes",
        other => panic!("unified_schema.csv: unknown type {other:?}"),
    }
}

fn camel(name: &str) -> String {
    name.split('_').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..])).collect()
}
