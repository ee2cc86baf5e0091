//! A TLS server and client on plain blocking sockets: what drives a `Session`, without a plane around it.
//!
//! `cargo run -p tls-offload --example handshake -- serve 127.0.0.1:8443` answers every HTTP request with what was agreed; its certificate is
//! self-signed, for localhost. `... -- get 127.0.0.1:8443 localhost` asks for it, trusting anyone, and prints the answer.
//!
//! **Invariant:** shows the whole use of a session: handshake, open, seal, its own output, and both ways to close.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::task::{Context, Poll, Waker};

use tls_offload::{
    Alpn, ClientOptions, ClientTls, Identity, RECORD_BYTES_MAX, Roots, ServerOptions, ServerTls, Session, Step,
    self_signed,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => {
            let (certificate, key) = self_signed(["localhost", "127.0.0.1"])?;
            let identity =
                Identity { certificates: certificate.as_str().into(), key: key.as_str().into(), staple: None };
            let mut options = ServerOptions::new(vec![identity]);
            options.alpn = Alpn::from_list("http/1.1")?;
            let tls = ServerTls::new(options)?;
            let listener = TcpListener::bind(address)?;
            println!("listening on {}", listener.local_addr()?);
            for stream in listener.incoming() {
                match Stream::new(stream?, tls.session()).and_then(serve) {
                    Ok(requests) => println!("{requests} requests"),
                    Err(error) => println!("ended: {error}"),
                }
            }
        }
        ["get", address, name] => {
            let tls = ClientTls::new(ClientOptions { roots: Roots::Insecure, ..ClientOptions::default() })?;
            let mut stream = Stream::new(TcpStream::connect(address)?, tls.session(name)?)?;
            stream.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            while let Some(piece) = stream.read()? {
                io::stdout().write_all(&piece)?;
            }
        }
        _ => println!("usage: handshake serve ADDRESS | get ADDRESS NAME"),
    }
    Ok(())
}

/// Answers requests without bodies until the client closes or asks to. Says how many.
pub fn serve(mut stream: Stream) -> io::Result<usize> {
    let mut requests = 0;
    let mut head = Vec::new();
    while let Some(piece) = stream.read()? {
        head.extend(piece);
        while let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            let last = head[..end].windows(17).any(|w| w.eq_ignore_ascii_case(b"connection: close"));
            head.drain(..end + 4);
            let info = format!("{:?}\n", stream.session.info());
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{info}", info.len());
            stream.write(answer.as_bytes())?;
            requests += 1;
            if last {
                stream.close()?;
                return Ok(requests);
            }
        }
    }
    stream.close()?;
    Ok(requests)
}

/// A session over a blocking socket.
pub struct Stream {
    socket: TcpStream,
    /// The TLS state.
    pub session: Session,
    /// Ciphertext that is no whole record yet.
    wire: Vec<u8>,
}

impl Stream {
    /// Takes the handshake to its end.
    pub fn new(socket: TcpStream, session: Session) -> io::Result<Self> {
        let mut stream = Self { socket, session, wire: Vec::new() };
        loop {
            let mut out = Vec::new();
            let mut rest = &stream.wire[..];
            let step = stream.session.handshake(&mut Context::from_waker(Waker::noop()), &mut rest, &mut out);
            let used = stream.wire.len() - rest.len();
            stream.wire.drain(..used);
            // Also when it failed: there may be an alert.
            stream.socket.write_all(&out)?;
            match step {
                Poll::Ready(Ok(Step::Done)) => return Ok(stream),
                Poll::Ready(Ok(_)) => stream.receive()?,
                Poll::Ready(Err(error)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                Poll::Pending => unreachable!("software never waits"),
            }
        }
    }

    /// Plaintext as it comes; None at the end.
    pub fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut plain = Vec::new();
            let mut rest = &self.wire[..];
            let step = self.session.open(&mut rest, &mut plain);
            let used = self.wire.len() - rest.len();
            self.wire.drain(..used);
            self.write(b"")?;
            match step.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                _ if !plain.is_empty() => return Ok(Some(plain)),
                Step::Closed => return Ok(None),
                _ => self.receive()?,
            }
        }
    }

    /// Seals and sends, after what the session has to say by itself.
    pub fn write(&mut self, mut plain: &[u8]) -> io::Result<()> {
        let mut room = vec![0; RECORD_BYTES_MAX];
        while !plain.is_empty() || self.session.has_output() {
            let written = self.session.seal(&mut plain, &mut room);
            let written = written.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.socket.write_all(&room[..written])?;
        }
        Ok(())
    }

    /// Says that we send no more.
    pub fn close(&mut self) -> io::Result<()> {
        self.session.close_notify();
        self.write(b"")
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        let len = self.socket.read(&mut piece)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.wire.extend_from_slice(&piece[..len]);
        Ok(())
    }
}
