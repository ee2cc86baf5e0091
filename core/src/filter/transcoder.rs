//! `transcoder`: says what the origin of a request is asked in. The proxy converts.
//!
//! **Invariant:** the choice goes before that of the route; without a rule that takes the request nothing is said.

use super::per_route::PerRoute;
use super::set::Ground;
use super::{Filter, Phase, Verdict};
use crate::config::schema::{Transcoder, TranscoderRule};
use crate::message::Exchange;
use crate::router::Route;

/// The filter.
pub(super) struct TranscoderFilter {
    settings: PerRoute<Vec<TranscoderRule>>,
    before_route: bool,
}

impl TranscoderFilter {
    pub(super) fn new(config: &Transcoder, ground: &Ground<'_>) -> Self {
        let settings = PerRoute::new(config, ground.router, |config, _| config.rules.clone());
        Self { before_route: config.before_route && !settings.is_by_route(), settings }
    }
}

impl Filter for TranscoderFilter {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        let decides = if self.before_route { Phase::BeforeRoute } else { Phase::AfterRoute };
        if at == decides {
            // Another filter's choice stands where no rule takes the request.
            if let Some(rule) = self.settings.of(route).iter().find(|rule| takes(rule, x)) {
                x.upstream_protocol = Some(rule.to);
            }
        }
        Verdict::Continue
    }
}

fn takes(rule: &TranscoderRule, x: &Exchange) -> bool {
    if rule.from.is_some_and(|from| from != x.protocol) {
        return false;
    }
    let Some((name, value)) = &rule.field else { return true };
    let head = x.request.head.fields();
    head.and_then(|head| head.get(name)).is_some_and(|found| found == value.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::config::schema::UpstreamProtocol;
    use crate::message::{Body, Downstream, Head, HttpHead, Request};
    use crate::net::Address;

    #[test]
    fn a_rule_takes_a_protocol_and_a_field() {
        let here: Address = "127.0.0.1:1".parse().unwrap();
        let downstream = Downstream::new(1, here.clone(), here, false);
        let mut head = HttpHead::request("GET", b"/");
        head.append("X-To", b"bolt");
        let x = Exchange::new(Request { head: Head::Http(head), body: Body::Empty }, Rc::new(downstream));
        let rule = |from, field: Option<(&str, &str)>| TranscoderRule {
            from,
            field: field.map(|(name, value)| (name.to_owned(), value.to_owned())),
            to: UpstreamProtocol::Http2,
        };
        for (from, field, takes_it) in [
            (None, None, true),
            (Some("Http1"), None, true),
            (Some("Http2"), None, false),
            (None, Some(("x-to", "bolt")), true),
            (None, Some(("x-to", "bol")), false),
            (Some("Http2"), Some(("x-to", "bolt")), false),
            (None, Some(("x-none", "")), false),
        ] {
            assert_eq!(takes(&rule(from, field), &x), takes_it, "{from:?} {field:?}");
        }
    }
}
