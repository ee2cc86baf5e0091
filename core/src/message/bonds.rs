//! What ends with a client's connection, and what it ends with.
//!
//! **Invariant:** what is kept is dropped when the connection and the last of its exchanges are over, never before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::task::{Context, Waker};

/// What a downstream connection and connections to hosts have to do with each other where they end together.
#[derive(Default)]
pub struct Bonds {
    kept: RefCell<Vec<Box<dyn Any>>>,
    cut: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Bonds {
    /// A connection to a host has ended: that of the client ends as well.
    pub fn cut(&self) {
        self.cut.set(true);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Whether one has.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Keeps something for as long as the connection lasts.
    pub(super) fn keep(&self, kept: Box<dyn Any>) {
        self.kept.borrow_mut().push(kept);
    }

    /// Has the client's connection woken then.
    pub fn watch(&self, cx: &Context<'_>) {
        *self.task.borrow_mut() = Some(cx.waker().clone());
    }
}

impl fmt::Debug for Bonds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bonds").field("kept", &self.kept.borrow().len()).field("cut", &self.cut).finish_non_exhaustive()
    }
}
