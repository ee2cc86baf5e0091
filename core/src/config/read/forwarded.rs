//! What origins are told about the client, in the `proxy` filter.
//!
//! **Invariant:** a field that could not stand in a head is an error.

use crate::config::reader::{Fields, Reader};
use crate::config::schema::{ClientCertMode, ForwardClientCert, Forwarded};

/// What origins are told about the client.
pub(super) fn forwarded(r: &mut Reader, f: &Fields<'_>) -> Forwarded {
    let d = Forwarded::default();
    let via = f.with(r, "via", |r, node| {
        let text = r.text(node).filter(|t| !t.is_empty())?;
        if !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            r.error(node.place, "a field can't hold this", "write a name of ASCII letters");
        }
        Some(format!("1.1 {text}"))
    });
    Forwarded {
        use_remote_address: f.boolean(r, "use_remote_address").unwrap_or(d.use_remote_address),
        trusted_hops: f.number(r, "xff_num_trusted_hops", 0..=64).unwrap_or(d.trusted_hops),
        skip_xff_append: f.boolean(r, "skip_xff_append").unwrap_or(d.skip_xff_append),
        generate_request_id: f.boolean(r, "generate_request_id").unwrap_or(d.generate_request_id),
        preserve_request_id: f.boolean(r, "preserve_external_request_id").unwrap_or(d.preserve_request_id),
        via,
        client_cert: client_cert(r, f),
    }
}

/// What they are told of its certificate.
fn client_cert(r: &mut Reader, f: &Fields<'_>) -> ForwardClientCert {
    let mode = f.choice(r, "forward_client_cert_details", CLIENT_CERT_MODES).unwrap_or_default();
    let told = f.with(r, "set_current_client_cert_details", |r, node| {
        let f = r.map(node, "client_cert_details")?;
        let mut says = |key| f.boolean(r, key).unwrap_or(false);
        let (subject, cert, chain) = (says("subject"), says("cert"), says("chain"));
        Some(ForwardClientCert { mode, subject, cert, chain, dns: says("dns"), uri: says("uri") })
    });
    if let (Some(told), false) = (told, mode.tells())
        && told != (ForwardClientCert { mode, ..ForwardClientCert::default() })
    {
        let message = "`set_current_client_cert_details` has no effect: origins are told nothing";
        r.warn(f.node.place, message, "write `forward_client_cert_details: SANITIZE_SET`");
    }
    told.unwrap_or(ForwardClientCert { mode, ..ForwardClientCert::default() })
}

const CLIENT_CERT_MODES: &[(&str, ClientCertMode)] = &[
    ("SANITIZE", ClientCertMode::Sanitize),
    ("FORWARD_ONLY", ClientCertMode::ForwardOnly),
    ("APPEND_FORWARD", ClientCertMode::AppendForward),
    ("SANITIZE_SET", ClientCertMode::SanitizeSet),
    ("ALWAYS_FORWARD_ONLY", ClientCertMode::AlwaysForwardOnly),
];
