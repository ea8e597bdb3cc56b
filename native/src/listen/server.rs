//! Threads, ports, connections, and their end.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use super::connection::{Activity, Late, Watched};
use super::options::Table;
use super::queue::Queue;
use super::service::{Context, handle};
use super::tls::Tls;

const BACKLOG: i32 = 1_024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Waits out a lack of file descriptors instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that have been told to go get this long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Closing,
    Draining,
    Closed,
}

/// A number of things under way, and the wait until there are none.
#[derive(Default)]
struct Gauge {
    count: Mutex<usize>,
    none: Condvar,
}

impl Gauge {
    fn enter(self: &Arc<Self>) -> Entered {
        *self.count.lock().expect("no panic under this lock") += 1;
        Entered(self.clone())
    }

    fn wait(&self, until: Instant) -> bool {
        let count = self.count.lock().expect("no panic under this lock");
        let left = until.saturating_duration_since(Instant::now());
        let (count, _) = self.none.wait_timeout_while(count, left, |c| *c > 0).expect("no panic under this lock");
        *count == 0
    }
}

struct Entered(Arc<Gauge>);

impl Drop for Entered {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().expect("no panic under this lock");
        *count -= 1;
        if *count == 0 {
            self.0.none.notify_all();
        }
    }
}

/// Which protocols a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    pub h1: bool,
    pub h2: bool,
}

/// A bound address: its routes, its certificate, its connections.
pub struct Port {
    pub address: String,
    protocols: Protocols,
    table: Mutex<Arc<Table>>,
    tls: Mutex<Option<Tls>>,
    phase: watch::Sender<Phase>,
    loops: Arc<Gauge>,
    connections: Arc<Gauge>,
    open: AtomicUsize,
    socket_path: Option<String>,
}

impl Port {
    pub fn table(&self) -> Arc<Table> {
        self.table.lock().expect("no panic under this lock").clone()
    }

    /// Requests that have begun keep the table they began with.
    pub fn set_table(&self, table: Table) {
        *self.table.lock().expect("no panic under this lock") = Arc::new(table);
    }

    pub fn protocols(&self) -> Protocols {
        self.protocols
    }

