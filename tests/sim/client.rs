//! A client of the simulation: a random plan of requests on one connection, and a strict look at each answer.

use std::iter;
use std::rc::Rc;
use std::time::Duration;

use ferrogate_core::net::{Conn, Transport};
use tokio::time::{sleep, timeout};

use crate::draw::{Draw, pattern};
use crate::line::{Body, Broken, Head, Line, SimTransport};
use crate::origin::Ledger;

/// How the requests of a client ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub asked: usize,
    /// Answered by the origin, whole and right.
    pub done: usize,
    /// Answered with an error, whole.
    pub refused: usize,
    /// Not wanted any more: the client had left.
    pub left: usize,
    /// Not answered, or visibly broken off.
    pub broken: usize,
}

/// What a client may hold against the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The wire is good enough that no timeout can be its fault, and nobody drains.
    pub steady: bool,
    /// Steady, and the origin has no fault: everything is answered.
    pub faultless: bool,
    /// A reset can't get lost.
    pub lossless: bool,
}

/// What a client is going to do.
pub struct Plan {
    start: Duration,
    requests: Vec<Ask>,
    /// Requests that it has under way at once.
    window: usize,
    pace: Option<(usize, Duration)>,
    leave: Leave,
}

struct Ask {
    id: u64,
    kind: Kind,
    len: usize,
    /// A field so long that the head takes several segments.
    pad: usize,
    /// HTTP/1.0, or `Connection: close`, which is the last request then.
    old: bool,
    close: bool,
    expects: bool,
    /// For the origin that comes with the gateway: it knows no ids, and has no faults.
    builtin: bool,
    think: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Head,
    /// The answer is 204.
    None,
    Echo,
    EchoChunked,
    /// No request at all.
    Garbage,
}

#[derive(Clone, Copy)]
enum Leave {
    /// When everything is answered.
    Done,
    /// The same, but our direction ends with the last request.
    HalfClose,
    /// In the middle, with a FIN.
    Drop(Duration),
    /// In the middle, with an RST.
    Abort(Duration),
}

/// A whole answer.
enum Answer {
    /// By the origin.
    Done,
    Refused(u16),
}

impl Plan {
    /// `first_id` and the ones behind it belong to this client.
    pub fn draw(draw: &mut Draw, first_id: u64) -> Self {
        let count = draw.between(1..=8);
        let mut requests: Vec<_> = (0..count as u64).map(|n| Ask::draw(draw, first_id + n)).collect();
        if let Some(last) = requests.iter().position(|r| r.old || r.close || r.kind == Kind::Garbage) {
            requests.truncate(last + 1);
        }
        let soon = draw.millis(0..=3000);
        let leave = match draw.between(0..=11) {
            0 => Leave::Drop(soon),
            1 => Leave::Abort(soon),
            2 | 3 => Leave::HalfClose,
            _ => Leave::Done,
        };
        Self {
            start: draw.millis(0..=500),
            window: draw.one_of(&[1, 1, 2, count]),
            pace: draw.chance(0.1).then(|| (draw.between(500..=5000), draw.millis(1..=50))),
            requests,
            leave,
        }
    }
}

impl Ask {
    fn draw(draw: &mut Draw, id: u64) -> Self {
        let kind = match draw.between(0..=29) {
            0..=11 => Kind::Get,
            12 | 13 => Kind::Head,
            14 | 15 => Kind::None,
            16..=22 => Kind::Echo,
            23..=28 => Kind::EchoChunked,
            _ => Kind::Garbage,
        };
        let len = if kind == Kind::None { 0 } else { draw.body_len() };
        let pad = if draw.chance(0.1) { draw.between(1000..=9000) } else { 0 };
        let old = kind != Kind::EchoChunked && draw.chance(0.03);
        let think = if draw.chance(0.15) { draw.millis(0..=4000) } else { Duration::ZERO };
        let expects = !old && matches!(kind, Kind::Echo | Kind::EchoChunked) && draw.chance(0.1);
        let builtin = matches!(kind, Kind::Echo | Kind::EchoChunked) && draw.chance(0.15);
        Self { id, kind, len, pad, old, close: draw.chance(0.05), expects, builtin, think }
    }

