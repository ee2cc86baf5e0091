//! Keys of TLS: its contexts, who computes, and accelerators.
//!
//! **Invariant:** data only, as in [`working`](super::working).

use super::Key;
use super::Kind::{Any, Bool, Choice, Duration, Map, Maps, Number, Pem, Text, Texts};
use super::working::key;

pub(super) const TLS_SERVER: &[Key] = &[
    key("status", Bool, "true with a certificate", "Whether TLS is on. (MOSN's default is false.)"),
    key(
        "cert_chain",
        Pem,
        "",
        "The certificate and those between it and the root: a file or PEM text. Required where TLS is on.",
    ),
    key(
        "private_key",
        Pem,
        "",
        "Its key: a file or PEM text; with an accelerator also `pkcs11:...` (RFC 7512), or `store:` and any other URI or id that it knows keys by. \
         Required where TLS is on.",
    ),
    key(
        "accelerator",
        Text,
        "",
        "Ferrogate's own: the accelerator that is given the key and computes with it. Absent: software.",
    ),
    key(
        "ocsp_staple",
        Text,
        "",
        "Ferrogate's own: a file with an OCSP response in DER, which clients are shown who ask for one. One that is for another certificate, says \
         anything but good, or has expired is warned of, and not shown.",
    ),
    key(
        "verify_client",
        Bool,
        "false",
        "Clients are asked for a certificate, and one that is shown must be of `ca_cert`'s authorities. With `require_client_cert` it must be shown.",
    ),
    key(
        "require_client_cert",
        Bool,
        "false",
        "With `verify_client`: clients without a certificate are refused. Alone it only asks, as in MOSN: nobody is refused, and nothing is believed.",
    ),
    key("ca_cert", Pem, "", "The authorities of the clients: a file or PEM text. Required with `verify_client`."),
    key(
        "crl",
        Pem,
        "",
        "Ferrogate's own: what they have revoked, a file or PEM text. Each authority of a client's chain must have a list in it that has not expired.",
    ),
    key("session_tickets", Bool, "true", "Ferrogate's own: whether clients get tickets to resume their sessions with."),
    key(
        "session_ticket_keys",
        Texts,
        "",
        "Ferrogate's own: files of keys for the tickets, for gateways that are to resume each other's sessions: 48 or 80 bytes as nginx has them, or \
         lines of them in base64 as HAProxy has them. The first file's key seals (of three lines and more the last but one), all open. Absent: \
         keys of the process, renewed each half `session_timeout`.",
    ),
    key(
        "session_timeout",
        Duration,
        "12h",
        "Ferrogate's own: how long a ticket is good: 1s to 168h. Who resumes a session by one gets another, as long as the client's certificate is valid, if it had to show one.",
    ),
    key(
        "alpn",
        Text,
        "with `Http2`: what is served",
        "Protocols to negotiate, with commas between them: `h2`, `http/1.1`. What `downstream_protocol` does not serve is not offered.",
    ),
    MIN_VERSION,
    MAX_VERSION,
    KEYLOG_FILE,
    CIPHER_SUITES,
    ECDH_CURVES,
];

pub(super) const TLS_CLIENT: &[Key] = &[
    key("status", Bool, "true with any other key", "Whether TLS is on. (MOSN's default is false.)"),
    key("server_name", Text, "the host's name", "The name that is asked for (SNI) and verified."),
    key("ca_cert", Pem, "the system's roots", "Whom to trust: a file or PEM text."),
    key("crl", Pem, "", "Ferrogate's own: what they have revoked: as in a listener's `tls_context`."),
    key("insecure_skip", Bool, "false", "Do not verify the origin's certificate."),
    key(
        "type",
        Choice(&["", "sni_verify"]),
        "",
        "`sni_verify`: the origin is known by a URI in its certificate, which `extend_verify` names.",
    ),
    key("extend_verify", Map("extend_verify"), "", "What `type` wants to know."),
    key(
        "cert_chain",
        Pem,
        "",
        "What origins are shown that ask for a certificate: it and those between it and the root.",
    ),
    key("private_key", Pem, "", "Its key: a file or PEM text."),
    key(
        "alpn",
        Text,
        "",
        "Protocols to negotiate, with commas between them. `h2` is offered, alone, by routes with `upstream_protocol: Http2`, whatever stands here.",
    ),
    MIN_VERSION,
    MAX_VERSION,
    KEYLOG_FILE,
    CIPHER_SUITES,
    ECDH_CURVES,
];

pub(super) const EXTEND_VERIFY: &[Key] = &[key(
    "match_subject_alt_names",
    Text,
    "",
    "The URI that must be among the alternative names of the origin's certificate, in place of its name; the case of letters does not matter. The \
     chain is verified as ever. Required with `type: sni_verify`. (MOSN verifies the name where it is empty.)",
)];

