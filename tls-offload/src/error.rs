//! What goes wrong: in a configuration, when a session starts, and in a session.
//!
//! **Invariant:** the peer's fault, ours and the caller's never share a variant; a configuration's error says what, where and what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use ::rustls::CertificateError;

use crate::openssl::OpenSslError;
use crate::options::Version;

/// Why a session ended or can't go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's first bytes are no TLS record: plain HTTP on a TLS port, for example.
    NotTls,
    /// The peer broke the protocol, or its bytes were changed on the way.
    Protocol(Cause),
    /// The peer ended the session with an alert: its reason is in the cause.
    Alert(Cause),
    /// The peer's certificate was refused.
    Certificate(Cause),
    /// The peer and we have no version, cipher suite, group or application protocol in common.
    NoAgreement(Cause),
    /// A fault on our side: no randomness, a key that does not sign.
    Local(Cause),
    /// The keys of a TLS 1.2 session are used up.
    Exhausted,
    /// The caller's fault: plaintext asked for or given before the handshake was complete, or after the session died.
    NotReady,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("the peer does not speak TLS"),
            Self::Protocol(c) => write!(f, "the peer broke the TLS protocol: {c}"),
            Self::Alert(c) => write!(f, "the peer ended the TLS session: {c}"),
            Self::Certificate(c) => write!(f, "the peer's certificate is refused: {c}"),
            Self::NoAgreement(c) => write!(f, "nothing in common with the peer's TLS: {c}"),
            Self::Local(c) => write!(f, "TLS failed on our side: {c}"),
            Self::Exhausted => f.write_str("the keys of the TLS session are used up"),
            Self::NotReady => f.write_str("the TLS session is not established"),
        }
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Protocol(c) | Self::Alert(c) | Self::Certificate(c) | Self::NoAgreement(c) | Self::Local(c) => {
                Some(c)
            }
            Self::NotTls | Self::Exhausted | Self::NotReady => None,
        }
    }
}

impl From<::rustls::Error> for TlsError {
    fn from(error: ::rustls::Error) -> Self {
        use ::rustls::Error as E;
        let cause = Cause::new;
        match error {
            e @ E::AlertReceived(_) => Self::Alert(cause(e)),
            e @ (E::InvalidCertificate(_) | E::NoCertificatesPresented | E::UnsupportedNameType) => {
                Self::Certificate(cause(e))
            }
            e @ (E::PeerIncompatible(_) | E::NoApplicationProtocol) => Self::NoAgreement(cause(e)),
            e @ (E::General(_)
            | E::Other(_)
            | E::EncryptError
            | E::FailedToGetCurrentTime
            | E::FailedToGetRandomBytes
            | E::BadMaxFragmentSize
            | E::InconsistentKeys(_)
            | E::InvalidCertRevocationList(_)) => Self::Local(cause(e)),
            E::HandshakeNotComplete => Self::NotReady,
            e => Self::Protocol(cause(e)),
        }
    }
}

/// What the backend said. Opaque: backends differ; match on [`TlsError`] instead.
#[derive(Debug)]
pub struct Cause(Said);

#[derive(Debug)]
enum Said {
    Rustls(Box<::rustls::Error>),
    OpenSsl(OpenSslError),
}

impl Cause {
    pub(crate) fn new(error: ::rustls::Error) -> Self {
        Self(Said::Rustls(Box::new(error)))
    }

    pub(crate) fn openssl(error: OpenSslError) -> Self {
        Self(Said::OpenSsl(error))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Said::Rustls(e) => match &**e {
                // rustls would show the parts that a reason of ours is made of.
                ::rustls::Error::InvalidCertificate(CertificateError::Other(why)) => {
                    write!(f, "invalid peer certificate: {}", why.0)
                }
                e => e.fmt(f),
            },
            Said::OpenSsl(e) => e.fmt(f),
        }
    }
}

impl Error for Cause {}

/// Why a client's session can't start.
#[derive(Debug)]
pub enum SessionError {
    /// The server's name is neither a DNS name nor an IP address.
    BadServerName {
        /// The name.
        name: Box<str>,
    },
    /// Our side could not make the first message.
    Local(Cause),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadServerName { name } => {
                write!(
                    f,
                    "\"{name}\" is neither a DNS name nor an IP address: set server_name to the name in the certificate"
                )
            }
            Self::Local(c) => write!(f, "can't start a TLS session: {c}"),
        }
    }
}

impl Error for SessionError {}

/// Where a certificate or a key came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// The text in the configuration itself.
    Inline,
    /// An accelerator, under this name. Without a PIN.
    Stored(Box<str>),
}

