//! `mirror`: how many copies a request has where its route has a mirror policy. The proxy sends them.
//!
//! **Invariant:** says how many, never whether or where to: that is the route's policy.

use super::per_route::PerRoute;
use super::set::Ground;
use super::{Filter, Phase, Verdict};
use crate::config::schema::Mirror;
use crate::message::{Copies, Exchange};
use crate::router::Route;

/// The filter.
pub(super) struct MirrorFilter {
    settings: PerRoute<Copies>,
}

impl MirrorFilter {
    pub(super) fn new(config: &Mirror, ground: &Ground<'_>) -> Self {
        let copies = |config: &Mirror, _: &str| Copies { count: config.copies, every_host: config.every_host };
        Self { settings: PerRoute::new(config, ground.router, copies) }
    }
}

impl Filter for MirrorFilter {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        if at == Phase::AfterRoute {
            x.copies = *self.settings.of(route);
        }
        Verdict::Continue
    }
}
