//! The server's certificates and which of them a client is shown.
//!
//! **Invariant:** immutable after it was built; choosing takes no lock and allocates one small note of the client's name at most.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use ::rustls::crypto::CryptoProvider;
use ::rustls::server::{ClientHello, ResolvesServerCert};
use ::rustls::sign::CertifiedKey;
use ::rustls::{Error, InconsistentKeys};

use crate::error::{Cause, ConfigError};
use crate::names::dns_names;
use crate::openssl::certified_key;
use crate::server::Identity;
use crate::staple::Staple;

/// Certificates by name, as a backend keeps them. A name may lead to several (an RSA and an ECDSA one): the first that the client can verify
/// is taken.
#[derive(Debug)]
pub(crate) struct CertificateTable<C> {
    certificates: Vec<C>,
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By the suffix behind `*.`; the star stands for exactly one label (RFC 6125 section 6.4.3).
    wildcard: HashMap<Box<str>, Vec<usize>>,
}

impl<C> CertificateTable<C> {
    /// Loads every identity; `load` is the backend's, and checks that key and certificate belong together.
    pub(crate) fn load(
        identities: &[Identity],
        load: impl Fn(&Identity) -> Result<C, ConfigError>,
    ) -> Result<Self, ConfigError> {
        if identities.is_empty() {
            return Err(ConfigError::NoIdentity);
        }
        let mut table = Self { certificates: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new() };
        for identity in identities {
            let names = checked_names(identity)?;
            let index = table.certificates.len();
            table.certificates.push(load(identity)?);
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

    /// How many there are, at least one.
    #[allow(dead_code, reason = "only OpenSSL asks")]
    pub(crate) fn len(&self) -> usize {
        self.certificates.len()
    }

    /// The certificates for a name in lower case, the best first: by the exact name, by a wildcard, by order in the configuration.
    pub(crate) fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &C> {
        let exact = name.and_then(|name| self.exact.get(name));
        let wildcard = name.and_then(|name| self.wildcard.get(name.split_once('.')?.1));
        let named = exact.into_iter().chain(wildcard).flatten().filter_map(|&index| self.certificates.get(index));
        named.chain(&self.certificates)
    }
}

/// A key for rustls, with what is stapled as long as it is good.
#[derive(Debug)]
pub(crate) struct Certified {
    key: Arc<CertifiedKey>,
    stapled: Option<(Staple, Arc<CertifiedKey>)>,
}

impl Certified {
    /// `software`: it may take an accelerator's place.
    pub(crate) fn load(identity: &Identity, provider: &CryptoProvider, software: bool) -> Result<Self, ConfigError> {
        let key = load_certified_key(identity, provider, software)?;
        // What is wrong with it is a caveat of the configuration.
        let staple = Staple::of(identity).unwrap_or_default();
        let stapled = staple.map(|staple| {
            let with = CertifiedKey { ocsp: Some(staple.der.clone()), ..CertifiedKey::clone(&key) };
            (staple, Arc::new(with))
        });
        Ok(Self { key, stapled })
    }

    fn shown(&self) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((staple, key)) if staple.is_good(SystemTime::now()) => key,
            _ => &self.key,
        }
    }
}

impl ResolvesServerCert for CertificateTable<Certified> {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        ASKED_NAME.with_borrow_mut(|asked| *asked = name.map(Into::into));
        let usable = |one: &&Certified| one.key.key.choose_scheme(hello.signature_schemes()).is_some();
        // With none usable the handshake fails either way: showing the best match gives the clearer alert.
        let chosen = self.candidates(name).find(usable).or_else(|| self.candidates(name).next());
        chosen.map(|one| Arc::clone(one.shown()))
    }
}

/// Takes the name that the last client hello on this thread asked for. The session calls it right after it gave rustls the hello, because
/// rustls's unbuffered server does not tell the name.
pub(crate) fn take_asked_name() -> Option<Box<str>> {
    ASKED_NAME.take()
}

/// For rustls: the chain and a key that signs. `software`: it may take an accelerator's place.
pub(crate) fn load_certified_key(
    identity: &Identity,
    provider: &CryptoProvider,
    software: bool,
) -> Result<Arc<CertifiedKey>, ConfigError> {
    if let Some(accelerator) = identity.key.accelerator() {
        return certified_key(identity, &accelerator.0, provider, software).map(Arc::new);
    }
    let chain = identity.certificates.certificates()?;
    let place = || identity.key.place();
    let pem = identity.key.pem().ok_or_else(|| ConfigError::NoKeyBlock { place: place() })?;
    let key = pem.key()?;
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            ConfigError::KeyMismatch { certificate: identity.certificates.place(), key: place() }
        }
        error => ConfigError::BadKey { place: place(), cause: Cause::new(error) },
    })
}

/// The names of an identity's first certificate, when all of its certificates can be read.
fn checked_names(identity: &Identity) -> Result<Vec<Box<str>>, ConfigError> {
    let bad = |number| ConfigError::BadCertificate { place: identity.certificates.place(), number };
    let chain = identity.certificates.certificates()?;
    if let Some(index) = chain.iter().position(|c| webpki::EndEntityCert::try_from(c).is_err()) {
        return Err(bad(index + 1));
    }
    chain.first().and_then(dns_names).ok_or_else(|| bad(1))
}

thread_local! {
    static ASKED_NAME: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}
