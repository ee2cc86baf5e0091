//! What a handshake needs to begin anew in software when its accelerator has failed it.
//!
//! Until the key has been used nothing that depends on chance has left: the answer is held back while the accelerator computes. So a new SSL is told
//! again what the peer has said, and says again what has left before, a HelloRetryRequest at most, which is the same each time.
//!
//! **Invariant:** the peer sees one handshake; what is kept for it is bounded, and dropped as soon as the key has been used.

use std::sync::Arc;
use std::task::Context;

use super::accelerator::Accelerator;
use super::breaker::Trial;
use super::job::WakeCell;
use super::server::Server;
use super::turn::may_compute;
use crate::accelerator::Failure;

/// A handshake as it has gone so far, and who can go on with it.
pub(super) struct Rescue {
    software: Arc<Server>,
    accelerator: Arc<Accelerator>,
    /// What the peer has said.
    input: Vec<u8>,
    /// What it was answered.
    sent: Vec<u8>,
    progress: Progress,
}

enum Progress {
    /// The accelerator computes, as long as it goes well.
    Spare,
    /// Software has to, when it is its turn.
    Begun { doubt: Option<Doubt>, turn: Option<Arc<WakeCell>> },
}

/// A fault that may be the accelerator's or the peer's: it is the accelerator's when software does better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) trial: Option<Trial>,
}

impl Rescue {
    pub(super) fn new(software: Arc<Server>, accelerator: Arc<Accelerator>) -> Self {
        Self { software, accelerator, input: Vec::new(), sent: Vec::new(), progress: Progress::Spare }
    }

    /// Keeps a record of the peer's. False: too much to be kept.
    pub(super) fn note_input(&mut self, record: &[u8]) -> bool {
        keep(&mut self.input, record, INPUT_BYTES_MAX)
    }

    /// Keeps what has left. False: more than can be the same again.
    pub(super) fn note_sent(&mut self, bytes: &[u8]) -> bool {
        keep(&mut self.sent, bytes, SENT_BYTES_MAX)
    }

    /// Has software compute from now on; says whose.
    pub(super) fn begin(&mut self, doubt: Option<Doubt>) -> &Arc<Server> {
        self.progress = Progress::Begun { doubt, turn: None };
        self.accelerator.count_software();
        &self.software
    }

    /// Whether software has to compute, and has something to begin with: what the peer has said, or says now. Once it has asked for its turn it
    /// is due until that comes: else a caller that looks again without a record would believe that more is wanted, and turn for ever.
    pub(super) fn is_due(&self, has_record: bool) -> bool {
        match &self.progress {
            Progress::Spare => false,
            Progress::Begun { turn, .. } => has_record || turn.is_some() || !self.input.is_empty(),
        }
    }

    /// Whether software's turn has not come yet. Then the task is woken when it has.
    pub(super) fn must_wait(&mut self, cx: &Context<'_>) -> bool {
        let Progress::Begun { turn, .. } = &mut self.progress else { return false };
        match turn {
            Some(cell) => !cell.take(cx.waker()),
            None => {
                let cell = turn.insert(Arc::default());
                cell.take(cx.waker());
                !may_compute(cell)
            }
        }
    }

    /// What the peer has said, and what it was answered.
    pub(super) fn said(&self) -> (&[u8], &[u8]) {
        (&self.input, &self.sent)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.input.capacity() + self.sent.capacity()
    }

    /// Software did better.
    pub(super) fn settle(&self) {
        if let Progress::Begun { doubt: Some(doubt), .. } = self.progress {
            self.accelerator.failed(Failure::Fault, self.accelerator.now(), doubt.trial);
        }
    }
}

fn keep(kept: &mut Vec<u8>, more: &[u8], bytes_max: usize) -> bool {
    let fits = kept.len() + more.len() <= bytes_max;
    if fits {
        kept.extend_from_slice(more);
    }
    fits
}

/// A client's hello, twice, with room to spare.
const INPUT_BYTES_MAX: usize = 32 * 1024;
/// A HelloRetryRequest has some hundred bytes; an answer with a certificate has more than this.
const SENT_BYTES_MAX: usize = 512;
