//! Certificates of one test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
};

use crate::process::run;
use crate::temp::TempDir;

/// A self-signed certificate and its key, as PEM files that go when it is dropped.
#[derive(Debug)]
pub struct Pair {
    /// The certificate; also what a client has to trust.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
    _folder: TempDir,
}

impl Pair {
    /// A certificate for these names.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn for_names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("names that a certificate can carry");
        let folder = TempDir::new();
        let certificate = folder.write("cert.pem", &made.cert.pem());
        let key = folder.write("key.pem", &made.signing_key.serialize_pem());
        Self { certificate, key, _folder: folder }
    }

    /// Both paths, as [`Config::tls`](crate::Config::tls) takes them.
    #[must_use]
    pub fn paths(&self) -> (&Path, &Path) {
        (&self.certificate, &self.key)
    }
}

/// An authority of one test: what it issues, it writes as PEM files into a folder that goes when it is dropped.
pub struct Authority {
    /// Its own certificate: what those have to trust who are shown what it has issued.
    pub certificate: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// One of this name.
    ///
    /// # Panics
    /// When the folder can't be written.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("there is randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority signs itself");
        let folder = TempDir::new();
        folder.write("ca.key", &issuer.key().serialize_pem());
        Self { certificate: folder.write("ca.pem", &issuer.pem()), issuer, folder }
    }

    /// A certificate for these names, of servers and of clients, and its key: files called `file.pem` and `file.key`. The first name is its
    /// subject's; with `://` in it a name is a URI.
    #[must_use]
    pub fn issue(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        self.issue_until(file, names, SystemTime::now() + DAY)
    }

    /// The same, good until then.
    ///
    /// # Panics
    /// When a name is none, or a file can't be written.
    #[must_use]
    pub fn issue_until(&self, file: &str, names: &[&str], until: SystemTime) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let (uris, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.contains("://"));
        let mut params = CertificateParams::new(names.clone()).expect("names that a certificate can carry");
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(uri.try_into().expect("a URI")));
        }
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Test, Inc.");
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        params.serial_number = Some(serial(&names[0]).into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = until.into();
        let key = KeyPair::generate().expect("there is randomness");
        let made = params.signed_by(&key, &self.issuer).expect("the authority signs");
        (
            self.folder.write(&format!("{file}.pem"), &made.pem()),
            self.folder.write(&format!("{file}.key"), &key.serialize_pem()),
        )
    }

    /// An OCSP response for a certificate that it has issued, `good` or not, made by openssl: `file.ocsp`, good for a day.
    ///
    /// # Panics
    /// When openssl can't.
    #[must_use]
    pub fn vouch(&self, certificate: &Path, good: bool) -> PathBuf {
        let serial = run(Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(certificate));
        let serial = serial.expect("it is a certificate");
        let serial = serial.trim().trim_start_matches("serial=");
        let status = if good { "V\t391231000000Z\t" } else { "R\t391231000000Z\t250101000000Z" };
        let index = self.folder.write("index.txt", &format!("{status}\t{serial}\tunknown\t/CN=any\n"));
        let (ca, key) = (&self.certificate, self.certificate.with_file_name("ca.key"));
        let response = certificate.with_extension("ocsp");
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-ndays", "1", "-noverify", "-index"]).arg(index);
        for (name, file) in [("-rsigner", ca), ("-rkey", &key), ("-CA", ca), ("-issuer", ca), ("-respout", &response)] {
            command.arg(name).arg(file);
        }
        run(command.arg("-cert").arg(certificate)).expect("openssl makes a response");
        response
    }

    /// A list that revokes those whose first names these are, as `crl.pem`.
    ///
    /// # Panics
    /// When it can't be written.
    #[must_use]
    pub fn revoke(&self, names: &[&str]) -> PathBuf {
        let now = SystemTime::now();
        let revoked = |name: &&str| RevokedCertParams {
            serial_number: serial(name).into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: (now + DAY).into(),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: names.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).and_then(|list| list.pem()).expect("the authority signs");
        self.folder.write("crl.pem", &list)
    }
}

/// Of a certificate, by its first name.
fn serial(name: &str) -> u64 {
    name.bytes().fold(1_u64, |n, byte| n.wrapping_mul(31).wrapping_add(byte.into())) >> 1
}

const DAY: Duration = Duration::from_secs(86400);
