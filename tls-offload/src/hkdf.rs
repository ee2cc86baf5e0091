//! The key derivation of TLS 1.3 (RFC 8446 section 7.1) for rustls: HKDF (RFC 5869) that keeps what it has extracted.
//!
//! aws-lc-rs extracts anew for each secret that is expanded from one: a handshake takes some twenty, from half as many.
//!
//! **Invariant:** gives the same bytes as rustls's own; the HMAC below is aws-lc's.

use std::sync::LazyLock;

use ::rustls::crypto::hash::HashAlgorithm;
use ::rustls::crypto::hmac::Tag;
use ::rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use ::rustls::crypto::{CipherSuiteCommon, aws_lc_rs as provider};
use ::rustls::{SupportedCipherSuite, Tls13CipherSuite};
use aws_lc_rs::hmac::{self, HMAC_SHA256, HMAC_SHA384};

/// The same suite, with this derivation if it is one of TLS 1.3.
pub(crate) fn deriving(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let own = OWN.iter().find(|own| own.common.suite == suite.suite());
    own.map_or(suite, SupportedCipherSuite::Tls13)
}

static OWN: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    provider::ALL_CIPHER_SUITES.iter().filter_map(SupportedCipherSuite::tls13).filter_map(own).collect()
});

fn own(suite: &Tls13CipherSuite) -> Option<Tls13CipherSuite> {
    let CipherSuiteCommon { suite: id, hash_provider, confidentiality_limit } = suite.common;
    let hkdf_provider: &Derivation = match hash_provider.algorithm() {
        HashAlgorithm::SHA256 => &Derivation(HMAC_SHA256),
        HashAlgorithm::SHA384 => &Derivation(HMAC_SHA384),
        _ => return None,
    };
    let common = CipherSuiteCommon { suite: id, hash_provider, confidentiality_limit };
    Some(Tls13CipherSuite { common, hkdf_provider, aead_alg: suite.aead_alg, quic: None })
}

struct Derivation(hmac::Algorithm);

/// A pseudorandom key, as the key of an HMAC.
struct Extracted(hmac::Key);

impl Hkdf for Derivation {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.extract_from_secret(salt, &ZEROES[..self.0.digest_algorithm().output_len()])
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        let salt = salt.unwrap_or(&ZEROES[..self.0.digest_algorithm().output_len()]);
        self.expander_for_okm(&OkmBlock::new(hmac::sign(&hmac::Key::new(self.0, salt), secret).as_ref()))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        Box::new(Extracted(hmac::Key::new(self.0, okm.as_ref())))
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        Tag::new(hmac::sign(&hmac::Key::new(self.0, key.as_ref()), message).as_ref())
    }
}

impl Extracted {
    /// T(number) of RFC 5869 section 2.3, where `before` is the one before.
    fn block(&self, before: &[u8], info: &[&[u8]], number: u8) -> OkmBlock {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(before);
        info.iter().for_each(|part| context.update(part));
        context.update(&[number]);
        OkmBlock::new(context.sign().as_ref())
    }
}

impl HkdfExpander for Extracted {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        let mut before: Option<OkmBlock> = None;
        for (index, part) in output.chunks_mut(self.hash_len()).enumerate() {
            let number = u8::try_from(index + 1).map_err(|_| OutputLengthError)?;
            let block = self.block(before.as_ref().map_or(&[], OkmBlock::as_ref), info, number);
            part.copy_from_slice(&block.as_ref()[..part.len()]);
            before = Some(block);
        }
        Ok(())
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        self.block(&[], info, 1)
    }

    fn hash_len(&self) -> usize {
        self.0.algorithm().digest_algorithm().output_len()
    }
}

/// What is extracted from, or salted with, where there is nothing.
const ZEROES: [u8; OkmBlock::MAX_LEN] = [0; OkmBlock::MAX_LEN];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_what_rustls_gives() {
        let mut compared = 0;
        for theirs in provider::ALL_CIPHER_SUITES {
            let ours = deriving(*theirs);
            assert_eq!(ours.suite(), theirs.suite());
            let (Some(ours), Some(theirs)) = (ours.tls13(), theirs.tls13()) else { continue };
            let (ours, theirs) = (ours.hkdf_provider, theirs.hkdf_provider);
            let (salt, secret, info) = (&b"a salt"[..], &[7; 32][..], [&b"parts"[..], b"", b" of an info"]);
            let okm = OkmBlock::new(&[9; 32]);
            for [ours, theirs] in [
                [ours.extract_from_secret(Some(salt), secret), theirs.extract_from_secret(Some(salt), secret)],
                [ours.extract_from_secret(None, secret), theirs.extract_from_secret(None, secret)],
                [ours.extract_from_zero_ikm(Some(salt)), theirs.extract_from_zero_ikm(Some(salt))],
                [ours.extract_from_zero_ikm(None), theirs.extract_from_zero_ikm(None)],
                [ours.expander_for_okm(&okm), theirs.expander_for_okm(&okm)],
            ] {
                assert_eq!(ours.hash_len(), theirs.hash_len());
                assert_eq!(ours.expand_block(&info).as_ref(), theirs.expand_block(&info).as_ref());
                for len in [0, 1, 12, 32, 48, 49, 200, 255 * 32] {
                    let (mut a, mut b) = (vec![0; len], vec![0; len]);
                    assert!(ours.expand_slice(&info, &mut a).is_ok() && theirs.expand_slice(&info, &mut b).is_ok());
                    assert_eq!(a, b, "{len}");
                }
                assert!(ours.expand_slice(&info, &mut vec![0; 255 * ours.hash_len() + 1]).is_err());
                compared += 1;
            }
            let message = b"what is signed";
            assert_eq!(ours.hmac_sign(&okm, message).as_ref(), theirs.hmac_sign(&okm, message).as_ref());
        }
        assert_eq!(compared, 15, "three suites");
    }

    /// RFC 5869, appendix A.1.
    #[test]
    fn it_gives_what_the_rfc_gives() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let mut okm = [0; 42];
        let extracted = Derivation(HMAC_SHA256).extract_from_secret(Some(&salt), &[0x0b; 22]);
        assert!(extracted.expand_slice(&[&info], &mut okm).is_ok());
        let hex: String = okm.iter().map(|byte| format!("{byte:02x}")).collect();
        let rfc = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
        assert_eq!(hex, rfc);
    }
}
