//! Stream filters: what looks at a request and its answer on their way, in phases, in the order of the configuration.
//!
//! **Invariant:** a filter is plain code over an [`Exchange`]: it never touches a connection, and a request without filters pays nothing
//! for them.

use std::future::Future;
use std::pin::Pin;

use crate::config::schema::ClusterId;
use crate::message::{Exchange, Request, Response};
use crate::router::Route;

/// One stream filter, made when a configuration is loaded.
pub trait Filter {
    /// Looks at the request. `route` is known from [`Phase::AfterRoute`] on.
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<&Route>) -> Verdict {
        let _ = (at, x, route);
        Verdict::Continue
    }

    /// Looks at the answer's head before it is sent.
    fn on_response(&self, x: &mut Exchange, response: &mut Response) -> Verdict {
        let _ = (x, response);
        Verdict::Continue
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

/// What a filter decides.
pub enum Verdict {
    /// Go on.
    Continue,
    /// Answer this instead.
    Reply(Response),
    /// The filter has to wait for something first.
    Defer(Deferred),
}

/// A verdict that is still to come.
pub type Deferred = Pin<Box<dyn Future<Output = Verdict>>>;

/// A request of a filter's own, to a cluster of the configuration: authorization, rate limits, keys.
pub trait Callout {
    /// Why there was no answer.
    type Error;

    /// Sends `request` to `cluster`.
    fn call(
        &self,
        cluster: ClusterId,
        request: Request,
    ) -> Pin<Box<dyn Future<Output = Result<Response, Self::Error>>>>;
}

/// The filters of one listener, in order.
#[derive(Default)]
pub struct Filters(Vec<Box<dyn Filter>>);

impl Filters {
    /// These, in this order.
    #[must_use]
    pub fn new(filters: Vec<Box<dyn Filter>>) -> Self {
        Self(filters)
    }

    /// Asks each filter in turn; the first that answers ends the round.
    pub async fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<&Route>) -> Option<Response> {
        for filter in &self.0 {
            if let Some(reply) = settle(filter.on_request(at, x, route)).await {
                return Some(reply);
            }
        }
        None
    }

    /// Shows each filter the answer, last filter first; an answer that a filter gives instead takes its place.
    pub async fn on_response(&self, x: &mut Exchange, response: &mut Response) {
        for filter in self.0.iter().rev() {
            if let Some(reply) = settle(filter.on_response(x, response)).await {
                *response = reply;
            }
        }
    }

    /// Tells each filter that the request is over.
    pub fn on_log(&self, x: &Exchange) {
        for filter in &self.0 {
            filter.on_log(x);
        }
    }
}

async fn settle(mut verdict: Verdict) -> Option<Response> {
    loop {
        match verdict {
            Verdict::Continue => return None,
            Verdict::Reply(response) => return Some(response),
            Verdict::Defer(later) => verdict = later.await,
        }
    }
}
