//! The one record of a request: what came in, what was decided, what went out.
//!
//! **Invariant:** plain data; it does nothing by itself, and it lives until the last byte of the answer.

use std::any::Any;
use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Bond, Bonds, Head, Method, Request, Version};
use crate::config::Address;
use crate::config::schema::{MetadataMatch, UpstreamProtocol};

/// One request and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// The request as filters and rewrites have left it.
    pub request: Request,
    /// The connection it came on.
    pub downstream: Rc<Downstream>,
    /// What the client speaks, by MOSN's name: `Http1`, `Http2`, `bolt`, ..., or [`RELAYED`] or [`DATAGRAMS`].
    pub protocol: &'static str,
    /// Whether the client offers an upgrade of its connection that may be passed on.
    pub upgrade: bool,
    /// Whether that offer was made by extended CONNECT: the handshake with an origin of HTTP/1.1 is ours.
    pub bridged: bool,
    /// Whether the client takes trailers.
    pub te_trailers: bool,
    /// When its head was complete.
    pub started: Instant,
    /// The status that was sent; 0 while none was.
    pub status: u16,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// The host that answered, as the configuration names it.
    pub upstream_host: Option<Rc<str>>,
    /// Hosts that were tried.
    pub attempts: u32,
    /// When the last byte of the request's body had come; None: with the head.
    pub request_received: Option<Instant>,
    /// When the request had been handed to the connection of the host that answered, but for what of its body streams.
    pub request_sent: Option<Instant>,
    /// When the head of the host's answer was there.
    pub response_received: Option<Instant>,
    /// What went wrong, or was done to the request on purpose.
    pub flags: ResponseFlags,
    /// The upstream connection it went on; 0: none.
    pub upstream_conn: u64,
    /// The address that connection is from, where a log has asked for it.
    pub upstream_local: Option<Rc<str>>,
    /// What a log has asked for that is gone by the time its line is written.
    pub wanted: Wanted,
    /// That, as far as it is known.
    pub notes: Option<Box<Notes>>,
    /// What the metadata of its host must say besides what its route asks for.
    pub metadata: Option<Box<MetadataMatch>>,
    /// The number that decides where its route chooses a cluster by weight, so that filters and the proxy see the same choice. None: there
    /// are no filters, and it is drawn when the choice is made.
    pub drawn: Option<u64>,
    /// What its origin is to be asked in, where a filter says so; it goes before the route.
    pub upstream_protocol: Option<UpstreamProtocol>,
    /// How many copies it has where its route has a mirror policy.
    pub copies: Copies,
    /// What is given back when the request is over: places in limits.
    pub held: Vec<Box<dyn Any>>,
}

/// How many copies a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// So many.
    pub count: u32,
    /// To every host of the cluster, not to one.
    pub every_host: bool,
}

impl Default for Copies {
    fn default() -> Self {
        Self { count: 1, every_host: false }
    }
}

/// What a log wants to have kept for its line. A request whose logs want nothing of it pays one comparison each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own, and all are small")]
pub struct Wanted {
    /// The names of the route and of its cluster.
    pub route: bool,
    /// The address that the upstream connection is from.
    pub upstream_local: bool,
    /// Fields of the response.
    pub response: bool,
    /// Why no connection to a host could be opened.
    pub failure: bool,
}

/// What was kept for the line of a log.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The name of the route.
    pub route: String,
    /// The name of the cluster.
    pub cluster: String,
    /// Those of the response that was sent.
    pub response_fields: Vec<NotedField>,
    /// Why no connection to a host could be opened.
    pub failure: String,
}

/// A field of a response: its name in lower case, and its value.
pub type NotedField = (Box<[u8]>, Box<[u8]>);

/// What went wrong with a request, or was done to it on purpose; MOSN's bits, shown by Envoy's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u16);

impl ResponseFlags {
    /// No host of the cluster could be chosen.
    pub const NO_HEALTHY_UPSTREAM: Self = Self(0x2);
    /// The host did not answer in time.
    pub const UPSTREAM_TIMEOUT: Self = Self(0x4);
    /// We gave the request up.
    pub const LOCAL_RESET: Self = Self(0x8);
    /// The host broke the exchange off.
    pub const REMOTE_RESET: Self = Self(0x10);
    /// No connection to the host could be opened.
    pub const CONNECT_FAILURE: Self = Self(0x20);
    /// The host closed the connection.
    pub const CONNECTION_TERMINATED: Self = Self(0x40);
    /// The cluster has as many connections or requests as it may have.
    pub const OVERFLOW: Self = Self(0x80);
    /// No route takes the request.
    pub const NO_ROUTE: Self = Self(0x100);
    /// A filter made the request wait.
    pub const DELAY_INJECTED: Self = Self(0x200);
    /// A filter made the request fail.
    pub const FAULT_INJECTED: Self = Self(0x400);
    /// A limit of requests has refused it.
    pub const RATE_LIMITED: Self = Self(0x800);
    /// Its body is too large.
    pub const BODY_TOO_LARGE: Self = Self(0x1000);
    /// The client left before its answer was complete.
    pub const DOWNSTREAM_TERMINATED: Self = Self(0x2000);

    /// Adds what `other` says.
    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether all is said that `other` says.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The short name of each flag that is set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (1..).zip(FLAG_NAMES).filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name)
    }
}

