//! What request headers say.

use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

use super::answer::Protocol;

pub fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The encoding of an OTLP/HTTP body by its media type; parameters such as charset are allowed.
pub fn otlp_media(headers: &HeaderMap) -> Option<Protocol> {
    let media = text(headers, &header::CONTENT_TYPE)?.split(';').next()?.trim();
    if media.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Protocol::Protobuf)
    } else if media.eq_ignore_ascii_case("application/json") {
        Some(Protocol::Json)
    } else {
        None
    }
}

pub fn is_grpc(headers: &HeaderMap) -> bool {
    let media = text(headers, &header::CONTENT_TYPE).unwrap_or("");
    media == "application/grpc" || media.starts_with("application/grpc+") || media.starts_with("application/grpc;")
}

/// `grpc-timeout`: at most 8 digits and a unit. `Err` = not readable.
pub fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, ()> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let value = value.to_str().map_err(drop)?;
    let unit = value.chars().last().ok_or(())?;
    let digits = &value[..value.len() - unit.len_utf8()];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(());
    }
    let number: u64 = digits.parse().map_err(drop)?;
    Ok(Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return Err(()),
    }))
}

/// All headers with lower-case names, values as text; those of the transport itself left out for metadata.
pub fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let value = |v: &http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    headers.iter().map(|(n, v)| (n.as_str().to_owned(), value(v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            grpc_timeout(&headers)
        };
        assert_eq!(read("100m"), Ok(Some(Duration::from_millis(100))));
        assert_eq!(read("2S"), Ok(Some(Duration::from_secs(2))));
        for bad in ["", "S", "123456789S", "1x", "-1S"] {
            assert_eq!(read(bad), Err(()), "{bad}");
        }
    }
}
