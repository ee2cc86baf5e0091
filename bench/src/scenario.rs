//! What can be measured: each scenario by name, what it shows, and how the load is made.
//!
//! **Invariant:** plain data; nothing here starts anything.

use crate::results::Level;

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// What it shows, for a reader who sees it for the first time.
    pub shows: &'static str,
    /// How hard the proxy is pushed, in this order.
    pub levels: &'static [Level],
    /// Connections of the client.
    pub connections: u64,
    /// The same at twice the capacity, where it has that level.
    pub overload_connections: u64,
    /// 0 keeps a connection for ever.
    pub requests_per_connection: u64,
    /// What is asked for.
    pub traffic: Traffic,
    /// The client's side.
    pub front: Front,
    /// What client and proxy speak.
    pub protocol: Protocol,
    /// Whether the origin speaks TLS.
    pub origin_tls: bool,
    /// Who takes part.
    pub wires: Wires,
    /// The fixed rate is this part of the capacity of the slowest backend on kernel sockets.
    pub fixed_part: f64,
    /// Scenarios of one group have the same fixed rate, that of the first of them.
    pub rate_group: Option<&'static str>,
    /// Rounds are this part of those asked for: long cells have fewer.
    pub rounds_part: f64,
    /// Where system calls and allocations are counted.
    pub counted: &'static [Level],
    /// Not landed yet: why.
    pub absent: Option<&'static str>,
}

/// What a request and its answer look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// A short request for a short answer.
    Plain,
    /// 24 header fields, 200 virtual hosts of 50 routes each, an answer of 4 KiB, and a line in the access log.
    Real,
    /// An answer of so many bytes.
    Body(u64),
    /// One request on each connection, then nothing.
    Idle,
}

/// What client and proxy speak. Origins speak HTTP/1.1, but for Bolt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, a request at a time on each connection.
    Http1,
    /// HTTP/2, so many requests at a time on each connection.
    Http2 {
        /// Streams of a connection.
        streams: u32,
    },
    /// The proxy relays bytes and sees no requests.
    Relay,
    /// SOFA Bolt with origins too, calls and answers of 1 KiB.
    Bolt {
        /// Calls at a time on each connection.
        calls: u32,
    },
}

/// How the connections of clients are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Not at all.
    Clear,
    /// TLS 1.3 with an ECDSA P-256 certificate.
    Ecdsa(Resume),
    /// TLS 1.3 with an RSA 2048 certificate.
    Rsa(Resume),
}

/// Whether a client that comes back brings a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Every handshake is a full one.
    Never,
    /// Every handshake but the first is resumed.
    Always,
}

/// Which wires a scenario makes sense on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wires {
    /// All.
    All,
    /// Only memif: more connections than the files a process may open.
    Memif,
    /// All but memif.
    NotMemif,
}

/// All of them, in the order of the report.
#[must_use]
pub fn all() -> &'static [Scenario] {
    SCENARIOS
}

/// The scenarios of these names; a name that ends in `*` stands for all that begin so.
///
/// # Errors
/// The name that there is none for.
pub fn named(names: &[String]) -> Result<Vec<&'static Scenario>, String> {
    let mut found: Vec<&Scenario> = Vec::new();
    for name in names {
        let fits = |s: &&Scenario| name.strip_suffix('*').map_or(s.name == name, |begin| s.name.starts_with(begin));
        let before = found.len();
        found.extend(SCENARIOS.iter().filter(fits));
        if found.len() == before {
            return Err(name.clone());
        }
    }
    Ok(found)
}

impl Scenario {
    /// Rounds of this scenario when the user asks for so many.
    #[must_use]
    pub fn rounds(&self, asked: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small counts"
        )]
        let part = (asked as f64 * self.rounds_part).round() as usize;
        part.clamp(1, asked.max(1))
    }

    /// The levels at which system calls and allocations are counted for each request.
    pub fn counted(&self) -> impl Iterator<Item = Level> {
        let is_countable = |level: &Level| self.levels.contains(level) && self.connections <= 1000;
        self.counted.iter().copied().filter(is_countable)
    }
}

