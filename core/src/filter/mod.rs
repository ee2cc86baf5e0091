//! Filters: what looks at connections and requests on their way, in phases, in the order of the configuration.
//!
//! Before the codec there are listener filters, which see a connection's first bytes, and network filters, which let it in or not
//! ([`network`]). Behind it there are stream filters, one round per phase of a request ([`Filter`]).
//!
//! **Invariant:** a filter is plain code over an [`Exchange`]: it never touches a connection, and a request without filters pays nothing
//! for them.

mod body;
mod fault;
mod fields;
mod flow_control;
mod gzip;
mod header_to_metadata;
mod ip_access;
mod mirror;
pub mod network;
mod payload_limit;
mod per_route;
mod proxy_protocol;
mod set;
mod share;
mod tls_inspector;
mod transcoder;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::schema::ClusterId;
use crate::message::{Body, Chunk, Exchange, Request, Response};
use crate::router::Route;

pub use set::{FilterSet, Ground, Tally};

/// One stream filter, made when a configuration is loaded.
pub trait Filter {
    /// Looks at the request. `route` is known from [`Phase::AfterRoute`] on.
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        let _ = (at, x, route);
        Verdict::Continue
    }

    /// Looks at the answer before it is sent; may put another body in the place of its body.
    fn on_response(&self, x: &mut Exchange, response: &mut Response, route: Option<Route<'_>>) -> Verdict {
        let _ = (x, response, route);
        Verdict::Continue
    }

    /// Whether the filter wants to see bodies that go this way. A body that a filter sees can't cross from connection to connection unseen.
    fn wants_data(&self, direction: Direction) -> bool {
        let _ = direction;
        false
    }

    /// Looks at a piece of a body, and may change it. An empty piece is not passed on.
    fn on_data(&self, direction: Direction, chunk: &mut Chunk) {
        let _ = (direction, chunk);
    }

    /// The request is over, whatever became of it.
    fn on_log(&self, x: &Exchange) {
        let _ = x;
    }
}

/// When a filter looks at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its head is complete.
    BeforeRoute,
    /// Its route is known.
    AfterRoute,
    /// Its host is known.
    AfterChooseHost,
}

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the origin.
    Request,
    /// To the client.
    Response,
}

/// What a filter decides.
pub enum Verdict {
    /// Go on.
    Continue,
    /// Answer this instead.
    Reply(Response),
    /// Answer with this status instead, and with this text where there is any.
    Refuse {
        /// The status.
        status: u16,
        /// The text; empty: the status by name.
        body: Bytes,
    },
    /// The request has changed: find its route again. Counts once the route is known, at most [`REMATCHES_MAX`] times.
    ReMatchRoute,
    /// Take another host. Counts once the host is known, as one of the hosts that a request may try.
    ReChooseHost,
    /// The filter has to wait for something first.
    Defer(Deferred),
}

/// A verdict that is still to come.
pub type Deferred = Pin<Box<dyn Future<Output = Verdict>>>;

/// What a round of the filters came to.
pub enum Round {
    /// All of them let it pass.
    Passed,
    /// One of them answers instead.
    Reply(Response),
    /// One of them answers with a status of ours instead.
    Refuse(u16, Bytes),
    /// The route is to be found again.
    ReMatchRoute,
    /// Another host is to be taken.
    ReChooseHost,
}

/// A request of a filter's own, to a cluster of the configuration: authorization, rate limits, keys.
pub trait Callout {
    /// Sends `request` to `cluster`.
    fn call(
        &self,
        cluster: ClusterId,
        request: Request,
    ) -> Pin<Box<dyn Future<Output = Result<Response, CalloutError>>>>;
}

/// There was no answer to a callout. Holds the status that a client would have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalloutError(pub u16);

/// The filters of one listener as one worker uses them, in order.
#[derive(Default)]
pub struct Filters(Vec<Box<dyn Filter>>);

impl Filters {
    /// These, in this order.
    #[must_use]
    pub fn new(filters: Vec<Box<dyn Filter>>) -> Self {
        Self(filters)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks each filter in turn; the first that does not let the request pass ends the round.
    pub async fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Round {
        for filter in &self.0 {
            match settle(filter.on_request(at, x, route)).await {
                Round::Passed => {}
                other => return other,
            }
        }
        Round::Passed
    }

    /// Shows each filter the answer, last filter first; an answer that a filter gives instead takes its place.
    pub async fn on_response(&self, x: &mut Exchange, response: &mut Response, route: Option<Route<'_>>) {
        for filter in self.0.iter().rev() {
            if let Round::Reply(reply) = settle(filter.on_response(x, response, route)).await {
                *response = reply;
            }
        }
    }

    /// The body as the filters let it pass.
    #[must_use]
    pub fn on_body(self: &Rc<Self>, direction: Direction, body: Body) -> Body {
        if self.0.iter().any(|filter| filter.wants_data(direction)) {
            body::filtered(Rc::clone(self), direction, body)
        } else {
            body
        }
    }

    /// Tells each filter that the request is over.
    pub fn on_log(&self, x: &Exchange) {
        for filter in &self.0 {
            filter.on_log(x);
        }
    }

    fn on_data(&self, direction: Direction, chunk: &mut Chunk) {
        for filter in self.0.iter().filter(|filter| filter.wants_data(direction)) {
            filter.on_data(direction, chunk);
        }
    }
}

/// A filter that all workers share.
impl<F: Filter + ?Sized> Filter for Arc<F> {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        (**self).on_request(at, x, route)
    }

    fn on_response(&self, x: &mut Exchange, response: &mut Response, route: Option<Route<'_>>) -> Verdict {
        (**self).on_response(x, response, route)
    }

    fn wants_data(&self, direction: Direction) -> bool {
        (**self).wants_data(direction)
    }

    fn on_data(&self, direction: Direction, chunk: &mut Chunk) {
        (**self).on_data(direction, chunk);
    }

    fn on_log(&self, x: &Exchange) {
        (**self).on_log(x);
    }
}

impl fmt::Display for CalloutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a callout was not answered: a client would have been told {}", self.0)
    }
}

impl std::error::Error for CalloutError {}

async fn settle(mut verdict: Verdict) -> Round {
    loop {
        match verdict {
            Verdict::Continue => return Round::Passed,
            Verdict::Reply(response) => return Round::Reply(response),
            Verdict::Refuse { status, body } => return Round::Refuse(status, body),
            Verdict::ReMatchRoute => return Round::ReMatchRoute,
            Verdict::ReChooseHost => return Round::ReChooseHost,
            Verdict::Defer(later) => verdict = later.await,
        }
    }
}

/// How often the route of one request may be found again.
pub const REMATCHES_MAX: u32 = 4;
