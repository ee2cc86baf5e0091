//! TLS contexts.
//!
//! **Invariant:** what would weaken TLS silently is an error.

use crate::config::reader::{Fields, Reader};
use crate::config::schema::{Pem, TlsConfig, TlsVersion};
use crate::config::tree::{Node, Value};

/// The TLS of a listener; None when it is off.
pub(super) fn server(r: &mut Reader, node: &Node) -> Option<TlsConfig> {
    let fields = map(r, node, "tls_server")?;
    if !is_on(r, &fields, fields.get("cert_chain").is_some()) {
        return None;
    }
    for key in ["cert_chain", "private_key"] {
        if fields.get(key).is_none() {
            fields.missing(r, key);
        }
    }
    Some(TlsConfig {
        cert_chain: pem(r, &fields, "cert_chain"),
        private_key: pem(r, &fields, "private_key"),
        ..common(r, &fields, &["h2", "http/1.1"])
    })
}

/// The TLS to the hosts of a cluster; None when it is off.
pub(super) fn client(r: &mut Reader, node: &Node) -> Option<TlsConfig> {
    let fields = map(r, node, "tls_client")?;
    if !is_on(r, &fields, !node.is_neutral()) {
        return None;
    }
    let insecure_skip = fields.boolean(r, "insecure_skip").unwrap_or(false);
    if insecure_skip {
        r.warn(node.place, "`insecure_skip`: anyone on the way can pose as the origin", "write `ca_cert` instead");
    }
    let mut common = common(r, &fields, &["h2", "http/1.1"]);
    // Offered where a route asks for HTTP/2, alone: on any other connection it would be what is not spoken there.
    common.alpn.retain(|name| name != "h2");
    Some(TlsConfig {
        ca_cert: pem(r, &fields, "ca_cert"),
        server_name: fields.text(r, "server_name").unwrap_or_default(),
        insecure_skip,
        ..common
    })
}

/// The keys of a context. None when it is switched off: then nothing that stands in it has an effect to report.
fn map<'n>(r: &mut Reader, node: &'n Node, section: &str) -> Option<Fields<'n>> {
    match node.get("status").map(|status| &status.value) {
        Some(Value::Bool(false)) => None,
        _ => r.map(node, section),
    }
}

fn is_on(r: &mut Reader, fields: &Fields<'_>, configured: bool) -> bool {
    if configured && fields.get("status").is_none() {
        r.warn(
            fields.node.place,
            "TLS is on, though `status` does not say so; in MOSN it would be off",
            "write `status: true`",
        );
    }
    fields.boolean(r, "status").unwrap_or(configured)
}

fn common(r: &mut Reader, fields: &Fields<'_>, known: &[&str]) -> TlsConfig {
    let min_version = fields.choice(r, "min_version", VERSIONS).unwrap_or_default();
    let max_version = fields.choice(r, "max_version", VERSIONS).unwrap_or_default();
    if let Some(Node { value: Value::Text(text), place }) = fields.get("max_version")
        && ["tlsv1_0", "tlsv1_1"].contains(&text.to_ascii_lowercase().as_str())
    {
        r.at("max_version", |r| r.error(*place, "TLS 1.0 and 1.1 are not spoken", "write tlsv1_2 or tlsv1_3"));
    }
    if max_version == TlsVersion::V12 && min_version == TlsVersion::V13 {
        r.error(fields.node.place, "`min_version` is above `max_version`", "");
    }
    let origin = r.origin(fields.node.place);
    let alpn = fields.with(r, "alpn", |r, node| alpn(r, node, known)).unwrap_or_default();
    TlsConfig { alpn, min_version, max_version, origin, ..TlsConfig::default() }
}

/// The protocols that are spoken of those that are listed.
fn alpn(r: &mut Reader, node: &Node, known: &[&str]) -> Option<Vec<String>> {
    let text = r.text(node)?;
    let (spoken, others): (Vec<&str>, Vec<&str>) =
        text.split(',').map(str::trim).filter(|p| !p.is_empty()).partition(|p| known.contains(p));
    if !others.is_empty() {
        r.warn(node.place, format!("`{}` is not spoken and not offered", others.join(",")), "");
    }
    Some(spoken.into_iter().map(str::to_owned).collect())
}

fn pem(r: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Pem> {
    fields.text(r, key).map(Pem::of)
}

const VERSIONS: &[(&str, TlsVersion)] = &[
    ("tls_auto", TlsVersion::Auto),
    // Never below 1.2: a file that allows more gets less.
    ("tlsv1_0", TlsVersion::Auto),
    ("tlsv1_1", TlsVersion::Auto),
    ("tlsv1_2", TlsVersion::V12),
    ("tlsv1_3", TlsVersion::V13),
];
