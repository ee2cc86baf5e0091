//! `stream_filters` of a listener, and `per_filter_config` of virtual hosts and routes.
//!
//! **Invariant:** a filter that would not run is never passed over in silence.

use super::{flow_control, route_match, transcoder};
use crate::config::diagnostic::Place;
use crate::config::keys::{self, STREAM_FILTERS};
use crate::config::reader::{Fields, Reader, did_you_mean};
use crate::config::schema::{
    Abort, Coding, Delay, Fault, FilterConfig, Gzip, HeaderToMetadata, IpAccess, IpNetwork, IpRule, MetadataRule,
    Mirror, PayloadLimit,
};
use crate::config::tree::{Node, Value};

/// One entry of `stream_filters`.
pub(super) fn stream_filter(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "stream_filter")?;
    let kind = fields.required(r, "type")?;
    let place = fields.get("type").map_or(node.place, |n| n.place);
    let empty = Node { place: node.place, value: Value::Map(Vec::new()) };
    let config = fields.get("config").unwrap_or(&empty);
    match READERS.iter().find(|(name, _)| *name == kind) {
        Some((_, read)) => r.at("config", |r| read(r, config)),
        None => {
            r.at("type", |r| not_here(r, place, &kind));
            None
        }
    }
}

/// `per_filter_config`: the settings of filters by their type.
pub(super) fn per_filter(r: &mut Reader, node: &Node) -> Option<Vec<FilterConfig>> {
    let Value::Map(entries) = &node.value else {
        r.wrong_type(node, "a map");
        return None;
    };
    let read = |r: &mut Reader, kind: &str, place, node| match READERS.iter().find(|(name, _)| *name == kind) {
        Some((_, read)) => read(r, node),
        None => {
            not_here(r, place, kind);
            None
        }
    };
    Some(entries.iter().filter_map(|e| r.at(&e.key, |r| read(r, &e.key, e.place, &e.node))).collect())
}

/// A type of filter that does not run here.
fn not_here(r: &mut Reader, place: Place, kind: &str) {
    if STREAM_FILTERS.iter().any(|v| v.name == kind) {
        return r.variant(place, "stream filter", kind, STREAM_FILTERS);
    }
    let known = STREAM_FILTERS.iter().map(|v| v.name).chain(READERS.iter().map(|(name, _)| *name));
    let nearest = keys::nearest(kind, known);
    r.error(place, format!("there is no stream filter `{kind}`"), did_you_mean(nearest));
}

fn fault(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "fault")?;
    let delay = fields.with(r, "delay", |r, node| {
        let fields = r.map(node, "fault_delay")?;
        let percent = percent(r, &fields);
        Some(Delay { time: fields.duration(r, "fixed_delay")?, percent })
    });
    let abort = fields.with(r, "abort", |r, node| {
        let fields = r.map(node, "fault_abort")?;
        let percent = percent(r, &fields);
        if fields.get("status").is_none() {
            fields.missing(r, "status");
        }
        Some(Abort { status: fields.number(r, "status", 200..=599)?, percent })
    });
    let cluster = fields.text(r, "upstream_cluster");
    Some(FilterConfig::Fault(Fault { delay, abort, cluster, fields: fields.list(r, "headers", route_match::header) }))
}

fn percent(r: &mut Reader, fields: &Fields<'_>) -> u8 {
    fields.number(r, "percentage", 0..=100).unwrap_or(0)
}

fn gzip(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "gzip")?;
    let d = Gzip::default();
    let codings = fields.list(r, "encodings", |r, node| {
        let text = r.text(node)?;
        let found = Coding::ALL.into_iter().find(|c| c.name() == text);
        if found.is_none() {
            r.error(node.place, format!("there is no encoding `{text}`"), "one of gzip, br, zstd");
        }
        found
    });
    let types = fields.list(r, "content_types", Reader::text);
    Some(FilterConfig::Gzip(Gzip {
        codings: if fields.get("encodings").is_some() { codings } else { d.codings },
        gzip_level: fields.number(r, "gzip_level", 1..=9).unwrap_or(d.gzip_level),
        brotli_level: fields.number(r, "brotli_level", 0..=9).unwrap_or(d.brotli_level),
        zstd_level: fields.number(r, "zstd_level", 1..=12).unwrap_or(d.zstd_level),
        length_min: fields.size(r, "content_length", 0..=u64::MAX).unwrap_or(d.length_min),
        types: if types.is_empty() { d.types } else { types },
    }))
}