impl Place {
    /// A PIN in a URI (RFC 7512 section 2.3) is left out.
    pub(crate) fn stored(id: &str) -> Self {
        let parts = id.split_inclusive([';', '?', '&']);
        let shown: String = parts.map(|part| part.find("pin-value=").map_or(part, |at| &part[..at])).collect();
        Self::Stored(shown.trim_end_matches([';', '?', '&']).into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Inline => f.write_str("the inline PEM text"),
            Self::Stored(id) => f.write_str(id),
        }
    }
}

/// Why a TLS configuration is refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file can't be read.
    Read {
        /// Which.
        place: Place,
        /// Why.
        cause: io::Error,
    },
    /// Not PEM, or broken PEM.
    BadPem {
        /// Where.
        place: Place,
        /// Why.
        cause: rustls_pki_types::pem::Error,
    },
    /// No certificate in it.
    NoCertificateBlock {
        /// Where.
        place: Place,
    },
    /// No private key in it.
    NoKeyBlock {
        /// Where.
        place: Place,
    },
    /// The key is protected by a passphrase.
    EncryptedKey {
        /// Where.
        place: Place,
    },
    /// No certificate revocation list in it.
    NoRevocationList {
        /// Where.
        place: Place,
    },
    /// A certificate revocation list that can't be parsed, or is of a kind that is not supported.
    BadRevocationList {
        /// Where.
        place: Place,
        /// Which block of the file, from 1.
        number: usize,
    },
    /// A key of session tickets that is none.
    BadTicketKey {
        /// Where.
        place: Place,
        /// Which line of the file, from 1.
        number: usize,
    },
    /// A certificate that can't be parsed.
    BadCertificate {
        /// Where.
        place: Place,
        /// Which block of the file, from 1.
        number: usize,
    },
    /// A key that can't be parsed or whose kind is not supported.
    BadKey {
        /// Where.
        place: Place,
        /// Why.
        cause: Cause,
    },
    /// The key belongs to another certificate.
    KeyMismatch {
        /// The certificate's place.
        certificate: Place,
        /// The key's place.
        key: Place,
    },
    /// A server without a certificate.
    NoIdentity,
    /// A version below TLS 1.2.
    OldVersion {
        /// Its name.
        name: Box<str>,
    },
    /// A text that names no version.
    UnknownVersion {
        /// The text.
        name: Box<str>,
    },
    /// The minimum is above the maximum.
    NoVersion {
        /// The minimum.
        min: Version,
        /// The maximum.
        max: Version,
    },
    /// An application protocol's name that is empty or too long.
    BadAlpn {
        /// The name.
        name: Box<str>,
    },
    /// A list of cipher suites of which none can be offered.
    NoSuite {
        /// The list.
        list: Box<str>,
    },
    /// A list of groups of which none can be offered.
    NoGroup {
        /// The list.
        list: Box<str>,
    },
    /// The file for the keys of sessions can't be opened.
    KeyLog {
        /// Where it is.
        place: Place,
        /// Why.
        cause: io::Error,
    },
    /// `server_name` is no name.
    BadServerName {
        /// The name.
        name: Box<str>,
    },
    /// The system has no trusted root certificates.
    NoSystemRoots,
    /// OpenSSL was asked for, and this binary is built without it.
    NotBuilt,
    /// An accelerator can't be opened.
    NoAccelerator {
        /// Its name.
        name: Box<str>,
        /// Why.
        cause: Cause,
    },
    /// A key can't be given to an accelerator.
    NotAccelerated {
        /// The accelerator's name.
        name: Box<str>,
        /// The key's place.
        key: Place,
        /// Why.
        cause: Cause,
    },
    /// An engine was given a key in PEM.
    EngineTakesIds {
        /// The engine's name.
        name: Box<str>,
        /// The key's place.
        key: Place,
    },
    /// An accelerator has no such key.
    NotStored {
        /// The accelerator's name.
        name: Box<str>,
        /// The key's place.
        key: Place,
        /// Why.
        cause: Cause,
    },
    /// The keys of one listener are bound to two accelerators.
    TwoAccelerators {
        /// Their names.
        names: [Box<str>; 2],
    },
    /// A handshake to prove an accelerator failed.
    ProofFailed {
        /// The accelerator's name.
        name: Box<str>,
        /// The key's place.
        key: Place,
        /// Why.
        cause: Box<TlsError>,
    },
    /// A handshake to prove an accelerator came to its end without it.
    NotOffloaded {
        /// The accelerator's name.
        name: Box<str>,
        /// The key's place.
        key: Place,
    },
    /// The backend refused it.
    Backend(Cause),
}

