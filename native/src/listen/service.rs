//! One request, from its head to its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Body, Incoming};
use tokio::sync::oneshot;

use super::answer::{
    Answer, INTERNAL, INVALID_ARGUMENT, Protocol, RESOURCE_EXHAUSTED, Rendered, UNAUTHENTICATED, UNIMPLEMENTED, render,
};
use super::body::{BodyError, Limits, Reply as ReplyBody, discard, read_grpc, read_http};
use super::connection::Activity;
use super::headers::{grpc_timeout, is_grpc, otlp_media, pairs, text};
use super::options::{Kind, Route, Table};
use super::queue::{Full, Pending, Queue, Reply, Reservation, Target};
use super::server::Port;
use crate::batch::Signal;
use crate::decode::Encoding;

/// How long a request may wait for Python's verdict on its credential.
const VERDICT_MAX: Duration = Duration::from_secs(10);

/// What requests of one connection share.
pub struct Context {
    pub port: Arc<Port>,
    pub queue: Arc<Queue>,
    pub activity: Arc<Activity>,
    pub peer: String,
}

/// What a request turns out to be before its body is read.
struct Head {
    route: Arc<Route>,
    protocol: Protocol,
    encoding: Encoding,
    deadline: Option<Instant>,
}

type Refusal = Box<Rendered>;

pub async fn handle(context: Arc<Context>, request: Request<Incoming>) -> Response<ReplyBody> {
    let active = context.activity.request();
    let table = context.port.table();
    let (parts, mut body) = request.into_parts();
    if let Some(cors) = &table.options.cors
        && super::cors::is_preflight(&parts.method, &parts.headers)
    {
        return preflight(&context, &table, cors, &parts);
    }
    let (entry, rendered) = match head(&context, &table, &parts, &body) {
        Ok(head) => (head.route.entry, serve(&context, &table, head, &parts, &mut body).await),
        Err((entry, refusal)) => (entry, *refusal),
    };
    context.queue.stats.answered(entry, rendered.counted);
    if is_read_later(&parts, &body, &rendered) {
        tokio::spawn(async move {
            discard(body).await;
            drop(active);
        });
    }
    let mut response = rendered.into_response();
    for (name, value) in &table.options.response_headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    if let Some(cors) = &table.options.cors {
        cors.answer(&parts.headers, response.headers_mut());
    }
    response
}

/// Whether a refused client still sends: many read an answer only once they have sent everything, and would see a broken
/// connection (HTTP/2: a stream that was reset) in its place. Those that ask first (`Expect`) are told before they send.
fn is_read_later(parts: &Parts, body: &Incoming, rendered: &Rendered) -> bool {
    rendered.counted.is_refusal()
        && !body.is_end_stream()
        && !parts.headers.contains_key(header::EXPECT)
        && !rendered.headers.contains_key(header::CONNECTION)
}

