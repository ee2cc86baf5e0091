//! `proxy_protocol`: a header at the start of a connection says whose it is; logs, fields, hashes and routes go by that.
//!
//! **Invariant:** who is not trusted is not believed, and who is trusted must say it: nothing is guessed from what stands there.

use super::network::{ListenerFilter, Look};
use crate::codec::proxy_protocol::{Header, decode};
use crate::config::Limits;
use crate::config::schema::IpNetwork;
use crate::message::Downstream;
use crate::net::Address;
use crate::router::Ranges;

/// The filter.
pub(super) struct ProxyProtocol {
    /// None: everybody.
    trusted: Option<Ranges>,
    bytes_max: usize,
}

impl ProxyProtocol {
    pub(super) fn new(trusted: Option<&[IpNetwork]>, limits: &Limits) -> Self {
        Self { trusted: trusted.map(Ranges::new), bytes_max: limits.proxy_header_bytes_max }
    }
}

impl ListenerFilter for ProxyProtocol {
    fn wants(&self, downstream: &Downstream) -> bool {
        let Some(trusted) = &self.trusted else { return true };
        downstream.peer.inet().is_some_and(|peer| trusted.contain(peer.ip()))
    }

    fn on_bytes(&self, downstream: &mut Downstream, bytes: &[u8]) -> Look {
        match decode(bytes, self.bytes_max) {
            Ok(None) => Look::More,
            Ok(Some((header, len))) => {
                if let Header::Proxied { source, destination } = header {
                    (downstream.peer, downstream.local) = (Address::Inet(source), Address::Inet(destination));
                }
                Look::Done(len)
            }
            Err(error) => {
                tracing::debug!(peer = %downstream.peer, %error, "a connection is refused");
                Look::Refuse
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn downstream(peer: &str) -> Downstream {
        Downstream::new(1, peer.parse().unwrap(), "10.0.0.9:80".parse().unwrap(), false)
    }

    #[test]
    fn the_trusted_say_who_it_is_and_must() {
        let limits = Limits::default();
        let trusted = [IpNetwork::parse("10.0.0.0/8").unwrap()];
        let filter = ProxyProtocol::new(Some(&trusted), &limits);
        assert!(filter.wants(&downstream("10.1.1.1:5")) && !filter.wants(&downstream("11.1.1.1:5")));
        assert!(
            !filter.wants(&downstream("unix:/a")) && ProxyProtocol::new(None, &limits).wants(&downstream("unix:/a"))
        );
        let mut d = downstream("10.1.1.1:5");
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
        assert_eq!(filter.on_bytes(&mut d, &line[..20]), Look::More);
        assert_eq!(filter.on_bytes(&mut d, &[line, &b"GET"[..]].concat()), Look::Done(line.len()));
        assert_eq!((d.peer.to_string(), d.local.to_string()), ("192.0.2.1:56324".into(), "192.0.2.2:443".into()));
        let mut d = downstream("10.1.1.1:5");
        assert_eq!(filter.on_bytes(&mut d, b"PROXY UNKNOWN\r\n"), Look::Done(15));
        assert_eq!(d.peer.to_string(), "10.1.1.1:5", "the sender's own");
        assert_eq!(filter.on_bytes(&mut d, b"GET / HTTP/1.1"), Look::Refuse);
    }
}
