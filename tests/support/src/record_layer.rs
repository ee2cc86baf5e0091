//! Records of TLS 1.2 and 1.3 over an AEAD, from the keys that have left a session: seals and opens in place.
//!
//! **Invariant:** a record number is used once in each direction, and nothing is given out that did not authenticate.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use tls_offload::{Cipher, SessionKeys, Suite, TrafficKeys, Version};

/// Both directions of a connection.
pub struct RecordLayer {
    keys: SessionKeys,
    send: Direction,
    receive: Direction,
}

/// A record that was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'w> {
    /// What it carries: [`DATA`], [`ALERT`] or [`HANDSHAKE`].
    pub kind: u8,
    /// Its content.
    pub plain: &'w [u8],
    /// Bytes it took on the wire.
    pub len: usize,
}

struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    suite: Suite,
    sequence: u64,
}

/// Content types (RFC 8446 section 5.1).
pub const ALERT: u8 = 21;
/// As above.
pub const HANDSHAKE: u8 = 22;
/// As above.
pub const DATA: u8 = 23;

impl RecordLayer {
    /// Goes on where the session was.
    #[must_use]
    pub fn new(keys: SessionKeys) -> Self {
        Self { send: Direction::new(&keys.send), receive: Direction::new(&keys.receive), keys }
    }

    /// Bytes in front of the plaintext of a record that is sealed.
    #[must_use]
    pub fn front(&self) -> usize {
        HEADER_BYTES + self.send.explicit_bytes()
    }

    /// Seals the `len` bytes that lie at [`front`](Self::front) in `room`, where they lie. Says how long the record is.
    ///
    /// # Panics
    /// When there is no room for what comes behind them, or the AEAD fails.
    pub fn seal(&mut self, kind: u8, room: &mut [u8], len: usize) -> usize {
        self.send.seal(kind, room, len)
    }

    /// A record with these bytes.
    ///
    /// # Panics
    /// As [`seal`](Self::seal).
    #[must_use]
    pub fn record(&mut self, kind: u8, plain: &[u8]) -> Vec<u8> {
        let front = self.front();
        let mut room = vec![0; front + plain.len() + 1 + TAG_BYTES];
        room[front..front + plain.len()].copy_from_slice(plain);
        let len = self.seal(kind, &mut room, plain.len());
        room.truncate(len);
        room
    }

    /// Opens the record at the front of `wire`, where it lies. None: it is not whole.
    ///
    /// # Panics
    /// When it is not authentic, which no test expects.
    pub fn open<'w>(&mut self, wire: &'w mut [u8]) -> Option<Opened<'w>> {
        self.receive.open(wire)
    }

    /// The peer has sent a key update.
    ///
    /// # Panics
    /// In TLS 1.2.
    pub fn renew_receive(&mut self) {
        self.receive = Direction::new(self.keys.renew_receive().expect("TLS 1.3"));
    }

    /// We have sent a key update.
    ///
    /// # Panics
    /// In TLS 1.2.
    pub fn renew_send(&mut self) {
        self.send = Direction::new(self.keys.renew_send().expect("TLS 1.3"));
    }
}

impl Direction {
    fn new(keys: &TrafficKeys) -> Self {
        let algorithm = match keys.suite().cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, keys.key()).expect("a key of the cipher's length");
        Self { key: LessSafeKey::new(key), iv: keys.iv(), suite: keys.suite(), sequence: keys.sequence() }
    }

    fn explicit_bytes(&self) -> usize {
        match (self.suite.version, self.suite.cipher) {
            (Version::Tls12, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => 8,
            _ => 0,
        }
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }

    /// What is authenticated beside the content: in TLS 1.3 the header, in TLS 1.2 the number and the header as if it were plain.
    fn aad(&self, kind: u8, sealed_bytes: usize, plain_bytes: usize) -> ([u8; 13], usize) {
        let mut aad = [0; 13];
        let (number, header) = aad.split_at_mut(8);
        number.copy_from_slice(&self.sequence.to_be_bytes());
        match self.suite.version {
            Version::Tls13 => {
                aad[..HEADER_BYTES].copy_from_slice(&record_header(DATA, sealed_bytes));
                (aad, HEADER_BYTES)
            }
            Version::Tls12 => {
                header.copy_from_slice(&record_header(kind, plain_bytes));
                (aad, 13)
            }
        }
    }

    fn seal(&mut self, kind: u8, room: &mut [u8], len: usize) -> usize {
        let (explicit, nonce) = (self.explicit_bytes(), self.nonce());
        let front = HEADER_BYTES + explicit;
        let is_13 = self.suite.version == Version::Tls13;
        let inner = len + usize::from(is_13);
        let sealed = explicit + inner + TAG_BYTES;
        room[..HEADER_BYTES].copy_from_slice(&record_header(if is_13 { DATA } else { kind }, sealed));
        room[HEADER_BYTES..front].copy_from_slice(&nonce[12 - explicit..]);
        if is_13 {
            room[front + len] = kind;
        }
        let (content, behind) = room[front..].split_at_mut(inner);
        let (aad, aad_bytes) = self.aad(kind, sealed, len);
        let aad = Aad::from(&aad[..aad_bytes]);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, aad, content).expect("it is sealed");
        behind[..TAG_BYTES].copy_from_slice(tag.as_ref());
        self.sequence += 1;
        HEADER_BYTES + sealed
    }

    fn open<'w>(&mut self, wire: &'w mut [u8]) -> Option<Opened<'w>> {
        let &[kind, _, _, high, low, ..] = &*wire else { return None };
        let sealed = usize::from(u16::from_be_bytes([high, low]));
        let body = wire.get_mut(HEADER_BYTES..HEADER_BYTES + sealed)?;
        let explicit = self.explicit_bytes();
        let (given, content) = body.split_at_mut(explicit);
        let mut nonce = self.nonce();
        nonce[12 - explicit..].copy_from_slice(given);
        let (aad, aad_bytes) = self.aad(kind, sealed, content.len() - TAG_BYTES);
        let aad = Aad::from(&aad[..aad_bytes]);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self.key.open_in_place(nonce, aad, content).expect("it is authentic");
        self.sequence += 1;
        let len = HEADER_BYTES + sealed;
        if self.suite.version == Version::Tls12 {
            return Some(Opened { kind, plain, len });
        }
        let last = plain.iter().rposition(|byte| *byte != 0).expect("a content type");
        Some(Opened { kind: plain[last], plain: &plain[..last], len })
    }
}

fn record_header(kind: u8, len: usize) -> [u8; HEADER_BYTES] {
    let len = u16::try_from(len).expect("a record").to_be_bytes();
    [kind, 3, 3, len[0], len[1]]
}

const HEADER_BYTES: usize = 5;
const TAG_BYTES: usize = 16;
