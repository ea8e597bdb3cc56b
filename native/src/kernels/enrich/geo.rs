//! Where addresses are, from files in MaxMind's format.
//!
//! Two shapes of records are read: nested, as MaxMind and DB-IP have them (`country.iso_code`, `city.names.en`), and flat,
//! as ip-location-db has them (`country_code`, `city`). What one file does not say, the next one may.

use std::{collections::HashMap, fmt, net::IpAddr, path::Path, sync::Arc};

use arrow_array::{ArrayRef, Float64Array, RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, Field, FieldRef};
use maxminddb::Reader;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::{
    batch::record_batch,
    decode::columns::{Terms, Texts},
    schema::Col,
};

/// One file.
pub struct Database(Reader<Vec<u8>>);

impl Database {
    /// The whole file is read: one that is exchanged or cut short later disturbs nobody. Fails with what is wrong.
    pub fn open(path: &Path) -> Result<Database, String> {
        // What a file says of itself stands at its end: one that was cut short does not open.
        Reader::open_readfile(path).map(Database).map_err(|error| error.to_string())
    }

    /// Seconds since 1970.
    pub fn built_at(&self) -> u64 {
        self.0.metadata().build_epoch
    }
}

/// What is known of each address, as columns of the table; rows of what is no address, or not known, are empty.
pub fn locate<'a>(
    databases: &[&Database],
    addresses: impl Iterator<Item = &'a str>,
) -> Result<RecordBatch, ArrowError> {
    let mut found = Found::default();
    let mut known: Vec<HashMap<usize, usize>> = vec![HashMap::new(); databases.len()];
    let mut records: Vec<Record> = Vec::new();
    let mut rows = 0;
    for address in addresses {
        rows += 1;
        let Ok(address) = address.parse::<IpAddr>() else {
            found.push(&[]);
            continue;
        };
        let address = address.to_canonical();
        let mut of_row = [0; 8];
        let mut count = 0;
        for (database, known) in databases.iter().zip(&mut known).take(of_row.len()) {
            // An IPv6 address in a file of IPv4, or a damaged record: not known.
            let Ok(result) = database.0.lookup(address) else { continue };
            let Some(offset) = result.offset() else { continue };
            let at = match known.get(&offset) {
                Some(at) => *at,
                None => {
                    let Ok(Some(record)) = result.decode::<Record>() else { continue };
                    records.push(record);
                    known.insert(offset, records.len() - 1);
                    records.len() - 1
                }
            };
            of_row[count] = at;
            count += 1;
        }
        let of_row: [Option<&Record>; 8] = std::array::from_fn(|n| (n < count).then(|| &records[of_row[n]]));
        found.push(&of_row);
    }
    found.finish(rows)
}

#[derive(Default)]
struct Found {
    row: usize,
    terms: [Terms; 5],
    postal: Texts,
    latitude: Vec<Option<f64>>,
    longitude: Vec<Option<f64>>,
    asn: Vec<Option<u32>>,
}

const TERMS: [Col; 5] = [Col::GeoCountry, Col::GeoRegion, Col::GeoCity, Col::GeoTimezone, Col::GeoAsOrg];

impl Found {
    fn push(&mut self, records: &[Option<&Record>]) {
        let records = || records.iter().copied().flatten();
        let country = records().find_map(Record::country).unwrap_or("");
        let region = records().find_map(|record| record.region(country));
        let texts = [
            country,
            region.as_deref().unwrap_or(""),
            records().find_map(|r| r.city.as_ref().and_then(Place::name)).unwrap_or(""),
            records().find_map(|r| r.location.time_zone.or(r.timezone)).unwrap_or(""),
            records().find_map(|r| r.autonomous_system_organization).unwrap_or(""),
        ];
        for (terms, text) in self.terms.iter_mut().zip(texts) {
            let term = terms.term(text.as_bytes());
            terms.set(self.row, term);
        }
        let postal = records().find_map(|r| r.postal.as_ref().and_then(|p| p.code.or(p.text)).or(r.postcode));
        self.postal.push(postal.unwrap_or("").as_bytes());
        let place = records().find_map(Record::coordinates);
        self.latitude.push(place.map(|place| place.0));
        self.longitude.push(place.map(|place| place.1));
        self.asn.push(records().find_map(|r| r.autonomous_system_number.0).map(|number| number as u32));
        self.row += 1;
    }

