//! Generates `columns.rs` from the one table of columns, `colonnade/unified_schema/unified_schema.csv`.

use std::{env, fmt::Write as _, fs, path::Path};

fn main() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../colonnade/unified_schema/unified_schema.csv");
    println!("cargo::rerun-if-changed={}", table.display());
    println!("cargo::rerun-if-changed=build.rs");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("columns.rs");
    fs::write(out, columns(&table)).expect("OUT_DIR is writable");
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
