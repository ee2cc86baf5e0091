//! The client's side: whom to trust, under which name, with which protocols.
//!
//! **Invariant:** the server is verified unless the configuration says in so many words that it is not.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ::rustls::client::{ResolvesClientCert, Resumption};
use ::rustls::crypto::CryptoProvider;
use ::rustls::sign::{CertifiedKey, SingleCertAndKey};
use ::rustls::{ClientConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::algorithms::Algorithms;
use crate::certificates::load_certified_key;
use crate::client_auth::{Caveat, InUse, caveats, ends, keys_logged};
use crate::error::{Cause, ConfigError, SessionError};
use crate::keylog::KeyLogFile;
use crate::openssl;
use crate::options::{Alpn, Backend, Versions};
use crate::pem::Pem;
use crate::rustls::RustlsSession;
use crate::server::Identity;
use crate::session::Session;
use crate::verify;

/// Whose certificates are trusted.
#[derive(Clone, Debug, Default)]
pub enum Roots {
    /// The system's trusted roots.
    #[default]
    System,
    /// Exactly these certificates (MOSN: `ca_cert`).
    Pem(Pem),
    /// Anyone's: no protection against a man in the middle (MOSN: `insecure_skip`).
    Insecure,
}

/// A client's certificate chain and its key. An accelerator's keys are for servers.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The chain, the client's own certificate first.
    pub certificates: Pem,
    /// The private key of the first certificate.
    pub key: Pem,
}

impl From<&ClientIdentity> for Identity {
    fn from(of: &ClientIdentity) -> Self {
        Self { certificates: of.certificates.clone(), key: of.key.clone().into(), staple: None }
    }
}

/// What a client's TLS is made from. The default verifies against the system's roots.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Whose certificates are trusted.
    pub roots: Roots,
    /// What these have revoked: where there is a list, each authority of a chain must have one that has not expired.
    pub revoked: Option<Pem>,
    /// What a server is shown that asks for a certificate.
    pub identity: Option<ClientIdentity>,
    /// The name to ask for and to verify, in place of the one given to [`ClientTls::session`].
    pub server_name: Option<String>,
    /// A URI that the server's certificate must have among its alternative names (RFC 5280 section 4.2.1.6), in place of the server's name, which is
    /// asked for all the same. As in MOSN the case of letters does not matter.
    pub uri: Option<Box<str>>,
    /// Who computes.
    pub backend: Backend,
    /// Application protocols; empty: not negotiated.
    pub alpn: Alpn,
    /// Versions allowed.
    pub versions: Versions,
    /// Cipher suites and groups.
    pub algorithms: Algorithms,
    /// A file that the keys of all sessions are written to, for whoever is to look into the traffic.
    pub keylog: Option<PathBuf>,
    /// Whether the keys of sessions may leave them ([`Session::export`]).
    pub export: bool,
}

/// A client's TLS, ready for sessions. Cheap to clone; the clones share roots and resumable sessions, on every worker.
#[derive(Clone)]
pub struct ClientTls {
    made: Made,
    server_name: Option<ServerName<'static>>,
    caveats: Arc<[Caveat]>,
    in_use: InUse,
}

#[derive(Clone)]
enum Made {
    Rustls(Arc<ClientConfig>),
    OpenSsl(Arc<openssl::Client>),
}

impl ClientTls {
    /// Loads and checks everything the options name.
    ///
    /// # Errors
    /// What is wrong, where, and what to do about it.
    pub fn new(options: ClientOptions) -> Result<Self, ConfigError> {
        let server_name = match &options.server_name {
            Some(name) => Some(
                ServerName::try_from(name.as_str())
                    .map_err(|_| ConfigError::BadServerName { name: name.as_str().into() })?
                    .to_owned(),
            ),
            None => None,
        };
        let ends = ends(options.identity.iter().map(|identity| &identity.certificates));
        let in_use = InUse::new(&ends);
        let mut caveats = caveats(&ends, options.revoked.as_ref());
        caveats.extend(options.algorithms.caveats());
        caveats.extend(keys_logged(options.keylog.as_ref()));
        let caveats = caveats.into();
        let made = match options.backend {
            Backend::Auto | Backend::Rustls => Made::Rustls(Arc::new(rustls_config(options)?)),
            Backend::OpenSsl => Made::OpenSsl(openssl::Client::new(options)?),
        };
        Ok(Self { made, server_name, caveats, in_use })
    }

    /// What works, though perhaps not as it is meant.
    #[must_use]
    pub fn caveats(&self) -> &[Caveat] {
        &self.caveats
    }

    /// Whether what this caveat is about is in use here already: refusing it then makes nothing better.
    #[must_use]
    pub fn has(&self, caveat: &Caveat) -> bool {
        self.in_use.has(caveat)
    }

    /// A session for a connection to a server. `server_name` is what its certificate must name, a DNS name or an IP address; a name in the
    /// options goes before it.
    ///
    /// # Errors
    /// The name is no name, or there is no randomness.
    pub fn session(&self, server_name: &str) -> Result<Session, SessionError> {
        self.make(server_name, None)
    }

    /// The same, with these application protocols in place of those in the options. What the server agreed to is in
    /// [`SessionInfo::alpn`](crate::SessionInfo::alpn).
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub fn session_offering(&self, server_name: &str, alpn: &Alpn) -> Result<Session, SessionError> {
        self.make(server_name, Some(alpn))
    }

    fn make(&self, server_name: &str, alpn: Option<&Alpn>) -> Result<Session, SessionError> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(server_name)
                .map_err(|_| SessionError::BadServerName { name: server_name.into() })?
                .to_owned(),
        };
        match &self.made {
            Made::Rustls(config) => RustlsSession::client(Arc::clone(config), name, alpn)
                .map(Session::Rustls)
                .map_err(|e| SessionError::Local(Cause::new(e))),
            Made::OpenSsl(client) => {
                client.session(&name, alpn).map(Session::OpenSsl).map_err(|e| SessionError::Local(Cause::openssl(e)))
            }
        }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn rustls_config(options: ClientOptions) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(options.algorithms.provider()?);
    let verifier = verify::server_verifier(&options, &provider)?;
    let certificate = own_certificate(options.identity.as_ref(), &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(options.versions.supported())
        .map_err(|e| ConfigError::Backend(Cause::new(e)))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(certificate);
    config.enable_secret_extraction = options.export;
    if let Some(path) = &options.keylog {
        config.key_log = KeyLogFile::open(path)?;
    }
    config.alpn_protocols = options.alpn.into_protocols();
    config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS_MAX);
    Ok(config)
}

/// The certificate that a server is shown that asks for one.
fn own_certificate(
    identity: Option<&ClientIdentity>,
    provider: &CryptoProvider,
) -> Result<Arc<dyn ResolvesClientCert>, ConfigError> {
    Ok(match identity {
        Some(identity) => Arc::new(SingleCertAndKey::from(load_certified_key(&identity.into(), provider, true)?)),
        None => Arc::new(NoCertificate),
    })
}

/// Shows none.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// What the system has for roots, as it lies there.
pub(crate) fn system_certificates() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// Sessions that can be resumed, at most, of one client configuration.
const RESUMABLE_SESSIONS_MAX: usize = 256;
