//! What this binary and this host have for TLS, and how fast it signs: for `ferrogate tls probe`.
//!
//! **Invariant:** serves nothing, and runs beside no worker: it blocks for the time that it is told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ::rustls::crypto::aws_lc_rs;
use ::rustls::sign::CertifiedKey;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use crate::accelerator::{Accelerator, Kind};
use crate::algorithms::Algorithms;
use crate::certificates::load_certified_key;
use crate::der::key_kind;
use crate::error::{Cause, ConfigError};
use crate::names::dns_names;
use crate::openssl;
use crate::pem::Pem;
use crate::server::{Identity, Key};

/// The OpenSSL that this process has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSslFacts {
    /// As it says itself: `OpenSSL 3.0.15 3 Sep 2024`.
    pub version: String,
    /// Whether operations can pause.
    pub has_async: bool,
    /// Those of our groups that it has.
    pub groups: Vec<&'static str>,
    /// Where engines are looked for; None: it has no engines at all.
    pub engines: Option<PathBuf>,
    /// Where providers are looked for.
    pub providers: PathBuf,
}

/// What OpenSSL says of itself; None: this binary has none.
#[must_use]
pub fn openssl_facts() -> Option<OpenSslFacts> {
    openssl::facts()
}

/// The groups that rustls has, by our names for them.
#[must_use]
pub fn rustls_groups() -> Vec<&'static str> {
    let has = |name: &&'static str| Algorithms::from_lists("", name).is_ok_and(|only| only.provider().is_ok());
    Algorithms::group_names().filter(has).collect()
}

/// One thing that a provider or an engine can do, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ability {
    /// What it does.
    pub what: What,
    /// OpenSSL's names, in order.
    pub names: Vec<String>,
}

/// What there is algorithms for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Kinds of keys that it has.
    Keys,
    /// Signatures.
    Signatures,
    /// Key exchange.
    Exchange,
    /// Ciphers.
    Ciphers,
    /// URIs of keys and certificates.
    Stores,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "keys",
            Self::Signatures => "signatures",
            Self::Exchange => "key exchange",
            Self::Ciphers => "ciphers",
            Self::Stores => "stores",
        })
    }
}

/// What a provider or an engine of OpenSSL's own directory can do. It is loaded, an engine without being initialised, and stays loaded.
///
/// # Errors
/// It can't be loaded, or this binary has no OpenSSL.
pub fn abilities(kind: Kind, id: &str) -> Result<Vec<Ability>, ConfigError> {
    openssl::abilities(kind, id)
}

impl Accelerator {
    /// What its provider or engine can do.
    #[must_use]
    pub fn abilities(&self) -> Vec<Ability> {
        self.0.abilities()
    }
}

/// How signatures are measured.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// For so long, about.
    pub time: Duration,
    /// The time since any moment. Never goes back.
    pub clock: fn() -> Duration,
    /// What the calling thread has had of its core, where that is known.
    pub cpu: fn() -> Option<Duration>,
}

/// Signatures that were measured, all of one thread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignRate {
    /// How many were under way at a time.
    pub at_once: usize,
    /// How many were made.
    pub count: u64,
    /// How many of them paused.
    pub paused: u64,
    /// How long it took.
    pub took: Duration,
    /// What it took of the core, where that is known.
    pub cpu: Option<Duration>,
}

impl SignRate {
    /// Signatures a second.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Microseconds of the core for each.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn cpu_us(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.count.max(1) as f64)
    }
}

/// How fast rustls signs with a key in software, one signature after the other.
///
/// # Errors
/// Certificate or key can't be used.
pub fn rate_in_software(certificates: &Pem, key: &Pem, measure: Measure) -> Result<SignRate, ConfigError> {
    let identity = Identity { certificates: certificates.clone(), key: Key::Pem(key.clone()), staple: None };
    let provider = aws_lc_rs::default_provider();
    let CertifiedKey { key, .. } = &*load_certified_key(&identity, &provider, true)?;
    let bad = |error| ConfigError::BadKey { place: identity.key.place(), cause: Cause::new(error) };
    let no_scheme = || bad(::rustls::Error::General("it signs by no scheme that TLS has".into()));
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let signer = key.choose_scheme(&schemes).ok_or_else(no_scheme)?;
    let (begun, cpu, mut count) = ((measure.clock)(), (measure.cpu)(), 0);
    loop {
        signer.sign(MESSAGE).map_err(bad)?;
        count += 1;
        let took = (measure.clock)().saturating_sub(begun);
        if took >= measure.time {
            let cpu = (measure.cpu)().zip(cpu).map(|(now, then)| now.saturating_sub(then));
            return Ok(SignRate { at_once: 1, count, paused: 0, took, cpu });
        }
    }
}

/// A kind of key that is made to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKey {
    /// ECDSA with P-256.
    EcdsaP256,
    /// RSA with 2048 bits.
    Rsa2048,
}

impl SampleKey {
    /// As [`AboutCertificate::key`] has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::Rsa2048 => "RSA-2048",
        }
    }
}

/// How fast rustls signs in software with a key that is made for it.
///
/// # Errors
/// There is no randomness to make one of.
pub fn rate_of_sample(kind: SampleKey, measure: Measure) -> Result<SignRate, ConfigError> {
    let no_key = |error: rcgen::Error| {
        ConfigError::Backend(Cause::new(::rustls::Error::General(format!("no key can be made: {error}"))))
    };
    let key = match kind {
        SampleKey::EcdsaP256 => KeyPair::generate(),
        SampleKey::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    };
    let key = key.map_err(no_key)?;
    let certificate = CertificateParams::default().self_signed(&key).map_err(no_key)?;
    rate_in_software(&certificate.pem().as_str().into(), &key.serialize_pem().as_str().into(), measure)
}

/// How fast the accelerator of this identity signs, `at_once` at a time from this one thread. None: it has no accelerator.
///
/// # Errors
/// Certificate or key can't be used, or a signature fails.
pub fn rate_in_accelerator(
    identity: &Identity,
    at_once: usize,
    measure: Measure,
) -> Option<Result<SignRate, ConfigError>> {
    let Accelerator(accelerator) = identity.key.accelerator()?;
    Some(openssl::sign_rate(identity, accelerator, at_once.max(1), measure))
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AboutCertificate {
    /// Its DNS names.
    pub names: Vec<Box<str>>,
    /// The kind of its key: `RSA-2048`, `ECDSA P-256`, `Ed25519`.
    pub key: Box<str>,
}

/// Of the first certificate of a chain.
///
/// # Errors
/// It can't be read.
pub fn about(certificates: &Pem) -> Result<AboutCertificate, ConfigError> {
    let bad = || ConfigError::BadCertificate { place: certificates.place(), number: 1 };
    let chain = certificates.certificates()?;
    let own = chain.first().ok_or_else(bad)?;
    let names = dns_names(own).ok_or_else(bad)?;
    let spki = webpki::EndEntityCert::try_from(own).map_err(|_| bad())?.subject_public_key_info();
    Ok(AboutCertificate { names, key: key_kind(&spki).unwrap_or_else(|| "of another kind".into()) })
}

/// As long as what TLS 1.3 signs (RFC 8446 section 4.4.3): 64 spaces, a text, a 0 and a digest.
pub(crate) const MESSAGE: &[u8] = &[b' '; 130];