fn preflight(context: &Context, table: &Table, cors: &super::cors::Cors, parts: &Parts) -> Response<ReplyBody> {
    let routes = table.at(parts.uri.path());
    let methods: Vec<&str> = routes.iter().map(|r| r.method.as_str()).collect();
    let mut response = Response::new(ReplyBody::new(bytes::Bytes::new(), None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = cors.preflight(&parts.headers, &methods);
    let entry = routes.first().map_or(0, |r| r.entry);
    context.queue.stats.answered(entry, super::stats::Status::Http(204));
    response
}

/// Everything that the head alone decides.
fn head(context: &Context, table: &Table, parts: &Parts, body: &Incoming) -> Result<Head, (u32, Refusal)> {
    let stats = &context.queue.stats;
    let routes = table.at(parts.uri.path());
    let Some(any) = routes.first() else {
        stats.not_found.one();
        return Err((0, unknown(table, parts).into()));
    };
    let Some(route) = routes.iter().find(|r| r.method == parts.method) else {
        stats.method_not_allowed.one();
        return Err((any.entry, wrong_method(routes).into()));
    };
    let head = match route.kind {
        Kind::OtlpHttp => otlp_head(context, table, route, parts),
        Kind::OtlpGrpc => grpc_head(context, route, parts),
        Kind::Python => Ok(plain_head(route)),
    }
    .map_err(|refusal| (route.entry, refusal))?;
    let announced = body.size_hint().exact().unwrap_or(0);
    if route.kind != Kind::OtlpGrpc && announced > route.max_body_bytes as u64 {
        stats.refused_before_body.one();
        return Err((route.entry, too_large(context, &head, announced as usize).into()));
    }
    Ok(head)
}

fn plain_head(route: &Arc<Route>) -> Head {
    Head { route: route.clone(), protocol: Protocol::Plain, encoding: Encoding::Identity, deadline: None }
}

fn unknown(table: &Table, parts: &Parts) -> Rendered {
    if !is_grpc(&parts.headers) {
        return Rendered::text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let path = parts.uri.path();
    let message = match path.strip_prefix('/').and_then(|p| p.rsplit_once('/')) {
        None => format!("malformed method name: {path:?}"),
        Some((service, method)) if table.has_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    };
    render(&Answer::new(404, UNIMPLEMENTED, message), Protocol::Grpc, Signal::Events)
}

fn wrong_method(routes: &[Arc<Route>]) -> Rendered {
    let allowed: Vec<&str> = routes.iter().map(|r| r.method.as_str()).collect();
    let text = format!("405 method not allowed, supported: [{}]", allowed.join(", "));
    let mut refusal = Rendered::text(StatusCode::METHOD_NOT_ALLOWED, text);
    if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
        refusal.headers.insert(header::ALLOW, value);
    }
    refusal
}

fn otlp_head(context: &Context, table: &Table, route: &Arc<Route>, parts: &Parts) -> Result<Head, Refusal> {
    let stats = &context.queue.stats;
    let Some(protocol) = otlp_media(&parts.headers) else {
        stats.unsupported_media_type.one();
        let text = "415 unsupported media type, supported: [application/json, application/x-protobuf]";
        return Err(Rendered::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into());
    };
    let name = match parts.headers.get(header::CONTENT_ENCODING) {
        None => "",
        Some(value) => value.to_str().unwrap_or("?"),
    };
    match Encoding::from_name(name).filter(|e| table.options.encodings.contains(e)) {
        Some(encoding) => Ok(Head { route: route.clone(), protocol, encoding, deadline: None }),
        None => {
            stats.bad_encoding.one();
            let message = format!("unsupported Content-Encoding: {name}");
            Err(render(&Answer::new(400, INVALID_ARGUMENT, message), protocol, route.signal).into())
        }
    }
}

fn grpc_head(context: &Context, route: &Arc<Route>, parts: &Parts) -> Result<Head, Refusal> {
    let stats = &context.queue.stats;
    if !is_grpc(&parts.headers) {
        stats.unsupported_media_type.one();
        let given = text(&parts.headers, &header::CONTENT_TYPE).unwrap_or("");
        let text = format!("invalid gRPC request content-type {given:?}");
        return Err(Rendered::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into());
    }
    let refuse =
        |code, message: String| Err(render(&Answer::new(400, code, message), Protocol::Grpc, route.signal).into());
    let Ok(timeout) = grpc_timeout(&parts.headers) else {
        return refuse(INTERNAL, "malformed grpc-timeout".into());
    };
    let name = parts.headers.get("grpc-encoding").map_or("", |v| v.to_str().unwrap_or("?"));
    let known = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Snappy];
    match Encoding::from_name(name).filter(|e| known.contains(e)) {
        Some(encoding) => {
            let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
            Ok(Head { route: route.clone(), protocol: Protocol::Grpc, encoding, deadline })
        }
        None => {
            stats.bad_encoding.one();
            refuse(UNIMPLEMENTED, format!("grpc: Decompressor is not installed for grpc-encoding {name:?}"))
        }
    }
}

/// Credential, room, body, queue, answer.
async fn serve(context: &Context, table: &Table, mut head: Head, parts: &Parts, body: &mut Incoming) -> Rendered {
    let granted = match authenticate(context, &head, &parts.headers).await {
        Ok(tenant) => tenant,
        Err(refusal) => return *refusal,
    };
    let tenant = granted.unwrap_or_else(|| tenant(&head.route, &parts.headers));
    let announced = body.size_hint().exact().unwrap_or(0) as usize;
    let mut reserved = match context.queue.reserve(&tenant, announced) {
        Ok(reserved) => reserved,
        Err(full) => {
            context.queue.stats.refused_before_body.one();
            return refuse_full(context, &head, full);
        }
    };
    let body = match read(table, &mut head, body, &mut reserved).await {
        Ok(body) => body,
        Err(error) => return refuse_body(context, &head, error),
    };
    let (sender, answered) = oneshot::channel();
    let python = head.route.kind == Kind::Python;
    context.queue.push(Pending {
        metadata: if python || head.route.include_metadata { pairs(&parts.headers) } else { Vec::new() },
        target: python.then(|| target(context, parts)),
        reply: Reply::new(sender, head.protocol, head.route.signal, context.queue.stats.clone()),
        protocol: head.protocol,
        encoding: head.encoding,
        deadline: head.deadline,
        route: head.route.clone(),
        tenant,
        body,
        reserved,
    });
    answered
        .await
        .map(|rendered| *rendered)
        .unwrap_or_else(|_| refuse(&head, &Answer::unavailable("the request was not handled; try again")))
}

fn refuse(head: &Head, answer: &Answer) -> Rendered {
    render(answer, head.protocol, head.route.signal)
}

fn tenant(route: &Route, headers: &HeaderMap) -> Arc<str> {
    let named = route.tenant_header.as_ref().and_then(|name| text(headers, name)).map(str::trim);
    named.filter(|name| !name.is_empty()).map_or_else(|| route.tenant.clone(), Arc::from)
}

fn target(context: &Context, parts: &Parts) -> Target {
    Target {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or("").to_owned(),
        peer: context.peer.clone(),
    }
}

/// The tenant that the credential stands for, if it stands for one.
async fn authenticate(context: &Context, head: &Head, headers: &HeaderMap) -> Result<Option<Arc<str>>, Refusal> {
    let Some(name) = &head.route.auth_header else { return Ok(None) };
    let stats = &context.queue.stats;
    let value = text(headers, name).unwrap_or("");
    let verdict = match context.queue.verdict(head.route.entry, value) {
        Some(Ok(verdict)) => Some(verdict),
        Some(Err(later)) => tokio::time::timeout(VERDICT_MAX, later).await.ok().and_then(Result::ok),
        None => None,
    };
    let Some(verdict) = verdict else {
        stats.refused_before_body.one();
        return Err(refuse(head, &Answer::unavailable("credentials can not be checked now")).into());
    };
    match verdict.refused {
        None => Ok(verdict.tenant),
        Some(answer) => {
            stats.refused_before_body.one();
            if answer.grpc_code == UNAUTHENTICATED {
                stats.unauthenticated.one();
            }
            Err(refuse(head, &answer).into())
        }
    }
}

async fn read(
    table: &Table,
    head: &mut Head,
    body: &mut Incoming,
    reserved: &mut Reservation,
) -> Result<bytes::Bytes, BodyError> {
    let limits = Limits {
        max_bytes: head.route.max_body_bytes,
        total: table.options.read_timeout,
        idle: table.options.body_idle_timeout,
    };
    if head.protocol != Protocol::Grpc {
        return read_http(body, &limits, reserved).await;
    }
    let (compressed, message) = read_grpc(body, &limits, reserved).await?;
    if !compressed {
        head.encoding = Encoding::Identity;
    } else if head.encoding == Encoding::Identity {
        return Err(BodyError::Framing("grpc: compressed flag set with identity or empty encoding"));
    }
    Ok(message)
}

fn refuse_body(context: &Context, head: &Head, error: BodyError) -> Rendered {
    let stats = &context.queue.stats;
    match error {
        BodyError::TooLarge(length) => too_large(context, head, length),
        BodyError::Full(full) => refuse_full(context, head, full),
        BodyError::Reset => {
            stats.resets.one();
            refuse(head, &Answer::new(400, INVALID_ARGUMENT, "the body ended early"))
        }
        BodyError::Slow => {
            stats.body_timeouts.one();
            let mut refusal = refuse(head, &Answer::new(408, super::answer::DEADLINE_EXCEEDED, "the body is too slow"));
            if head.protocol != Protocol::Grpc {
                refusal.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            refusal
        }
        BodyError::Framing(message) => {
            stats.malformed.one();
            refuse(head, &Answer::new(400, INTERNAL, message))
        }
    }
}

fn too_large(context: &Context, head: &Head, length: usize) -> Rendered {
    context.queue.stats.too_large.one();
    let limit = head.route.max_body_bytes;
    let answer = match head.protocol {
        Protocol::Grpc => {
            let message = format!("grpc: received message larger than max ({length} vs. {limit})");
            Answer::new(400, RESOURCE_EXHAUSTED, message)
        }
        Protocol::Plain => Answer::new(413, RESOURCE_EXHAUSTED, "request body too large\n"),
        _ => Answer::new(400, INVALID_ARGUMENT, "http: request body too large"),
    };
    refuse(head, &answer)
}

fn refuse_full(context: &Context, head: &Head, full: Full) -> Rendered {
    let stats = &context.queue.stats;
    let answer = match full {
        Full::Queue => {
            stats.queue_full.one();
            Answer::unavailable("the listener's queue is full; try again later")
        }
        Full::Share => {
            stats.tenant_over_share.one();
            let message = "the tenant holds its share of the listener's queue; try again later";
            Answer::retry(head.route.share_status, RESOURCE_EXHAUSTED, message, 1.0)
        }
        Full::Never => {
            stats.too_large.one();
            Answer::new(400, INVALID_ARGUMENT, "the body is larger than the listener's whole queue")
        }
    };
    refuse(head, &answer)
}
