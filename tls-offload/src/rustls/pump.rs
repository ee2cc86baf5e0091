//! rustls's unbuffered connection: one record in, whatever it has to say out.
//!
//! Its rules are kept here: a state that was handed out must be used before the next call (a dropped handshake message is lost), and a
//! handshake message that spans records lies in the input until rustls discards it.
//!
//! **Invariant:** rustls is given one whole record at a time, so that between two calls nothing undecoded lies here; what it leaves (the
//! pieces of a handshake message) and what it wants sent are bounded.

use std::cell::RefCell;

use ::rustls::client::UnbufferedClientConnection;
use ::rustls::server::UnbufferedServerConnection;
use ::rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use ::rustls::{CommonState, Error, HandshakeKind};
use bytes::BufMut;

use crate::error::TlsError;
use crate::tickets::allow;

/// rustls's connection, with what goes into it and what comes out.
pub(super) struct Core {
    pub(super) side: Side,
    pub(super) state: State,
    /// The pieces of a handshake message whose rest has not come, with their record headers, as rustls left them.
    pub(super) pieces: Vec<u8>,
    /// What is to be sent, from `queue_start`.
    pub(super) queue: Vec<u8>,
    pub(super) queue_start: usize,
}

impl Core {
    pub(super) fn new(side: Side) -> Self {
        Self { side, state: State::Fresh, pieces: Vec::new(), queue: Vec::new(), queue_start: 0 }
    }

    /// Leaves nothing but the state.
    pub(super) fn take(&mut self) -> Self {
        let state = self.state;
        std::mem::replace(self, Self { state, ..Self::new(Side::Away) })
    }

    pub(super) fn common(&self) -> Option<&CommonState> {
        self.side.common()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_none_or(CommonState::is_handshaking)
    }

    pub(super) fn drain(&mut self, out: &mut impl BufMut) {
        let queued = &self.queue[self.queue_start..];
        let len = queued.len().min(out.remaining_mut());
        out.put_slice(&queued[..len]);
        self.queue_start += len;
        if self.queue_start == self.queue.len() {
            self.queue = Vec::new();
            self.queue_start = 0;
        }
    }

    /// Gives rustls one record, joined to the pieces that wait for it.
    pub(super) fn feed(&mut self, record: &[u8], plain: &mut impl BufMut) -> Result<(), TlsError> {
        if self.is_handshaking() {
            let is_resumed = self.common().and_then(CommonState::handshake_kind) == Some(HandshakeKind::Resumed);
            allow(if is_resumed { 1 } else { usize::MAX });
        }
        if self.pieces.is_empty() {
            let mut scratch = SCRATCH.take();
            scratch.clear();
            scratch.extend_from_slice(record);
            let result = self.pump(Input::Scratch(&mut scratch), plain, Work::Read);
            self.pieces.extend_from_slice(&scratch);
            SCRATCH.set(scratch);
            result?;
        } else {
            self.pieces.extend_from_slice(record);
            self.pump(Input::Pieces, plain, Work::Read)?;
        }
        if self.pieces.len() > PIECES_BYTES_MAX || self.queue.len() > QUEUE_BYTES_MAX {
            self.state = State::Dead;
            return Err(TlsError::from(Error::PeerSentOversizedRecord));
        }
        Ok(())
    }

    /// Lets rustls work on the input until it has nothing more to do with it, and removes what it has used.
    pub(super) fn pump(
        &mut self,
        mut input: Input<'_>,
        plain: &mut impl BufMut,
        mut work: Work<'_, '_>,
    ) -> Result<(), TlsError> {
        let Self { side, state, pieces, queue, .. } = self;
        let bytes = match &mut input {
            Input::Scratch(scratch) => &mut **scratch,
            Input::Pieces => pieces,
        };
        let mut start = 0;
        let turn = loop {
            let (used, turn) = side.turn(&mut bytes[start..], queue, plain, &mut work);
            start += used;
            match turn {
                Ok(Turn::Again) => {}
                turn => break turn,
            }
        };
        bytes.drain(..start.min(bytes.len()));
        match turn {
            Ok(Turn::Again | Turn::Idle) => Ok(()),
            Ok(Turn::Closed) => {
                bytes.clear();
                *state = State::PeerClosed;
                Ok(())
            }
            Err(error) => {
                *state = State::Dead;
                // The alert that rustls made of it. Nothing more is decoded: the output comes first.
                while side.common().is_some_and(CommonState::wants_write)
                    && matches!(side.turn(bytes, queue, plain, &mut Work::Read).1, Ok(Turn::Again))
                {}
                bytes.clear();
                Err(error)
            }
        }
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Fresh,
    Handshake,
    Open,
    PeerClosed,
    Dead,
}

// Not boxed: the connection above is, as a whole.
#[allow(clippy::large_enum_variant)]
pub(super) enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
    /// With a fibre.
    Away,
}

