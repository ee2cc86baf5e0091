//! The states of a stream (RFC 9113, 5.1), without the reserved ones: nobody pushes here.
//!
//! ```text
//!                      +------+
//!                      | idle |
//!                      +------+
//!                         | send or receive HEADERS
//!                         v
//!     receive END_STREAM +------+ send END_STREAM
//!            +-----------| open |-----------+
//!            v           +------+           v
//!     +-------------+       |        +------------+
//!     | half-closed |       |        | half-closed|
//!     |  (remote)   |       |        |  (local)   |
//!     +-------------+       |        +------------+
//!            |              |               |
//!            | send         | RST_STREAM    | receive
//!            | END_STREAM   | either way    | END_STREAM
//!            |              v               |
//!            |          +--------+          |
//!            +--------->| closed |<---------+
//!                       +--------+
//! ```
//!
//! **Invariant:** a state is replaced by what [`State::on`] says and by nothing else.

use crate::codec::http2::{ErrorCode, Fault};

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Open,
    /// We have sent END_STREAM.
    HalfClosedLocal,
    /// The peer has sent END_STREAM.
    HalfClosedRemote,
    Closed(Cause),
}

/// Why a stream is closed: what may still come on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Both sides have sent END_STREAM.
    Ended,
    /// The peer has reset it.
    PeerReset,
    /// We have reset it; the peer may not know yet.
    OurReset,
}

/// What happens on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// HEADERS or DATA that is not the last on the stream, HEADERS being that of a message or an interim one.
    RecvHeaders,
    RecvHeadersEnd,
    RecvData,
    RecvDataEnd,
    RecvReset,
    RecvWindow,
    SendHeaders,
    SendHeadersEnd,
    SendData,
    SendDataEnd,
    SendReset,
}

/// Why an event does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The peer may have sent it before it knew: to be ignored.
    Ignore,
    /// The peer breaks the protocol: the stream is to be reset.
    Stream(ErrorCode),
    /// The peer breaks the protocol: the connection is lost.
    Connection(ErrorCode),
    /// We may not send this: the stream has gone meanwhile.
    Gone,
}

impl State {
    /// The state after `event`.
    ///
    /// # Errors
    /// What is to be done when it does not fit.
    pub(super) fn on(self, event: Event) -> Result<Self, Misfit> {
        match self {
            Self::Idle => idle(event),
            Self::Open => open(event),
            Self::HalfClosedLocal => half_closed_local(event),
            Self::HalfClosedRemote => half_closed_remote(event),
            Self::Closed(cause) => closed(cause, event),
        }
    }

    /// Whether the peer has something to send yet.
    pub(super) fn is_receiving(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosedLocal)
    }

    /// Whether we have something to send yet.
    pub(super) fn is_sending(self) -> bool {
        matches!(self, Self::Open | Self::HalfClosedRemote)
    }
}

impl Misfit {
    /// The fault, if it is the peer's and has to be said.
    pub(super) fn fault(self, stream: u32) -> Option<Fault> {
        match self {
            Self::Stream(code) => Some(Fault::stream(stream, code)),
            Self::Connection(code) => Some(Fault::connection(code)),
            Self::Ignore | Self::Gone => None,
        }
    }
}

fn idle(event: Event) -> Result<State, Misfit> {
    match event {
        Event::RecvHeaders | Event::SendHeaders => Ok(State::Open),
        Event::RecvHeadersEnd => Ok(State::HalfClosedRemote),
        Event::SendHeadersEnd => Ok(State::HalfClosedLocal),
        Event::RecvData | Event::RecvDataEnd | Event::RecvReset | Event::RecvWindow => {
            Err(Misfit::Connection(ErrorCode::ProtocolError))
        }
        Event::SendData | Event::SendDataEnd | Event::SendReset => Err(Misfit::Gone),
    }
}

fn open(event: Event) -> Result<State, Misfit> {
    Ok(match event {
        Event::RecvHeaders | Event::RecvData | Event::RecvWindow | Event::SendHeaders | Event::SendData => State::Open,
        Event::RecvHeadersEnd | Event::RecvDataEnd => State::HalfClosedRemote,
        Event::SendHeadersEnd | Event::SendDataEnd => State::HalfClosedLocal,
        Event::RecvReset => State::Closed(Cause::PeerReset),
        Event::SendReset => State::Closed(Cause::OurReset),
    })
}

fn half_closed_local(event: Event) -> Result<State, Misfit> {
    match event {
        Event::RecvHeaders | Event::RecvData | Event::RecvWindow => Ok(State::HalfClosedLocal),
        Event::RecvHeadersEnd | Event::RecvDataEnd => Ok(State::Closed(Cause::Ended)),
        Event::RecvReset => Ok(State::Closed(Cause::PeerReset)),
        Event::SendReset => Ok(State::Closed(Cause::OurReset)),
        Event::SendHeaders | Event::SendHeadersEnd | Event::SendData | Event::SendDataEnd => Err(Misfit::Gone),
    }
}