    pub fn set_tls(&self, tls: Option<Tls>) {
        *self.tls.lock().expect("no panic under this lock") = tls;
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = (*now).max(phase);
            later
        });
    }

    /// Frees the address; connections go on.
    pub fn stop_accepting(&self) {
        self.enter(Phase::Closing);
        if self.loops.wait(Instant::now() + FAREWELL)
            && let Some(path) = &self.socket_path
        {
            // Somebody else may have taken it away already.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Lets requests in flight finish until the deadline, then drops what is left.
    pub fn close(&self, deadline: Duration) {
        self.stop_accepting();
        self.enter(Phase::Draining);
        self.connections.wait(Instant::now() + deadline);
        self.enter(Phase::Closed);
        self.connections.wait(Instant::now() + FAREWELL);
    }
}

struct Worker {
    handle: Handle,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// The threads that read sockets, and the queue they fill.
pub struct Engine {
    pub queue: Arc<Queue>,
    workers: Mutex<Vec<Worker>>,
    ports: Mutex<Vec<Weak<Port>>>,
}

enum Socketlike {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Engine {
    pub fn start(threads: usize, queue: Queue) -> io::Result<Engine> {
        let workers = (0..threads.max(1)).map(worker).collect::<io::Result<Vec<_>>>()?;
        Ok(Engine { queue: Arc::new(queue), workers: Mutex::new(workers), ports: Mutex::default() })
    }

    /// Binds at once and serves with an empty table until it gets another.
    pub fn serve(&self, address: &str, protocols: Protocols, tls: Option<Tls>) -> io::Result<Arc<Port>> {
        let (sockets, bound) = bind(address)?;
        let port = Arc::new(Port {
            address: bound,
            protocols,
            table: Mutex::default(),
            tls: Mutex::new(tls),
            phase: watch::Sender::new(Phase::Serving),
            loops: Arc::default(),
            connections: Arc::default(),
            open: AtomicUsize::new(0),
            socket_path: address.strip_prefix("unix:").map(str::to_owned),
        });
        let workers = self.workers.lock().expect("no panic under this lock");
        if workers.is_empty() {
            return Err(io::Error::other("the listener is closed"));
        }
        for worker in workers.iter() {
            for socket in &sockets {
                let entered = port.loops.enter();
                let (port, queue) = (port.clone(), self.queue.clone());
                match socket {
                    Socketlike::Tcp(listener) => {
                        worker.handle.spawn(accept_tcp(listener.try_clone()?, port, queue, entered));
                    }
                    Socketlike::Unix(listener) => {
                        worker.handle.spawn(accept_unix(listener.try_clone()?, port, queue, entered));
                    }
                }
            }
        }
        let mut ports = self.ports.lock().expect("no panic under this lock");
        ports.retain(|port| port.strong_count() > 0);
        ports.push(Arc::downgrade(&port));
        Ok(port)
    }

    /// Closes every port, then stops the threads. Idempotent.
    pub fn close(&self, deadline: Duration) {
        let ports = std::mem::take(&mut *self.ports.lock().expect("no panic under this lock"));
        let until = Instant::now() + deadline;
        let ports: Vec<_> = ports.iter().filter_map(Weak::upgrade).collect();
        for port in &ports {
            port.stop_accepting();
            port.enter(Phase::Draining);
        }
        for port in &ports {
            port.close(until.saturating_duration_since(Instant::now()));
        }
        self.queue.clear();
        let workers = std::mem::take(&mut *self.workers.lock().expect("no panic under this lock"));
        for mut worker in workers {
            worker.stop.notify_one();
            if let Some(thread) = worker.thread.take() {
                // A panic there has been reported by the thread itself.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

fn worker(number: usize) -> io::Result<Worker> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name(format!("listen-{number}"))
        .spawn(move || runtime.block_on(stopped.notified()))?;
    Ok(Worker { handle, stop, thread: Some(thread) })
}

/// `host:port`, `:port` or `unix:/path`. A name is bound on all of its addresses, `localhost` thus on IPv4 and IPv6.
fn bind(address: &str) -> io::Result<(Vec<Socketlike>, String)> {
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok((vec![Socketlike::Unix(bind_unix(path)?)], address.to_owned()));
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(|| io::Error::other("expected host:port or unix:/path"))?;
    let port: u16 = port.parse().map_err(|_| io::Error::other(format!("{port:?} is not a port")))?;
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let mut candidates: Vec<SocketAddr> =
        (if plain.is_empty() { "::" } else { plain }, port).to_socket_addrs()?.collect();
    candidates.sort_by_key(SocketAddr::is_ipv6);
    candidates.dedup();
    if plain.eq_ignore_ascii_case("localhost") && candidates.iter().all(SocketAddr::is_ipv4) {
        candidates.push(SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), port));
    }
    if plain.is_empty() {
        candidates.push(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port));
    }
    let first = candidates.first().copied().ok_or_else(|| io::Error::other(format!("{host:?} has no address")))?;
    let mut sockets = Vec::new();
    let mut bound = first;
    for mut candidate in candidates {
        if !sockets.is_empty() {
            candidate.set_port(bound.port());
        }
        match bind_tcp(candidate) {
            Ok(listener) => {
                if sockets.is_empty() {
                    bound = listener.local_addr()?;
                }
                sockets.push(Socketlike::Tcp(listener));
            }
            // A machine without the other family still serves this one; `::` may have taken both.
            Err(_) if !sockets.is_empty() => {}
            Err(error) if candidate.is_ipv4() || !plain.is_empty() => return Err(error),
            Err(_) => {}
        }
    }
    let shown =
        if plain.eq_ignore_ascii_case("localhost") { format!("localhost:{}", bound.port()) } else { bound.to_string() };
    Ok((sockets, shown))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket file that nobody listens on is left over from a crash, and replaced.
fn bind_unix(path: &str) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse && std::os::unix::net::UnixStream::connect(path).is_err() =>
        {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept_tcp(listener: TcpListener, port: Arc<Port>, queue: Arc<Queue>, _entered: Entered) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut phase = port.phase.subscribe();
    while *phase.borrow() == Phase::Serving {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.changed() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Answers are small, and should not wait for more.
                let _ = stream.set_nodelay(true);
                admit(stream, peer.to_string(), &port, &queue);
            }
            Err(_) => pause(&queue).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, port: Arc<Port>, queue: Arc<Queue>, _entered: Entered) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
    let mut phase = port.phase.subscribe();
    while *phase.borrow() == Phase::Serving {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.changed() => continue,
        };
        match accepted {
            Ok((stream, _)) => admit(stream, "unix".to_owned(), &port, &queue),
            Err(_) => pause(&queue).await,
        }
    }
}

async fn pause(queue: &Queue) {
    queue.stats.accept_errors.one();
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A connection's place among the others.
struct Open {
    port: Arc<Port>,
    queue: Arc<Queue>,
    _entered: Entered,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.port.open.fetch_sub(1, Ordering::Relaxed);
        self.queue.stats.connections_open.less();
    }
}

fn admit<S: Stream>(stream: S, peer: String, port: &Arc<Port>, queue: &Arc<Queue>) {
    let stats = &queue.stats;
    stats.connections_total.one();
    if port.open.load(Ordering::Relaxed) >= port.table().options.max_connections {
        stats.connections_refused.one();
        return;
    }
    port.open.fetch_add(1, Ordering::Relaxed);
    stats.connections_open.one();
    let open = Open { port: port.clone(), queue: queue.clone(), _entered: port.connections.enter() };
    tokio::spawn(async move {
        let mut phase = open.port.phase.subscribe();
        tokio::select! {
            () = greet(stream, peer, &open) => {}
            _ = phase.wait_for(|p| *p == Phase::Closed) => {}
        }
    });
}

/// TLS, then which protocol it is.
async fn greet<S: Stream>(stream: S, peer: String, open: &Open) {
    let (port, stats) = (&open.port, &open.queue.stats);
    let config = port.tls.lock().expect("no panic under this lock").as_mut().map(Tls::current);
    let Some((config, failed)) = config else {
        return sniff(stream, peer, open).await;
    };
    if failed {
        stats.tls_errors.one();
    }
    match tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => {
            let h2 = match stream.get_ref().1.alpn_protocol() {
                Some(name) => name == b"h2",
                None => !port.protocols.h1,
            };
            talk(stream, Bytes::new(), h2, peer, open).await;
        }
        Ok(Err(_)) => stats.tls_errors.one(),
        Err(_) => stats.header_timeouts.one(),
    }
}

/// Plain text: HTTP/2 by prior knowledge begins with its preface.
async fn sniff<S: Stream>(mut stream: S, peer: String, open: &Open) {
    let protocols = open.port.protocols;
    if !(protocols.h1 && protocols.h2) {
        return talk(stream, Bytes::new(), protocols.h2, peer, open).await;
    }
    let table = open.port.table();
    let (head, idle) = (table.options.read_header_timeout, table.options.idle_timeout);
    let limit = [head, idle].into_iter().filter(|l| !l.is_zero()).min();
    let mut start = [0u8; PREFACE.len()];
    let mut length = 0;
    let read = async {
        while length < start.len() && start[..length] == PREFACE[..length] {
            match stream.read(&mut start[length..]).await {
                Ok(0) | Err(_) => return false,
                Ok(more) => length += more,
            }
        }
        true
    };
    let mut phase = open.port.phase.subscribe();
    let known = tokio::select! {
        known = read => known,
        () = tokio::time::sleep(limit.unwrap_or_default()), if limit.is_some() => {
            match limit == Some(idle) {
                true => open.queue.stats.idle_timeouts.one(),
                false => open.queue.stats.header_timeouts.one(),
            }
            false
        }
        _ = phase.wait_for(|p| *p >= Phase::Draining) => false,
    };
    if known {
        let h2 = start[..length] == *PREFACE;
        talk(stream, Bytes::copy_from_slice(&start[..length]), h2, peer, open).await;
    }
}

async fn talk<S: Stream>(stream: S, ahead: Bytes, h2: bool, peer: String, open: &Open) {
    let activity = Activity::new(open.queue.stats.clone());
    let options = &open.port.table().options;
    let context =
        Arc::new(Context { port: open.port.clone(), queue: open.queue.clone(), activity: activity.clone(), peer });
    let io = TokioIo::new(Watched::new(stream, ahead, activity.clone()));
    let service = service_fn(move |request| {
        let context = context.clone();
        async move { Ok::<_, Infallible>(handle(context, request).await) }
    });
    let result = if h2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_frame_size(1 << 20)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_concurrent_streams(options.max_concurrent_streams)
            .max_header_list_size(options.max_header_bytes.try_into().unwrap_or(u32::MAX))
            .keep_alive_interval((!options.ping_interval.is_zero()).then_some(options.ping_interval))
            .keep_alive_timeout(options.ping_timeout);
        drive(builder.serve_connection(io, service), open, &activity, true).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .keep_alive(options.keep_alive)
            .max_buf_size(options.max_header_bytes.max(8_192));
        drive(builder.serve_connection(io, service), open, &activity, false).await
    };
    if result.is_err_and(|e| !(e.is_incomplete_message() || e.is_canceled() || e.is_closed())) {
        open.queue.stats.protocol_errors.one();
    }
}

