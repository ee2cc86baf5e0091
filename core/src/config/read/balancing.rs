//! `lb_type` and what belongs to it: `lbconfig`, `lb_subset_config`, `slow_start`.
//!
//! **Invariant:** a balancer that the file does not say is round robin, never a guess.

use std::ops::RangeInclusive;

use crate::config::keys::nearest;
use crate::config::reader::{Fields, Reader, did_you_mean};
use crate::config::schema::{Balancing, Choices, Decimal, Fallback, MetadataMatch, SlowStart, Subsets};
use crate::config::tree::{Node, Value};

pub(super) fn balancing(r: &mut Reader, fields: &Fields<'_>) -> Balancing {
    let settings = fields.with(r, "lbconfig", settings).unwrap_or_default();
    let Settings { choices, table_size, points_min, points_max, client_error_bias, server_error_bias } = settings;
    let choices_of = [
        ("LB_ROUNDROBIN", Balancing::RoundRobin),
        ("LB_RANDOM", Balancing::Random),
        ("LB_WEIGHTED_ROUNDROBIN", Balancing::Weighted),
        ("LB_LEAST_REQUEST", Balancing::LeastRequest(choices)),
        ("LB_LEAST_CONNECTION", Balancing::LeastConnection(choices)),
        ("LB_PEAK_EWMA", Balancing::PeakEwma { choices, client_error_bias, server_error_bias }),
        ("LB_MAGLEV", Balancing::Maglev { table_size }),
        ("LB_RING_HASH", Balancing::RingHash { points_min, points_max }),
        ("LB_REQUEST_ROUNDROBIN", Balancing::InOrder),
        // The balancer of a cluster of type ORIGINAL_DST, which has no hosts to choose from.
        ("LB_ORIGINAL_DST", Balancing::RoundRobin),
        ("", Balancing::RoundRobin),
    ];
    let named = fields.with(r, "lb_type", |r, node| {
        let text = r.text(node)?;
        let found =
            choices_of.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text)).map(|(_, balancing)| *balancing);
        if found.is_none() {
            let nearest = nearest(&text, choices_of.iter().map(|(name, _)| *name));
            r.error(node.place, format!("there is no balancer `{text}`"), did_you_mean(nearest));
        }
        found
    });
    named.unwrap_or_default()
}

struct Settings {
    choices: Choices,
    client_error_bias: Decimal,
    server_error_bias: Decimal,
    table_size: Option<u32>,
    points_min: u32,
    points_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            choices: Choices::default(),
            client_error_bias: Decimal(0),
            server_error_bias: Decimal::ONE,
            table_size: None,
            points_min: 1024,
            points_max: 1 << 20,
        }
    }
}

fn settings(r: &mut Reader, node: &Node) -> Option<Settings> {
    let f = r.map(node, "lbconfig")?;
    let d = Settings::default();
    let points_min = f.number(r, "minimum_ring_size", 1..=POINTS_MAX).unwrap_or(d.points_min);
    let points_max = f.number(r, "maximum_ring_size", 1..=POINTS_MAX).unwrap_or(d.points_max);
    if points_min > points_max {
        r.error(node.place, "`minimum_ring_size` is more than `maximum_ring_size`", "");
    }
    Some(Settings {
        choices: Choices {
            count: f.number(r, "choice_count", 1..=1000).unwrap_or(d.choices.count),
            bias: decimal(r, &f, "active_request_bias", 0.0..=100.0).unwrap_or(d.choices.bias),
        },
        client_error_bias: decimal(r, &f, "client_error_bias", 0.0..=100.0).unwrap_or(d.client_error_bias),
        server_error_bias: decimal(r, &f, "server_error_bias", 0.0..=100.0).unwrap_or(d.server_error_bias),
        table_size: f.number(r, "table_size", 1..=POINTS_MAX),
        points_min,
        points_max,
    })
}

pub(super) fn slow_start(r: &mut Reader, node: &Node) -> Option<SlowStart> {
    let f = r.map(node, "slow_start")?;
    f.choice(r, "mode", &[("duration", ()), ("", ())]);
    if f.get("slow_start_duration").is_none() {
        f.missing(r, "slow_start_duration");
    }
    Some(SlowStart {
        aggression: decimal(r, &f, "aggression", 0.01..=100.0).unwrap_or(Decimal::ONE),
        weight_min: decimal(r, &f, "min_weight_percent", 0.0..=1.0).unwrap_or(Decimal(100_000)),
        window: f.duration(r, "slow_start_duration")?,
    })
}

pub(super) fn subsets(r: &mut Reader, node: &Node) -> Option<Subsets> {
    let f = r.map(node, "subset")?;
    let mut selectors = Vec::new();
    if let Some(node) = f.get("subset_selectors") {
        r.at("subset_selectors", |r| r.each(node, |r, keys| selectors.extend(selector(r, keys))));
    }
    selectors.sort_unstable();
    selectors.dedup();
    let default = f.with(r, "default_subset", pairs);
    let fallback = match f.number(r, "fall_back_policy", 0..=2).unwrap_or(0u8) {
        0 => Fallback::None,
        1 => Fallback::Any,
        _ => Fallback::Default(default.unwrap_or_default()),
    };
    Some(Subsets { fallback, selectors }).filter(|s| !s.selectors.is_empty())
}

fn selector(r: &mut Reader, node: &Node) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    r.each(node, |r, key| keys.extend(r.text(key)));
    keys.sort_unstable();
    keys.dedup();
    Some(keys).filter(|k| !k.is_empty())
}

/// `metadata` of a host or `metadata_match` of a route: what stands under `filter_metadata."mosn.lb"`.
pub(super) fn metadata(r: &mut Reader, node: &Node) -> Option<MetadataMatch> {
    let f = r.map(node, "metadata")?;
    f.with(r, "filter_metadata", |r, node| {
        let Value::Map(entries) = &node.value else {
            r.wrong_type(node, "a map");
            return None;
        };
        let lb = entries.iter().find(|e| e.key == "mosn.lb")?;
        r.at("mosn.lb", |r| pairs(r, &lb.node))
    })
    .filter(|m| !m.is_empty())
}

fn pairs(r: &mut Reader, node: &Node) -> Option<MetadataMatch> {
    let Value::Map(entries) = &node.value else {
        r.wrong_type(node, "a map");
        return None;
    };
    let read = entries.iter().filter_map(|e| Some((e.key.clone(), r.at(&e.key, |r| r.text(&e.node))?)));
    Some(MetadataMatch::new(read.collect::<Vec<_>>()))
}

fn decimal(r: &mut Reader, fields: &Fields<'_>, key: &str, range: RangeInclusive<f64>) -> Option<Decimal> {
    let value = fields.real(r, key, range)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is far within u32")]
    Some(Decimal((value * 1e6).round() as u32))
}

/// Places of a table or points on a ring, at most.
const POINTS_MAX: u64 = 8 << 20;