/// What every other one differs from by a field or two.
const PLAIN: Scenario = Scenario {
    name: "h1-keepalive",
    shows: "HTTP/1.1, short requests on 64 connections that stay open: what a request costs by itself",
    levels: &[Level::Saturation, Level::Fixed],
    connections: 64,
    overload_connections: 512,
    requests_per_connection: 0,
    traffic: Traffic::Plain,
    front: Front::Clear,
    protocol: Protocol::Http1,
    origin_tls: false,
    wires: Wires::All,
    fixed_part: 0.6,
    rate_group: None,
    rounds_part: 1.0,
    counted: &[Level::Fixed],
    absent: None,
};

const TLS: Scenario = Scenario { front: Front::Ecdsa(Resume::Always), ..PLAIN };

const HANDSHAKES: Scenario = Scenario { requests_per_connection: 1, ..TLS };

/// Less than elsewhere: ten thousand connections have to carry what a hundred can.
const CONNECTIONS: Scenario = Scenario {
    levels: &[Level::Fixed],
    fixed_part: 0.4,
    rate_group: Some("conns"),
    rounds_part: 0.6,
    counted: &[],
    ..PLAIN
};

const IDLE: Scenario = Scenario {
    levels: &[Level::Idle],
    connections: 10_000,
    traffic: Traffic::Idle,
    wires: Wires::NotMemif,
    rounds_part: 0.45,
    ..PLAIN
};

/// As many requests at a time as `goodput` has at its most, on connections as browsers and sidecars have them.
const H2: Scenario = Scenario { connections: 16, protocol: Protocol::Http2 { streams: 32 }, ..PLAIN };

