//! Whether a request is tried again, and how long its tries may take. Decides; never does.
//!
//! **Invariant:** what may have reached an origin is sent again only if doing it twice is doing it once, or the file says so; and never once
//! the time for the whole request is over.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, ErrorKind, Retry};
use super::grpc;
use crate::config::schema::RetryPolicy;
use crate::message::{Exchange, FieldId, Head};
use crate::router::Forward;
use crate::stream::client::SendError;
use crate::upstream::ConnectError;

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Tries<'r> {
    policy: Option<&'r RetryPolicy>,
    idempotent: bool,
    /// Retries by the policy so far.
    retries: u32,
    timeout: Option<Duration>,
    try_timeout: Option<Duration>,
    /// What a client of gRPC or RPC gives all of it, counted from when it has asked.
    deadline: Option<Duration>,
}

/// How a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// At once: nothing of it has left.
    AtOnce,
    /// At once, on a connection that is new: the one before had been closed while it lay idle.
    Fresh,
    /// Within the budget, after a wait that is drawn from up to this.
    After(Duration),
}

impl<'r> Tries<'r> {
    /// For a request of this route.
    pub(super) fn new(forward: &'r Forward, head: &Head) -> Self {
        let (asked, head) = (head.rpc().and_then(|head| head.timeout), head.fields());
        let (mut timeout, mut try_timeout) = (forward.timeout, forward.try_timeout);
        if let Some(asked) = head.and_then(|head| head.get_id(FieldId::GlobalTimeout)) {
            timeout = shorter(timeout, asked);
        }
        if let Some(asked) = head.and_then(|head| head.get_id(FieldId::TryTimeout)) {
            try_timeout = shorter(try_timeout, asked);
        }
        if asked.is_some() && !forward.sets_timeout {
            // A frame says how long its client waits; where the file does not, that is all there is to go by (MOSN).
            timeout = asked;
        }
        let deadline = asked.or_else(|| head.and_then(grpc::deadline));
        if let Some(deadline) = deadline {
            timeout = Some(timeout.map_or(deadline, |timeout| timeout.min(deadline)));
        }
        Self {
            deadline,
            policy: forward.retry.as_deref(),
            idempotent: head.is_some_and(|head| head.method().is_idempotent()),
            retries: 0,
            timeout,
            try_timeout: try_timeout.filter(|one| timeout.is_none_or(|all| *one < all)),
        }
    }

    /// Whether a request whose body has to be kept for it may be sent again.
    pub(super) fn may_repeat(&self) -> bool {
        self.policy.is_some_and(|policy| self.idempotent || policy.non_idempotent)
    }

    /// After a try that brought no answer, of a cluster with so many hosts.
    pub(super) fn after_error(&mut self, error: &Error, hosts: usize, x: &Exchange) -> Option<Again> {
        // One host alone gets a second try too: its idle connection may just have been closed.
        if x.attempts < u32::try_from(hosts).unwrap_or(u32::MAX).clamp(2, HOSTS_MAX) {
            match error.retry {
                Retry::Always => return Some(Again::AtOnce),
                Retry::Idempotent if self.idempotent => return Some(Again::Fresh),
                Retry::Idempotent | Retry::Never => {}
            }
        }
        let on = self.policy?.on;
        let wanted = match &error.kind {
            ErrorKind::Connect(e) => on.reset && !matches!(e, ConnectError::Exhausted(_)),
            ErrorKind::Send(
                SendError::Closed { .. } | SendError::Truncated | SendError::Refused | SendError::Reset(_),
            ) => on.reset,
            ErrorKind::Send(SendError::Timeout) => on.timeout,
            _ => false,
        };
        if wanted { self.by_policy(x) } else { None }
    }

    /// After an answer.
    #[inline]
    pub(super) fn after_status(&mut self, status: u16, x: &Exchange) -> Option<Again> {
        if self.policy?.takes_status(status) { self.by_policy(x) } else { None }
    }

    fn by_policy(&mut self, x: &Exchange) -> Option<Again> {
        let policy = self.policy?;
        if self.retries >= policy.retries_max || !self.may_repeat() || self.left(x).is_some_and(|left| left.is_zero()) {
            return None;
        }
        let doubled = policy.back_off_base.saturating_mul(1 << self.retries.min(DOUBLINGS_MAX));
        self.retries += 1;
        Some(Again::After(doubled.min(policy.back_off_max)))
    }