    fn finish(self, rows: usize) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<(Col, ArrayRef)> = Vec::new();
        for (col, terms) in TERMS.into_iter().zip(self.terms) {
            columns.push((col, terms.finish(rows)?));
        }
        columns.push((Col::GeoPostal, Arc::new(self.postal.finish()?)));
        columns.push((Col::GeoLatitude, Arc::new(Float64Array::from(self.latitude))));
        columns.push((Col::GeoLongitude, Arc::new(Float64Array::from(self.longitude))));
        columns.push((Col::GeoAsn, Arc::new(UInt32Array::from(self.asn))));
        let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = columns
            .into_iter()
            .map(|(col, array)| (Arc::new(Field::new(col.name(), array.data_type().clone(), true)), array))
            .unzip();
        record_batch(fields, arrays, rows)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow)]
    country: Option<Place<'a>>,
    registered_country: Option<Place<'a>>,
    country_code: Option<&'a str>,
    subdivisions: Option<Vec<Place<'a>>>,
    state1: Option<&'a str>,
    city: Option<Place<'a>>,
    location: Location<'a>,
    latitude: Number,
    longitude: Number,
    timezone: Option<&'a str>,
    postal: Option<Place<'a>>,
    postcode: Option<&'a str>,
    autonomous_system_number: Number,
    autonomous_system_organization: Option<&'a str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Location<'a> {
    latitude: Number,
    longitude: Number,
    time_zone: Option<&'a str>,
}

impl<'a> Record<'a> {
    fn country(&self) -> Option<&'a str> {
        let nested = |place: &Option<Place<'a>>| place.as_ref().and_then(|place| place.iso_code.or(place.text));
        nested(&self.country).or(self.country_code).or_else(|| nested(&self.registered_country))
    }

    /// ISO 3166-2 where the file has the code, else the name.
    fn region(&self, country: &str) -> Option<String> {
        let first = self.subdivisions.as_ref().and_then(|list| list.first());
        match first.and_then(|place| place.iso_code) {
            Some(code) if !country.is_empty() => Some(format!("{country}-{code}")),
            Some(code) => Some(code.to_owned()),
            None => first.and_then(Place::name).or(self.state1).filter(|name| !name.is_empty()).map(str::to_owned),
        }
    }

    fn coordinates(&self) -> Option<(f64, f64)> {
        let nested = self.location.latitude.0.zip(self.location.longitude.0);
        nested.or_else(|| self.latitude.0.zip(self.longitude.0))
    }
}

/// A number of any width, as files have them; `None` for what is none.
#[derive(Default)]
struct Number(Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
        Ok(Number(Some(number as f64)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
        Ok(Number(Some(number as f64)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
        Ok(Number(Some(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Number, E> {
        Ok(Number(text.parse().ok()))
    }
}

/// A country, a region, a city or a postal area: a name, or a map of what is known of it.
#[derive(Default)]
struct Place<'a> {
    text: Option<&'a str>,
    iso_code: Option<&'a str>,
    code: Option<&'a str>,
    english: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn name(&self) -> Option<&'a str> {
        self.english.or(self.text).filter(|name| !name.is_empty())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Place<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl<'de> Visitor<'de> for PlaceVisitor {
    type Value = Place<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name, or a map")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Place<'de>, E> {
        Ok(Place { text: Some(text), ..Place::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Place<'de>, A::Error> {
        let mut place = Place::default();
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "iso_code" => place.iso_code = map.next_value()?,
                "code" => place.code = map.next_value()?,
                "names" => place.english = map.next_value::<Names>()?.en,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(place)
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Names<'a> {
    en: Option<&'a str>,
}
