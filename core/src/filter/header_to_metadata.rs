//! `header_to_metadata`: chooses the hosts that a request may go to by its fields.
//!
//! **Invariant:** what a field says narrows the hosts of the cluster that the route chose; it never leads to another cluster.

use super::per_route::PerRoute;
use super::set::Ground;
use super::{Filter, Phase, Verdict};
use crate::config::schema::{HeaderToMetadata, MetadataRule};
use crate::message::Exchange;
use crate::router::Route;

/// The filter.
pub(super) struct HeaderToMetadataFilter {
    settings: PerRoute<Vec<MetadataRule>>,
}

impl HeaderToMetadataFilter {
    pub(super) fn new(config: &HeaderToMetadata, ground: &Ground<'_>) -> Self {
        Self { settings: PerRoute::new(config, ground.router, |config, _| config.rules.clone()) }
    }
}

impl Filter for HeaderToMetadataFilter {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        let decides = if self.settings.is_by_route() { Phase::AfterRoute } else { Phase::BeforeRoute };
        if at == decides {
            self.settings.of(route).iter().for_each(|rule| apply(rule, x));
        }
        Verdict::Continue
    }
}

fn apply(rule: &MetadataRule, x: &mut Exchange) {
    let Some(head) = x.request.head.fields_mut() else { return };
    // No host's metadata says anything that is no text.
    let found = head.get(&rule.header).map(String::from_utf8_lossy);
    let says = match (&found, &rule.present, &rule.missing) {
        (Some(value), Some((key, own)), _) => Some((key, own.as_deref().unwrap_or(value))),
        (None, _, Some((key, value))) => Some((key, value.as_str())),
        _ => None,
    };
    if let Some((key, value)) = says {
        x.metadata.get_or_insert_default().set(key, value);
    }
    if rule.remove && found.is_some() {
        head.remove(&rule.header);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::message::{Body, Downstream, Head, HttpHead, Request};
    use crate::net::Address;

    #[test]
    fn fields_say_what_a_host_must_be() {
        let rule = |present: Option<&str>, missing: Option<&str>, remove| MetadataRule {
            header: "x-stage".into(),
            present: Some(("stage".into(), present.map(str::to_owned))),
            missing: missing.map(|value| ("stage".to_owned(), value.to_owned())),
            remove,
        };
        for (field, rule, says, left) in [
            (Some("blue"), rule(None, Some("green"), false), Some("blue"), true),
            (Some("blue"), rule(Some("red"), None, true), Some("red"), false),
            (None, rule(None, Some("green"), true), Some("green"), false),
            (None, rule(None, None, false), None, false),
        ] {
            let mut head = HttpHead::request("GET", b"/");
            if let Some(value) = field {
                head.append("X-Stage", value.as_bytes());
            }
            let here: Address = "127.0.0.1:1".parse().unwrap();
            let downstream = Downstream::new(1, here.clone(), here, false);
            let request = Request { head: Head::Http(head), body: Body::Empty };
            let mut x = Exchange::new(request, Rc::new(downstream));
            apply(&rule, &mut x);
            assert_eq!(x.metadata.as_ref().and_then(|m| m.get("stage")), says, "{field:?} {rule:?}");
            assert_eq!(x.request.head.fields().unwrap().get("x-stage").is_some(), left, "{field:?} {rule:?}");
        }
    }
}
