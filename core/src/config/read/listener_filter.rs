//! `listener_filters` of a listener.
//!
//! **Invariant:** a filter that would not run is never passed over in silence.

use super::tcp_proxy::network;
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{Interception, InterceptionKind, ListenerFilter};
use crate::config::tree::{Node, Value};

/// What one entry says.
enum Entry {
    Filter(ListenerFilter),
    /// `original_dst`, which looks at no bytes.
    Interception(Interception),
}

/// The filters that look at bytes, and how connections come that were meant for somewhere else: `use_original_dst`, or the filter that says it.
pub(super) fn listener_filters(r: &mut Reader, fields: &Fields<'_>) -> (Vec<ListenerFilter>, Option<Interception>) {
    let own = fields.choice(r, "use_original_dst", KINDS).flatten();
    let mut interception = own.map(|kind| Interception { kind, fallback_to_local: false });
    let mut filters = Vec::new();
    for entry in fields.list(r, "listener_filters", |r, node| entry(r, node, own)) {
        match entry {
            Entry::Filter(filter) => filters.push(filter),
            Entry::Interception(said) => interception = Some(said),
        }
    }
    (filters, interception)
}

fn entry(r: &mut Reader, node: &Node, own: Option<InterceptionKind>) -> Option<Entry> {
    let fields = r.map(node, "listener_filter")?;
    let kind = fields.required(r, "type")?;
    let empty = Node { place: node.place, value: Value::Map(Vec::new()) };
    let config = fields.get("config").unwrap_or(&empty);
    match kind.as_str() {
        "proxy_protocol" => return r.at("config", |r| proxy_protocol(r, config)).map(Entry::Filter),
        "tls_inspector" => return Some(Entry::Filter(ListenerFilter::TlsInspector)),
        "original_dst" => return r.at("config", |r| original_dst(r, config, own)).map(Entry::Interception),
        _ => {}
    }
    let place = fields.get("type").map_or(node.place, |n| n.place);
    r.at("type", |r| r.variant(place, "listener filter", &kind, &[]));
    None
}

fn original_dst(r: &mut Reader, node: &Node, own: Option<InterceptionKind>) -> Option<Interception> {
    let fields = r.map(node, "original_dst")?;
    let said = fields.choice(r, "type", KINDS).flatten();
    if let (Some(said), Some(own)) = (said, own)
        && said != own
    {
        r.error(node.place, "`use_original_dst` of the listener says another type", "keep one of the two");
    }
    Some(Interception {
        kind: said.or(own).unwrap_or(InterceptionKind::Redirect),
        fallback_to_local: fields.boolean(r, "fallback_to_local").unwrap_or(false),
    })
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

const KINDS: &[(&str, Option<InterceptionKind>)] =
    &[("", None), ("redirect", Some(InterceptionKind::Redirect)), ("tproxy", Some(InterceptionKind::Tproxy))];
