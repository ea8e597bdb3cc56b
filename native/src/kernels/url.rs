//! URLs to their parts (specification 2.6). Any text has parts; nothing is refused.

use std::borrow::Cow;

/// Where the parts of a URL stand in its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Url<'a> {
    /// Without port, user-info and the brackets of an address; empty for a relative URL. Letter case as it stands.
    pub host: &'a str,
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
    /// `user:password@`, empty where there is none.
    pub user_info: &'a str,
}

impl<'a> Url<'a> {
    pub fn of(text: &'a str) -> Url<'a> {
        let text = text.split_once('#').map_or(text, |(url, _)| url);
        let (url, query) = text.split_once('?').unwrap_or((text, ""));
        let Some(rest) = after_scheme(url) else { return Url { path: url, query, ..Url::default() } };
        let Some(rest) = rest.strip_prefix("//") else { return Url { path: rest, query, ..Url::default() } };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (user_info, place) = authority.rfind('@').map_or(("", authority), |at| authority.split_at(at + 1));
        Url { host: host(place), path, query, user_info }
    }
}

/// What stands after `scheme:`, or the whole text where it begins with `//`; `None` for a relative URL.
fn after_scheme(url: &str) -> Option<&str> {
    if url.starts_with("//") {
        return Some(url);
    }
    let (scheme, rest) = url.split_once(':')?;
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(letters);
    // `host:8080/path` is no scheme.
    (named && !rest.starts_with(|c: char| c.is_ascii_digit())).then_some(rest)
}

fn host(place: &str) -> &str {
    match place.strip_prefix('[') {
        Some(address) => address.split_once(']').map_or(address, |(address, _)| address),
        None => place.rsplit_once(':').map_or(place, |(host, _)| host),
    }
}

/// The parameters of a query text, in order, as they stand.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A parameter's text: `+` is a blank, `%XX` a byte; what is no UTF-8 then is replaced.
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let hex = |place: usize| bytes.get(place).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_parts() {
        let cases = [
            ("https://shop.example/cart/9?x=1", "shop.example", "/cart/9", "x=1", ""),
            ("HTTP://me:se@cret@Shop.Example:8080?q=a?b#f", "Shop.Example", "/", "q=a?b", "me:se@cret@"),
            ("http://[::1]:80/a", "::1", "/a", "", ""),
            ("//cdn.example/x", "cdn.example", "/x", "", ""),
            ("/only/path?x#y", "", "/only/path", "x", ""),
            ("localhost:8080/path", "", "localhost:8080/path", "", ""),
            ("about:blank", "", "blank", "", ""),
            ("?just=query", "", "", "just=query", ""),
            ("", "", "", "", ""),
            ("http://", "", "/", "", ""),
            ("://", "", "://", "", ""),
            ("file:///etc/passwd", "", "/etc/passwd", "", ""),
        ];
        for (text, host, path, query, user_info) in cases {
            assert_eq!(Url::of(text), Url { host, path, query, user_info }, "{text}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(decoded("a+b%20c%C3%A9"), "a b cé");
        assert_eq!(decoded("%"), "%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
        assert_eq!(decoded("%ff"), "\u{fffd}");
        assert_eq!(parameters("a=1&b&=c&a=2=3").collect::<Vec<_>>(), [("a", "1"), ("b", ""), ("", "c"), ("a", "2=3")]);
    }
}
