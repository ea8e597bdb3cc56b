//! Outcomes as each protocol says them: OTLP/HTTP (protobuf, JSON) and gRPC.
//!
//! The messages are tiny and fixed (google.rpc.Status with RetryInfo, Export*ServiceResponse), so they are written by
//! hand.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Reply;
use super::stats::Status;
use crate::batch::Signal;

pub const INVALID_ARGUMENT: u32 = 3;
pub const DEADLINE_EXCEEDED: u32 = 4;
pub const RESOURCE_EXHAUSTED: u32 = 8;
pub const UNIMPLEMENTED: u32 = 12;
pub const INTERNAL: u32 = 13;
pub const UNAVAILABLE: u32 = 14;
pub const UNAUTHENTICATED: u32 = 16;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The verdict on a request, before any protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub http_status: u16,
    pub grpc_code: u32,
    pub message: String,
    pub retry_after_s: Option<f64>,
    /// Rows not taken although the rest was.
    pub rejected: u64,
}

impl Answer {
    pub fn ok() -> Answer {
        Answer::new(200, 0, "")
    }

    pub fn new(http_status: u16, grpc_code: u32, message: impl Into<String>) -> Answer {
        Answer { http_status, grpc_code, message: message.into(), retry_after_s: None, rejected: 0 }
    }

    /// A refusal that may be repeated.
    pub fn retry(http_status: u16, grpc_code: u32, message: impl Into<String>, after_s: f64) -> Answer {
        Answer { retry_after_s: Some(after_s), ..Answer::new(http_status, grpc_code, message) }
    }

    pub fn unavailable(message: &str) -> Answer {
        Answer::retry(503, UNAVAILABLE, message, 1.0)
    }
}

/// How a request wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Protobuf,
    Json,
    Grpc,
    /// Not OTLP: status and text.
    Plain,
}

/// A whole answer, ready to be sent.
#[derive(Clone, Debug)]
pub struct Rendered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    pub counted: Status,
}

impl Rendered {
    pub fn plain(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Rendered {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Rendered { status, headers, body: body.into(), trailers: None, counted: Status::Http(status.as_u16()) }
    }

    /// A text answer to a request that no protocol took.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Rendered {
        Rendered::plain(status, "text/plain", text.into())
    }

    pub fn into_response(self) -> Response<Reply> {
        let mut response = Response::new(Reply::new(self.body, self.trailers));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// `answer` in the request's protocol. `signal` names the field that counts rejected rows in JSON.
pub fn render(answer: &Answer, protocol: Protocol, signal: Signal) -> Rendered {
    if protocol == Protocol::Grpc {
        return render_grpc(answer);
    }
    let status = StatusCode::from_u16(answer.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut rendered = match protocol {
        Protocol::Plain => Rendered::text(status, answer.message.clone()),
        Protocol::Json if status.is_success() => {
            Rendered::plain(status, "application/json", success_json(answer, signal))
        }
        Protocol::Json => Rendered::plain(status, "application/json", status_json(answer)),
        _ if status.is_success() => Rendered::plain(status, "application/x-protobuf", success(answer)),
        _ => Rendered::plain(status, "application/x-protobuf", status_message(answer)),
    };
    if let Some(seconds) = answer.retry_after_s {
        rendered.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.ceil().clamp(1.0, 86_400.0) as u64));
    }
    rendered
}

fn render_grpc(answer: &Answer) -> Rendered {
    let mut status = HeaderMap::new();
    status.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(answer.grpc_code));
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let counted = Status::Grpc(answer.grpc_code);
    if answer.grpc_code == 0 {
        let message = success(answer);
        let mut body = BytesMut::with_capacity(5 + message.len());
        body.put_u8(0);
        body.put_u32(message.len() as u32);
        body.put_slice(&message);
        return Rendered { status: StatusCode::OK, headers, body: body.freeze(), trailers: Some(status), counted };
    }
    if let Ok(value) = HeaderValue::from_str(&percent(&answer.message)) {
        status.insert(HeaderName::from_static("grpc-message"), value);
    }
    if answer.retry_after_s.is_some() {
        use base64::Engine as _;
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status_message(answer));
        if let Ok(value) = HeaderValue::from_str(&details) {
            status.insert(HeaderName::from_static("grpc-status-details-bin"), value);
        }
    }
    headers.extend(status);
    Rendered { status: StatusCode::OK, headers, body: Bytes::new(), trailers: None, counted }
}

