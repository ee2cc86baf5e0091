//! Questions to running lcores: asked from the control thread, answered between two turns.
//!
//! **Invariant:** an lcore does a bounded part of an answer in a turn, its inbox is bounded, and an answer that nobody waits for is given up.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferrogate_core::control::admin::{Answer, Inquiries, Question as Asked};
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::wish::{capture_wish, flow_wish};
use crate::poller::Clock;
use crate::stack::{FlowFilter, FlowRow, Found, SharedStack, View};
use crate::trace::{Live, Tap};

/// What an lcore is asked.
#[derive(Debug)]
pub(crate) enum Question {
    /// Its flows.
    Flows(FlowFilter, oneshot::Sender<Found>),
    /// To let this see its frames.
    Tap(Tap),
    /// To do as Linux does, in the stack of this place.
    Follow(usize, Arc<View>),
}

/// Where lcores take their questions from.
pub(crate) type Inbox = mpsc::Receiver<Question>;

/// Asks the lcores of a plane.
pub(crate) struct Desk {
    lcores: Vec<mpsc::Sender<Question>>,
    /// The devices of the ports.
    ports: Vec<String>,
    /// Captures that run.
    captures: Arc<AtomicUsize>,
}

impl Desk {
    /// For so many lcores, with the inbox of each.
    pub(crate) fn new(lcores: usize, ports: Vec<String>) -> (Self, Vec<Inbox>) {
        let (lcores, inboxes) = (0..lcores).map(|_| mpsc::channel(QUESTIONS_MAX)).unzip();
        (Self { lcores, ports, captures: Arc::default() }, inboxes)
    }

    /// Tells all lcores what Linux says of the twin of a stack. False: one has too many questions already, and is to be told again.
    pub(crate) fn follow(&self, stack: usize, view: &Arc<View>) -> bool {
        let tell = |lcore: &mpsc::Sender<Question>| lcore.try_send(Question::Follow(stack, Arc::clone(view)));
        // One that has ended has no use for it.
        self.lcores.iter().map(tell).all(|told| !matches!(told, Err(TrySendError::Full(_))))
    }

    fn flows(&self, asked: &Asked) -> Pin<Box<dyn Future<Output = Answer>>> {
        let filter = match flow_wish(asked) {
            Ok(filter) => filter,
            Err(why) => return refused(400, why),
        };
        let lcores = self.lcores.clone();
        Box::pin(async move {
            match timeout(ANSWER_TIMEOUT, all_flows(&lcores, &filter)).await {
                Ok(Some(value)) => Answer::Json(value),
                Ok(None) => Answer::Refused(503, "an lcore has ended, or has too many questions already".to_owned()),
                Err(_) => {
                    Answer::Refused(504, "an lcore did not answer: is it in one long turn? The log says so".to_owned())
                }
            }
        })
    }

    fn capture(&self, asked: &Asked) -> Pin<Box<dyn Future<Output = Answer>>> {
        if !asked.may_see_payload {
            let why = "frames hold what clients send: put the admin API on a unix socket (admin.address.pipe), or set control.capture: true";
            return refused(403, why.to_owned());
        }
        let (filter, limits) = match capture_wish(asked) {
            Ok(wish) => wish,
            Err(why) => return refused(400, why),
        };
        let Some((live, taps)) = Live::begin(self.ports.clone(), self.lcores.len(), &filter, limits, &self.captures)
        else {
            return refused(503, "two captures run already".to_owned());
        };
        let lcores = self.lcores.clone();
        Box::pin(async move {
            for (lcore, tap) in lcores.iter().zip(taps) {
                if lcore.try_send(Question::Tap(tap)).is_err() {
                    return Answer::Refused(503, "an lcore has ended, or has too many questions already".to_owned());
                }
            }
            Answer::Stream("application/x-pcapng", Box::new(live))
        })
    }
}

impl Inquiries for Desk {
    fn ask(&self, path: &str, question: Asked) -> Pin<Box<dyn Future<Output = Answer>>> {
        if path.ends_with("/capture") { self.capture(&question) } else { self.flows(&question) }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("lcores", &self.lcores.len()).finish_non_exhaustive()
    }
}

/// Answers the questions of one lcore, as long as somebody may ask.
pub(crate) async fn serve(mut inbox: Inbox, stacks: Rc<[SharedStack]>, clock: Clock) {
    while let Some(question) = inbox.recv().await {
        match question {
            Question::Tap(tap) => add_tap(&tap, &stacks, clock),
            Question::Follow(stack, view) => {
                if let Some(stack) = stacks.get(stack) {
                    stack.borrow_mut().follow(&view);
                }
            }
            Question::Flows(filter, answer) => {
                if let Some(found) = find(&stacks, &filter, &answer).await {
                    // Whoever asked may have left.
                    let _ = answer.send(found);
                }
            }
        }
    }
}

/// Lets a tap see the frames of every port of an lcore.
pub(crate) fn add_tap(tap: &Tap, stacks: &[SharedStack], clock: Clock) {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
    for (port, stack) in stacks.iter().enumerate() {
        stack.borrow_mut().add_tap(tap.at(port, clock.now(), unix));
    }
}

/// A part in each turn. None: nobody waits any more.
async fn find(stacks: &[SharedStack], filter: &FlowFilter, answer: &oneshot::Sender<Found>) -> Option<Found> {
    let mut found = Found::default();
    for stack in stacks {
        let mut from = Some(0);
        while let Some(at) = from {
            from = stack.borrow_mut().look(at, filter, &mut found);
            yield_now().await;
            if answer.is_closed() {
                return None;
            }
        }
    }
    Some(found)
}

/// Of one lcore after the other, until there are as many rows as are wanted. None: one can't be asked.
async fn all_flows(lcores: &[mpsc::Sender<Question>], filter: &FlowFilter) -> Option<Value> {
    let (mut rows, mut matched, mut open) = (Vec::new(), 0, 0);
    for (lcore, questions) in lcores.iter().enumerate() {
        let (answer, found) = oneshot::channel();
        let filter = FlowFilter { rows_max: filter.rows_max.saturating_sub(rows.len()), ..filter.clone() };
        questions.try_send(Question::Flows(filter, answer)).ok()?;
        let found = found.await.ok()?;
        (matched, open) = (matched + found.matched, open + found.open);
        rows.extend(found.rows.iter().map(|row| to_json(lcore, row)));
    }
    Some(json!({ "open": open, "matched": matched, "flows": rows }))
}

fn to_json(lcore: usize, row: &FlowRow) -> Value {
    let seconds = |d: smoltcp::time::Duration| Duration::from_micros(d.total_micros()).as_secs_f64();
    json!({
        "lcore": lcore,
        "peer": row.peer.to_string(),
        "local": row.local.to_string(),
        "state": row.state,
        "opened_by": if row.is_ours { "us" } else { "peer" },
        "age_seconds": seconds(row.age),
        "idle_seconds": seconds(row.idle),
        "rx_bytes": row.rx_bytes,
        "tx_bytes": row.tx_bytes,
        "rx_queued_bytes": row.rx_queued,
        "tx_queued_bytes": row.tx_queued,
    })
}

fn refused(status: u16, why: String) -> Pin<Box<dyn Future<Output = Answer>>> {
    Box::pin(std::future::ready(Answer::Refused(status, why)))
}

/// Questions that wait for an lcore, at most.
const QUESTIONS_MAX: usize = 8;
/// How long the lcores may take together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
