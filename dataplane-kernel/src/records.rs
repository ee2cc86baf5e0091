//! Records of TLS that the kernel seals and opens (kTLS): which it can, and what is left to do for them.
//!
//! Data is the kernel's affair alone. What else a peer sends, an alert or a message of a handshake, comes here: `close_notify` is the end, any
//! other alert an error. A key update (RFC 8446 section 4.6.3) is followed where the kernel can be given new keys, which Linux can since 6.14; before,
//! the connection can be read no further, and what is being answered still goes out.
//!
//! **Invariant:** nothing that a peer sends makes a nonce be used twice, and a key seals no more records than it may.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use tls_offload::{Cipher, SessionKeys, Suite, TrafficKeys, Version};

use crate::socket::{Direction, put_tls, send_record, set_record_keys};

/// A connection whose records the kernel seals and opens.
pub(crate) struct Sealed {
    keys: SessionKeys,
    /// Records that the key in use may seal still.
    left: u64,
    /// The peer has asked for our next keys: before we send more, we say that they come.
    owes_update: bool,
    /// We have said `close_notify`, or an alert.
    ended: bool,
    /// Reading has failed, and fails again: the kernel says what broke a stream only once.
    failed: Option<io::ErrorKind>,
}

/// What was received: the type of a record, none at the end of the stream, and what it carries.
pub(crate) type Received<'b> = (Option<u8>, &'b [u8]);

/// What is to be done with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many bytes of data.
    Data(usize),
    /// The peer has ended its stream.
    End,
    /// What is nobody else's business.
    Nothing,
}

/// Suites whose records this kernel seals and opens.
///
/// # Errors
/// Why it does so with none, and what to do about it.
pub(crate) fn sealing() -> io::Result<&'static [Suite]> {
    match SEALING.get_or_init(probe) {
        Ok(suites) => Ok(suites),
        Err(failed) => Err(io::Error::new(io::ErrorKind::Unsupported, *failed)),
    }
}

/// Whether it does with this one. Asked for each connection.
pub(crate) fn can_seal(suite: Suite) -> bool {
    matches!(SEALING.get_or_init(probe), Ok(suites) if suites.contains(&suite))
}

impl Sealed {
    /// Gives the kernel a connection's keys, which it has said to take (`put_tls`).
    ///
    /// # Errors
    /// It does not take them. Half of them may be in force then.
    pub(crate) fn install(socket: &impl AsFd, keys: SessionKeys) -> io::Result<Self> {
        give(socket.as_fd(), Direction::Send, &keys.send)?;
        give(socket.as_fd(), Direction::Receive, &keys.receive)?;
        let left = left(&keys.send);
        Ok(Self { keys, left, owes_update: false, ended: false, failed: None })
    }

