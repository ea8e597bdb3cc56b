//! What waits: finished bodies, by entry and tenant, and credentials without a verdict.
//!
//! Bytes are counted from a request's announced length on until it is answered, over all servers of the listener. A
//! tenant may hold all of the room while it is alone, and at most its share while others hold any. Entries give their
//! tenants turns.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::answer::{Answer, Protocol, Rendered, render};
use super::options::Route;
use super::stats::Stats;
use crate::decode::Encoding;

const CREDENTIALS_MAX: usize = 10_000;
/// A longer one is asked about again each time: what is remembered stays within 10 MB.
const CREDENTIAL_REMEMBERED_MAX_BYTES: usize = 1_024;
const CREDENTIALS_PARKED_MAX: usize = 1_024;

type Tenant = Arc<str>;
type Credential = (u32, String);

/// What a request is, once its body is whole.
pub struct Pending {
    pub route: Arc<Route>,
    pub protocol: Protocol,
    pub encoding: Encoding,
    pub tenant: Tenant,
    pub body: Bytes,
    pub deadline: Option<Instant>,
    /// Headers where `include_metadata` or a Python route asks for them.
    pub metadata: Vec<(String, String)>,
    pub target: Option<Target>,
    pub reply: Reply,
    /// Gives its room back when the request is done with.
    pub reserved: Reservation,
}

/// What only Python routes look at.
pub struct Target {
    pub method: String,
    pub path: String,
    pub query: String,
    pub peer: String,
}

/// Where a request's answer goes. Dropped unanswered: the request is told that the daemon is unavailable.
pub struct Reply {
    sender: Option<oneshot::Sender<Box<Rendered>>>,
    protocol: Protocol,
    signal: crate::batch::Signal,
    stats: Arc<Stats>,
}

impl Reply {
    pub fn new(
        sender: oneshot::Sender<Box<Rendered>>,
        protocol: Protocol,
        signal: crate::batch::Signal,
        stats: Arc<Stats>,
    ) -> Reply {
        Reply { sender: Some(sender), protocol, signal, stats }
    }

    pub fn send(&mut self, answer: &Answer) {
        let rendered = render(answer, self.protocol, self.signal);
        self.send_rendered(rendered);
    }

    /// Whether it had not been answered before.
    pub fn send_rendered(&mut self, rendered: Rendered) -> bool {
        // A client that has gone away is no fault of whoever answers.
        self.sender.take().map(|sender| sender.send(rendered.into())).is_some()
    }

    fn is_abandoned(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.sender.as_ref().is_some_and(|s| !s.is_closed()) {
            self.stats.unanswered.one();
            self.send(&Answer::unavailable("the request was not handled; try again"));
        }
    }
}

/// Python's word on a credential.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The answer of those who are refused.
    pub refused: Option<Answer>,
    pub tenant: Option<Tenant>,
    pub until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Queue,
    Share,
    /// Larger than the whole room: waiting does not help.
    Never,
}

#[derive(Default)]
struct Waiting {
    turns: VecDeque<Tenant>,
    by_tenant: HashMap<Tenant, VecDeque<Pending>>,
}

#[derive(Default)]
struct State {
    bytes: usize,
    held: HashMap<Tenant, usize>,
    entries: HashMap<u32, Waiting>,
    ready: Vec<u32>,
    signalled: bool,
    verdicts: HashMap<Credential, Verdict>,
    parked: HashMap<Credential, Vec<oneshot::Sender<Verdict>>>,
    unasked: Vec<Credential>,
}

pub struct Queue {
    max_bytes: usize,
    share_bytes: usize,
    event: OwnedFd,
    state: Mutex<State>,
    pub stats: Arc<Stats>,
}

impl Queue {
    pub fn new(max_bytes: usize, share: f64) -> std::io::Result<Queue> {
        // SAFETY: eventfd has no memory arguments; the result is checked and owned here alone.
        let event = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let share_bytes = (max_bytes as f64 * share.clamp(0.0, 1.0)) as usize;
        Ok(Queue { max_bytes, share_bytes, event, state: Mutex::default(), stats: Arc::default() })
    }

