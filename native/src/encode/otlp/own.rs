//! What a record's own attributes are: the entries of its map, and what only columns hold.

use arrow_array::{Array, BooleanArray};

use super::{
    EncodeError, Result,
    rows::{Doubles, Entry, MapColumn, Numbers, Text, booleans},
    value::{attribute, boolean, int, key_value},
};
use crate::{
    batch::Batch,
    decode::keys::{CANONICAL, Fed},
    protobuf::Writer,
    schema::{Col, Kind},
};

/// One row of a map column: the user's entries and ours.
#[derive(Default)]
pub struct Own<'a> {
    pub entries: Vec<Entry<'a>>,
    ours: Vec<(&'a str, &'a str)>,
}

impl<'a> Own<'a> {
    pub fn read(&mut self, map: Option<&'a MapColumn>, row: usize) {
        if let Some(map) = map {
            map.read(row, &mut self.entries, &mut self.ours);
        }
    }

    pub fn fed(&self) -> Fed {
        let mut fed = Fed::default();
        self.entries.iter().for_each(|entry| fed.by(entry.key));
        fed
    }

    /// What is kept under a reserved key.
    pub fn note(&self, key: &str) -> Option<&'a str> {
        self.ours.iter().find(|(name, _)| *name == key).map(|(_, text)| *text)
    }

    /// A number kept under a reserved key.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.note(key) else { return Ok(None) };
        let unfit = |_| EncodeError::new("malformed", Col::Attributes.name(), format!("{key} is no number: {text:?}"));
        text.parse().map(Some).map_err(unfit)
    }

    /// The numbers that most records lack: zero.
    pub fn number_or_zero<T: std::str::FromStr + Default>(&self, key: &str) -> Result<T> {
        self.number(key).map(Option::unwrap_or_default)
    }
}

enum Cells {
    Text(Text),
    Whole(Numbers),
    Double(Doubles),
    Bool(BooleanArray),
}

/// The columns of a batch that may be the only home of a record's attribute.
pub struct Homes {
    columns: Vec<(Col, &'static str, Cells)>,
    url: Text,
}

impl Homes {
    pub fn of(batch: &Batch) -> Result<Homes> {
        let mut columns = Vec::new();
        for (key, col, _) in CANONICAL.iter().filter(|(_, _, resource)| !resource) {
            let cells = match col.kind() {
                Kind::Float64 => Doubles::column(batch, *col)?.map(Cells::Double),
                Kind::Bool => booleans(batch, *col)?.map(Cells::Bool),
                Kind::String | Kind::LcString => {
                    batch.column(*col).map(|_| Text::column(batch, *col)).transpose()?.map(Cells::Text)
                }
                _ => Numbers::column(batch, *col)?.map(Cells::Whole),
            };
            columns.extend(cells.map(|cells| (*col, *key, cells)));
        }
        Ok(Homes { columns, url: Text::column(batch, Col::HttpUrl)? })
    }

    /// The attributes that only columns hold: those of columns that no attribute of the record or its resource feeds.
    /// What a URL's parts say is the URL's.
    pub fn write(&self, writer: &mut Writer, number: u32, row: usize, fed: Fed) {
        let url = fed.has(Col::HttpUrl) || !self.url.get(row).is_empty();
        for (col, key, cells) in &self.columns {
            if fed.has(*col) || url && matches!(col, Col::HttpHost | Col::HttpPath | Col::HttpQuery) {
                continue;
            }
            match cells {
                Cells::Text(texts) => {
                    let text = texts.get(row);
                    if !text.is_empty() {
                        attribute(writer, number, key, |writer| writer.bytes(1, text.as_bytes()));
                    }
                }
                Cells::Whole(numbers) => {
                    if let Some(value) = numbers.get(row) {
                        attribute(writer, number, key, |writer| int(writer, value));
                    }
                }
                Cells::Double(doubles) => {
                    if let Some(value) = doubles.get(row) {
                        attribute(writer, number, key, |writer| writer.double(4, value));
                    }
                }
                Cells::Bool(values) => {
                    if values.is_valid(row) {
                        attribute(writer, number, key, |writer| boolean(writer, values.value(row)));
                    }
                }
            }
        }
    }
}

/// A record's attributes, wherever they live.
pub fn write_attributes(writer: &mut Writer, number: u32, own: &Own, homes: &Homes, row: usize, fed: Fed) {
    own.entries.iter().for_each(|entry| key_value(writer, number, entry));
    homes.write(writer, number, row, fed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_fed_by_its_own_attribute_and_a_resources_is_text() {
        assert!(CANONICAL.iter().any(|(_, _, resource)| *resource));
        for (key, col, resource) in CANONICAL {
            let mut fed = Fed::default();
            fed.by(key);
            assert!(fed.has(*col), "{key} feeds {}", col.name());
            // Resources are told apart by the texts of these columns.
            assert!(!resource || matches!(col.kind(), Kind::String | Kind::LcString), "{key} is text");
        }
    }

    #[test]
    fn columns_are_fed_by_what_their_attributes_are_called_now_and_were_called_before() {
        let (mut fed, mut other) = (Fed::default(), Fed::default());
        fed.by("http.method");
        other.by("rpc.grpc.status_code");
        assert!(fed.has(Col::HttpMethod) && !fed.has(Col::RpcStatus));
        let both = fed.and(other);
        assert!(both.has(Col::HttpMethod) && both.has(Col::RpcStatus) && both.has(Col::StatusCode));
        assert!(!both.has(Col::HttpUrl));
    }
}
