//! What ends with a client's connection, and what it ends with.
//!
//! **Invariant:** what is kept is dropped when the connection and the last of its exchanges are over, or when it is over itself; of what is
//! not, no more is kept than may be.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::task::{Context, Waker};

/// What a downstream connection and connections to hosts have to do with each other where they end together.
#[derive(Default)]
pub struct Bonds {
    kept: RefCell<Vec<Box<dyn Bond>>>,
    cut: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

/// Something that ends with a client's connection.
pub trait Bond {
    /// Whether what it stands for has gone already.
    fn is_over(&self) -> bool;
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

    /// Keeps something for as long as the connection lasts; says whether there is room for it among so many.
    pub(super) fn keep(&self, bond: Box<dyn Bond>, bonds_max: usize) -> bool {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= bonds_max {
            kept.retain(|bond| !bond.is_over());
        }
        let has_room = kept.len() < bonds_max;
        if has_room {
            kept.push(bond);
        }
        has_room
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    struct Held(Rc<Cell<bool>>);

    impl Bond for Held {
        fn is_over(&self) -> bool {
            self.0.get()
        }
    }

    #[test]
    fn what_is_over_makes_room() {
        let (bonds, over) = (Bonds::default(), Rc::new(Cell::new(false)));
        let bond = || Box::new(Held(Rc::clone(&over)));
        let kept: Vec<_> = (0..4).map(|_| bonds.keep(bond(), 3)).collect();
        assert_eq!(kept, [true, true, true, false]);
        over.set(true);
        assert!(bonds.keep(bond(), 3));
        assert_eq!((bonds.kept.borrow().len(), Rc::strong_count(&over)), (1, 2), "the others have gone");
    }
}