/// gRPC's percent encoding: everything but printable ASCII, and `%`.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte as char),
            _ => write!(out, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        varint(out, value);
    }
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        out.push(field << 3 | 2);
        varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

/// Seconds and nanoseconds of a delay.
fn split(seconds: f64) -> (u64, u32) {
    let nanos = (seconds.clamp(0.0, 86_400.0) * 1e9) as u64;
    (nanos / 1_000_000_000, (nanos % 1_000_000_000) as u32)
}

/// google.rpc.Status, with RetryInfo where there is a delay.
fn status_message(answer: &Answer) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer.message.len() + 64);
    number(&mut out, 1, answer.grpc_code.into());
    bytes(&mut out, 2, answer.message.as_bytes());
    if let Some(delay) = answer.retry_after_s {
        let (seconds, nanos) = split(delay);
        let (mut duration, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
        number(&mut duration, 1, seconds);
        number(&mut duration, 2, nanos.into());
        bytes(&mut info, 1, &duration);
        bytes(&mut any, 1, RETRY_INFO.as_bytes());
        bytes(&mut any, 2, &info);
        bytes(&mut out, 3, &any);
    }
    out
}

/// Export*ServiceResponse: the same field numbers for every signal.
fn success(answer: &Answer) -> Vec<u8> {
    let (mut partial, mut out) = (Vec::new(), Vec::new());
    number(&mut partial, 1, answer.rejected);
    bytes(&mut partial, 2, answer.message.as_bytes());
    bytes(&mut out, 1, &partial);
    out
}

fn status_json(answer: &Answer) -> String {
    let mut out = format!("{{\"code\":{},\"message\":{}", answer.grpc_code, quoted(&answer.message));
    if let Some(delay) = answer.retry_after_s {
        let (seconds, nanos) = split(delay);
        let fraction = if nanos == 0 { String::new() } else { format!(".{nanos:09}") };
        write!(out, ",\"details\":[{{\"@type\":\"{RETRY_INFO}\",\"retryDelay\":\"{seconds}{fraction}s\"}}]")
            .expect("a String takes everything");
    }
    out.push('}');
    out
}

fn success_json(answer: &Answer, signal: Signal) -> String {
    if answer.rejected == 0 && answer.message.is_empty() {
        return "{}".into();
    }
    let field = match signal {
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
        _ => "rejectedSpans",
    };
    let message = quoted(&answer.message);
    format!("{{\"partialSuccess\":{{\"{field}\":\"{}\",\"errorMessage\":{message}}}}}", answer.rejected)
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{0}'..='\u{1f}' => write!(out, "\\u{:04x}", c as u32).expect("a String takes everything"),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retryable_refusal_carries_its_delay_in_every_protocol() {
        let answer = Answer::retry(503, UNAVAILABLE, "full", 1.5);
        let json = render(&answer, Protocol::Json, Signal::Traces);
        assert_eq!(json.headers[header::RETRY_AFTER], "2");
        let text = std::str::from_utf8(&json.body).unwrap();
        assert!(text.contains("\"retryDelay\":\"1.500000000s\""), "{text}");
        let grpc = render(&answer, Protocol::Grpc, Signal::Traces);
        assert_eq!(grpc.headers["grpc-status"], "14");
        assert!(grpc.headers.contains_key("grpc-status-details-bin"));
    }

    #[test]
    fn grpc_messages_are_percent_encoded() {
        assert_eq!(percent("50% é\n"), "50%25 %C3%A9%0A");
    }

    #[test]
    fn accepted_is_an_empty_message() {
        assert!(render(&Answer::ok(), Protocol::Protobuf, Signal::Logs).body.is_empty());
        assert_eq!(&render(&Answer::ok(), Protocol::Json, Signal::Logs).body[..], b"{}");
        assert_eq!(&render(&Answer::ok(), Protocol::Grpc, Signal::Logs).body[..], &[0; 5]);
    }
}
