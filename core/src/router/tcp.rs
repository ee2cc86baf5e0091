//! From a connection, or a client's datagrams, to a cluster: by who comes, and where to.
//!
//! **Invariant:** a pure function of an immutable table; the first route in the file that fits decides.

use std::net::SocketAddr;
use std::time::Duration;

use super::chain::name_closeness;
use super::ranges::Ranges;
use super::route::{Chosen, ClusterChoice};
use super::{Resolve, UnknownCluster};
use crate::config::schema::{self, ClusterId, HostPattern, MetadataMatch};
use crate::message::Downstream;

/// The routes of a `tcp_proxy` or `udp_proxy` filter.
#[derive(Debug, PartialEq)]
pub struct TcpRoutes(Vec<TcpRoute>);

#[derive(Debug, PartialEq)]
struct TcpRoute {
    cluster: ClusterChoice,
    source: Side,
    destination: Side,
    /// Empty: all.
    names: Box<[HostPattern]>,
}

/// What a route says of one end of a connection. Empty: nothing.
#[derive(Debug, PartialEq)]
struct Side {
    addresses: Ranges,
    ports: Box<[(u16, u16)]>,
}

impl TcpRoutes {
    /// Makes the table. `cluster` resolves names.
    ///
    /// # Errors
    /// When a route names a cluster that `cluster` does not know.
    pub fn new(
        routes: &[schema::TcpRoute],
        cluster: impl Fn(&str) -> Option<ClusterId>,
    ) -> Result<Self, UnknownCluster> {
        let resolve = Resolve { cluster: &cluster, request_timeout: Duration::ZERO };
        let route = |route: &schema::TcpRoute| {
            Ok(TcpRoute {
                cluster: ClusterChoice::new(&route.cluster, None, &resolve)?,
                source: Side { addresses: Ranges::new(&route.sources), ports: (*route.source_ports).into() },
                destination: Side {
                    addresses: Ranges::new(&route.destinations),
                    ports: (*route.destination_ports).into(),
                },
                names: (*route.server_names).into(),
            })
        };
        routes.iter().map(route).collect::<Result<_, _>>().map(Self)
    }

    /// The cluster for a connection, with what its host's metadata must say. None: no route fits. `draw` gives a random number.
    #[must_use]
    pub fn route(
        &self,
        downstream: &Downstream,
        draw: impl FnOnce() -> u64,
    ) -> Option<(ClusterId, Option<&MetadataMatch>)> {
        let (source, destination) = (downstream.peer.inet(), downstream.local.inet());
        let name = downstream.server_name();
        let fits = |route: &&TcpRoute| {
            route.source.takes(source) && route.destination.takes(destination) && takes_name(&route.names, name)
        };
        match self.0.iter().find(fits)?.cluster.choose(None, draw) {
            Chosen::Cluster(id, metadata) => Some((id, metadata)),
            // The reader makes no such route.
            Chosen::Named(..) => None,
        }
    }
}

/// Whether one of these is the name that a client asks for.
fn takes_name(names: &[HostPattern], asked: Option<&str>) -> bool {
    let is = |asked: &str| names.iter().any(|name| name_closeness(name, asked).is_some());
    names.is_empty() || asked.is_some_and(is)
}

impl Side {
    /// Whether it takes this end. One without an IP address, as on a unix socket, is taken by who asks for nothing.
    fn takes(&self, address: Option<SocketAddr>) -> bool {
        let port_fits = |port: u16| self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port));
        let addresses = self.addresses.is_empty() || address.is_some_and(|a| self.addresses.contain(a.ip()));
        addresses && (self.ports.is_empty() || address.is_some_and(|a| port_fits(a.port())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn routes(text: &str) -> TcpRoutes {
        let file = format!(
            "servers: [{{listeners: [{{address: :1, listener_filters: [{{type: tls_inspector}}], filter_chains: [{{filters: [{{type: tcp_proxy, config: {text}}}]}}]}}]}}]\n\
             cluster_manager: {{clusters: [{{name: \"0\"}}, {{name: \"1\"}}, {{name: \"2\"}}, {{name: \"3\"}}]}}\n"
        );
        let config = Config::parse(&file, "t").unwrap_or_else(|found| panic!("{found:?}")).0;
        let tcp = config.server.listeners[0].tcp_proxy().unwrap();
        TcpRoutes::new(&tcp.routes, |name| name.parse().ok().map(ClusterId)).unwrap()
    }

    fn to(routes: &TcpRoutes, from: &str, at: &str) -> Option<u32> {
        routes.route(&downstream(from, at), || 0).map(|(id, _)| id.0)
    }

    fn downstream(from: &str, at: &str) -> Downstream {
        Downstream::new(1, from.parse().unwrap(), at.parse().unwrap(), false)
    }

    #[test]
    fn the_first_that_fits_decides() {
        let routes = routes(
            "{routes: [{cluster: \"0\", source_addrs: [10.0.0.0/8], source_port: \"1-1023, 5000\"}, \
             {Cluster: \"1\", SourceAddrs: [{Address: 10.1.0.0, Length: 16}, {address: \"2001:db8::\", length: 32}]}, \
             {cluster: \"2\", destination_addrs: [192.0.2.1], DestinationPort: \"443\"}]}",
        );
        for (from, at, cluster) in [
            ("10.1.2.3:1023", "127.0.0.1:1", Some(0)),
            ("10.1.2.3:5000", "127.0.0.1:1", Some(0)),
            ("10.1.2.3:1024", "127.0.0.1:1", Some(1)),
            ("10.2.0.0:1024", "127.0.0.1:1", None),
            ("[2001:db8::9]:9", "[::1]:1", Some(1)),
            ("[::ffff:10.1.2.3]:9999", "[::1]:1", Some(1)),
            ("11.0.0.1:5000", "192.0.2.1:443", Some(2)),
            ("11.0.0.1:5000", "192.0.2.1:444", None),
            ("11.0.0.1:5000", "192.0.2.2:443", None),
            ("unix:/a", "unix:/b", None),
        ] {
            assert_eq!(to(&routes, from, at), cluster, "{from} at {at}");
        }
    }

    #[test]
    fn a_cluster_takes_everybody_and_weights_share_them() {
        assert_eq!(to(&routes("{cluster: \"3\"}"), "unix:/a", "unix:/b"), Some(3));
        let shared =
            routes("{weighted_clusters: [{cluster: {name: \"1\", weight: 1}}, {cluster: {name: \"2\", weight: 3}}]}");
        let anybody = downstream("10.0.0.1:1", "10.0.0.2:2");
        let clusters = (0..4).map(|n| shared.route(&anybody, || n).unwrap().0.0);
        assert_eq!(clusters.collect::<Vec<_>>(), [1, 2, 2, 2]);
    }

    #[test]
    fn names_that_clients_ask_for_decide() {
        let routes = routes(
            "{routes: [{cluster: \"0\", server_names: [Shop.example]}, {cluster: \"1\", server_names: [\"*.example\", a.test]}, \
             {cluster: \"2\"}]}",
        );
        for (name, cluster) in [
            (Some("shop.example"), 0),
            (Some("a.shop.example"), 1),
            (Some("other.example"), 1),
            (Some("example"), 2),
            (Some(".example"), 2),
            (Some("a.test"), 1),
            (Some("b.test"), 2),
            (None, 2),
        ] {
            let mut client = downstream("10.0.0.1:1", "10.0.0.2:2");
            client.tls_mut().server_name = name.map(Into::into);
            assert_eq!(routes.route(&client, || 0).map(|(id, _)| id.0), Some(cluster), "{name:?}");
        }
    }
}