/// What is known of a downstream connection, the same for all its requests.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// Its number among the connections of this process, both sides counted together.
    pub id: u64,
    /// The client.
    pub peer: Address,
    /// Where it connected; where it wanted to go, if that is elsewhere.
    pub local: Address,
    /// Whether it came here although it wanted to go elsewhere.
    pub intercepted: bool,
    /// Whether it came over TLS.
    pub is_tls: bool,
    /// Boxed: there are many more connections in clear.
    tls: Option<Box<TlsClient>>,
    /// `peer` and `local` as text, once a log has asked for them: most connections carry many requests.
    texts: OnceCell<Box<Texts>>,
    /// What ends with it, where something does.
    bonds: OnceCell<Rc<Bonds>>,
}

/// What a client's TLS says of it.
#[derive(Clone, Debug, Default)]
pub struct TlsClient {
    /// The name that it asked for, in lower case, where somebody looked.
    pub server_name: Option<Box<str>>,
    /// What origins are told of its certificate, where that was verified; empty where they are told nothing.
    pub certificate: Option<Box<str>>,
    /// The application protocols that it offers, the most wanted first, where somebody looked and as long as somebody may ask.
    pub offers: Option<Box<[Vec<u8>]>>,
}

#[derive(Clone, Debug)]
struct Texts {
    peer: Box<str>,
    local: Box<str>,
}

impl Downstream {
    /// What a socket says of it.
    #[must_use]
    pub fn new(id: u64, peer: Address, local: Address, is_tls: bool) -> Self {
        let (texts, bonds) = (OnceCell::new(), OnceCell::new());
        Self { id, peer, local, intercepted: false, is_tls, tls: None, texts, bonds }
    }

    /// The name that the client asked for in TLS, in lower case, where somebody looked.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name.as_deref()
    }

    /// What origins are told of its certificate, where that was verified; empty where they are told nothing.
    #[must_use]
    pub fn client_cert(&self) -> Option<&str> {
        self.tls.as_ref()?.certificate.as_deref()
    }

    /// The application protocols that its TLS offers, the most wanted first, where somebody looked; None: no TLS, or nobody asks any more.
    #[must_use]
    pub fn offers(&self) -> Option<&[Vec<u8>]> {
        self.tls.as_ref()?.offers.as_deref()
    }

    /// What its TLS says, to be filled in.
    pub fn tls_mut(&mut self) -> &mut TlsClient {
        self.tls.get_or_insert_default()
    }

    /// Nobody asks for its offers any more.
    pub fn forget_offers(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.offers = None;
        }
    }

    /// What it is bound to; None: nothing yet.
    #[must_use]
    pub fn bonds(&self) -> Option<&Rc<Bonds>> {
        self.bonds.get()
    }

    /// Keeps something for as long as the connection and its exchanges last. None: it keeps so many already.
    pub fn bind(&self, bond: Box<dyn Bond>, bonds_max: usize) -> Option<&Rc<Bonds>> {
        let bonds = self.bonds.get_or_init(Rc::default);
        bonds.keep(bond, bonds_max).then_some(bonds)
    }

    /// The client, as text; empty for one that has no name.
    #[must_use]
    pub fn peer_text(&self) -> &str {
        &self.texts().peer
    }

    /// Where it connected, as text.
    #[must_use]
    pub fn local_text(&self) -> &str {
        &self.texts().local
    }

    fn texts(&self) -> &Texts {
        let (peer, local) = (&self.peer, &self.local);
        self.texts.get_or_init(|| Box::new(Texts { peer: peer.log_text().into(), local: local.log_text().into() }))
    }
}

impl Exchange {
    /// How long the host took from the request to the head of its answer; nothing while there is none.
    #[must_use]
    pub fn host_time(&self) -> Duration {
        let host = self.request_sent.zip(self.response_received);
        host.map_or(Duration::ZERO, |(sent, got)| got.saturating_duration_since(sent))
    }

    /// Whether it asks over HTTP/2 for a tunnel, which any 2xx would be.
    #[must_use]
    pub fn wants_tunnel(&self) -> bool {
        let head = self.request.head.fields();
        self.bridged || head.is_some_and(|head| head.method() == Method::Connect && head.version() == Version::Http2)
    }

    /// Where to keep what a log wants.
    pub fn notes_mut(&mut self) -> &mut Notes {
        self.notes.get_or_insert_default()
    }

    /// A new record.
    #[must_use]
    pub fn new(request: Request, downstream: Rc<Downstream>) -> Self {
        let protocol = match &request.head {
            Head::Http(head) if head.version() == Version::Http2 => "Http2",
            Head::Http(_) => "Http1",
            Head::Rpc(head) => head.protocol.name(),
        };
        Self {
            request,
            downstream,
            protocol,
            upgrade: false,
            bridged: false,
            te_trailers: false,
            started: Instant::now(),
            status: 0,
            bytes_received: 0,
            bytes_sent: 0,
            upstream_host: None,
            attempts: 0,
            request_received: None,
            request_sent: None,
            response_received: None,
            flags: ResponseFlags::default(),
            upstream_conn: 0,
            upstream_local: None,
            wanted: Wanted::default(),
            notes: None,
            metadata: None,
            drawn: None,
            upstream_protocol: None,
            copies: Copies::default(),
            held: Vec::new(),
        }
    }
}

/// The [`protocol`](Exchange::protocol) of a connection whose bytes are nobody's request.
pub const RELAYED: &str = "TCP";

/// The [`protocol`](Exchange::protocol) of a session of datagrams.
pub const DATAGRAMS: &str = "UDP";

/// By bit, from the second on.
const FLAG_NAMES: &[&str] = &["UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "PL", "DC"];
