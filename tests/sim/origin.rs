//! The origin of the simulation: serves, or breaks in every way it can, and keeps a ledger of what it did for whom.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use ferrogate_core::net::{Conn, ListenOptions, Listener, Transport};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use crate::draw::{Draw, pattern};
use crate::line::{Broken, Head, Line, SimTransport};

/// What was done, and what was found to be wrong.
#[derive(Debug)]
pub struct Ledger {
    start: Instant,
    /// Requests that were answered whole, on a connection that was in order.
    served: RefCell<HashSet<u64>>,
    pub faults: Cell<usize>,
    pub violations: RefCell<Vec<String>>,
}

impl Ledger {
    pub fn new() -> Self {
        Self { start: Instant::now(), served: RefCell::default(), faults: Cell::new(0), violations: RefCell::default() }
    }

    /// Tells whoever reads the log of a single seed what happens, and when.
    pub fn note(&self, who: &str, id: u64, what: &dyn Debug) {
        tracing::debug!("{:?} {who} {id:x}: {what:?}", self.start.elapsed());
    }

    pub fn is_served(&self, id: u64) -> bool {
        self.served.borrow().contains(&id)
    }

    pub fn violation(&self, what: String) {
        self.violations.borrow_mut().push(what);
    }
}

/// All origin processes: one character, several ports.
pub struct Origin {
    pub ledger: Rc<Ledger>,
    /// Each request meets a fault with this probability.
    pub faulty: f64,
    pub draw: RefCell<Draw>,
    pub tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// What becomes of the connection.
#[derive(PartialEq, Eq)]
enum After {
    Stay,
    Close,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Ends the connection instead of an answer.
    Close,
    Reset,
    /// Takes the request and never answers.
    Stall,
    Garbage,
    /// Half a head, then the end.
    HalfHead,
    /// Half a body, then the end, a reset, silence, or bytes that are no chunk.
    HalfBody(Half),
    /// An answer with garbage behind it.
    Surplus,
    /// Answers before the request's body has come, and closes without reading it.
    Early,
    /// Answers, and closes soon after.
    CloseSoon,
}

#[derive(Clone, Copy, Debug)]
enum Half {
    End,
    Reset,
    Silence,
    NoChunk,
}

/// A request as its target names it.
struct Asked {
    id: u64,
    len: usize,
    echo: bool,
    is_head: bool,
    empty: bool,
}

impl Origin {
    /// Serves on `transport` at `address` until its task is aborted.
    pub async fn listen(self: &Rc<Self>, transport: &SimTransport, address: &str) {
        let address = address.parse().expect("an address");
        let mut listener = transport.listen(&address, &ListenOptions::default()).await.expect("a free port");
        let origin = Rc::clone(self);
        let task = spawn_local(async move {
            loop {
                let conn = listener.accept().await.expect("a stack accepts");
                let task = spawn_local(Rc::clone(&origin).serve(Line::new(conn, PATIENCE)));
                origin.tasks.borrow_mut().push(task);
            }
        });
        self.tasks.borrow_mut().push(task);
    }

    async fn serve(self: Rc<Self>, mut line: Line) {
        // Surplus bytes were sent: whatever is asked behind them may be answered with 502.
        let mut poisoned = false;
        loop {
            match line.head().await {
                Ok(Some(head)) if self.answer(&mut line, &head, &mut poisoned).await == After::Stay => {}
                Err(Broken::Malformed(what)) => return self.ledger.violation(format!("the origin got {what:?}")),
                _ => return,
            }
        }
    }