const SCENARIOS: &[Scenario] = &[
    Scenario { counted: &[Level::Saturation, Level::Fixed], ..PLAIN },
    Scenario {
        name: "h1-real",
        shows: "requests as browsers send them: 24 header fields, 200 virtual hosts with 50 routes each, answers of 4 KiB, an access log",
        traffic: Traffic::Real,
        ..PLAIN
    },
    Scenario { name: "h1-close", shows: "a new TCP connection for each request", requests_per_connection: 1, ..PLAIN },
    Scenario {
        name: "h1-body-1m",
        shows: "answers of 1 MiB on 16 connections: what a byte costs",
        connections: 16,
        traffic: Traffic::Body(1 << 20),
        ..PLAIN
    },
    Scenario { name: "https-keepalive", shows: "short requests over TLS 1.3 on 64 connections that stay open", ..TLS },
    Scenario {
        name: "https-body-1m",
        shows: "answers of 1 MiB over TLS 1.3 on 16 connections: what a sealed byte costs",
        connections: 16,
        traffic: Traffic::Body(1 << 20),
        rounds_part: 0.3,
        ..TLS
    },
    Scenario {
        name: "tls-full-rsa2048",
        shows: "a full TLS 1.3 handshake for each request, certificate with an RSA key of 2048 bits",
        front: Front::Rsa(Resume::Never),
        ..HANDSHAKES
    },
    Scenario {
        name: "tls-full-ecdsa-p256",
        shows: "a full TLS 1.3 handshake for each request, certificate with an ECDSA key on P-256",
        front: Front::Ecdsa(Resume::Never),
        ..HANDSHAKES
    },
    Scenario { name: "tls-resumed", shows: "a resumed TLS 1.3 handshake for each request, by ticket", ..HANDSHAKES },
    Scenario {
        name: "tls-to-origin",
        shows: "clear text from the client, TLS 1.3 to the origin, all connections kept",
        origin_tls: true,
        // The origin of the load generator's own port speaks no TLS.
        wires: Wires::NotMemif,
        ..PLAIN
    },
    Scenario {
        name: "latency",
        shows: "how long a request takes at 50, 70 and 90 % of what the backend can carry; counted from when it was due",
        levels: &[Level::Saturation, Level::Half, Level::Seventy, Level::Ninety],
        rounds_part: 0.75,
        ..PLAIN
    },
    Scenario {
        name: "goodput",
        shows: "what is left of the capacity when twice of it is asked for, on 512 connections",
        levels: &[Level::Saturation, Level::Double],
        rounds_part: 0.45,
        ..PLAIN
    },
    Scenario {
        name: "conns-100",
        shows: "the same rate over 100 connections",
        connections: 100,
        rounds_part: 0.45,
        ..CONNECTIONS
    },
    Scenario {
        name: "conns-1k",
        shows: "the same rate over 1,000 connections, and as many requests as they carry",
        levels: &[Level::Saturation, Level::Fixed],
        connections: 1000,
        rounds_part: 0.45,
        ..CONNECTIONS
    },
    Scenario { name: "conns-10k", shows: "the same rate over 10,000 connections", connections: 10_000, ..CONNECTIONS },
    Scenario {
        name: "conns-100k",
        shows: "the same rate over 100,000 connections",
        connections: 100_000,
        wires: Wires::Memif,
        ..CONNECTIONS
    },
    Scenario { name: "idle-plain", shows: "memory of 10,000 connections after one request each", ..IDLE },
    Scenario {
        name: "idle-tls",
        shows: "memory of 10,000 TLS connections after one request each",
        front: Front::Ecdsa(Resume::Always),
        ..IDLE
    },
    Scenario {
        name: "idle-plain-100k",
        shows: "memory of 100,000 connections after one request each",
        connections: 100_000,
        wires: Wires::Memif,
        ..IDLE
    },
    Scenario {
        name: "idle-tls-100k",
        shows: "memory of 100,000 TLS connections after one request each",
        connections: 100_000,
        front: Front::Ecdsa(Resume::Always),
        wires: Wires::Memif,
        // Half a minute of handshakes each.
        rounds_part: 0.4,
        ..IDLE
    },
    Scenario {
        name: "h2-clear",
        shows: "HTTP/2 in clear, short requests, 32 at a time on each of 16 connections",
        ..H2
    },
    Scenario { name: "h2-tls", shows: "the same over TLS 1.3", front: Front::Ecdsa(Resume::Always), ..H2 },
    Scenario {
        name: "tcp-proxy",
        shows: "connections that are relayed, short requests and answers on 64 of them: what a turn of bytes costs by itself",
        protocol: Protocol::Relay,
        ..PLAIN
    },
    Scenario {
        name: "tcp-proxy-1m",
        shows: "the same with answers of 1 MiB on 16 connections: what a byte costs",
        connections: 16,
        traffic: Traffic::Body(1 << 20),
        protocol: Protocol::Relay,
        ..PLAIN
    },
    Scenario {
        name: "bolt",
        shows: "SOFA Bolt calls with 1 KiB of content, and 1 KiB in answer, on 64 connections that stay open",
        protocol: Protocol::Bolt { calls: 1 },
        rounds_part: 0.3,
        ..PLAIN
    },
    Scenario {
        name: "bolt-multiplexed",
        shows: "the same calls, as many at a time, on 4 connections as clients of Bolt have them: many calls on each",
        connections: 4,
        protocol: Protocol::Bolt { calls: 16 },
        rounds_part: 0.3,
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_once_each_and_by_their_beginning() {
        for scenario in all() {
            assert_eq!(all().iter().filter(|s| s.name == scenario.name).count(), 1, "{}", scenario.name);
        }
        let names = |n: &[&str]| named(&n.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["h1-close"]).unwrap()[0].name, "h1-close");
        assert_eq!(names(&["tls-full*"]).unwrap().len(), 2);
        assert_eq!(names(&["h1-keepalive", "h3"]).unwrap_err(), "h3");
    }

    #[test]
    fn long_scenarios_have_fewer_rounds_but_one_at_least() {
        assert_eq!(PLAIN.rounds(7), 7);
        assert_eq!(IDLE.rounds(7), 3);
        assert_eq!(IDLE.rounds(1), 1);
    }
}
