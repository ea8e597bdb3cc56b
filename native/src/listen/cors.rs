//! Cross-origin requests, as the Collector's `cors` section means them.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const METHOD: HeaderName = header::ACCESS_CONTROL_REQUEST_METHOD;
const HEADERS: HeaderName = header::ACCESS_CONTROL_REQUEST_HEADERS;
/// Taken where no header is named.
const HEADERS_DEFAULT: [&str; 4] = ["accept", "content-type", "x-requested-with", "origin"];

#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Origins; one `*` inside stands for any text.
    pub origins: Vec<String>,
    pub headers: Vec<String>,
    pub exposed: Vec<String>,
    pub max_age_s: u64,
}

impl Cors {
    fn allows(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.origins.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &origin))
    }

    fn allows_headers(&self, wanted: &str) -> bool {
        let names: Vec<String> = self.headers.iter().map(|h| h.to_ascii_lowercase()).collect();
        let known = |name: &str| match names.is_empty() {
            true => HEADERS_DEFAULT.contains(&name),
            false => name == "origin" || names.iter().any(|n| n == "*" || n == name),
        };
        wanted.split(',').map(|n| n.trim().to_ascii_lowercase()).all(|n| n.is_empty() || known(&n))
    }

    fn allow_origin(&self, origin: &HeaderValue, into: &mut HeaderMap) {
        let any = self.origins.iter().any(|o| o == "*");
        let value = if any { HeaderValue::from_static("*") } else { origin.clone() };
        into.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        into.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }

    /// Headers of an ordinary answer.
    pub fn answer(&self, request: &HeaderMap, into: &mut HeaderMap) {
        into.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = request.get(header::ORIGIN) else { return };
        if !origin.to_str().is_ok_and(|o| self.allows(o)) {
            return;
        }
        self.allow_origin(origin, into);
        if let Ok(value) = HeaderValue::from_str(&self.exposed.join(", "))
            && !self.exposed.is_empty()
        {
            into.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, value);
        }
    }

    /// Headers of the answer to a preflight; without permission only `Vary`.
    pub fn preflight(&self, request: &HeaderMap, methods: &[&str]) -> HeaderMap {
        let mut into = HeaderMap::new();
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        into.insert(header::VARY, HeaderValue::from_static(vary));
        let (Some(origin), Some(method)) = (request.get(header::ORIGIN), request.get(METHOD)) else { return into };
        let wanted = request.get(HEADERS).map_or(Ok(""), HeaderValue::to_str).unwrap_or("\u{0}");
        let granted = origin.to_str().is_ok_and(|o| self.allows(o))
            && method.to_str().is_ok_and(|m| methods.contains(&m))
            && self.allows_headers(wanted);
        if !granted {
            return into;
        }
        self.allow_origin(origin, &mut into);
        into.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        if let Some(wanted) = request.get(HEADERS) {
            into.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        if self.max_age_s > 0 {
            into.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age_s));
        }
        into
    }
}

/// Whether a request asks what it may ask.
pub fn is_preflight(method: &http::Method, headers: &HeaderMap) -> bool {
    method == http::Method::OPTIONS && headers.contains_key(METHOD)
}

fn matches(pattern: &str, origin: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == origin,
        Some((start, end)) => {
            origin.len() >= start.len() + end.len() && origin.starts_with(start) && origin.ends_with(end)
        }
    }
}
