//! Reads one response: a status, a length, an end. Verifies, keeps nothing.
//!
//! **Invariant:** a head that is the same, byte for byte, as the last one on any connection of the thread is not read again.

use crate::wire::body::Body;
use crate::wire::bolt;
use crate::wire::head::{Head, Malformed, status};

/// Where a response stands.
#[derive(Default)]
pub(crate) struct Reader {
    state: State,
    /// The front of a head that came in pieces.
    stash: Vec<u8>,
    close: bool,
    status: u16,
}

/// What a response turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// More bytes are wanted.
    Pending,
    /// Whole; `close` when the server closes after it.
    Whole { status: u16, close: bool },
    /// No response, or more than one.
    Malformed,
}

/// The last head that was read, and what it said.
#[derive(Default)]
pub(crate) struct LastHead {
    bytes: Vec<u8>,
    read: Option<(Head, u16)>,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Head,
    Body(Body),
    Whole,
    Malformed,
}

impl Reader {
    /// Before a response; before `raw_len` bytes without any head, if that is what is asked for.
    pub(crate) fn begin(&mut self, raw_len: Option<usize>) {
        self.stash.clear();
        (self.status, self.close) = (200, false);
        self.state = raw_len.map_or(State::Head, |len| State::Body(Body::Length(len as u64)));
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self.state {
            State::Head | State::Body(_) => Outcome::Pending,
            State::Whole => Outcome::Whole { status: self.status, close: self.close },
            State::Malformed => Outcome::Malformed,
        }
    }

    /// The peer has closed: the end of a response without a length, anything else is cut short.
    pub(crate) fn close(&mut self) -> Outcome {
        if matches!(self.state, State::Body(Body::UntilClose)) {
            self.state = State::Whole;
        }
        self.outcome()
    }

    /// Takes bytes of the response.
    pub(crate) fn feed(&mut self, bytes: &[u8], last: &mut LastHead) {
        if self.try_feed(bytes, last).is_err() {
            self.state = State::Malformed;
        }
    }

    fn try_feed(&mut self, mut bytes: &[u8], last: &mut LastHead) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head => bytes = self.head(bytes, last)?,
                State::Body(body) => {
                    let (taken, whole) = body.skip(bytes)?;
                    bytes = &bytes[taken..];
                    if whole {
                        self.state = State::Whole;
                    }
                }
                State::Whole | State::Malformed => return Err(Malformed),
            }
        }
        Ok(())
    }

    /// Reads a head, or keeps what there is of it; gives what follows.
    fn head<'a>(&mut self, bytes: &'a [u8], last: &mut LastHead) -> Result<&'a [u8], Malformed> {
        if self.stash.is_empty() {
            return match last.read(bytes)? {
                Some((head, status)) => {
                    self.head_read(head, status);
                    Ok(&bytes[head.len..])
                }
                None => {
                    self.stash.extend_from_slice(bytes);
                    Ok(&[])
                }
            };
        }
        let before = self.stash.len();
        self.stash.extend_from_slice(bytes);
        let Some((head, status)) = last.read(&self.stash)? else { return Ok(&[]) };
        self.stash.clear();
        self.head_read(head, status);
        Ok(&bytes[head.len.saturating_sub(before)..])
    }

    fn head_read(&mut self, head: Head, status: u16) {
        self.state = match head.framing {
            // An interim response: the final one follows.
            _ if (100..200).contains(&status) => State::Head,
            _ if matches!(status, 204 | 304) => State::Whole,
            Some(Body::Length(0)) => State::Whole,
            Some(body) => State::Body(body),
            None => State::Body(Body::UntilClose),
        };
        self.status = status;
        self.close = head.close || matches!(self.state, State::Body(Body::UntilClose));
    }
}

impl LastHead {
    fn read(&mut self, bytes: &[u8]) -> Result<Option<(Head, u16)>, Malformed> {
        if bolt::is_bolt(bytes) {
            return bolt::read_answer(bytes);
        }
        if let Some(read) = self.read
            && bytes.starts_with(&self.bytes)
        {
            return Ok(Some(read));
        }
        let Some(head) = Head::read(bytes)? else { return Ok(None) };
        let read = (head, status(bytes)?);
        self.bytes.clear();
        self.bytes.extend_from_slice(&bytes[..head.len]);
        self.read = Some(read);
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome_of(pieces: &[&[u8]]) -> Outcome {
        let (mut reader, mut last) = (Reader::default(), LastHead::default());
        for piece in pieces {
            reader.feed(piece, &mut last);
        }
        reader.outcome()
    }

    const WHOLE: Outcome = Outcome::Whole { status: 200, close: false };

    #[test]
    fn a_response_is_whole_in_any_split_and_again_from_the_last_head() {
        let wire = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let mut last = LastHead::default();
        for cut in 0..wire.len() {
            let mut reader = Reader::default();
            reader.feed(&wire[..cut], &mut last);
            assert_eq!(reader.outcome(), Outcome::Pending, "{cut}");
            reader.feed(&wire[cut..], &mut last);
            assert_eq!(reader.outcome(), WHOLE, "{cut}");
        }
    }

    #[test]
    fn another_head_is_not_taken_for_the_last_one() {
        let mut last = LastHead::default();
        for length in [5_usize, 6, 50, 5] {
            let wire = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
            let mut reader = Reader::default();
            reader.feed(&wire.as_bytes()[..wire.len() - 1], &mut last);
            assert_eq!(reader.outcome(), Outcome::Pending, "{length}");
            reader.feed(b"x", &mut last);
            assert_eq!(reader.outcome(), WHOLE, "{length}");
        }
    }

    #[test]
    fn interim_chunked_closed_and_empty_responses_end_where_they_end() {
        let continued: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(outcome_of(&[continued]), WHOLE);
        let chunked: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(outcome_of(&[chunked]), WHOLE);
        assert_eq!(outcome_of(&[b"HTTP/1.1 204 No Content\r\n\r\n"]), Outcome::Whole { status: 204, close: false });
        let (mut reader, mut last) = (Reader::default(), LastHead::default());
        reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc", &mut last);
        assert_eq!(reader.outcome(), Outcome::Pending);
        assert_eq!(reader.close(), Outcome::Whole { status: 200, close: true });
    }

    #[test]
    fn more_than_was_asked_for_is_malformed() {
        let twice: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(outcome_of(&[twice]), Outcome::Malformed);
        assert_eq!(outcome_of(&[b"SSH-2.0-OpenSSH\r\n\r\n"]), Outcome::Malformed);
    }
}
