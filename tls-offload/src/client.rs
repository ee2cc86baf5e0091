//! The client's side: whom to trust, under which name, with which protocols.
//!
//! **Invariant:** the server is verified unless the configuration says in so many words that it is not.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use ::rustls::client::{Resumption, WantsClientCert};
use ::rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use ::rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, WantsVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::{Cause, ConfigError, SessionError};
use crate::openssl;
use crate::options::{Alpn, Backend, Versions};
use crate::pem::Pem;
use crate::rustls::RustlsSession;
use crate::session::Session;

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

/// What a client's TLS is made from. The default verifies against the system's roots.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Whose certificates are trusted.
    pub roots: Roots,
    /// The name to ask for and to verify, in place of the one given to [`ClientTls::session`].
    pub server_name: Option<String>,
    /// Who computes.
    pub backend: Backend,
    /// Application protocols; empty: not negotiated.
    pub alpn: Alpn,
    /// Versions allowed.
    pub versions: Versions,
}

/// A client's TLS, ready for sessions. Cheap to clone; the clones share roots and resumable sessions, on every worker.
#[derive(Clone)]
pub struct ClientTls {
    made: Made,
    server_name: Option<ServerName<'static>>,
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
        let made = match options.backend {
            Backend::Auto | Backend::Rustls => Made::Rustls(Arc::new(rustls_config(options)?)),
            Backend::OpenSsl => Made::OpenSsl(openssl::Client::new(options)?),
        };
        Ok(Self { made, server_name })
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
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(options.versions.supported())
        .map_err(|e| ConfigError::Backend(Cause::new(e)))?;
    let mut config = with_roots(builder, &options.roots, algorithms)?.with_no_client_auth();
    config.alpn_protocols = options.alpn.into_protocols();
    config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS_MAX);
    Ok(config)
}

fn with_roots(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    roots: &Roots,
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ConfigError> {
    Ok(match roots {
        Roots::System => builder.with_root_certificates(system_roots()?),
        Roots::Pem(pem) => {
            let mut store = RootCertStore::empty();
            for (index, certificate) in pem.certificates()?.into_iter().enumerate() {
                store
                    .add(certificate)
                    .map_err(|_| ConfigError::BadCertificate { place: pem.place(), number: index + 1 })?;
            }
            builder.with_root_certificates(store)
        }
        Roots::Insecure => builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnyone { algorithms })),
    })
}

/// What the system has for roots, as it lies there.
pub(crate) fn system_certificates() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// The system's roots, read once per process: a hundred files, some milliseconds.
fn system_roots() -> Result<Arc<RootCertStore>, ConfigError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let mut store = RootCertStore::empty();
    // One certificate that can't be read must not take the others away.
    store.add_parsable_certificates(system_certificates());
    if store.is_empty() {
        return Err(ConfigError::NoSystemRoots);
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(store))))
}

/// Accepts every certificate. The handshake's signature is verified all the same: the peer has the key of what it shows.
#[derive(Debug)]
struct AcceptAnyone {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ::rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ::rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Sessions that can be resumed, at most, of one client configuration.
const RESUMABLE_SESSIONS_MAX: usize = 256;
