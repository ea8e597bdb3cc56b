//! Connections to a gRPC server, and calls over them.
//!
//! A name is resolved whenever a connection is opened. `round_robin` keeps a connection to each of its addresses and
//! takes them in turn, `pick_first` keeps one. A connection that breaks, or on which a call gets no answer in time, is
//! left out from then on; a call finds another, or opens one, within its own time limit. A call that no server has seen
//! (the connection was going away) is made again at once; any other failure is its caller's to judge.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
    runtime::{Builder, Handle},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    answer::{Answer, code_of_http, grpc_status, partial_success},
    frame::{Frame, Pieces},
    tls::ClientTls,
};

const DEADLINE_EXCEEDED: u32 = 4;
const UNAVAILABLE: u32 = 14;
const INTERNAL: u32 = 13;
/// An export response is a few bytes; what is longer is none.
const ANSWER_MAX_BYTES: usize = 4 << 20;
/// Addresses of one name that get a connection each.
const ADDRESSES_MAX: usize = 32;
/// A name is looked up again this long after some of its addresses could not be reached.
const RESOLVE_AGAIN: Duration = Duration::from_secs(30);

/// What does not change while a channel lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// The `:authority` of calls.
    pub authority: String,
    pub tls: Option<ClientTls>,
    /// A connection to every address of the name, in turn; else to the first that answers.
    pub round_robin: bool,
    pub connect_timeout: Duration,
    /// Pings while calls are under way; zero = none.
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub ping_idle: bool,
}

/// One call's input.
pub struct Call {
    pub path: String,
    pub headers: HeaderMap,
    pub frame: Frame,
    pub timeout: Duration,
    /// Whether to wait for a connection until the time limit, or to fail with the first attempt to connect.
    pub wait_for_ready: bool,
}

struct Connection {
    number: u64,
    address: Option<SocketAddr>,
    sender: SendRequest<Pieces>,
}

#[derive(Default)]
struct Connections {
    open: Vec<Connection>,
    next: usize,
    /// Since when an address may be without a connection.
    incomplete: Option<Instant>,
}

/// Connections to one server, opened when they are needed.
pub struct Channel {
    options: Options,
    connections: Mutex<Connections>,
    connecting: tokio::sync::Mutex<()>,
    numbers: AtomicU64,
}

