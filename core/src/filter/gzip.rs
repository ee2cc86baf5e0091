//! `gzip`: compresses answers, by gzip, brotli or zstd as the client takes them.
//!
//! **Invariant:** an answer is compressed at most once, never against the client's word or the origin's, and what is left of its head says
//! the truth about the compressed body (RFC 9110, 8.4 and 8.8.3; RFC 9111, 5.2.2.6).

mod body;
mod encoder;
mod negotiate;

use std::sync::Arc;

use bytes::Bytes;

use self::body::{Compressed, Counts, Slots};
use self::encoder::{Encoder, PIECE_BYTES_MAX};
use super::per_route::PerRoute;
use super::set::{Ground, Tally};
use super::{Filter, Verdict};
use crate::config::schema::{Coding, Gzip};
use crate::message::{Body, BodyLength, Exchange, Head, HttpHead, Method, Response};
use crate::router::Route;

/// The filter.
pub(super) struct GzipFilter {
    settings: PerRoute<Gzip>,
    slots: Arc<Slots>,
    slots_max: usize,
    counts: Counts,
    /// Answers by coding.
    answers: [Arc<Tally>; 3],
    limited: Arc<Tally>,
}

impl GzipFilter {
    pub(super) fn new(config: &Gzip, ground: &Ground<'_>) -> Self {
        let settings = PerRoute::new(config, ground.router, |config, _| config.clone());
        let tally = |name, help| ground.tally(name, help, &[]);
        let answers = Coding::ALL.map(|coding| {
            let help = "Answers that were compressed";
            ground.tally("ferrogate_filter_gzip_responses", help, &[("coding", coding.name())])
        });
        let help = "Answers that went as they were because limits.compressions_max others were being compressed";
        Self {
            settings,
            slots: ground.keep("gzip slots".to_owned(), Slots::default),
            slots_max: ground.limits.compressions_max,
            counts: Counts {
                bytes_in: tally("ferrogate_filter_gzip_bytes_in", "Body bytes before they were compressed"),
                bytes_out: tally("ferrogate_filter_gzip_bytes_out", "Body bytes after they were compressed"),
            },
            answers,
            limited: tally("ferrogate_filter_gzip_limited", help),
        }
    }

    /// Compresses a body; how it was, when it can't be.
    fn compress(&self, body: Body, coding: Coding, config: &Gzip) -> Result<Body, Body> {
        if let Body::Full(bytes) = &body
            && bytes.len() <= PIECE_BYTES_MAX
        {
            return whole(bytes, coding, config, &self.counts).map_or(Err(body), |out| Ok(Body::Full(out)));
        }
        let Some(slot) = self.slots.take(self.slots_max) else {
            self.limited.inc();
            return Err(body);
        };
        let Some(encoder) = Encoder::new(coding, config) else { return Err(body) };
        let (in_hand, source) = match body {
            Body::Empty => return Err(Body::Empty),
            Body::Full(bytes) => (bytes, None),
            Body::Streaming(source) => (Bytes::new(), Some(source)),
        };
        Ok(Body::Streaming(Box::new(Compressed::new(in_hand, source, encoder, self.counts.clone(), slot))))
    }
}

impl Filter for GzipFilter {
    fn on_response(&self, x: &mut Exchange, response: &mut Response, route: Option<Route<'_>>) -> Verdict {
        let config = self.settings.of(route);
        let Head::Http(head) = &mut response.head else { return Verdict::Continue };
        if config.codings.is_empty() || !may_be_compressed(head, response.body.length(), config) {
            return Verdict::Continue;
        }
        // Whether it is compressed depends on the request: a cache must know.
        vary(head);
        let Some(request) = x.request.head.fields() else { return Verdict::Continue };
        if request.method() == Method::Head || response.body.is_empty() {
            return Verdict::Continue;
        }
        let Some(coding) = negotiate::choose(values(request, "accept-encoding"), &config.codings) else {
            return Verdict::Continue;
        };
        match self.compress(std::mem::take(&mut response.body), coding, config) {
            Err(body) => response.body = body,
            Ok(body) => {
                response.body = body;
                relabel(head, coding);
                self.answers[coding as usize].inc();
            }
        }
        Verdict::Continue
    }
}

/// Whether the origin's word and the settings allow it.
fn may_be_compressed(head: &HttpHead, length: BodyLength, config: &Gzip) -> bool {
    let status = head.status();
    // 206 is a part of an answer that has a coding already; the others have no body.
    if status < 200 || matches!(status, 204 | 206 | 304) || head.get("content-range").is_some() {
        return false;
    }
    if matches!(length, BodyLength::Exact(bytes) if bytes < config.length_min) {
        return false;
    }
    let coded = values(head, "content-encoding").any(|v| !v.eq_ignore_ascii_case(b"identity"));
    !coded && has_type(head, &config.types) && !has_word(head, "cache-control", b"no-transform")
}

/// Whether the answer's media type, without its parameters, is among `types`.
fn has_type(head: &HttpHead, types: &[String]) -> bool {
    let Some(value) = head.get("content-type") else { return false };
    let media = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    types.iter().any(|t| match t.strip_suffix('*') {
        Some(start) => media.len() >= start.len() && media[..start.len()].eq_ignore_ascii_case(start.as_bytes()),
        None => media.eq_ignore_ascii_case(t.as_bytes()),
    })
}

/// Says that the answer depends on Accept-Encoding, unless it says so.
fn vary(head: &mut HttpHead) {
    if !has_word(head, "vary", b"accept-encoding") && !has_word(head, "vary", b"*") {
        head.append("vary", b"Accept-Encoding");
    }
}

/// What the head says of the body, made true for the compressed one.
fn relabel(head: &mut HttpHead, coding: Coding) {
    // Byte positions and digests are those of the plain body.
    for name in [
        "content-length",
        "content-encoding",
        "accept-ranges",
        "content-md5",
        "digest",
        "repr-digest",
        "content-digest",
    ] {
        head.remove(name);
    }
    head.append("content-encoding", coding.name().as_bytes());
    // The same content, but not the same bytes: a strong validator would be wrong (RFC 9110, 8.8.1).
    let weak = head.get("etag").filter(|tag| tag.starts_with(b"\"")).map(|tag| [b"W/", tag].concat());
    if let Some(weak) = weak {
        head.set("etag", &weak);
    }
}

/// A small body in one go, so that its length can be told.
fn whole(bytes: &Bytes, coding: Coding, config: &Gzip, counts: &Counts) -> Option<Bytes> {
    let mut out = Vec::with_capacity(bytes.len() / 2 + 64);
    let mut encoder = Encoder::new(coding, config)?;
    encoder.write(bytes, &mut out).ok()?;
    encoder.finish(&mut out).ok()?;
    counts.bytes_in.add(bytes.len() as u64);
    counts.bytes_out.add(out.len() as u64);
    Some(Bytes::from(out))
}

/// The values of all fields of this name.
fn values<'h>(head: &'h HttpHead, name: &str) -> impl Iterator<Item = &'h [u8]> {
    head.fields().filter(move |(_, n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, _, value)| value)
}

/// Whether a list of words, in fields of this name, holds this one.
fn has_word(head: &HttpHead, name: &str, word: &[u8]) -> bool {
    values(head, name).flat_map(|v| v.split(|b| *b == b',')).any(|w| w.trim_ascii().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests;
