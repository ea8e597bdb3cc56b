//! What Python takes at once: requests of one entry, decoded and answered together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::answer::{Answer, INVALID_ARGUMENT, Protocol, RESOURCE_EXHAUSTED, Rendered, render};
use super::options::Kind;
use super::queue::{Pending, Queue};
use super::stats::Stats;
use crate::batch::{Signal, Source};
use crate::decode::{DecodeError, DecompressError, decompress, json_to_protobuf};

/// Characters of a long path that are told, from its start and from its end.
const PATH_HEAD: usize = 120;
const PATH_TAIL: usize = 60;

pub struct Group {
    pub entry: u32,
    pub kind: Kind,
    pub signal: Signal,
    pub count: usize,
    pub nbytes: usize,
    pub tenants: Vec<Arc<str>>,
    /// Requests by their number in the group; answered ones are gone.
    items: Vec<Option<Pending>>,
    refused: BTreeMap<&'static str, usize>,
    stats: Arc<Stats>,
}

/// A body as plain protobuf, and where it came from. `number` is the request's in its group.
pub struct Opened {
    pub number: usize,
    pub body: Bytes,
    pub source: Arc<Source>,
}

impl Group {
    pub fn take(queue: &Queue, entry: u32, max_requests: usize, max_bytes: usize) -> Option<Group> {
        let pending = queue.take(entry, max_requests, max_bytes);
        let route = pending.first()?.route.clone();
        let mut tenants: Vec<Arc<str>> = Vec::new();
        for tenant in pending.iter().map(|p| &p.tenant) {
            if !tenants.contains(tenant) {
                tenants.push(tenant.clone());
            }
        }
        Some(Group {
            entry,
            kind: route.kind,
            signal: route.signal,
            count: pending.len(),
            nbytes: pending.iter().map(|p| p.body.len()).sum(),
            tenants,
            items: pending.into_iter().map(Some).collect(),
            refused: BTreeMap::new(),
            stats: queue.stats.clone(),
        })
    }

    /// (count, code) of requests that were refused alone.
    pub fn refused(&self) -> Vec<(usize, &'static str)> {
        self.refused.iter().map(|(code, count)| (*count, *code)).collect()
    }

    /// Numbers of the requests that are not answered yet.
    pub fn remaining(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|&n| self.items[n].is_some()).collect()
    }

    /// Takes the bodies, decompressed and as protobuf. What can not be opened is refused alone.
    pub fn open(&mut self) -> Vec<Opened> {
        let mut opened = Vec::with_capacity(self.items.len());
        for number in 0..self.items.len() {
            let Some(pending) = &mut self.items[number] else { continue };
            let body = std::mem::take(&mut pending.body);
            let (limit, protocol) = (pending.route.max_body_bytes, pending.protocol);
            let plain = match decompress(pending.encoding, &body, limit) {
                Ok(plain) => plain,
                Err(error) => {
                    self.refuse_packed(number, protocol, error);
                    continue;
                }
            };
            let body = match protocol {
                Protocol::Json => json_to_protobuf(self.signal, &plain).map(Bytes::from),
                _ => Ok(plain),
            };
            match body {
                Err(error) => self.refuse_malformed(number, &error),
                Ok(body) => {
                    let metadata = std::mem::take(&mut pending.metadata);
                    let source = Source { tenant: pending.tenant.clone(), metadata, payload: None };
                    opened.push(Opened { number, body, source: Arc::new(source) });
                }
            }
        }
        opened
    }

    fn refuse_packed(&mut self, number: usize, protocol: Protocol, error: DecompressError) {
        let (code, answer) = match (error, protocol) {
            (DecompressError::TooLarge { limit }, Protocol::Grpc) => {
                let message = format!("grpc: received message after decompression larger than max {limit}");
                ("too_large", Answer::new(400, RESOURCE_EXHAUSTED, message))
            }
            (DecompressError::TooLarge { .. }, _) => {
                ("too_large", Answer::new(400, INVALID_ARGUMENT, "http: request body too large"))
            }
            (error @ DecompressError::Corrupt(_), Protocol::Grpc) => {
                let message = format!("grpc: failed to decompress the received message: {error}");
                ("corrupt", Answer::new(400, super::answer::INTERNAL, message))
            }
            (error @ DecompressError::Corrupt(_), _) => {
                ("corrupt", Answer::new(400, INVALID_ARGUMENT, format!("failed to decompress the body: {error}")))
            }
        };
        match code {
            "too_large" => self.stats.too_large.one(),
            _ => self.stats.bad_encoding.one(),
        }
        self.refuse(number, code, &answer);
    }

    /// Answers one request: its payload is not what it should be.
    pub fn refuse_malformed(&mut self, number: usize, error: &DecodeError) {
        let mut message = format!("{} at byte {}", error.message, error.offset);
        if !error.path.is_empty() {
            message.push_str(&format!(" in {}", shortened(&error.path)));
        }
        self.stats.malformed.one();
        self.refuse(number, "malformed", &Answer::new(400, INVALID_ARGUMENT, message));
    }

    fn refuse(&mut self, number: usize, code: &'static str, answer: &Answer) {
        if let Some(mut pending) = self.items[number].take() {
            pending.reply.send(answer);
            *self.refused.entry(code).or_default() += 1;
        }
    }

    /// Answers one request as accepted: it has no rows.
    pub fn accept(&mut self, number: usize) {
        if let Some(mut pending) = self.items[number].take() {
            pending.reply.send(&Answer::ok());
        }
    }

    /// Answers every request that is left, some of them otherwise.
    pub fn answer(&mut self, answer: &Answer, exceptions: &[(usize, Answer)]) {
        for (number, answer) in exceptions {
            if let Some(mut pending) = self.items.get_mut(*number).and_then(Option::take) {
                pending.reply.send(answer);
            }
        }
        let mut known: Vec<(Protocol, Rendered)> = Vec::with_capacity(2);
        for mut pending in self.items.iter_mut().filter_map(Option::take) {
            let protocol = pending.protocol;
            let rendered = match known.iter().find(|(p, _)| *p == protocol) {
                Some((_, rendered)) => rendered.clone(),
                None => {
                    let rendered = render(answer, protocol, self.signal);
                    known.push((protocol, rendered.clone()));
                    rendered
                }
            };
            pending.reply.send_rendered(rendered);
        }
    }

    /// The requests themselves, for routes with a Python handler.
    pub fn requests(&mut self) -> Vec<Pending> {
        self.items.iter_mut().filter_map(Option::take).collect()
    }
}

/// The path as a refused client is told it: deep nesting makes it longer than the headers of gRPC may be.
fn shortened(path: &str) -> String {
    match (path.get(..PATH_HEAD), path.len().checked_sub(PATH_TAIL).and_then(|from| path.get(from..))) {
        (Some(head), Some(tail)) if path.len() > PATH_HEAD + PATH_TAIL => format!("{head}...{tail}"),
        _ => path.to_owned(),
    }
}
