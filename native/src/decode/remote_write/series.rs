//! Label sets: what the rows of a series have in common. Senders send the same ones again and again, so they are kept
//! from one request to the next, in memory that is bounded.
//!
//! A kept label set is a function of the bytes it was made of and of nothing else, and is found only by the same bytes:
//! so it does not matter whose they were.

use std::{
    hash::BuildHasher,
    sync::{Mutex, PoisonError},
};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128;

use super::super::columns::Fragment;

/// Label sets kept by one book, and bytes that they may take; there are as many books as calls at once.
const MAX_SERIES: usize = 1 << 17;
const MAX_BYTES: usize = 48 << 20;
/// A full book that is asked in vain this many times holds what nobody sends any more.
const MAX_MISSES: usize = 4 * MAX_SERIES;
const MAX_IDLE_BOOKS: usize = 4;
/// What a label set takes besides its text.
const OVERHEAD_BYTES: usize = 512;

/// Stands after every name and every value in a label set's text; no UTF-8 has it.
pub const SEPARATOR: u8 = 0xff;

/// Name and value.
pub type Label<'l> = (&'l [u8], &'l [u8]);

const NAME: &[u8] = b"__name__";

pub struct Series {
    key: Box<[u8]>,
    /// XXH3-128 of the labels sorted by name, each name and value with [`SEPARATOR`] after it.
    pub digest: [u8; 16],
    pub name: Box<[u8]>,
    /// All labels but the name, as they were sent.
    pub labels: Fragment,
    /// What `job` and `instance` say.
    pub namespace: Box<[u8]>,
    pub service: Box<[u8]>,
    pub instance: Box<[u8]>,
}

impl Series {
    /// The series of these labels, or what is wrong with them.
    pub fn of(labels: &[Label], key: &[u8]) -> Result<Series, String> {
        let find = |name: &[u8]| labels.iter().find(|(one, _)| *one == name).map_or(&[][..], |(_, value)| *value);
        if find(NAME).is_empty() {
            return Err("there is no label __name__, or it is empty".into());
        }
        let sorted = sorted(labels);
        if sorted[0].0.is_empty() {
            return Err("a label has no name".into());
        }
        if let Some(name) = repeated(labels) {
            return Err(format!("label {:?} stands there twice", shortened(name)));
        }
        let mut fragment = Fragment::default();
        for (name, value) in labels.iter().filter(|(name, _)| *name != NAME) {
            fragment.push(name, value);
        }
        let (namespace, service) = job(find(b"job"));
        Ok(Series {
            key: key.into(),
            digest: xxh3_128(&text(&sorted)).to_be_bytes(),
            name: find(NAME).into(),
            labels: fragment,
            namespace: namespace.into(),
            service: service.into(),
            instance: find(b"instance").into(),
        })
    }

    /// Its name, as errors tell it.
    pub fn told(&self) -> String {
        shortened(&self.name)
    }

    /// Bytes that a row of this series takes for its labels.
    pub fn row_bytes(&self) -> u64 {
        (self.labels.nbytes() + self.instance.len()) as u64
    }

    fn nbytes(&self) -> usize {
        OVERHEAD_BYTES + self.key.len() + self.name.len() + self.labels.nbytes() + 2 * self.instance.len()
    }
}

fn sorted<'l>(labels: &[Label<'l>]) -> Vec<Label<'l>> {
    let mut sorted = labels.to_vec();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sorted
}

/// A name that more than one of these labels has.
pub fn repeated<'l>(labels: &[Label<'l>]) -> Option<&'l [u8]> {
    sorted(labels).windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0)
}

/// Names and values, a separator after each.
fn text(labels: &[Label]) -> Vec<u8> {
    let mut text = Vec::with_capacity(labels.iter().map(|(name, value)| name.len() + value.len() + 2).sum());
    for part in labels.iter().flat_map(|(name, value)| [name, value]) {
        text.extend_from_slice(part);
        text.push(SEPARATOR);
    }
    text
}

/// Name space and name of a service: `a/b` is `b` of `a`.
fn job(job: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'/', job) {
        Some(slash) if slash > 0 && slash + 1 < job.len() => (&job[..slash], &job[slash + 1..]),
        _ => (&[], job),
    }
}

