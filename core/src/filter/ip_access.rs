//! `ip_access`: lets clients in or refuses them by their address.
//!
//! **Invariant:** the first rule that names a client decides; an address that can't be read is named by none and is refused.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::per_route::PerRoute;
use super::set::{Ground, Tally};
use super::{Filter, Phase, Verdict};
use crate::config::schema;
use crate::message::{Exchange, HttpHead};
use crate::net::Address;
use crate::router::{Ranges, Route};

/// The filter.
pub(super) struct IpAccessFilter {
    settings: PerRoute<Settings>,
    denied: Arc<Tally>,
}

struct Settings {
    default_allow: bool,
    header: Option<String>,
    rules: Vec<(bool, Ranges)>,
}

impl IpAccessFilter {
    pub(super) fn new(config: &schema::IpAccess, ground: &Ground<'_>) -> Self {
        let settings = PerRoute::new(config, ground.router, |config, _| Settings::new(config));
        let denied = ground.tally("ferrogate_filter_ip_access_denied", "Requests refused by ip_access", &[]);
        Self { settings, denied }
    }
}

impl Filter for IpAccessFilter {
    fn on_request(&self, at: Phase, x: &mut Exchange, route: Option<Route<'_>>) -> Verdict {
        let decides = if self.settings.is_by_route() { Phase::AfterRoute } else { Phase::BeforeRoute };
        if at != decides || self.settings.of(route).allows(&x.downstream.peer, x.request.head.fields()) {
            return Verdict::Continue;
        }
        self.denied.inc();
        Verdict::Refuse { status: 403, body: Bytes::new() }
    }
}

impl Settings {
    fn new(config: &schema::IpAccess) -> Self {
        let rules = config.rules.iter().map(|rule| (rule.allow, Ranges::new(&rule.networks)));
        Self { default_allow: config.default_allow, header: config.header.clone(), rules: rules.collect() }
    }

    fn allows(&self, peer: &Address, head: Option<&HttpHead>) -> bool {
        let address = match self.header.as_deref().and_then(|name| head?.get(name)) {
            None => peer.inet().map(|inet| inet.ip()),
            Some(value) => match last_address(value) {
                None => return false,
                found => found,
            },
        };
        // A client on a unix socket has no address: no rule names it.
        let Some(address) = address else { return self.default_allow };
        let rule = self.rules.iter().find(|(_, ranges)| ranges.contain(address));
        rule.map_or(self.default_allow, |(allow, _)| *allow)
    }
}

/// The last of the addresses in a field like X-Forwarded-For: the one that the nearest proxy wrote, not one that the client made up.
fn last_address(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?.rsplit(',').next()?.trim();
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{IpNetwork, IpRule};

    fn settings(default_allow: bool, header: Option<&str>, rules: &[(bool, &[&str])]) -> Settings {
        let rule = |(allow, networks): &(bool, &[&str])| IpRule {
            allow: *allow,
            networks: networks.iter().map(|n| IpNetwork::parse(n).unwrap()).collect(),
        };
        let rules = rules.iter().map(rule).collect();
        Settings::new(&schema::IpAccess { default_allow, header: header.map(str::to_owned), rules })
    }

    fn peer(ip: &str) -> Address {
        Address::Inet((ip.parse::<IpAddr>().unwrap(), 1).into())
    }

    #[test]
    fn the_first_rule_that_names_a_client_decides() {
        let s = settings(
            false,
            None,
            &[(false, &["10.1.2.3"]), (true, &["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"]), (false, &["0.0.0.0/0"])],
        );
        for (ip, allowed) in [
            ("10.1.2.3", false),
            ("10.1.2.4", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(s.allows(&peer(ip), None), allowed, "{ip}");
        }
        assert!(!s.allows(&Address::Unix("/x".into()), None));
        assert!(settings(true, None, &[(false, &["::/0"])]).allows(&Address::Unix("/x".into()), None));
        assert!(!settings(true, None, &[(false, &["::/0"])]).allows(&peer("1.2.3.4"), None), "all is all");
    }

    #[test]
    fn the_header_counts_where_one_is_named() {
        let s = settings(true, Some("x-real-ip"), &[(false, &["10.0.0.0/8"])]);
        for (value, allowed) in [
            (Some("10.0.0.1"), false),
            (Some("1.1.1.1"), true),
            (Some("1.1.1.1, 10.0.0.1"), false),
            (Some("10.0.0.1,1.1.1.1"), true),
            (Some("[::ffff:10.0.0.1]"), false),
            (Some("nonsense"), false),
            (Some(""), false),
            (None, true),
        ] {
            let mut head = HttpHead::request("GET", b"/");
            if let Some(value) = value {
                head.append("X-Real-IP", value.as_bytes());
            }
            assert_eq!(s.allows(&peer("127.0.0.1"), Some(&head)), allowed, "{value:?}");
        }
    }
}