fn header_to_metadata(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "header_to_metadata")?;
    let rules = fields.list(r, "request_rules", |r, node| {
        let fields = r.map(node, "metadata_rule")?;
        let header = fields.required(r, "header");
        let pair = |r: &mut Reader, node: &Node| {
            let fields = r.map(node, "metadata_value")?;
            Some((fields.required(r, "key")?, fields.text(r, "value")))
        };
        let present = fields.with(r, "on_header_present", pair);
        let missing = fields.with(r, "on_header_missing", |r, node| match pair(r, node)? {
            (key, Some(value)) => Some((key, value)),
            (_, None) => {
                r.error(node.place, "the key `value` is missing", "a field that is missing has none");
                None
            }
        });
        if present.is_none() && missing.is_none() {
            r.warn(node.place, "the rule does nothing", "write `on_header_present` or `on_header_missing`");
        }
        Some(MetadataRule { header: header?, present, missing, remove: fields.boolean(r, "remove").unwrap_or(false) })
    });
    Some(FilterConfig::HeaderToMetadata(HeaderToMetadata { rules }))
}

fn ip_access(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "ip_access")?;
    if fields.get("default_action").is_none() {
        fields.missing(r, "default_action");
    }
    let default_allow = fields.choice(r, "default_action", ACTIONS);
    let header = fields.text(r, "header");
    let rules = fields.list(r, "ips", |r, node| {
        let fields = r.map(node, "ip_access_rule")?;
        if fields.get("action").is_none() {
            fields.missing(r, "action");
        }
        let allow = fields.choice(r, "action", ACTIONS);
        let networks = fields.list(r, "addrs", |r, node| {
            let text = r.text(node)?;
            let network = IpNetwork::parse(&text);
            if network.is_none() {
                r.error(
                    node.place,
                    format!("`{text}` is no address"),
                    "write `10.0.0.1`, `10.0.0.0/8` or `2001:db8::/32`",
                );
            }
            network
        });
        Some(IpRule { allow: allow?, networks })
    });
    Some(FilterConfig::IpAccess(IpAccess { default_allow: default_allow?, header, rules }))
}

fn mirror(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "mirror_filter")?;
    // 0 is MOSN's way to leave the default.
    let copies = fields.number(r, "amplification", 0..=COPIES_MAX).filter(|n| *n > 0).unwrap_or(1);
    let every_host = fields.boolean(r, "broadcast").unwrap_or(false);
    Some(FilterConfig::Mirror(Mirror { copies, every_host }))
}

fn payload_limit(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "payload_limit")?;
    // MOSN has a space behind the name, so files for it have one too.
    let keys = ["max_entity_size", "max_entity_size "];
    if let (Some(_), Some(second)) = (fields.get(keys[0]), fields.get(keys[1])) {
        r.error(second.place, "`max_entity_size` stands there twice, with a space behind it and without", "keep one");
    }
    let size = |r: &mut Reader, key| fields.size(r, key, 0..=u64::MAX);
    let body_bytes_max = keys.iter().find_map(|key| size(r, key)).filter(|bytes| *bytes > 0);
    let status = fields.number(r, "http_status", 400..=599).unwrap_or(413);
    Some(FilterConfig::PayloadLimit(PayloadLimit { body_bytes_max, status }))
}

type Read = fn(&mut Reader, &Node) -> Option<FilterConfig>;

/// The filters that there are.
const READERS: &[(&str, Read)] = &[
    ("fault", fault),
    ("flowControlFilter", flow_control::flow_control),
    ("gzip", gzip),
    ("header_to_metadata", header_to_metadata),
    ("ip_access", ip_access),
    ("mirror", mirror),
    ("payload_limit", payload_limit),
    ("transcoder", transcoder::transcoder),
];

/// Copies of a request, at most.
const COPIES_MAX: u64 = 100;

const ACTIONS: &[(&str, bool)] = &[("allow", true), ("deny", false)];
