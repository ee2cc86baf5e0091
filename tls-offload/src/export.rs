//! What leaves an established session: its keys, for whoever goes on with its records.
//!
//! A session holds no plaintext between two calls, so what the reader has not taken lies with whoever drives it, and only keys, sequence
//! numbers and what was agreed are to be carried over.
//!
//! **Invariant:** a session whose keys have left is gone: each key has one owner, who counts its records, or a nonce would be used twice.

use std::fmt;

use ::rustls::client::ClientConnectionData;
use ::rustls::kernel::KernelConnection;
use ::rustls::server::ServerConnectionData;
use ::rustls::{CipherSuite, ConnectionTrafficSecrets, ExtractedSecrets, SupportedCipherSuite};
use rustls_pki_types::CertificateDer;

use crate::error::TlsError;
use crate::options::Version;
use crate::peer_certificate::PeerCertificate;
use crate::session::SessionInfo;

/// An established session, outside of its backend.
pub struct SessionState {
    /// What its records go on with.
    pub keys: SessionKeys,
    /// What its handshake agreed.
    pub agreed: Agreed,
}

/// The keys of both directions, and those that come after them.
pub struct SessionKeys {
    /// What we send is sealed with these.
    pub send: TrafficKeys,
    /// What we receive is opened with these.
    pub receive: TrafficKeys,
    renewals: Renewals,
}

/// The keys of one direction.
pub struct TrafficKeys {
    suite: Suite,
    sequence: u64,
    secrets: ConnectionTrafficSecrets,
}

/// How records are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// The protocol version, which decides what a record looks like.
    pub version: Version,
    /// The cipher.
    pub cipher: Cipher,
}

/// An AEAD of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

/// What a handshake agreed, when its session has gone.
#[derive(Debug, Default)]
pub struct Agreed {
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) sni: Option<Box<str>>,
    pub(crate) version: Option<Version>,
    pub(crate) cipher: Option<&'static str>,
    pub(crate) resumed: bool,
    pub(crate) peer: Vec<CertificateDer<'static>>,
}

/// Why a session can't be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// OpenSSL gives out neither traffic keys nor sequence numbers.
    Backend,
    /// The configuration does not let keys out.
    Forbidden,
    /// Its suite has no cipher of [`Cipher`].
    Suite,
    /// Not now: the handshake is not complete, something waits to be sent, half of a message has come, or the session has ended.
    NotNow,
}

impl SessionKeys {
    pub(crate) fn new(version: Version, secrets: ExtractedSecrets, renewals: Renewals) -> Result<Self, Unsupported> {
        let (send, receive) = (secrets.tx, secrets.rx);
        Ok(Self {
            send: TrafficKeys::new(version, send.0, send.1)?,
            receive: TrafficKeys::new(version, receive.0, receive.1)?,
            renewals,
        })
    }

    /// How records are sealed, in both directions.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.send.suite
    }

    /// The peer has sent a key update (RFC 8446 section 4.6.3): what it sends from now on is opened with other keys.
    ///
    /// # Errors
    /// In TLS 1.2, which has none.
    pub fn renew_receive(&mut self) -> Result<&TrafficKeys, TlsError> {
        let (sequence, secrets) = match &mut self.renewals {
            Renewals::Server(conn) => conn.update_rx_secret()?,
            Renewals::Client(conn) => conn.update_rx_secret()?,
        };
        self.receive = TrafficKeys { suite: self.receive.suite, sequence, secrets };
        Ok(&self.receive)
    }

    /// We have sent a key update: what we send from now on is sealed with other keys.
    ///
    /// # Errors
    /// In TLS 1.2, which has none.
    pub fn renew_send(&mut self) -> Result<&TrafficKeys, TlsError> {
        let (sequence, secrets) = match &mut self.renewals {
            Renewals::Server(conn) => conn.update_tx_secret()?,
            Renewals::Client(conn) => conn.update_tx_secret()?,
        };
        self.send = TrafficKeys { suite: self.send.suite, sequence, secrets };
        Ok(&self.send)
    }
}

