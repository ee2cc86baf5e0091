//! `flowControlFilter`: bounds how many requests pass, in a time or at a time, by path, route or field.
//!
//! **Invariant:** a request that is refused by one rule has used up none of another's tokens, and holds no place.

mod limit;

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use tokio::time::sleep;

use self::limit::{Limit, Pass};
use super::fields::all_hold;
use super::per_route::PerRoute;
use super::set::{Ground, Tally};
use super::{Filter, Phase, Verdict};
use crate::config::schema::{FieldMatch, FlowControl, FlowKey, FlowMode, FlowRule};
use crate::message::{Exchange, HttpHead, ResponseFlags};
use crate::router::{Route, with_normal_path};

/// The filter.
pub(super) struct FlowControlFilter {
    settings: PerRoute<Settings>,
    queued: Arc<Tally>,
}

struct Settings {
    mode: FlowMode,
    key: FlowKey,
    status: u16,
    body: Bytes,
    /// In the order of the file.
    rules: Vec<Rule>,
    /// The rules for a resource, by it.
    by_resource: HashMap<Box<[u8]>, Vec<usize>, RandomState>,
    /// The rules for every one.
    for_all: Vec<usize>,
}

struct Rule {
    route: Option<String>,
    fields: Vec<FieldMatch>,
    limit: Arc<Limit>,
    refused: Arc<Tally>,
}

impl FlowControlFilter {
    pub(super) fn new(config: &FlowControl, ground: &Ground<'_>) -> Self {
        let settings = PerRoute::new(config, ground.router, |config, whose| Settings::new(config, whose, ground));
        let help = "Requests that flow control let wait for their turn";
        Self { settings, queued: ground.tally("ferrogate_filter_flow_control_queued", help, &[]) }
    }
}

impl Filter for FlowControlFilter {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        let settings = self.settings.of(route);
        if at != Phase::AfterRoute || settings.mode == FlowMode::Off {
            return Verdict::Continue;
        }
        let Some(wait) = settings.admit(x, route) else {
            x.flags.add(ResponseFlags::RATE_LIMITED);
            return Verdict::Refuse { status: settings.status, body: settings.body.clone() };
        };
        if wait.is_zero() {
            return Verdict::Continue;
        }
        self.queued.inc();
        Verdict::Defer(Box::pin(async move {
            sleep(wait).await;
            Verdict::Continue
        }))
    }
}

impl Settings {
    fn new(config: &FlowControl, whose: &str, ground: &Ground<'_>) -> Self {
        let (mut by_resource, mut for_all) = (HashMap::<Box<[u8]>, Vec<usize>, RandomState>::default(), Vec::new());
        for (place, rule) in config.rules.iter().enumerate() {
            match &rule.resource {
                Some(resource) => by_resource.entry(resource.as_bytes().into()).or_default().push(place),
                None => for_all.push(place),
            }
        }
        Self {
            mode: config.mode,
            key: config.key,
            status: config.status,
            body: Bytes::copy_from_slice(config.body.as_bytes()),
            rules: config.rules.iter().map(|rule| Rule::new(rule, whose, config.mode, ground)).collect(),
            by_resource,
            for_all,
        }
    }

    /// Asks every rule that is for the request. How long it has to wait; None: it is refused.
    fn admit(&self, x: &mut Exchange, route: Option<Route<'_>>) -> Option<Duration> {
        let named = x.request.head.fields().and_then(|head| self.with_resource(head, |r| self.by_resource.get(r)));
        let (mut wait, mut places) = (Duration::ZERO, Vec::new());
        let meant = || {
            let places = named.into_iter().flatten().chain(&self.for_all);
            places.map(|&place| &self.rules[place]).filter(|rule| rule.is_for(x, route))
        };
        for (n, rule) in meant().enumerate() {
            match rule.limit.take() {
                Some(Pass::Token(time)) => wait = wait.max(time),
                Some(Pass::Place(held)) => places.push(Box::new(held) as Box<dyn Any>),
                None => {
                    rule.refused.inc();
                    if self.mode == FlowMode::Enforce {
                        meant().take(n).for_each(|rule| rule.limit.give_back());
                        return None;
                    }
                }
            }
        }
        x.held.append(&mut places);
        Some(if self.mode == FlowMode::Enforce { wait } else { Duration::ZERO })
    }

