//! The names a certificate was issued for.
//!
//! The DNS names of the subject alternative name come from webpki, which rustls links anyway. The common name is read here: the walk over the
//! subject is thirty lines, a crate for it would be ten crates.
//!
//! **Invariant:** used to choose a certificate among our own, never to trust a peer's.

use rustls_pki_types::CertificateDer;

use crate::der::{IA5_STRING, OBJECT_IDENTIFIER, PRINTABLE_STRING, SEQUENCE, SET, T61_STRING, UTF8_STRING, next_value};

/// The DNS names of a certificate in lower case, wildcards included: the alternative names, then the common name if it is another one.
/// None: it can't be parsed.
pub(crate) fn dns_names(certificate: &CertificateDer<'_>) -> Option<Vec<Box<str>>> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names: Vec<Box<str>> = Vec::new();
    let common = common_name(parsed.subject());
    for name in parsed.valid_dns_names().chain(common.filter(|name| is_dns_name(name))) {
        let name = name.to_ascii_lowercase().into_boxed_str();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Some(names)
}

/// The first common name of a subject: a sequence (given without its header) of sets of pairs of object identifier and text (RFC 5280
/// section 4.1.2.4).
fn common_name(mut subject: &[u8]) -> Option<&str> {
    while let Some((SET, mut set)) = next_value(&mut subject) {
        while let Some((SEQUENCE, mut pair)) = next_value(&mut set) {
            let (OBJECT_IDENTIFIER, id) = next_value(&mut pair)? else { return None };
            let (tag, text) = next_value(&mut pair)?;
            if id == COMMON_NAME && [UTF8_STRING, PRINTABLE_STRING, IA5_STRING, T61_STRING].contains(&tag) {
                return std::str::from_utf8(text).ok();
            }
        }
    }
    None
}

fn is_dns_name(name: &str) -> bool {
    let host = name.strip_prefix("*.").unwrap_or(name);
    rustls_pki_types::DnsName::try_from(host).is_ok()
}

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn names(common: Option<&str>, alternatives: &[&str]) -> Vec<Box<str>> {
        let alternatives: Vec<String> = alternatives.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(alternatives).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "O".repeat(200));
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        let key = KeyPair::generate().unwrap();
        dns_names(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn alternative_names_then_the_common_name() {
        assert_eq!(names(None, &["a.example", "*.B.example"]), ["a.example".into(), "*.b.example".into()]);
        assert_eq!(names(Some("C.example"), &["a.example"]), ["a.example".into(), "c.example".into()]);
        assert_eq!(names(Some("a.example"), &["a.example"]), ["a.example".into()]);
        assert_eq!(names(Some("*.only.example"), &[]), ["*.only.example".into()]);
        assert_eq!(names(Some("Acme Web Server 1"), &["10.0.0.1"]), []);
    }

    #[test]
    fn garbage_is_no_certificate() {
        assert!(dns_names(&CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff, 0])).is_none());
        for len in 0..8 {
            assert_eq!(common_name(&[0x31, 0x84, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..len]), None);
        }
    }
}
