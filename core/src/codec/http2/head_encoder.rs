//! Heads to header blocks.
//!
//! **Invariant:** what means something to an HTTP/1 connection only is never written, and no more than one content-length, the caller's.

use super::hpack::{put_field, put_number, put_status, put_table_size};
use super::rules::is_of_connection;
use crate::codec::http1::{EncodeError, check_authority, is_authority, target_end, trim};
use crate::codec::websocket::{self, WEBSOCKET};
use crate::message::{BodyLength, FieldId, HttpHead, Method, StartLine, is_token};

/// Writes the header blocks of one connection.
#[derive(Debug, Default)]
pub struct HeadEncoder {
    /// The peer knows that its table is not used. Whatever size it allows, now or later, none is.
    has_said_size: bool,
}

/// What is to be said in the head of a request besides what stands in it.
#[derive(Clone, Copy, Debug)]
pub struct RequestTerms<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Whether trailers are taken.
    pub te_trailers: bool,
    /// Whether to ask for a WebSocket by extended CONNECT (RFC 8441), which the head asks for as HTTP/1.1 does.
    pub websocket: bool,
}

impl HeadEncoder {
    /// Writes the head of a response, in answer to `method`, with a body of this length.
    ///
    /// # Errors
    /// `StartLine` for a head that is no response, or is 101, which HTTP/2 does not have; nothing has been written then.
    pub fn response(
        &mut self,
        head: &HttpHead,
        length: BodyLength,
        method: Method,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let status = head.status();
        if !(100..1000).contains(&status) || status == 101 {
            return Err(EncodeError::StartLine);
        }
        self.begin(out);
        put_status(out, status);
        put_fields(head, FieldId::ContentLength, out);
        match length {
            // RFC 9110, 8.6: neither of these has one.
            _ if status < 200 || status == 204 => {}
            BodyLength::Exact(n) => put_number(out, LENGTH, n),
            // What the length would be, had there been a body: the origin's word.
            BodyLength::None if method == Method::Head || status == 304 => {
                if let Some(said) = head.get_id(FieldId::ContentLength).filter(|v| is_number(v)) {
                    put_field(out, LENGTH, said);
                }
            }
            BodyLength::None => put_number(out, LENGTH, 0),
            BodyLength::Chunked | BodyLength::UntilClose => {}
        }
        Ok(())
    }

    /// Writes the head of a request with a body of this length.
    ///
    /// # Errors
    /// `StartLine` for a head that is no request or whose target was set to what is none; `Field` when its host is none.
    /// Nothing has been written then.
    pub fn request(
        &mut self,
        head: &HttpHead,
        length: BodyLength,
        terms: RequestTerms<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let StartLine::Request { method, .. } = head.line() else { return Err(EncodeError::StartLine) };
        let (name, path) = (head.method_bytes(), head.path_and_query());
        if method == Method::Connect {
            return self.connect(head, out);
        }
        if !is_token(name) || path.is_empty() || target_end(path, 0) < path.len() {
            return Err(EncodeError::StartLine);
        }
        let host = head.authority();
        if host.is_some_and(|host| !is_authority(host)) {
            return Err(EncodeError::Field);
        }
        self.begin(out);
        if terms.websocket {
            put_field(out, b":method", b"CONNECT");
            put_field(out, b":protocol", WEBSOCKET);
        } else {
            put_field(out, b":method", name);
        }
        put_field(out, b":scheme", terms.scheme.as_bytes());
        // RFC 9113, 8.3.1: none is made up where HTTP/1.0 has said none.
        host.into_iter().for_each(|host| put_field(out, b":authority", host));
        match path {
            [b'?', ..] => put_field(out, b":path", &[b"/", path].concat()),
            path => put_field(out, b":path", path),
        }
        if terms.websocket {
            // RFC 8441, 5: there is no such field in HTTP/2.
            for (id, name, value) in head.fields() {
                if passes(id, FieldId::Host) && !name.eq_ignore_ascii_case(websocket::KEY.as_bytes()) {
                    put_field(out, name, trim(value));
                }
            }
            return Ok(());
        }
        put_fields(head, FieldId::Host, out);
        if let BodyLength::Exact(n) = length {
            put_number(out, LENGTH, n);
        }
        if terms.te_trailers {
            put_field(out, b"te", b"trailers");
        }
        Ok(())
    }

    /// CONNECT has its authority and nothing else (RFC 9113, 8.5).
    fn connect(&mut self, head: &HttpHead, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_authority(head.target(), true).map_err(|_| EncodeError::StartLine)?;
        self.begin(out);
        put_field(out, b":method", b"CONNECT");
        put_field(out, b":authority", head.target());
        put_fields(head, FieldId::Host, out);
        Ok(())
    }

    /// Writes trailers.
    pub fn trailers(&mut self, head: &HttpHead, out: &mut Vec<u8>) {
        self.begin(out);
        put_fields(head, FieldId::Host, out);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.has_said_size {
            self.has_said_size = true;
            put_table_size(out, 0);
        }
    }
}

/// Writes the fields that may pass, but for the content-length and one kind more.
fn put_fields(head: &HttpHead, but: FieldId, out: &mut Vec<u8>) {
    for (id, name, value) in head.fields() {
        if passes(id, but) {
            put_field(out, name, trim(value));
        }
    }
}

#[inline]
fn passes(id: FieldId, but: FieldId) -> bool {
    let ours = matches!(id, FieldId::ContentLength | FieldId::Te | FieldId::Http2Settings | FieldId::Nominated);
    id == FieldId::Other || !(ours || id == but || is_of_connection(id))
}

fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

const LENGTH: &[u8] = b"content-length";
