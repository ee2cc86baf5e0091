//! Which cipher suites and groups are offered, by the names that OpenSSL has for them.
//!
//! **Invariant:** whatever a list says, nothing is offered without forward secrecy and authenticated encryption.

use ::rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use ::rustls::{CipherSuite, NamedGroup, SupportedCipherSuite};

use crate::client_auth::Caveat;
use crate::error::ConfigError;
use crate::hkdf::deriving;

/// The suites and groups of a configuration. The default is what the backend thinks best.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// In the order of preference; of a version of which none is named all are offered.
    suites: Vec<&'static Suite>,
    /// In the order of preference; empty: the backend's.
    groups: Vec<&'static Group>,
    /// What was named and is not offered.
    others: Vec<Box<str>>,
}

/// A suite of TLS 1.2 or 1.3.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// MOSN's name, where it has another.
    also: &'static str,
    id: CipherSuite,
    pub(crate) is_tls13: bool,
}

/// A group for the key exchange.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// MOSN's name, and an older one of OpenSSL's.
    also: [&'static str; 2],
    id: NamedGroup,
}

impl Algorithms {
    /// From lists with `:` or `,` between their names; empty: the backend's choice. Names are OpenSSL's, or MOSN's.
    ///
    /// # Errors
    /// A list of which nothing can be offered.
    pub fn from_lists(suites: &str, groups: &str) -> Result<Self, ConfigError> {
        let mut read = Self::default();
        for name in names(suites) {
            let is_it = |suite: &&Suite| [suite.name, suite.also].iter().any(|n| n.eq_ignore_ascii_case(name));
            match SUITES.iter().find(is_it) {
                Some(suite) if read.suites.contains(&suite) => {}
                Some(suite) => read.suites.push(suite),
                None => read.others.push(name.into()),
            }
        }
        if read.suites.is_empty() && names(suites).next().is_some() {
            return Err(ConfigError::NoSuite { list: suites.into() });
        }
        for name in names(groups) {
            let is_it = |group: &&Group| {
                group.name.eq_ignore_ascii_case(name) || group.also.iter().any(|n| n.eq_ignore_ascii_case(name))
            };
            match GROUPS.iter().find(is_it) {
                Some(group) if read.groups.contains(&group) => {}
                Some(group) => read.groups.push(group),
                None => read.others.push(name.into()),
            }
        }
        if read.groups.is_empty() && names(groups).next().is_some() {
            return Err(ConfigError::NoGroup { list: groups.into() });
        }
        Ok(read)
    }

    /// What was named, and nobody offers.
    pub(crate) fn caveats(&self) -> impl Iterator<Item = Caveat> {
        self.others.iter().map(|name| Caveat::NotOffered { name: name.clone() })
    }

    /// Of a version, in the order of preference; all where none is named.
    #[allow(dead_code, reason = "only OpenSSL asks")]
    pub(crate) fn suites(&self, is_tls13: bool) -> Vec<&'static Suite> {
        let of_version = |suites: &mut dyn Iterator<Item = &'static Suite>| -> Vec<_> {
            suites.filter(|suite| suite.is_tls13 == is_tls13).collect()
        };
        let named = of_version(&mut self.suites.iter().copied());
        if named.is_empty() { of_version(&mut SUITES.iter()) } else { named }
    }

    /// Empty: the backend's.
    #[allow(dead_code, reason = "only OpenSSL asks")]
    pub(crate) fn groups(&self) -> &[&'static Group] {
        &self.groups
    }

    /// Every group that one may be asked for by name.
    pub(crate) fn group_names() -> impl Iterator<Item = &'static str> {
        GROUPS.iter().map(|group| group.name)
    }

    /// For rustls.
    pub(crate) fn provider(&self) -> Result<CryptoProvider, ConfigError> {
        let mut provider = aws_lc_rs::default_provider();
        if !self.suites.is_empty() {
            let known = aws_lc_rs::ALL_CIPHER_SUITES;
            let wanted = [true, false].into_iter().flat_map(|is_tls13| self.suites(is_tls13));
            let of = |suite: &Suite| known.iter().find(|k| k.suite() == suite.id).copied();
            provider.cipher_suites = wanted.filter_map(of).collect::<Vec<SupportedCipherSuite>>();
        }
        provider.cipher_suites.iter_mut().for_each(|suite| *suite = deriving(*suite));
        if !self.groups.is_empty() {
            let of = |group: &&Group| aws_lc_rs::ALL_KX_GROUPS.iter().find(|k| k.name() == group.id).copied();
            provider.kx_groups = self.groups.iter().filter_map(of).collect::<Vec<&dyn SupportedKxGroup>>();
            if provider.kx_groups.is_empty() {
                let list = self.groups.iter().map(|group| group.name).collect::<Vec<_>>().join(":");
                return Err(ConfigError::NoGroup { list: list.into() });
            }
        }
        Ok(provider)
    }
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split([':', ',', ' ']).filter(|name| !name.is_empty())
}

