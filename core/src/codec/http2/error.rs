//! What can be wrong with frames and heads, and whom it costs: a stream or the connection.
//!
//! **Invariant:** a fault is the peer's; it carries no bytes of the peer's.

use std::fmt;

/// Why a stream or a connection ends (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 9113, section 7, speak for themselves")]
#[repr(u32)]
pub enum ErrorCode {
    NoError = 0x0,
    ProtocolError = 0x1,
    InternalError = 0x2,
    FlowControlError = 0x3,
    SettingsTimeout = 0x4,
    StreamClosed = 0x5,
    FrameSizeError = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    CompressionError = 0x9,
    ConnectError = 0xa,
    EnhanceYourCalm = 0xb,
    InadequateSecurity = 0xc,
    Http11Required = 0xd,
}

/// Whom a fault costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One stream (RFC 9113, 5.4.2).
    Stream(u32),
    /// Everything (RFC 9113, 5.4.1).
    Connection,
}

/// A breach of the protocol: what to say of it, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the peer is told.
    pub code: ErrorCode,
    /// Whom it costs.
    pub scope: Scope,
}

/// Why a head is malformed (RFC 9113, 8.1.1): its stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the texts of Display are the documentation, one line each")]
pub enum Malformed {
    FieldName,
    FieldValue,
    ConnectionField,
    Te,
    PseudoUnknown,
    PseudoRepeated,
    PseudoLate,
    PseudoMissing,
    PseudoForbidden,
    Method,
    Scheme,
    Path,
    Authority,
    Protocol,
    HostRepeated,
    HostDiffers,
    Status,
    ContentLength,
    ContentLengthRepeated,
    BodyForbidden,
    BodyLength,
    TrailerForbidden,
}

impl ErrorCode {
    /// The code of this number; unknown ones are as good as INTERNAL_ERROR (RFC 9113, 7).
    #[must_use]
    pub fn of(number: u32) -> Self {
        match number {
            0x0 => Self::NoError,
            0x1 => Self::ProtocolError,
            0x3 => Self::FlowControlError,
            0x4 => Self::SettingsTimeout,
            0x5 => Self::StreamClosed,
            0x6 => Self::FrameSizeError,
            0x7 => Self::RefusedStream,
            0x8 => Self::Cancel,
            0x9 => Self::CompressionError,
            0xa => Self::ConnectError,
            0xb => Self::EnhanceYourCalm,
            0xc => Self::InadequateSecurity,
            0xd => Self::Http11Required,
            _ => Self::InternalError,
        }
    }
}

impl Fault {
    /// One that costs the connection.
    #[must_use]
    pub const fn connection(code: ErrorCode) -> Self {
        Self { code, scope: Scope::Connection }
    }

    /// One that costs a stream.
    #[must_use]
    pub const fn stream(id: u32, code: ErrorCode) -> Self {
        Self { code, scope: Scope::Stream(id) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            Scope::Stream(id) => write!(f, "{:?} on stream {id}", self.code),
            Scope::Connection => write!(f, "{:?} on the connection", self.code),
        }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Malformed {
    // tidy: table
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FieldName => "a field name is not a token in lower case",
            Self::FieldValue => "a field value has a control byte, or white space at an end",
            Self::ConnectionField => "a field means something to an HTTP/1 connection only",
            Self::Te => "TE says something else than trailers",
            Self::PseudoUnknown => "there is no such pseudo-header field",
            Self::PseudoRepeated => "a pseudo-header field stands twice",
            Self::PseudoLate => "a pseudo-header field stands behind a field",
            Self::PseudoMissing => "a pseudo-header field is missing",
            Self::PseudoForbidden => "a pseudo-header field stands where it may not",
            Self::Method => "the method is no token",
            Self::Scheme => "the scheme is neither http nor https",
            Self::Path => "the path is not what its method asks for, or has a byte that is not visible ASCII",
            Self::Authority => "the authority is no host with an optional port",
            Self::Protocol => "the protocol is no token",
            Self::HostRepeated => "there is more than one Host",
            Self::HostDiffers => "the Host is not the authority",
            Self::Status => "the status is not three digits, or is 101",
            Self::ContentLength => "the content-length is not one decimal number",
            Self::ContentLengthRepeated => "there is more than one content-length",
            Self::BodyForbidden => "there is a body where none may be",
            Self::BodyLength => "the body is not as long as content-length says",
            Self::TrailerForbidden => "a trailer field would change the framing or the routing",
        })
    }
}

impl std::error::Error for Malformed {}