    /// Shows what of the request the rules go by.
    fn with_resource<R>(&self, head: &HttpHead, f: impl FnOnce(&[u8]) -> R) -> R {
        match self.key {
            FlowKey::Path => with_normal_path(head.path(), f),
            FlowKey::Uri => f(head.path_and_query()),
            FlowKey::Argument => {
                let all = head.path_and_query();
                f(memchr::memchr(b'?', all).map_or(&[], |at| &all[at + 1..]))
            }
        }
    }
}

impl Rule {
    fn new(rule: &FlowRule, whose: &str, mode: FlowMode, ground: &Ground<'_>) -> Self {
        // The words of the rule are its name: as long as they stay, its bucket and its places do.
        let limit = ground.keep(format!("flow {whose} {rule:?}"), || Limit::new(rule.limit));
        let (name, help) = match mode {
            FlowMode::Enforce => ("ferrogate_filter_flow_control_refused", "Requests refused by flow control"),
            FlowMode::Watch | FlowMode::Off => {
                ("ferrogate_filter_flow_control_watched", "Requests that flow control would have refused")
            }
        };
        let labels = [("rule", rule.id.as_str()), ("route", whose)];
        let refused = ground.tally(name, help, if whose.is_empty() { &labels[..1] } else { &labels });
        Self { route: rule.route.clone(), fields: rule.fields.clone(), limit, refused }
    }

    fn is_for(&self, x: &Exchange, route: Option<Route<'_>>) -> bool {
        let by_route = self.route.as_deref().is_none_or(|name| route.is_some_and(|r| r.name() == name));
        by_route && all_hold(&self.fields, x.request.head.fields())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::config::Limits;
    use crate::config::schema::{FilterConfig, FlowLimit, RouterConfig};
    use crate::filter::FilterSet;
    use crate::message::{Body, Downstream, Head, Request};
    use crate::net::Address;

    fn set(requests: u64, status: u16, previous: Option<&FilterSet>) -> FilterSet {
        let interval = Duration::from_secs(3600);
        let limit = FlowLimit::Rate { thousandths: requests * 1000, interval, burst: 0, queue: None };
        let rule = FlowRule { id: "r".into(), resource: Some("/a".into()), route: None, fields: Vec::new(), limit };
        let config =
            FlowControl { mode: FlowMode::Enforce, key: FlowKey::Path, status, body: String::new(), rules: vec![rule] };
        let router = RouterConfig::default();
        let configs = [FilterConfig::FlowControl(config)];
        FilterSet::new(&configs, "l", &router, &|_| None, &Limits::default(), previous)
    }

    fn refused(set: &FilterSet, target: &str) -> Option<u16> {
        let here: Address = "127.0.0.1:1".parse().unwrap();
        let downstream = Downstream::new(1, here.clone(), here, false);
        let request = Request { head: Head::Http(HttpHead::request("GET", target.as_bytes())), body: Body::Empty };
        let mut x = Exchange::new(request, Rc::new(downstream));
        match set.filters[0].on_request(Phase::AfterRoute, &mut x, None) {
            Verdict::Continue => None,
            Verdict::Refuse { status, .. } => Some(status),
            _ => panic!("neither passed nor refused"),
        }
    }

    #[test]
    fn a_reload_keeps_the_bucket_of_a_rule_that_stays_as_it_is() {
        let first = set(1, 509, None);
        assert_eq!([refused(&first, "/a"), refused(&first, "/a"), refused(&first, "/b")], [None, Some(509), None]);
        let same_rule = set(1, 429, Some(&first));
        assert_eq!(refused(&same_rule, "/a?x"), Some(429));
        assert_eq!(same_rule.tallies().iter().map(|t| t.get()).sum::<u64>(), 2, "counters go on too");
        let other_rule = set(2, 429, Some(&same_rule));
        assert_eq!(refused(&other_rule, "/a"), None);
    }
}