    pub fn fileno(&self) -> i32 {
        self.event.as_raw_fd()
    }

    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Room for a request of a tenant.
    pub fn reserve(self: &Arc<Self>, tenant: &Tenant, bytes: usize) -> Result<Reservation, Full> {
        let mut reservation = Reservation { queue: self.clone(), tenant: tenant.clone(), bytes: 0 };
        reservation.grow_to(bytes).map(|()| reservation)
    }

    fn grow(&self, tenant: &Tenant, more: usize) -> Result<(), Full> {
        let mut state = self.lock();
        let held = state.held.get(tenant).copied().unwrap_or(0);
        if held + more > self.max_bytes {
            return Err(if more > self.max_bytes { Full::Never } else { Full::Queue });
        }
        if state.bytes + more > self.max_bytes {
            return Err(Full::Queue);
        }
        // A tenant's first request always finds its turn: a share smaller than a request would shut it out.
        let alone = state.bytes == held;
        if !alone && held > 0 && held + more > self.share_bytes {
            return Err(Full::Share);
        }
        state.bytes += more;
        match state.held.get_mut(tenant) {
            Some(held) => *held += more,
            None => drop(state.held.insert(tenant.clone(), more)),
        }
        Ok(())
    }

    fn release(&self, tenant: &Tenant, bytes: usize) {
        let mut state = self.lock();
        state.bytes -= bytes;
        if let Some(held) = state.held.get_mut(tenant) {
            *held -= bytes;
            if *held == 0 {
                state.held.remove(tenant);
            }
        }
    }

    pub fn push(&self, pending: Pending) {
        let mut state = self.lock();
        let entry = pending.route.entry;
        let waiting = state.entries.entry(entry).or_default();
        match waiting.by_tenant.get_mut(&pending.tenant) {
            Some(queue) => queue.push_back(pending),
            None => {
                waiting.turns.push_back(pending.tenant.clone());
                waiting.by_tenant.insert(pending.tenant.clone(), VecDeque::from([pending]));
            }
        }
        if !state.ready.contains(&entry) {
            state.ready.push(entry);
        }
        self.wake(state);
    }

    /// One write per burst: `ready` has to be called before the next.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if std::mem::replace(&mut state.signalled, true) {
            return;
        }
        drop(state);
        self.stats.wakeups.one();
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes that live across the call; a full counter is as good as a written one.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Entries with something new; the eventfd is quiet until the next burst.
    pub fn ready(&self) -> Vec<u32> {
        let mut state = self.lock();
        let mut count = [0u8; 8];
        // SAFETY: eight bytes to write to; nothing to read is no error here.
        unsafe { libc::read(self.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        state.signalled = false;
        std::mem::take(&mut state.ready)
    }

    /// What waits at an entry, tenants taking turns; requests that nobody waits for any more are left out.
    pub fn take(&self, entry: u32, max_requests: usize, max_bytes: usize) -> Vec<Pending> {
        let (mut taken, mut late) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        let Some(waiting) = state.entries.get_mut(&entry) else { return taken };
        let (mut bytes, now) = (0, Instant::now());
        while taken.len() < max_requests.max(1) && (bytes < max_bytes || taken.is_empty()) {
            let Some(tenant) = waiting.turns.pop_front() else { break };
            let Some(queue) = waiting.by_tenant.get_mut(&tenant) else { continue };
            let other = |p: &Pending| taken.first().is_some_and(|t: &Pending| t.route.kind != p.route.kind);
            if queue.front().is_some_and(other) {
                waiting.turns.push_front(tenant);
                break;
            }
            let pending = queue.pop_front();
            if queue.is_empty() {
                waiting.by_tenant.remove(&tenant);
            } else {
                waiting.turns.push_back(tenant);
            }
            let Some(pending) = pending else { continue };
            if pending.reply.is_abandoned() || pending.deadline.is_some_and(|d| d <= now) {
                late.push(pending);
            } else {
                bytes += pending.body.len();
                taken.push(pending);
            }
        }
        drop(state);
        late.into_iter().for_each(|pending| self.dismiss(pending));
        taken
    }

    fn dismiss(&self, mut pending: Pending) {
        if pending.reply.is_abandoned() {
            self.stats.abandoned.one();
            return;
        }
        self.stats.expired.one();
        pending.reply.send(&Answer::new(503, super::answer::DEADLINE_EXCEEDED, "deadline passed before decoding"));
    }

    /// The verdict on a credential, or where it will arrive. `None` = too many wait already.
    pub fn verdict(&self, entry: u32, value: &str) -> Option<Result<Verdict, oneshot::Receiver<Verdict>>> {
        let mut state = self.lock();
        let key = (entry, value.to_owned());
        if let Some(verdict) = state.verdicts.get(&key)
            && verdict.until > Instant::now()
        {
            return Some(Ok(verdict.clone()));
        }
        if state.parked.values().map(Vec::len).sum::<usize>() >= CREDENTIALS_PARKED_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(others) = state.parked.get_mut(&key) {
            others.push(sender);
            return Some(Err(receiver));
        }
        state.parked.insert(key.clone(), vec![sender]);
        state.unasked.push(key);
        self.wake(state);
        Some(Err(receiver))
    }

    /// Credentials that have not been asked for before.
    pub fn pending_credentials(&self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.lock().unasked)
    }

    pub fn set_verdict(&self, entry: u32, value: String, verdict: Verdict) {
        let mut state = self.lock();
        let key = (entry, value);
        let waiting = state.parked.remove(&key).unwrap_or_default();
        if state.verdicts.len() >= CREDENTIALS_MAX {
            let now = Instant::now();
            state.verdicts.retain(|_, v| v.until > now);
        }
        if state.verdicts.len() >= CREDENTIALS_MAX {
            state.verdicts.clear();
        }
        if key.1.len() <= CREDENTIAL_REMEMBERED_MAX_BYTES {
            state.verdicts.insert(key, verdict.clone());
        }
        drop(state);
        for sender in waiting {
            // Who has gone away needs no verdict.
            let _ = sender.send(verdict.clone());
        }
    }

    pub fn forget_verdicts(&self) {
        self.lock().verdicts.clear();
    }

    /// Answers everything that waits as unavailable.
    pub fn clear(&self) {
        let waiting = std::mem::take(&mut self.lock().entries);
        drop(waiting);
    }
}