    /// From the request sent to the answer's head, for the next try; None: no limit.
    pub(super) fn timeout(&self, x: &Exchange) -> Option<Duration> {
        // The first try has all the time, counted from when the request has been sent; later ones have what is left of it.
        let all = if x.attempts <= 1 { self.timeout } else { self.left(x) };
        match (all, self.try_timeout) {
            (Some(all), Some(one)) => Some(all.min(one)),
            (all, one) => all.or(one),
        }
    }

    /// The client's own deadline, which also runs while its request is on its way.
    pub(super) fn deadline(&self, x: &Exchange) -> Option<Instant> {
        self.deadline.map(|all| x.started + all)
    }

    /// What is left of the whole request's time.
    pub(super) fn left(&self, x: &Exchange) -> Option<Duration> {
        self.timeout.map(|all| all.saturating_sub(Instant::now().saturating_duration_since(x.started)))
    }
}

/// What a field asks for in milliseconds, where that is less: no client gets more time than the file gives it.
fn shorter(limit: Option<Duration>, field: &[u8]) -> Option<Duration> {
    let asked = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok()).filter(|millis| *millis > 0);
    let asked = asked.map(Duration::from_millis);
    match (limit, asked) {
        (Some(limit), Some(asked)) => Some(limit.min(asked)),
        (limit, asked) => limit.or(asked),
    }
}

/// Hosts that one request may try before a byte of it has left, the first included (MOSN: three).
pub(super) const HOSTS_MAX: u32 = 3;

/// A wait is not doubled more often; `back_off_max` is far below that.
const DOUBLINGS_MAX: u32 = 20;

#[cfg(test)]
mod tests {
    use std::io;
    use std::rc::Rc;

    use super::*;
    use crate::config::schema::ClusterId;
    use crate::config::{Address, Config};
    use crate::message::{Body, Downstream, HttpHead, Request};
    use crate::router::{RouteAction, Router};

    fn router(policy: &str) -> Router {
        let text = format!(
            "servers: [{{routers: [{{router_config_name: r, virtual_hosts: [{{routers: [{{route: {{cluster_name: a, timeout: 5s{policy}}}}}]}}]}}]}}]\n\
             cluster_manager: {{clusters: [{{name: a, hosts: [{{address: \"127.0.0.1:1\"}}]}}]}}\n"
        );
        let (config, _) = Config::parse(&text, "t").unwrap_or_else(|e| panic!("{e:?}"));
        Router::new(&config.server.routers[0], |_| Some(ClusterId(0)), Duration::from_secs(60)).unwrap()
    }

    fn exchange(method: &str, fields: &[(&str, &str)]) -> Exchange {
        let mut head = HttpHead::request(method, b"/");
        for (name, value) in fields {
            head.append(name, value.as_bytes());
        }
        let address = || "192.0.2.7:4000".parse::<Address>().unwrap();
        let downstream = Downstream::new(1, address(), address(), false);
        Exchange::new(Request { head: Head::Http(head), body: Body::Empty }, Rc::new(downstream))
    }

