//! One connection's clock: what moves on it, and when it has stood still for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::options::ServerOptions;
use super::stats::Stats;

/// Moments are milliseconds since the connection began; 0 = not.
pub struct Activity {
    began: Instant,
    stats: Arc<Stats>,
    /// Requests between their head and the end of their answer.
    active: AtomicU32,
    /// First bytes after the last request: a head is on its way.
    head_since: AtomicU64,
    idle_since: AtomicU64,
    blocked_since: AtomicU64,
    /// Bytes between requests are no sign of a head once HTTP/2 is spoken.
    multiplexed: AtomicBool,
    served: AtomicBool,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    Head,
    Idle,
    Write,
    Age,
    AgeGrace,
}

impl Activity {
    pub fn new(stats: Arc<Stats>) -> Arc<Activity> {
        Arc::new(Activity {
            began: Instant::now(),
            stats,
            active: AtomicU32::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            blocked_since: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            served: AtomicBool::new(false),
        })
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    pub fn set_multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    pub fn request(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        Active(self.clone())
    }

    /// Nothing has been asked yet.
    pub fn is_fresh(&self) -> bool {
        !self.served.load(Ordering::Relaxed) && self.head_since.load(Ordering::Relaxed) == 0
    }

    fn read(&self, bytes: usize) {
        self.stats.bytes_in.add(bytes as u64);
        if self.active.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// What is late now, else how long nothing can be.
    pub fn check(&self, options: &ServerOptions, retiring: bool) -> Result<Duration, Late> {
        let now = self.now_ms();
        let mut next = Duration::from_secs(60);
        let mut bound = |since: u64, limit: Duration, late: Late| {
            if since == 0 || limit.is_zero() {
                return Ok(());
            }
            let passed = Duration::from_millis(now.saturating_sub(since));
            if passed >= limit {
                return Err(late);
            }
            next = next.min(limit - passed + Duration::from_millis(1));
            Ok(())
        };
        if retiring {
            if !options.max_age_grace.is_zero() {
                bound(1, options.max_age + options.max_age_grace, Late::AgeGrace)?;
            }
        } else {
            bound(1, options.max_age, Late::Age)?;
        }
        bound(self.blocked_since.load(Ordering::Relaxed), options.write_timeout, Late::Write)?;
        if self.active.load(Ordering::Relaxed) == 0 {
            let (head, idle) = (self.head_since.load(Ordering::Relaxed), self.idle_since.load(Ordering::Relaxed));
            if !self.multiplexed.load(Ordering::Relaxed) {
                let unserved = !self.served.load(Ordering::Relaxed);
                bound(if unserved { 1 } else { head }, options.read_header_timeout, Late::Head)?;
            }
            bound(idle, options.idle_timeout, Late::Idle)?;
        }
        Ok(next)
    }
}

/// A request under way.
pub struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now_ms(), Ordering::Relaxed);
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream whose bytes are noticed.
pub struct Watched<S> {
    stream: S,
    /// Bytes that were read to tell the protocol.
    ahead: bytes::Bytes,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, ahead: bytes::Bytes, activity: Arc<Activity>) -> Watched<S> {
        if !ahead.is_empty() {
            activity.read(ahead.len());
        }
        Watched { stream, ahead, activity }
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending if self.activity.blocked_since.load(Ordering::Relaxed) == 0 => {
                self.activity.blocked_since.store(self.activity.now_ms(), Ordering::Relaxed);
            }
            Poll::Ready(Ok(bytes)) => {
                self.activity.stats.bytes_out.add(*bytes as u64);
                self.activity.blocked_since.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let number = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(number));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let more = buf.filled().len() - before;
        if more > 0 {
            self.activity.read(more);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
