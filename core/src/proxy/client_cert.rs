//! What origins are told of a client's certificate: an element of Envoy's X-Forwarded-Client-Cert.
//!
//! **Invariant:** nothing that stands in a certificate ends its value: not a quote, not a separator, not the line.

use std::fmt::Write;

use tls_offload::PeerCertificate;

use crate::config::schema::ForwardClientCert;

/// The element of a certificate that was verified; empty where origins are told nothing. `by`: the URIs in our own certificate.
#[must_use]
pub fn client_cert_element(settings: &ForwardClientCert, by: &[String], shown: &PeerCertificate) -> Box<str> {
    let mut text = String::new();
    if !settings.mode.tells() {
        return text.into();
    }
    let mut put = |name: &str, value: &str| {
        let separator = if text.is_empty() { "" } else { ";" };
        // A string takes whatever is written.
        let _ = write!(text, "{separator}{name}={value}");
    };
    by.iter().for_each(|uri| put("By", &plain(uri)));
    put("Hash", &shown.sha256());
    if settings.cert {
        put("Cert", &format!("\"{}\"", percent_encoded(&shown.pem())));
    }
    if settings.chain {
        put("Chain", &format!("\"{}\"", percent_encoded(&shown.chain_pem())));
    }
    if settings.subject {
        put("Subject", &format!("\"{}\"", shown.subject()));
    }
    let uris = if settings.uri { shown.uris() } else { Vec::new() };
    if settings.uri && uris.is_empty() {
        put("URI", "");
    }
    uris.iter().for_each(|uri| put("URI", &plain(uri)));
    let names = if settings.dns { shown.dns_names() } else { Vec::new() };
    names.iter().for_each(|name| put("DNS", &plain(name)));
    text.into()
}

/// A value without quotes.
fn plain(value: &str) -> String {
    encoded(value, |byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte))
}

fn percent_encoded(value: &str) -> String {
    encoded(value, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn encoded(value: &str, passes: impl Fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if passes(byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_value() {
        assert_eq!(plain("spiffe://a/b?c=d"), "spiffe://a/b?c=d");
        assert_eq!(plain("a;Hash=1,\"\r\n \u{e9}"), "a%3BHash=1%2C%22%0D%0A%20%C3%A9");
        assert_eq!(percent_encoded("--A+/=\n"), "--A%2B%2F%3D%0A");
    }
}