    fn tries<'r>(router: &'r Router, x: &Exchange) -> Tries<'r> {
        let RouteAction::Forward(forward) = &router.routes().next().unwrap().course().action else {
            panic!("no forward")
        };
        Tries::new(forward, &x.request.head)
    }

    fn reset(reused: bool) -> Error {
        Error::from(SendError::Closed { reused })
    }

    #[tokio::test]
    async fn before_a_byte_has_left_three_hosts_are_tried() {
        let (router, mut x) = (router(""), exchange("POST", &[]));
        let mut tries = tries(&router, &x);
        let refused = || Error::from(ConnectError::Failed(io::ErrorKind::ConnectionRefused.into()));
        for (attempts, again) in [(1, Some(Again::AtOnce)), (2, Some(Again::AtOnce)), (3, None)] {
            x.attempts = attempts;
            assert_eq!(tries.after_error(&refused(), 3, &x), again, "{attempts}");
        }
        x.attempts = 1;
        assert_eq!(tries.after_error(&Error::from(ConnectError::Exhausted(io::ErrorKind::Other.into())), 3, &x), None);
        assert_eq!(tries.after_error(&reset(true), 3, &x), None, "a POST may have been done");
        assert_eq!(tries.after_status(503, &x), None);
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_is_not_the_requests_fault() {
        let (router, mut x) = (router(""), exchange("GET", &[]));
        x.attempts = 1;
        let mut tries = tries(&router, &x);
        assert_eq!(tries.after_error(&reset(true), 3, &x), Some(Again::Fresh));
        assert_eq!(tries.after_error(&reset(false), 3, &x), None);
    }

    #[tokio::test]
    async fn a_policy_is_honoured() {
        let ms = Duration::from_millis;
        let on = "retry_on: true, retry_back_off: {base_interval: 10ms, max_interval: 30ms}";
        let timeout = || Error::from(SendError::Timeout);
        for (policy, method, outcome, agains) in [
            ("retry_on: true", "GET", Ok(500), vec![ms(25), ms(50), ms(100)]),
            (on, "GET", Ok(599), vec![ms(10), ms(20), ms(30)]),
            ("retry_on: true, num_retries: 1", "PUT", Ok(503), vec![ms(25)]),
            ("retry_on: true, num_retries: 0", "GET", Ok(503), vec![]),
            ("retry_on: true", "GET", Ok(404), vec![]),
            ("retry_on: true, status_codes: [404], num_retries: 1", "GET", Ok(404), vec![ms(25)]),
            ("retry_on: true, status_codes: [404], num_retries: 1", "GET", Ok(503), vec![]),
            ("retry_on: true, num_retries: 1", "POST", Ok(503), vec![]),
            ("retry_on: true, num_retries: 1, retry_non_idempotent: true", "POST", Ok(503), vec![ms(25)]),
            ("retry_on: false, num_retries: 1", "GET", Ok(503), vec![]),
            ("retry_on: true, num_retries: 1", "GET", Err(reset(false)), vec![ms(25)]),
            ("retry_on: true, num_retries: 1", "GET", Err(timeout()), vec![ms(25)]),
            ("retry_on: 'gateway-error, reset', num_retries: 1", "GET", Err(timeout()), vec![]),
            ("retry_on: 'gateway-error, reset', num_retries: 1", "GET", Ok(504), vec![ms(25)]),
            ("retry_on: 'gateway-error', num_retries: 1", "GET", Ok(500), vec![]),
            ("retry_on: 'retriable-4xx', num_retries: 1", "GET", Ok(409), vec![ms(25)]),
            ("retry_on: '5xx', num_retries: 1", "GET", Err(Error::from(SendError::Unexpected)), vec![]),
        ] {
            let (router, mut x) = (router(&format!(", retry_policy: {{{policy}}}")), exchange(method, &[]));
            let mut tries = tries(&router, &x);
            x.attempts = 3;
            let mut found = Vec::new();
            while let Some(again) = match &outcome {
                Ok(status) => tries.after_status(*status, &x),
                Err(error) => tries.after_error(error, 3, &x),
            } {
                let Again::After(wait) = again else { panic!("{again:?}") };
                found.push(wait);
            }
            assert_eq!(found, agains, "{policy} {method} {outcome:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_for_all_tries_together() {
        let (router, mut x) = (router(", retry_policy: {retry_on: true, retry_timeout: 3s}"), exchange("GET", &[]));
        let mut tries = tries(&router, &x);
        let secs = |n| Some(Duration::from_secs(n));
        x.attempts = 1;
        assert_eq!(tries.timeout(&x), secs(3));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(tries.after_error(&Error::from(SendError::Timeout), 3, &x).is_some());
        x.attempts = 2;
        assert_eq!(tries.timeout(&x), secs(2));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(tries.after_status(503, &x), None, "the time is over");
    }

    #[tokio::test]
    async fn a_request_may_ask_for_less_time() {
        for (fields, timeout) in [
            (&[("X-Mosn-Global-Timeout", "700")][..], 700),
            (&[("x-mosn-try-timeout", "200")], 200),
            (&[("x-mosn-global-timeout", "100"), ("x-mosn-try-timeout", "200")], 100),
            (&[("x-mosn-global-timeout", "60000")], 3000),
            (&[("x-mosn-global-timeout", "-1"), ("x-mosn-try-timeout", "0")], 3000),
            (&[("x-mosn-global-timeout", "soon")], 3000),
            (&[("grpc-timeout", "200m")], 200),
            (&[("grpc-timeout", "1H")], 3000),
            (&[("grpc-timeout", "200")], 3000),
        ] {
            let (router, mut x) = (router(", retry_policy: {retry_timeout: 3s}"), exchange("GET", fields));
            x.attempts = 1;
            let found = tries(&router, &x).timeout(&x);
            assert_eq!(found, Some(Duration::from_millis(timeout)), "{fields:?}");
        }
    }
}
