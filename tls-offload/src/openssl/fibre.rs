//! Stacks of their own for handshakes of rustls, which wants a signature to be there when it has asked for it: while an accelerator computes, the
//! stack is left as it is, and its thread goes on with others.
//!
//! **Invariant:** a stack is entered by the thread that made it only, and left by [`suspend`] only; one that nobody waits for any more runs to its
//! end before it is freed. Outside of a fibre nothing here suspends.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

/// There may be fibres: a binary without OpenSSL has none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fibres(());

impl Fibres {
    pub(super) fn new() -> Self {
        Self(())
    }
}

/// A computation on a stack of its own.
pub(crate) struct Fibre<T: 'static> {
    /// None: it has ended.
    coroutine: Option<Coroutine<Signal, (), T, DefaultStack>>,
    pauses: u32,
}

/// What a suspended computation is told when it goes on.
pub(super) enum Signal {
    /// Look again; and this is to be woken by what is waited for.
    Look(Waker),
    /// Nobody waits for the outcome any more: it must not suspend again.
    Cancel,
}

impl<T> Fibre<T> {
    /// Nothing of `compute` runs yet.
    ///
    /// # Errors
    /// When the system gives no stack: it has no memory, or the process as many mappings as it may (`vm.max_map_count`).
    pub(crate) fn new(_fibres: Fibres, compute: impl FnOnce() -> T + 'static) -> io::Result<Self> {
        let stack = match STACKS.with_borrow_mut(Vec::pop) {
            Some(stack) => stack,
            None => DefaultStack::new(STACK_BYTES)?,
        };
        let coroutine = Coroutine::with_stack(stack, |yielder: &Yielder<Signal, ()>, signal| {
            CURRENT.set(Some(NonNull::from(yielder)));
            SIGNAL.set(Some(signal));
            let _left = Left;
            compute()
        });
        Ok(Self { coroutine: Some(coroutine), pauses: 0 })
    }

    /// Goes on with it. Pending: it waits, and wakes `cx`.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.resume(Signal::Look(cx.waker().clone()))
    }

    /// Times that it paused for an accelerator.
    pub(crate) fn pauses(&self) -> u32 {
        self.pauses
    }

    fn resume(&mut self, signal: Signal) -> Poll<T> {
        let Some(mut coroutine) = self.coroutine.take() else { unreachable!("a fibre is not looked at after its end") };
        let resumed = coroutine.resume(signal);
        self.pauses += PAUSES.take();
        match resumed {
            CoroutineResult::Yield(()) => {
                self.coroutine = Some(coroutine);
                Poll::Pending
            }
            CoroutineResult::Return(result) => {
                let stack = coroutine.into_stack();
                // Not there when the thread ends.
                let _ = STACKS.try_with(|stacks| {
                    let mut stacks = stacks.borrow_mut();
                    if stacks.len() < SPARE_STACKS_MAX {
                        stacks.push(stack);
                    }
                });
                Poll::Ready(result)
            }
        }
    }
}

impl<T> Drop for Fibre<T> {
    fn drop(&mut self) {
        if self.coroutine.as_ref().is_some_and(Coroutine::started) {
            let ended = self.resume(Signal::Cancel).is_ready();
            debug_assert!(ended, "what is cancelled does not suspend again");
        }
    }
}

impl<T> fmt::Debug for Fibre<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fibre").finish_non_exhaustive()
    }
}

/// Forgets the fibre that ran, also where it has panicked.
struct Left;

impl Drop for Left {
    fn drop(&mut self) {
        CURRENT.set(None);
        SIGNAL.set(None);
    }
}

/// The waker of who waits for this fibre. None: this is no fibre, or its outcome is not wanted any more.
pub(super) fn waker() -> Option<Waker> {
    let signal = SIGNAL.take();
    let waker = if let Some(Signal::Look(waker)) = &signal { Some(waker.clone()) } else { None };
    SIGNAL.set(signal);
    waker
}

/// Leaves this fibre until somebody looks at it again. False: it must come to its end, for nobody waits for it any more.
pub(super) fn suspend() -> bool {
    let Some(yielder) = CURRENT.take() else { return false };
    // SAFETY: it lies on the stack of this fibre, below what runs now, and is used by nobody else.
    let signal = unsafe { yielder.as_ref() }.suspend(());
    let looks = matches!(signal, Signal::Look(_));
    CURRENT.set(Some(yielder));
    SIGNAL.set(Some(signal));
    looks
}

/// An operation of this fibre has ended, for which it paused so often.
pub(super) fn note_pauses(count: u32) {
    PAUSES.set(PAUSES.get() + count);
}

thread_local! {
    /// Told and not taken yet.
    static PAUSES: Cell<u32> = const { Cell::new(0) };
    /// Of the fibre that runs on this thread.
    static CURRENT: Cell<Option<NonNull<Yielder<Signal, ()>>>> = const { Cell::new(None) };
    static SIGNAL: Cell<Option<Signal>> = const { Cell::new(None) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// Of one stack, below which lies a page that nobody may touch: a module of a token or an engine may compute on it. What a handshake does not
/// touch is no memory.
const STACK_BYTES: usize = 1024 * 1024;
/// Kept for the next handshakes of this thread.
const SPARE_STACKS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fibres_wait_side_by_side() {
        let fibre = |name: &'static str| {
            Fibre::new(Fibres::new(), move || {
                let mut looks = 0;
                while looks < 3 && suspend() {
                    looks += 1;
                    assert!(waker().is_some());
                }
                (name, looks)
            })
            .unwrap()
        };
        let cx = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (fibre("first"), fibre("second"));
        for _ in 0..3 {
            assert!(first.poll(&cx).is_pending() && second.poll(&cx).is_pending());
        }
        assert_eq!(second.poll(&cx), Poll::Ready(("second", 3)));
        assert_eq!(first.poll(&cx), Poll::Ready(("first", 3)));
        assert_eq!(STACKS.with_borrow(Vec::len), 2);
        assert!(waker().is_none() && !suspend(), "this is no fibre");
    }

    #[test]
    fn a_panic_is_the_fibres_own() {
        let mut fibre = Fibre::new(Fibres::new(), || panic!("asked for")).unwrap();
        let cx = Context::from_waker(Waker::noop());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fibre.poll(&cx).is_ready()));
        assert!(caught.is_err());
        assert!(waker().is_none() && !suspend(), "nothing is left of it");
    }

    #[test]
    fn what_nobody_waits_for_comes_to_its_end() {
        struct Noted<'a>(&'a Cell<bool>);
        impl Drop for Noted<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let ended: &'static Cell<bool> = Box::leak(Box::default());
        let mut fibre = Fibre::new(Fibres::new(), move || {
            let _noted = Noted(ended);
            while suspend() {}
            assert!(waker().is_none());
        })
        .unwrap();
        assert!(fibre.poll(&Context::from_waker(Waker::noop())).is_pending());
        drop(fibre);
        assert!(ended.get());
    }
}
