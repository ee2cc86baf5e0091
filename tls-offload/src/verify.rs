//! rustls's verifiers: of what servers show us, and of what clients do.
//!
//! **Invariant:** whoever is not verified is not because the configuration says so in so many words.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ::rustls::client::WebPkiServerVerifier;
use ::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use ::rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use ::rustls::server::WebPkiClientVerifier;
use ::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use ::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use webpki::OwnedCertRevocationList;

use crate::client::{ClientOptions, Roots, system_certificates};
use crate::client_auth::ClientAuth;
use crate::error::{Cause, ConfigError};
use crate::pem::Pem;

/// Of clients.
pub(crate) fn client_verifier(
    auth: &ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let (roots, revoked, required) = match auth {
        ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientAuth::Asked => return Ok(Arc::new(AcceptAnyone::new(provider))),
        ClientAuth::Verified { roots, revoked, required } => (roots, revoked, *required),
    };
    let roots = Arc::new(root_store(roots)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if let Some(revoked) = revoked {
        builder = builder.with_crls(revocation_lists(revoked)?).enforce_revocation_expiration();
    }
    if !required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|e| ConfigError::Backend(Cause::new(Error::General(e.to_string()))))
}

/// Of servers.
pub(crate) fn server_verifier(
    options: &ClientOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    let roots = match &options.roots {
        Roots::System => system_roots()?,
        Roots::Pem(pem) => Arc::new(root_store(pem)?),
        Roots::Insecure => return Ok(Arc::new(AcceptAnyone::new(provider))),
    };
    let mut builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
    if let Some(revoked) = &options.revoked {
        builder = builder.with_crls(revocation_lists(revoked)?).enforce_revocation_expiration();
    }
    let verifier = builder.build().map_err(|e| ConfigError::Backend(Cause::new(Error::General(e.to_string()))))?;
    Ok(match &options.uri {
        Some(uri) => Arc::new(ByUri { verifier, uri: uri.clone() }),
        None => verifier,
    })
}

/// Whether a certificate has a URI among its alternative names.
pub(crate) fn has_uri(certificate: &CertificateDer<'_>, uri: &str) -> bool {
    let parsed = webpki::EndEntityCert::try_from(certificate);
    parsed.is_ok_and(|parsed| parsed.valid_uri_names().any(|own| own.eq_ignore_ascii_case(uri)))
}

/// Revocation lists that both backends can use.
pub(crate) fn revocation_lists(pem: &Pem) -> Result<Vec<CertificateRevocationListDer<'static>>, ConfigError> {
    let lists = pem.revocation_lists()?;
    match lists.iter().position(|list| OwnedCertRevocationList::from_der(list).is_err()) {
        Some(index) => Err(ConfigError::BadRevocationList { place: pem.place(), number: index + 1 }),
        None => Ok(lists),
    }
}

fn root_store(pem: &Pem) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in pem.certificates()?.into_iter().enumerate() {
        store.add(certificate).map_err(|_| ConfigError::BadCertificate { place: pem.place(), number: index + 1 })?;
    }
    Ok(store)
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

/// Takes servers by a URI in their certificates, whatever their names are.
#[derive(Debug)]
struct ByUri {
    verifier: Arc<WebPkiServerVerifier>,
    uri: Box<str>,
}

impl ServerCertVerifier for ByUri {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(_) => {}
            // The name is looked at last, when the chain is known to be good.
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {}
            refused => return refused,
        }
        if has_uri(end_entity, &self.uri) {
            return Ok(ServerCertVerified::assertion());
        }
        let other = OtherError(Arc::new(NoSuchUri(self.uri.clone())));
        Err(Error::InvalidCertificate(CertificateError::Other(other)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// The certificate is somebody else's.
#[derive(Debug)]
struct NoSuchUri(Box<str>);

impl fmt::Display for NoSuchUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is not for the URI {}", self.0)
    }
}

impl std::error::Error for NoSuchUri {}

/// Takes every certificate. The handshake's signature is verified all the same: the peer has the key of what it shows.
#[derive(Debug)]
struct AcceptAnyone {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AcceptAnyone {
    fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
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
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for AcceptAnyone {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