    /// Comes before each call that sends.
    ///
    /// # Errors
    /// The keys are used up, or the connection has failed; `WouldBlock`: not yet.
    pub(crate) fn may_send(&mut self, socket: &impl AsFd) -> io::Result<()> {
        if self.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // Under TLS 1.3 a key that is nearly used up is renewed.
        self.owes_update |= self.left <= 1 && self.version() == Version::Tls13;
        if self.owes_update {
            // RFC 8446 section 4.6.3: sealed with the old keys, and the last record that is.
            send_record(socket.as_fd(), HANDSHAKE, &KEY_UPDATE)?;
            self.owes_update = false;
            let renewed = self.keys.renew_send().map_err(io::Error::other)?;
            give(socket.as_fd(), Direction::Send, renewed)?;
            self.left = left(renewed);
        }
        if self.left == 0 {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, Fault::Exhausted));
        }
        Ok(())
    }

    /// So many bytes were sent in one call. They count as records of full length, and as one at least: what wears a key out is what it has sealed.
    pub(crate) fn sent(&mut self, n: usize) {
        self.left = self.left.saturating_sub(n.div_ceil(FRAGMENT_BYTES_MAX).max(1) as u64);
    }

    /// Looks at what was received.
    ///
    /// # Errors
    /// The peer has broken the protocol, has ended it by an alert or without one, or the kernel has failed. The peer is told where it is to be.
    pub(crate) fn take(&mut self, socket: &impl AsFd, received: io::Result<Received<'_>>) -> io::Result<Taken> {
        let taken = self.look(socket, received);
        if let Err(error) = &taken
            && !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        {
            self.failed = Some(error.kind());
        }
        taken
    }

    /// # Errors
    /// Reading has failed before.
    pub(crate) fn may_receive(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn look(&mut self, socket: &impl AsFd, received: io::Result<Received<'_>>) -> io::Result<Taken> {
        let (kind, content) = match received {
            Ok(received) => received,
            Err(error) => return Err(self.refused(socket.as_fd(), error)),
        };
        match (kind, content) {
            (None, []) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, Fault::Truncated)),
            // A kernel that says nothing of the type has data.
            (None | Some(DATA), content) if !content.is_empty() => Ok(Taken::Data(content.len())),
            (None | Some(DATA), _) => Ok(Taken::Nothing),
            (Some(ALERT), &[_, CLOSE_NOTIFY]) => Ok(Taken::End),
            // RFC 8446 section 6: the only other one that ends nothing.
            (Some(ALERT), &[_, USER_CANCELED]) => Ok(Taken::Nothing),
            (Some(ALERT), &[_, alert]) => Err(io::Error::new(io::ErrorKind::ConnectionReset, Fault::Alert(alert))),
            (Some(HANDSHAKE), &[24, 0, 0, 1, asked @ (0 | 1)]) if self.version() == Version::Tls13 => {
                self.renew(socket.as_fd(), asked == 1)?;
                Ok(Taken::Nothing)
            }
            _ => Err(self.fail(socket.as_fd(), UNEXPECTED_MESSAGE, Fault::Unexpected)),
        }
    }

    /// Says `close_notify`, once.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`; `WouldBlock`: not yet.
    pub(crate) fn say_end(&mut self, socket: &impl AsFd) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        send_record(socket.as_fd(), ALERT, &[WARNING, CLOSE_NOTIFY])?;
        self.ended = true;
        Ok(())
    }

    fn version(&self) -> Version {
        self.keys.suite().version
    }

    /// Follows the peer to its next keys.
    fn renew(&mut self, socket: BorrowedFd<'_>, asked: bool) -> io::Result<()> {
        let renewed = self.keys.renew_receive().map_err(io::Error::other)?;
        // A kernel that can't, says EBUSY, and goes on with the old ones.
        give(socket, Direction::Receive, renewed).map_err(|_| io::Error::other(Fault::Renewed))?;
        self.owes_update |= asked;
        Ok(())
    }

    /// What the kernel says of a record that it can't open.
    fn refused(&mut self, socket: BorrowedFd<'_>, error: io::Error) -> io::Error {
        match error.raw_os_error() {
            Some(libc::EBADMSG) => self.fail(socket, BAD_RECORD_MAC, Fault::Changed),
            Some(libc::EMSGSIZE) => self.fail(socket, RECORD_OVERFLOW, Fault::TooLong),
            Some(libc::EINVAL) => self.fail(socket, UNEXPECTED_MESSAGE, Fault::Unexpected),
            _ => error,
        }
    }

    /// Tells the peer what it did wrong, if it takes it at once.
    fn fail(&mut self, socket: BorrowedFd<'_>, alert: u8, fault: Fault) -> io::Error {
        if !self.ended {
            self.ended = true;
            let _ = send_record(socket, ALERT, &[FATAL, alert]);
        }
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}

/// Why a connection can't go on.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Truncated,
    Alert(u8),
    Unexpected,
    Changed,
    TooLong,
    Renewed,
    Exhausted,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the peer closed the connection without ending its TLS session"),
            Self::Alert(alert) => write!(f, "the peer ended the TLS session: alert {alert}"),
            Self::Unexpected => f.write_str("the peer sent a TLS record that is none, or that does not belong here"),
            Self::Changed => f.write_str("a TLS record of the peer was changed on its way"),
            Self::TooLong => f.write_str("the peer sent a TLS record that is too long"),
            Self::Renewed => f.write_str(
                "the peer has renewed its TLS keys, which this kernel can't follow (Linux 6.14 can; tls_backend.ktls: off needs none)",
            ),
            Self::Exhausted => f.write_str("the keys of the TLS session are used up"),
        }
    }
}

impl std::error::Error for Fault {}

