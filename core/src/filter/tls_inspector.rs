//! `tls_inspector`: looks which name a TLS client asks for and which protocols it offers, so that its connection can be routed without its TLS
//! being taken off, and served by the filter chain that is for it.
//!
//! **Invariant:** takes nothing and refuses nobody; what it can't read is a client that asks for nothing.

use super::network::{ListenerFilter, Look};
use crate::codec::client_hello::{Opening, decode};
use crate::config::Limits;
use crate::message::Downstream;

/// The filter.
pub(super) struct TlsInspector {
    bytes_max: usize,
}

impl TlsInspector {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { bytes_max: HELLO_BYTES_MAX.min(limits.head_bytes_max) }
    }
}

impl ListenerFilter for TlsInspector {
    fn on_bytes(&self, downstream: &mut Downstream, bytes: &[u8]) -> Look {
        match decode(bytes, self.bytes_max) {
            None => return Look::More,
            Some(Opening::Clear) => {}
            Some(Opening::Tls(hello)) => {
                let tls = downstream.tls_mut();
                tls.server_name = hello.server_name.map(Into::into);
                tls.offers = Some(hello.protocols.into());
            }
        }
        Look::Done(0)
    }
}

/// A client's first message, in bytes, at most; a longer one is one that asks for nothing. Post-quantum key shares make it some 2 KiB.
const HELLO_BYTES_MAX: usize = 16 * 1024;
