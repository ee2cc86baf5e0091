//! The client's side of one HTTP/2 connection (RFC 9113): requests that are under way together, and what the protocol asks for beside them.
//!
//! What a request costs here is taken from the core that measures, so only what a load needs is looked at: where a response ends, and
//! whether its status is 200.
//!
//! **Invariant:** without I/O; a request allocates nothing; never more streams than the server allows.

use ferrogate_core::codec::Codec;
use ferrogate_core::codec::http2::{
    Frame, FrameCodec, FrameHead, Kind, PREFACE, STREAM_ID_MAX, Settings, flags, hpack, put_ping, put_settings_ack,
    put_window_update,
};

use super::args::LoadArgs;
use super::multiplexed::{Done, Flow, Multiplexed};
use crate::wire::clock::Nanos;
use crate::wire::head::Malformed;

/// One connection's state.
pub(crate) struct Session {
    blocks: Blocks,
    flow: Flow,
    under_way: Vec<Stream>,
    streams_max: usize,
    server: Settings,
    next_stream: u32,
    /// Bytes of bodies for which the server has no new window yet.
    unreturned_bytes: u32,
    /// The server takes no new streams.
    is_ending: bool,
}

/// A request under way.
struct Stream {
    id: u32,
    intended: Nanos,
    /// Whether the status is 200, once it is known.
    is_good: Option<bool>,
}

/// The header blocks of requests. All ask for the same.
#[derive(Clone)]
struct Blocks {
    /// The next block to be sent.
    next: Box<[u8]>,
    /// The one after it: the server's table then knows the authority.
    indexed: Option<Box<[u8]>>,
    /// One that needs no table.
    literal: Box<[u8]>,
}

impl Multiplexed for Session {
    /// A new connection: the preface lies ready to be sent.
    fn new(args: &LoadArgs) -> Self {
        let streams_max = args.streams as usize;
        let mut flow = Flow::default();
        flow.out.reserve(OUT_BYTES);
        flow.out.extend_from_slice(PREFACE);
        let settings = Settings { push: false, window_bytes: WINDOW_BYTES, ..Settings::default() };
        settings.put(&mut flow.out);
        put_window_update(0, WINDOW_BYTES - Settings::default().window_bytes, &mut flow.out);
        Self {
            blocks: Blocks::new(args),
            flow,
            under_way: Vec::with_capacity(streams_max),
            streams_max,
            server: Settings::default(),
            next_stream: 1,
            unreturned_bytes: 0,
            is_ending: false,
        }
    }

    fn room(&self) -> usize {
        if self.is_ending { 0 } else { self.streams_max.saturating_sub(self.under_way.len()) }
    }

    fn under_way(&self) -> usize {
        self.under_way.len()
    }

    fn is_over(&self) -> bool {
        self.is_ending && self.under_way.is_empty()
    }

    fn begin(&mut self, intended: Nanos) {
        let block = &self.blocks.next;
        FrameHead::put(
            Kind::Headers,
            flags::END_STREAM | flags::END_HEADERS,
            self.next_stream,
            block.len(),
            &mut self.flow.out,
        );
        self.flow.out.extend_from_slice(block);
        if let Some(indexed) = self.blocks.indexed.take() {
            self.blocks.next = indexed;
        }
        self.under_way.push(Stream { id: self.next_stream, intended, is_good: None });
        self.next_stream += 2;
        self.is_ending |= self.next_stream > STREAM_ID_MAX;
    }

    fn flow(&self) -> &Flow {
        &self.flow
    }

    fn flow_mut(&mut self) -> &mut Flow {
        &mut self.flow
    }

    fn take(&mut self, bytes: &[u8], done: &mut impl FnMut(Done)) -> Result<usize, Malformed> {
        let mut codec = FrameCodec { frame_bytes_max: Settings::default().frame_bytes_max as usize };
        let mut used = 0;
        while let Some((frame, length)) = codec.decode(&bytes[used..]).map_err(|_| Malformed)? {
            self.frame(frame, done)?;
            used += length;
        }
        Ok(used)
    }
}

