//! One connection of the origin: reads a request, drains its body, writes the answer.
//!
//! **Invariant:** requests are answered in order; one that follows before the answer is sent waits in the buffer of the connection.

use std::io;

use super::answers::{Answer, Answers, Asked};
use crate::wire::body::Body;
use crate::wire::head::Malformed;
use crate::wire::io::{Io, Received, Scratch};

/// A connection and where it is.
pub(super) struct Conn {
    io: Io,
    /// What was read and not yet used: a head's front, or requests that came early.
    stash: Vec<u8>,
    state: State,
    /// The answer under way, when there is one: bytes of its head and of its filling that were sent.
    answer: Option<(Answer, usize, u64)>,
    /// Nothing follows this answer.
    close: bool,
    /// Without HTTP: what came goes back.
    echo: bool,
    room: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    Head,
    /// The body, the answer to come, and whether the client closes after it.
    Body(Body, Answer, bool),
}

/// Whether the connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Goes,
    Over,
}

impl Conn {
    pub(super) fn new(io: Io, echo: bool) -> Self {
        Self { io, stash: Vec::new(), state: State::Head, answer: None, close: false, echo, room: Vec::new() }
    }

    /// Reads, answers and writes as far as it goes.
    pub(super) fn turn(&mut self, answers: &Answers, scratch: &mut Scratch, is_closed: bool) -> Turn {
        match self.try_turn(answers, scratch, is_closed) {
            Ok(Turn::Goes) => Turn::Goes,
            Ok(Turn::Over) | Err(_) => {
                self.io.finish();
                Turn::Over
            }
        }
    }

    fn try_turn(&mut self, answers: &Answers, scratch: &mut Scratch, is_closed: bool) -> io::Result<Turn> {
        self.io.flush()?;
        if !self.write(answers)? {
            return Ok(Turn::Goes);
        }
        loop {
            let stash = &mut self.stash;
            let received = self.io.receive(scratch, |bytes| stash.extend_from_slice(bytes))?;
            if !self.use_stash(answers)? {
                return Ok(Turn::Goes);
            }
            if self.close {
                return Ok(Turn::Over);
            }
            match received {
                Received::Bytes { full, .. } if full || is_closed => {}
                Received::Bytes { .. } | Received::Dry => return Ok(Turn::Goes),
                Received::Eof => return Ok(Turn::Over),
            }
        }
    }

    /// Uses what was read; false when the answer must wait for room.
    fn use_stash(&mut self, answers: &Answers) -> io::Result<bool> {
        if self.echo {
            return self.echo_back();
        }
        while self.answer.is_none() && !self.close {
            match self.state {
                State::Head => {
                    let Some((asked, length)) = Asked::read(&self.stash).map_err(refused)? else { break };
                    if asked.expects {
                        self.io.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                    }
                    self.stash.drain(..length);
                    self.state = State::Body(asked.body, asked.answer, asked.close);
                }
                State::Body(mut body, answer, close) => {
                    let (taken, whole) = body.skip(&self.stash).map_err(refused)?;
                    self.stash.drain(..taken);
                    self.state = State::Body(body, answer, close);
                    if !whole {
                        break;
                    }
                    self.state = State::Head;
                    self.close = close;
                    self.answer = Some((answer, 0, 0));
                    if !self.write(answers)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Writes the answer under way; false when it must wait for room.
    fn write(&mut self, answers: &Answers) -> io::Result<bool> {
        if self.echo {
            return self.echo_back();
        }
        let Some((answer, mut head_sent, mut filling_sent)) = self.answer else { return Ok(true) };
        let head = answers.head(answer, &mut self.room);
        while head_sent < head.len() {
            match self.io.write(&head[head_sent..])? {
                0 => {
                    self.answer = Some((answer, head_sent, filling_sent));
                    return Ok(false);
                }
                count => head_sent += count,
            }
        }
        while filling_sent < answer.filling() {
            match self.io.write(answers.filling(answer.filling() - filling_sent))? {
                0 => {
                    self.answer = Some((answer, head_sent, filling_sent));
                    return Ok(false);
                }
                count => filling_sent += count as u64,
            }
        }
        self.answer = None;
        Ok(true)
    }

    fn echo_back(&mut self) -> io::Result<bool> {
        while !self.stash.is_empty() {
            match self.io.write(&self.stash)? {
                0 => return Ok(false),
                count => drop(self.stash.drain(..count)),
            }
        }
        Ok(true)
    }
}

fn refused(_: Malformed) -> io::Error {
    io::ErrorKind::InvalidData.into()
}
