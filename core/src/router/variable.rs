//! What a variable is for one request.
//!
//! **Invariant:** only reads; what it finds is as the client sent it, so whoever writes it somewhere checks it there.

use std::borrow::Cow;

use crate::config::Address;
use crate::config::schema::{Piece, Template, Variable};
use crate::message::{Exchange, HttpHead, Version};

/// Where variables are looked up.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The request.
    pub exchange: &'a Exchange,
    /// Its normal path, while a route is looked for.
    pub path: Option<&'a [u8]>,
    /// The answer, once there is one.
    pub response: Option<&'a HttpHead>,
    /// The name of the route, once there is one.
    pub route: &'a str,
}

impl<'a> Facts<'a> {
    /// Those of a request, before it has a route.
    #[must_use]
    pub fn of(exchange: &'a Exchange) -> Self {
        Self { exchange, path: None, response: None, route: "" }
    }

    /// The value of a variable; None where the request has none.
    #[must_use]
    pub fn get(&self, variable: &'a Variable) -> Option<Cow<'a, [u8]>> {
        let x = self.exchange;
        let head = x.request.head.fields()?;
        // tidy: table
        let found = match variable {
            Variable::RequestField(name) => head.get(name)?,
            Variable::ResponseField(name) => self.response?.get(name)?,
            Variable::Argument(name) => argument(query(head)?, name.as_bytes())?,
            Variable::Cookie(name) => cookie(head, name.as_bytes())?,
            Variable::Method => head.method_bytes(),
            Variable::Path => self.path.unwrap_or_else(|| head.path()),
            Variable::PathAndQuery => head.path_and_query(),
            Variable::Query => query(head)?,
            Variable::Host => head.authority()?,
            Variable::Scheme if x.downstream.is_tls => b"https",
            Variable::Scheme => b"http",
            Variable::Protocol => match head.version() {
                Version::Http10 => &b"HTTP/1.0"[..],
                Version::Http11 => b"HTTP/1.1",
                Version::Http2 => b"HTTP/2",
            },
            Variable::Peer => return Some(Cow::Owned(x.downstream.peer.to_string().into_bytes())),
            Variable::PeerIp => return ip_text(&x.downstream.peer).map(Cow::Owned),
            Variable::Local => return Some(Cow::Owned(x.downstream.local.to_string().into_bytes())),
            Variable::UpstreamHost => x.upstream_host.as_deref()?.as_bytes(),
            Variable::Status => return Some(Cow::Owned(self.response?.status().to_string().into_bytes())),
            Variable::RouteName => Some(self.route.as_bytes()).filter(|name| !name.is_empty())?,
        };
        Some(Cow::Borrowed(found))
    }

    /// Writes a template. False where one of its variables has no value; what was written until then is of no use.
    #[must_use]
    pub fn write(&self, template: &'a Template, out: &mut Vec<u8>) -> bool {
        template.0.iter().all(|piece| match piece {
            Piece::Text(text) => {
                out.extend_from_slice(text.as_bytes());
                true
            }
            Piece::Variable(variable) => match self.get(variable) {
                Some(value) => {
                    out.extend_from_slice(&value);
                    true
                }
                None => false,
            },
        })
    }
}

/// The value of the first cookie of this name (RFC 6265, 4.2).
#[must_use]
pub(super) fn cookie<'h>(head: &'h HttpHead, name: &[u8]) -> Option<&'h [u8]> {
    let fields = head.fields().filter(|(_, field, _)| field.eq_ignore_ascii_case(b"cookie"));
    let mut pairs = fields.flat_map(|(_, _, value)| value.split(|&b| b == b';')).map(<[u8]>::trim_ascii);
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

fn query(head: &HttpHead) -> Option<&[u8]> {
    let all = head.path_and_query();
    memchr::memchr(b'?', all).map(|at| &all[at + 1..])
}

fn argument<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|&b| b == b'&').find_map(|pair| {
        let rest = pair.strip_prefix(name)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"=") }
    })
}

fn ip_text(address: &Address) -> Option<Vec<u8>> {
    address.inet().map(|inet| inet.ip().to_canonical().to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::exchange;

    #[test]
    fn variables_are_found_or_none() {
        let x =
            exchange("GET", "/a%20b?x=1&y&xx=2&x=3", &[("host", "h:1"), ("Cookie", "a=1; sid=x=y;b"), ("x-a", "v")]);
        let facts = Facts { route: "r", ..Facts::of(&x) };
        for (name, value) in [
            ("request_header_X-A", Some("v")),
            ("request_header_x-b", None),
            ("response_header_x-a", None),
            ("request_arg_x", Some("1")),
            ("request_arg_y", Some("")),
            ("request_arg_z", None),
            ("cookie_sid", Some("x=y")),
            ("cookie_b", None),
            ("request_method", Some("GET")),
            ("request_path", Some("/a%20b")),
            ("request_uri", Some("/a%20b?x=1&y&xx=2&x=3")),
            ("request_arg", Some("x=1&y&xx=2&x=3")),
            ("x-mosn-host", Some("h:1")),
            ("request_scheme", Some("http")),
            ("protocol", Some("HTTP/1.1")),
            ("downstream_remote_address", Some("192.0.2.7:4000")),
            ("downstream_remote_ip", Some("192.0.2.7")),
            ("upstream_host", None),
            ("response_code", None),
            ("route_name", Some("r")),
        ] {
            let variable = Variable::of(name).unwrap();
            let found = facts.get(&variable).map(|v| String::from_utf8(v.into_owned()).unwrap());
            assert_eq!(found.as_deref(), value, "{name}");
        }
    }
}
