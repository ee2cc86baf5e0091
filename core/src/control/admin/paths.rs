//! What each path of the admin API answers.
//!
//! **Invariant:** what changes something is a POST; what changes the configuration needs its switch and a client on this host.

use std::future::poll_fn;

use bytes::Bytes;
use serde_json::{Value, json};

use super::change::{Change, ChangeError};
use super::dump::{decoded, selected};
use super::{Admin, PlaneReport, State};
use crate::config::schema::LogLevel;
use crate::config::{Address, FILE_BYTES_MAX};
use crate::control::VERSION;
use crate::control::reload::ReloadError;
use crate::message::{Body, Chunk, Exchange, Method, Response};
use crate::proxy::reply::{local_reply, with_body};

impl Admin {
    /// Answers a request.
    pub(super) async fn answer(&self, x: &mut Exchange) -> Response {
        let Some(head) = x.request.head.fields() else { return local_reply(400) };
        let (method, path) = (head.method(), String::from_utf8_lossy(head.path()).into_owned());
        let all = String::from_utf8_lossy(head.path_and_query()).into_owned();
        let query = all.split_once('?').map_or("", |(_, query)| query);
        if let Some(own) = &self.metrics_path {
            return if **own == *path && is_read(method) { self.metrics() } else { local_reply(404) };
        }
        match method {
            Method::Get | Method::Head => match self.inquire(&path, query, x).await {
                Some(answer) => answer,
                None => self.show(&path, query),
            },
            Method::Post => self.change(&path, x).await,
            _ => local_reply(405),
        }
    }

    fn show(&self, path: &str, query: &str) -> Response {
        match path {
            "/" => text(200, HELP.to_owned()),
            "/ready" => self.ready(),
            "/api/v1/version" => text(200, format!("ferrogate {VERSION}\n")),
            "/api/v1/states" => text(200, format!("pid={}&state={}\n", std::process::id(), *self.state.borrow() as u8)),
            "/api/v1/config_dump" => self.config_dump(query),
            "/api/v1/stats" => self.stats(query),
            "/api/v1/features" => keyed(query, json!({ "auto_config": self.reloads.switches().auto_config })),
            "/api/v1/env" => keyed(query, environment()),
            "/api/v1/get_loglevel" => text(200, format!("{}\n", self.log.level().to_uppercase())),
            "/api/v1/dataplane" => json_reply(&plane_json(&(self.plane)())),
            "/metrics" => self.metrics(),
            _ if CHANGES.contains(&path) => local_reply(405),
            _ => text(404, format!("there is no {path}; / lists what there is\n")),
        }
    }

    async fn change(&self, path: &str, x: &mut Exchange) -> Response {
        if !CHANGES.contains(&path) {
            return if self.show(path, "").head.fields().is_some_and(|h| h.status() == 404) {
                local_reply(404)
            } else {
                local_reply(405)
            };
        }
        let body = match collected(std::mem::take(&mut x.request.body)).await {
            Ok(body) => body,
            Err(status) => return local_reply(status),
        };
        match path {
            "/api/v1/reload" => reloaded(self.reloads.reload("the admin API").await),
            "/api/v1/drain_listeners" | "/drain_listeners" => {
                self.drain.notify_one();
                text(200, "draining\n".into())
            }
            "/api/v1/update_loglevel" => self.update_log_level(&body),
            "/api/v1/update_route" | "/debug/update_route" => {
                self.update_config(Change::parse_routes, &body, &x.downstream.peer).await
            }
            _ => self.update_config(Change::parse, &body, &x.downstream.peer).await,
        }
    }

    /// Whether traffic should come here: while it starts or drains it should not.
    fn ready(&self) -> Response {
        match *self.state.borrow() {
            State::Running | State::StartingNewServer => text(200, "ready\n".into()),
            State::Starting => text(503, "starting\n".into()),
            State::GracefulStopping => text(503, "draining\n".into()),
        }
    }

    fn metrics(&self) -> Response {
        let body = self.counters.to_text(&(self.plane)());
        with_body(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", Bytes::from(body))
    }

    fn config_dump(&self, query: &str) -> Response {
        let config = serde_json::from_str(&self.reloads.document().redacted_json()).unwrap_or_default();
        match selected(config, query) {
            Some(part) => json_reply(&part),
            None => text(404, "there is no such part: mosnconfig, alllisteners, allrouters, allclusters, listener=, router=, cluster=\n".into()),
        }
    }

    fn stats(&self, query: &str) -> Response {
        let all = self.counters.to_json();
        match query.strip_prefix("key=").map(decoded) {
            None => json_reply(&all),
            Some(key) => match all.get(&key) {
                Some(part) => json_reply(&json!({ key: part })),
                None => text(404, "there is no such group: downstream, listener, upstream\n".into()),
            },
        }
    }

    fn update_log_level(&self, body: &[u8]) -> Response {
        let Ok(wish) = serde_json::from_slice::<Value>(body) else {
            return text(400, "the body is to be {\"log_level\": \"INFO\"}\n".into());
        };
        let level = wish["log_level"].as_str().and_then(|name| {
            LEVELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
        });
        match level {
            Some(level) => {
                self.log.set_level(level);
                text(200, "changed\n".into())
            }
            None => text(400, "log_level is one of OFF, FATAL, ERROR, WARN, INFO, DEBUG, TRACE\n".into()),
        }
    }

    async fn update_config(&self, parse: ParseChange, body: &[u8], peer: &Address) -> Response {
        if !self.reloads.switches().dynamic_config {
            return text(403, "the configuration can't be changed here: control.dynamic_config is off\n".into());
        }
        if !peer.is_host_local() {
            return text(403, "the configuration can be changed from this host only\n".into());
        }
        match parse(body) {
            Ok(change) => {
                let told = |error: ChangeError| ReloadError(vec![error.to_string()]);
                reloaded(self.reloads.change(move |document| change.apply(document).map_err(told)).await)
            }
            Err(why) => text(400, format!("{why}\n")),
        }
    }
}

/// Reads what a client wants changed.
type ParseChange = fn(&[u8]) -> Result<Change, &'static str>;

fn is_read(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head)
}

