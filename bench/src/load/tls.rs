//! The client's side of TLS: what is offered, what is verified, what is resumed.
//!
//! **Invariant:** a certificate is verified against `--ca` once and then compared byte for byte; it is never taken unseen when `--ca` is given.

#![allow(
    clippy::disallowed_types,
    reason = "rustls wants its stores to be Sync; one thread uses them, no lock is ever contended"
)]

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, NamedGroup, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::args::{LoadArgs, Mode, Resume, TlsVersion};
use super::error::LoadError;

/// Makes the sessions of a load.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// `None` when the load is in the clear.
    pub(crate) fn new(args: &LoadArgs) -> Result<Option<Self>, LoadError> {
        if !args.tls {
            return Ok(None);
        }
        let provider = Arc::new(provider(args)?);
        let verifier = Verifier::new(args.ca.as_deref(), &provider)?;
        let versions: &[_] = match args.tls_version {
            Some(TlsVersion::V12) => &[&rustls::version::TLS12],
            Some(TlsVersion::V13) => &[&rustls::version::TLS13],
            None => rustls::ALL_VERSIONS,
        };
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.alpn_protocols = vec![if args.mode == Mode::Http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        config.resumption = match args.resume {
            Resume::Never => Resumption::disabled(),
            Resume::Always => Resumption::store(Arc::new(Sessions::default())),
        };
        let name =
            args.server_name.clone().or_else(|| args.to.first().map(|to| to.ip().to_string())).unwrap_or_default();
        let name = ServerName::try_from(name.clone()).map_err(|_| LoadError::Name(name))?;
        Ok(Some(Self { config: Arc::new(config), name }))
    }

    /// A session before its first byte.
    pub(crate) fn session(&self) -> Result<Connection, rustls::Error> {
        Ok(ClientConnection::new(Arc::clone(&self.config), self.name.clone())?.into())
    }
}

/// The certificates of a PEM file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let file = File::open(path).map_err(|e| LoadError::File(path.to_owned(), e))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(file).collect();
    found.ok().filter(|certificates| !certificates.is_empty()).ok_or_else(|| LoadError::Pem(path.to_owned()))
}

fn provider(args: &LoadArgs) -> Result<CryptoProvider, LoadError> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(name) = &args.tls_suite {
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()) == *name);
        if provider.cipher_suites.is_empty() {
            return Err(LoadError::NoSuite(name.clone()));
        }
    }
    Ok(provider)
}

/// Verifies the server: its chain once, its signature always when there is a `--ca`.
#[derive(Debug)]
struct Verifier {
    /// `None` without `--ca`: anything goes.
    roots: Option<Arc<WebPkiServerVerifier>>,
    /// Those of the file itself, and those whose chain was verified.
    known: Mutex<Vec<CertificateDer<'static>>>,
    schemes: Vec<SignatureScheme>,
}

impl Verifier {
    fn new(ca: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self, LoadError> {
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let Some(path) = ca else { return Ok(Self { roots: None, known: Mutex::default(), schemes }) };
        let known = certificates(path)?;
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(known.iter().cloned());
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build();
        let roots = built.map_err(|_| LoadError::Pem(path.to_owned()))?;
        Ok(Self { roots: Some(roots), known: Mutex::new(known), schemes })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        let mut known = self.known.lock().expect("no panic while it is held");
        if known.iter().any(|k| k == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        roots.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        known.push(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.roots {
            Some(roots) => roots.verify_tls12_signature(message, cert, dss),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.roots {
            Some(roots) => roots.verify_tls13_signature(message, cert, dss),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Sessions of the one server. A TLS 1.3 ticket is used once (RFC 8446, appendix C.4): as many are kept as connections can want.
#[derive(Debug, Default)]
struct Sessions {
    hint: Mutex<Option<NamedGroup>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.hint.lock().expect(NO_PANIC) = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.hint.lock().expect(NO_PANIC)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().expect(NO_PANIC) = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().expect(NO_PANIC).clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().expect(NO_PANIC) = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut tickets = self.tls13.lock().expect(NO_PANIC);
        if tickets.len() == TICKETS_MAX {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().expect(NO_PANIC).pop_front()
    }
}

const NO_PANIC: &str = "no panic while it is held";
const TICKETS_MAX: usize = 4_096;
