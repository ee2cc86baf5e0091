//! The methods and fields that the gateway itself acts on, told from all others.
//!
//! **Invariant:** a name has one id whatever its case, and a method is one only in its own case.

/// A method that changes how a message is handled, or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 9110, section 9.3, speak for themselves")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

/// A field that the gateway itself reads, removes or replaces; all others are passed on unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of its name")]
pub enum FieldId {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Expect,
    Http2Settings,
    Date,
    Server,
    ForwardedFor,
    ForwardedProto,
    ForwardedClientCert,
    RequestId,
    /// `x-mosn-try-timeout`.
    TryTimeout,
    /// `x-mosn-global-timeout`.
    GlobalTimeout,
    /// `grpc-timeout`.
    GrpcTimeout,
    /// A field that the message's own Connection field names: it ends here (RFC 9110, 7.6.1). Only the codec gives this id.
    Nominated,
}

/// A set of [`FieldId`]s.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldIds(u32);

impl FieldIds {
    #[inline]
    pub(super) fn add(&mut self, id: FieldId) {
        self.0 |= 1 << id as u32;
    }

    #[inline]
    pub(super) fn has(self, id: FieldId) -> bool {
        self.0 & (1 << id as u32) != 0
    }
}

impl Method {
    /// The method of these bytes. Methods are case-sensitive (RFC 9110, 9.1).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Whether a repeated request does no more than the first (RFC 9110, 9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch | Self::Connect | Self::Other)
    }
}

impl FieldId {
    /// The id of a field name, which is a token, whatever its case. By length first: most names are told apart without a comparison.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let first = name.first().map_or(0, |b| b | 0x20);
        match (name.len(), first) {
            (2, b't') if is_name(name, b"te") => Self::Te,
            (4, b'h') if is_name(name, b"host") => Self::Host,
            (4, b'd') if is_name(name, b"date") => Self::Date,
            (6, b'e') if is_name(name, b"expect") => Self::Expect,
            (6, b's') if is_name(name, b"server") => Self::Server,
            (7, b'u') if is_name(name, b"upgrade") => Self::Upgrade,
            (7, b't') if is_name(name, b"trailer") => Self::Trailer,
            (10, b'c') if is_name(name, b"connection") => Self::Connection,
            (10, b'k') if is_name(name, b"keep-alive") => Self::KeepAlive,
            (14, b'c') if is_name(name, b"content-length") => Self::ContentLength,
            (12, b'x') if is_name(name, b"x-request-id") => Self::RequestId,
            (12, b'g') if is_name(name, b"grpc-timeout") => Self::GrpcTimeout,
            (15, b'x') if is_name(name, b"x-forwarded-for") => Self::ForwardedFor,
            (17, b'x') if is_name(name, b"x-forwarded-proto") => Self::ForwardedProto,
            (23, b'x') if is_name(name, b"x-forwarded-client-cert") => Self::ForwardedClientCert,
            (14, b'h') if is_name(name, b"http2-settings") => Self::Http2Settings,
            (16, b'p') if is_name(name, b"proxy-connection") => Self::ProxyConnection,
            (17, b't') if is_name(name, b"transfer-encoding") => Self::TransferEncoding,
            (18, b'x') if is_name(name, b"x-mosn-try-timeout") => Self::TryTimeout,
            (21, b'x') if is_name(name, b"x-mosn-global-timeout") => Self::GlobalTimeout,
            _ => Self::Other,
        }
    }
}

/// Whether a token is `known`, which is in lower case, whatever the token's case. Without a branch per byte. Among token bytes only a
/// letter becomes another token byte of a known name by its case bit.
#[inline(always)]
fn is_name<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    let Some(name) = name.first_chunk::<N>() else { return false };
    name.iter().zip(known).fold(0, |other, (a, b)| other | ((a | 0x20) ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_ids_ignore_case() {
        for (name, id) in [
            ("HOST", FieldId::Host),
            ("Content-Length", FieldId::ContentLength),
            ("HTTP2-Settings", FieldId::Http2Settings),
            ("transfer-ENCODING", FieldId::TransferEncoding),
            ("X-Mosn-Try-Timeout", FieldId::TryTimeout),
            ("x-mosn-global-timeout", FieldId::GlobalTimeout),
            ("X-Forwarded-Client-Cert", FieldId::ForwardedClientCert),
            ("gRPC-Timeout", FieldId::GrpcTimeout),
            ("x-other", FieldId::Other),
            ("hoss", FieldId::Other),
        ] {
            assert_eq!(FieldId::of(name.as_bytes()), id, "{name}");
        }
    }
}
