//! `filter_chain_match`: which connections a chain of a listener is for.
//!
//! **Invariant:** what can't be read is an error, never left out: the chain would be for others too.

use super::tcp_proxy::{network_of, server_name};
use crate::config::reader::Reader;
use crate::config::schema::{ChainMatch, IpNetwork};
use crate::config::tree::Node;

pub(super) fn chain_match(r: &mut Reader, node: &Node) -> Option<ChainMatch> {
    let fields = r.map(node, "filter_chain_match")?;
    let texts = |r: &mut Reader, key: &str| fields.list(r, key, |r, node| r.text(node).filter(|t| !t.is_empty()));
    let protocols = texts(r, "application_protocols");
    Some(ChainMatch {
        destination_port: fields.number(r, "destination_port", 1..=65_535),
        destinations: fields.list(r, "prefix_ranges", prefix),
        server_names: fields.list(r, "server_names", server_name),
        is_tls: fields.choice(r, "transport_protocol", TRANSPORTS).flatten(),
        protocols,
        sources: fields.list(r, "source_prefix_ranges", prefix),
        source_ports: fields.numbers(r, "source_ports", 1..=65_535),
    })
}

/// `{address_prefix: 10.0.0.0, prefix_len: 8}`.
fn prefix(r: &mut Reader, node: &Node) -> Option<IpNetwork> {
    let fields = r.map(node, "prefix_range")?;
    let address = fields.required(r, "address_prefix")?;
    let length: u8 = fields.number(r, "prefix_len", 0..=128).unwrap_or(0);
    network_of(r, node, &address, length)
}

const TRANSPORTS: &[(&str, Option<bool>)] = &[("", None), ("tls", Some(true)), ("raw_buffer", Some(false))];
