//! What the HTTP/1 codec makes of shapes that were used, or could be, to smuggle messages past a gateway, byte by byte.
//!
//! A row is a name, the bytes of a connection, and what is read from them: messages separated by ` | `, each with its start line's
//! parts, its length and its body in quotes; `...` where more bytes are needed; or the status and the cause of a refusal. Every row is
//! decoded whole, byte by byte, and in pieces of other sizes: all must agree. What passes is forwarded and read again, and must mean
//! the same.

mod chunks;
mod fields;
mod forwarding;
mod limits;
mod request_lines;
mod responses;

use ferrogate_core::codec::Codec;
use ferrogate_core::codec::http1::{
    CodecLimits, ConnectionOptions, DecodeError, Frame, RequestDecoder, ResponseDecoder, selfcheck,
};
use ferrogate_core::message::{BodyLength, HttpHead, Method};

/// A name, what is sent, what is read.
type Row = (&'static str, &'static [u8], &'static str);

#[test]
fn request_lines_and_targets() {
    check_requests(request_lines::ROWS);
}

#[test]
fn request_fields_and_framing() {
    check_requests(fields::ROWS);
}

#[test]
fn request_chunks() {
    check_requests(chunks::ROWS);
}

#[test]
fn responses_to_get() {
    check_responses(Method::Get, responses::TO_GET);
}

#[test]
fn responses_to_head() {
    check_responses(Method::Head, responses::TO_HEAD);
}

#[test]
fn responses_to_connect() {
    check_responses(Method::Connect, responses::TO_CONNECT);
}

#[test]
fn there_are_enough_shapes() {
    let requests = request_lines::ROWS.len() + fields::ROWS.len() + chunks::ROWS.len();
    let responses = responses::TO_GET.len() + responses::TO_HEAD.len() + responses::TO_CONNECT.len();
    println!("{requests} request shapes, {responses} response shapes");
    assert!(requests >= 150 && responses >= 50);
}

fn check_requests(rows: &[Row]) {
    check_rows(rows, 0, |src, piece| {
        let mut decoder = RequestDecoder::new(CodecLimits::default());
        read(src, piece, |bytes, story| {
            story.before_decode(decoder.is_body_done());
            story.note(decoder.decode(bytes))
        })
    });
}

fn check_responses(method: Method, rows: &[Row]) {
    let mode = match method {
        Method::Head => 3,
        Method::Connect => 5,
        _ => 1,
    };
    check_rows(rows, mode, |src, piece| {
        let mut decoder = ResponseDecoder::new(CodecLimits::default());
        decoder.expect_response(method);
        read(src, piece, |bytes, story| {
            story.before_decode(decoder.is_body_done() || !story.in_body);
            story.note(decoder.decode(bytes))
        })
    });
}

fn check_rows(rows: &[Row], mode: u8, read: impl Fn(&[u8], usize) -> String) {
    let mut wrong = Vec::new();
    for (name, src, want) in rows {
        for piece in [usize::MAX, 1, 2, 3, 7] {
            let got = read(src, piece);
            if got != *want {
                let src = String::from_utf8_lossy(src);
                wrong.push(format!("{name} (pieces of {piece}):\n  sent {src:?}\n  want {want}\n  got  {got}"));
                break;
            }
        }
        // Forwards what passes and reads it again.
        selfcheck::check(&[&[mode, 5], *src].concat());
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// Shows `decode` the bytes in pieces of `piece`, and tells what it read.
fn read(src: &[u8], piece: usize, mut decode: impl FnMut(&[u8], &mut Story) -> Option<usize>) -> String {
    let mut story = Story::default();
    let (mut at, mut shown) = (0, piece.min(src.len()));
    loop {
        match decode(&src[at..shown], &mut story) {
            Some(used) => at += used,
            None if story.refused || (shown == src.len() && at == shown) => break,
            None if shown == src.len() => {
                story.separate();
                story.text.push_str("...");
                break;
            }
            None => shown = shown.saturating_add(piece).min(src.len()),
        }
    }
    story.end_data();
    story.text
}

/// What was read so far.
#[derive(Default)]
struct Story {
    text: String,
    data: Vec<u8>,
    in_body: bool,
    refused: bool,
}

impl Story {
    fn before_decode(&mut self, message_done: bool) {
        if message_done {
            self.end_data();
            self.in_body = false;
        }
    }

    fn note(&mut self, result: Result<Option<(Frame<'_>, usize)>, DecodeError>) -> Option<usize> {
        match result {
            Err(_) if self.refused => None,
            Err(error) => {
                self.separate();
                self.text += &format!("{} {error:?}", error.status());
                self.refused = true;
                None
            }
            Ok(None) => None,
            Ok(Some((frame, used))) => {
                match frame {
                    Frame::Head(head, length, options) => self.head(&head, length, options),
                    Frame::Data(data) => self.data.extend_from_slice(data),
                    Frame::Trailers(trailers) => {
                        self.end_data();
                        for (_, name, value) in trailers.fields() {
                            self.text += &format!(" [{}: {}]", name.escape_ascii(), value.escape_ascii());
                        }
                        self.in_body = false;
                    }
                    Frame::End => self.in_body = false,
                }
                Some(used)
            }
        }
    }

    fn head(&mut self, head: &HttpHead, length: BodyLength, options: ConnectionOptions) {
        self.separate();
        match head.status() {
            0 => {
                let host = head.authority().unwrap_or(b"-");
                let (method, target) = (head.method_bytes().escape_ascii(), head.target().escape_ascii());
                self.text += &format!("{method} {target} @{}", host.escape_ascii());
            }
            status => self.text += &format!("{status} {}", head.reason().escape_ascii()),
        }
        self.text += &match length {
            BodyLength::None => " none".to_owned(),
            BodyLength::Exact(n) => format!(" {n}"),
            BodyLength::Chunked => " chunked".to_owned(),
            BodyLength::UntilClose => " until-close".to_owned(),
        };
        for (said, word) in [
            (!options.keep_alive, " close"),
            (options.upgrade, " upgrade"),
            (options.te_trailers, " te"),
            (options.expect_continue, " expect"),
        ] {
            self.text += if said { word } else { "" };
        }
        self.in_body = true;
    }

    fn end_data(&mut self) {
        if !self.data.is_empty() {
            self.text += &format!(" \"{}\"", self.data.escape_ascii());
            self.data.clear();
        }
    }

    fn separate(&mut self) {
        self.end_data();
        if !self.text.is_empty() {
            self.text += " | ";
        }
    }
}
