//! Records under their resources and scopes, as one request or as several of at most so many bytes.

use hashbrown::HashMap;

use crate::protobuf::{Mark, Writer};

/// The most bytes that a tag and a length take around a message.
const FRAME_BYTES: usize = 6;

/// A message that holds records or further groups, without them.
pub struct Group {
    /// Its field in what holds it.
    number: u32,
    head: Vec<u8>,
    tail: Vec<u8>,
    /// One more message around the records, a metric's data: its field and its tail.
    inner: Option<(u32, Vec<u8>)>,
}

impl Group {
    /// A ResourceX or a ScopeX: `body` is the resource or scope, left out when it says nothing.
    pub fn new(number: u32, body: &[u8], schema_url: &str) -> Group {
        let (mut head, mut tail) = (Writer::default(), Writer::default());
        if !body.is_empty() {
            head.bytes(1, body);
        }
        tail.text(3, schema_url);
        Group { number, head: head.out, tail: tail.out, inner: None }
    }

    /// A metric; `data` is the field of its points.
    pub fn metric(head: Vec<u8>, tail: Vec<u8>, data: u32, data_tail: Vec<u8>) -> Group {
        Group { number: 2, head, tail, inner: Some((data, data_tail)) }
    }

    /// Bytes that closing it may add to those written.
    fn closing_bytes(&self) -> usize {
        let inner = self.inner.as_ref().map_or(0, |(_, tail)| tail.len() + FRAME_BYTES);
        self.tail.len() + FRAME_BYTES + inner
    }

    fn bytes(&self) -> usize {
        self.head.len() + self.closing_bytes()
    }

    fn open(&self, id: u32, writer: &mut Writer) -> Open {
        let outer = writer.begin(self.number);
        writer.out.extend_from_slice(&self.head);
        let inner = self.inner.as_ref().map(|(number, _)| writer.begin(*number));
        Open { id, outer, inner }
    }

    fn close(&self, open: Open, writer: &mut Writer) {
        if let (Some(mark), Some((_, tail))) = (open.inner, &self.inner) {
            writer.out.extend_from_slice(tail);
            writer.end(mark);
        }
        writer.out.extend_from_slice(&self.tail);
        writer.end(open.outer);
    }
}

struct Open {
    id: u32,
    outer: Mark,
    inner: Option<Mark>,
}

/// The groups of one level, each once.
#[derive(Default)]
pub struct Level {
    groups: Vec<Group>,
    known: HashMap<(u32, Vec<u8>), u32, foldhash::fast::RandomState>,
}

impl Level {
    /// The group of this parent and identity.
    pub fn add(&mut self, parent: u32, identity: Vec<u8>, make: impl FnOnce() -> Group) -> u32 {
        *self.known.entry((parent, identity)).or_insert_with(|| {
            self.groups.push(make());
            self.groups.len() as u32 - 1
        })
    }
}

#[derive(Default)]
pub struct Groups {
    pub resources: Level,
    pub scopes: Level,
    pub metrics: Level,
}

impl Groups {
    fn at(&self, level: usize, id: u32) -> &Group {
        let levels = [&self.resources, &self.scopes, &self.metrics];
        &levels[level].groups[id as usize]
    }
}

/// A record's place and where its bytes end; they begin where the one before ends.
pub struct Record {
    /// Resource, scope and, where there is one, metric.
    pub path: [u32; 3],
    pub end: usize,
}

/// The requests: groups in the order of their first record, records of one group in their own order. `records` are the
/// records' fields, one after another, `levels` how much of their paths counts. A record that is larger than `max_bytes`
/// together with what is around it goes alone.
pub fn assemble(groups: &Groups, places: &[Record], records: &[u8], levels: usize, max_bytes: usize) -> Vec<Vec<u8>> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    // Groups are numbered as they come; the sort is stable.
    order.sort_by_key(|index| places[*index].path);
    let mut requests =
        Requests { groups, levels, writer: Writer::default(), open: Vec::new(), closing: 0, done: Vec::new() };
    if max_bytes >= records.len() {
        requests.writer.out.reserve(records.len() + records.len() / 8);
    }
    for index in order {
        let start = if index == 0 { 0 } else { places[index - 1].end };
        requests.add(&places[index].path, &records[start..places[index].end], max_bytes);
    }
    requests.finish();
    requests.done
}

struct Requests<'a> {
    groups: &'a Groups,
    levels: usize,
    writer: Writer,
    open: Vec<Open>,
    /// Bytes that closing all that is open may add.
    closing: usize,
    done: Vec<Vec<u8>>,
}

impl Requests<'_> {
    fn add(&mut self, path: &[u32; 3], record: &[u8], max_bytes: usize) {
        let mut same = self.open.iter().zip(path).take_while(|(open, id)| open.id == **id).count();
        let opening: usize = (same..self.levels).map(|level| self.groups.at(level, path[level]).bytes()).sum();
        let bytes = self.writer.out.len() + self.closing + opening + record.len();
        if bytes > max_bytes && !self.writer.out.is_empty() {
            self.finish();
            same = 0;
        }
        self.close(same);
        for (level, id) in path.iter().enumerate().take(self.levels).skip(same) {
            let group = self.groups.at(level, *id);
            self.closing += group.closing_bytes();
            self.open.push(group.open(*id, &mut self.writer));
        }
        self.writer.out.extend_from_slice(record);
    }

    /// Closes groups until `depth` are open.
    fn close(&mut self, depth: usize) {
        while self.open.len() > depth {
            let Some(open) = self.open.pop() else { return };
            let group = self.groups.at(self.open.len(), open.id);
            self.closing -= group.closing_bytes();
            group.close(open, &mut self.writer);
        }
    }

    fn finish(&mut self) {
        self.close(0);
        if !self.writer.out.is_empty() {
            self.done.push(std::mem::take(&mut self.writer.out));
        }
    }
}