const VERSIONS: &[&str] = &["tls_auto", "tlsv1_0", "tlsv1_1", "tlsv1_2", "tlsv1_3"];

pub(super) const TLS_BACKEND: &[Key] = &[
    key(
        "backend",
        Choice(&["auto", "rustls", "openssl"]),
        "auto",
        "`auto`: OpenSSL for listeners whose key is with an accelerator, else rustls, the fastest in software. `rustls`: also with such keys. \
         `openssl`: libssl of the distribution, in a binary built with the feature `openssl`.",
    ),
    key(
        "ktls",
        Choice(&["off", "auto", "require"]),
        "off",
        "Whether the kernel seals and opens the records of listeners (kTLS), after the handshake. `auto`: where it can, on the kernel plane with \
         rustls; else this process does. `require`: else there is no start. Needs the kernel's module `tls`.",
    ),
    key(
        "accelerators",
        Maps("accelerator"),
        "",
        "What can compute with private keys; the `accelerator` of a `tls_context` names one.",
    ),
];

pub(super) const ACCELERATOR: &[Key] = &[
    key("name", Text, "", "Its name in this file. Required."),
    key(
        "kind",
        Choice(&["provider", "engine"]),
        "provider",
        "What it is to OpenSSL. An `engine`, which OpenSSL 4 has no more, is used for keys that it holds.",
    ),
    key("id", Text, "", "The OpenSSL provider or engine (HAProxy: `ssl-provider`, `ssl-engine`). Required."),
    key("path", Text, "", "Its module. Absent: by its name in OpenSSL's directory of modules, or of engines."),
    key(
        "properties",
        Text,
        "",
        "A property query for all that sessions with its keys compute (HAProxy: `ssl-propquery`). Absent: it only signs.",
    ),
    key(
        "parameters",
        Any,
        "",
        "What a provider is told when it is loaded, as in its section of openssl.cnf, and an engine before it is initialised: names with texts.",
    ),
    key(
        "async",
        Bool,
        "true",
        "Whether handshakes pause for it (HAProxy: `ssl-mode-async`); else a worker stands still for each operation.",
    ),
    key(
        "notify",
        Choice(&["callback", "poll", "fd"]),
        "callback",
        "`callback`: it says when it has finished. `poll`: it says so when its parameter `poll` is asked for. `fd`: it makes a descriptor readable, \
         the only way that some have.",
    ),
    key(
        "poll_interval",
        Duration,
        "50us",
        "Between two polls of a worker, while it has operations in it; at least 1 ms on the kernel plane. On the DPDK plane below 1 ms is as often as it can.",
    ),
    key("in_flight_max", Number, "1024", "Operations of one worker in it, at most; further handshakes wait."),
    key(
        "timeout",
        Duration,
        "500ms",
        "How long a handshake waits for its operation, or for a place in the accelerator; then the accelerator has failed it.",
    ),
    key(
        "fallback",
        Choice(&["software", "fail"]),
        "software",
        "What becomes of a handshake that it has failed (Envoy: `fallback`). `software`: this computes, where it can have the key, and the client \
         notices nothing but the time. `fail`.",
    ),
    key("failures_max", Number, "8", "Failures in a row after which it is left alone."),
    key(
        "retry_interval",
        Duration,
        "1s",
        "For how long it is left alone; then one handshake tries it. Twice as long after each trial that fails, up to 32 times.",
    ),
];

// Of listeners and clusters alike.
const MIN_VERSION: Key = key(
    "min_version",
    Choice(VERSIONS),
    "tls_auto",
    "The oldest version; `tls_auto` is 1.2. Older ones than 1.2 are not spoken.",
);
const MAX_VERSION: Key = key("max_version", Choice(VERSIONS), "tls_auto", "The newest version; `tls_auto` is 1.3.");
const KEYLOG_FILE: Key = key(
    "keylog_file",
    Text,
    "",
    "Ferrogate's own: a file that the keys of all sessions are written to, for Wireshark. Whoever reads it reads the traffic; the log warns \
         whenever it is loaded. The environment's SSLKEYLOGFILE has no effect.",
);
const CIPHER_SUITES: Key = key(
    "cipher_suites",
    Text,
    "the backend's",
    "Cipher suites in the order of preference, by OpenSSL's names with `:` between them: of TLS 1.2, of 1.3, or of both. Of a version of which \
         none is named all are offered. Those without forward secrecy or authenticated encryption are not offered whatever stands here.",
);
const ECDH_CURVES: Key = key(
    "ecdh_curves",
    Text,
    "the backend's",
    "Groups for the key exchange in the order of preference: `x25519`, `p256`, `p384`, `p521` (OpenSSL), `X25519MLKEM768` (rustls, OpenSSL 3.5). \
         A server of TLS 1.2 with an ECDSA key needs the key's own curve among them.",
);