impl fmt::Display for ConfigError {
    // tidy: table
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { place, cause } => write!(f, "can't read {place}: {cause}"),
            Self::BadPem { place, cause } => write!(f, "{place} is no valid PEM: {cause}"),
            Self::NoCertificateBlock { place } => {
                write!(f, "{place} holds no CERTIFICATE block: give the certificate chain in PEM, leaf first")
            }
            Self::NoKeyBlock { place } => {
                write!(f, "{place} holds no PRIVATE KEY block: give the key in PEM (PKCS#8, PKCS#1 or SEC1)")
            }
            Self::EncryptedKey { place } => {
                write!(f, "the key in {place} is encrypted: decrypt it with `openssl pkey -in KEY -out PLAIN_KEY`")
            }
            Self::BadCertificate { place, number } => {
                write!(
                    f,
                    "certificate {number} in {place} can't be parsed: check it with `openssl x509 -text -in FILE`"
                )
            }
            Self::NoRevocationList { place } => {
                write!(f, "{place} holds no X509 CRL block: give one list of each authority in PEM")
            }
            Self::BadRevocationList { place, number } => {
                write!(f, "revocation list {number} in {place} can't be used: check it with `openssl crl -text -in FILE`")
            }
            Self::BadTicketKey { place, number } => write!(
                f,
                "line {number} of {place} is no key for session tickets: give 48 or 80 bytes (`openssl rand 80`), or lines of them in base64 (`openssl rand 80 | openssl base64 -A`)"
            ),
            Self::BadKey { place, cause } => write!(f, "the key in {place} can't be used: {cause}"),
            Self::KeyMismatch { certificate, key } => {
                write!(
                    f,
                    "the key in {key} does not match the certificate in {certificate}: the first certificate must be the key's own"
                )
            }
            Self::NoIdentity => f.write_str("a TLS listener needs a certificate: set cert_chain and private_key"),
            Self::OldVersion { name } => {
                write!(f, "{name} is below TLS 1.2, which is the oldest we speak: use tlsv1_2")
            }
            Self::UnknownVersion { name } => {
                write!(f, "\"{name}\" is no TLS version: use tls_auto, tlsv1_2 or tlsv1_3")
            }
            Self::NoVersion { min, max } => write!(f, "min_version {min} is above max_version {max}"),
            Self::BadAlpn { name } => {
                write!(
                    f,
                    "\"{name}\" is no application protocol: a name has 1 to 255 bytes, names have commas between them"
                )
            }
            Self::BadServerName { name } => write!(f, "server_name \"{name}\" is neither a DNS name nor an IP address"),
            Self::NoSuite { list } => write!(
                f,
                "no suite of cipher_suites \"{list}\" is offered: name some of ECDHE with GCM or CHACHA20-POLY1305, like ECDHE-RSA-AES128-GCM-SHA256"
            ),
            Self::NoGroup { list } => {
                write!(f, "no group of ecdh_curves \"{list}\" is here: name some of X25519, P-256, P-384")
            }
            Self::KeyLog { place, cause } => write!(f, "the keylog_file {place} can't be written to: {cause}"),
            Self::NoSystemRoots => f.write_str(
                "the system has no trusted root certificates: install the package ca-certificates, or set ca_cert",
            ),
            Self::NotBuilt => f.write_str(
                "this binary is built without OpenSSL: set tls_backend.backend to rustls or auto, or build with `--features openssl`",
            ),
            Self::NoAccelerator { name, cause } => write!(
                f,
                "the accelerator {name} can't be opened: {cause}: check its provider and module with `openssl list -providers -provider NAME`"
            ),
            Self::NotAccelerated { name, key, cause } => {
                write!(f, "the key in {key} can't be given to the accelerator {name}: {cause}: does it do keys of this kind?")
            }
            Self::EngineTakesIds { name, key } => write!(
                f,
                "the key in {key} can't be given to the accelerator {name}, an engine: name a key that it holds, like pkcs11:object=KEY"
            ),
            Self::NotStored { name, key, cause } => write!(
                f,
                "the accelerator {name} gives no private key {key}: {cause}: is it in the token (`pkcs11-tool --list-objects --login`), and is the PIN right?"
            ),
            Self::TwoAccelerators { names: [one, two] } => {
                write!(f, "one listener's keys are bound to the accelerators {one} and {two}: bind them to one")
            }
            Self::ProofFailed { name, key, cause } => {
                write!(f, "a handshake with the key in {key} and the accelerator {name} failed: {cause}")
            }
            Self::NotOffloaded { name, key } => write!(
                f,
                "a handshake with the key in {key} never paused for the accelerator {name}, so software computed it: is the card there, and does it do keys of this kind?"
            ),
            Self::Backend(c) => write!(f, "the TLS configuration is refused: {c}"),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read { cause, .. } => Some(cause),
            Self::BadPem { cause, .. } => Some(cause),
            Self::BadKey { cause, .. } | Self::Backend(cause) => Some(cause),
            _ => None,
        }
    }
}
