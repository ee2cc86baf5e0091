//! TLS contexts.
//!
//! **Invariant:** what would weaken TLS silently is an error.

use std::sync::Arc;
use std::time::Duration;

use crate::config::reader::{Fields, Reader};
use crate::config::schema::{
    AcceleratorConfig, AcceleratorFallback, AcceleratorKind, AcceleratorNotify, ClientAuth, Ktls, Pem, Resumption,
    TlsBackend, TlsConfig, TlsVersion,
};
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
        private_key: fields.text(r, "private_key").map(Pem::of_key),
        accelerator: fields.text(r, "accelerator").unwrap_or_default(),
        ocsp_staple: fields.text(r, "ocsp_staple").map(Into::into),
        client_auth: client_auth(r, &fields),
        resumption: resumption(r, &fields),
        ca_cert: pem(r, &fields, "ca_cert"),
        crl: pem(r, &fields, "crl"),
        ..common(r, &fields, &["h2", "http/1.1"])
    })
}

/// What lets clients resume their sessions.
fn resumption(r: &mut Reader, fields: &Fields<'_>) -> Resumption {
    let d = Resumption::default();
    let keys = fields.list(r, "session_ticket_keys", Reader::text).into_iter().map(Into::into).collect();
    let read = Resumption {
        tickets: fields.boolean(r, "session_tickets").unwrap_or(d.tickets),
        timeout: fields.duration(r, "session_timeout").unwrap_or(d.timeout),
        keys,
    };
    if !(SESSION_TIMEOUT_MIN..=SESSION_TIMEOUT_MAX).contains(&read.timeout) {
        let message = "`session_timeout` is from 1s to 168h: tickets are good for a week at most (RFC 8446)";
        r.error(fields.node.place, message, "write a time between them");
    }
    if !read.tickets && !read.keys.is_empty() {
        r.warn(
            fields.node.place,
            "`session_ticket_keys` has no effect: clients get no tickets",
            "remove `session_tickets`",
        );
    }
    read
}

/// What clients are asked for: MOSN's two keys, and what they need.
fn client_auth(r: &mut Reader, fields: &Fields<'_>) -> ClientAuth {
    let verify = fields.boolean(r, "verify_client").unwrap_or(false);
    let require = fields.boolean(r, "require_client_cert").unwrap_or(false);
    let place = fields.node.place;
    if verify && fields.get("ca_cert").is_none() {
        let message =
            "`verify_client` without `ca_cert`: whoever has a certificate of a public authority would be let in";
        r.error(place, message, "write `ca_cert`: the authority of your clients");
    }
    for key in ["ca_cert", "crl"].into_iter().filter(|key| !verify && fields.get(key).is_some()) {
        r.warn(place, format!("`{key}` has no effect: no client is verified"), "write `verify_client: true`");
    }
    if require && !verify {
        let message = "`require_client_cert` without `verify_client` only asks, as in MOSN: clients with any certificate, or none, are let in";
        r.warn(place, message, "write `verify_client: true` and `ca_cert`");
    }
    match (verify, require) {
        (true, true) => ClientAuth::Required,
        (true, false) => ClientAuth::VerifiedIfGiven,
        (false, true) => ClientAuth::Asked,
        (false, false) => ClientAuth::None,
    }
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
    for [one, other] in [["cert_chain", "private_key"], ["private_key", "cert_chain"]] {
        if fields.get(one).is_some() && fields.get(other).is_none() {
            fields.missing(r, other);
        }
    }
    if insecure_skip && fields.get("crl").is_some() {
        r.warn(node.place, "`crl` has no effect: the origin is not verified", "remove `insecure_skip`");
    }
    let uri = uri(r, &fields, insecure_skip);
    let mut common = common(r, &fields, &["h2", "http/1.1"]);
    // Offered where a route asks for HTTP/2, alone: on any other connection it would be what is not spoken there.
    common.alpn.retain(|name| name != "h2");
    Some(TlsConfig {
        cert_chain: pem(r, &fields, "cert_chain"),
        private_key: pem(r, &fields, "private_key"),
        ca_cert: pem(r, &fields, "ca_cert"),
        crl: pem(r, &fields, "crl"),
        server_name: fields.text(r, "server_name").unwrap_or_default(),
        insecure_skip,
        uri,
        ..common
    })
}

/// `type` and `extend_verify`: the URI that the origin is known by.
fn uri(r: &mut Reader, fields: &Fields<'_>, insecure_skip: bool) -> Option<String> {
    let by_uri = fields.choice(r, "type", &[("", false), ("sni_verify", true)]).unwrap_or(false);
    let uri =
        fields.with(r, "extend_verify", |r, node| r.map(node, "extend_verify")?.text(r, "match_subject_alt_names"));
    let (place, uri) = (fields.node.place, uri.filter(|uri| !uri.is_empty()));
    match (by_uri, &uri) {
        (true, None) => {
            let message = "`type: sni_verify` without a URI: the origin would be verified by its name";
            r.error(place, message, "write `extend_verify: {match_subject_alt_names: URI}`, or remove `type`");
        }
        (true, Some(_)) if insecure_skip => {
            r.warn(place, "`extend_verify` has no effect: the origin is not verified", "remove `insecure_skip`");
        }
        (false, Some(_)) => {
            let message = "`extend_verify` without `type`: the origin would not be verified by the URI";
            r.error(place, message, "write `type: sni_verify`");
        }
        _ => {}
    }
    uri
}

