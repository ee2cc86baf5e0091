//! Keys of session tickets (RFC 5077, RFC 8446 section 4.6.1): made here and renewed, or from files that several gateways share.
//!
//! **Invariant:** a ticket is opened by the key that it names alone, within its lifetime, and by a server that asks clients for the same as
//! the one that sealed it: who has shown no certificate is not let in by a ticket where one is wanted.

#![allow(clippy::disallowed_types, reason = "a lock that is read once per handshake and written once in hours")]

use std::cell::Cell;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::rustls::server::ProducesTickets;
use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::client_auth::ClientAuth;
use crate::error::{ConfigError, Place};
use crate::server::ServerOptions;

/// The keys of one or several servers.
pub(crate) struct TicketKeys {
    ring: RwLock<Ring>,
    lifetime: Duration,
    /// Whether they are ours, and renewed.
    renews: bool,
}

struct Ring {
    /// The first seals, all open.
    keys: Vec<TicketKey>,
    /// When the first was made.
    made: SystemTime,
}

/// A key, as nginx and HAProxy have it in 48 or 80 bytes.
#[derive(Clone)]
pub(crate) struct TicketKey {
    /// What tickets are told by.
    pub(crate) name: [u8; NAME_BYTES],
    /// Of AES-128 or AES-256.
    pub(crate) aes: Box<[u8]>,
    /// Of HMAC-SHA256.
    pub(crate) mac: Box<[u8]>,
}

impl TicketKeys {
    /// Those that the options name, or else those of this process for tickets of this lifetime.
    pub(crate) fn of(options: &ServerOptions) -> Result<Arc<Self>, ConfigError> {
        let (files, lifetime) = (&options.ticket_keys, options.session_lifetime);
        if files.is_empty() {
            return Ok(Self::own(lifetime));
        }
        let keys = files.iter().map(load).collect::<Result<Vec<_>, _>>()?.concat();
        let ring = Ring { keys, made: UNIX_EPOCH };
        Ok(Arc::new(Self { ring: RwLock::new(ring), lifetime, renews: false }))
    }

    /// The same for all servers of the process, so that a reload spoils no ticket.
    fn own(lifetime: Duration) -> Arc<Self> {
        static OWN: RwLock<Vec<Weak<TicketKeys>>> = RwLock::new(Vec::new());
        let mut all = OWN.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|keys| keys.strong_count() > 0);
        if let Some(keys) = all.iter().filter_map(Weak::upgrade).find(|keys| keys.lifetime == lifetime) {
            return keys;
        }
        let ring = Ring { keys: vec![TicketKey::random()], made: SystemTime::now() };
        let keys = Arc::new(Self { ring: RwLock::new(ring), lifetime, renews: true });
        all.push(Arc::downgrade(&keys));
        keys
    }

    /// How long a ticket is good.
    #[allow(dead_code, reason = "only OpenSSL asks")]
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Calls with the key that seals now.
    pub(crate) fn sealing<R>(&self, f: impl FnOnce(&TicketKey) -> R) -> Option<R> {
        self.renew(SystemTime::now());
        self.ring().keys.first().map(f)
    }

    /// Calls with the key of this name, and with whether it is the one that seals now.
    pub(crate) fn opening<R>(&self, name: &[u8], f: impl FnOnce(&TicketKey, bool) -> R) -> Option<R> {
        self.renew(SystemTime::now());
        let ring = self.ring();
        let at = ring.keys.iter().position(|key| key.name == name)?;
        Some(f(&ring.keys[at], at == 0))
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new key when the first has sealed for half a lifetime, and forgets the one that no ticket is good of any more.
    fn renew(&self, now: SystemTime) {
        let age = |ring: &Ring| now.duration_since(ring.made).unwrap_or_default();
        let half = self.lifetime / 2;
        if !self.renews || age(&self.ring()) < half {
            return;
        }
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let age = age(&ring);
        if age < half {
            return;
        }
        if age > self.lifetime + half {
            ring.keys.clear();
        }
        ring.keys.insert(0, TicketKey::random());
        ring.keys.truncate(OWN_KEYS_MAX);
        ring.made = now;
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys")
            .field("lifetime", &self.lifetime)
            .field("renews", &self.renews)
            .finish_non_exhaustive()
    }
}

impl TicketKey {
    fn random() -> Self {
        let mut bytes = [0; LONG_BYTES];
        rand::fill(&mut bytes).expect("the process has randomness: its start took some");
        Self::of(&bytes).expect("as long as a key is")
    }