    async fn answer(&self, line: &mut Line, head: &Head, poisoned: &mut bool) -> After {
        let Some(asked) = Asked::of(head) else {
            self.ledger.violation(format!("the origin got the request {:?}", head.start));
            return After::Close;
        };
        let (mut draw, fault) = {
            let mut draw = self.draw.borrow_mut();
            let fault = draw.chance(self.faulty).then(|| draw_fault(&mut draw));
            (draw.fork(), fault)
        };
        self.ledger.note("origin", asked.id, &(&head.start, fault));
        if draw.chance(0.2) {
            sleep(draw.millis(1..=800)).await;
        }
        if fault.is_some() {
            self.ledger.faults.set(self.ledger.faults.get() + 1);
        }
        if !matches!(fault, Some(Fault::Early | Fault::Reset | Fault::Close)) {
            if head.get("expect").is_some() || draw.chance(0.05) {
                line.push(draw.one_of(&[
                    b"HTTP/1.1 100 Continue\r\n\r\n".as_slice(),
                    b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n",
                ]));
            }
            if asked.echo && fault.is_none() && draw.chance(0.3) {
                return self.echo_at_once(line, head, &asked, *poisoned).await;
            }
            if !self.take_body(line, head, &asked).await {
                return After::Close;
            }
        }
        match fault {
            None => {}
            Some(Fault::CloseSoon) => {
                self.whole_answer(line, &asked, &mut draw, *poisoned).await;
                sleep(draw.millis(0..=300)).await;
                return After::Close;
            }
            Some(Fault::Surplus) => {
                *poisoned = true;
                self.whole_answer(line, &asked, &mut draw, true).await;
                line.push(&pattern(draw.next(), 40));
                line.flushed().await;
                return After::Stay;
            }
            Some(fault) => {
                break_off(fault, line, &asked, &mut draw).await;
                return After::Close;
            }
        }
        self.whole_answer(line, &asked, &mut draw, *poisoned).await
    }

