//! One connection's bytes: a socket, and the TLS session on it when there is one.
//!
//! **Invariant:** never blocks; one `receive` is at most one read of the socket.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::{Connection, HandshakeKind};

/// A connection, and what it has moved.
pub(crate) struct Io {
    pub(crate) stream: TcpStream,
    tls: Option<Box<Connection>>,
    /// The finished handshake was counted.
    counted: bool,
}

/// A buffer of the thread: bytes off a socket.
pub(crate) struct Scratch {
    raw: Box<[u8]>,
}

/// What a `receive` found.
pub(crate) enum Received {
    /// So many bytes off the socket; `full` when there may be more.
    Bytes { count: usize, full: bool },
    /// Nothing there.
    Dry,
    /// The peer has closed.
    Eof,
}

impl Io {
    pub(crate) fn new(stream: TcpStream, tls: Option<Connection>) -> Self {
        Self { stream, tls: tls.map(Box::new), counted: false }
    }

    /// Writes as much as is taken without blocking; 0 when nothing is.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return would_block_is_zero(self.stream.write(bytes));
        };
        let taken = tls.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    /// Sends what the session holds, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            if would_block_is_zero(tls.write_tls(&mut self.stream))? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Reads the socket once and hands what the peer said to `sink`, in pieces.
    pub(crate) fn receive(&mut self, scratch: &mut Scratch, mut sink: impl FnMut(&[u8])) -> io::Result<Received> {
        let count = match self.stream.read(&mut scratch.raw) {
            Ok(0) => return Ok(Received::Eof),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Dry),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                return Ok(Received::Bytes { count: 0, full: true });
            }
            Err(error) => return Err(error),
        };
        match &mut self.tls {
            None => sink(&scratch.raw[..count]),
            Some(tls) => {
                let opened = open(tls, &scratch.raw[..count], sink);
                // An alert tells the peer why.
                self.flush()?;
                opened?;
            }
        }
        Ok(Received::Bytes { count, full: count == scratch.raw.len() })
    }

    /// Tells the peer that nothing more comes: an alert on TLS, and a FIN.
    pub(crate) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush();
        }
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The kind of a handshake that has finished since the last call.
    pub(crate) fn handshake(&mut self) -> Option<HandshakeKind> {
        let tls = self.tls.as_ref()?;
        if self.counted || tls.is_handshaking() {
            return None;
        }
        self.counted = true;
        tls.handshake_kind()
    }

    /// Whether bytes can reach the peer's application: the handshake, if any, is over.
    pub(crate) fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { raw: vec![0; RAW_BYTES].into() }
    }
}

/// Takes records in and hands out their plaintext.
pub(crate) fn open(tls: &mut Connection, mut raw: &[u8], mut sink: impl FnMut(&[u8])) -> io::Result<()> {
    while !raw.is_empty() {
        if tls.read_tls(&mut raw)? == 0 {
            break;
        }
        let state = tls.process_new_packets().map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let mut reader = tls.reader();
            let plain = reader.fill_buf()?;
            let count = plain.len();
            sink(plain);
            reader.consume(count);
            left = left.saturating_sub(count.max(1));
        }
    }
    Ok(())
}

fn would_block_is_zero(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected) => Ok(0),
        other => other,
    }
}

const RAW_BYTES: usize = 256 * 1024;
