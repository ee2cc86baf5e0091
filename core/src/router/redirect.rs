//! Where a redirected client is told to go.
//!
//! **Invariant:** the answer's Location has a host of its own or none: what a client wrote into its path never becomes one.

use crate::config::schema::Redirect;
use crate::message::{Exchange, HttpHead};

/// The value of Location for this request.
pub(super) fn location(redirect: &Redirect, x: &Exchange, head: &HttpHead) -> Vec<u8> {
    let scheme = if x.downstream.is_tls { "https" } else { "http" };
    let to_scheme = redirect.scheme.as_deref().unwrap_or(scheme);
    let asked = head.authority().unwrap_or_default();
    let host = match &redirect.host {
        Some(host) => host.as_bytes(),
        // The port of the scheme that is left behind means nothing in the other one.
        None if to_scheme != scheme && scheme == "http" => asked.strip_suffix(b":80").unwrap_or(asked),
        None if to_scheme != scheme => asked.strip_suffix(b":443").unwrap_or(asked),
        None => asked,
    };
    let mut out = Vec::with_capacity(head.target().len() + host.len() + SPARE_BYTES);
    if !host.is_empty() {
        out.extend_from_slice(to_scheme.as_bytes());
        out.extend_from_slice(b"://");
        out.extend_from_slice(host);
    }
    let asked = head.path_and_query();
    let query = memchr::memchr(b'?', asked).map(|at| &asked[at..]);
    match &redirect.path {
        Some(path) => out.extend_from_slice(path.as_bytes()),
        None => {
            let path = head.path();
            // Without a host before it, `//x` would be one (RFC 3986, 4.2).
            let slashes = path.iter().take_while(|b| **b == b'/').count();
            let path = if host.is_empty() { &path[slashes.saturating_sub(1)..] } else { path };
            if path.first() != Some(&b'/') {
                out.push(b'/');
            } else {
                out.extend_from_slice(path);
            }
        }
    }
    if redirect.path.as_ref().is_none_or(|path| !path.contains('?')) {
        out.extend_from_slice(query.unwrap_or_default());
    }
    out
}

/// What a Location is expected to be longer than what it is made of, in bytes.
const SPARE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::exchange;

    #[test]
    fn locations_are_made_of_what_is_given_and_what_was_asked() {
        let to = |scheme: &str, host: &str, path: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Redirect { status: 301, scheme: some(scheme), host: some(host), path: some(path) }
        };
        for (redirect, target, host, location) in [
            (to("https", "", ""), "/a?b=c", "h.example", "https://h.example/a?b=c"),
            (to("https", "", ""), "/a", "h.example:80", "https://h.example/a"),
            (to("https", "", ""), "/a", "h.example:8080", "https://h.example:8080/a"),
            (to("http", "", "/x"), "/a", "h:80", "http://h:80/x"),
            (to("", "www.example", ""), "/a%20b//c", "h", "http://www.example/a%20b//c"),
            (to("", "", "/new"), "/old?q=1", "h", "http://h/new?q=1"),
            (to("", "", "/new?r=2"), "/old?q=1", "h", "http://h/new?r=2"),
            (to("", "", "/new"), "http://abs/old?q", "h", "http://abs/new?q"),
            (to("https", "", ""), "http://abs?q", "h", "https://abs/?q"),
            (to("https", "", ""), "//evil.example/x", "", "/evil.example/x"),
            (to("https", "", ""), "///", "", "/"),
            (to("https", "", ""), "*", "h", "https://h/"),
        ] {
            let fields = [("host", host)];
            let x = exchange("GET", target, if host.is_empty() { &[] } else { &fields });
            let made = super::location(&redirect, &x, x.request.head.fields().unwrap());
            assert_eq!(String::from_utf8(made).unwrap(), location, "{redirect:?} {target}");
        }
    }
}
