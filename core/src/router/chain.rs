//! From a connection to the filter chain of its listener that is for it, by Envoy's rules.
//!
//! **Invariant:** a pure function; one criterion after the other, the closest value that fits the connection decides, and what is decided is not
//! taken back: where no chain with that value fits in the rest, none does.

use std::net::SocketAddr;

use super::ranges::holds;
use crate::config::schema::{ChainMatch, HostPattern, IpNetwork};
use crate::message::Downstream;

/// Which of these chains is for a connection.
#[must_use]
pub fn choose_chain<'c>(chains: impl Iterator<Item = &'c ChainMatch>, downstream: &Downstream) -> Option<usize> {
    // One criterion after the other is the order of these lists, in which what does not fit comes last. Of two alike the first stays.
    let closeness = |chain| CRITERIA.map(|criterion| criterion(chain, downstream));
    let all = chains.map(closeness).enumerate();
    let closest = all.reduce(|best, next| if next.1 > best.1 { next } else { best });
    closest.filter(|(_, all)| all.iter().all(Option::is_some)).map(|(index, _)| index)
}

/// How close a chain comes to a connection in one respect. 0: it says nothing of it. None: it is for others.
type Criterion = fn(&ChainMatch, &Downstream) -> Option<u32>;

/// In the order in which they decide.
const CRITERIA: [Criterion; 7] = [port, destination, server_name, transport, protocol, source, source_port];

fn port(chain: &ChainMatch, downstream: &Downstream) -> Option<u32> {
    let Some(port) = chain.destination_port else { return Some(0) };
    (downstream.local.inet()?.port() == port).then_some(1)
}

fn destination(chain: &ChainMatch, downstream: &Downstream) -> Option<u32> {
    network(&chain.destinations, downstream.local.inet())
}

fn server_name(chain: &ChainMatch, downstream: &Downstream) -> Option<u32> {
    if chain.server_names.is_empty() {
        return Some(0);
    }
    let asked = downstream.server_name()?;
    chain.server_names.iter().filter_map(|name| name_closeness(name, asked)).max()
}

/// How close a name of the file comes to the one that a client asks for: exactly, else by the longest suffix, else as every one. None: not at all.
pub(super) fn name_closeness(name: &HostPattern, asked: &str) -> Option<u32> {
    match name {
        HostPattern::Exact(name) => (name == asked).then_some(u32::MAX),
        HostPattern::Suffix(suffix) => {
            let fits = asked.len() > suffix.len() && asked.ends_with(suffix.as_str());
            fits.then(|| u32::try_from(suffix.len()).unwrap_or(u32::MAX - 1))
        }
        HostPattern::Default => Some(0),
    }
}

fn transport(chain: &ChainMatch, downstream: &Downstream) -> Option<u32> {
    let Some(is_tls) = chain.is_tls else { return Some(0) };
    (downstream.offers().is_some() == is_tls).then_some(1)
}

fn protocol(chain: &ChainMatch, downstream: &Downstream) -> Option<u32> {
    if chain.protocols.is_empty() {
        return Some(0);
    }
    let offered = downstream.offers()?;
    let is_wanted = |protocol: &Vec<u8>| chain.protocols.iter().any(|wanted| wanted.as_bytes() == protocol);
    // What the client names first it wants most.
    let place = offered.iter().position(is_wanted)?;
    Some(u32::MAX - u32::try_from(place).unwrap_or(u32::MAX - 1))
}

fn source(chain: &ChainMatch, downstream: &Downstream) -> Option<u32> {
    network(&chain.sources, downstream.peer.inet())
}

fn source_port(chain: &ChainMatch, downstream: &Downstream) -> Option<u32> {
    if chain.source_ports.is_empty() {
        return Some(0);
    }
    chain.source_ports.contains(&downstream.peer.inet()?.port()).then_some(1)
}