impl Session {
    fn frame(&mut self, frame: Frame<'_>, done: &mut impl FnMut(Done)) -> Result<(), Malformed> {
        match frame {
            Frame::Headers { stream, fragment, end_stream, .. } => self.head(stream, fragment, end_stream, done),
            Frame::Data { stream, flow_bytes, end_stream, .. } => {
                self.return_window(flow_bytes);
                if end_stream { self.ended(stream, done) } else { Ok(()) }
            }
            Frame::Reset { stream, .. } => {
                if let Some(under_way) = self.under_way.iter_mut().find(|s| s.id == stream) {
                    under_way.is_good = Some(false);
                }
                self.ended(stream, done)
            }
            Frame::Settings { entries } => self.settings(entries),
            Frame::Ping { ack: false, data } => {
                put_ping(true, data, &mut self.flow.out);
                Ok(())
            }
            Frame::GoAway { last_stream, .. } => {
                self.is_ending = true;
                self.drop_beyond(last_stream, done);
                Ok(())
            }
            Frame::PushPromise { .. } => Err(Malformed),
            // The rest of a head says nothing that is looked at; windows are for bodies, and requests have none.
            Frame::Continuation { .. }
            | Frame::SettingsAck
            | Frame::Ping { .. }
            | Frame::Priority { .. }
            | Frame::WindowUpdate { .. }
            | Frame::Unknown { .. } => Ok(()),
        }
    }

    fn head(&mut self, id: u32, block: &[u8], is_last: bool, done: &mut impl FnMut(Done)) -> Result<(), Malformed> {
        let Some(stream) = self.under_way.iter_mut().find(|s| s.id == id) else { return Err(Malformed) };
        // What comes last after a status is a trailer; what comes between is an interim response, and this the final one.
        if stream.is_good.is_none() || !is_last {
            stream.is_good = Some(is_status_200(block));
        }
        if is_last { self.ended(id, done) } else { Ok(()) }
    }

    /// The server has sent all of a response.
    fn ended(&mut self, id: u32, done: &mut impl FnMut(Done)) -> Result<(), Malformed> {
        let at = self.under_way.iter().position(|s| s.id == id).ok_or(Malformed)?;
        let Stream { intended, is_good, .. } = self.under_way.swap_remove(at);
        done(Done { intended, is_good: is_good.ok_or(Malformed)? });
        Ok(())
    }

    /// What the server will not look at (RFC 9113, 6.8).
    fn drop_beyond(&mut self, last: u32, done: &mut impl FnMut(Done)) {
        self.under_way.retain(|s| {
            let stays = s.id <= last;
            if !stays {
                done(Done { intended: s.intended, is_good: false });
            }
            stays
        });
    }

    fn settings(&mut self, entries: &[u8]) -> Result<(), Malformed> {
        let before = self.server;
        self.server.apply(entries).map_err(|_| Malformed)?;
        self.streams_max = self.streams_max.min(self.server.streams_max as usize);
        if self.server.table_bytes_max < before.table_bytes_max {
            self.blocks.forget_the_table();
        }
        put_settings_ack(&mut self.flow.out);
        Ok(())
    }

    /// Lets the server send as much again, now and then.
    fn return_window(&mut self, bytes: u32) {
        self.unreturned_bytes += bytes;
        if self.unreturned_bytes >= WINDOW_BYTES / 2 {
            put_window_update(0, self.unreturned_bytes, &mut self.flow.out);
            self.unreturned_bytes = 0;
        }
    }
}