impl Side {
    /// None: it is away.
    fn common(&self) -> Option<&CommonState> {
        match self {
            Self::Server(c) => Some(c),
            Self::Client(c) => Some(c),
            Self::Away => None,
        }
    }

    fn turn(
        &mut self,
        bytes: &mut [u8],
        queue: &mut Vec<u8>,
        plain: &mut impl BufMut,
        work: &mut Work<'_, '_>,
    ) -> (usize, Result<Turn, TlsError>) {
        match self {
            Self::Server(c) => settle(c.process_tls_records(bytes), queue, plain, work),
            Self::Client(c) => settle(c.process_tls_records(bytes), queue, plain, work),
            Self::Away => (0, Err(TlsError::NotReady)),
        }
    }
}

/// The bytes rustls works on.
pub(super) enum Input<'a> {
    Scratch(&'a mut Vec<u8>),
    Pieces,
}

/// What is wanted of rustls besides reading.
pub(super) enum Work<'a, 'r> {
    Read,
    Seal(&'a mut Record<'r>),
    Close,
}

/// One record to be sealed.
pub(super) struct Record<'a> {
    pub(super) plain: &'a [u8],
    pub(super) out: &'a mut [u8],
    pub(super) result: Option<Result<usize, EncryptError>>,
}

enum Turn {
    /// Something was moved; there may be more.
    Again,
    /// Nothing more to do with this input.
    Idle,
    /// The peer said `close_notify`.
    Closed,
}

/// Uses up the state that rustls handed out. Says how many bytes of input are to be removed.
fn settle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    queue: &mut Vec<u8>,
    plain: &mut impl BufMut,
    work: &mut Work<'_, '_>,
) -> (usize, Result<Turn, TlsError>) {
    let UnbufferedStatus { mut discard, state } = status;
    let turn = match state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Turn::Again),
                Some(Err(error)) => break Err(error.into()),
                Some(Ok(data)) if data.payload.len() > plain.remaining_mut() => {
                    break Err(Error::PeerSentOversizedRecord.into());
                }
                Some(Ok(data)) => {
                    plain.put_slice(data.payload);
                    discard += data.discard;
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, queue).map(|()| Turn::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Turn::Again)
        }
        Ok(ConnectionState::WriteTraffic(traffic)) => {
            write(traffic, work);
            Ok(Turn::Idle)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Turn::Closed),
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Turn::Idle),
        // Early data, which the configuration does not allow, or a state that a later rustls adds.
        Ok(_) => Err(TlsError::NotReady),
    };
    (discard, turn)
}

fn write<Data>(mut traffic: WriteTraffic<'_, Data>, work: &mut Work<'_, '_>) {
    match work {
        Work::Read => {}
        Work::Seal(record) => record.result = Some(traffic.encrypt(record.plain, record.out)),
        // Without room the alert stays in rustls's own queue, from where it is taken like every other.
        Work::Close => drop(traffic.queue_close_notify(&mut [])),
    }
}

/// Appends a message to the queue. It must not be dropped: rustls has given it away.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, queue: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = queue.len();
    loop {
        match data.encode(&mut queue[start..]) {
            Ok(written) => {
                queue.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => queue.resize(start + size.required_size, 0),
            Err(EncodeError::AlreadyEncoded) => return Err(TlsError::NotReady),
        }
    }
}

/// A sink without room, for calls that can't yield plaintext.
pub(super) fn no_plain() -> &'static mut [u8] {
    &mut []
}

thread_local! {
    /// Where a record is decrypted in place. One per thread: a session uses it within one call.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Pieces of one handshake message with what is around them; rustls takes messages of up to 64 KiB.
const PIECES_BYTES_MAX: usize = 128 * 1024;
/// Output that nobody takes. A handshake's flight with a long chain has some ten KiB.
const QUEUE_BYTES_MAX: usize = 256 * 1024;
