//! What the proxy tells an origin about the client and the request: X-Forwarded-For and its like, by Envoy's key names.
//!
//! **Invariant:** plain data that compares by content.

/// The keys of the `proxy` filter that say what origins are told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct Forwarded {
    /// `use_remote_address`: the peer is the client (or `trusted_hops` proxies stand before it); what it says of itself is not believed.
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`: proxies before this one that are believed.
    pub trusted_hops: u32,
    /// `skip_xff_append`: X-Forwarded-For passes as it came.
    pub skip_xff_append: bool,
    /// `generate_request_id`: a request without an X-Request-Id gets one.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`: a client's own X-Request-Id is kept although the client is not trusted.
    pub preserve_request_id: bool,
    /// `via`: the name in a Via field; None: no such field.
    pub via: Option<String>,
    /// What they are told of the client's certificate.
    pub client_cert: ForwardClientCert,
}

/// The keys that say what becomes of X-Forwarded-Client-Cert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct ForwardClientCert {
    /// `forward_client_cert_details`.
    pub mode: ClientCertMode,
    /// `set_current_client_cert_details.subject`.
    pub subject: bool,
    /// `set_current_client_cert_details.cert`.
    pub cert: bool,
    /// `set_current_client_cert_details.chain`.
    pub chain: bool,
    /// `set_current_client_cert_details.dns`.
    pub dns: bool,
    /// `set_current_client_cert_details.uri`.
    pub uri: bool,
}

/// What becomes of X-Forwarded-Client-Cert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertMode {
    /// It is removed.
    #[default]
    Sanitize,
    /// It passes as it came where the client's certificate was verified, and is removed elsewhere.
    ForwardOnly,
    /// The same, with what we know of the client behind it.
    AppendForward,
    /// It is replaced by what we know of the client, where its certificate was verified, and removed elsewhere.
    SanitizeSet,
    /// It passes as it came.
    AlwaysForwardOnly,
}

impl ClientCertMode {
    /// Whether it says what we know of the client.
    #[must_use]
    pub fn tells(self) -> bool {
        matches!(self, Self::AppendForward | Self::SanitizeSet)
    }
}

impl Default for Forwarded {
    fn default() -> Self {
        Self {
            use_remote_address: true,
            trusted_hops: 0,
            skip_xff_append: false,
            generate_request_id: true,
            preserve_request_id: false,
            via: None,
            client_cert: ForwardClientCert::default(),
        }
    }
}