    fn push(&self, line: &mut Line, draw: &mut Draw) {
        if self.kind == Kind::Garbage {
            return line.push(draw.one_of(GARBAGE));
        }
        let (method, what) = match self.kind {
            Kind::Get => ("GET", "bytes"),
            Kind::Head => ("HEAD", "bytes"),
            Kind::None => ("GET", "none"),
            _ => ("POST", "echo"),
        };
        let version = u8::from(!self.old);
        let target = if self.builtin { "/echo".to_owned() } else { format!("/{what}/{}/{:x}", self.len, self.id) };
        let mut head = format!("{method} {target} HTTP/1.{version}\r\nhost: sim\r\n");
        if self.close {
            head += "connection: close\r\n";
        }
        if self.expects {
            head += "expect: 100-continue\r\n";
        }
        if self.pad > 0 {
            head += &format!("x-pad: {}\r\n", "p".repeat(self.pad));
        }
        let body = pattern(self.id, self.len);
        match self.kind {
            Kind::Echo => {
                line.push(format!("{head}content-length: {}\r\n\r\n", self.len).as_bytes());
                line.push(&body);
            }
            Kind::EchoChunked => {
                line.push(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes());
                let mut rest = &body[..];
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(draw.between(1..=20_000).min(rest.len()));
                    rest = behind;
                    line.push(format!("{:x};a=b\r\n", piece.len()).as_bytes());
                    line.push(piece);
                    line.push(b"\r\n");
                }
                line.push(b"0\r\n\r\n");
            }
            _ => line.push(format!("{head}\r\n").as_bytes()),
        }
    }

    fn expected(&self) -> Vec<u8> {
        if matches!(self.kind, Kind::Head | Kind::None) { Vec::new() } else { pattern(self.id, self.len) }
    }
}

/// One client on its way through its plan.
pub struct Client {
    pub ledger: Rc<Ledger>,
    pub rules: Rules,
    pub draw: Draw,
}

impl Client {
    /// Opens a connection and carries the plan out.
    pub async fn run(mut self, transport: SimTransport, plan: Plan) -> Tally {
        sleep(plan.start).await;
        let mut tally = Tally { asked: plan.requests.len(), ..Tally::default() };
        let gateway = "10.0.0.1:80".parse().expect("an address");
        match transport.connect(&gateway).await {
            Ok(conn) => {
                let mut line = Line::new(conn, PATIENCE);
                line.pace = plan.pace;
                let leaves = match plan.leave {
                    Leave::Done | Leave::HalfClose => NEVER,
                    Leave::Drop(at) | Leave::Abort(at) => at,
                };
                let left = timeout(leaves, self.converse(&mut line, &plan, &mut tally)).await.is_err();
                if left {
                    tally.left = tally.asked - tally.done - tally.refused;
                    if matches!(plan.leave, Leave::Abort(_)) {
                        line.conn.abort();
                    }
                }
            }
            Err(e) if self.rules.steady => self.ledger.violation(format!("a client can't connect: {e}")),
            Err(_) => {}
        }
        tally.broken = tally.asked - tally.done - tally.refused - tally.left;
        tally
    }

    async fn converse(&mut self, line: &mut Line, plan: &Plan, tally: &mut Tally) {
        let mut pushed = 0;
        for (n, ask) in plan.requests.iter().enumerate() {
            sleep(ask.think).await;
            while pushed < plan.requests.len().min(n + plan.window) {
                plan.requests[pushed].push(line, &mut self.draw);
                pushed += 1;
            }
            line.half_close = matches!(plan.leave, Leave::HalfClose) && pushed == plan.requests.len();
            let (answer, closes) = match self.answer(line, ask).await {
                Ok(answer) => answer,
                Err(broken) => return self.judge_break(ask, &plan.requests[n + 1..pushed], &broken),
            };
            match answer {
                Answer::Done => tally.done += 1,
                Answer::Refused(status) => {
                    tally.refused += 1;
                    self.judge_refusal(ask, status);
                }
            }
            if closes {
                return self.expect_end(line, ask).await;
            }
        }
        if line.has_rest() {
            self.ledger.violation("there are bytes behind the last answer".to_owned());
        }
        if line.half_close
            && let Some(last) = plan.requests.last()
        {
            self.expect_end(line, last).await;
        }
    }