    /// nginx's order: the name, then for AES-128 its key and the HMAC's, for AES-256 the other way round.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (name, keys) = bytes.split_first_chunk()?;
        let (aes, mac) = match bytes.len() {
            SHORT_BYTES => keys.split_at(16),
            LONG_BYTES => (&keys[32..], &keys[..32]),
            _ => return None,
        };
        Some(Self { name: *name, aes: aes.into(), mac: mac.into() })
    }

    fn aes(&self) -> Result<UnboundCipherKey, Unspecified> {
        UnboundCipherKey::new(if self.aes.len() == 16 { &AES_128 } else { &AES_256 }, &self.aes)
    }

    fn mac(&self, scope: &Scope, sealed: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, &self.mac));
        mac.update(scope);
        mac.update(sealed);
        mac.sign()
    }

    fn is_sealed(&self, scope: &Scope, sealed: &[u8], tag: &[u8]) -> bool {
        verify_slices_are_equal(self.mac(scope, sealed).as_ref(), tag).is_ok()
    }
}

/// What servers must have in common to resume each other's sessions.
pub(crate) type Scope = [u8; 32];

/// Of what a server asks its clients for: authorities and what they have revoked are part of it, so that a new list asks everyone anew.
pub(crate) fn scope(auth: &ClientAuth) -> Result<Scope, ConfigError> {
    let mut said = b"ferrogate".to_vec();
    match auth {
        ClientAuth::None => {}
        ClientAuth::Asked => said.push(1),
        ClientAuth::Verified { roots, revoked, required } => {
            said.push(2 + u8::from(*required));
            roots.certificates()?.iter().for_each(|root| said.extend_from_slice(root));
            for list in revoked.as_ref().map(|lists| lists.revocation_lists()).transpose()?.into_iter().flatten() {
                said.extend_from_slice(&list);
            }
        }
    }
    let mut scope = Scope::default();
    scope.copy_from_slice(digest(&SHA256, &said).as_ref());
    Ok(scope)
}

/// For rustls: `name | IV | AES-CBC(time | session) | HMAC`, as RFC 5077 section 4 recommends.
#[derive(Debug)]
pub(crate) struct Ticketer {
    pub(crate) keys: Arc<TicketKeys>,
    pub(crate) scope: Scope,
}

impl Ticketer {
    fn seal(&self, key: &TicketKey, plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut iv = [0; IV_BYTES];
        rand::fill(&mut iv)?;
        let mut body = now().to_be_bytes().to_vec();
        body.extend_from_slice(plain);
        let context = EncryptionContext::Iv128((&iv).into());
        PaddedBlockEncryptingKey::cbc_pkcs7(key.aes()?)?.less_safe_encrypt(&mut body, context)?;
        let mut ticket = [&key.name[..], &iv, &body].concat();
        let tag = key.mac(&self.scope, &ticket);
        ticket.extend_from_slice(tag.as_ref());
        Ok(ticket)
    }

    fn open(&self, key: &TicketKey, ticket: &[u8]) -> Option<Vec<u8>> {
        let (sealed, tag) = ticket.split_at_checked(ticket.len().checked_sub(TAG_BYTES)?)?;
        if !key.is_sealed(&self.scope, sealed, tag) {
            return None;
        }
        let (iv, body) = sealed.get(NAME_BYTES..)?.split_first_chunk::<IV_BYTES>()?;
        let mut body = body.to_vec();
        let context = DecryptionContext::Iv128(iv.into());
        let plain = PaddedBlockDecryptingKey::cbc_pkcs7(key.aes().ok()?).ok()?.decrypt(&mut body, context).ok()?;
        let (made, plain) = plain.split_first_chunk()?;
        let age = now().checked_sub(u64::from_be_bytes(*made))?;
        (age < self.keys.lifetime.as_secs()).then(|| plain.to_vec())
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        LEFT.set(LEFT.get().checked_sub(1)?);
        self.keys.sealing(|key| self.seal(key, plain).ok()).flatten()
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let name = ticket.get(..NAME_BYTES)?;
        self.keys.opening(name, |key, _| self.open(key, ticket)).flatten()
    }
}

/// How many tickets the session gets that rustls works on next, on this thread. rustls asks for as many for each session: who has used one would
/// get two, and has no use for more than one in its place. OpenSSL does the same.
pub(crate) fn allow(tickets: usize) {
    LEFT.set(tickets);
}

