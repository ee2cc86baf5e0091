//! The record of what is relayed, for the access logs: a connection, or a session of datagrams.
//!
//! **Invariant:** its lines are written when it is dropped, whatever became of what it is of.

use std::fmt;
use std::rc::Rc;

use tokio::time::Instant;

use super::access_log::AccessLogs;
use super::error::Error;
use crate::message::{Body, Downstream, Exchange, Head, HttpHead, Request, ResponseFlags};

/// The record.
pub(super) struct Record {
    pub(super) x: Exchange,
    logs: Option<Rc<AccessLogs>>,
}

impl Record {
    pub(super) fn new(downstream: &Rc<Downstream>, protocol: &'static str, logs: Option<&Rc<AccessLogs>>) -> Self {
        let request = Request { head: Head::Http(HttpHead::empty()), body: Body::Empty };
        let mut x = Exchange::new(request, Rc::clone(downstream));
        x.protocol = protocol;
        x.wanted = logs.map(|logs| logs.wanted()).unwrap_or_default();
        Self { x, logs: logs.map(Rc::clone) }
    }

    /// Itself, where there is a log to write it to: memory that what lives for long need not hold otherwise.
    pub(super) fn only_if_logged(self: Box<Self>) -> Option<Box<Self>> {
        self.logs.is_some().then_some(self)
    }

    /// There was no host for it.
    pub(super) fn fail(&mut self, error: &Error) {
        self.x.flags.add(error.flags());
        if self.x.wanted.failure {
            self.x.notes_mut().failure = error.transport_failure();
        }
    }

    /// It is over: bytes that came from the client and went to it, and what is wrong with how it ended.
    pub(super) fn end(&mut self, (received, sent): (u64, u64), wrong: Option<ResponseFlags>) {
        (self.x.bytes_received, self.x.bytes_sent) = (received, sent);
        if let Some(flags) = wrong {
            self.x.flags.add(flags);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(logs) = &self.logs {
            logs.write(&self.x, Instant::now());
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("downstream", &self.x.downstream).finish_non_exhaustive()
    }
}
