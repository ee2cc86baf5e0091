//! `config` of the network filter `proxy`: what is spoken with clients and with origins, and the settings of protocols.
//!
//! **Invariant:** a protocol that is not known is an error, never one that is not served.

use super::forwarded;
use super::route_action::UPSTREAM_PROTOCOLS;
use crate::config::diagnostic::Origin;
use crate::config::keys;
use crate::config::reader::{Fields, Reader, did_you_mean};
use crate::config::schema::{Http2Offers, Protocols, Proxy, RpcProtocol, UpstreamProtocol};
use crate::config::tree::Node;

pub(super) fn proxy(r: &mut Reader, node: &Node) -> Option<Proxy> {
    let fields = r.map(node, "proxy")?;
    let protocols = fields.with(r, "downstream_protocol", protocols).unwrap_or_default();
    let (router, router_origin) = router_name(r, &fields).unwrap_or_default();
    let forwarded = forwarded::forwarded(r, &fields);
    let upstream_protocol = fields.with(r, "upstream_protocol", upstream_protocol);
    let mut proxy = Proxy { router, router_origin, protocols, forwarded, upstream_protocol, ..Proxy::default() };
    if let Some(extend) = fields.get("extend_config") {
        r.at("extend_config", |r| extend_config(r, extend, &mut proxy));
    }
    if proxy.protocols == Protocols::NONE {
        let remedy = "name one in `extend_config.sub_protocol`, or write it here";
        r.error(fields.node.place, "`downstream_protocol: X` names no protocol", remedy);
    }
    if fields.boolean(r, "fallback_for_unknown_protocol") == Some(true) && proxy.protocols.is_one() {
        let message =
            "`fallback_for_unknown_protocol` has no effect: where one protocol alone is served, none is looked for";
        r.error(fields.node.place, message, "write `downstream_protocol: Auto` or a list, or leave the key out");
    }
    Some(proxy)
}

/// `router_config_name` of a listener or of a proxy, and where it stands.
pub(super) fn router_name(r: &mut Reader, fields: &Fields<'_>) -> Option<(String, Origin)> {
    fields.with(r, "router_config_name", |r, node| {
        let name = r.text(node).filter(|n| !n.is_empty())?;
        Some((name, r.origin(node.place)))
    })
}

/// Settings of protocols: by name, or, where there is one protocol alone, its own.
fn extend_config(r: &mut Reader, extend: &Node, proxy: &mut Proxy) {
    let is_bolt = |protocol| proxy.protocols == Protocols::rpc(protocol);
    let own = match proxy.protocols {
        Protocols::HTTP1 => Some(("proxy_http1", "Http1")),
        _ if is_bolt(RpcProtocol::Bolt) => Some(("proxy_bolt", "bolt")),
        _ if is_bolt(RpcProtocol::BoltV2) => Some(("proxy_bolt", "boltv2")),
        _ => None,
    };
    let flat = own.filter(|_| !["Http1", "bolt", "boltv2"].iter().any(|name| extend.get(name).is_some()));
    if let Some((section, _)) = flat {
        if let Some(fields) = r.map(extend, section) {
            protocol_settings(r, section, &fields, proxy);
        }
        return;
    }
    let Some(fields) = r.map(extend, "proxy_extend") else { return };
    if let Some(node) = fields.get("Http2") {
        r.at("Http2", |r| {
            if let Some(fields) = r.map(node, "proxy_http2") {
                proxy.http2 = http2(r, &fields);
            }
        });
    }
    for (name, section) in [("Http1", "proxy_http1"), ("bolt", "proxy_bolt"), ("boltv2", "proxy_bolt")] {
        if let Some(node) = fields.get(name) {
            r.at(name, |r| {
                if let Some(fields) = r.map(node, section) {
                    protocol_settings(r, section, &fields, proxy);
                }
            });
        }
    }
    if let Some(found) = fields.with(r, "sub_protocol", protocols)
        && proxy.protocols == Protocols::NONE
    {
        proxy.protocols = found;
    }
}

fn protocol_settings(r: &mut Reader, section: &str, fields: &Fields<'_>, proxy: &mut Proxy) {
    match section {
        "proxy_http1" => http1(r, fields, proxy),
        _ => proxy.says_go_away |= fields.boolean(r, "enable_bolt_goaway").unwrap_or(false),
    }
}

fn http1(r: &mut Reader, fields: &Fields<'_>, proxy: &mut Proxy) {
    proxy.head_bytes_max = fields.size(r, "max_header_size", 256..=HEAD_BYTES_MAX);
    proxy.request_body_bytes_max = fields.size(r, "max_request_body_size", 0..=u64::MAX);
}

fn http2(r: &mut Reader, fields: &Fields<'_>) -> Http2Offers {
    let d = Http2Offers::default();
    Http2Offers {
        extended_connect: fields.boolean(r, "extended_connect").unwrap_or(d.extended_connect),
        upgrade_h2c: fields.boolean(r, "upgrade_h2c").unwrap_or(d.upgrade_h2c),
    }
}

/// The protocols that are asked for.
fn protocols(r: &mut Reader, node: &Node) -> Option<Protocols> {
    let text = r.text(node)?;
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
    for name in &names {
        let known = BESIDE_RPC.iter().copied().chain(RpcProtocol::ALL.iter().map(|protocol| protocol.name()));
        if !known.clone().any(|known| known == *name) {
            let remedy = did_you_mean(keys::nearest(name, known));
            r.error(node.place, format!("there is no protocol `{name}`"), remedy);
            return None;
        }
    }
    let served = names.iter().fold(Protocols::NONE, |served, name| {
        served.and(match *name {
            "Auto" => Protocols::all(),
            "Http1" => Protocols::HTTP1,
            "Http2" => Protocols::HTTP2,
            name => RpcProtocol::of_name(name).map_or(Protocols::NONE, Protocols::rpc),
        })
    });
    Some(if names.is_empty() { Protocols::HTTP1 } else { served })
}

/// What origins are asked in. MOSN has protocols here that origins can't be asked in yet, and looks at the routes alone for them.
fn upstream_protocol(r: &mut Reader, node: &Node) -> Option<UpstreamProtocol> {
    let text = r.text(node).filter(|text| !text.is_empty())?;
    let known = UPSTREAM_PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
    if known.is_none() {
        r.warn(
            node.place,
            format!("origins can't be asked in `{text}` and are in HTTP/1.1"),
            "Http1, Http2, Auto, bolt, boltv2 or dubbo",
        );
    }
    known.map(|(_, protocol)| *protocol)
}

/// The names of protocols that are not of RPC, and that of one which other settings name.
const BESIDE_RPC: &[&str] = &["Http1", "Http2", "Auto", "X"];

/// The largest `max_header_size`, in bytes.
const HEAD_BYTES_MAX: u64 = 16 << 20;
