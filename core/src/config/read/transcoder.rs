//! `transcoder`: what requests are converted to.
//!
//! **Invariant:** a conversion that there is not is an error: its requests would reach their origin in the wrong protocol.

use super::route_action::UPSTREAM_PROTOCOLS;
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{FilterConfig, RpcProtocol, Transcoder, TranscoderRule, UpstreamProtocol};
use crate::config::tree::Node;

/// The filter's settings.
pub(super) fn transcoder(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "transcoder")?;
    let own = fields.choice(r, "type", TYPES);
    let own = own.map(|(from, to)| TranscoderRule { from: Some(from), field: None, to });
    let mut rules: Vec<_> = fields.list(r, "rules", rule);
    match (&own, fields.get("rules")) {
        (Some(_), Some(rules)) => r.error(rules.place, "`rules` and `type` say what is converted", "keep one"),
        (None, None) if fields.get("type").is_none() => {
            r.warn(node.place, "the filter converts nothing", "write `type` or `rules`");
        }
        _ => {}
    }
    rules.extend(own);
    let phase = fields.with(r, "trans", |r, node| {
        let fields = r.map(node, "transcoder_phase")?;
        fields.number::<u8>(r, "receiver_phase", 0..=2)
    });
    Some(FilterConfig::Transcoder(Transcoder { rules, before_route: phase == Some(0) }))
}

fn rule(r: &mut Reader, node: &Node) -> Option<TranscoderRule> {
    let fields = r.map(node, "transcoder_rule")?;
    let field = ["matcher_config", "macther_config"].iter().find_map(|key| fields.with(r, key, matcher));
    if fields.get("rule_info").is_none() {
        fields.missing(r, "rule_info");
    }
    let to = fields.with(r, "rule_info", |r, node| {
        let fields = r.map(node, "transcoder_info")?;
        if fields.get("upstream_protocol").is_none() {
            fields.missing(r, "upstream_protocol");
        }
        fields.choice(r, "upstream_protocol", UPSTREAM_PROTOCOLS)
    });
    Some(TranscoderRule { from: None, field, to: to? })
}

fn matcher(r: &mut Reader, node: &Node) -> Option<(String, String)> {
    let fields = r.map(node, "transcoder_matcher")?;
    fields.choice(r, "matcher_type", &[("simpleMatcher", ())]);
    fields.with(r, "config", |r, node| {
        let fields: Fields<'_> = r.map(node, "transcoder_field")?;
        Some((fields.required(r, "name")?, fields.required(r, "value")?))
    })
}

/// MOSN's conversions: what the client speaks, and what its origin is asked in.
const TYPES: &[(&str, (&str, UpstreamProtocol))] = &[
    ("httpTohttp2", ("Http1", UpstreamProtocol::Http2)),
    ("http2Tohttp", ("Http2", UpstreamProtocol::Http1)),
    ("http2bolt_simple", ("Http1", UpstreamProtocol::Rpc(RpcProtocol::Bolt))),
];
