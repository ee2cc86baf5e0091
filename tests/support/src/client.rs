//! A client that sends exactly what the test says.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};

use crate::wait::PATIENCE;
use crate::wire::{Head, Length, Wire};

/// A connection to the gateway.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
}

/// A final response, and what came before it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Its head.
    pub head: Head,
    /// Its body, decoded.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, String)>,
    /// Interim (1xx) responses before it.
    pub interim: Vec<Head>,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens there.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap_or_else(|e| panic!("{address}: {e}"));
        Self::over(Wire::tcp(stream))
    }

    /// Connects, where nobody may listen.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect_timeout(&address, PATIENCE).map(|stream| Self::over(Wire::tcp(stream)))
    }

    /// Over a connection that is there already.
    #[must_use]
    pub fn over(wire: Wire) -> Self {
        Self { wire }
    }

    /// Sends `GET target` and reads the answer.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "", b"")
    }

    /// Sends a request, with a Content-Length where there is a body, and reads the answer. `fields` are whole lines.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&mut self, method: &str, target: &str, fields: &str, body: &[u8]) -> Answer {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: test.example\r\n{length}{fields}\r\n");
        self.send(&[head.as_bytes(), body].concat()).expect("the request can be sent");
        self.answer_to(method)
    }

    /// Reads the answer to a request with this method.
    ///
    /// # Panics
    /// When there is none, or it is malformed.
    pub fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer_to(method).unwrap_or_else(|e| panic!("no answer to {method}: {e}"))
    }

    /// As [`answer_to`](Self::answer_to), for answers that may break off.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when the answer breaks off or does not come.
    pub fn try_answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let mut body = Vec::new();
        let mut answer = self.answer_with(method, |piece| body.extend_from_slice(piece))?;
        answer.body = body;
        Ok(answer)
    }

    /// Reads an answer whose body is shown, not kept.
    ///
    /// # Errors
    /// As [`try_answer_to`](Self::try_answer_to).
    pub fn answer_with(&mut self, method: &str, show: impl FnMut(&[u8])) -> io::Result<Answer> {
        let mut answer = self.answer_head()?;
        let without_body = method == "HEAD"
            || matches!(answer.status, 204 | 304 | 101)
            || (method == "CONNECT" && answer.status == 200);
        if !without_body {
            let length = answer.head.length().unwrap_or(Length::UntilClose);
            answer.trailers = self.wire.body(length, show)?;
        }
        Ok(answer)
    }

    /// Reads up to the end of the final head.
    ///
    /// # Errors
    /// As [`try_answer_to`](Self::try_answer_to).
    pub fn answer_head(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let head = self.wire.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            assert!(head.start.starts_with("HTTP/1.1 "), "{:?}", head.start);
            answer.status = head.second().parse().unwrap_or_else(|_| panic!("{:?}", head.start));
            if (100..200).contains(&answer.status) && answer.status != 101 {
                answer.interim.push(head);
            } else {
                answer.head = head;
                return Ok(answer);
            }
        }
    }
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl From<Client> for Wire {
    fn from(client: Client) -> Self {
        client.wire
    }
}