fn half_closed_remote(event: Event) -> Result<State, Misfit> {
    match event {
        Event::RecvHeaders | Event::RecvHeadersEnd | Event::RecvData | Event::RecvDataEnd => {
            Err(Misfit::Stream(ErrorCode::StreamClosed))
        }
        Event::RecvWindow | Event::SendHeaders | Event::SendData => Ok(State::HalfClosedRemote),
        Event::SendHeadersEnd | Event::SendDataEnd => Ok(State::Closed(Cause::Ended)),
        Event::RecvReset => Ok(State::Closed(Cause::PeerReset)),
        Event::SendReset => Ok(State::Closed(Cause::OurReset)),
    }
}

fn closed(cause: Cause, event: Event) -> Result<State, Misfit> {
    match (event, cause) {
        // RFC 9113, 5.1: these may have been on their way.
        (Event::RecvReset | Event::RecvWindow, _) => Ok(State::Closed(cause)),
        (Event::RecvHeaders | Event::RecvHeadersEnd | Event::RecvData | Event::RecvDataEnd, Cause::OurReset) => {
            Err(Misfit::Ignore)
        }
        (Event::RecvData | Event::RecvDataEnd, Cause::PeerReset) => Err(Misfit::Stream(ErrorCode::StreamClosed)),
        (Event::RecvHeaders | Event::RecvHeadersEnd | Event::RecvData | Event::RecvDataEnd, _) => {
            Err(Misfit::Connection(ErrorCode::StreamClosed))
        }
        (Event::SendHeaders | Event::SendHeadersEnd | Event::SendData | Event::SendDataEnd | Event::SendReset, _) => {
            Err(Misfit::Gone)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 7] = [
        State::Idle,
        State::Open,
        State::HalfClosedLocal,
        State::HalfClosedRemote,
        State::Closed(Cause::Ended),
        State::Closed(Cause::PeerReset),
        State::Closed(Cause::OurReset),
    ];

    const EVENTS: [Event; 11] = [
        Event::RecvHeaders,
        Event::RecvHeadersEnd,
        Event::RecvData,
        Event::RecvDataEnd,
        Event::RecvReset,
        Event::RecvWindow,
        Event::SendHeaders,
        Event::SendHeadersEnd,
        Event::SendData,
        Event::SendDataEnd,
        Event::SendReset,
    ];

    /// Every state with every event, as RFC 9113, 5.1, has them.
    #[test]
    fn every_state_with_every_event() {
        let (mut table, mut names) = (String::new(), Vec::new());
        for state in STATES {
            names.push(short(Ok(state)));
            let cells: Vec<_> = EVENTS.iter().map(|event| short(state.on(*event))).collect();
            table += &format!("{:7} {}\n", short(Ok(state)), cells.join(" ").trim_end());
        }
        // One column an event, in the order of EVENTS: RH RHe RD RDe RR RW | SH SHe SD SDe SR
        let expected = "\
idle    open    remote  !PROTO  !PROTO  !PROTO  !PROTO  open    local   gone    gone    gone
open    open    remote  open    remote  peer    open    open    local   open    local   ours
local   local   ended   local   ended   peer    local   gone    gone    gone    gone    ours
remote  ~CLOSED ~CLOSED ~CLOSED ~CLOSED peer    remote  remote  ended   remote  ended   ours
ended   !CLOSED !CLOSED !CLOSED !CLOSED ended   ended   gone    gone    gone    gone    gone
peer    !CLOSED !CLOSED ~CLOSED ~CLOSED peer    peer    gone    gone    gone    gone    gone
ours    ignore  ignore  ignore  ignore  ours    ours    gone    gone    gone    gone    gone
";
        let squeezed: String = table.lines().map(|l| l.trim_end().to_owned() + "\n").collect();
        assert_eq!(squeezed, expected);
    }

    fn short(result: Result<State, Misfit>) -> String {
        let text = match result {
            Ok(State::Idle) => "idle",
            Ok(State::Open) => "open",
            Ok(State::HalfClosedLocal) => "local",
            Ok(State::HalfClosedRemote) => "remote",
            Ok(State::Closed(Cause::Ended)) => "ended",
            Ok(State::Closed(Cause::PeerReset)) => "peer",
            Ok(State::Closed(Cause::OurReset)) => "ours",
            Err(Misfit::Ignore) => "ignore",
            Err(Misfit::Gone) => "gone",
            Err(Misfit::Stream(ErrorCode::StreamClosed)) => "~CLOSED",
            Err(Misfit::Connection(ErrorCode::StreamClosed)) => "!CLOSED",
            Err(Misfit::Connection(ErrorCode::ProtocolError)) => "!PROTO",
            Err(other) => unreachable!("{other:?}"),
        };
        format!("{text:7}")
    }
}
