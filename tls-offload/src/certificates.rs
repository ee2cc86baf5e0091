//! The server's certificates and which of them a client is shown.
//!
//! **Invariant:** immutable after it was built; choosing takes no lock and allocates one small note of the client's name at most.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use ::rustls::crypto::CryptoProvider;
use ::rustls::server::{ClientHello, ResolvesServerCert};
use ::rustls::sign::CertifiedKey;
use ::rustls::{Error, InconsistentKeys};

use crate::error::{Cause, ConfigError};
use crate::names::dns_names;
use crate::server::Identity;

/// Certificates by name. A name may lead to several (an RSA and an ECDSA one): the first that the client can verify is taken.
#[derive(Debug)]
pub(crate) struct CertificateTable {
    certificates: Vec<Arc<CertifiedKey>>,
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By the suffix behind `*.`; the star stands for exactly one label (RFC 6125 section 6.4.3).
    wildcard: HashMap<Box<str>, Vec<usize>>,
}

impl CertificateTable {
    /// Loads every identity and checks that its key and certificate belong together.
    pub(crate) fn load(identities: &[Identity], provider: &CryptoProvider) -> Result<Self, ConfigError> {
        if identities.is_empty() {
            return Err(ConfigError::NoIdentity);
        }
        let mut table = Self { certificates: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new() };
        for identity in identities {
            let certified = load_identity(identity, provider)?;
            let leaf = certified.cert.first().and_then(dns_names);
            let names =
                leaf.ok_or_else(|| ConfigError::BadCertificate { place: identity.certificates.place(), number: 1 })?;
            let index = table.certificates.len();
            table.certificates.push(Arc::new(certified));
            for name in names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut table.wildcard, suffix.into()),
                    None => (&mut table.exact, name),
                };
                names.entry(name).or_default().push(index);
            }
        }
        Ok(table)
    }

    /// The certificates for a name, the best first: by the exact name, by a wildcard, by order in the configuration.
    fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let exact = name.and_then(|name| self.exact.get(name));
        let wildcard = name.and_then(|name| self.wildcard.get(name.split_once('.')?.1));
        let named = exact.into_iter().chain(wildcard).flatten().filter_map(|&index| self.certificates.get(index));
        named.chain(&self.certificates)
    }
}

impl ResolvesServerCert for CertificateTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        ASKED_NAME.with_borrow_mut(|asked| *asked = name.map(Into::into));
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        // With none usable the handshake fails either way: showing the best match gives the clearer alert.
        self.candidates(name).find(usable).or_else(|| self.candidates(name).next()).cloned()
    }
}

/// Takes the name that the last client hello on this thread asked for. The session calls it right after it gave rustls the hello, because
/// rustls's unbuffered server does not tell the name.
pub(crate) fn take_asked_name() -> Option<Box<str>> {
    ASKED_NAME.take()
}

fn load_identity(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey, ConfigError> {
    let chain = identity.certificates.certificates()?;
    for (index, certificate) in chain.iter().enumerate() {
        if webpki::EndEntityCert::try_from(certificate).is_err() {
            return Err(ConfigError::BadCertificate { place: identity.certificates.place(), number: index + 1 });
        }
    }
    let key = identity.key.key()?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            ConfigError::KeyMismatch { certificate: identity.certificates.place(), key: identity.key.place() }
        }
        error => ConfigError::BadKey { place: identity.key.place(), cause: Cause::new(error) },
    })
}

thread_local! {
    static ASKED_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}
