//! `payload_limit`: refuses requests whose body is too large.
//!
//! **Invariant:** no origin gets a whole body that is longer than the limit; a body that says its length is refused before its first byte.

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::per_route::PerRoute;
use super::set::{Ground, Tally};
use super::{Filter, Phase, Verdict};
use crate::config::schema::PayloadLimit;
use crate::message::{Body, BodyError, BodyLength, BodySource, Chunk, Exchange, Relay, ResponseFlags};
use crate::router::Route;

/// The filter.
pub(super) struct PayloadLimitFilter {
    settings: PerRoute<PayloadLimit>,
    refused: Arc<Tally>,
}

impl PayloadLimitFilter {
    pub(super) fn new(config: &PayloadLimit, ground: &Ground<'_>) -> Self {
        let settings = PerRoute::new(config, ground.router, |config, _| *config);
        let help = "Requests refused because their body is too large";
        Self { settings, refused: ground.tally("ferrogate_filter_payload_limit_refused", help, &[]) }
    }
}

impl Filter for PayloadLimitFilter {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        let PayloadLimit { body_bytes_max: Some(bytes_max), status } = *self.settings.of(route) else {
            return Verdict::Continue;
        };
        if at != Phase::AfterRoute {
            return Verdict::Continue;
        }
        match x.request.body.length() {
            BodyLength::Exact(bytes) if bytes > bytes_max => {
                self.refused.inc();
                x.flags.add(ResponseFlags::BODY_TOO_LARGE);
                return Verdict::Refuse { status, body: Bytes::new() };
            }
            BodyLength::None | BodyLength::Exact(_) => {}
            // How long it is shows only while it goes by.
            BodyLength::Chunked | BodyLength::UntilClose => {
                if let Body::Streaming(source) = std::mem::take(&mut x.request.body) {
                    let refused = Arc::clone(&self.refused);
                    x.request.body = Body::Streaming(Box::new(Measured { source, left: bytes_max, status, refused }));
                }
            }
        }
        Verdict::Continue
    }
}

/// A body that breaks off when it has grown too long.
struct Measured {
    source: Box<dyn BodySource>,
    left: u64,
    status: u16,
    refused: Arc<Tally>,
}

impl BodySource for Measured {
    fn length(&self) -> BodyLength {
        self.source.length()
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        let chunk = ready!(self.source.poll_chunk(cx))?;
        if let Some(Chunk::Data(bytes)) = &chunk {
            match self.left.checked_sub(bytes.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.refused.inc();
                    return Poll::Ready(Err(BodyError::Refused(self.status)));
                }
            }
        }
        Poll::Ready(Ok(chunk))
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        self.source.poll_beside(cx);
    }

    /// Chunks have to be seen; only bodies without a length come here.
    fn poll_relay(&mut self, _: &mut Context<'_>, _: &mut dyn Any) -> Poll<Result<Relay, BodyError>> {
        Poll::Ready(Ok(Relay::Unsupported))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::config::schema::RouterConfig;
    use crate::filter::FilterSet;

    struct Pieces(Vec<&'static [u8]>);

    impl BodySource for Pieces {
        fn length(&self) -> BodyLength {
            BodyLength::Chunked
        }

        fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
            let piece = (!self.0.is_empty()).then(|| Chunk::Data(Bytes::from_static(self.0.remove(0))));
            Poll::Ready(Ok(piece))
        }
    }

    #[test]
    fn a_body_without_a_length_is_measured_as_it_goes_by() {
        let router = RouterConfig::default();
        let config =
            crate::config::schema::FilterConfig::PayloadLimit(PayloadLimit { body_bytes_max: Some(5), status: 418 });
        let set = FilterSet::new(&[config], "l", &router, &|_| None, &Default::default(), None);
        let refused = Arc::clone(&set.tallies()[0]);
        for (pieces, error) in
            [(vec![&b"abc"[..], b"de"], None), (vec![b"abc", b"def", b"never"], Some(BodyError::Refused(418)))]
        {
            let source = Box::new(Pieces(pieces));
            let mut measured = Measured { source, left: 5, status: 418, refused: Arc::clone(&refused) };
            let mut cx = Context::from_waker(Waker::noop());
            let end = loop {
                match measured.poll_chunk(&mut cx) {
                    Poll::Ready(Ok(Some(_))) => {}
                    Poll::Ready(Ok(None)) => break None,
                    Poll::Ready(Err(e)) => break Some(e),
                    Poll::Pending => panic!("all is there"),
                }
            };
            assert_eq!(end, error);
        }
        assert_eq!(refused.get(), 1);
    }
}
