//! Waiting for conditions.

use std::time::Duration;

/// Asks `condition` until it holds.
///
/// # Panics
/// When it does not within [`PATIENCE`]; `what` is named.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    // Counted in pauses, not by a clock: a machine that stalls gets its full number of looks.
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if condition() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("in vain after {PATIENCE:?}: {what}");
}

/// How long a test waits for anything before it fails. Long, because a loaded machine is no defect.
pub const PATIENCE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(5);
