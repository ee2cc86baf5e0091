//! The kernel's TCP as a peer, in the network namespace of a test.

use std::fs::File;
use std::thread;

use nix::sched::{CloneFlags, setns};
use test_support::Veth;

/// Runs `f` on a thread inside the namespace. A socket stays where it was opened.
pub fn inside<R: Send + 'static>(veth: &Veth, f: impl FnOnce() -> R + Send + 'static) -> R {
    let namespace = File::open(format!("/run/netns/{}", veth.namespace)).expect("the namespace is there");
    let thread = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
        f()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
