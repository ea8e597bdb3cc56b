//! Bodies in and out.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, timeout_at};

use super::queue::{Full, Reservation};

const DISCARD_MAX_BYTES: usize = 64 << 20;
const DISCARD_MAX_TIME: Duration = Duration::from_secs(10);
/// Some clients stop sending once they see the answer, and wait for the other side to end it.
const DISCARD_IDLE: Duration = Duration::from_millis(500);

/// An answer's body: at most one frame of data, then perhaps trailers.
pub struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Reply {
    pub fn new(data: Bytes, trailers: Option<HeaderMap>) -> Reply {
        Reply { data: (!data.is_empty()).then_some(data), trailers }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.trailers.take().map(|t| Ok(Frame::trailers(t))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    /// Unknown where trailers follow: gRPC answers carry no Content-Length.
    fn size_hint(&self) -> SizeHint {
        match self.trailers {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

/// Why a body could not be read.
pub enum BodyError {
    TooLarge(usize),
    Full(Full),
    /// The client went away or broke the protocol.
    Reset,
    Slow,
    /// gRPC framing is wrong.
    Framing(&'static str),
}

impl From<Full> for BodyError {
    fn from(full: Full) -> Self {
        BodyError::Full(full)
    }
}

/// Bounds of reading one body.
pub struct Limits {
    pub max_bytes: usize,
    /// Of the whole body; zero = none.
    pub total: Duration,
    /// Of one wait for more; zero = none.
    pub idle: Duration,
}

struct Chunks<'a> {
    body: &'a mut Incoming,
    end: Option<Instant>,
    idle: Duration,
}

impl<'a> Chunks<'a> {
    fn new(body: &'a mut Incoming, limits: &Limits) -> Chunks<'a> {
        let end = (!limits.total.is_zero()).then(|| Instant::now() + limits.total);
        Chunks { body, end, idle: limits.idle }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let idle = (!self.idle.is_zero()).then(|| Instant::now() + self.idle);
            let frame = match [self.end, idle].into_iter().flatten().min() {
                Some(at) => timeout_at(at, self.body.frame()).await.map_err(|_| BodyError::Slow)?,
                None => self.body.frame().await,
            };
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(BodyError::Reset),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Reads what a refused client still sends, and keeps nothing; beyond the bounds its connection is cut.
pub async fn discard(mut body: Incoming) {
    let limits = Limits { max_bytes: DISCARD_MAX_BYTES, total: DISCARD_MAX_TIME, idle: DISCARD_IDLE };
    let mut chunks = Chunks::new(&mut body, &limits);
    let mut total = 0;
    while let Ok(Some(more)) = chunks.next().await {
        total += more.len();
        if total > limits.max_bytes {
            break;
        }
    }
}

/// The whole body of an HTTP request. `reserved` holds its announced length already, or nothing.
pub async fn read_http(body: &mut Incoming, limits: &Limits, reserved: &mut Reservation) -> Result<Bytes, BodyError> {
    let announced = body.size_hint().exact().unwrap_or(0) as usize;
    let mut chunks = Chunks::new(body, limits);
    let Some(first) = chunks.next().await? else { return Ok(Bytes::new()) };
    let mut all = BytesMut::new();
    let mut single = Some(first);
    loop {
        let total = all.len() + single.as_ref().map_or(0, Bytes::len);
        if total > limits.max_bytes {
            return Err(BodyError::TooLarge(total));
        }
        reserved.grow_to(total)?;
        let Some(next) = chunks.next().await? else { break };
        if let Some(first) = single.take() {
            all.reserve(announced.clamp(first.len() + next.len(), limits.max_bytes.max(first.len() + next.len())));
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&next);
    }
    Ok(single.unwrap_or_else(|| all.freeze()))
}

/// The one message of a unary gRPC request: (compressed, message).
pub async fn read_grpc(
    body: &mut Incoming,
    limits: &Limits,
    reserved: &mut Reservation,
) -> Result<(bool, Bytes), BodyError> {
    let mut chunks = Chunks::new(body, limits);
    let mut head = chunks.next().await?.ok_or(BodyError::Framing("no message received"))?;
    while head.len() < 5 {
        let next = chunks.next().await?.ok_or(BodyError::Framing("unexpected EOF"))?;
        head = [head, next].concat().into();
    }
    let compressed = match head[0] {
        0 => false,
        1 => true,
        _ => return Err(BodyError::Framing("grpc: received unexpected payload format")),
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > limits.max_bytes {
        return Err(BodyError::TooLarge(length));
    }
    reserved.grow_to(length)?;
    let first = head.slice(5..);
    let mut all = BytesMut::new();
    if first.len() < length {
        all.reserve(length);
        all.extend_from_slice(&first);
        while all.len() < length {
            let next = chunks.next().await?.ok_or(BodyError::Framing("unexpected EOF"))?;
            all.extend_from_slice(&next);
        }
    }
    let message = if all.is_empty() { first } else { all.freeze() };
    let mut surplus = message.len() > length;
    while let Some(more) = chunks.next().await? {
        surplus |= !more.is_empty();
        if surplus {
            break;
        }
    }
    match surplus {
        true => Err(BodyError::Framing("cardinality violation: more than one message in a unary request")),
        false => Ok((compressed, message)),
    }
}
