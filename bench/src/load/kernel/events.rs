//! What the kernel load does when a connection can be read or written.
//!
//! **Invariant:** reads until the socket is known to be empty, as edge-triggered readiness asks for; a short read says so without another call.

use std::io;

use mio::event::Event;
use rustls::HandshakeKind;

use super::super::response::Outcome;
use super::super::slot::{Fault, Phase};
use super::Load;
use crate::wire::io::Received;

impl Load<'_> {
    pub(super) fn on_event(&mut self, event: &Event) {
        let i = event.token().0;
        // The timer only wakes.
        if i == self.slots.len() {
            return;
        }
        if event.is_writable() || event.is_error() {
            self.on_writable(i, event.is_error());
        }
        if event.is_readable() || event.is_read_closed() {
            self.on_readable(i, event.is_read_closed());
        }
    }

    /// Sends as much of the request as goes.
    pub(super) fn send(&mut self, i: usize) {
        let slot = &mut self.slots[i];
        let Some(io) = &mut slot.io else { return };
        let rest = &self.requests.bytes(slot.request)[slot.sent..];
        if rest.is_empty() {
            return;
        }
        match io.write(rest) {
            Ok(0) => {}
            Ok(count) => {
                slot.sent += count;
                self.record.counts.bytes_out += count as u64;
                if self.slots[i].io.as_ref().is_some_and(|io| io.is_ready()) {
                    self.count_open(i);
                }
            }
            Err(error) => self.broken(i, &error),
        }
    }

    fn on_writable(&mut self, i: usize, has_error: bool) {
        let slot = &mut self.slots[i];
        let Some(io) = &mut slot.io else { return };
        if let Err(error) = io.flush() {
            return self.broken(i, &error);
        }
        match slot.phase {
            Phase::Opening if has_error => self.fail(i, Fault::Connect),
            Phase::Opening if io.is_ready() => self.opened(i),
            Phase::Busy if slot.sent < self.requests.bytes(slot.request).len() => self.send(i),
            _ => {}
        }
    }

    fn on_readable(&mut self, i: usize, is_closed: bool) {
        loop {
            let slot = &mut self.slots[i];
            let Some(io) = &mut slot.io else { return };
            let (reader, last) = (&mut slot.reader, &mut self.last_head);
            let received = io.receive(&mut self.scratch, |bytes| reader.feed(bytes, last));
            match received {
                Ok(Received::Bytes { count, full }) => {
                    self.record.counts.bytes_in += count as u64;
                    self.count_handshake(i);
                    self.progress(i);
                    if !full && !is_closed {
                        return;
                    }
                }
                Ok(Received::Dry) => return,
                Ok(Received::Eof) => return self.on_eof(i),
                Err(error) => return self.broken(i, &error),
            }
        }
    }

    fn count_handshake(&mut self, i: usize) {
        let kind = self.slots[i].io.as_mut().and_then(|io| io.handshake());
        match kind {
            None => return,
            Some(HandshakeKind::Resumed) => self.record.counts.handshakes_resumed += 1,
            Some(_) => self.record.counts.handshakes_full += 1,
        }
        self.count_open(i);
    }

    /// Bytes have come.
    fn progress(&mut self, i: usize) {
        let slot = &mut self.slots[i];
        match slot.phase {
            Phase::Opening if slot.io.as_ref().is_some_and(|io| io.is_ready()) => self.opened(i),
            Phase::Busy => {
                let outcome = slot.reader.outcome();
                match outcome {
                    Outcome::Pending => self.send(i),
                    Outcome::Whole { status, close } => self.answered(i, status, close),
                    Outcome::Malformed => self.fail(i, Fault::Protocol),
                }
            }
            // Bytes that nobody asked for.
            Phase::Free if slot.reader.outcome() == Outcome::Malformed => {
                slot.io = None;
                self.record.counts.errors.protocol += 1;
            }
            Phase::Opening | Phase::Free | Phase::Closing => {}
        }
    }

    /// The slot's first connection is there.
    fn opened(&mut self, i: usize) {
        self.count_open(i);
        let now = self.clock.now();
        if self.args.opens_with_a_request() {
            return self.start(i, now, now);
        }
        self.first_done(i);
        self.next(i, now);
    }

    /// A response is whole.
    fn answered(&mut self, i: usize, status: u16, close: bool) {
        let now = self.clock.now();
        let slot = &mut self.slots[i];
        slot.served = slot.served.saturating_add(1);
        if status == 200 {
            self.record.response(now - slot.intended);
        } else {
            self.record.counts.errors.status += 1;
        }
        let is_unsent = slot.sent < self.requests.bytes(slot.request).len();
        let is_last = slot.served == self.args.requests_per_connection;
        if close || (is_last && self.args.requests_per_connection == 1) {
            // The server closes; until it has, the exchange is not over.
            slot.phase = Phase::Closing;
            slot.deadline = now + self.timeout;
            return;
        }
        if is_last || is_unsent {
            if let Some(io) = &mut slot.io {
                io.finish();
            }
            slot.io = None;
        }
        self.first_done(i);
        self.next(i, now);
    }

    /// The peer has closed.
    fn on_eof(&mut self, i: usize) {
        let slot = &mut self.slots[i];
        if slot.phase == Phase::Busy
            && let Outcome::Whole { status, .. } = slot.reader.close()
        {
            self.answered(i, status, true);
        }
        let slot = &mut self.slots[i];
        match slot.phase {
            Phase::Opening => self.fail(i, Fault::Connect),
            Phase::Busy => self.fail(i, Fault::Reset),
            Phase::Free => slot.io = None,
            Phase::Closing => {
                if let Some(io) = &mut slot.io {
                    io.finish();
                }
                self.closed(i);
            }
        }
    }

    /// The connection is over with its last exchange.
    fn closed(&mut self, i: usize) {
        self.slots[i].io = None;
        self.first_done(i);
        let now = self.clock.now();
        self.next(i, now);
    }

    fn broken(&mut self, i: usize, error: &io::Error) {
        let slot = &self.slots[i];
        match slot.phase {
            Phase::Closing => self.closed(i),
            Phase::Free => self.slots[i].io = None,
            _ => {
                let fault = Fault::of(error, slot.is_counted);
                self.explained.say(fault, error);
                self.fail(i, fault);
            }
        }
    }
}
