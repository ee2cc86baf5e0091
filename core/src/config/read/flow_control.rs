//! `flowControlFilter`: MOSN's keys, which hold Sentinel's rules, and our own.
//!
//! **Invariant:** a rule that would bound something else than it says is an error.

use std::time::Duration;

use super::route_match::header;
use crate::config::reader::{Fields, Reader};
use crate::config::schema::{FilterConfig, FlowControl, FlowKey, FlowLimit, FlowMode, FlowRule};
use crate::config::tree::{Node, Value};

pub(super) fn flow_control(r: &mut Reader, node: &Node) -> Option<FilterConfig> {
    let fields = r.map(node, "flow_control")?;
    let (enforce, watch) = (fields.boolean(r, "global_switch"), fields.boolean(r, "monitor"));
    let mode = match (enforce.unwrap_or(false), watch.unwrap_or(false)) {
        (true, _) => FlowMode::Enforce,
        (false, true) => FlowMode::Watch,
        (false, false) => FlowMode::Off,
    };
    let keys = [("PATH", FlowKey::Path), ("ARG", FlowKey::Argument), ("URI", FlowKey::Uri)];
    let key = fields.choice(r, "limit_key_type", &keys).unwrap_or_default();
    let action = fields.with(r, "action", |r, node| {
        let fields = r.map(node, "flow_action")?;
        // 0 and an empty text are MOSN's way to leave the default.
        let status = fields.number(r, "status", 0..=599).filter(|s| *s >= 400);
        Some((status, fields.text(r, "body")))
    });
    let (status, body) = action.unwrap_or_default();
    let (status, body) = (status.unwrap_or(STATUS), body.unwrap_or_else(|| BODY.to_owned()));
    let rules = fields.list(r, "rules", rule);
    if mode == FlowMode::Off && !rules.is_empty() {
        r.warn(node.place, "the rules have no effect", "write `global_switch: true`, or `monitor: true` to count only");
    }
    Some(FilterConfig::FlowControl(FlowControl { mode, key, status, body, rules }))
}

fn rule(r: &mut Reader, node: &Node) -> Option<FlowRule> {
    let fields = r.map(node, "flow_rule")?;
    let resource = fields.text(r, "resource");
    let id = fields.with(r, "id", |r, node| match &node.value {
        Value::Int(n) => Some(n.to_string()),
        _ => r.text(node),
    });
    let id = id.filter(|id| !id.is_empty()).or_else(|| resource.clone()).unwrap_or_default();
    let (route, rules) = (fields.text(r, "route"), fields.list(r, "headers", header));
    Some(FlowRule { id, resource, route, fields: rules, limit: limit(r, &fields)? })
}

fn limit(r: &mut Reader, fields: &Fields<'_>) -> Option<FlowLimit> {
    if fields.get("threshold").is_none() {
        fields.missing(r, "threshold");
    }
    let grade = fields.number(r, "grade", 0..=1).unwrap_or(1_u8);
    if grade == 0 {
        return Some(FlowLimit::Concurrency { requests_max: fields.number(r, "threshold", 0..=COUNT_MAX)? });
    }
    let thousandths = fields.with(r, "threshold", thousandths)?;
    let ms = |r: &mut Reader, key, range| fields.number(r, key, range).map(Duration::from_millis);
    // 0 is Sentinel's way to leave the default.
    let interval = ms(r, "statIntervalInMs", 0..=MILLIS_MAX).filter(|i| !i.is_zero()).unwrap_or(SECOND);
    let burst = fields.number(r, "burst", 1..=COUNT_MAX).unwrap_or(0);
    let waits = fields.number(r, "controlBehavior", 0..=1).unwrap_or(0_u8) == 1;
    let queue = ms(r, "maxQueueingTimeMs", 0..=MILLIS_MAX).unwrap_or_default();
    Some(FlowLimit::Rate { thousandths, interval, burst, queue: waits.then_some(queue) })
}

/// A number of requests, maybe with a fraction, in thousandths.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was looked at")]
fn thousandths(r: &mut Reader, node: &Node) -> Option<u64> {
    let number = match node.value {
        Value::Int(n) => n as f64,
        Value::Float(n) => n,
        _ => {
            r.wrong_type(node, "a number");
            return None;
        }
    };
    if !(0.0..=COUNT_MAX as f64).contains(&number) || (number > 0.0 && number < 0.001) {
        r.error(node.place, format!("{number} is not 0 and not between 0.001 and {COUNT_MAX}"), "");
        return None;
    }
    Some((number * 1000.0).round() as u64)
}

const SECOND: Duration = Duration::from_secs(1);
const STATUS: u16 = 509;
const BODY: &str = "current request is limited";
/// A million requests in a millisecond are no limit any more.
const COUNT_MAX: u64 = 1_000_000_000;
/// A day.
const MILLIS_MAX: u64 = 24 * 3600 * 1000;
