//! TLS contexts, of listeners and of clusters.
//!
//! **Invariant:** plain data; a key that stands in the file itself is never printed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::diagnostic::Origin;

/// `tls_context`, or one entry of `tls_context_set`. Only those that are on become data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// `cert_chain`: the certificate and those between it and the root. Always there on a listener; on a cluster what origins are shown.
    pub cert_chain: Option<Pem>,
    /// `private_key`. There where `cert_chain` is.
    pub private_key: Option<Pem>,
    /// `ca_cert`: whom to trust. None on a cluster: the system's roots. Always there on a listener that verifies clients.
    pub ca_cert: Option<Pem>,
    /// `crl`: what these have revoked.
    pub crl: Option<Pem>,
    /// `verify_client` and `require_client_cert`, on a listener.
    pub client_auth: ClientAuth,
    /// What lets clients resume their sessions, on a listener.
    pub resumption: Resumption,
    /// `server_name`, on a cluster: the name asked for (SNI) and verified. Empty: the host's own name.
    pub server_name: String,
    /// `insecure_skip`, on a cluster: do not verify the origin's certificate.
    pub insecure_skip: bool,
    /// `extend_verify.match_subject_alt_names` of `type: sni_verify`, on a cluster: a URI that the origin's certificate must have, in place of the name.
    pub uri: Option<String>,
    /// `alpn`: protocols in order of preference. Empty: none is negotiated.
    pub alpn: Vec<String>,
    /// `min_version`.
    pub min_version: TlsVersion,
    /// `max_version`.
    pub max_version: TlsVersion,
    /// `cipher_suites`; empty: the backend's choice.
    pub cipher_suites: String,
    /// `ecdh_curves`; empty: the backend's choice.
    pub ecdh_curves: String,
    /// `keylog_file`: where keys of sessions are written to.
    pub keylog_file: Option<PathBuf>,
    /// `ocsp_staple`, on a listener: a file with an OCSP response.
    pub ocsp_staple: Option<PathBuf>,
    /// `accelerator`, on a listener: the name of the one that computes with the key; empty: software.
    pub accelerator: String,
    /// The entry of `tls_backend.accelerators` with that name.
    pub accelerated_by: Option<Arc<AcceleratorConfig>>,
    /// `tls_backend.backend` of the file.
    pub backend: TlsBackend,
    /// `tls_backend.ktls` of the file, on a listener.
    pub ktls: Ktls,
    /// Where it stands.
    pub origin: Origin,
}

/// What lets clients resume their sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// `session_tickets`: whether they get tickets.
    pub tickets: bool,
    /// `session_ticket_keys`: files of keys; none: keys of the process.
    pub keys: Vec<PathBuf>,
    /// `session_timeout`: how long a ticket is good.
    pub timeout: Duration,
}

impl Default for Resumption {
    fn default() -> Self {
        Self { tickets: true, keys: Vec::new(), timeout: Duration::from_secs(12 * 3600) }
    }
}

impl TlsConfig {
    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pems = [&self.cert_chain, &self.private_key, &self.ca_cert, &self.crl].into_iter().flatten();
        let paths = pems.filter_map(|pem| match pem {
            Pem::Path(path) => Some(path),
            Pem::Text(_) | Pem::Stored(_) => None,
        });
        paths.chain(&self.ocsp_staple).chain(&self.resumption.keys).map(PathBuf::as_path)
    }
}

/// What clients are asked for, as MOSN's two keys say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Neither key: nothing.
    #[default]
    None,
    /// `require_client_cert` alone: a certificate, but whatever comes, or nothing, is good.
    Asked,
    /// `verify_client` alone: who shows a certificate must show a good one.
    VerifiedIfGiven,
    /// Both: a good certificate.
    Required,
}

impl ClientAuth {
    /// Whether a certificate that is shown is a good one.
    #[must_use]
    pub fn is_verified(self) -> bool {
        matches!(self, Self::VerifiedIfGiven | Self::Required)
    }
}

/// A certificate or a key: a file, or the PEM text itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// A file. A relative path starts at the working directory.
    Path(PathBuf),
    /// The text.
    Text(String),
    /// A key that an accelerator holds, by URI or id.
    Stored(String),
}

/// A bound on the TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// `tls_auto` or absent: no bound beyond what the gateway speaks, 1.2 and 1.3.
    #[default]
    Auto,
    /// `tlsv1_2`.
    V12,
    /// `tlsv1_3`.
    V13,
}

/// `tls_backend.backend`: who does the cryptography.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TlsBackend {
    /// The best there is on this host.
    #[default]
    Auto,
    /// rustls.
    Rustls,
    /// OpenSSL, in a binary that is built with it.
    OpenSsl,
}

/// `tls_backend.ktls`: whether the kernel seals and opens the records of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ktls {
    /// This process does.
    #[default]
    Off,
    /// The kernel, where it can.
    Auto,
    /// The kernel; where it can't there is no start.
    Require,
}

/// One entry of `tls_backend.accelerators`.
#[derive(Clone, PartialEq, Eq)]
pub struct AcceleratorConfig {
    /// `name`.
    pub name: String,
    /// `kind`.
    pub kind: AcceleratorKind,
    /// `id`: the OpenSSL provider or engine.
    pub id: String,
    /// `path`: its module. None: by its name in OpenSSL's own directory.
    pub path: Option<PathBuf>,
    /// `properties`: a property query for all that sessions with its keys compute.
    pub properties: String,
    /// `parameters`: what the provider is told when it is loaded.
    pub parameters: Vec<(String, String)>,
    /// `async`: whether handshakes pause for it.
    pub asynchronous: bool,
    /// `notify`.
    pub notify: AcceleratorNotify,
    /// `poll_interval`.
    pub poll_interval: Duration,
    /// `in_flight_max`: operations of one worker, at most.
    pub in_flight_max: u32,
    /// `timeout`: how long a handshake waits for it.
    pub timeout: Duration,
    /// `fallback`.
    pub fallback: AcceleratorFallback,
    /// `failures_max`: failures in a row after which it is left alone.
    pub failures_max: u32,
    /// `retry_interval`: for how long.
    pub retry_interval: Duration,
}

/// What an accelerator is to OpenSSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AcceleratorKind {
    /// A provider.
    #[default]
    Provider,
    /// An engine.
    Engine,
}

/// What becomes of a handshake that an accelerator has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AcceleratorFallback {
    /// Software computes.
    #[default]
    Software,
    /// It fails.
    Fail,
}

/// How an accelerator says that it has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AcceleratorNotify {
    /// It calls back.
    #[default]
    Callback,
    /// It is polled.
    Poll,
    /// It makes a descriptor readable.
    Fd,
}

/// Shows no parameter: one may be a PIN.
impl fmt::Debug for AcceleratorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceleratorConfig").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Pem {
    /// What `text` stands for: PEM when it holds a PEM header, else a path.
    #[must_use]
    pub fn of(text: String) -> Self {
        if text.contains("-----BEGIN") { Self::Text(text) } else { Self::Path(text.into()) }
    }

    /// The same of a private key, which may also be one that an accelerator holds: `pkcs11:`, or `store:` and any name.
    #[must_use]
    pub fn of_key(text: String) -> Self {
        match text.strip_prefix("store:") {
            Some(name) => Self::Stored(name.to_owned()),
            None if text.starts_with("pkcs11:") => Self::Stored(text),
            None => Self::of(text),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(p) => write!(f, "{}", p.display()),
            Self::Text(_) => f.write_str("(PEM in the file)"),
            // There may be a PIN in its name.
            Self::Stored(_) => f.write_str("(a key in an accelerator)"),
        }
    }
}
