//! Keys of accelerators as rustls takes them. It asks for a signature and waits: on a fibre, so that its thread need not.
//!
//! **Invariant:** a signature comes from the accelerator, or from software where that may take its place, within the accelerator's timeout and the
//! turn of software; what is given up stays until the accelerator has let go of it.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::rustls::crypto::CryptoProvider;
use ::rustls::pki_types::SubjectPublicKeyInfoDer;
use ::rustls::sign::{CertifiedKey, Signer, SigningKey};
use ::rustls::{Error, SignatureAlgorithm, SignatureScheme};

use super::accelerator::Accelerator;
use super::error::OpenSslError;
use super::fibre::{note_pauses, suspend, waker};
use super::installed::{in_accelerator, private_key};
use super::job::{Wait, WakeCell};
use super::operation::Operation;
use super::own::{Certificate, PrivateKey};
use super::turn::{Grave, bury, may_compute};
use crate::accelerator::Fallback;
use crate::error::{Cause, ConfigError};
use crate::server::Identity;

/// The chain of an identity whose key an accelerator has, with that key. `software`: it may take the accelerator's place.
pub(crate) fn certified_key(
    identity: &Identity,
    accelerator: &Arc<Accelerator>,
    provider: &CryptoProvider,
    software: bool,
) -> Result<CertifiedKey, ConfigError> {
    let chain = identity.certificates.certificates()?;
    let place = || identity.key.place();
    let key = private_key(identity)?;
    let certificate = chain.first().ok_or(ConfigError::NoIdentity)?;
    let bad = |_| ConfigError::BadCertificate { place: identity.certificates.place(), number: 1 };
    if !Certificate::from_der(certificate).map_err(bad)?.is_of(&key) {
        return Err(ConfigError::KeyMismatch { certificate: identity.certificates.place(), key: place() });
    }
    let schemes = key.schemes();
    let algorithm = match schemes.first() {
        Some(0x0403 | 0x0503 | 0x0603) => SignatureAlgorithm::ECDSA,
        Some(0x0807 | 0x0808) => SignatureAlgorithm::ED25519,
        _ => SignatureAlgorithm::RSA,
    };
    let key = in_accelerator(identity, key)?;
    let software = match identity.key.pem() {
        Some(pem) if software && accelerator.fallback() == Fallback::Software => {
            let bad = |error| ConfigError::BadKey { place: place(), cause: Cause::new(error) };
            Some(provider.key_provider.load_private_key(pem.key()?).map_err(bad)?)
        }
        _ => None,
    };
    let (accelerator, key) = (Arc::clone(accelerator), Arc::new(key));
    let key = AcceleratedKey { key, accelerator, schemes, algorithm, software };
    Ok(CertifiedKey::new(chain, Arc::new(key)))
}

/// A key that an accelerator computes with.
struct AcceleratedKey {
    /// Before the accelerator, with which its provider may go.
    key: Arc<PrivateKey>,
    accelerator: Arc<Accelerator>,
    schemes: &'static [u16],
    algorithm: SignatureAlgorithm,
    /// The same for software, where that may take its place.
    software: Option<Arc<dyn SigningKey>>,
}

impl SigningKey for AcceleratedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = self.schemes.iter().map(|&s| SignatureScheme::from(s)).find(|scheme| offered.contains(scheme))?;
        let software = match &self.software {
            Some(key) => Some(key.choose_scheme(&[scheme])?),
            None => None,
        };
        Some(Box::new(AcceleratedSigner {
            key: Arc::clone(&self.key),
            accelerator: Arc::clone(&self.accelerator),
            scheme,
            software,
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.software.as_ref()?.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

impl fmt::Debug for AcceleratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceleratedKey").field("accelerator", &self.accelerator).finish_non_exhaustive()
    }
}

/// One signature to be.
#[derive(Debug)]
struct AcceleratedSigner {
    /// Before the accelerator, with which its provider may go.
    key: Arc<PrivateKey>,
    accelerator: Arc<Accelerator>,
    scheme: SignatureScheme,
    software: Option<Box<dyn Signer>>,
}

impl Signer for AcceleratedSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self.by_accelerator(message) {
            Ok(signature) => Ok(signature),
            Err(Given::Up) => Err(Error::General("the handshake was given up".into())),
            Err(Given::Failed(why)) => match &self.software {
                Some(software) => {
                    self.accelerator.count_software();
                    wait_for_turn()?;
                    software.sign(message)
                }
                None => Err(Error::General(format!("the accelerator {}: {why}", self.accelerator.name()))),
            },
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Why there is no signature of the accelerator's.
enum Given {
    /// Nobody waits for it any more.
    Up,
    Failed(Box<str>),
}

impl AcceleratedSigner {
    fn by_accelerator(&self, message: &[u8]) -> Result<Vec<u8>, Given> {
        let failed = |why: &dyn fmt::Display| Given::Failed(why.to_string().into());
        let mut operation = Operation::new(&self.accelerator, &self.key, self.scheme.into(), message);
        if !operation.job.is_admitted() {
            return Err(failed(&"it is left alone, for it failed too often"));
        }
        loop {
            let Some(waker) = waker() else { return Err(give_up(operation)) };
            match operation.job.must_wait(&Context::from_waker(&waker), true) {
                Wait::Yes => {
                    if !suspend() {
                        return Err(give_up(operation));
                    }
                    continue;
                }
                Wait::TooLong => {
                    let failure = operation.job.too_late();
                    leave(operation);
                    return Err(failed(&failure));
                }
                Wait::No => {}
            }
            match operation.step() {
                Poll::Pending => operation.paused(),
                Poll::Ready(Ok(signature)) => {
                    operation.job.resumed(false);
                    note_pauses(operation.job.finish(false));
                    return Ok(signature);
                }
                Poll::Ready(Err(error)) => return Err(failed(&operation_failed(operation, error))),
            }
        }
    }
}

/// It said that it can't.
fn operation_failed(mut operation: Operation, error: OpenSslError) -> OpenSslError {
    operation.job.failed();
    error
}

fn give_up(operation: Operation) -> Given {
    if operation.job.is_paused() {
        operation.job.cancelled();
    }
    leave(operation);
    Given::Up
}

/// Lets go of an operation: at once, or when its accelerator does.
fn leave(operation: Operation) {
    if operation.job.is_paused() {
        bury(Grave::Operation(operation));
    }
}

/// Until software may compute: so many operations each turn, so that a lost accelerator does not hold up everybody else.
fn wait_for_turn() -> Result<(), Error> {
    let cell = Arc::<WakeCell>::default();
    let mut may = None;
    loop {
        let Some(waker) = waker() else { return Err(Error::General("the handshake was given up".into())) };
        let is_told = cell.take(&waker);
        let asked = *may.get_or_insert_with(|| may_compute(&cell));
        if asked || is_told {
            return Ok(());
        }
        suspend();
    }
}