impl Blocks {
    fn new(args: &LoadArgs) -> Self {
        let host =
            args.server_name.clone().unwrap_or_else(|| args.to.first().map_or_else(String::new, ToString::to_string));
        let mut start = Vec::new();
        hpack::put_field(&mut start, b":method", b"GET");
        hpack::put_field(&mut start, b":scheme", if args.tls { b"https" } else { b"http" });
        hpack::put_field(&mut start, b":path", args.path.as_bytes());
        let mut literal = start.clone();
        hpack::put_field(&mut literal, b":authority", host.as_bytes());
        let Some(first) = with_new_entry(&start, host.as_bytes()) else {
            return Self { next: literal.clone().into(), indexed: None, literal: literal.into() };
        };
        start.push(NEWEST_ENTRY);
        Self { next: first.into(), indexed: Some(start.into()), literal: literal.into() }
    }

    /// The server keeps a smaller table: what we say of it from now on is that it is empty (RFC 7541, 4.2).
    fn forget_the_table(&mut self) {
        let mut next = Vec::new();
        hpack::put_table_size(&mut next, 0);
        next.extend_from_slice(&self.literal);
        self.next = next.into();
        self.indexed = Some(self.literal.clone());
    }
}

/// A block that has the server put the authority into its table (RFC 7541, 6.2.1), as browsers do; `None` for a name too long for it.
fn with_new_entry(start: &[u8], authority: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(authority.len()).ok().filter(|length| *length < 127)?;
    Some([start, &[NEW_ENTRY_AUTHORITY, length], authority].concat())
}

/// Servers write status 200 as entry 8 of the static table, before all other fields; a change of the table's size may come before it.
fn is_status_200(block: &[u8]) -> bool {
    let mut rest = block;
    while let [0x20..=0x3e, after @ ..] = rest {
        rest = after;
    }
    rest.first() == Some(&INDEXED_STATUS_200)
}

/// `:status: 200` (RFC 7541, appendix A), indexed.
const INDEXED_STATUS_200: u8 = 0x88;

/// Literal with indexing, name of entry 1.
const NEW_ENTRY_AUTHORITY: u8 = 0x41;

/// Entry 62, indexed: the newest of the dynamic table.
const NEWEST_ENTRY: u8 = 0xbe;

/// What the server may send ahead, in bytes, on each stream and on all: so much that windows never slow a load.
const WINDOW_BYTES: u32 = 1 << 30;

