//! How a line is written: the parts of its format in order, each value escaped for where it stands.
//!
//! **Invariant:** in text, what a peer chose is printable ASCII without a quotation mark; in JSON, every line is one valid object.

use std::time::Duration;

use tokio::time::Instant;

use super::Facts;
use super::value::{Value, value};
use crate::config::log_format::{LogFormat, Piece, Variable};
use crate::message::Exchange;
use crate::telemetry::local_clock::LocalClock;

/// A format, ready to be written.
#[derive(Debug)]
pub(super) struct Line(Vec<Part>);

#[derive(Debug)]
enum Part {
    /// As it stands.
    Raw(Box<[u8]>),
    /// The same: what stands between most values.
    Byte(u8),
    /// A value in text.
    Text(Variable),
    /// A value within a JSON string.
    InString(Variable),
    /// A value that is a JSON value of its own: a number, a string or null.
    Json(Variable),
}

impl Line {
    pub(super) fn new(format: &LogFormat) -> Self {
        let mut parts = Vec::new();
        match format {
            LogFormat::Text(template) => parts.extend(template.0.iter().map(|piece| match piece {
                // What the file says may hold a line's end; a line must not.
                Piece::Text(text) => Part::Raw(text.replace(['\n', '\r'], " ").into_bytes().into()),
                Piece::Variable(variable) => Part::Text(variable.clone()),
            })),
            LogFormat::Json(fields) => {
                for (index, (name, template)) in fields.iter().enumerate() {
                    let mut raw = if index == 0 { b"{".to_vec() } else { b",".to_vec() };
                    put_string(&mut raw, name.as_bytes());
                    raw.push(b':');
                    json_value(&mut parts, raw, &template.0);
                }
                parts.push(Part::Raw((*b"}").into()));
            }
        }
        Self(parts.into_iter().map(Part::in_short).collect())
    }

    /// Writes the line, without its end.
    pub(super) fn write(&self, out: &mut Vec<u8>, x: &Exchange, facts: &Facts, now: Instant, clock: &mut LocalClock) {
        for part in &self.0 {
            match part {
                Part::Byte(byte) => out.push(*byte),
                Part::Raw(text) => out.extend_from_slice(text),
                Part::Text(variable) => put_text(out, value(variable, x, facts, now), now, clock),
                Part::InString(variable) => {
                    let mut text = Vec::new();
                    put_plain(&mut text, value(variable, x, facts, now), now, clock);
                    put_escaped_json(out, &text);
                }
                Part::Json(variable) => put_json(out, value(variable, x, facts, now), now, clock),
            }
        }
    }
}

impl Part {
    fn in_short(self) -> Self {
        match self {
            Self::Raw(text) if text.len() == 1 => Self::Byte(text[0]),
            other => other,
        }
    }
}

/// The parts of one JSON value; `raw` is what stands before it.
fn json_value(parts: &mut Vec<Part>, mut raw: Vec<u8>, pieces: &[Piece]) {
    if let [Piece::Variable(variable)] = pieces {
        parts.push(Part::Raw(raw.into()));
        parts.push(Part::Json(variable.clone()));
        return;
    }
    raw.push(b'"');
    for piece in pieces {
        match piece {
            Piece::Text(text) => put_escaped_json(&mut raw, text.as_bytes()),
            Piece::Variable(variable) => {
                parts.push(Part::Raw(std::mem::take(&mut raw).into()));
                parts.push(Part::InString(variable.clone()));
            }
        }
    }
    raw.push(b'"');
    parts.push(Part::Raw(raw.into()));
}

fn put_text(out: &mut Vec<u8>, value: Value<'_>, now: Instant, clock: &mut LocalClock) {
    match value {
        Value::Bytes(bytes) => put_escaped_text(out, cut(bytes)),
        other => put_plain(out, other, now, clock),
    }
}

/// As text, bytes as they are.
fn put_plain(out: &mut Vec<u8>, value: Value<'_>, now: Instant, clock: &mut LocalClock) {
    match value {
        Value::None => out.push(b'-'),
        Value::Number(n) => put_number(out, n),
        Value::Bytes(bytes) => out.extend_from_slice(cut(bytes)),
        Value::Moment(moment) => clock.write(moment, now, out),
        Value::Span(span) => put_span(out, span),
        Value::Flags(flags) => {
            for (index, name) in flags.names().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name.as_bytes());
            }
        }
    }
}

fn put_json(out: &mut Vec<u8>, value: Value<'_>, now: Instant, clock: &mut LocalClock) {
    match value {
        Value::None => out.extend_from_slice(b"null"),
        Value::Number(n) => put_number(out, n),
        // Seconds, as in the metrics.
        Value::Span(span) => put_seconds(out, span),
        Value::Bytes(bytes) => put_string(out, cut(bytes)),
        // Written here: there is nothing to escape.
        other @ (Value::Moment(_) | Value::Flags(_)) => {
            out.push(b'"');
            put_plain(out, other, now, clock);
            out.push(b'"');
        }
    }
}