/// Why the kernel seals nothing.
#[derive(Clone, Copy, Debug)]
enum ProbeError {
    /// It knows no TLS.
    Absent,
    /// It knows it, but no suite of ours.
    NoSuite,
    /// It can't be asked.
    Failed(io::ErrorKind),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str(
                "this kernel has no TLS: load its module with `modprobe tls` (CONFIG_TLS), or set tls_backend.ktls to off",
            ),
            Self::NoSuite => f.write_str("this kernel's TLS knows none of the cipher suites: set tls_backend.ktls to off"),
            Self::Failed(kind) => write!(f, "this kernel can't be asked for its TLS: {kind}"),
        }
    }
}

impl std::error::Error for ProbeError {}

static SEALING: OnceLock<Result<Vec<Suite>, ProbeError>> = OnceLock::new();

/// Asks the kernel, with connections to ourselves and keys of zeroes.
fn probe() -> Result<Vec<Suite>, ProbeError> {
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOPROTOOPT | libc::EPERM) => ProbeError::Absent,
        _ => ProbeError::Failed(error.kind()),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let mut suites = Vec::new();
    for suite in Suite::ALL {
        let address = listener.local_addr().map_err(failed)?;
        let (socket, _peer) = (TcpStream::connect(address).map_err(failed)?, listener.accept().map_err(failed)?);
        put_tls(socket.as_fd()).map_err(failed)?;
        let info = CryptoInfo::new(suite, &[0; 32][..key_bytes(suite.cipher)], [0; 12], [0; 8], 0);
        let takes = |direction| set_record_keys(socket.as_fd(), direction, info.bytes()).is_ok();
        if takes(Direction::Send) && takes(Direction::Receive) {
            suites.push(suite);
        }
    }
    if suites.is_empty() { Err(ProbeError::NoSuite) } else { Ok(suites) }
}

/// Gives the kernel the keys of one direction.
fn give(socket: BorrowedFd<'_>, direction: Direction, keys: &TrafficKeys) -> io::Result<()> {
    let info = CryptoInfo::new(keys.suite(), keys.key(), keys.iv(), keys.counted_nonce(), keys.sequence());
    set_record_keys(socket, direction, info.bytes())
}

/// Records that a key may seal beyond those it has.
fn left(keys: &TrafficKeys) -> u64 {
    keys.records_max().saturating_sub(keys.sequence())
}

/// A `tls12_crypto_info_*` of linux/tls.h: version and cipher, then bytes. Wiped when dropped.
struct CryptoInfo {
    bytes: [u8; CRYPTO_INFO_BYTES_MAX],
    len: usize,
}

