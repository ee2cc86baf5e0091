//! `fault`: lets requests wait, or fail, on purpose.
//!
//! **Invariant:** a request that is not drawn passes untouched; one that waits holds no origin's connection.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::sleep;

use super::fields::all_hold;
use super::per_route::PerRoute;
use super::set::{Ground, Tally};
use super::share::Share;
use super::{Filter, Phase, Verdict};
use crate::config::schema::{Abort, ClusterId, Delay, Fault, FieldMatch};
use crate::message::{Exchange, ResponseFlags};
use crate::router::{Chosen, Route, RouteAction};

/// The filter.
pub(super) struct FaultFilter {
    settings: PerRoute<Settings>,
    delayed: Arc<Tally>,
    aborted: Arc<Tally>,
}

struct Settings {
    delay: Option<(Delay, Share)>,
    abort: Option<(Abort, Share)>,
    target: Target,
    fields: Vec<FieldMatch>,
}

/// Which clusters' requests are meant.
enum Target {
    Any,
    /// Those to this one.
    Only {
        name: String,
        id: ClusterId,
    },
    /// Nobody's: there is no such cluster.
    None,
}

impl FaultFilter {
    pub(super) fn new(config: &Fault, ground: &Ground<'_>) -> Self {
        let settings = PerRoute::new(config, ground.router, |config, _| Settings::new(config, ground));
        let delayed = ground.tally("ferrogate_filter_fault_delayed", "Requests that fault let wait", &[]);
        let aborted = ground.tally("ferrogate_filter_fault_aborted", "Requests that fault answered", &[]);
        Self { settings, delayed, aborted }
    }
}

impl Filter for FaultFilter {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        if at != Phase::AfterRoute {
            return Verdict::Continue;
        }
        let settings = self.settings.of(route);
        if !settings.is_meant(x, route) {
            return Verdict::Continue;
        }
        let delay = settings.delay.as_ref().filter(|(_, share)| share.draw());
        let abort = settings.abort.as_ref().filter(|(_, share)| share.draw());
        let after = match abort {
            None => Verdict::Continue,
            Some((abort, _)) => {
                self.aborted.inc();
                x.flags.add(ResponseFlags::FAULT_INJECTED);
                Verdict::Refuse { status: abort.status, body: Bytes::new() }
            }
        };
        let Some((delay, _)) = delay else { return after };
        self.delayed.inc();
        x.flags.add(ResponseFlags::DELAY_INJECTED);
        let time = delay.time;
        Verdict::Defer(Box::pin(async move {
            sleep(time).await;
            after
        }))
    }
}

impl Settings {
    fn new(config: &Fault, ground: &Ground<'_>) -> Self {
        let target = match &config.cluster {
            None => Target::Any,
            Some(name) => (ground.cluster)(name).map_or(Target::None, |id| Target::Only { name: name.clone(), id }),
        };
        Self {
            delay: config.delay.map(|d| (d, Share::new(d.percent))),
            abort: config.abort.map(|a| (a, Share::new(a.percent))),
            target,
            fields: config.fields.clone(),
        }
    }

    fn is_meant(&self, x: &Exchange, route: Option<Route<'_>>) -> bool {
        self.target.is_meant(x, route) && all_hold(&self.fields, x.request.head.fields())
    }
}

impl Target {
    fn is_meant(&self, x: &Exchange, route: Option<Route<'_>>) -> bool {
        let (name, id) = match self {
            Self::Any => return true,
            Self::None => return false,
            Self::Only { name, id } => (name, *id),
        };
        let Some(RouteAction::Forward(forward)) = route.map(|r| &r.course().action) else { return false };
        // The proxy chooses by the same number when the filters have let the request pass.
        match forward.choose(|| x.drawn.unwrap_or_default()) {
            Chosen::Cluster(chosen, _) => chosen == id,
            Chosen::Named(variable, _) => Chosen::name(variable, x).is_some_and(|chosen| chosen == name.as_bytes()),
        }
    }
}