/// The thread that all channels share.
pub fn runtime() -> io::Result<Handle> {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = RUNTIME.get() {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = RUNTIME.get_or_init(|| runtime.handle().clone()).clone();
    if handle.id() == runtime.handle().id() {
        std::thread::Builder::new()
            .name("colonnade-send".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    }
    Ok(handle)
}

impl Channel {
    pub fn new(options: Options) -> Result<Channel, String> {
        if let Some(tls) = &options.tls {
            tls.config()?;
        }
        Ok(Channel {
            options,
            connections: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            numbers: AtomicU64::default(),
        })
    }

    /// Forgets every connection; calls under way finish.
    pub fn close(&self) {
        self.lock().open.clear();
    }

    /// Makes a call and gives its answer; never fails otherwise.
    pub async fn call(&self, call: &Call) -> Answer {
        let began = Instant::now();
        let mut used = None;
        match timeout(call.timeout, self.attempts(call, &mut used)).await {
            Ok(answer) => answer,
            Err(_) => {
                // The other side may be gone without a word: whoever comes next opens a connection.
                if let Some(number) = used {
                    self.forget(number);
                }
                Answer::failed(DEADLINE_EXCEEDED, format!("no answer within {:.3} s", began.elapsed().as_secs_f64()))
            }
        }
    }

    async fn attempts(&self, call: &Call, used: &mut Option<u64>) -> Answer {
        loop {
            let (number, mut sender) = match self.ready().await {
                Ok(found) => found,
                Err(_) if call.wait_for_ready => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                Err(reason) => return Answer::failed(UNAVAILABLE, reason),
            };
            *used = Some(number);
            if sender.ready().await.is_err() {
                self.forget(number);
                continue;
            }
            match sender.try_send_request(self.request(call)).await {
                Ok(response) => return read(response).await,
                Err(mut error) => {
                    self.forget(number);
                    if error.take_message().is_none() {
                        return Answer::failed(UNAVAILABLE, format!("the connection broke: {}", chain(error.error())));
                    }
                }
            }
        }
    }

    fn request(&self, call: &Call) -> Request<Pieces> {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(self.options.authority.as_str())
            .path_and_query(call.path.as_str())
            .build()
            .expect("authority and path were checked");
        let mut request = Request::new(call.frame.body());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.extend(call.headers.clone());
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Some(encoding) = call.frame.encoding {
            headers.insert("grpc-encoding", HeaderValue::from_static(encoding));
        }
        let millis = call.timeout.as_millis().clamp(1, 99_999_999);
        headers.insert("grpc-timeout", HeaderValue::from_str(&format!("{millis}m")).expect("digits"));
        request
    }

    /// A connection to use now: the next of those that are open, else a new one.
    async fn ready(&self) -> Result<(u64, SendRequest<Pieces>), String> {
        if let Some(found) = self.next() {
            return Ok(found);
        }
        let _one_at_a_time = self.connecting.lock().await;
        // Somebody else may have opened it meanwhile.
        if let Some(found) = self.next() {
            return Ok(found);
        }
        let limit = self.options.connect_timeout;
        match timeout(limit, self.open()).await {
            Ok(Ok(())) => self.next().ok_or_else(|| "the connection broke at once".to_owned()),
            Ok(Err(reason)) => self.next().ok_or(reason),
            Err(_) => self.next().ok_or_else(|| format!("can not connect to {}: timed out", self.options.address)),
        }
    }

    fn next(&self) -> Option<(u64, SendRequest<Pieces>)> {
        let mut connections = self.lock();
        let before = connections.open.len();
        connections.open.retain(|connection| !connection.sender.is_closed());
        if connections.open.len() < before {
            connections.incomplete.get_or_insert_with(Instant::now);
        }
        let look_again = |since: &mut Instant| self.options.round_robin && since.elapsed() > RESOLVE_AGAIN;
        if connections.incomplete.take_if(look_again).is_some() {
            return None;
        }
        let count = connections.open.len();
        connections.next = connections.next.wrapping_add(1);
        let found = connections.open.get(connections.next % count.max(1))?;
        Some((found.number, found.sender.clone()))
    }

    fn forget(&self, number: u64) {
        let mut connections = self.lock();
        connections.open.retain(|connection| connection.number != number);
        connections.incomplete.get_or_insert_with(Instant::now);
    }

    /// Opens what is missing: with `round_robin` a connection to each address. Fails when nothing could be opened.
    async fn open(&self) -> Result<(), String> {
        let address = &self.options.address;
        let failed = |reason: String| format!("can not connect to {address}: {reason}");
        if let Some(path) = address.strip_prefix("unix:") {
            let stream = UnixStream::connect(path).await.map_err(|e| failed(e.to_string()))?;
            return self.shake(stream, None).await.map_err(failed);
        }
        let found = lookup_host(address).await.map_err(|e| failed(e.to_string()))?;
        let known: HashSet<_> = self.lock().open.iter().filter_map(|c| c.address).collect();
        let (mut opened, mut reason) = (0, "the name has no address".to_owned());
        let mut missing = false;
        for to in found.take(ADDRESSES_MAX).filter(|to| !known.contains(to)) {
            match self.open_tcp(to).await {
                Ok(()) if self.options.round_robin => opened += 1,
                Ok(()) => return Ok(()),
                Err(error) => (missing, reason) = (true, error),
            }
        }
        self.lock().incomplete = missing.then(Instant::now);
        if opened == 0 { Err(failed(reason)) } else { Ok(()) }
    }

    async fn open_tcp(&self, to: SocketAddr) -> Result<(), String> {
        let stream = TcpStream::connect(to).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let Some(tls) = &self.options.tls else {
            return self.shake(stream, Some(to)).await;
        };
        let (host, _) = self.options.address.rsplit_once(':').unwrap_or((&self.options.address, ""));
        let expected = if tls.server_name.is_empty() { host.trim_matches(['[', ']']) } else { &tls.server_name };
        let name = ServerName::try_from(expected.to_owned()).map_err(|_| format!("tls: not a name: {expected:?}"))?;
        let connector = TlsConnector::from(tls.config()?);
        let stream = connector.connect(name, stream).await.map_err(|e| format!("tls: {e}"))?;
        self.shake(stream, Some(to)).await
    }

    async fn shake<S>(&self, stream: S, address: Option<SocketAddr>) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let options = &self.options;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        if !options.ping_interval.is_zero() {
            builder
                .keep_alive_interval(options.ping_interval)
                .keep_alive_timeout(options.ping_timeout)
                .keep_alive_while_idle(options.ping_idle);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
        // Its end is seen by `is_closed`.
        tokio::spawn(connection);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.lock().open.push(Connection { number, address, sender });
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections.lock().expect("no panic under this lock")
    }
}

/// The answer of a response: trailers say how the call went, also where there is nothing but them.
async fn read(response: http::Response<Incoming>) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut content = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data().map_err(|frame| frame.into_trailers().ok())) {
            Ok(Ok(data)) if content.len() + data.len() > ANSWER_MAX_BYTES => {
                return Answer::failed(INTERNAL, "the answer is too long");
            }
            Ok(Ok(data)) => content.extend_from_slice(&data),
            Ok(Err(found)) => trailers = found,
            Err(error) => return Answer::failed(UNAVAILABLE, format!("the connection broke: {}", chain(&error))),
        }
    }
    let said = trailers.as_ref().and_then(grpc_status).or_else(|| grpc_status(&head.headers));
    let Some(mut answer) = said else {
        let status = head.status.as_u16();
        return Answer::failed(code_of_http(status), format!("the server speaks no gRPC: it answered HTTP {status}"));
    };
    if answer.code == 0 {
        (answer.rejected, answer.rejected_message) = message(&content).map(partial_success).unwrap_or_default();
    }
    answer
}

/// The first message of a gRPC body. One that is packed counts as empty: no packing of answers was offered.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, content) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize;
    if prefix[0] == 0 { content.get(..length) } else { None }
}

/// An error with what caused it: hyper's own texts say little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