    /// Reads the answer to `ask` and looks whether it is the one. Also says whether the connection ends with it.
    async fn answer(&self, line: &mut Line, ask: &Ask) -> Result<(Answer, bool), Broken> {
        let head = loop {
            let head = line.head().await?.ok_or(Broken::Ended)?;
            if !head.start.starts_with("HTTP/1.1 1") {
                break head;
            }
            if ask.old {
                self.ledger.violation(format!("an interim answer to HTTP/1.0: {head:?}"));
            }
        };
        let status = head.start.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok());
        let status = status.ok_or_else(|| Broken::Malformed(head.start.clone()))?;
        let mut body = match head.body()? {
            _ if ask.kind == Kind::Head || status == 204 => Body::Exact(0),
            Some(body) => body,
            None => Body::UntilEnd,
        };
        let closes = body == Body::UntilEnd
            || head.get("connection") == Some("close")
            || (ask.old && head.get("connection") != Some("keep-alive"));
        if body == Body::UntilEnd && !ask.old {
            self.ledger.violation(format!("an HTTP/1.1 client got a body without length: {head:?}"));
        }
        let mut got = Vec::new();
        let read = body.rest(line, &mut got).await;
        self.ledger.note("client", ask.id, &(status, got.len(), &read));
        self.check(ask, status, &head, &got, &read);
        read?;
        Ok((if matches!(status, 200 | 204) { Answer::Done } else { Answer::Refused(status) }, closes))
    }

    /// Whole or broken off: what has come must be the answer to this request, or an error that the gateway may answer.
    fn check(&self, ask: &Ask, status: u16, head: &Head, got: &[u8], read: &Result<(), Broken>) {
        let own = format!("{:x}", ask.id);
        let right = match status {
            200 | 204 => {
                let wanted = ask.expected();
                let whole = if read.is_ok() { got == wanted } else { wanted.starts_with(got) };
                let empty = ask.kind == Kind::None;
                let named = head.get("x-id") == (!ask.builtin).then_some(own.as_str());
                named && whole && empty == (status == 204) && ask.kind != Kind::Garbage
            }
            503 if head.get("x-early").is_some() => b"early".starts_with(got),
            502..=504 => head.get("x-id").is_none() && (ask.kind == Kind::Head || starts_with_status(got, status)),
            400..=499 | 505 => ask.kind == Kind::Garbage && read.is_ok() && starts_with_status(got, status),
            _ => false,
        };
        if !right {
            let (len, lens) = (ask.len, got.len());
            self.ledger.violation(format!("request {own} of {len} bytes got {head:?} and {lens} bytes, then {read:?}"));
        }
    }

    fn is_served(&self, ask: &Ask) -> bool {
        ask.builtin || self.ledger.is_served(ask.id)
    }

    fn judge_refusal(&self, ask: &Ask, status: u16) {
        if ask.kind == Kind::Garbage || !self.rules.steady {
            return;
        }
        if self.rules.faultless || self.is_served(ask) {
            self.ledger.violation(format!("request {:x} was served, and answered with {status}", ask.id));
        }
    }

    /// `behind` are the requests that were pipelined behind this one. When the answer to one of those breaks off, the reset takes along
    /// what of ours was still on its way.
    fn judge_break(&self, ask: &Ask, behind: &[Ask], broken: &Broken) {
        self.ledger.note("client", ask.id, broken);
        let excused = match broken {
            Broken::Malformed(_) => false,
            Broken::Silent if self.rules.lossless => false,
            _ if !self.rules.steady => true,
            _ => !self.rules.faultless && iter::once(ask).chain(behind).any(|a| !self.is_served(a)),
        };
        if !excused {
            self.ledger.violation(format!("request {:x} got no whole answer: {broken:?}", ask.id));
        }
    }

    /// Behind the last answer comes the end, and nothing else.
    async fn expect_end(&self, line: &mut Line, ask: &Ask) {
        let end = if line.has_rest() { Ok(()) } else { line.more().await };
        match end {
            Err(Broken::Ended | Broken::Reset(_)) => {}
            Err(Broken::Silent) if !self.rules.steady => {}
            end => self.ledger.violation(format!("behind the last answer, to request {:x}: {end:?}", ask.id)),
        }
    }
}

fn starts_with_status(got: &[u8], status: u16) -> bool {
    let text = status.to_string();
    got.starts_with(text.as_bytes()) || text.as_bytes().starts_with(got)
}

/// No request, for anybody.
const GARBAGE: &[&[u8]] = &[
    b"GE T / HTTP/1.1\r\nhost: sim\r\n\r\n",
    b"GET /bytes/1/1 HTTP/1.1\r\nhost : sim\r\n\r\n",
    b"GET /bytes/1/1 HTTP/3.0\r\nhost: sim\r\n\r\n",
    b"POST /echo/5/1 HTTP/1.1\r\nhost: sim\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
    b"POST /echo/5/1 HTTP/1.1\r\nhost: sim\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
];

/// Longer than every timeout of the gateway.
const PATIENCE: Duration = Duration::from_secs(120);
const NEVER: Duration = Duration::from_secs(24 * 3600);
