//! The server's side: certificates, versions, protocols, tickets.
//!
//! **Invariant:** complete when built: whatever can be wrong with a certificate or key is said then, never at the first handshake.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::rustls::ServerConfig;
use ::rustls::server::NoServerSessionStorage;

use crate::accelerator::Accelerator;
use crate::algorithms::Algorithms;
use crate::certificates::{CertificateTable, Certified};
use crate::client_auth::{Caveat, ClientAuth, InUse, caveats, ends, keys_logged};
use crate::error::{Cause, ConfigError, Place};
use crate::keylog::KeyLogFile;
use crate::openssl::{self, Fibres};
use crate::options::{Alpn, Backend, Versions};
use crate::peer_certificate::PeerCertificate;
use crate::pem::Pem;
use crate::rustls::RustlsSession;
use crate::session::Session;
use crate::staple::Staple;
use crate::tickets::{TicketKeys, Ticketer, scope};
use crate::verify::client_verifier;

/// A certificate chain and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The chain, the server's own certificate first.
    pub certificates: Pem,
    /// The private key of the first certificate.
    pub key: Key,
    /// A file with an OCSP response for it (RFC 6960, in DER), which clients are shown who ask for one.
    pub staple: Option<PathBuf>,
}

/// Where a private key is, and who computes with it.
#[derive(Clone)]
pub enum Key {
    /// In PEM, for software.
    Pem(Pem),
    /// In PEM, given to an accelerator when it is loaded.
    Accelerated(Pem, Accelerator),
    /// In the accelerator, which never gives it out: a URI for OSSL_STORE (RFC 7512 for `pkcs11:`), or an engine's id for it.
    Stored(Box<str>, Accelerator),
}

impl Key {
    /// Where software can have it.
    pub(crate) fn pem(&self) -> Option<&Pem> {
        match self {
            Self::Pem(pem) | Self::Accelerated(pem, _) => Some(pem),
            Self::Stored(..) => None,
        }
    }

    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Pem(pem) | Self::Accelerated(pem, _) => pem.place(),
            Self::Stored(id, _) => Place::stored(id),
        }
    }

    pub(crate) fn accelerator(&self) -> Option<&Accelerator> {
        match self {
            Self::Pem(_) => None,
            Self::Accelerated(_, accelerator) | Self::Stored(_, accelerator) => Some(accelerator),
        }
    }
}

/// Shows the place, never a PIN.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {:?})", self.place(), self.accelerator())
    }
}

impl From<Pem> for Key {
    fn from(pem: Pem) -> Self {
        Self::Pem(pem)
    }
}

impl From<&str> for Key {
    /// As [`Pem`]'s.
    fn from(value: &str) -> Self {
        Self::Pem(value.into())
    }
}

/// What a server's TLS is made from.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// At least one. A client is shown the one for the name it asks for, the first if there is none.
    pub identities: Vec<Identity>,
    /// Who computes.
    pub backend: Backend,
    /// Application protocols; empty: not negotiated.
    pub alpn: Alpn,
    /// Versions allowed.
    pub versions: Versions,
    /// Cipher suites and groups.
    pub algorithms: Algorithms,
    /// Whether clients get tickets to resume their session with (RFC 8446 section 4.6.1, RFC 5077). Nothing is stored on our side.
    pub tickets: bool,
    /// Files of keys for the tickets: the first key seals, all open. None: keys of this process, which are renewed.
    pub ticket_keys: Vec<PathBuf>,
    /// How long a ticket is good. Who resumes a session by one gets another.
    pub session_lifetime: Duration,
    /// A file that the keys of all sessions are written to, for whoever is to look into the traffic.
    pub keylog: Option<PathBuf>,
    /// What clients are asked for.
    pub client_auth: ClientAuth,
    /// Whether the keys of sessions may leave them ([`Session::export`]).
    pub export: bool,
}

impl ServerOptions {
    /// With the defaults: rustls, no application protocols, TLS 1.2 and 1.3, tickets.
    #[must_use]
    pub fn new(identities: Vec<Identity>) -> Self {
        Self {
            identities,
            backend: Backend::Auto,
            alpn: Alpn::default(),
            versions: Versions::default(),
            algorithms: Algorithms::default(),
            tickets: true,
            ticket_keys: Vec::new(),
            session_lifetime: SESSION_LIFETIME,
            keylog: None,
            client_auth: ClientAuth::None,
            export: false,
        }
    }
}

/// A server's TLS, ready for sessions. Cheap to clone; the clones share keys and ticket keys, on every worker.
#[derive(Clone)]
pub struct ServerTls {
    made: Made,
    verifies_clients: bool,
    exports: bool,
    /// Of the certificate, where there is one.
    uris: Arc<[String]>,
    caveats: Arc<[Caveat]>,
    in_use: InUse,
}