thread_local! {
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The keys of a file, the one that seals first: 48 or 80 bytes as nginx has them, or lines of them in base64 as HAProxy has them, where
/// the last but one seals: whoever appends a key lets others learn it before it is used.
fn load(path: &PathBuf) -> Result<Vec<TicketKey>, ConfigError> {
    let place = || Place::File(path.clone());
    let bytes = std::fs::read(path).map_err(|cause| ConfigError::Read { place: place(), cause })?;
    if let Some(key) = TicketKey::of(&bytes) {
        return Ok(vec![key]);
    }
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|&b| b == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let key = STANDARD.decode(line).ok().and_then(|bytes| TicketKey::of(&bytes));
        keys.push(key.ok_or_else(|| ConfigError::BadTicketKey { place: place(), number })?);
    }
    match keys.len() {
        0 => return Err(ConfigError::BadTicketKey { place: place(), number: 1 }),
        1 => {}
        len => {
            let sealing = keys.remove(len - 2);
            keys.insert(0, sealing);
        }
    }
    Ok(keys)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Of a key's name.
pub(crate) const NAME_BYTES: usize = 16;
/// Of AES in CBC mode.
const IV_BYTES: usize = 16;
/// Of HMAC-SHA256.
const TAG_BYTES: usize = 32;
/// A file's key with AES-128.
const SHORT_BYTES: usize = 48;
/// A file's key with AES-256.
const LONG_BYTES: usize = 80;
/// The one that seals, and those of the lifetime before.
const OWN_KEYS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8, len: usize) -> Vec<u8> {
        (0..len).map(|i| n.wrapping_add(u8::try_from(i).unwrap())).collect()
    }

    /// A file that goes at the end of the test.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, content: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("ferrogate-tickets-{}-{name}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn ticketer(keys: Vec<TicketKey>, lifetime: u64, scope: &ClientAuth) -> Ticketer {
        let ring = RwLock::new(Ring { keys, made: UNIX_EPOCH });
        let keys = Arc::new(TicketKeys { ring, lifetime: Duration::from_secs(lifetime), renews: false });
        Ticketer { keys, scope: super::scope(scope).unwrap() }
    }

    #[test]
    fn keys_lie_where_nginx_and_haproxy_have_them() {
        for len in [SHORT_BYTES, LONG_BYTES] {
            let bytes = key(1, len);
            let loaded = load(&File::new(&format!("raw{len}"), &bytes).0).unwrap();
            let half = (len - 16) / 2;
            let (first, second) = (&bytes[16..16 + half], &bytes[16 + half..]);
            let (aes, mac) = if len == SHORT_BYTES { (first, second) } else { (second, first) };
            assert_eq!((&loaded[0].name[..], &*loaded[0].aes, &*loaded[0].mac), (&bytes[..16], aes, mac));
        }
        let lines = |count: u8| (0..count).map(|n| STANDARD.encode(key(n, LONG_BYTES)) + "\n\n").collect::<String>();
        for (count, order) in [(1, &[0][..]), (2, &[0, 1]), (3, &[1, 0, 2]), (4, &[2, 0, 1, 3])] {
            let loaded = load(&File::new(&format!("lines{count}"), lines(count).as_bytes()).0).unwrap();
            assert_eq!(loaded.iter().map(|key| key.name[0]).collect::<Vec<_>>(), order);
        }
        for (name, content, words) in [
            ("empty", String::new(), "line 1"),
            ("short", "A".repeat(47), "line 1"),
            ("odd", lines(1) + "AAAA\n", "line 3"),
        ] {
            let error = load(&File::new(name, content.as_bytes()).0).err().unwrap().to_string();
            assert!(error.contains(words) && error.contains("openssl rand"), "{name}: {error}");
        }
    }

    #[test]
    fn a_ticket_opens_for_whom_it_was_sealed() {
        let keys = |all: &[u8]| all.iter().map(|&n| TicketKey::of(&key(n, LONG_BYTES)).unwrap()).collect::<Vec<_>>();
        let none = ClientAuth::None;
        let sealed = ticketer(keys(&[1, 2]), 60, &none).encrypt(b"a session").unwrap();
        for (opens, all, lifetime, auth) in [
            (true, &[1, 2][..], 60, &none),
            (true, &[2, 1], 60, &none),
            (false, &[2], 60, &none),
            (false, &[1], 0, &none),
            (false, &[1], 60, &ClientAuth::Asked),
        ] {
            let opened = ticketer(keys(all), lifetime, auth).decrypt(&sealed);
            assert_eq!(opened.as_deref(), opens.then_some(&b"a session"[..]), "{all:?} {lifetime} {auth:?}");
        }
        let same = ticketer(keys(&[1]), 60, &none);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(same.decrypt(&changed), None, "{at}");
            assert_eq!(same.decrypt(&sealed[..at]), None, "{at}");
        }
    }

    #[test]
    fn own_keys_are_renewed_and_kept_for_a_lifetime() {
        let lifetime = Duration::from_secs(1000);
        let keys = TicketKeys::own(lifetime);
        assert!(Arc::ptr_eq(&keys, &TicketKeys::own(lifetime)), "one for the process");
        assert!(!Arc::ptr_eq(&keys, &TicketKeys::own(Duration::from_secs(999))));
        let first = |keys: &TicketKeys| keys.ring().keys[0].name;
        let (start, oldest) = (keys.ring().made, first(&keys));
        let mut now = start;
        for (seconds, changes, opens) in
            [(499, false, true), (500, true, true), (999, false, true), (1000, true, true), (1500, true, false)]
        {
            let before = first(&keys);
            now = now.max(start + Duration::from_secs(seconds));
            keys.renew(now);
            assert_eq!(first(&keys) != before, changes, "{seconds}");
            assert_eq!(keys.ring().keys.iter().any(|key| key.name == oldest), opens, "{seconds}");
        }
        keys.renew(now + lifetime * 5);
        assert_eq!(keys.ring().keys.len(), 1, "nothing is kept that nobody can use");
    }
}