    /// Reads the request's body and looks whether it is the one. False: it broke off.
    async fn take_body(&self, line: &mut Line, head: &Head, asked: &Asked) -> bool {
        let mut got = Vec::new();
        let taken = match head.body() {
            Ok(Some(mut body)) => body.rest(line, &mut got).await,
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        self.check_body(&got, asked, &taken);
        taken.is_ok()
    }

    fn check_body(&self, got: &[u8], asked: &Asked, taken: &Result<(), Broken>) {
        let wanted = if asked.echo { pattern(asked.id, asked.len) } else { Vec::new() };
        let right = match taken {
            Ok(()) => *got == wanted,
            Err(Broken::Malformed(_)) => false,
            Err(_) => wanted.starts_with(got),
        };
        if !right {
            let (id, len, lens) = (asked.id, asked.len, got.len());
            self.ledger.violation(format!("the origin got {lens} of {len} bytes of request {id:x}: {taken:?}"));
        }
    }

    /// Answers with the request's body while it is still coming in.
    async fn echo_at_once(&self, line: &mut Line, head: &Head, asked: &Asked, poisoned: bool) -> After {
        let Ok(Some(mut body)) = head.body() else { return After::Close };
        line.push(format!("HTTP/1.1 200 OK\r\nx-id: {:x}\r\ntransfer-encoding: chunked\r\n\r\n", asked.id).as_bytes());
        let mut got = Vec::new();
        let taken = loop {
            match body.piece(line).await {
                Ok(Some(piece)) => {
                    push_chunk(line, &piece);
                    got.extend(piece);
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        self.check_body(&got, asked, &taken);
        if taken.is_err() {
            return After::Close;
        }
        line.push(b"0\r\n\r\n");
        line.flushed().await;
        self.note_served(asked, poisoned);
        After::Stay
    }

    async fn whole_answer(&self, line: &mut Line, asked: &Asked, draw: &mut Draw, poisoned: bool) -> After {
        let body = asked.body();
        // Behind a body that ends with the connection nothing can be surplus.
        let framing = draw.between(0..=if poisoned { 8 } else { 9 });
        let fields = match framing {
            _ if asked.empty => "HTTP/1.1 204 No Content".to_owned(),
            0..=4 => format!("HTTP/1.1 200 OK\r\ncontent-length: {}", asked.len),
            5..=8 => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked".to_owned(),
            _ => "HTTP/1.1 200 OK\r\nconnection: close".to_owned(),
        };
        line.push(format!("{fields}\r\nx-id: {:x}\r\n\r\n", asked.id).as_bytes());
        let chunked = (5..=8).contains(&framing) && !asked.empty;
        let mut rest = &body[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(draw.between(1..=30_000).min(rest.len()));
            rest = behind;
            if chunked {
                push_chunk(line, piece)
            } else {
                line.push(piece)
            }
            if draw.chance(0.2) {
                line.flushed().await;
                sleep(draw.millis(0..=100)).await;
            }
        }
        if chunked && !asked.is_head {
            line.push(draw.one_of(&[b"0\r\n\r\n".as_slice(), b"0\r\nx-sum: 1\r\n\r\n"]));
        }
        line.flushed().await;
        self.note_served(asked, poisoned);
        if framing == 9 && !asked.empty { After::Close } else { After::Stay }
    }

    fn note_served(&self, asked: &Asked, poisoned: bool) {
        self.ledger.note("origin", asked.id, &"served");
        if !poisoned {
            self.ledger.served.borrow_mut().insert(asked.id);
        }
    }
}

impl Asked {
    fn of(head: &Head) -> Option<Self> {
        let mut words = head.start.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let mut parts = target.strip_prefix('/')?.split('/');
        let (what, len, id) = (parts.next()?, parts.next()?, parts.next()?);
        let (len, id) = (len.parse().ok()?, u64::from_str_radix(id, 16).ok()?);
        let right = match method {
            "GET" => what == "bytes" || what == "none",
            "HEAD" => what == "bytes",
            "POST" => what == "echo",
            _ => false,
        };
        right.then_some(Self { id, len, echo: what == "echo", is_head: method == "HEAD", empty: what == "none" })
    }

    fn body(&self) -> Vec<u8> {
        if self.is_head || self.empty { Vec::new() } else { pattern(self.id, self.len) }
    }
}

/// Answers badly; the connection ends with it.
async fn break_off(fault: Fault, line: &mut Line, asked: &Asked, draw: &mut Draw) {
    match fault {
        Fault::Close | Fault::CloseSoon | Fault::Surplus => {}
        Fault::Reset => line.conn.abort(),
        Fault::Stall => {
            line.until_end().await;
        }
        Fault::Garbage => {
            line.push(&pattern(draw.next(), draw.between(1..=5000)));
            line.flushed().await;
        }
        Fault::HalfHead => {
            line.push(format!("HTTP/1.1 200 OK\r\nx-id: {:x}\r\ncontent-le", asked.id).as_bytes());
            line.flushed().await;
        }
        Fault::HalfBody(_) if asked.is_head || asked.empty => {}
        Fault::HalfBody(half) => half_body(half, line, asked, draw).await,
        Fault::Early => {
            line.push(b"HTTP/1.1 503 Service Unavailable\r\nx-early: 1\r\ncontent-length: 5\r\n\r\nearly");
            line.flushed().await;
        }
    }
}

async fn half_body(half: Half, line: &mut Line, asked: &Asked, draw: &mut Draw) {
    let body = pattern(asked.id, asked.len);
    let part = &body[..body.len() / 2];
    let chunked = matches!(half, Half::NoChunk) || draw.chance(0.5);
    let framing = if chunked {
        "transfer-encoding: chunked".to_owned()
    } else {
        // One more than there are: an empty body can be cut short too.
        format!("content-length: {}", body.len() + 1)
    };
    line.push(format!("HTTP/1.1 200 OK\r\nx-id: {:x}\r\n{framing}\r\n\r\n", asked.id).as_bytes());
    match (chunked, part) {
        (_, []) => {}
        (true, part) => push_chunk(line, part),
        (false, part) => line.push(part),
    }
    if matches!(half, Half::NoChunk) {
        line.push(b"5x\r\nhello\r\n0\r\n\r\n");
    }
    line.flushed().await;
    sleep(draw.millis(0..=200)).await;
    match half {
        Half::End => {}
        Half::Reset => line.conn.abort(),
        Half::Silence | Half::NoChunk => {
            line.until_end().await;
        }
    }
}

fn draw_fault(draw: &mut Draw) -> Fault {
    let half = draw.one_of(&[Half::End, Half::Reset, Half::Silence, Half::NoChunk]);
    draw.one_of(&[
        Fault::Close,
        Fault::Reset,
        Fault::Stall,
        Fault::Garbage,
        Fault::HalfHead,
        Fault::HalfBody(half),
        Fault::HalfBody(half),
        Fault::Surplus,
        Fault::Early,
        Fault::CloseSoon,
    ])
}

fn push_chunk(line: &mut Line, piece: &[u8]) {
    line.push(format!("{:x}\r\n", piece.len()).as_bytes());
    line.push(piece);
    line.push(b"\r\n");
}

/// An origin waits for as long as it takes: it is the gateway that has to give up.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
