//! Map columns, as stores keep them: text to text, the kinds of values under `$otlp.types`.

use super::{
    column::{Dictionary, LOW_CARDINALITY_VERSION},
    order::At,
    put_bytes,
};
use crate::encode::store::{StoredMap, TYPES_KEY};

pub(super) fn write_maps<'a>(
    out: &mut Vec<u8>,
    maps: &'a [Option<StoredMap<'a>>],
    keys: bool,
    values: bool,
    rows: &'a [At],
) {
    // The versions of the inner columns come before the offsets.
    for _ in 0..usize::from(keys) + usize::from(values) {
        out.extend_from_slice(&LOW_CARDINALITY_VERSION.to_le_bytes());
    }
    out.reserve(rows.len() * size_of::<u64>());
    let mut end = 0u64;
    for at in rows {
        if let Some(map) = &maps[at.batch as usize] {
            let row = at.row as usize;
            end += map.entries(row).len() as u64 + u64::from(map.types(row).is_some());
        }
        out.extend_from_slice(&end.to_le_bytes());
    }
    // An inner column without rows has no data, not even flags.
    if end > 0 {
        let names = Entries::new(maps, rows, |map, entry| map.keys.at(entry), |_| TYPES_KEY.as_bytes());
        write_side(out, &names, keys);
        write_side(out, &Entries::new(maps, rows, |map, entry| map.values.at(entry), |types| types), values);
    }
}

/// The keys or the values of all rows' entries, `$otlp.types` last in each row.
struct Entries<'a, Of, Types> {
    maps: &'a [Option<StoredMap<'a>>],
    rows: &'a [At],
    of: Of,
    types: Types,
}

impl<'a, Of, Types> Entries<'a, Of, Types>
where
    Of: Fn(&'a StoredMap<'a>, usize) -> &'a [u8],
    Types: Fn(&'a [u8]) -> &'a [u8],
{
    fn new(maps: &'a [Option<StoredMap<'a>>], rows: &'a [At], of: Of, types: Types) -> Self {
        Entries { maps, rows, of, types }
    }

    /// Calls `visit` with each text and its place within its row.
    #[inline]
    fn each(&self, mut visit: impl FnMut(usize, &'a [u8])) {
        for at in self.rows {
            let Some(map) = &self.maps[at.batch as usize] else { continue };
            let entries = map.entries(at.row as usize);
            let count = entries.len();
            for (place, entry) in entries.enumerate() {
                visit(place, (self.of)(map, entry));
            }
            if let Some(types) = map.types(at.row as usize) {
                visit(count, (self.types)(types));
            }
        }
    }
}

fn write_side<'a, Of, Types>(out: &mut Vec<u8>, entries: &Entries<'a, Of, Types>, low_cardinality: bool)
where
    Of: Fn(&'a StoredMap<'a>, usize) -> &'a [u8],
    Types: Fn(&'a [u8]) -> &'a [u8],
{
    if !low_cardinality {
        return entries.each(|_, text| put_bytes(out, text));
    }
    let mut dictionary = Dictionary::new(false);
    // Rows mostly have the keys of the row before them, in the same places.
    let mut before: Vec<(&[u8], u32)> = Vec::new();
    let mut codes: Vec<u32> = Vec::new();
    entries.each(|place, text| {
        let code = match before.get(place) {
            Some((known, code)) if *known == text => *code,
            _ => dictionary.code(text),
        };
        match before.get_mut(place) {
            Some(slot) => *slot = (text, code),
            None => before.push((text, code)),
        }
        codes.push(code);
    });
    let count = codes.len();
    dictionary.write(out, codes.into_iter(), count);
}
