//! Certificates of one test.

use std::path::{Path, PathBuf};

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
