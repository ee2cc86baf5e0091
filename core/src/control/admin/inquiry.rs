//! What only the plane can answer: its flows, the frames at its ports. The admin API hands such questions on.
//!
//! **Invariant:** a question is bounded by whoever answers it; it never makes a worker wait.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde_json::Value;

use super::Admin;
use super::dump::decoded;
use super::paths::{json_reply, text};
use crate::message::{Body, BodySource, Exchange, Response};
use crate::net::Address;
use crate::proxy::reply::with_body;

/// A plane that can be asked.
pub trait Inquiries: fmt::Debug + Send + Sync {
    /// The answer to a GET of `path`, one of those that are the plane's.
    fn ask(&self, path: &str, question: Question) -> Pin<Box<dyn Future<Output = Answer>>>;
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The query, decoded. A listener goes by its port: `listener` was looked up.
    pub query: Vec<(String, String)>,
    /// Whether the one who asks may see what clients send.
    pub may_see_payload: bool,
}

/// What a plane answers.
pub enum Answer {
    /// A value.
    Json(Value),
    /// A body of this type, which comes while it is read.
    Stream(&'static str, Box<dyn BodySource>),
    /// A status, and why.
    Refused(u16, String),
}

impl Question {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

impl Admin {
    /// Hands a question to the plane. None: it is not for the plane.
    pub(super) async fn inquire(&self, path: &str, query: &str, x: &Exchange) -> Option<Response> {
        if !PATHS.contains(&path) {
            return None;
        }
        let plane = (self.plane)();
        let Some(inquiries) = plane.inquiries else {
            return Some(text(404, format!("the {} plane has no {path}\n", plane.name)));
        };
        let question = match self.question(query, &x.downstream.peer) {
            Ok(question) => question,
            Err(why) => return Some(text(404, why)),
        };
        Some(match inquiries.ask(path, question).await {
            Answer::Json(value) => json_reply(&value),
            Answer::Refused(status, why) => text(status, format!("{why}\n")),
            Answer::Stream(content_type, source) => {
                let mut response = with_body(200, content_type, " ".into());
                response.body = Body::Streaming(source);
                response
            }
        })
    }

    fn question(&self, query: &str, peer: &Address) -> Result<Question, String> {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(key), decoded(value))
        };
        let mut query: Vec<_> = query.split('&').filter(|p| !p.is_empty()).map(pair).collect();
        for (key, value) in query.iter_mut().filter(|(key, _)| key == "listener") {
            let snapshot = self.counters.snapshot.borrow().clone();
            let listener = snapshot.listeners.iter().find(|l| l.config.name == *value);
            let port = listener.and_then(|l| l.config.address.inet()).map(|a| a.port());
            let port = port.ok_or_else(|| format!("there is no listener {value:?} with a port\n"))?;
            (*key, *value) = ("local_port".to_owned(), port.to_string());
        }
        let is_private = matches!(peer, Address::Unix(_));
        Ok(Question { query, may_see_payload: is_private || self.reloads.switches().capture })
    }
}

/// The paths that are the plane's.
const PATHS: [&str; 2] = ["/api/v1/flows", "/api/v1/capture"];
