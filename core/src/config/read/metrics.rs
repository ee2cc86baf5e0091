//! `metrics`: where metrics are served beside the admin API.
//!
//! **Invariant:** never an address that the file does not say, but loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::Address;
use crate::config::reader::Reader;
use crate::config::schema::MetricsSink;
use crate::config::tree::Node;

pub(super) fn sinks(r: &mut Reader, node: &Node) -> Option<Vec<MetricsSink>> {
    let fields = r.map(node, "metrics")?;
    Some(fields.list(r, "sinks", sink))
}

fn sink(r: &mut Reader, node: &Node) -> Option<MetricsSink> {
    let fields = r.map(node, "sink")?;
    if fields.choice(r, "type", &[("prometheus", true), ("console", false)])? {
        return fields.with(r, "config", prometheus);
    }
    r.warn(node.place, "a console sink does nothing: the admin API has the same numbers under /api/v1/stats", "");
    None
}

fn prometheus(r: &mut Reader, node: &Node) -> Option<MetricsSink> {
    let fields = r.map(node, "prometheus")?;
    let ip = match fields.text(r, "address") {
        None => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(text) => fields.with(r, "address", |r, node| {
            let ip = text.parse().ok();
            if ip.is_none() {
                r.error(node.place, format!("`{text}` is no IP address"), "write 0.0.0.0 for every interface");
            }
            ip
        }),
    };
    if fields.get("port").is_none() {
        fields.missing(r, "port");
    }
    let port = fields.number(r, "port", 1..=65535)?;
    let path = fields.text(r, "endpoint").unwrap_or_else(|| "/metrics".into());
    Some(MetricsSink { address: Address::Inet(SocketAddr::new(ip?, port)), path })
}