#[derive(Clone)]
enum Made {
    /// With keys of accelerators, on fibres.
    Rustls(Arc<ServerConfig>, Option<Fibres>),
    OpenSsl(Arc<openssl::Server>),
}

impl ServerTls {
    /// Loads and checks everything the options name.
    ///
    /// # Errors
    /// What is wrong, where, and what to do about it.
    pub fn new(options: ServerOptions) -> Result<Self, ConfigError> {
        let verifies_clients = matches!(options.client_auth, ClientAuth::Verified { .. });
        let ends = ends(options.identities.iter().map(|identity| &identity.certificates));
        let in_use = InUse::new(&ends);
        let mut caveats = caveats(&ends, options.client_auth.revoked());
        caveats.extend(options.identities.iter().filter_map(|identity| Staple::of(identity).err()));
        caveats.extend(options.algorithms.caveats());
        caveats.extend(keys_logged(options.keylog.as_ref()));
        let caveats = caveats.into();
        let uris = own_uris(&options.identities).into();
        let wants_export = options.export;
        let made = match options.backend {
            Backend::Auto if options.identities.iter().any(|i| i.key.accelerator().is_some()) => {
                Made::OpenSsl(openssl::Server::new(options)?)
            }
            Backend::Auto | Backend::Rustls => rustls_server(options)?,
            Backend::OpenSsl => Made::OpenSsl(openssl::Server::new(options)?),
        };
        let exports = wants_export && matches!(made, Made::Rustls(..));
        Ok(Self { made, verifies_clients, exports, uris, caveats, in_use })
    }

    /// Whether what this caveat is about is in use here already: refusing it then makes nothing better.
    #[must_use]
    pub fn has(&self, caveat: &Caveat) -> bool {
        self.in_use.has(caveat)
    }

    /// Whether a client's certificate, where one is shown, was verified when the handshake is complete.
    #[must_use]
    pub fn verifies_clients(&self) -> bool {
        self.verifies_clients
    }

    /// Whether the keys of its sessions may leave them: it was asked for, and the backend gives them.
    #[must_use]
    pub fn exports(&self) -> bool {
        self.exports
    }

    /// The URIs among the alternative names of its certificate; none when it has several certificates.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// What works, though perhaps not as it is meant.
    #[must_use]
    pub fn caveats(&self) -> &[Caveat] {
        &self.caveats
    }

    /// A session for a connection that was accepted.
    #[must_use]
    pub fn session(&self) -> Session {
        match &self.made {
            Made::Rustls(config, fibres) => Session::Rustls(RustlsSession::server(Arc::clone(config), *fibres)),
            Made::OpenSsl(server) => Session::OpenSsl(server.session()),
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// What can't be read says so when it is loaded.
fn own_uris(identities: &[Identity]) -> Vec<String> {
    let [only] = identities else { return Vec::new() };
    let chain = only.certificates.certificates().unwrap_or_default();
    PeerCertificate::new(chain).map(|own| own.uris()).unwrap_or_default()
}

fn rustls_server(options: ServerOptions) -> Result<Made, ConfigError> {
    let mut fibres = None;
    for identity in &options.identities {
        let Some(Accelerator(accelerator)) = identity.key.accelerator() else { continue };
        let of = *fibres.insert(accelerator.fibres());
        let client_auth = ClientAuth::None;
        let only = ServerOptions { identities: vec![identity.clone()], client_auth, ..options.clone() };
        let config = Arc::new(rustls_config(only, false)?);
        let can_do_without = accelerator.may_do_without() && identity.key.pem().is_some();
        let session = || Session::Rustls(RustlsSession::server(Arc::clone(&config), Some(of)));
        accelerator.prove(identity, can_do_without, session)?;
    }
    Ok(Made::Rustls(Arc::new(rustls_config(options, true)?), fibres))
}

/// `software`: it may take an accelerator's place.
fn rustls_config(options: ServerOptions, software: bool) -> Result<ServerConfig, ConfigError> {
    let provider = Arc::new(options.algorithms.provider()?);
    let load = |identity: &Identity| Certified::load(identity, &provider, software);
    let table = CertificateTable::load(&options.identities, load)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(options.versions.supported())
        .map_err(|e| ConfigError::Backend(Cause::new(e)))?
        .with_client_cert_verifier(client_verifier(&options.client_auth, &provider)?)
        .with_cert_resolver(Arc::new(table));
    config.ignore_client_order = true;
    config.enable_secret_extraction = options.export;
    // A store of sessions would be a lock that all workers share; tickets need none.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if options.tickets {
        config.ticketer = Arc::new(Ticketer { keys: TicketKeys::of(&options)?, scope: scope(&options.client_auth)? });
    } else {
        config.send_tls13_tickets = 0;
    }
    if let Some(path) = &options.keylog {
        config.key_log = KeyLogFile::open(path)?;
    }
    config.alpn_protocols = options.alpn.into_protocols();
    Ok(config)
}

/// How long a session is resumed when nothing is said of it: half a day.
const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
