//! What an OTLP server answers: `Export*ServiceResponse`, `google.rpc.Status`, gRPC's trailers.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::HeaderMap;

use crate::decode::wire::{Fields, Value};

/// gRPC writes it without padding, and readers take it with.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const RETRY_INFO: &[u8] = b"google.rpc.RetryInfo";

/// A gRPC status, and what the server took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub code: u32,
    pub message: String,
    /// The least wait that the server asks for.
    pub retry_after_s: Option<f64>,
    /// Rows that were not taken although the rest was, and why.
    pub rejected: i64,
    pub rejected_message: String,
}

impl Answer {
    pub fn failed(code: u32, message: impl Into<String>) -> Answer {
        Answer { code, message: message.into(), ..Answer::default() }
    }
}

/// `partial_success` of an export response: every signal's has the same numbers.
pub fn partial_success(body: &[u8]) -> (i64, String) {
    let (mut rejected, mut message) = (0, String::new());
    for (number, value) in Fields::of(body) {
        let (1, Value::Bytes(partial)) = (number, value) else { continue };
        for (number, value) in Fields::of(partial) {
            match (number, value) {
                (1, Value::Varint(count)) => rejected = count as i64,
                (2, Value::Bytes(text)) => message = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
    }
    (rejected, message)
}

/// Code, message and delay of a `google.rpc.Status`.
pub fn status(body: &[u8]) -> Answer {
    let mut answer = Answer::default();
    for (number, value) in Fields::of(body) {
        match (number, value) {
            (1, Value::Varint(code)) => answer.code = code as u32,
            (2, Value::Bytes(text)) => answer.message = String::from_utf8_lossy(text).into_owned(),
            (3, Value::Bytes(detail)) => answer.retry_after_s = retry_delay_s(detail).or(answer.retry_after_s),
            _ => {}
        }
    }
    answer
}

/// The delay of a `google.protobuf.Any` that holds a RetryInfo.
fn retry_delay_s(any: &[u8]) -> Option<f64> {
    let (mut kind, mut content) = (&b""[..], &b""[..]);
    for (number, value) in Fields::of(any) {
        match (number, value) {
            (1, Value::Bytes(url)) => kind = url,
            (2, Value::Bytes(bytes)) => content = bytes,
            _ => {}
        }
    }
    if !kind.ends_with(RETRY_INFO) {
        return None;
    }
    let delay = Fields::of(content).find_map(|(number, value)| match (number, value) {
        (1, Value::Bytes(duration)) => Some(duration),
        _ => None,
    })?;
    let (mut seconds, mut nanos) = (0i64, 0i32);
    for (number, value) in Fields::of(delay) {
        match (number, value) {
            (1, Value::Varint(v)) => seconds = v as i64,
            (2, Value::Varint(v)) => nanos = v as i32,
            _ => {}
        }
    }
    Some((seconds as f64 + f64::from(nanos) / 1e9).max(0.0))
}

/// The status in a call's trailers; `None` where there is none.
pub fn grpc_status(trailers: &HeaderMap) -> Option<Answer> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().unwrap_or(2);
    let details = text("grpc-status-details-bin").and_then(|value| BASE64.decode(value).ok());
    let retry_after_s = details.and_then(|details| status(&details).retry_after_s);
    let message = trailers.get("grpc-message").map_or_else(String::new, |value| unescaped(value.as_bytes()));
    Some(Answer { code, message, retry_after_s, ..Answer::default() })
}

/// What an HTTP status means where gRPC has said nothing (its document on HTTP status mapping).
pub fn code_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// gRPC percent-encodes messages; what is no valid escape stays as it is.
fn unescaped(text: &[u8]) -> String {
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let escape = text.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (text[at], escape.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::answer::{Answer as Served, Protocol, render};

    #[test]
    fn a_refusal_of_our_listener_reads_back() {
        let served = Served::retry(503, 14, "queue is full: 100 %", 2.5);
        let rendered = render(&served, Protocol::Grpc, crate::batch::Signal::Traces);
        let trailers = rendered.trailers.unwrap_or(rendered.headers);
        let answer = grpc_status(&trailers).expect("a status");
        assert_eq!((answer.code, answer.message.as_str()), (14, "queue is full: 100 %"));
        assert_eq!(answer.retry_after_s, Some(2.5));
    }

    #[test]
    fn what_is_no_message_is_an_answer_without_content() {
        assert_eq!(partial_success(b"\xff\xff"), (0, String::new()));
        assert_eq!(status(b"\xff\xff"), Answer::default());
    }
}
