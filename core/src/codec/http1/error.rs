//! Why bytes are no HTTP/1 message, and why a message can't be written.
//!
//! **Invariant:** a decode error is the peer's fault, an encode error the caller's; neither carries bytes of the message.

use std::fmt;

/// Why bytes are no acceptable HTTP/1 message. After one the connection is lost: where the next message starts is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the texts of Display are the documentation, one line each")]
pub enum DecodeError {
    Method,
    RequestLine,
    RequestLineTooLong,
    Target,
    TargetForm,
    Fragment,
    Version,
    StatusLine,
    LineEnd,
    FieldName,
    SpaceBeforeColon,
    FieldValue,
    Fold,
    HeadTooLarge,
    TooManyFields,
    HostMissing,
    HostRepeated,
    Host,
    ContentLength,
    ContentLengthRepeated,
    LengthAndCoding,
    CodingUnknown,
    Coding,
    CodingInHttp10,
    BodyForbidden,
    BodyTooLarge,
    Expectation,
    Protocol,
    ConnectionOptions,
    ChunkSize,
    ChunkExtension,
    ChunkLineTooLong,
    ChunkEnd,
    TrailerForbidden,
    Surplus,
    Truncated,
}

impl DecodeError {
    /// The status to answer a request with. A response that can't be decoded is answered 502 by who asked for it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::RequestLineTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::CodingUnknown | Self::Protocol => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for DecodeError {
    // tidy: table
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "the method is not a token followed by one space",
            Self::RequestLine => "the request line does not end with a space and HTTP/x.y",
            Self::RequestLineTooLong => "the request line is longer than request_line_bytes_max",
            Self::Target => "the request target is empty or has a byte that is not visible ASCII",
            Self::TargetForm => "the request target has not the form that its method asks for",
            Self::Fragment => "the request target has a fragment",
            Self::Version => "the protocol version is not HTTP/1.x",
            Self::StatusLine => "the status line is not a version, three digits and a reason",
            Self::LineEnd => "a line does not end with CR LF, or a CR or LF stands alone",
            Self::FieldName => "a field name is not a token followed by a colon",
            Self::SpaceBeforeColon => "white space stands between a field name and its colon",
            Self::FieldValue => "a field value has a control byte",
            Self::Fold => "a field line is folded or starts with white space",
            Self::HeadTooLarge => "the head or the trailers are longer than head_bytes_max",
            Self::TooManyFields => "there are more fields than head_fields_max",
            Self::HostMissing => "an HTTP/1.1 request has no Host",
            Self::HostRepeated => "there is more than one Host",
            Self::Host => "the Host is no host with an optional port",
            Self::ContentLength => "the Content-Length is not one decimal number",
            Self::ContentLengthRepeated => "there is more than one Content-Length",
            Self::LengthAndCoding => "there are both Content-Length and Transfer-Encoding",
            Self::CodingUnknown => "there is a transfer coding other than chunked",
            Self::Coding => "the transfer coding chunked does not stand once, alone",
            Self::CodingInHttp10 => "there is a Transfer-Encoding in HTTP/1.0",
            Self::BodyForbidden => "there is a body where none may be",
            Self::BodyTooLarge => "the body is longer than request_body_bytes_max",
            Self::Expectation => "the expectation is not 100-continue",
            Self::Protocol => "the protocol that is asked for is not websocket",
            Self::ConnectionOptions => "Connection names more fields than any honest sender does",
            Self::ChunkSize => "a chunk size is not 1 to 16 hexadecimal digits",
            Self::ChunkExtension => "a chunk extension is malformed",
            Self::ChunkLineTooLong => "a chunk-size line is longer than chunk_line_bytes_max",
            Self::ChunkEnd => "a chunk's data is not followed by CR LF",
            Self::TrailerForbidden => "a trailer field would change the framing or the routing",
            Self::Surplus => "there are bytes where no message was asked for",
            Self::Truncated => "the connection ended inside a message",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Why a message can't be written: a fault of the caller. Nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The output has less room than the frame needs.
    Room,
    /// The start line is of the other kind, or its parts would break the line.
    StartLine,
    /// An extra field or a host would break its line.
    Field,
    /// The body's length can't be expressed for this version, status or method.
    Length,
    /// The frame does not belong here: data beyond the length, trailers without chunks.
    Order,
    /// The message is in another protocol than HTTP.
    Foreign,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Room => "too little room for the frame",
            Self::StartLine => "the start line can't be written",
            Self::Field => "a field can't be written",
            Self::Length => "the body's length can't be expressed here",
            Self::Order => "the frame does not belong here",
            Self::Foreign => "the message is in another protocol than HTTP, and is not converted",
        })
    }
}

impl std::error::Error for EncodeError {}