/// Text as an error tells it.
pub fn shortened(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

/// Which version's bytes a label set was made of.
#[derive(Clone, Copy)]
pub enum Form {
    /// The label messages as they stand in a series of 1.0.
    Wire,
    /// The text of the labels in the order of their references.
    Text,
}

/// All label sets that a call knows: kept ones, and those for which there is no room.
pub struct Book {
    kept: Vec<Series>,
    places: [HashTable<u32>; 2],
    nbytes: usize,
    misses: usize,
    loose: Vec<Series>,
    pub hasher: foldhash::fast::RandomState,
}

static IDLE: Mutex<Vec<Book>> = Mutex::new(Vec::new());

impl Book {
    /// One that nobody uses now.
    pub fn lend() -> Book {
        let book = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut book = book.unwrap_or_else(Book::new);
        if book.misses > MAX_MISSES {
            book = Book::new();
        }
        book
    }

    fn new() -> Book {
        Book {
            kept: Vec::new(),
            places: Default::default(),
            nbytes: 0,
            misses: 0,
            loose: Vec::new(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    pub fn give_back(mut self) {
        self.loose.clear();
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_BOOKS {
            idle.push(self);
        }
    }

    /// A label set of this call.
    #[inline]
    pub fn get(&self, place: u32) -> &Series {
        match (place as usize).checked_sub(MAX_SERIES) {
            None => &self.kept[place as usize],
            Some(loose) => &self.loose[loose],
        }
    }

    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The place of a kept label set.
    #[inline]
    pub fn find(&self, form: Form, hash: u64, same: impl Fn(&[u8]) -> bool) -> Option<u32> {
        self.places[form as usize].find(hash, |place| same(&self.kept[*place as usize].key)).copied()
    }

    /// Keeps a label set that `find` did not find, as far as there is room.
    pub fn add(&mut self, form: Form, hash: u64, series: Series) -> u32 {
        self.nbytes += series.nbytes();
        if self.kept.len() < MAX_SERIES && self.nbytes <= MAX_BYTES {
            let place = self.kept.len() as u32;
            self.kept.push(series);
            // The hash is kept by the table in part only; a table that grows asks for all of it again.
            let (kept, hasher) = (&self.kept, &self.hasher);
            self.places[form as usize].insert_unique(hash, place, |place| {
                let key = &kept[*place as usize].key;
                match form {
                    Form::Wire => hasher.hash_one(&**key),
                    Form::Text => text_hash(hasher, key),
                }
            });
            return place;
        }
        self.nbytes -= series.nbytes();
        self.misses += 1;
        self.add_loose(series)
    }

    pub fn add_loose(&mut self, series: Series) -> u32 {
        self.loose.push(series);
        (MAX_SERIES + self.loose.len() - 1) as u32
    }
}

/// The hash of a label set's text out of its parts' hashes, so that each symbol is hashed once.
#[inline]
pub fn mixed(hash: u64, part: u64) -> u64 {
    (hash.rotate_left(23) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn text_hash(hasher: &foldhash::fast::RandomState, text: &[u8]) -> u64 {
    let parts = text.split(|byte| *byte == SEPARATOR);
    // Nothing follows the last separator.
    let count = memchr::memchr_iter(SEPARATOR, text).count();
    parts.take(count).fold(0, |hash, part| mixed(hash, hasher.hash_one(part)))
}

/// The text of labels that are not sorted.
pub fn key_text(labels: &[Label]) -> Vec<u8> {
    text(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_set_is_the_same_in_any_order() {
        let one = Series::of(&[(b"__name__", b"up"), (b"job", b"a/b/c"), (b"$x", b"1")], b"").unwrap();
        let two = Series::of(&[(b"$x", b"1"), (b"job", b"a/b/c"), (b"__name__", b"up")], b"").unwrap();
        assert_eq!(one.digest, two.digest);
        assert_eq!((&*one.namespace, &*one.service), (&b"a"[..], &b"b/c"[..]));
        assert_ne!(one.digest, Series::of(&[(b"__name__", b"up")], b"").unwrap().digest);
    }

    #[test]
    fn label_sets_that_are_none_are_told() {
        let wrong = |labels: &[Label]| Series::of(labels, b"").err().unwrap();
        assert!(wrong(&[(b"job", b"x")]).contains("__name__"));
        assert!(wrong(&[(b"__name__", b"")]).contains("__name__"));
        assert!(wrong(&[(b"__name__", b"up"), (b"", b"x")]).contains("no name"));
        assert!(wrong(&[(b"__name__", b"up"), (b"a", b"x"), (b"a", b"y")]).contains("twice"));
    }

    #[test]
    fn a_job_is_split_where_both_sides_are_there() {
        assert_eq!(job(b"/b"), (&b""[..], &b"/b"[..]));
        assert_eq!(job(b"a/"), (&b""[..], &b"a/"[..]));
        assert_eq!(job(b"a"), (&b""[..], &b"a"[..]));
    }

    #[test]
    fn a_book_finds_what_it_keeps_by_its_own_bytes_also_after_it_grew() {
        let mut book = Book::new();
        let key = |n: usize| format!("__name__\u{1}m{n}").into_bytes();
        for n in 0..1000 {
            let labels = [(&b"__name__"[..], format!("m{n}").into_bytes())];
            let labels: Vec<(&[u8], &[u8])> = labels.iter().map(|(a, b)| (*a, b.as_slice())).collect();
            let text = key_text(&labels);
            let hash = text_hash(&book.hasher, &text);
            assert_eq!(book.find(Form::Text, hash, |key| key == text), None);
            book.add(Form::Text, hash, Series::of(&labels, &text).unwrap());
            let wire = key(n);
            let hash = book.hash(&wire);
            book.add(Form::Wire, hash, Series::of(&labels, &wire).unwrap());
        }
        let text = key_text(&[(b"__name__", b"m7")]);
        let place = book.find(Form::Text, text_hash(&book.hasher, &text), |key| key == text).unwrap();
        assert_eq!(&*book.get(place).name, b"m7");
        assert!(book.find(Form::Wire, book.hash(&key(8)), |found| found == key(8)).is_some());
        assert!(book.find(Form::Text, book.hash(&key(8)), |found| found == key(8)).is_none());
    }
}
