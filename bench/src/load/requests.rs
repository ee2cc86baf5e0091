//! The bytes of the requests, made before the first is sent.
//!
//! **Invariant:** giving out a request allocates nothing: where requests differ, digits are overwritten in place.

use super::args::{LoadArgs, Mode, Shape};
use crate::wire::bolt;

/// Requests by number.
pub(crate) struct Requests {
    bytes: Vec<u8>,
    /// Where the two digits of the route and the three of the host lie, when requests differ.
    digits: Option<(usize, usize)>,
    next: u32,
}

impl Requests {
    pub(crate) fn new(args: &LoadArgs) -> Self {
        if args.mode == Mode::Tcp {
            let bytes = if args.body_bytes == 0 { TCP_BYTES } else { args.body_bytes };
            return Self { bytes: vec![b'x'; bytes], digits: None, next: 0 };
        }
        if args.mode == Mode::Bolt {
            return Self { bytes: bolt::call(args.body_bytes), digits: None, next: 0 };
        }
        let real = args.shape == Shape::Real;
        let host =
            args.server_name.clone().unwrap_or_else(|| args.to.first().map_or_else(String::new, ToString::to_string));
        let mut head = if real { real_head(args.body_bytes) } else { plain_head(&host, &args.path, args.body_bytes) };
        if args.body_bytes > 0 {
            head += &format!("Content-Length: {}\r\n", args.body_bytes);
        }
        if args.requests_per_connection == 1 {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        let find = |text: &str| head.find(text).map(|at| at + text.len());
        let digits = if real { find(" /r").zip(find("Host: h")) } else { None };
        let mut bytes = head.into_bytes();
        bytes.resize(bytes.len() + args.body_bytes, b'x');
        Self { bytes, digits, next: 0 }
    }

    /// The number of the next request.
    pub(crate) fn next(&mut self) -> u32 {
        self.next = (self.next + STRIDE) % VARIANTS;
        self.next
    }

    /// The bytes of request `number`; the same number gives the same bytes.
    pub(crate) fn bytes(&mut self, number: u32) -> &[u8] {
        if let Some((route, host)) = self.digits {
            put(&mut self.bytes[route..route + 2], number % ROUTES);
            put(&mut self.bytes[host..host + 3], number / ROUTES);
        }
        &self.bytes
    }
}

fn plain_head(host: &str, path: &str, body: usize) -> String {
    let method = if body > 0 { "POST" } else { "GET" };
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n")
}

/// 24 fields, Host among them; a body's and a close's come on top.
fn real_head(body: usize) -> String {
    let method = if body > 0 { "POST" } else { "GET" };
    let mut head = format!("{method} /r00/items/4711?page=2&sort=newest&lang=en HTTP/1.1\r\nHost: h000.example\r\n");
    for (name, value) in REAL_FIELDS {
        head += &format!("{name}: {value}\r\n");
    }
    head
}

/// Overwrites `digits` with the decimal form of `value`.
fn put(digits: &mut [u8], mut value: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

const TCP_BYTES: usize = 64;
const HOSTS: u32 = 200;
const ROUTES: u32 = 50;
const VARIANTS: u32 = HOSTS * ROUTES;
/// Prime to the number of variants: each comes once before any comes twice, and neighbours share neither host nor route.
const STRIDE: u32 = 3_079;

const REAL_FIELDS: [(&str, &str); 23] = [
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.8,de;q=0.5"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Referer", "https://www.example/catalogue/items?page=1&sort=newest"),
    (
        "Cookie",
        "sid=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=a1b0c1; cart=3c59dc048e8850243be8079a5c74d079",
    ),
    ("Cache-Control", "no-cache"),
    ("Pragma", "no-cache"),
    ("DNT", "1"),
    ("Priority", "u=0, i"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-User", "?1"),
    ("Upgrade-Insecure-Requests", "1"),
    ("CDN-Loop", "edge.example; loops=1"),
    ("X-Forwarded-For", "203.0.113.57, 198.51.100.12"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "443"),
    ("X-Client-Country", "NZ"),
    ("X-Edge-Request-Id", "7d865e959b2466918c9863afca942d0f"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("Via", "2.0 edge-17.example (cdn)"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn requests(flags: &str) -> Requests {
        Requests::new(&LoadArgs::of(&format!("--to 127.0.0.1:80 {flags}")))
    }

    #[test]
    fn real_requests_reach_each_route_of_each_host_once_a_round() {
        let mut requests = requests("--shape real");
        let mut seen = HashSet::new();
        for _ in 0..VARIANTS {
            let number = requests.next();
            let text = String::from_utf8(requests.bytes(number).to_vec()).expect("ASCII");
            let lines: Vec<_> = text.split("\r\n").collect();
            assert!(lines[0].starts_with("GET /r") && lines[0].ends_with(" HTTP/1.1"));
            assert_eq!(lines.len(), 1 + 24 + 2, "24 fields");
            seen.insert((lines[0].to_owned(), lines[1].to_owned()));
        }
        assert_eq!(seen.len(), 10_000);
        let hosts: HashSet<_> = seen.iter().map(|(_, host)| host.clone()).collect();
        assert_eq!(hosts.len(), 200);
        assert!(hosts.contains("Host: h000.example") && hosts.contains("Host: h199.example"));
        assert!(seen.iter().any(|(line, _)| line.starts_with("GET /r49/")));
        assert!(!seen.iter().any(|(line, _)| line.starts_with("GET /r50/")));
    }

    #[test]
    fn a_body_and_a_close_are_announced() {
        let mut requests = requests("--path /up --body-bytes 5 --requests-per-connection 1 --server-name a.example");
        let wanted = "POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nConnection: close\r\n\r\nxxxxx";
        assert_eq!(requests.bytes(7), wanted.as_bytes());
    }
}
