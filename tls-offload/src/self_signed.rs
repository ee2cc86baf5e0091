//! A self-signed certificate, for the demonstration at first start and for tests.
//!
//! **Invariant:** makes, never stores: where the two texts go is the caller's decision.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair};

/// Makes a P-256 key and a certificate for it that names `names` (DNS names or IP addresses): `(certificate, key)`, both in PEM. It is
/// valid from a day ago, so that a clock that lags does not refuse it, for two years.
///
/// # Errors
/// A name that can't be in a certificate, or no randomness.
pub fn self_signed<I: IntoIterator<Item: Into<String>>>(names: I) -> Result<(String, String), SelfSignedError> {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    let common_name = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names).map_err(SelfSignedError)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * 730).into();
    let key = KeyPair::generate().map_err(SelfSignedError)?;
    let certificate = params.self_signed(&key).map_err(SelfSignedError)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Why no certificate could be made.
#[derive(Debug)]
pub struct SelfSignedError(rcgen::Error);

impl fmt::Display for SelfSignedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't make a self-signed certificate: {}", self.0)
    }
}

impl std::error::Error for SelfSignedError {}

const DAY: Duration = Duration::from_secs(24 * 3600);