/// Room for requests and answers to pings, in bytes.
const OUT_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use ferrogate_core::codec::http2::{ErrorCode, put_go_away, put_reset};

    use super::*;

    fn session(flags: &str) -> Session {
        Session::new(&LoadArgs::of(&format!("--mode http2 --to 127.0.0.1:80 --server-name a.example {flags}")))
    }

    /// A response with one piece of body.
    fn response(stream: u32, block: &[u8], out: &mut Vec<u8>) {
        FrameHead::put(Kind::Headers, flags::END_HEADERS, stream, block.len(), out);
        out.extend_from_slice(block);
        FrameHead::put(Kind::Data, flags::END_STREAM, stream, 5, out);
        out.extend_from_slice(b"hello");
    }

    fn fed(session: &mut Session, bytes: &[u8]) -> Result<Vec<Done>, Malformed> {
        let mut done = Vec::new();
        session.feed(bytes, |one| done.push(one))?;
        Ok(done)
    }

    /// The header blocks of what is unsent, and of how many frames of other kinds there are.
    fn blocks(session: &mut Session) -> (Vec<Vec<u8>>, usize) {
        let unsent = session.unsent().to_vec();
        session.sent(unsent.len());
        let mut rest = unsent.strip_prefix(&PREFACE[..]).unwrap_or(&unsent);
        let (mut blocks, mut others) = (Vec::new(), 0);
        let mut codec = FrameCodec { frame_bytes_max: 16_384 };
        while let Some((frame, length)) = codec.decode(rest).expect("our own frames") {
            match frame {
                Frame::Headers { fragment, .. } => blocks.push(fragment.to_vec()),
                _ => others += 1,
            }
            rest = &rest[length..];
        }
        (blocks, others)
    }

    #[test]
    fn responses_are_told_apart_in_any_order_and_any_split() {
        let mut wire = Vec::new();
        Settings::default().put(&mut wire);
        response(3, &[0x88], &mut wire);
        response(1, &[0x20, 0x88, 0xc0], &mut wire);
        response(5, &[0x8d], &mut wire);
        let wanted = [(30, true), (10, true), (50, false)].map(|(intended, is_good)| Done { intended, is_good });
        for cut in 0..wire.len() {
            let mut session = session("");
            [10, 30, 50].into_iter().for_each(|at| session.begin(at));
            let mut done = fed(&mut session, &wire[..cut]).expect("well formed");
            done.append(&mut fed(&mut session, &wire[cut..]).expect("well formed"));
            assert_eq!((done.as_slice(), session.under_way()), (&wanted[..], 0), "{cut}");
        }
    }

    #[test]
    fn trailers_and_interim_responses_leave_the_status_as_it_is() {
        let mut session = session("");
        session.begin(1);
        let mut wire = Vec::new();
        for (block, flags) in [(&[0x08, 0x03, b'1', b'0', b'3'][..], flags::END_HEADERS), (&[0x88], flags::END_HEADERS)]
        {
            FrameHead::put(Kind::Headers, flags, 1, block.len(), &mut wire);
            wire.extend_from_slice(block);
        }
        FrameHead::put(Kind::Headers, flags::END_HEADERS | flags::END_STREAM, 1, 1, &mut wire);
        wire.push(0xc0);
        assert_eq!(fed(&mut session, &wire), Ok(vec![Done { intended: 1, is_good: true }]));
    }

    #[test]
    fn the_servers_limits_hold() {
        let mut session = session("--streams 8");
        assert_eq!(session.room(), 8);
        session.begin(1);
        session.begin(2);
        let (sent, others) = blocks(&mut session);
        assert_eq!(others, 2, "SETTINGS and WINDOW_UPDATE");
        assert_eq!(sent[0], b"\x82\x86\x84\x41\x09a.example");
        assert_eq!(sent[1], b"\x82\x86\x84\xbe");
        let mut wire = Vec::new();
        Settings { streams_max: 3, table_bytes_max: 0, ..Settings::default() }.put(&mut wire);
        put_ping(false, [7; 8], &mut wire);
        fed(&mut session, &wire).expect("well formed");
        assert_eq!(session.room(), 1);
        session.begin(3);
        let (sent, others) = blocks(&mut session);
        assert_eq!((others, session.room()), (2, 0), "both are acknowledged");
        assert!(sent[0].starts_with(b"\x20\x82\x86\x84") && sent[0].ends_with(b"a.example"), "{:x?}", sent[0]);
    }

    #[test]
    fn a_goodbye_and_a_reset_end_what_they_name() {
        let mut session = session("");
        (1..=3).for_each(|at| session.begin(at));
        let mut wire = Vec::new();
        put_go_away(3, ErrorCode::NoError, &mut wire);
        put_reset(3, ErrorCode::RefusedStream, &mut wire);
        let lost = |intended| Done { intended, is_good: false };
        assert_eq!(fed(&mut session, &wire), Ok(vec![lost(3), lost(2)]));
        assert!(session.room() == 0 && !session.is_over());
        wire.clear();
        response(1, &[0x88], &mut wire);
        assert_eq!(fed(&mut session, &wire), Ok(vec![Done { intended: 1, is_good: true }]));
        assert!(session.is_over());
    }

    #[test]
    fn what_nobody_asked_for_is_malformed() {
        let mut wire = Vec::new();
        response(1, &[0x88], &mut wire);
        assert_eq!(fed(&mut session(""), &wire), Err(Malformed));
        assert_eq!(fed(&mut session(""), b"HTTP/1.1 400 Bad Request\r\n\r\n"), Err(Malformed));
    }
}
