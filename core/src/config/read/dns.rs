//! How a cluster's names are looked up, and where an `ORIGINAL_DST` one sends.
//!
//! **Invariant:** nothing is looked up here.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::reader::{Fields, Reader};
use crate::config::schema::{Dns, Family, OriginalDst};
use crate::config::tree::Node;

pub(super) fn dns(r: &mut Reader, fields: &Fields<'_>) -> Dns {
    let d = Dns::default();
    let families = [("AUTO", Family::Auto), ("", Family::Auto), ("V4_ONLY", Family::V4), ("V6_ONLY", Family::V6)];
    let port = fields.number(r, "dns_resolver_port", 0..=65535).filter(|p| *p != 0).unwrap_or(53);
    let mut dns = fields.with(r, "dns_resolvers", |r, node| resolvers(r, node, port)).unwrap_or_default();
    dns.refresh = fields.duration(r, "dns_refresh_rate").unwrap_or(d.refresh).max(REFRESH_MIN);
    dns.ttl = fields.boolean(r, "respect_dns_ttl").unwrap_or(d.ttl);
    dns.family = fields.choice(r, "dns_lookup_family", &families).unwrap_or(d.family);
    dns.file = fields.text(r, "dns_resolver_file").map(Into::into);
    dns
}

fn resolvers(r: &mut Reader, node: &Node, port: u16) -> Option<Dns> {
    let f = r.map(node, "dns_resolvers")?;
    let port = f.number(r, "port", 0..=65535).filter(|p| *p != 0).unwrap_or(port);
    let servers = f.list(r, "servers", |r, node| {
        let text = r.text(node)?;
        let ip = |t: &str| t.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        let server = text.parse::<SocketAddr>().ok().or_else(|| ip(&text));
        if server.is_none() {
            r.error(node.place, format!("`{text}` is no address"), "write IP or IP:PORT");
        }
        server
    });
    let search = f.list(r, "search", |r, node| {
        let domain = r.text(node)?;
        if !is_name(&domain) {
            r.error(node.place, format!("`{domain}` is no domain"), "");
        }
        Some(domain)
    });
    Some(Dns {
        servers,
        search,
        ndots: f.number(r, "ndots", 0..=15),
        timeout: f.number(r, "timeout", 0..=300).filter(|t| *t > 0).map(Duration::from_secs),
        attempts: f.number(r, "attempts", 0..=20).filter(|n| *n > 0),
        rotate: f.boolean(r, "rotate").unwrap_or(false),
        tcp: f.boolean(r, "use_tcp").unwrap_or(false),
        ..Dns::default()
    })
}

pub(super) fn original_dst(r: &mut Reader, node: &Node) -> Option<OriginalDst> {
    let f = r.map(node, "original_dst_lb")?;
    let name = f.text(r, "header_name").unwrap_or_else(|| "host".into()).to_ascii_lowercase();
    let header = f.boolean(r, "use_header").unwrap_or(false).then_some(name);
    Some(OriginalDst { header, replace_local: f.boolean(r, "replace_local").unwrap_or(false) })
}

/// Whether a text can be looked up: labels of letters, digits, `-` and `_`, 63 bytes each and 253 in all (RFC 1035, 2.3.4).
pub(super) fn is_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(good)
    };
    labels.len() <= 253 && labels.split('.').all(is_label)
}

/// A name is not looked up more often.
const REFRESH_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_looked_up() {
        for name in ["localhost", "a.b-c.example.", "_http._tcp.x", "1password.com"] {
            assert!(is_name(name), "{name}");
        }
        for text in ["", ".", "a..b", "a b", "é.fr", &"a".repeat(64), &["abcdefg."; 40].concat()] {
            assert!(!is_name(text), "{text}");
        }
    }
}