impl CryptoInfo {
    /// `counted`: the first nonce of a sender that counts them, which Linux does for TLS 1.2 with GCM.
    fn new(suite: Suite, key: &[u8], iv: [u8; 12], counted: [u8; 8], sequence: u64) -> Self {
        let version = match suite.version {
            Version::Tls12 => libc::TLS_1_2_VERSION,
            Version::Tls13 => libc::TLS_1_3_VERSION,
        };
        let cipher = match suite.cipher {
            Cipher::Aes128Gcm => libc::TLS_CIPHER_AES_GCM_128,
            Cipher::Aes256Gcm => libc::TLS_CIPHER_AES_GCM_256,
            Cipher::ChaCha20Poly1305 => libc::TLS_CIPHER_CHACHA20_POLY1305,
        };
        let (salt, rest) = iv.split_at(4);
        let (nonce, salt): (&[u8], &[u8]) = match (suite.version, suite.cipher) {
            (_, Cipher::ChaCha20Poly1305) => (&iv, &[]),
            (Version::Tls12, _) => (&counted, salt),
            (Version::Tls13, _) => (rest, salt),
        };
        let mut info = Self { bytes: [0; CRYPTO_INFO_BYTES_MAX], len: 0 };
        for part in [&version.to_ne_bytes(), &cipher.to_ne_bytes(), nonce, key, salt, &sequence.to_be_bytes()] {
            info.bytes[info.len..info.len + part.len()].copy_from_slice(part);
            info.len += part.len();
        }
        info
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for CryptoInfo {
    fn drop(&mut self) {
        self.bytes = [0; CRYPTO_INFO_BYTES_MAX];
        // Or the compiler would find that nobody reads the zeroes.
        std::hint::black_box(&self.bytes);
    }
}

const fn key_bytes(cipher: Cipher) -> usize {
    match cipher {
        Cipher::Aes128Gcm => 16,
        Cipher::Aes256Gcm | Cipher::ChaCha20Poly1305 => 32,
    }
}

/// Version and cipher, and of the longest, AES-256-GCM: nonce, key, salt and sequence number.
const CRYPTO_INFO_BYTES_MAX: usize = 4 + 8 + 32 + 4 + 8;

/// The plaintext of a record, at most (RFC 8446 section 5.1).
const FRAGMENT_BYTES_MAX: usize = 16 * 1024;

// Content types (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

// Alerts (RFC 8446 section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const USER_CANCELED: u8 = 90;

/// A key update that asks for none (RFC 8446 section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::task::{Context, Poll, Waker};

    use tls_offload::{
        ClientOptions, ClientTls, Identity, Roots, ServerOptions, ServerTls, Session, Step, Versions, self_signed,
    };

    use super::*;

    /// The keys of a server's session that is established.
    fn keys(version: Version) -> SessionKeys {
        let (certificate, key) = self_signed(["a.example"]).unwrap();
        let identity = Identity { certificates: certificate.as_str().into(), key: key.as_str().into(), staple: None };
        let server = ServerOptions { export: true, tickets: false, ..ServerOptions::new(vec![identity]) };
        let roots = Roots::Pem(certificate.as_str().into());
        let client = ClientOptions { roots, versions: Versions::only(version), ..ClientOptions::default() };
        let mut server = ServerTls::new(server).unwrap().session();
        let mut client = ClientTls::new(client).unwrap().session("a.example").unwrap();
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while !(step(&mut client, &mut down, &mut up) & step(&mut server, &mut up, &mut down)) {}
        server.export().unwrap().keys
    }

    fn step(session: &mut Session, wire: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
        let mut rest = &wire[..];
        let step = session.handshake(&mut Context::from_waker(Waker::noop()), &mut rest, out);
        *wire = rest.to_vec();
        matches!(step, Poll::Ready(Ok(Step::Done)))
    }

    /// A connection without the kernel's TLS, over which alerts can be seen as they are, and its far end.
    fn sealed(version: Version) -> (Sealed, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let keys = keys(version);
        let left = left(&keys.send);
        (Sealed { keys, left, owes_update: false, ended: false, failed: None }, near, listener.accept().unwrap().0)
    }

    #[test]
    fn the_kernel_says_what_it_can_or_what_to_do() {
        match sealing() {
            Ok(suites) => {
                assert!(suites.iter().all(|suite| can_seal(*suite)));
                assert!(!suites.is_empty());
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::Unsupported);
                assert!(error.to_string().contains("modprobe tls"), "{error}");
                assert!(Suite::ALL.into_iter().all(|suite| !can_seal(suite)));
            }
        }
    }

    /// As linux/tls.h has it.
    #[test]
    fn keys_are_laid_out_as_the_kernel_reads_them() {
        let iv = [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2];
        let info = |version, cipher| {
            let suite = Suite { version, cipher };
            CryptoInfo::new(suite, &[9; 32][..key_bytes(cipher)], iv, [3; 8], 5).bytes().to_vec()
        };
        let ordered = [&[9; 16][..], &[1; 4], &[0, 0, 0, 0, 0, 0, 0, 5]].concat();
        let gcm_13 = info(Version::Tls13, Cipher::Aes128Gcm);
        assert_eq!(gcm_13[..4], [4, 3, 51, 0]);
        assert_eq!((&gcm_13[4..12], &gcm_13[12..]), (&[2; 8][..], &ordered[..]));
        let gcm_12 = info(Version::Tls12, Cipher::Aes128Gcm);
        assert_eq!(gcm_12[..4], [3, 3, 51, 0]);
        assert_eq!((&gcm_12[4..12], &gcm_12[12..]), (&[3; 8][..], &ordered[..]), "a sender that counts");
        let chacha = info(Version::Tls13, Cipher::ChaCha20Poly1305);
        assert_eq!((chacha[2], &chacha[4..16], chacha.len()), (54, &iv[..], 56));
        assert_eq!(info(Version::Tls13, Cipher::Aes256Gcm).len(), size_of::<libc::tls12_crypto_info_aes_gcm_256>());
        assert_eq!(gcm_13.len(), size_of::<libc::tls12_crypto_info_aes_gcm_128>());
        assert_eq!(chacha.len(), size_of::<libc::tls12_crypto_info_chacha20_poly1305>());
    }