impl TrafficKeys {
    fn new(version: Version, sequence: u64, secrets: ConnectionTrafficSecrets) -> Result<Self, Unsupported> {
        let cipher = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { .. } => Cipher::Aes128Gcm,
            ConnectionTrafficSecrets::Aes256Gcm { .. } => Cipher::Aes256Gcm,
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => Cipher::ChaCha20Poly1305,
            _ => return Err(Unsupported::Suite),
        };
        Ok(Self { suite: Suite { version, cipher }, sequence, secrets })
    }

    /// The number of the next record.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The key, of the length that the cipher wants.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.parts().0
    }

    /// What a record's number is added to (XOR) for its nonce: RFC 8446 section 5.3, RFC 7905 section 2. In TLS 1.2 with GCM the first four
    /// bytes are the salt (RFC 5288 section 3); of what follows only the sender knows, who may choose it.
    #[must_use]
    pub fn iv(&self) -> [u8; 12] {
        let mut iv = [0; 12];
        iv.copy_from_slice(self.parts().1);
        iv
    }

    /// The first explicit nonce for a sender of TLS 1.2 with GCM that counts its nonces up from one to the next, as Linux does.
    ///
    /// The session had `iv ^ number` until now. Counting on from there would meet what was used: `iv ^ 1` and one more may be `iv ^ 0`. This
    /// is half of all nonces away from those.
    #[must_use]
    pub fn counted_nonce(&self) -> [u8; 8] {
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&self.parts().1[4..]);
        nonce[0] ^= 0x80;
        nonce
    }

    /// Records that one key may seal, at most (RFC 8446 section 5.5).
    #[must_use]
    pub fn records_max(&self) -> u64 {
        match self.suite.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => 1 << 24,
            // RFC 8446 section 5.5: the sequence number wraps first.
            Cipher::ChaCha20Poly1305 => u64::MAX,
        }
    }

    /// How these records are sealed.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key.as_ref(), iv.as_ref()),
            _ => unreachable!("`new` takes no other"),
        }
    }
}

impl Agreed {
    /// What was agreed.
    #[must_use]
    pub fn info(&self) -> SessionInfo<'_> {
        SessionInfo {
            alpn: self.alpn.as_deref(),
            sni: self.sni.as_deref(),
            version: self.version,
            cipher: self.cipher,
            resumed: self.resumed,
        }
    }

    /// As [`Session::peer_certificate`](crate::Session::peer_certificate).
    #[must_use]
    pub fn peer_certificate(&self) -> Option<PeerCertificate> {
        PeerCertificate::new(self.peer.clone())
    }
}

impl Suite {
    /// All that there are.
    pub const ALL: [Self; 6] = {
        let (v12, v13) = (Version::Tls12, Version::Tls13);
        [
            Self { version: v13, cipher: Cipher::Aes128Gcm },
            Self { version: v13, cipher: Cipher::Aes256Gcm },
            Self { version: v13, cipher: Cipher::ChaCha20Poly1305 },
            Self { version: v12, cipher: Cipher::Aes128Gcm },
            Self { version: v12, cipher: Cipher::Aes256Gcm },
            Self { version: v12, cipher: Cipher::ChaCha20Poly1305 },
        ]
    };

    pub(crate) fn of(suite: SupportedCipherSuite) -> Option<Self> {
        use CipherSuite as C;
        let version = if suite.tls13().is_some() { Version::Tls13 } else { Version::Tls12 };
        let cipher = match suite.suite() {
            C::TLS13_AES_128_GCM_SHA256
            | C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
            C::TLS13_AES_256_GCM_SHA384
            | C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
            C::TLS13_CHACHA20_POLY1305_SHA256
            | C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::ChaCha20Poly1305,
            _ => return None,
        };
        Some(Self { version, cipher })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.cipher)
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        })
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backend => "OpenSSL gives no keys of a session out: set tls_backend.backend to rustls",
            Self::Forbidden => "the keys of a session may not leave it: its configuration does not say `export`",
            Self::Suite => "the session's cipher suite is none whose keys can leave",
            Self::NotNow => "the TLS session is not established, or something of it is under way",
        })
    }
}

impl std::error::Error for Unsupported {}

/// Shows no key.
impl fmt::Debug for TrafficKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficKeys")
            .field("suite", &self.suite)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// Shows no key.
impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (send, receive) = (&self.send, &self.receive);
        f.debug_struct("SessionKeys").field("send", send).field("receive", receive).finish_non_exhaustive()
    }
}

impl fmt::Debug for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionState").field("keys", &self.keys).field("agreed", &self.agreed).finish()
    }
}

/// Where the keys after a key update come from.
pub(crate) enum Renewals {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

#[cfg(test)]
mod tests {
    use ::rustls::crypto::cipher::{AeadKey, Iv};

    use super::*;

    fn keys(iv: [u8; 12]) -> TrafficKeys {
        let secrets = ConnectionTrafficSecrets::Aes128Gcm { key: AeadKey::from([7; 32]), iv: Iv::new(iv) };
        TrafficKeys::new(Version::Tls12, 3, secrets).unwrap()
    }

    #[test]
    fn counted_nonces_meet_none_that_the_session_used() {
        for last in [0_u8, 1, 2, 3, 0x7f, 0xff] {
            let mut iv = [last; 12];
            iv[4] = last.reverse_bits();
            let first = u64::from_be_bytes(keys(iv).counted_nonce());
            let base = u64::from_be_bytes(iv[4..].try_into().unwrap());
            let used: Vec<u64> = (0..1000).map(|number| base ^ number).collect();
            for count in 0..1000 {
                assert!(!used.contains(&first.wrapping_add(count)), "{last}: {count}");
            }
        }
    }

    #[test]
    fn no_key_is_shown() {
        assert_eq!(
            format!("{:?}", keys([5; 12])),
            "TrafficKeys { suite: Suite { version: Tls12, cipher: Aes128Gcm }, sequence: 3, .. }"
        );
    }
}
