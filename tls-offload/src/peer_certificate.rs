//! What a peer's certificate says of the peer, for those who are told of it.
//!
//! **Invariant:** says what stands in the certificate; whether it is to be believed was decided by the handshake.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::der::{
    BMP_STRING, IA5_STRING, OBJECT_IDENTIFIER, PRINTABLE_STRING, SEQUENCE, SET, T61_STRING, UTF8_STRING, next_value,
    validity,
};

/// A certificate that a peer has shown, with those behind it. Its bytes passed the backend's parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    chain: Vec<CertificateDer<'static>>,
}

impl PeerCertificate {
    /// The peer's own first. None: there is none.
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        (!chain.is_empty()).then_some(Self { chain })
    }

    fn own(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The SHA-256 digest of its DER form, in lower-case hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> String {
        digest(&SHA256, self.own()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its subject as RFC 2253 writes it, in ASCII: `CN=a,O=b`. Empty: it has none.
    #[must_use]
    pub fn subject(&self) -> String {
        let parsed = webpki::EndEntityCert::try_from(self.own());
        parsed.ok().and_then(|parsed| written(parsed.subject())).unwrap_or_default()
    }

    /// The URIs among its alternative names.
    #[must_use]
    pub fn uris(&self) -> Vec<String> {
        let parsed = webpki::EndEntityCert::try_from(self.own());
        parsed.map(|parsed| parsed.valid_uri_names().map(Into::into).collect()).unwrap_or_default()
    }

    /// The DNS names among its alternative names.
    #[must_use]
    pub fn dns_names(&self) -> Vec<String> {
        let parsed = webpki::EndEntityCert::try_from(self.own());
        parsed.map(|parsed| parsed.valid_dns_names().map(Into::into).collect()).unwrap_or_default()
    }

    /// Whether its time is over. A session that is resumed may be older than that.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        validity(self.own()).is_none_or(|(_, end)| end.is_before(SystemTime::now()))
    }

    /// It in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem(&self.chain[..1])
    }

    /// It and those behind it in PEM, as far as the backend keeps them: of a resumed session OpenSSL keeps the first only.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        pem(&self.chain)
    }
}

fn pem(chain: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let digits = STANDARD.encode(certificate);
        for line in digits.as_bytes().chunks(64) {
            text.extend(line.iter().map(|&b| char::from(b)));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// A subject (given without its header) in the order of RFC 2253: the last set first.
fn written(mut subject: &[u8]) -> Option<String> {
    let mut sets = Vec::new();
    while !subject.is_empty() {
        let (SET, mut set) = next_value(&mut subject)? else { return None };
        let mut pairs = Vec::new();
        while !set.is_empty() {
            let (SEQUENCE, mut pair) = next_value(&mut set)? else { return None };
            pairs.push(written_pair(&mut pair)?);
        }
        sets.push(pairs.join("+"));
    }
    sets.reverse();
    Some(sets.join(","))
}

fn written_pair(pair: &mut &[u8]) -> Option<String> {
    let (OBJECT_IDENTIFIER, id) = next_value(pair)? else { return None };
    let (whole, (tag, text)) = (*pair, next_value(pair)?);
    let text = match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => std::str::from_utf8(text).ok().map(Into::into),
        T61_STRING => Some(text.iter().map(|&b| char::from(b)).collect()),
        BMP_STRING => {
            let units: Vec<u16> = text.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
            Some(String::from_utf16_lossy(&units))
        }
        _ => None,
    };
    let name = NAMES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name);
    Some(match (name, text) {
        (Some(name), Some(text)) => format!("{name}={}", escaped(&text)),
        // RFC 2253 section 2.4: what has no name or is no text is shown as it is encoded.
        (name, _) => {
            let digits: String = whole[..whole.len() - pair.len()].iter().map(|b| format!("{b:02X}")).collect();
            format!("{}=#{digits}", name.map_or_else(|| dotted(id), Into::into))
        }
    })
}

/// RFC 2253 section 2.4; bytes that are no printable ASCII by their number.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(byte)]),
            b'#' if place == 0 => out.push_str("\\#"),
            b' ' if place == 0 || place + 1 == text.len() => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

/// An object identifier as its numbers (X.690 section 8.19).
fn dotted(id: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0u64;
    for &byte in id {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.extend([first, number - first * 40]);
            } else {
                numbers.push(number);
            }
            number = 0;
        }
    }
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

/// The names that OpenSSL writes (RFC 2253 section 2.3 and RFC 4519).
const NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 42], "GN"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 1], "UID"),
    (&[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 100, 1, 25], "DC"),
];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn made(subject: &[(DnType, &str)], names: &[&str]) -> PeerCertificate {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()));
        params.distinguished_name = DistinguishedName::new();
        subject.iter().for_each(|(kind, text)| params.distinguished_name.push(kind.clone(), *text));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        PeerCertificate::new(vec![certificate.der().clone()]).unwrap()
    }

    #[test]
    fn what_it_says_is_written_for_a_field() {
        let odd = DnType::CustomDnType(vec![1, 2, 840, 4]);
        let subject = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "a \"b\", c+d"),
            (odd, "x"),
            (DnType::CommonName, " #é\r\n;"),
        ];
        let shown = made(&subject, &["a.example", "*.b.example", "10.0.0.1"]);
        assert_eq!(shown.subject(), "CN=\\ #\\C3\\A9\\0D\\0A\\;,1.2.840.4=#0C0178,O=a \\\"b\\\"\\, c\\+d,C=DE");
        assert_eq!(shown.dns_names(), ["a.example", "*.b.example"]);
        assert_eq!(shown.uris(), ["spiffe://a/b"]);
        assert_eq!(shown.sha256().len(), 64);
        assert_eq!(made(&[], &[]).subject(), "");
        assert!(PeerCertificate::new(Vec::new()).is_none());
    }

    #[test]
    fn pem_is_what_others_read() {
        use rustls_pki_types::pem::PemObject;
        for len in [1, 2, 3, 47, 48, 49, 1000] {
            let der = CertificateDer::from((0..len).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>());
            let shown = PeerCertificate::new(vec![der.clone(), der.clone()]).unwrap();
            let read: Vec<_> =
                CertificateDer::pem_slice_iter(shown.chain_pem().as_bytes()).map(Result::unwrap).collect();
            assert_eq!(read, [der.clone(), der]);
            assert!(shown.chain_pem().starts_with(&shown.pem()));
        }
    }
}
