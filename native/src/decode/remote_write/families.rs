//! What 1.0 says about families of metrics: type, unit and description. Its senders say so now and then, in requests
//! without samples, so it is remembered by tenant and name, in memory that is bounded.

use std::{
    collections::HashMap as Tenants,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use hashbrown::HashMap;

/// Families remembered, and bytes that they may take. What would be more begins anew: senders repeat what they say.
const MAX_FAMILIES: usize = 200_000;
const MAX_BYTES: usize = 64 << 20;
/// What a family takes besides its text.
const OVERHEAD_BYTES: usize = 128;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metadata<'a> {
    pub kind: u32,
    pub unit: &'a [u8],
    pub help: &'a [u8],
}

/// Metadata that does not live in a request.
#[derive(PartialEq)]
pub struct Kept {
    kind: u32,
    unit: Box<[u8]>,
    help: Box<[u8]>,
}

impl Kept {
    pub fn of(metadata: &Metadata) -> Kept {
        Kept { kind: metadata.kind, unit: metadata.unit.into(), help: metadata.help.into() }
    }

    fn metadata(&self) -> Metadata<'_> {
        Metadata { kind: self.kind, unit: &self.unit, help: &self.help }
    }

    fn nbytes(&self) -> usize {
        self.unit.len() + self.help.len()
    }
}

pub type ByName<T> = HashMap<Box<[u8]>, T, foldhash::fast::RandomState>;

/// The families of all tenants.
#[derive(Default)]
pub struct Book {
    tenants: Tenants<String, ByName<Kept>>,
    count: usize,
    nbytes: usize,
}

impl Book {
    /// What is known about a tenant's family of this name.
    pub fn of(&self, tenant: &str) -> Option<&ByName<Kept>> {
        self.tenants.get(tenant)
    }

    fn add(&mut self, tenant: &str, name: Box<[u8]>, kept: Kept) {
        let known = self.of(tenant).is_some_and(|families| families.contains_key(&name));
        if (!known && self.count >= MAX_FAMILIES) || self.nbytes >= MAX_BYTES {
            *self = Book::default();
        }
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.to_owned(), ByName::default());
        }
        let families = self.tenants.get_mut(tenant).expect("it was made");
        let length = name.len();
        self.nbytes += kept.nbytes();
        match families.insert(name, kept) {
            Some(old) => self.nbytes -= old.nbytes(),
            None => {
                self.nbytes += OVERHEAD_BYTES + length;
                self.count += 1;
            }
        }
    }
}

/// What a receiver remembers.
#[derive(Default)]
pub struct Families(RwLock<Book>);

impl Families {
    pub fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is known.
    pub fn remember(&self, tenant: &str, families: Vec<(Box<[u8]>, Kept)>) {
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        families.into_iter().for_each(|(name, kept)| book.add(tenant, name, kept));
    }
}

/// What a request itself says, and what was said before.
pub struct Sayings<'a> {
    pub now: HashMap<&'a [u8], Metadata<'a>, foldhash::fast::RandomState>,
    pub before: Option<&'a ByName<Kept>>,
}

impl<'a> Sayings<'a> {
    /// About a series' family: by its own name, or by the name without what a classic histogram, summary or counter
    /// appends.
    pub fn about(&self, name: &[u8]) -> Metadata<'a> {
        const SUFFIXES: [&[u8]; 8] =
            [b"_bucket", b"_sum", b"_count", b"_total", b"_created", b"_info", b"_gsum", b"_gcount"];
        let stems = SUFFIXES.iter().filter_map(|suffix| name.strip_suffix(*suffix));
        std::iter::once(name).chain(stems).find_map(|name| self.exactly(name)).unwrap_or_default()
    }

    fn exactly(&self, name: &[u8]) -> Option<Metadata<'a>> {
        let now = if self.now.is_empty() { None } else { self.now.get(name).copied() };
        now.or_else(|| self.before?.get(name).map(Kept::metadata))
    }

    /// What was not known before.
    pub fn news(&self) -> Vec<(Box<[u8]>, Kept)> {
        let is_new = |name: &[u8], kept: &Kept| self.before.and_then(|before| before.get(name)) != Some(kept);
        let kept = self.now.iter().map(|(name, metadata)| (*name, Kept::of(metadata)));
        kept.filter(|(name, kept)| is_new(name, kept)).map(|(name, kept)| (name.into(), kept)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAUGE: Metadata = Metadata { kind: 2, unit: b"s", help: b"" };

    #[test]
    fn what_a_request_says_comes_before_what_is_known() {
        let families = Families::default();
        families.remember("a", vec![(b"up"[..].into(), Kept::of(&GAUGE))]);
        let book = families.read();
        let mut sayings = Sayings { now: HashMap::default(), before: book.of("a") };
        assert_eq!(sayings.about(b"up"), GAUGE);
        assert_eq!(sayings.about(b"up_total"), GAUGE);
        assert_eq!(sayings.about(b"down"), Metadata::default());
        assert!(book.of("b").is_none());
        sayings.now.insert(b"up", Metadata { kind: 1, ..GAUGE });
        assert_eq!((sayings.about(b"up").kind, sayings.news().len()), (1, 1));
        sayings.now.insert(b"up", GAUGE);
        assert!(sayings.news().is_empty());
    }

    #[test]
    fn what_would_be_too_much_begins_anew() {
        let mut book = Book::default();
        for number in 0..=MAX_FAMILIES {
            book.add("a", number.to_be_bytes().into(), Kept::of(&GAUGE));
            book.add("a", number.to_be_bytes().into(), Kept::of(&GAUGE));
        }
        assert_eq!((book.count, book.of("a").map(ByName::len)), (1, Some(1)));
        assert_eq!(book.nbytes, OVERHEAD_BYTES + 8 + 1);
    }
}