/// Bytes of the queue's room that one request holds.
pub struct Reservation {
    queue: Arc<Queue>,
    tenant: Tenant,
    bytes: usize,
}

impl Reservation {
    /// Holds at least `bytes`.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes > self.bytes {
            self.queue.grow(&self.tenant, bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.queue.release(&self.tenant, self.bytes);
        }
    }
}

pub fn lifetime(seconds: f64) -> Instant {
    Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Arc<Queue> {
        Arc::new(Queue::new(100, 0.5).unwrap())
    }

    #[test]
    fn a_tenant_alone_may_hold_everything_and_its_share_beside_others() {
        let queue = queue();
        let (a, b): (Tenant, Tenant) = ("a".into(), "b".into());
        let all = queue.reserve(&a, 90).unwrap();
        assert_eq!(queue.reserve(&b, 20).err(), Some(Full::Queue));
        drop(all);
        let _first = queue.reserve(&a, 40).unwrap();
        let _second = queue.reserve(&b, 10).unwrap();
        assert_eq!(queue.reserve(&a, 20).err(), Some(Full::Share));
        assert!(queue.reserve(&b, 30).is_ok());
    }

    #[test]
    fn a_verdict_is_remembered_but_for_credentials_that_are_long() {
        let queue = queue();
        let until = Instant::now() + std::time::Duration::from_secs(60);
        for (length, remembered) in [(1, true), (CREDENTIAL_REMEMBERED_MAX_BYTES, true), (1025, false)] {
            let credential = "x".repeat(length);
            assert!(matches!(queue.verdict(1, &credential), Some(Err(_))));
            assert_eq!(queue.pending_credentials(), [(1, credential.clone())]);
            queue.set_verdict(1, credential.clone(), Verdict { refused: None, tenant: None, until });
            assert_eq!(matches!(queue.verdict(1, &credential), Some(Ok(_))), remembered);
            queue.pending_credentials();
        }
    }

    #[test]
    fn room_is_given_back() {
        let queue = queue();
        let tenant: Tenant = "a".into();
        let mut one = queue.reserve(&tenant, 10).unwrap();
        one.grow_to(60).unwrap();
        assert_eq!(one.grow_to(101).err(), Some(Full::Queue));
        assert_eq!(queue.bytes(), 60);
        drop(one);
        assert_eq!(queue.bytes(), 0);
        assert_eq!(queue.reserve(&tenant, 101).err(), Some(Full::Never));
    }
}