/// A connection that can be asked to end after what it does.
trait Connection: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<I, B, S> Connection for http1::Connection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, B, S, E> Connection for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive(connection: impl Connection, open: &Open, activity: &Activity, h2: bool) -> hyper::Result<()> {
    if h2 {
        activity.set_multiplexed();
    }
    let stats = &open.queue.stats;
    let mut connection = pin!(connection);
    let mut phase = open.port.phase.subscribe();
    let mut drained = false;
    let mut retiring = false;
    let mut ending = false;
    let first = activity.check(&open.port.table().options, false).unwrap_or(FAREWELL);
    let mut clock = pin!(tokio::time::sleep(first));
    loop {
        tokio::select! {
            // An answer that is written after the drain began says that the connection ends.
            biased;
            _ = phase.wait_for(|p| *p >= Phase::Draining), if !drained => {
                drained = true;
                // hyper waits for the first request of a connection even then.
                if !h2 && activity.is_fresh() {
                    return Ok(());
                }
                connection.as_mut().end();
            }
            result = connection.as_mut() => return result,
            () = clock.as_mut() => {
                let next = match activity.check(&open.port.table().options, retiring) {
                    Ok(next) => next,
                    Err(Late::Age) => {
                        retiring = true;
                        connection.as_mut().end();
                        FAREWELL
                    }
                    Err(Late::Idle) if !ending => {
                        ending = true;
                        stats.idle_timeouts.one();
                        connection.as_mut().end();
                        FAREWELL
                    }
                    Err(late) => {
                        match late {
                            Late::Head => stats.header_timeouts.one(),
                            Late::Write => stats.write_timeouts.one(),
                            _ => {}
                        }
                        return Ok(());
                    }
                };
                clock.as_mut().reset(tokio::time::Instant::now() + next);
            }
        }
    }
}