const fn suite(name: &'static str, also: &'static str, id: CipherSuite, is_tls13: bool) -> Suite {
    Suite { name, also, id, is_tls13 }
}

const fn group(name: &'static str, also: [&'static str; 2], id: NamedGroup) -> Group {
    Group { name, also, id }
}

/// In our order of preference.
static SUITES: [Suite; 9] = [
    suite("TLS_AES_256_GCM_SHA384", "", CipherSuite::TLS13_AES_256_GCM_SHA384, true),
    suite("TLS_AES_128_GCM_SHA256", "", CipherSuite::TLS13_AES_128_GCM_SHA256, true),
    suite("TLS_CHACHA20_POLY1305_SHA256", "", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, true),
    suite("ECDHE-ECDSA-AES256-GCM-SHA384", "", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, false),
    suite("ECDHE-ECDSA-AES128-GCM-SHA256", "", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, false),
    suite(
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-WITH-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        false,
    ),
    suite("ECDHE-RSA-AES256-GCM-SHA384", "", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, false),
    suite("ECDHE-RSA-AES128-GCM-SHA256", "", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, false),
    suite(
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-RSA-WITH-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        false,
    ),
];

static GROUPS: [Group; 5] = [
    group("X25519MLKEM768", ["", ""], NamedGroup::X25519MLKEM768),
    group("X25519", ["", ""], NamedGroup::X25519),
    group("P-256", ["p256", "prime256v1"], NamedGroup::secp256r1),
    group("P-384", ["p384", "secp384r1"], NamedGroup::secp384r1),
    group("P-521", ["p521", "secp521r1"], NamedGroup::secp521r1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_by_the_names_of_others() {
        let read = |suites, groups| Algorithms::from_lists(suites, groups);
        let shown = |read: &Algorithms, is_tls13| read.suites(is_tls13).iter().map(|s| s.name).collect::<Vec<_>>();
        let all = read("", "").unwrap();
        assert_eq!((shown(&all, true).len(), shown(&all, false).len(), all.groups().len()), (3, 6, 0));
        let some =
            "ecdhe-rsa-aes128-gcm-sha256:ECDHE-RSA-WITH-CHACHA20-POLY1305:AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256";
        let some = read(some, "p384,X25519:prime256v1,brainpoolP256r1").unwrap();
        assert_eq!(shown(&some, false), ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"]);
        assert_eq!(shown(&some, true).len(), 3, "none is named, so all are there");
        assert_eq!(some.groups().iter().map(|g| g.name).collect::<Vec<_>>(), ["P-384", "X25519", "P-256"]);
        let caveats: Vec<String> = some.caveats().map(|c| c.to_string()).collect();
        assert!(caveats[0].contains("AES128-SHA") && caveats[1].contains("brainpoolP256r1"), "{caveats:?}");
        let provider = some.provider().unwrap();
        assert_eq!((provider.cipher_suites.len(), provider.kx_groups.len()), (5, 3));
        assert_eq!(provider.kx_groups[0].name(), NamedGroup::secp384r1);
        for (suites, groups) in [("AES128-SHA", ""), ("", "sect233k1")] {
            assert!(read(suites, groups).is_err(), "{suites}{groups}");
        }
        assert!(read("", "P-521").unwrap().provider().is_err(), "rustls has none of these");
    }
}