/// The longest prefix that holds an address.
fn network(networks: &[IpNetwork], address: Option<SocketAddr>) -> Option<u32> {
    if networks.is_empty() {
        return Some(0);
    }
    let ip = address?.ip();
    networks.iter().filter(|network| holds(network, ip)).map(|network| u32::from(network.prefix_len) + 1).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Chains as a file has them.
    fn chains(matches: &str) -> Vec<ChainMatch> {
        let chain = |text: &str| {
            format!("{{filter_chain_match: {text}, filters: [{{type: tcp_proxy, config: {{cluster: c}}}}]}}")
        };
        let list: Vec<String> = matches.split(';').map(|text| chain(text.trim())).collect();
        let file = format!(
            "servers: [{{listeners: [{{address: :1, listener_filters: [{{type: tls_inspector}}], filter_chains: [{}]}}]}}]\n\
             cluster_manager: {{clusters: [{{name: c}}]}}\n",
            list.join(", ")
        );
        let config = Config::parse(&file, "t").unwrap_or_else(|found| panic!("{found:?}")).0;
        config.server.listeners.into_iter().map(|l| l.chain_match).collect()
    }

    /// A connection: from where to where, which name, which protocols if it is TLS.
    fn chosen(chains: &[ChainMatch], from: &str, to: &str, name: &str, offers: Option<&[&str]>) -> Option<usize> {
        let mut downstream = Downstream::new(1, from.parse().unwrap(), to.parse().unwrap(), false);
        downstream.tls_mut().server_name = Some(name).filter(|name| !name.is_empty()).map(Into::into);
        downstream.tls_mut().offers = offers.map(|all| all.iter().map(|one| one.as_bytes().to_vec()).collect());
        choose_chain(chains.iter(), &downstream)
    }

    const CLIENT: &str = "10.1.2.3:40000";
    const HERE: &str = "192.0.2.1:443";

    #[test]
    fn the_closest_name_wins() {
        let chains = chains(
            "{server_names: [a.example]}; {server_names: [\"*.example\"]}; {server_names: [\"*.b.example\"]}; {}",
        );
        for (name, chain) in
            [("a.example", 0), ("c.example", 1), ("x.b.example", 2), ("b.example", 1), ("other", 3), ("", 3)]
        {
            assert_eq!(chosen(&chains, CLIENT, HERE, name, Some(&[])), Some(chain), "{name}");
        }
    }

    #[test]
    fn transport_and_protocols_tell_apart() {
        let chains = chains(
            "{transport_protocol: tls, application_protocols: [h2]}; {transport_protocol: tls}; {transport_protocol: raw_buffer}; \
             {transport_protocol: tls, application_protocols: [acme, sofa]}",
        );
        for (offers, chain) in [
            (Some(&["x", "h2"][..]), 0),
            (Some(&["h2", "sofa"][..]), 0),
            (Some(&["sofa", "h2"][..]), 3),
            (Some(&["http/1.1"][..]), 1),
            (Some(&[][..]), 1),
            (None, 2),
        ] {
            assert_eq!(chosen(&chains, CLIENT, HERE, "", offers), Some(chain), "{offers:?}");
        }
    }

    #[test]
    fn addresses_and_ports_tell_apart() {
        let chains = chains(
            "{destination_port: 443}; {prefix_ranges: [{address_prefix: 192.0.2.0, prefix_len: 24}]}; \
             {prefix_ranges: [{address_prefix: 192.0.2.1, prefix_len: 32}], source_ports: [7, 40000]}; \
             {source_prefix_ranges: [{address_prefix: \"fd00::\", prefix_len: 8}]}",
        );
        for (from, to, chain) in [
            (CLIENT, HERE, Some(0)),
            (CLIENT, "192.0.2.9:80", Some(1)),
            (CLIENT, "192.0.2.1:80", Some(2)),
            // What is decided is not taken back: the longer prefix is for other clients.
            ("10.1.2.3:8", "192.0.2.1:80", None),
            ("[fd00::7]:1", "[2001:db8::1]:80", Some(3)),
            ("[fe80::7]:1", "[2001:db8::1]:80", None),
            ("unix:/a", "unix:/b", None),
        ] {
            assert_eq!(chosen(&chains, from, to, "", None), chain, "{from} to {to}");
        }
    }
}
