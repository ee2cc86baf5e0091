//! Certificates of one run: an authority of its own and two servers' pairs, RSA 2048 and ECDSA P-256.
//!
//! **Invariant:** made anew for each run; no key is kept.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, RsaKeySize,
};

use crate::error::BenchError;
use crate::stage::Folder;

/// PEM files of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file, the certificate first, as HAProxy wants them.
    pub both: PathBuf,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Certs {
    /// Whom clients trust.
    pub authority: PathBuf,
    /// An RSA key of 2048 bits.
    pub rsa: Pair,
    /// An ECDSA key on P-256.
    pub ecdsa: Pair,
}

impl Certs {
    /// Makes them, in files of this folder.
    ///
    /// # Errors
    /// When they can't be made or written.
    pub fn make(folder: &Folder) -> Result<Self, BenchError> {
        let failed =
            |e: rcgen::Error| BenchError::Command { command: "making certificates".into(), output: e.to_string() };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.distinguished_name = named("Ferrogate bench authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).map_err(failed)?;
        let authority = folder.write("authority.pem", &certificate.pem())?;
        let issuer = Issuer::new(params, key);
        let pair = |name: &str, key: KeyPair| {
            let mut leaf = CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(failed)?;
            // Another name than the authority's, or OpenSSL takes it for self-signed.
            leaf.distinguished_name = named(SERVER_NAME);
            let certificate = leaf.signed_by(&key, &issuer).map_err(failed)?;
            let (certificate, key) = (certificate.pem(), key.serialize_pem());
            Ok::<_, BenchError>(Pair {
                certificate: folder.write(&format!("{name}.crt"), &certificate)?,
                key: folder.write(&format!("{name}.key"), &key)?,
                both: folder.write(&format!("{name}.pem"), &format!("{certificate}{key}"))?,
            })
        };
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
        let ecdsa = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        Ok(Self { authority, rsa: pair("rsa", rsa)?, ecdsa: pair("ecdsa", ecdsa)? })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// The name that every certificate is for.
pub const SERVER_NAME: &str = "bench.example";
