//! Connections that send a request, wait for its answer, and send the next one.

use std::{
    io,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time};

use crate::{
    corpus::{Shape, Signal, Template},
    stats::{Code, Stats},
};

const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Where a refusal does not say when to come again, and after a connection broke.
const USUAL_DELAY: Duration = Duration::from_millis(100);

/// Where requests go, and what they are.
pub struct Target {
    pub address: String,
    pub grpc: bool,
    pub encoding: String,
    pub shape: Shape,
    pub headers: Vec<(String, String)>,
    pub seed: u64,
    pub pool: u64,
}

impl Target {
    fn path(&self) -> &'static str {
        match (self.grpc, self.shape.signal) {
            (false, Signal::Traces) => "/v1/traces",
            (false, Signal::Logs) => "/v1/logs",
            (false, Signal::Metrics | Signal::Gauges) => "/v1/metrics",
            (true, Signal::Traces) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            (true, Signal::Logs) => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            (true, Signal::Metrics | Signal::Gauges) => {
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
            }
        }
    }

    /// What every request is, but for its body.
    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::post(match self.grpc {
            true => format!("http://{}{}", self.address, self.path()),
            false => self.path().to_owned(),
        });
        request = match self.grpc {
            true => request.header("content-type", "application/grpc").header("te", "trailers"),
            false => request.header("content-type", "application/x-protobuf").header("host", &self.address),
        };
        if self.encoding != "none" {
            request = request.header(if self.grpc { "grpc-encoding" } else { "content-encoding" }, &self.encoding);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).expect("the options make a request")
    }
}

/// What is sent, made beforehand.
pub struct Plan {
    templates: Vec<Template>,
    /// Compressed requests; empty where nothing is compressed.
    pool: Vec<Bytes>,
    next: AtomicU64,
}

impl Plan {
    pub fn new(target: &Target, variants: u64) -> Plan {
        let templates: Vec<_> = (0..variants).map(|variant| Template::new(target.shape, variant)).collect();
        let first = target.seed << 32;
        let (templates, pool) = match target.encoding.as_str() {
            "none" if target.grpc => (templates.into_iter().map(Template::framed).collect(), Vec::new()),
            "none" => (templates, Vec::new()),
            _ => {
                let pool = (0..target.pool).map(|index| compressed(target, &templates, first + index)).collect();
                (templates, pool)
            }
        };
        Plan { templates, pool, next: AtomicU64::new(first) }
    }
}

fn compressed(target: &Target, templates: &[Template], number: u64) -> Bytes {
    let template = &templates[number as usize % templates.len()];
    let mut plain = template.bytes.clone();
    template.stamp(&mut plain, number, now_ns());
    let body = match target.encoding.as_str() {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&plain).and_then(|()| encoder.finish())
        }
        _ => zstd::bulk::compress(&plain, 3),
    };
    let body = body.expect("memory can be written to");
    if !target.grpc {
        return body.into();
    }
    let mut framed = vec![1];
    framed.extend_from_slice(&(body.len() as u32).to_be_bytes());
    framed.extend_from_slice(&body);
    framed.into()
}

pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_nanos() as u64
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    async fn open(target: &Target) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        let socket = TcpStream::connect(&target.address).await?;
        socket.set_nodelay(true)?;
        let io = TokioIo::new(socket);
        if target.grpc {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Ok(Connection::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Ok(Connection::Http1(sender))
        }
    }

    fn share(&self) -> Option<Connection> {
        match self {
            Connection::Http1(_) => None,
            Connection::Http2(sender) => Some(Connection::Http2(sender.clone())),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let response = match self {
            Connection::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Connection::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, trailers, body: body.to_bytes() })
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    trailers: HeaderMap,
    body: Bytes,
}

enum Verdict {
    Success { partial: bool },
    Again { code: Code, delay: Option<Duration> },
    No { code: Code },
}