/// `tls_backend`: who computes, and what may help.
#[derive(Default)]
pub(super) struct Who {
    pub(super) backend: TlsBackend,
    pub(super) ktls: Ktls,
    pub(super) accelerators: Vec<Arc<AcceleratorConfig>>,
}

pub(super) fn backend(r: &mut Reader, node: &Node) -> Option<Who> {
    let fields = r.map(node, "tls_backend")?;
    let backends = [("auto", TlsBackend::Auto), ("rustls", TlsBackend::Rustls), ("openssl", TlsBackend::OpenSsl)];
    let backend = fields.choice(r, "backend", &backends).unwrap_or_default();
    let ktls = fields.choice(r, "ktls", &[("off", Ktls::Off), ("auto", Ktls::Auto), ("require", Ktls::Require)]);
    let ktls = ktls.unwrap_or_default();
    if backend == TlsBackend::OpenSsl && ktls != Ktls::Off {
        let message = "`ktls` has no effect with `backend: openssl`: OpenSSL gives no keys of a session out";
        let remedy = "write `backend: rustls`, or remove `ktls`";
        match ktls {
            Ktls::Require => r.error(node.place, message, remedy),
            _ => r.warn(node.place, message, remedy),
        }
    }
    let mut accelerators: Vec<Arc<AcceleratorConfig>> = Vec::new();
    for (place, one) in fields.list(r, "accelerators", |r, node| accelerator(r, node).map(|a| (node.place, a))) {
        if accelerators.iter().any(|other| other.name == one.name) {
            r.error(place, format!("two accelerators are called `{}`", one.name), "give each a name of its own");
        }
        accelerators.push(Arc::new(one));
    }
    Some(Who { backend, ktls, accelerators })
}

fn accelerator(r: &mut Reader, node: &Node) -> Option<AcceleratorConfig> {
    let fields = r.map(node, "accelerator")?;
    let ways =
        [("callback", AcceleratorNotify::Callback), ("poll", AcceleratorNotify::Poll), ("fd", AcceleratorNotify::Fd)];
    let fallbacks = [("software", AcceleratorFallback::Software), ("fail", AcceleratorFallback::Fail)];
    let kinds = [("provider", AcceleratorKind::Provider), ("engine", AcceleratorKind::Engine)];
    let (name, id) = (fields.required(r, "name"), fields.required(r, "id"));
    Some(AcceleratorConfig {
        kind: fields.choice(r, "kind", &kinds).unwrap_or_default(),
        path: fields.text(r, "path").map(Into::into),
        properties: fields.text(r, "properties").unwrap_or_default(),
        parameters: fields.with(r, "parameters", parameters).unwrap_or_default(),
        asynchronous: fields.boolean(r, "async").unwrap_or(true),
        notify: fields.choice(r, "notify", &ways).unwrap_or_default(),
        poll_interval: fields.duration(r, "poll_interval").unwrap_or(Duration::from_micros(50)),
        in_flight_max: fields.number(r, "in_flight_max", 1..=IN_FLIGHT_MAX).unwrap_or(1024),
        timeout: fields.duration(r, "timeout").unwrap_or(Duration::from_millis(500)),
        fallback: fields.choice(r, "fallback", &fallbacks).unwrap_or_default(),
        failures_max: fields.number(r, "failures_max", 1..=FAILURES_MAX).unwrap_or(8),
        retry_interval: fields.duration(r, "retry_interval").unwrap_or(Duration::from_secs(1)),
        name: name?,
        id: id?,
    })
}

fn parameters(r: &mut Reader, node: &Node) -> Option<Vec<(String, String)>> {
    let Value::Map(entries) = &node.value else {
        r.wrong_type(node, "a map");
        return None;
    };
    Some(entries.iter().filter_map(|e| r.at(&e.key, |r| Some((e.key.clone(), r.text(&e.node)?)))).collect())
}

/// Gives every context what the file says of all: the backend, and the accelerator that it names.
pub(super) fn resolve<'a>(r: &mut Reader, contexts: impl Iterator<Item = &'a mut TlsConfig>, who: &Who) {
    for tls in contexts {
        tls.backend = who.backend;
        tls.ktls = who.ktls;
        tls.accelerated_by = who.accelerators.iter().find(|a| a.name == tls.accelerator).cloned();
        if !tls.accelerator.is_empty() && tls.accelerated_by.is_none() {
            let message = format!("there is no accelerator `{}`", tls.accelerator);
            r.error_at(&tls.origin, message, "name one of tls_backend.accelerators");
        } else if let (Some(Pem::Stored(_)), true) = (&tls.private_key, tls.accelerator.is_empty()) {
            let message = "`private_key` names a key that an accelerator holds, and there is no `accelerator`";
            r.error_at(&tls.origin, message, "name one of tls_backend.accelerators");
        }
    }
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
    let cipher_suites = fields.text(r, "cipher_suites").unwrap_or_default();
    let ecdh_curves = fields.text(r, "ecdh_curves").unwrap_or_default();
    let keylog_file = fields.text(r, "keylog_file").map(Into::into);
    TlsConfig {
        alpn,
        min_version,
        max_version,
        cipher_suites,
        ecdh_curves,
        keylog_file,
        origin,
        ..TlsConfig::default()
    }
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

/// More than any card takes.
const IN_FLIGHT_MAX: u64 = 1 << 20;

/// A shorter one is none.
const SESSION_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// RFC 8446 section 4.6.1.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Beyond it nobody can be said to notice.
const FAILURES_MAX: u64 = 1 << 20;
