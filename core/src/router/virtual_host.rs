//! Which virtual host serves an authority.
//!
//! The most exact domain wins: host and port, host and any port, the longest wildcard and port, the longest wildcard and any port, the
//! default. A request without a port is matched by a domain without one, never by one with `:80`.
//!
//! **Invariant:** one look-up costs at most two hashes for each length of wildcard in the file, whatever the client sends.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::config::schema::{DOMAIN_BYTES_MAX, HostPattern, PortPattern, VirtualHost, split_port};

/// The domains of a router, each with the index of its virtual host.
#[derive(Debug, Default)]
pub(super) struct VirtualHosts {
    exact: HashMap<Box<str>, Ports, RandomState>,
    /// Wildcards by what follows the `*`.
    suffixes: HashMap<Box<str>, Ports, RandomState>,
    /// The lengths of the suffixes, longest first, none twice.
    lengths: Vec<usize>,
    default: Option<usize>,
}

/// The ports of one host.
#[derive(Debug, Default)]
struct Ports {
    absent: Option<usize>,
    any: Option<usize>,
    exact: Vec<(Box<str>, usize)>,
}

impl VirtualHosts {
    pub(super) fn new(hosts: &[VirtualHost]) -> Self {
        let mut all = Self::default();
        for (index, domain) in hosts.iter().enumerate().flat_map(|(i, h)| h.domains.iter().map(move |d| (i, d))) {
            let ports = match &domain.host {
                HostPattern::Default => {
                    all.default.get_or_insert(index);
                    continue;
                }
                HostPattern::Exact(host) => all.exact.entry(host.as_str().into()).or_default(),
                HostPattern::Suffix(suffix) => {
                    all.lengths.push(suffix.len());
                    all.suffixes.entry(suffix.as_str().into()).or_default()
                }
            };
            match &domain.port {
                PortPattern::Absent => drop(ports.absent.get_or_insert(index)),
                PortPattern::Any => drop(ports.any.get_or_insert(index)),
                PortPattern::Exact(port) => ports.exact.push((port.as_str().into(), index)),
            }
        }
        all.lengths.sort_unstable_by(|a, b| b.cmp(a));
        all.lengths.dedup();
        all
    }

    /// The index of the virtual host; None is a 404. A request without an authority (HTTP/1.0) gets the default.
    pub(super) fn find(&self, authority: Option<&[u8]>) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return self.default;
        }
        let Some(authority) = authority else { return self.default };
        // Longer than any domain with a port: only the default can match.
        let mut lower = [0; AUTHORITY_BYTES_MAX];
        let Some(lower) = lower.get_mut(..authority.len()) else { return self.default };
        lower.copy_from_slice(authority);
        lower.make_ascii_lowercase();
        let Ok(text) = std::str::from_utf8(lower) else { return self.default };
        let (host, port) = split_port(text)?;
        let port = port.unwrap_or("");
        self.named(host, port).or(self.default)
    }

    fn named(&self, host: &str, port: &str) -> Option<usize> {
        let exact = self.exact.get(host).and_then(|ports| ports.with(port).or(ports.any));
        exact.or_else(|| self.wildcard(host, |p| p.with(port))).or_else(|| self.wildcard(host, |p| p.any))
    }

    fn wildcard(&self, host: &str, pick: impl Fn(&Ports) -> Option<usize>) -> Option<usize> {
        // The `*` stands for at least one byte.
        let shorter = self.lengths.iter().filter(|&&length| length < host.len());
        shorter.filter_map(|length| host.get(host.len() - length..)).find_map(|suffix| pick(self.suffixes.get(suffix)?))
    }
}

impl Ports {
    fn with(&self, port: &str) -> Option<usize> {
        if port.is_empty() {
            return self.absent;
        }
        self.exact.iter().find(|(p, _)| **p == *port).map(|(_, index)| *index)
    }
}

/// The longest authority that can match a domain: its name, brackets, a colon and a port, in bytes.
const AUTHORITY_BYTES_MAX: usize = DOMAIN_BYTES_MAX + 2 + 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(domains: &[&str]) -> VirtualHosts {
        let host = |d: &&str| VirtualHost { domains: vec![d.parse().unwrap()], ..VirtualHost::default() };
        VirtualHosts::new(&domains.iter().map(host).collect::<Vec<_>>())
    }

    #[test]
    fn the_most_exact_domain_wins() {
        let domains = [
            "*",
            "a.com",
            "a.com:8080",
            "a.com:*",
            "*.a.com",
            "*.b.a.com:8080",
            "*.a.com:8080",
            "*.b.a.com:*",
            "*:9999",
            "[::1]:80",
            "*.c.com:*",
            "*.d.c.com:1",
        ];
        let table = hosts(&domains);
        for (authority, domain) in [
            ("a.com", "a.com"),
            ("A.Com", "a.com"),
            ("a.com:", "a.com"),
            ("a.com:8080", "a.com:8080"),
            ("a.com:80", "a.com:*"),
            ("x.a.com", "*.a.com"),
            ("x.y.a.com", "*.a.com"),
            ("x.a.com:8080", "*.a.com:8080"),
            ("x.b.a.com:8080", "*.b.a.com:8080"),
            // A wildcard with the port wins over a longer one with any port.
            ("x.b.a.com", "*.a.com"),
            ("x.b.a.com:1", "*.b.a.com:*"),
            ("x.a.com:80", "*"),
            (".a.com", "*"),
            ("xa.com", "*"),
            ("x.c.com", "*.c.com:*"),
            ("x.d.c.com:1", "*.d.c.com:1"),
            ("x.d.c.com:2", "*.c.com:*"),
            ("other:9999", "*:9999"),
            ("other", "*"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "*"),
        ] {
            let found = table.find(Some(authority.as_bytes())).map(|i| domains[i]);
            assert_eq!(found, Some(domain), "{authority}");
        }
        assert_eq!(table.find(None).map(|i| domains[i]), Some("*"));
        assert_eq!(table.find(Some(b"[::1")), None);
        assert_eq!(table.find(Some(b"\xff\xfe")).map(|i| domains[i]), Some("*"));
        let long = format!("{}.a.com", "x".repeat(300));
        assert_eq!(table.find(Some(long.as_bytes())).map(|i| domains[i]), Some("*"));
    }

    #[test]
    fn without_a_default_what_matches_nothing_has_no_host() {
        let table = hosts(&["a.com:80", "*.b.com"]);
        for authority in ["a.com", "b.com", "c", ""] {
            assert_eq!(table.find(Some(authority.as_bytes())), None, "{authority}");
        }
        assert_eq!(table.find(None), None);
        assert_eq!(table.find(Some(b"a.com:80")), Some(0));
    }

    #[test]
    fn the_default_alone_takes_everything() {
        let table = hosts(&["*:*"]);
        for authority in [Some(&b"a.com"[..]), Some(b"[bad"), None] {
            assert_eq!(table.find(authority), Some(0));
        }
    }
}