impl Answer {
    fn verdict(&self, grpc: bool) -> Verdict {
        if !grpc || self.status != 200 {
            return match self.status {
                200 => Verdict::Success { partial: !self.body.is_empty() },
                code @ (429 | 502 | 503 | 504) => {
                    let seconds = text(&self.headers, "retry-after").and_then(|text| text.parse().ok());
                    Verdict::Again { code, delay: seconds.map(Duration::from_secs) }
                }
                code => Verdict::No { code },
            };
        }
        // An answer without a body carries in its head what otherwise comes behind the body.
        let behind = if self.trailers.contains_key("grpc-status") { &self.trailers } else { &self.headers };
        match text(behind, "grpc-status").and_then(|text| text.parse().ok()) {
            Some(0) => Verdict::Success { partial: self.body.len() > 5 },
            // UNAVAILABLE and RESOURCE_EXHAUSTED.
            Some(code @ (8 | 14)) => {
                Verdict::Again { code, delay: text(behind, "grpc-status-details-bin").and_then(retry_delay) }
            }
            code => Verdict::No { code: code.unwrap_or(Code::MAX) },
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The delay of a `google.rpc.RetryInfo` among the details of a status.
fn retry_delay(details: &str) -> Option<Duration> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let status = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient).decode(details).ok()?;
    let retry_info = fields(&status).filter(|(number, _)| *number == 3).find_map(|(_, any)| {
        let is_it = fields(any).any(|(number, name)| number == 1 && name.ends_with(b"google.rpc.RetryInfo"));
        fields(any).find(|(number, _)| is_it && *number == 2).map(|(_, value)| value)
    })?;
    let (_, duration) = fields(retry_info).find(|(number, _)| *number == 1)?;
    let mut delay = Duration::ZERO;
    for (number, value) in fields(duration) {
        let value = varint(value)?.0;
        delay += if number == 1 { Duration::from_secs(value) } else { Duration::from_nanos(value) };
    }
    Some(delay)
}

/// Number and content of each field; a varint's content is its bytes. Ends at what it does not know.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, width) = varint(message)?;
        message = &message[width..];
        let (skipped, length) = match tag & 7 {
            0 => (0, varint(message)?.1),
            2 => varint(message).map(|(length, width)| (width, length as usize))?,
            _ => return None,
        };
        let content = message.get(skipped..skipped.checked_add(length)?)?;
        message = &message[skipped + length..];
        Some((tag >> 3, content))
    })
}

/// The number and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let width = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let value = bytes[..width].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, width))
}

/// One request at a time.
pub struct Worker {
    target: Arc<Target>,
    plan: Arc<Plan>,
    connection: Option<Connection>,
    template: usize,
    /// The template's copy that is stamped and sent, while no request holds it.
    buffer: Option<BytesMut>,
}

impl Worker {
    /// The workers of one connection. Exits the process where the first connections can not be had.
    pub async fn connect(target: &Arc<Target>, plan: &Arc<Plan>, first: usize, count: usize) -> Vec<Worker> {
        let connection = Connection::open(target).await.unwrap_or_else(|problem| {
            eprintln!("load: no connection to {}: {problem}", target.address);
            std::process::exit(1)
        });
        let mut connections: Vec<_> = (1..count).map(|_| connection.share()).collect();
        connections.push(Some(connection));
        connections
            .into_iter()
            .enumerate()
            .map(|(index, connection)| Worker {
                target: target.clone(),
                plan: plan.clone(),
                connection,
                template: (first + index) % plan.templates.len(),
                buffer: None,
            })
            .collect()
    }

    /// Sends until the time is over, one request per `spacing` if there is one; then waits for the last answer.
    pub async fn run(
        mut self,
        begun: Instant,
        first: Instant,
        until: Instant,
        spacing: Option<Duration>,
    ) -> (Worker, Stats) {
        let mut stats = Stats::default();
        let mut turn = first;
        while Instant::now() < until {
            if let Some(spacing) = spacing {
                time::sleep_until(turn.into()).await;
                turn += spacing;
                if turn > until + spacing {
                    break;
                }
            }
            let body = self.body();
            self.deliver(&body, begun, until, &mut stats).await;
            self.buffer = body.try_into_mut().ok().filter(|_| self.plan.pool.is_empty());
        }
        (self, stats)
    }

    fn body(&mut self) -> Bytes {
        let number = self.plan.next.fetch_add(1, Ordering::Relaxed);
        if !self.plan.pool.is_empty() {
            return self.plan.pool[number as usize % self.plan.pool.len()].clone();
        }
        let template = &self.plan.templates[self.template];
        let mut buffer = self.buffer.take().unwrap_or_else(|| template.bytes.as_slice().into());
        template.stamp(&mut buffer, number, now_ns());
        buffer.freeze()
    }

    /// Sends until it is taken, refused for good, or the time is over.
    async fn deliver(&mut self, body: &Bytes, begun: Instant, until: Instant, stats: &mut Stats) {
        loop {
            let sent = Instant::now();
            let delay = match self.attempt(body.clone()).await {
                Ok(Verdict::Success { partial }) => {
                    let rows = self.target.shape.rows;
                    return stats.succeeded(rows, body.len(), partial, sent.elapsed(), begun.elapsed());
                }
                Ok(Verdict::No { code }) => return stats.failed(code),
                Ok(Verdict::Again { code, delay }) => {
                    stats.refused(code, delay.is_some(), begun.elapsed());
                    delay.unwrap_or(USUAL_DELAY)
                }
                Err(_) => {
                    stats.broken();
                    self.connection = None;
                    USUAL_DELAY
                }
            };
            if Instant::now() + delay >= until {
                time::sleep_until(until.into()).await;
                return stats.given_up();
            }
            time::sleep(delay).await;
        }
    }

    async fn attempt(&mut self, body: Bytes) -> Result<Verdict, Box<dyn std::error::Error + Send + Sync>> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&self.target).await?);
        }
        let connection = self.connection.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        let request = self.target.request(body);
        let answer = time::timeout(ANSWER_WITHIN, connection.send(request)).await??;
        Ok(answer.verdict(self.target.grpc))
    }
}
