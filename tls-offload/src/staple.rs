//! OCSP responses to be stapled (RFC 6960, RFC 6066 section 8): read from a file, and checked as far as a client would refuse them.
//!
//! **Invariant:** what is stapled says of the certificate that is shown that it is good, and says so still.

use std::path::Path;
use std::time::SystemTime;

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls_pki_types::CertificateDer;

use crate::client_auth::{Caveat, NoStaple};
use crate::der::{GENERALIZED_TIME, INTEGER, Moment, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, next_value, take};
use crate::error::Place;
use crate::server::Identity;

/// A response that is good for a time.
#[derive(Clone, Debug)]
pub(crate) struct Staple {
    pub(crate) der: Vec<u8>,
    /// None: it does not say.
    until: Option<Moment>,
}

impl Staple {
    /// That of an identity; the reason, where there is a file and it is not to be stapled.
    pub(crate) fn of(identity: &Identity) -> Result<Option<Self>, Caveat> {
        let Some(path) = &identity.staple else { return Ok(None) };
        // What is wrong with the certificate is told where it is loaded.
        let chain = identity.certificates.certificates().unwrap_or_default();
        let Some(own) = chain.first() else { return Ok(None) };
        let refused = |why| Caveat::NotStapled { place: Place::File(path.clone()), why };
        Self::load(path, own).map(Some).map_err(refused)
    }

    fn load(path: &Path, certificate: &CertificateDer<'_>) -> Result<Self, NoStaple> {
        let der = std::fs::read(path).map_err(|_| NoStaple::Unreadable)?;
        let single = single_of(&der, certificate)?;
        let staple = Self { until: single.until, der };
        match single.status {
            GOOD if staple.is_good(SystemTime::now()) => Ok(staple),
            GOOD => Err(NoStaple::Expired),
            _ => Err(NoStaple::NotGood),
        }
    }

    /// Whether it says anything at this time.
    pub(crate) fn is_good(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| !until.is_before(now))
    }
}

/// What a response says of one certificate.
struct Single {
    status: u8,
    until: Option<Moment>,
}

/// What a response says of this one.
fn single_of(response: &[u8], certificate: &CertificateDer<'_>) -> Result<Single, NoStaple> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|_| NoStaple::OfAnother)?;
    let issuer = with_header(parsed.issuer());
    let mut responses = responses(response).ok_or(NoStaple::NoResponse)?;
    while !responses.is_empty() {
        let mut single = take(&mut responses, SEQUENCE).ok_or(NoStaple::NoResponse)?;
        let mut id = take(&mut single, SEQUENCE).ok_or(NoStaple::NoResponse)?;
        let (is_of_issuer, serial) = of_issuer(&mut id, &issuer).ok_or(NoStaple::NoResponse)?;
        if is_of_issuer && serial == parsed.serial() {
            return told(single).ok_or(NoStaple::NoResponse);
        }
    }
    Err(NoStaple::OfAnother)
}

/// The single responses of a successful basic response (RFC 6960 section 4.2.1).
fn responses(mut response: &[u8]) -> Option<&[u8]> {
    let mut response = take(&mut response, SEQUENCE)?;
    if take(&mut response, ENUMERATED)? != [SUCCESSFUL] {
        return None;
    }
    let mut bytes = take(&mut take(&mut response, CONTEXT_0)?, SEQUENCE)?;
    if take(&mut bytes, OBJECT_IDENTIFIER)? != BASIC {
        return None;
    }
    let mut basic = take(&mut take(&mut bytes, OCTET_STRING)?, SEQUENCE)?;
    let mut data = take(&mut basic, SEQUENCE)?;
    take(&mut data, CONTEXT_0);
    // Who responds.
    next_value(&mut data)?;
    take(&mut data, GENERALIZED_TIME)?;
    take(&mut data, SEQUENCE)
}

/// Whether an id is of a certificate of this issuer, and the serial number.
fn of_issuer<'a>(id: &mut &'a [u8], issuer: &[u8]) -> Option<(bool, &'a [u8])> {
    let kind = take(&mut take(id, SEQUENCE)?, OBJECT_IDENTIFIER)?;
    let name = take(id, OCTET_STRING)?;
    take(id, OCTET_STRING)?;
    let serial = take(id, INTEGER)?;
    let algorithm: Option<&Algorithm> = match kind {
        SHA1_ID => Some(&SHA1_FOR_LEGACY_USE_ONLY),
        SHA256_ID => Some(&SHA256),
        _ => None,
    };
    Some((algorithm.is_some_and(|algorithm| digest(algorithm, issuer).as_ref() == name), serial))
}

/// The status, and until when it holds.
fn told(mut single: &[u8]) -> Option<Single> {
    let (status, _) = next_value(&mut single)?;
    Moment::take(&mut single)?;
    let until = match take(&mut single, CONTEXT_0) {
        Some(mut until) => Some(Moment::take(&mut until)?),
        None => None,
    };
    Some(Single { status, until })
}

/// A sequence with its header, of which webpki shows the content.
fn with_header(content: &[u8]) -> Vec<u8> {
    let len = content.len().to_be_bytes();
    let digits = &len[len.iter().position(|&b| b != 0).unwrap_or(len.len() - 1)..];
    let mut whole = vec![SEQUENCE];
    if content.len() >= 0x80 {
        // As many digits as a length has.
        whole.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
    }
    whole.extend_from_slice(digits);
    whole.extend_from_slice(content);
    whole
}

const ENUMERATED: u8 = 0x0a;
/// `[0]`, with a value of its own within.
const CONTEXT_0: u8 = 0xa0;
/// `[0]` in place of NULL.
const GOOD: u8 = 0x80;
const SUCCESSFUL: u8 = 0;
/// 1.3.6.1.5.5.7.48.1.1
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
/// 1.3.14.3.2.26
const SHA1_ID: &[u8] = &[0x2b, 14, 3, 2, 26];
/// 2.16.840.1.101.3.4.2.1
const SHA256_ID: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1];
