//! What decides the host of a request where a balancer goes by it.
//!
//! **Invariant:** the same input gives the same hash in every process and on every machine, so that gateways side by side agree.

use std::net::IpAddr;
use std::time::Duration;

use super::variable::cookie;
use crate::config::Address;
use crate::config::schema::HashPolicy;
use crate::message::Exchange;

/// A request's hash, and the cookie that it gets where it had none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashKey {
    /// For the balancer; None: by no hash.
    pub key: Option<u64>,
    /// The value of a Set-Cookie field for the answer.
    pub set_cookie: Option<String>,
}

impl HashKey {
    /// By this policy. `draw` gives a random number for a cookie that is made.
    pub(super) fn new(policy: &HashPolicy, x: &Exchange, draw: impl FnOnce() -> u64) -> Self {
        let Some(head) = x.request.head.fields() else { return Self::default() };
        let of = |value: &[u8]| Self { key: Some(hash(value)), set_cookie: None };
        match policy {
            HashPolicy::Field(name) => head.get(name).map_or_else(Self::default, of),
            HashPolicy::SourceIp => Self { key: source(&x.downstream.peer), set_cookie: None },
            HashPolicy::Cookie { name, path, ttl } => match (cookie(head, name.as_bytes()), ttl) {
                (Some(value), _) => of(value),
                (None, None) => Self::default(),
                (None, Some(ttl)) => {
                    let value = format!("{:016x}", draw());
                    Self { key: Some(hash(value.as_bytes())), set_cookie: Some(set_cookie(name, &value, path, *ttl)) }
                }
            },
        }
    }
}

fn set_cookie(name: &str, value: &str, path: &str, ttl: Duration) -> String {
    let mut text = format!("{name}={value}");
    if !path.is_empty() {
        text += "; Path=";
        text += path;
    }
    if !ttl.is_zero() {
        text += &format!("; Max-Age={}", ttl.as_secs().max(1));
    }
    text + "; HttpOnly"
}

/// The hash of a client's address, without its port.
pub(crate) fn source(peer: &Address) -> Option<u64> {
    Some(match peer.inet()?.ip().to_canonical() {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    })
}

/// FNV-1a with a last mix, so that the low bits depend on every byte.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::exchange;

    #[test]
    fn each_policy_has_its_key() {
        let cookie = |ttl| HashPolicy::Cookie { name: "sid".into(), path: "/a".into(), ttl };
        let key =
            |policy: &HashPolicy, fields: &[(&str, &str)]| HashKey::new(policy, &exchange("GET", "/", fields), || 7);
        let user = HashPolicy::Field("x-user".into());
        assert_eq!(key(&user, &[("X-User", "ann")]), key(&user, &[("x-user", "ann"), ("x-user", "bob")]));
        assert_ne!(key(&user, &[("x-user", "ann")]), key(&user, &[("x-user", "bob")]));
        assert_eq!(key(&user, &[]), HashKey::default());
        assert_eq!(key(&HashPolicy::SourceIp, &[]).key, Some(hash(&[192, 0, 2, 7])));
        let known = key(&cookie(Some(Duration::ZERO)), &[("cookie", "a=b; sid=0000000000000007")]);
        let made = key(&cookie(Some(Duration::from_secs(90))), &[("cookie", "a=b")]);
        assert_eq!((known.key, known.set_cookie), (made.key, None), "the cookie that was made leads to the same host");
        assert_eq!(made.set_cookie.as_deref(), Some("sid=0000000000000007; Path=/a; Max-Age=90; HttpOnly"));
        assert_eq!(key(&cookie(None), &[]), HashKey::default());
        let session = key(&cookie(Some(Duration::ZERO)), &[]).set_cookie.unwrap();
        assert_eq!(session, "sid=0000000000000007; Path=/a; HttpOnly");
    }

    #[test]
    fn hashes_are_the_same_for_ever_and_spread() {
        assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
        let mut buckets = [0_u32; 16];
        for n in 0..16_000_u32 {
            buckets[usize::try_from(hash(&n.to_be_bytes()) % 16).unwrap()] += 1;
        }
        assert!(buckets.iter().all(|n| (850..1150).contains(n)), "{buckets:?}");
    }
}