    #[test]
    fn what_is_no_data_is_taken_for_what_it_is() {
        for version in [Version::Tls12, Version::Tls13] {
            let (mut sealed, near, _far) = sealed(version);
            let mut take = |kind, content: &[u8]| sealed.take(&near, Ok((kind, content)));
            assert_eq!(take(Some(DATA), b"abc").unwrap(), Taken::Data(3));
            assert_eq!(take(Some(DATA), b"").unwrap(), Taken::Nothing, "an empty record is no end");
            assert_eq!(take(Some(ALERT), &[1, 0]).unwrap(), Taken::End);
            assert_eq!(take(Some(ALERT), &[1, 90]).unwrap(), Taken::Nothing);
            let error = take(Some(ALERT), &[2, 40]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(error.to_string().contains("alert 40"), "{error}");
            assert_eq!(take(None, b"").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn the_peer_is_told_what_it_did_wrong() {
        let changed = || io::Error::from_raw_os_error(libc::EBADMSG);
        let too_long = || io::Error::from_raw_os_error(libc::EMSGSIZE);
        // A ClientHello, for a renegotiation; half of a key update; one that is none in TLS 1.2.
        let wrong: [(Version, io::Result<Received<'_>>, u8); 6] = [
            (Version::Tls12, Ok((Some(HANDSHAKE), &[1, 0, 0, 4])), UNEXPECTED_MESSAGE),
            (Version::Tls13, Ok((Some(HANDSHAKE), &[24, 0, 0])), UNEXPECTED_MESSAGE),
            (Version::Tls12, Ok((Some(HANDSHAKE), &[24, 0, 0, 1, 0])), UNEXPECTED_MESSAGE),
            (Version::Tls13, Ok((Some(24), b"heartbeat")), UNEXPECTED_MESSAGE),
            (Version::Tls13, Err(changed()), BAD_RECORD_MAC),
            (Version::Tls12, Err(too_long()), RECORD_OVERFLOW),
        ];
        for (version, received, alert) in wrong {
            let (mut sealed, near, mut far) = sealed(version);
            let error = sealed.take(&near, received).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let mut told = [0; 2];
            far.read_exact(&mut told).unwrap();
            assert_eq!(told, [FATAL, alert], "{error}");
            // Nothing after an alert.
            assert_eq!(sealed.may_send(&near).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            sealed.say_end(&near).unwrap();
            drop((sealed, near));
            assert_eq!(far.read(&mut told).unwrap(), 0);
        }
    }

    /// This connection has no TLS of the kernel's, so it can be given no new keys, as before Linux 6.14.
    #[test]
    fn keys_that_cannot_be_followed_end_the_reading_alone() {
        let (mut sealed, mut near, mut far) = sealed(Version::Tls13);
        let error = sealed.take(&near, Ok((Some(HANDSHAKE), &[24, 0, 0, 1, 1]))).unwrap_err();
        assert!(error.to_string().contains("renewed its TLS keys"), "{error}");
        // What is being answered goes out, and its end.
        sealed.may_send(&near).unwrap();
        near.write_all(b"answer").unwrap();
        sealed.say_end(&near).unwrap();
        drop(near);
        let mut read = Vec::new();
        far.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"answer\x01\x00");
    }

    #[test]
    fn no_key_seals_more_than_it_may() {
        let (mut sealed, near, _far) = sealed(Version::Tls12);
        assert_eq!(sealed.left, (1 << 24) - 1, "the end of the handshake was one");
        sealed.sent(1);
        sealed.sent(16 * 1024 + 1);
        assert_eq!(sealed.left, (1 << 24) - 4);
        sealed.left = 1;
        sealed.may_send(&near).unwrap();
        sealed.sent(300);
        let error = sealed.may_send(&near).unwrap_err();
        assert!(error.to_string().contains("used up"), "{error}");
    }
}