fn cut(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(VALUE_BYTES_MAX)]
}

fn is_plain(b: u8) -> bool {
    (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\'
}

/// Without an early end, so that the compiler looks at many bytes at a time.
fn are_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, b| plain & is_plain(*b))
}

fn put_escaped_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if are_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for &b in bytes {
        if is_plain(b) {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    put_escaped_json(out, bytes);
    out.push(b'"');
}

/// What is no UTF-8 is taken for Latin-1.
fn put_escaped_json(out: &mut Vec<u8>, bytes: &[u8]) {
    if are_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    let escape = |out: &mut Vec<u8>, b: u8| {
        out.extend_from_slice(b"\\u00");
        out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    };
    for chunk in bytes.utf8_chunks() {
        for &b in chunk.valid().as_bytes() {
            match b {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
                0..0x20 | 0x7f => escape(out, b),
                _ => out.push(b),
            }
        }
        for &b in chunk.invalid() {
            escape(out, b);
        }
    }
}

fn put_number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn put_seconds(out: &mut Vec<u8>, span: Duration) {
    put_number(out, span.as_secs());
    let micros = span.subsec_micros();
    out.push(b'.');
    put_fraction(out, u64::from(micros), 6);
}

/// So many digits, with leading zeros.
fn put_fraction(out: &mut Vec<u8>, value: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    out.extend_from_slice(&ZEROS[..digits.saturating_sub(text.len())]);
    out.extend_from_slice(text);
}

/// As Go prints a duration: `1.5ms`, `2m0.25s`.
fn put_span(out: &mut Vec<u8>, span: Duration) {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    // Each unit as a constant: a division by one that is known only here takes as long as the rest of it.
    match nanos {
        0 => out.extend_from_slice(b"0s"),
        1..1_000 => put_units(out, nanos, 0, 0, b"ns"),
        1_000..1_000_000 => put_units(out, nanos / 1_000, nanos % 1_000, 3, "µs".as_bytes()),
        1_000_000..1_000_000_000 => put_units(out, nanos / 1_000_000, nanos % 1_000_000, 6, b"ms"),
        _ => put_long_span(out, nanos / 1_000_000_000, nanos % 1_000_000_000),
    }
}

/// One of a second and more.
fn put_long_span(out: &mut Vec<u8>, seconds: u64, nanos: u64) {
    if seconds >= 3600 {
        put_number(out, seconds / 3600);
        out.push(b'h');
    }
    if seconds >= 60 {
        put_number(out, seconds / 60 % 60);
        out.push(b'm');
    }
    put_units(out, if seconds >= 60 { seconds % 60 } else { seconds }, nanos, 9, b"s");
}

/// A number with so many digits behind the point, but for the zeros at its end.
fn put_units(out: &mut Vec<u8>, whole: u64, fraction: u64, digits: usize, unit: &[u8]) {
    put_number(out, whole);
    if fraction > 0 {
        out.push(b'.');
        put_fraction(out, fraction, digits);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.extend_from_slice(unit);
}

const ZEROS: &[u8; 9] = b"000000000";

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Bytes of one value in a line; what is behind them is left out.
const VALUE_BYTES_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (1_234_567, "1.234567ms"),
            (20_000_000, "20ms"),
            (2_500_000_000, "2.5s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000 + 61_001_000_000, "1h1m1.001s"),
        ] {
            let mut out = Vec::new();
            put_span(&mut out, Duration::from_nanos(nanos));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        let mut out = Vec::new();
        put_seconds(&mut out, Duration::from_micros(1_000_020));
        assert_eq!(out, b"1.000020");
    }

    #[test]
    fn what_a_peer_chose_ends_no_line_and_no_quotation() {
        let mut out = Vec::new();
        put_escaped_text(&mut out, b"a \"b\\\r\n\x1b\xff");
        assert_eq!(out, b"a \\x22b\\x5C\\x0D\\x0A\\x1B\\xFF");
        for bytes in [&b"a \"b\\\r\n\x1b\xff"[..], "gr\u{fc}n \u{7f}".as_bytes(), b"\xc3", b""] {
            let mut out = Vec::new();
            put_string(&mut out, bytes);
            let read: String = serde_json::from_slice(&out).unwrap();
            let meant: String = bytes.utf8_chunks().fold(String::new(), |mut all, chunk| {
                all.push_str(chunk.valid());
                all.extend(chunk.invalid().iter().map(|b| char::from(*b)));
                all
            });
            assert_eq!(read, meant);
        }
    }
}
