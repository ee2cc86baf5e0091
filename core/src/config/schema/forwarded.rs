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
        }
    }
}