fn reloaded(result: Result<u64, ReloadError>) -> Response {
    match result {
        Ok(generation) => json_reply(&json!({ "generation": generation })),
        Err(ReloadError(lines)) => text(422, lines.join("\n") + "\n"),
    }
}

/// The whole body of a request, or the status that refuses it.
async fn collected(body: Body) -> Result<Vec<u8>, u16> {
    let mut source = match body {
        Body::Empty => return Ok(Vec::new()),
        Body::Full(bytes) => return Ok(bytes.to_vec()),
        Body::Streaming(source) => source,
    };
    let mut all = Vec::new();
    loop {
        match poll_fn(|cx| source.poll_chunk(cx)).await {
            Ok(Some(Chunk::Data(bytes))) => all.extend_from_slice(&bytes),
            Ok(Some(Chunk::Trailers(_))) => {}
            Ok(None) => return Ok(all),
            Err(_) => return Err(400),
        }
        if all.len() as u64 > FILE_BYTES_MAX {
            return Err(413);
        }
    }
}

/// One value of a map, or the map.
fn keyed(query: &str, mut map: Value) -> Response {
    match query.strip_prefix("key=").map(decoded) {
        None => json_reply(&map),
        Some(key) => match map.get_mut(&key).map(Value::take) {
            Some(value) => json_reply(&json!({ key: value })),
            None => text(404, format!("there is no {key}\n")),
        },
    }
}

/// What of the environment the gateway looks at. Not all of it: others keep secrets there.
fn environment() -> Value {
    let value = |name: &&str| ((*name).to_owned(), std::env::var(name).map_or(Value::Null, Value::from));
    Value::Object(ENVIRONMENT.iter().map(value).collect())
}

fn plane_json(plane: &PlaneReport) -> Value {
    let numbers: Vec<_> = plane
        .numbers
        .iter()
        .map(|n| {
            let labels: serde_json::Map<_, _> = n.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
            json!({ "name": n.name, "labels": labels, "value": n.value })
        })
        .collect();
    json!({ "plane": plane.name, "fallback_reason": plane.fallback_reason, "ports": plane.ports, "counters": numbers })
}

pub(super) fn text(status: u16, body: String) -> Response {
    with_body(status, "text/plain; charset=utf-8", Bytes::from(body))
}

pub(super) fn json_reply(value: &Value) -> Response {
    with_body(200, "application/json", Bytes::from(format!("{value:#}\n")))
}

/// The paths that are POSTs.
const CHANGES: &[&str] = &[
    "/api/v1/reload",
    "/api/v1/update_loglevel",
    "/api/v1/drain_listeners",
    "/drain_listeners",
    "/api/v1/update_config",
    "/debug/update_config",
    "/api/v1/update_route",
    "/debug/update_route",
];

const LEVELS: &[(&str, LogLevel)] = &[
    ("OFF", LogLevel::Off),
    ("FATAL", LogLevel::Error),
    ("ERROR", LogLevel::Error),
    ("WARN", LogLevel::Warn),
    ("INFO", LogLevel::Info),
    ("DEBUG", LogLevel::Debug),
    ("TRACE", LogLevel::Trace),
];

const ENVIRONMENT: &[&str] = &["MOSN_CONFIG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "TZ"];

const HELP: &str = "\
Ferrogate admin API
  /ready                     200 while traffic should come here
  /api/v1/version            the version
  /api/v1/states             the process id and its state (6 is running, 8 is draining)
  /api/v1/config_dump        the configuration in force; ?mosnconfig ?alllisteners ?allrouters ?allclusters ?listener= ?router= ?cluster=
  /api/v1/stats              every counter, as JSON; ?key=downstream
  /api/v1/features           feature gates; ?key=
  /api/v1/env                what of the environment the gateway looks at; ?key=
  /api/v1/get_loglevel       what is logged
  /api/v1/dataplane          the plane, its ports, drivers and packet counters, as JSON
  /api/v1/flows              TCP flows of the DPDK plane; ?address= ?port= ?state= ?listener= ?age= ?idle= ?bytes= ?limit=
  /api/v1/capture            frames at its ports, as pcapng; ?filter= ?bytes= ?packets= ?seconds= ?kept=; by a unix socket, or with control.capture
  /metrics                   every counter, for Prometheus
POST:
  /api/v1/reload             reads the file again and puts it in force, or says what is wrong with it
  /api/v1/update_loglevel    {\"log_level\": \"DEBUG\"}
  /api/v1/drain_listeners    accepts no more, finishes what runs, and ends
  /api/v1/update_config      {\"type\": \"listener\"|\"router\"|\"cluster\", \"config\": {...}}; needs control.dynamic_config
  /api/v1/update_route       {\"type\": \"add\"|\"remove\", \"config\": {\"router_config_name\": \"...\", \"domain\": \"*\", \"route\": {...}}}; the same
";
