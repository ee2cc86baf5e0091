//! `listener_filters` of a listener.
//!
//! **Invariant:** a filter that would not run is never passed over in silence.

use super::tcp_proxy::network;
use crate::config::keys::LISTENER_FILTERS;
use crate::config::reader::Reader;
use crate::config::schema::ListenerFilter;
use crate::config::tree::{Node, Value};

pub(super) fn listener_filter(r: &mut Reader, node: &Node) -> Option<ListenerFilter> {
    let fields = r.map(node, "listener_filter")?;
    let kind = fields.required(r, "type")?;
    let empty = Node { place: node.place, value: Value::Map(Vec::new()) };
    let config = fields.get("config").unwrap_or(&empty);
    match kind.as_str() {
        "proxy_protocol" => return r.at("config", |r| proxy_protocol(r, config)),
        "tls_inspector" => return Some(ListenerFilter::TlsInspector),
        _ => {}
    }
    let place = fields.get("type").map_or(node.place, |n| n.place);
    r.at("type", |r| r.variant(place, "listener filter", &kind, LISTENER_FILTERS));
    None
}

fn proxy_protocol(r: &mut Reader, node: &Node) -> Option<ListenerFilter> {
    let fields = r.map(node, "proxy_protocol")?;
    let trusted = fields.get("trusted_sources").map(|node| {
        let networks = fields.list(r, "trusted_sources", network);
        if networks.is_empty() {
            let remedy = "name those who send a header, or leave the key out where everybody does";
            r.at("trusted_sources", |r| r.error(node.place, "nobody is trusted", remedy));
        }
        networks
    });
    Some(ListenerFilter::ProxyProtocol { trusted })
}
